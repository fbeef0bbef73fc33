//! The queues of a batch scheduler on the members: a gang is admitted by one, or not at all.

use std::collections::BTreeMap;

use kurator_core::names::ClusterName;
use kurator_core::observe::Resources;
use kurator_core::quantity::Quantity;
use serde_json::Value;

use super::gang_fit;
use super::plugins::Filter;
use super::workload::Workload;

/// The queues of every cluster; a [`Filter`] that keeps a gang from clusters whose queue would not admit it.
///
/// ```
/// use kurator_policy::placement::{Filter, Gang, Queues, Workload};
/// use serde_json::json;
///
/// let mut queues = Queues::default();
/// let cluster = "a".parse()?;
/// queues.observe(&cluster, &[json!({
///     "metadata": { "name": "research" }, "spec": { "capability": { "cpu": "10" } },
///     "status": { "state": "Open", "allocated": { "cpu": "4" } },
/// })]);
/// let job = Workload::new("ml/train", "batch.volcano.sh/v1alpha1", "Job")
///     .with_replicas(4)
///     .with_request("cpu", "2".parse()?)
///     .with_gang(Gang::of(4).with_queue("research"));
/// assert_eq!(
///     queues.objection(&job, &cluster).as_deref(),
///     Some("queue research has 6 cpu left and the gang needs 8; 2 more would do"),
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Queues {
    clusters: BTreeMap<ClusterName, BTreeMap<String, Queue>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Queue {
    state: String,
    parent: bool,
    capability: Resources,
    allocated: Resources,
}

impl Queues {
    /// Takes over what a cluster has: all its `Queue` objects (`scheduling.volcano.sh/v1beta1`). A cluster that was
    /// never observed has nothing to object.
    pub fn observe(&mut self, cluster: &ClusterName, objects: &[Value]) {
        let mut queues: BTreeMap<String, Queue> = BTreeMap::new();
        for object in objects {
            let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
            let Some(name) = text("/metadata/name") else {
                continue;
            };
            let queue = queues.entry(name.to_owned()).or_default();
            // Volcano writes the state once it has seen the queue; until then it is open.
            queue.state = text("/status/state").unwrap_or("Open").to_owned();
            queue.capability = amounts(object.pointer("/spec/capability"));
            queue.allocated = amounts(object.pointer("/status/allocated"));
            // Every queue hangs under `root`, which is no queue to run in.
            if let Some(parent) = text("/spec/parent").filter(|parent| *parent != "root") {
                queues.entry(parent.to_owned()).or_default().parent = true;
            }
        }
        self.clusters.insert(cluster.clone(), queues);
    }

    /// Forgets a cluster.
    pub fn forget(&mut self, cluster: &ClusterName) {
        self.clusters.remove(cluster);
    }
}

fn amounts(list: Option<&Value>) -> Resources {
    let entries = list.and_then(Value::as_object).into_iter().flatten();
    entries
        .filter_map(|(name, amount)| {
            let text = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
            Some((name.clone(), text.parse::<Quantity>().ok()?))
        })
        .collect()
}

impl Filter for Queues {
    fn name(&self) -> &str {
        "queue"
    }

    fn objection(&self, workload: &Workload, cluster: &ClusterName) -> Option<String> {
        let gang = workload.gang.as_ref()?;
        let name = gang.queue.as_ref()?;
        let queues = self.clusters.get(cluster)?;
        let Some(queue) = queues.get(name).filter(|queue| !queue.state.is_empty()) else {
            return Some(format!("there is no queue {name}; create it there"));
        };
        if queue.state != "Open" {
            return Some(format!("queue {name} is {}; open it", queue.state));
        }
        if queue.parent {
            return Some(format!("queue {name} has queues below it; name one of those"));
        }
        let needs = gang_fit::needs(gang, workload);
        for (resource, capability) in &queue.capability {
            let taken = queue.allocated.get(resource).copied().unwrap_or_default();
            let left = capability.checked_sub(taken).unwrap_or_default();
            let wanted = Quantity::checked_sum(needs.iter().filter_map(|need| {
                let each = need.asks.request.get(resource)?;
                each.checked_mul(i64::from(need.count))
            }));
            let wanted = wanted.unwrap_or(Quantity::MAX);
            if wanted > left
                && let Some(missing) = wanted.checked_sub(left)
            {
                return Some(format!(
                    "queue {name} has {left} {resource} left and the gang needs {wanted}; {missing} more would do"
                ));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::Gang;
    use serde_json::json;

    #[test]
    fn a_queue_that_would_not_admit_the_gang_says_why() {
        let cluster: ClusterName = "a".parse().unwrap();
        let queue = |name: &str, state: &str, parent: &str| json!({ "metadata": { "name": name }, "spec": { "parent": parent }, "status": { "state": state } });
        let mut queues = Queues::default();
        let all = [
            queue("closed", "Closed", "root"),
            queue("outer", "Open", "root"),
            queue("inner", "Open", "outer"),
        ];
        queues.observe(&cluster, &all);
        let objection = |queue: &str| {
            let job = Workload::new("j", "v1", "Job").with_gang(Gang::of(1).with_queue(queue));
            queues.objection(&job, &cluster)
        };
        assert_eq!(
            objection("gone").as_deref(),
            Some("there is no queue gone; create it there")
        );
        assert_eq!(
            objection("closed").as_deref(),
            Some("queue closed is Closed; open it")
        );
        assert_eq!(
            objection("outer").as_deref(),
            Some("queue outer has queues below it; name one of those")
        );
        assert_eq!(objection("inner"), None);
        let elsewhere = "b".parse().unwrap();
        let job = Workload::new("j", "v1", "Job").with_gang(Gang::of(1).with_queue("gone"));
        assert_eq!(queues.objection(&job, &elsewhere), None);
    }
}
