#![doc = include_str!("../README.md")]
//!
//! # The layers
//! Each layer is a crate of its own that can be used alone; this one re-exports them by feature. Features only add
//! API.
//!
//! | module | feature | crate |
//! |---|---|---|
//! | `core` | always | `kurator-core`: names, quantities, selectors, snapshots, connections, executors |
//! | [`fleet`] | `fleet` (default) | `kurator-fleet`: who is in the fleet, and how members live |
//! | [`policy`] | `policy` (default) | `kurator-policy`: what runs where |
//! | [`backup`] | `backup` (default) | `kurator-backup`: backup, retention and restore of a fleet as one thing |
//! | `mesh` | `mesh` | `kurator-mesh`: nothing yet |
//!
//! `client` adds what talks to API servers, in every enabled layer. Without it there is no async runtime, no HTTP and
//! no TLS in the tree. `mock` adds `mockall` mocks of the traits that a host replaces.
//!
//! # Versions
//! [`kube`](https://docs.rs/kube) 5 with [`k8s-openapi`](https://docs.rs/k8s-openapi) 0.29. Our crates choose neither a
//! Kubernetes version nor a TLS provider: the application does, with one `k8s-openapi` feature (`latest` will do) and,
//! with `client`, a TLS feature of `kube`. Only one rustls provider may be in the tree, or `kube::Client` panics when
//! it is made.

#[cfg(feature = "backup")]
pub use kurator_backup as backup;
pub use kurator_core as core;
#[cfg(feature = "fleet")]
pub use kurator_fleet as fleet;
#[cfg(feature = "mesh")]
pub use kurator_mesh as mesh;
#[cfg(feature = "policy")]
pub use kurator_policy as policy;
