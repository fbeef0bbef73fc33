//! How many nodes of which group pending pods need.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde::{Deserialize, Serialize};

use super::{
    ObjectName, PlanError, Refusals,
    choose::hardest_first,
    stage::{Preference, Stage},
    view::View,
};
use crate::scaling::model::{Model, ModelError};

/// Nodes that can be had, all alike.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeGroup {
    /// Its name.
    pub name: String,
    /// A node of it: labels, taints and `status.allocatable` count.
    pub template: Box<Node>,
    /// How many more can be had.
    pub available: u32,
    /// What one costs, in any unit; pods per price decide between groups. At least 1.
    pub price: u32,
}

impl NodeGroup {
    /// A group of nodes like `template` at price 1.
    pub fn new(name: impl Into<String>, template: Node, available: u32) -> Self {
        Self {
            name: name.into(),
            template: Box::new(template),
            available,
            price: 1,
        }
    }

    /// At that price.
    #[must_use]
    pub fn with_price(self, price: u32) -> Self {
        Self { price, ..self }
    }
}

/// How many nodes of which group to add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[must_use]
#[non_exhaustive]
pub struct ScaleUpPlan {
    /// Nodes to add, by name of the group; groups that are not needed are left out.
    pub add: Vec<GroupIncrease>,
    /// Pending pods that fit on nodes the cluster has.
    pub fit_now: Vec<ObjectName>,
    /// Pending pods that fit on no node of any group, or for which the quota leaves none.
    pub unplaced: Vec<Unplaced>,
}

/// Nodes to add to a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct GroupIncrease {
    /// The group.
    pub group: String,
    /// Nodes to add.
    pub nodes: u32,
    /// Pods they are for.
    pub pods: Vec<ObjectName>,
}

/// A pod for which no node can be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Unplaced {
    /// The pod.
    pub pod: ObjectName,
    /// Why each node there is, or would be, cannot take it.
    pub refused: Refusals,
    /// Whether nodes ran out before it was its turn.
    pub quota: bool,
}

impl fmt::Display for ScaleUpPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.add.is_empty() {
            writeln!(f, "No node is needed.")?;
        }
        for group in &self.add {
            writeln!(
                f,
                "Add {} nodes to {} for {} pods.",
                group.nodes,
                group.group,
                group.pods.len()
            )?;
        }
        for unplaced in &self.unplaced {
            let quota = if unplaced.quota {
                " and no more nodes can be had"
            } else {
                ""
            };
            writeln!(
                f,
                "Pod {} fits nowhere: {}{quota}.",
                unplaced.pod, unplaced.refused
            )?;
        }
        Ok(())
    }
}

impl Model {
    /// Plans the nodes that pending pods need, at most `quota` in all.
    ///
    /// Pods that fit on a node the cluster has need none. For the others, the group whose next node takes the most
    /// pods for its price gets one node more, until no pod is left or none can be helped.
    ///
    /// # Errors
    /// [`ScaleUpError`] if a template is not a valid node, or the cluster has more nodes than the quota already.
    pub fn plan_scale_up(
        &self,
        groups: &[NodeGroup],
        quota: Option<u32>,
        now: Timestamp,
    ) -> Result<ScaleUpPlan, ScaleUpError> {
        let have = u32::try_from(self.node_count()).unwrap_or(u32::MAX);
        let mut left = quota.map_or(u32::MAX, |quota| quota.saturating_sub(have));
        if let Some(quota) = quota.filter(|quota| *quota < have) {
            return Err(ScaleUpError::Request(PlanError::AboveQuota {
                desired: i64::from(have),
                quota,
            }));
        }
        let pending = self.pods.iter().filter(|(_, pod)| pod.place.is_none()).count();
        // The nodes that could come, each with its own name, closed until they are taken.
        let mut extended = self.clone();
        let mut spare: Vec<Vec<String>> = Vec::new();
        for group in groups {
            let wanted = (group.available.min(left) as usize).min(pending);
            let mut names = Vec::new();
            for number in 0..wanted {
                let mut node = (*group.template).clone();
                // A slash keeps them apart from real nodes.
                let name = format!("{}/{number}", group.name);
                node.metadata.name = Some(name.clone());
                let labels = node.metadata.labels.get_or_insert_default();
                labels.insert("kubernetes.io/hostname".to_owned(), name.clone());
                extended.upsert_node(&node).map_err(ScaleUpError::Template)?;
                names.push(name);
            }
            names.reverse();
            spare.push(names);
        }
        let view = View::new(&extended, now.as_second());
        let mut stage = Stage::new(&view);
        let hypothetical: Vec<u32> = spare
            .iter()
            .flatten()
            .filter_map(|name| view.rank(name))
            .collect();
        hypothetical.iter().for_each(|rank| stage.remove_node(*rank));

        let mut waiting: Vec<u32> = view.waiting().collect();
        hardest_first(&view, &mut waiting);
        let mut fit_now = Vec::new();
        waiting.retain(|pod| {
            let found = stage.place(*pod, Preference::Spread, None).is_some();
            if found {
                fit_now.push(view.pod_name(*pod));
            }
            !found
        });
        let mut add: Vec<GroupIncrease> = Vec::new();
        while left > 0 && !waiting.is_empty() {
            let mut best: Option<(u128, usize)> = None;
            for (at, group) in groups.iter().enumerate() {
                let Some(rank) = spare[at].last().and_then(|name| view.rank(name)) else {
                    continue;
                };
                let mark = stage.mark();
                stage.return_node(rank);
                let taken = waiting.iter().filter(|pod| stage.place_at(**pod, rank)).count();
                stage.undo_to(mark);
                let value = taken as u128 * 1_000_000 / u128::from(group.price.max(1));
                let better = best.is_none_or(|(most, other)| {
                    value > most || value == most && group.name < groups[other].name
                });
                if value > 0 && better {
                    best = Some((value, at));
                }
            }
            let Some((_, at)) = best else { break };
            let Some(rank) = spare[at].pop().and_then(|name| view.rank(&name)) else {
                break;
            };
            stage.return_node(rank);
            left -= 1;
            let mut pods = Vec::new();
            waiting.retain(|pod| {
                let taken = stage.place_at(*pod, rank);
                if taken {
                    pods.push(view.pod_name(*pod));
                }
                !taken
            });
            match add.iter_mut().find(|increase| increase.group == groups[at].name) {
                Some(increase) => {
                    increase.nodes += 1;
                    increase.pods.append(&mut pods);
                }
                None => add.push(GroupIncrease {
                    group: groups[at].name.clone(),
                    nodes: 1,
                    pods,
                }),
            }
        }
        let ran_out = left == 0 || spare.iter().any(Vec::is_empty);
        let mut unplaced: Vec<Unplaced> = waiting
            .iter()
            .map(|pod| Unplaced {
                pod: view.pod_name(*pod),
                refused: stage.refusals(*pod),
                quota: ran_out,
            })
            .collect();
        unplaced.sort_by(|a, b| a.pod.cmp(&b.pod));
        fit_now.sort_unstable();
        add.iter_mut().for_each(|increase| increase.pods.sort_unstable());
        add.sort_by(|a, b| a.group.cmp(&b.group));
        Ok(ScaleUpPlan {
            add,
            fit_now,
            unplaced,
        })
    }
}

/// Why no scale-up can be planned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScaleUpError {
    /// The request makes no sense for this cluster.
    #[error("the scale-up makes no sense for this cluster")]
    Request(#[source] PlanError),
    /// The template of a group is not a valid node.
    #[error("the template of a node group is not a valid node")]
    Template(#[source] ModelError),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(cpu: &str, pool: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "template", "labels": {"pool": pool}},
            "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "10"}},
        }))
        .unwrap()
    }

    fn model(pods: &[(&str, &str, Option<&str>)]) -> Model {
        let mut items = vec![json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"},
            "status": {"allocatable": {"cpu": "1", "memory": "8Gi", "pods": "10"}},
        })];
        for (name, cpu, pool) in pods {
            let mut pod = json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
                "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]},
                "status": {"phase": "Pending"},
            });
            if let Some(pool) = pool {
                pod["spec"]["nodeSelector"] = json!({"pool": pool});
            }
            items.push(pod);
        }
        Model::from_json(
            json!({"apiVersion": "v1", "kind": "List", "items": items})
                .to_string()
                .as_bytes(),
        )
        .unwrap()
    }

    #[test]
    fn room_that_is_there_is_used_before_nodes_are_added() {
        let model = model(&[("x", "600m", None), ("y", "600m", None), ("z", "600m", None)]);
        let plan = model.plan_scale_up(
            &[NodeGroup::new("small", template("1", "s"), 9)],
            None,
            Timestamp::UNIX_EPOCH,
        );
        let plan = plan.unwrap();
        assert_eq!(plan.fit_now.len(), 1);
        assert_eq!((plan.add[0].group.as_str(), plan.add[0].nodes), ("small", 2));
        assert!(plan.unplaced.is_empty());
    }

    #[test]
    fn the_group_with_more_pods_for_its_price_wins() {
        let model = model(&[
            ("x", "900m", Some("big")),
            ("y", "900m", None),
            ("z", "900m", None),
            ("w", "900m", None),
        ]);
        let groups = [
            NodeGroup::new("big", template("4", "big"), 9).with_price(2),
            NodeGroup::new("small", template("1", "s"), 9).with_price(1),
        ];
        let plan = model.plan_scale_up(&groups, None, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(plan.add.len(), 1);
        assert_eq!(
            (
                plan.add[0].group.as_str(),
                plan.add[0].nodes,
                plan.add[0].pods.len()
            ),
            ("big", 1, 3)
        );
    }

    #[test]
    fn what_no_group_or_the_quota_can_help_is_named() {
        let model = model(&[
            ("huge", "64", None),
            ("x", "900m", None),
            ("y", "900m", None),
            ("z", "900m", None),
        ]);
        let groups = [NodeGroup::new("small", template("1", "s"), 9)];
        let plan = model
            .plan_scale_up(&groups, Some(2), Timestamp::UNIX_EPOCH)
            .unwrap();
        assert_eq!(plan.add[0].nodes, 1);
        let names: Vec<&str> = plan.unplaced.iter().map(|unplaced| &*unplaced.pod.name).collect();
        assert_eq!(names, ["huge", "z"]);
        assert!(plan.unplaced[0].quota);
        let error = model
            .plan_scale_up(&groups, Some(0), Timestamp::UNIX_EPOCH)
            .unwrap_err();
        assert!(matches!(
            error,
            ScaleUpError::Request(PlanError::AboveQuota { desired: 1, quota: 0 })
        ));
    }
}
