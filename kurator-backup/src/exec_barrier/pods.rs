//! Which containers hooks are for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use crate::driver::BackupHook;

/// A container in which commands run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Place {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) container: String,
    /// Whether hooks that name no container mean it.
    #[serde(default)]
    pub(super) is_first: bool,
    /// Names of the hooks that select its pod.
    pub(super) hooks: BTreeSet<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "container {} of pod {}/{}",
            self.container, self.namespace, self.pod
        )
    }
}

impl Place {
    pub(super) fn key(&self) -> (String, String, String) {
        (self.namespace.clone(), self.pod.clone(), self.container.clone())
    }
}

/// The namespaces whose pods a hook is for; `None` is all of them.
pub(super) fn namespaces(hook: &BackupHook) -> Option<Vec<&str>> {
    let names = &hook.included_namespaces;
    if names.is_empty() || names.iter().any(|name| name == "*") {
        return None;
    }
    Some(names.iter().map(String::as_str).collect())
}

/// Whether a hook would hold a whole cluster still, its system included.
pub(super) fn is_boundless(hook: &BackupHook) -> bool {
    let all_labels = hook.label_selector.as_ref().is_none_or(|selector| {
        selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
            && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
    });
    namespaces(hook).is_none() && all_labels
}

/// A container that a hook names and a pod it selects does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NoSuchContainer {
    pub(super) hook: String,
    pub(super) container: String,
    pub(super) pod: String,
}

/// The running containers that hooks are for, among the pods that each of them selects, sorted.
pub(super) fn places(selected: &[(&BackupHook, Vec<Pod>)]) -> Result<Vec<Place>, NoSuchContainer> {
    let mut found: BTreeMap<(String, String, String), Place> = BTreeMap::new();
    for (hook, pods) in selected {
        for pod in pods.iter().filter(|pod| runs(hook, pod)) {
            let containers: Vec<&str> = pod
                .spec
                .iter()
                .flat_map(|spec| &spec.containers)
                .map(|container| container.name.as_str())
                .collect();
            for command in hook.pre.iter().chain(&hook.post) {
                let first = containers.first().copied();
                let wanted = command.container.as_deref().or(first).unwrap_or_default();
                if !containers.contains(&wanted) {
                    return Err(NoSuchContainer {
                        hook: hook.name.clone(),
                        container: wanted.to_owned(),
                        pod: format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any()),
                    });
                }
                if !is_up(pod, wanted) {
                    continue;
                }
                let place = Place {
                    namespace: pod.namespace().unwrap_or_default(),
                    pod: pod.name_any(),
                    container: wanted.to_owned(),
                    is_first: first == Some(wanted),
                    hooks: BTreeSet::new(),
                };
                let place = found.entry(place.key()).or_insert(place);
                place.hooks.insert(hook.name.clone());
            }
        }
    }
    Ok(found.into_values().collect())
}

fn runs(hook: &BackupHook, pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let namespace = pod.namespace().unwrap_or_default();
    phase == Some("Running")
        && pod.metadata.deletion_timestamp.is_none()
        && !hook.excluded_namespaces.contains(&namespace)
}

/// A container that waits to be started again runs nothing, and nothing can run in it.
fn is_up(pod: &Pod, container: &str) -> bool {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    let status = statuses.and_then(|all| all.iter().find(|status| status.name == container));
    let state = status.and_then(|status| status.state.as_ref());
    state.is_none_or(|state| state.waiting.is_none() && state.terminated.is_none())
}
