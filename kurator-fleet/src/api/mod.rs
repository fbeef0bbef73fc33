//! The custom resources `Fleet`, `AttachedCluster` and `Cluster`, as users write them.
//!
//! Everything here is plain data with a schema; [`crds`] are the definitions to install.
//!
//! ```
//! use kurator_fleet::api::{Fleet, MemberKind};
//!
//! let fleet: Fleet = serde_json::from_value(serde_json::json!({
//!     "apiVersion": "fleet.kurator.dev/v1alpha1",
//!     "kind": "Fleet",
//!     "metadata": { "name": "production", "namespace": "default" },
//!     "spec": { "clusters": [{ "name": "cluster-prod", "kind": "AttachedCluster" }] },
//! }))?;
//! assert_eq!(fleet.spec.clusters[0].kind, MemberKind::AttachedCluster);
//! # Ok::<(), serde_json::Error>(())
//! ```

#![expect(
    unreachable_pub,
    reason = "the KubeSchema derive repeats each public struct inside a function"
)]

mod attached_cluster;
mod cluster;
mod fleet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use self::{
    attached_cluster::{
        AttachedCluster, AttachedClusterSpec, AttachedClusterStatus, DetachPolicy, SecretKeyReference,
    },
    cluster::{
        Approval, Cluster, ClusterInfrastructure, ClusterSpec, ClusterStatus, DeadlineAction, DrainProgress,
        DrainSettings, DrainWindow, PodIdentity, PodIdentityStatus, WorkerNodeCount, WorkerNodes,
    },
    fleet::{
        Fleet, FleetMember, FleetMemberStatus, FleetPlugin, FleetSpec, FleetStatus, GrafanaPlugin,
        MemberKind, MetricPlugin, ObjectStoreConfig, ThanosStore,
    },
};

/// The definitions of every custom resource of this crate, in the order of their names.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![AttachedCluster::crd(), Cluster::crd(), Fleet::crd()]
}
