//! One member cluster.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ModelGrade, NodeView, ResourceSummary, Taint};
use crate::names::ClusterName;

/// What a planner knows of one member cluster.
///
/// Made with [`ClusterView::new`] and the `with_*` methods, or read from a [`Snapshot`](super::Snapshot). `None` and
/// empty mean *nothing known*, which a planner must not read as *nothing there*: see the fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ClusterView {
    /// The name in the fleet.
    pub name: ClusterName,
    /// Labels of the registration of the member.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the registration of the member.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Who runs the cluster, such as `aws`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The region it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The zones its nodes are in.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub zones: BTreeSet<String>,
    /// Taints of the registration of the member.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    /// Version of its API server, such as `v1.37.2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The kinds its API server serves.
    #[serde(default)]
    pub apis: ApiSet,
    /// Whether it answers and says it is healthy.
    #[serde(default)]
    pub health: Health,
    /// Whether it is leaving the fleet: nothing new goes there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleting: bool,
    /// Sums over its nodes; `None` when they were not collected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceSummary>,
    /// Its nodes counted by size, smallest grade first; empty when the cluster is not modelled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelGrade>,
    /// Its nodes one by one; `None` when they were not collected, empty when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Vec<NodeView>>,
}

impl ClusterView {
    /// A cluster of which only the name is known.
    pub fn new(name: ClusterName) -> Self {
        Self {
            name,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            provider: None,
            region: None,
            zones: BTreeSet::new(),
            taints: Vec::new(),
            version: None,
            apis: ApiSet::default(),
            health: Health::default(),
            deleting: false,
            resources: None,
            models: Vec::new(),
            nodes: None,
        }
    }

    /// Adds or replaces a label.
    #[must_use]
    pub fn with_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Adds or replaces an annotation.
    #[must_use]
    pub fn with_annotation(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// Sets the provider.
    #[must_use]
    pub fn with_provider(mut self, provider: impl Into<String>) -> Self {
        self.provider = Some(provider.into());
        self
    }

    /// Sets the region.
    #[must_use]
    pub fn with_region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Adds a zone.
    #[must_use]
    pub fn with_zone(mut self, zone: impl Into<String>) -> Self {
        self.zones.insert(zone.into());
        self
    }

    /// Adds a taint.
    #[must_use]
    pub fn with_taint(mut self, taint: Taint) -> Self {
        self.taints.push(taint);
        self
    }

    /// Sets the version of the API server.
    #[must_use]
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Adds a kind to those it serves, for example `apps/v1` and `Deployment`.
    #[must_use]
    pub fn with_api(mut self, api_version: impl Into<String>, kind: impl Into<String>) -> Self {
        self.apis.insert(api_version, kind);
        self
    }

    /// Sets the kinds it serves.
    #[must_use]
    pub fn with_apis(mut self, apis: ApiSet) -> Self {
        self.apis = apis;
        self
    }

    /// Sets the health.
    #[must_use]
    pub fn with_health(mut self, health: Health) -> Self {
        self.health = health;
        self
    }

    /// Marks the cluster as leaving the fleet.
    #[must_use]
    pub fn with_deleting(mut self) -> Self {
        self.deleting = true;
        self
    }

    /// Sets the sums over its nodes.
    #[must_use]
    pub fn with_resources(mut self, resources: ResourceSummary) -> Self {
        self.resources = Some(resources);
        self
    }

    /// Adds a grade of its resource model.
    #[must_use]
    pub fn with_model(mut self, grade: ModelGrade) -> Self {
        self.models.push(grade);
        self
    }

    /// Adds a node.
    #[must_use]
    pub fn with_node(mut self, node: NodeView) -> Self {
        self.nodes.get_or_insert_default().push(node);
        self
    }
}

/// The kinds an API server serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ApiSet {
    /// Whether discovery of every group succeeded. If not, a kind that is missing here may exist all the same.
    #[serde(default)]
    pub complete: bool,
    /// Kinds by API version, which is `group/version` or, for the core group, `version`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kinds: BTreeMap<String, BTreeSet<String>>,
}

/// Whether a kind is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "callers must decide what to do when it is not known"
)]
pub enum ApiSupport {
    /// It is not: discovery was complete and the kind is not there.
    Absent,
    /// It is.
    Served,
    /// Discovery was not complete, and the kind was not in what it found.
    Unknown,
}

impl ApiSet {
    /// An empty set from a discovery that saw every group.
    pub fn complete() -> Self {
        Self {
            complete: true,
            kinds: BTreeMap::new(),
        }
    }

    /// Adds a kind.
    pub fn insert(&mut self, api_version: impl Into<String>, kind: impl Into<String>) {
        self.kinds
            .entry(api_version.into())
            .or_default()
            .insert(kind.into());
    }

    /// Whether `kind` of `api_version` is served.
    pub fn support(&self, api_version: &str, kind: &str) -> ApiSupport {
        if self
            .kinds
            .get(api_version)
            .is_some_and(|kinds| kinds.contains(kind))
        {
            ApiSupport::Served
        } else if self.complete {
            ApiSupport::Absent
        } else {
            ApiSupport::Unknown
        }
    }
}

/// Whether a cluster can be worked with, why, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Health {
    /// The verdict.
    #[serde(default)]
    pub status: HealthStatus,
    /// CamelCase reason of whoever probed the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When the verdict last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// The verdict of a health probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the three states of a Kubernetes condition"
)]
pub enum HealthStatus {
    /// It answers and says it is healthy.
    Ready,
    /// It answers and says it is not healthy.
    NotReady,
    /// It does not answer, or was never asked.
    #[default]
    Unknown,
}

impl Health {
    /// Healthy.
    pub fn ready() -> Self {
        Self {
            status: HealthStatus::Ready,
            reason: None,
            since: None,
        }
    }

    /// Answering, not healthy.
    pub fn not_ready(reason: impl Into<String>) -> Self {
        Self {
            status: HealthStatus::NotReady,
            reason: Some(reason.into()),
            since: None,
        }
    }

    /// Not answering.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self {
            status: HealthStatus::Unknown,
            reason: Some(reason.into()),
            since: None,
        }
    }

    /// Sets when the verdict last changed.
    #[must_use]
    pub fn since(mut self, since: Timestamp) -> Self {
        self.since = Some(since);
        self
    }

    /// Whether the verdict is [`HealthStatus::Ready`].
    pub fn is_ready(&self) -> bool {
        self.status == HealthStatus::Ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_absent_only_after_complete_discovery() {
        let mut apis = ApiSet::default();
        apis.insert("apps/v1", "Deployment");
        assert_eq!(apis.support("apps/v1", "Deployment"), ApiSupport::Served);
        assert_eq!(apis.support("apps/v1", "DaemonSet"), ApiSupport::Unknown);
        apis.complete = true;
        assert_eq!(apis.support("apps/v1", "DaemonSet"), ApiSupport::Absent);
    }
}
