use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Taint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema, core::Duration};
use serde::{Deserialize, Serialize};

use crate::membership::DetachMode;

/// A member cluster that was created elsewhere and is reached through a kubeconfig in a Secret.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "cluster.kurator.dev",
    version = "v1alpha1",
    kind = "AttachedCluster",
    plural = "attachedclusters",
    shortname = "acl",
    category = "kurator",
    namespaced,
    status = "AttachedClusterStatus",
    derive = "PartialEq",
    doc = "AttachedCluster is a member cluster that was created elsewhere and is reached through a kubeconfig in a Secret.",
    printcolumn(name = "Version", type_ = "string", json_path = ".status.kubernetesVersion"),
    printcolumn(name = "Provider", type_ = "string", json_path = ".spec.provider"),
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.region"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(
        name = "Secret",
        type_ = "string",
        json_path = ".spec.kubeconfig.name",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct AttachedClusterSpec {
    /// The Secret, in the same namespace, that holds the kubeconfig.
    pub kubeconfig: SecretKeyReference,
    /// Labels by which policies select the cluster, besides those of the object itself; these win.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Who runs the machines, such as `aws`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub provider: Option<String>,
    /// The provider's region, such as `us-west-2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub region: Option<String>,
    /// The zones the cluster spans.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 63)))]
    pub zones: Vec<String>,
    /// What keeps workloads away from the cluster, or with the effect `NoExecute` makes those leave whose policy fails
    /// over. `timeAdded` may be left out: it counts from when the taint was seen then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(validation = Rule::new("self.all(taint, taint.effect in ['NoSchedule', 'PreferNoSchedule', 'NoExecute'])")
        .message("the effect of a taint is NoSchedule, PreferNoSchedule or NoExecute"))]
    pub taints: Vec<Taint>,
    /// What happens to what was placed on the cluster when this object is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detach: Option<DetachPolicy>,
}

/// How a cluster leaves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DetachPolicy {
    /// `Drain` (the default) takes everything off and waits for that, `Orphan` leaves everything running, `Force`
    /// gives up after the timeout and cleans the cluster when it returns.
    #[serde(default)]
    pub mode: DetachMode,
    /// How long `Force` waits for the cluster to answer, such as `10m`, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
}

/// One entry of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key of the entry.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

impl AttachedCluster {
    /// The labels by which policies select this cluster: those of the object, then those of the spec, which win.
    ///
    /// ```
    /// use kurator_fleet::api::{AttachedCluster, AttachedClusterSpec};
    ///
    /// let mut cluster = AttachedCluster::new("cluster-dr", AttachedClusterSpec::default());
    /// cluster.metadata.labels = Some([("tier".into(), "gold".into()), ("env".into(), "test".into())].into());
    /// cluster.spec.labels = [("env".into(), "prod".into())].into();
    /// assert_eq!(cluster.cluster_labels()["env"], "prod");
    /// assert_eq!(cluster.cluster_labels()["tier"], "gold");
    /// ```
    #[must_use]
    pub fn cluster_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.metadata.labels.clone().unwrap_or_default();
        labels.extend(
            self.spec
                .labels
                .iter()
                .map(|(key, value)| (key.clone(), value.clone())),
        );
        labels
    }
}

/// What is known of an attached cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttachedClusterStatus {
    /// The generation of the spec this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, with a reason and a message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Version of the cluster's API server, such as `v1.37.2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,
    /// Which cluster it is: the UID of its `kube-system` namespace at first contact. Another cluster is refused from
    /// then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_uid: Option<String>,
    /// When the cluster last answered, to the change of health before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_time: Option<Time>,
}
