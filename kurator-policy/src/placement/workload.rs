//! What is placed, and where it runs today.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelector, Toleration};
use kurator_core::observe::Resources;
use serde::{Deserialize, Serialize};

use super::gang::Gang;

/// Something to be placed: an object, what it consists of, and which policy is for it.
///
/// ```
/// use kurator_policy::placement::Workload;
///
/// let web = Workload::new("default/web", "apps/v1", "Deployment")
///     .with_policy("default/storefront")
///     .with_replicas(20)
///     .with_request("cpu", "500m".parse()?);
/// assert_eq!(web.replicas, Some(20));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Workload {
    /// What the object is called in plans and reports, for example `default/web`; unique among the workloads planned
    /// together.
    pub name: String,
    /// The UID of the object; decides which end of the cluster names ties are served from.
    #[serde(default)]
    pub uid: String,
    /// The API version of the object, which a cluster has to serve.
    pub api_version: String,
    /// The kind of the object, which a cluster has to serve.
    pub kind: String,
    /// The name of the policy that places it.
    #[serde(default)]
    pub policy: String,
    /// How many replicas there are; `None` for what does not run, such as a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// What one replica asks for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub request: Resources,
    /// The labels a node must have to run a replica.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// The node affinity a replica requires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_affinity: Option<NodeSelector>,
    /// The node taints a replica tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Set if the replicas are of use only together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gang: Option<Gang>,
    /// Planned together, the workloads of higher priority choose first.
    #[serde(default)]
    pub priority: i32,
}

impl Workload {
    /// An object without replicas.
    pub fn new(name: impl Into<String>, api_version: impl Into<String>, kind: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            api_version: api_version.into(),
            kind: kind.into(),
            ..Self::default()
        }
    }

    /// Sets the UID.
    #[must_use]
    pub fn with_uid(mut self, uid: impl Into<String>) -> Self {
        self.uid = uid.into();
        self
    }

    /// Sets the policy by name.
    #[must_use]
    pub fn with_policy(mut self, policy: impl Into<String>) -> Self {
        self.policy = policy.into();
        self
    }

    /// Sets the number of replicas.
    #[must_use]
    pub fn with_replicas(mut self, replicas: u32) -> Self {
        self.replicas = Some(replicas);
        self
    }

    /// Sets what one replica asks for of one resource.
    #[must_use]
    pub fn with_request(
        mut self,
        resource: impl Into<String>,
        amount: kurator_core::quantity::Quantity,
    ) -> Self {
        self.request.insert(resource.into(), amount);
        self
    }

    /// Sets a label a node must have.
    #[must_use]
    pub fn with_node_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.node_selector.insert(key.into(), value.into());
        self
    }

    /// Sets the node affinity a replica requires.
    #[must_use]
    pub fn with_node_affinity(mut self, selector: NodeSelector) -> Self {
        self.node_affinity = Some(selector);
        self
    }

    /// Adds a toleration of node taints.
    #[must_use]
    pub fn with_toleration(mut self, toleration: Toleration) -> Self {
        self.tolerations.push(toleration);
        self
    }

    /// Makes the replicas of use only together.
    #[must_use]
    pub fn with_gang(mut self, gang: Gang) -> Self {
        self.gang = Some(gang);
        self
    }

    /// Sets the priority.
    #[must_use]
    pub fn with_priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }
}

/// Where a workload runs today, and what is going on with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Running {
    /// The clusters it is placed in, with its replicas there; 0 for what has none.
    #[serde(default)]
    pub clusters: Vec<(String, u32)>,
    /// The clusters it is being evicted from. It is not placed there again until that is over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evicting: Vec<String>,
    /// The affinity group it was placed by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<String>,
    /// Divide everything anew, beginning with the first affinity group.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh: bool,
}

impl Running {
    /// Runs with these replicas in these clusters.
    pub fn new<S: Into<String>>(clusters: impl IntoIterator<Item = (S, u32)>) -> Self {
        Self {
            clusters: clusters
                .into_iter()
                .map(|(name, replicas)| (name.into(), replicas))
                .collect(),
            ..Self::default()
        }
    }

    /// Adds a cluster it is being evicted from.
    #[must_use]
    pub fn with_evicting(mut self, cluster: impl Into<String>) -> Self {
        self.evicting.push(cluster.into());
        self
    }

    /// Sets the affinity group in use.
    #[must_use]
    pub fn with_affinity(mut self, affinity: impl Into<String>) -> Self {
        self.affinity = Some(affinity.into());
        self
    }

    /// Asks for everything to be divided anew.
    #[must_use]
    pub fn with_fresh(mut self) -> Self {
        self.fresh = true;
        self
    }
}
