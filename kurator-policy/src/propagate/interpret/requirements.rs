use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelector, PodSpec, Toleration};
use kurator_core::observe::{Resources, pod_requests};
use serde_json::Value;

use crate::placement::claimed_devices;

/// What one replica needs of a node.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ReplicaRequirements {
    /// What it requests, device classes included once [resolved](Self::claim_devices).
    pub request: Resources,
    /// The labels its node must have.
    pub node_selector: BTreeMap<String, String>,
    /// The node affinity it requires.
    pub node_affinity: Option<NodeSelector>,
    /// The node taints it tolerates.
    pub tolerations: Vec<Toleration>,
    /// The name of its priority class.
    pub priority_class: Option<String>,
    /// The pod that was read, for what is found out later.
    pod: Value,
}

impl ReplicaRequirements {
    /// Nothing but these requests.
    #[must_use]
    pub fn of_request(request: Resources) -> Self {
        Self {
            request,
            ..Self::default()
        }
    }

    /// Reads a pod spec, such as the one in a template; `None` if it is none, or if its amounts cannot be added up.
    ///
    /// ```
    /// use kurator_policy::propagate::ReplicaRequirements;
    /// use serde_json::json;
    ///
    /// let pod = json!({
    ///     "containers": [{ "name": "app", "resources": { "requests": { "cpu": "250m" } } }],
    ///     "nodeSelector": { "disk": "ssd" },
    /// });
    /// let needs = ReplicaRequirements::of_pod(&pod).ok_or("a pod")?;
    /// assert_eq!(needs.request["cpu"].to_string(), "250m");
    /// assert_eq!(needs.node_selector["disk"], "ssd");
    /// # Ok::<(), &str>(())
    /// ```
    #[must_use]
    pub fn of_pod(pod: &Value) -> Option<Self> {
        let spec: PodSpec = serde_json::from_value(pod.clone()).ok()?;
        Some(Self {
            request: pod_requests(&spec).ok()?,
            node_selector: spec.node_selector.unwrap_or_default(),
            node_affinity: spec.affinity.and_then(|affinity| {
                affinity
                    .node_affinity?
                    .required_during_scheduling_ignored_during_execution
            }),
            tolerations: spec.tolerations.unwrap_or_default(),
            priority_class: spec.priority_class_name,
            pod: pod.clone(),
        })
    }

    /// Adds the devices that the replica claims; `template` finds a `ResourceClaimTemplate` by name.
    pub fn claim_devices<'t>(&mut self, template: impl Fn(&str) -> Option<&'t Value>) {
        self.request.extend(claimed_devices(&self.pod, template));
    }
}
