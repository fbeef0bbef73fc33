//! Overrides: what is different in one cluster.
//!
//! An [`OverridePolicy`](crate::api::OverridePolicy) changes the objects it selects for the clusters it names, after
//! their replicas were divided. Policies are compiled once into an [`OverrideSet`]; [`OverrideSet::render`] then gives
//! the object as one cluster is to have it, with an account of every field that was changed, by whom and from what.
//!
//! ```
//! use kurator_core::observe::ClusterView;
//! use kurator_policy::{api::OverridePolicy, overrides::{BrokenTotals, OverrideSet, REPLICAS}};
//! use serde_json::json;
//!
//! let policy: OverridePolicy = serde_json::from_value(json!({
//!     "metadata": { "name": "storefront-dr", "namespace": "default" },
//!     "spec": {
//!         "resourceSelectors": [{ "apiVersion": "apps/v1", "kind": "Deployment" }],
//!         "overrideRules": [{
//!             "targetClusters": { "clusterNames": ["cluster-dr"] },
//!             "overrides": [{ "path": "/spec/replicas", "value": 1 }],
//!         }],
//!     },
//! }))?;
//! let overrides = OverrideSet::compile([&policy]);
//!
//! // The division gave 2 of 20 replicas to this cluster.
//! let cluster = ClusterView::new("cluster-dr".parse()?);
//! let divided = json!({
//!     "apiVersion": "apps/v1", "kind": "Deployment",
//!     "metadata": { "name": "storefront", "namespace": "default" },
//!     "spec": { "replicas": 2 },
//! });
//! let rendered = overrides.render(&divided, &cluster)?;
//! assert_eq!(rendered.object["spec"]["replicas"], 1);
//! assert_eq!(rendered.report.to_string(), "~ /spec/replicas: 2 -> 1  (default/storefront-dr, rule 0)\n");
//!
//! let broken = BrokenTotals::find(REPLICAS, [(&cluster.name, 2, &rendered.report)]);
//! assert_eq!(
//!     broken.map(|broken| broken.to_string()).as_deref(),
//!     Some("override default/storefront-dr sets replicas 1 on cluster-dr, the plan says 2: the total becomes 1 of 2"),
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Order
//! Policies are applied one after the other, and what is applied later has its way: first those of a lower `priority`,
//! then those whose selector is less precise (a kind, then labels, then a name), then by name. Rules and the entries of
//! a list are applied in the order written; the parts of one rule in the order image, command, args, env, labels,
//! annotations, field, plaintext, `overrides`, merge patch. Where two policies disagree on a field, the report has a
//! [`Conflict`].
//!
//! # What cannot be done
//! All changes of all policies are made, or the object is refused with an [`OverrideError`]. A change whose place is
//! not there is refused, except where an overrider is about something the object does not have (a container, a label),
//! which the report lists under [`OverrideReport::skipped`]. An override never changes `apiVersion`, `kind`, name or
//! namespace.

mod check;
mod compile;
mod containers;
mod draft;
mod error;
mod fault;
mod image;
pub mod karmada;
mod patch;
mod pointer;
mod report;
mod select;
mod set;
mod steps;
mod text;
mod totals;
#[cfg(feature = "yaml")]
mod yaml;

pub use check::check;
pub use error::OverrideError;
pub use fault::Fault;
pub use pointer::PointerFault;
pub use report::{Conflict, FieldChange, OverrideReport, PolicyName, SkipReason, Skipped};
pub use set::{OverrideSet, OverrideSource, Rendered};
pub use totals::{BrokenTotals, REPLICAS, ReplicaOverride};

/// Whose words a policy uses: the same ones do not mean quite the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Dialect {
    Karmada,
    Kurator,
}
