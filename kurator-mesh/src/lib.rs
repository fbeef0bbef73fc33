//! Multi-primary Istio mesh over a fleet: nothing is here yet, and nothing is exported.
