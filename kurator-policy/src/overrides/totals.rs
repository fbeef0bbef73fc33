use std::fmt;

use kurator_core::names::ClusterName;
use serde::Serialize;
use serde_json::Value;

use super::report::{OverrideReport, PolicyName};

/// The place of the replica count in Deployments, StatefulSets, ReplicaSets and most kinds that have one.
pub const REPLICAS: &str = "/spec/replicas";

/// What a cluster runs if the count is removed: the default of the API server.
const REPLICAS_IF_UNSET: u64 = 1;

/// Overrides that change what the division gave to a cluster, so that the sum is no longer what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
#[must_use]
pub struct BrokenTotals {
    /// The replicas the division gave to all clusters.
    pub planned: u64,
    /// The replicas all clusters are told to run.
    pub total: u64,
    /// The clusters where the two differ, in the order given.
    pub clusters: Vec<ReplicaOverride>,
}

/// A cluster that is told to run another number of replicas than the division gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ReplicaOverride {
    /// The cluster.
    pub cluster: ClusterName,
    /// The policy that says so.
    pub policy: PolicyName,
    /// The replicas the division gave it.
    pub planned: u64,
    /// The replicas it is told to run; nothing if that is no number, which the cluster will refuse.
    pub replicas: Option<u64>,
}

impl BrokenTotals {
    /// Compares the division with what was rendered: for each cluster its planned replicas and the report of
    /// [`render`](super::OverrideSet::render). `path` is where the kind has its count, see [`REPLICAS`].
    ///
    /// Gives nothing where every cluster runs what was planned.
    pub fn find<'a>(
        path: &str,
        rendered: impl IntoIterator<Item = (&'a ClusterName, u64, &'a OverrideReport)>,
    ) -> Option<Self> {
        let mut totals = Self {
            planned: 0,
            total: 0,
            clusters: Vec::new(),
        };
        for (cluster, planned, report) in rendered {
            totals.planned = totals.planned.saturating_add(planned);
            let changed =
                report.changes.iter().rev().find_map(|change| {
                    Some((&change.policy, count(change.new.as_ref(), &change.path, path)?))
                });
            match changed {
                Some((policy, replicas)) if replicas != Some(planned) => {
                    totals.total = totals.total.saturating_add(replicas.unwrap_or(0));
                    totals.clusters.push(ReplicaOverride {
                        cluster: cluster.clone(),
                        policy: policy.clone(),
                        planned,
                        replicas,
                    });
                }
                _ => totals.total = totals.total.saturating_add(planned),
            }
        }
        (!totals.clusters.is_empty()).then_some(totals)
    }
}

/// The count a change leaves behind: nothing if the change is elsewhere, `Some(None)` if it is no count.
fn count(new: Option<&Value>, changed: &str, path: &str) -> Option<Option<u64>> {
    let inner = match path.strip_prefix(changed)? {
        "" => new,
        rest if rest.starts_with('/') => new.and_then(|value| value.pointer(rest)),
        _ => return None,
    };
    Some(match inner {
        None | Some(Value::Null) => Some(REPLICAS_IF_UNSET),
        Some(value) => value.as_u64(),
    })
}

impl fmt::Display for BrokenTotals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, cluster) in self.clusters.iter().enumerate() {
            if place > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{cluster}")?;
        }
        write!(f, ": the total becomes {} of {}", self.total, self.planned)
    }
}

impl fmt::Display for ReplicaOverride {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "override {} sets replicas ", self.policy)?;
        match self.replicas {
            Some(replicas) => write!(f, "{replicas}")?,
            None => f.write_str("to what is no number")?,
        }
        write!(f, " on {}, the plan says {}", self.cluster, self.planned)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::report::FieldChange, *};

    fn report(path: &str, new: Option<Value>) -> OverrideReport {
        OverrideReport {
            changes: vec![FieldChange {
                path: path.to_owned(),
                policy: PolicyName::new(Some("default"), "storefront-dr"),
                rule: 0,
                old: None,
                new,
            }],
            ..OverrideReport::default()
        }
    }

    #[test]
    fn a_pinned_cluster_breaks_the_total() {
        let names: [ClusterName; 2] = ["cluster-prod", "cluster-dr"].map(|name| name.parse().unwrap());
        let dr = report(REPLICAS, Some(json!(1)));
        let rendered = [(&names[0], 18, &OverrideReport::default()), (&names[1], 2, &dr)];
        let broken = BrokenTotals::find(REPLICAS, rendered).unwrap();
        assert_eq!((broken.total, broken.planned), (19, 20));
        assert_eq!(
            broken.to_string(),
            "override default/storefront-dr sets replicas 1 on cluster-dr, the plan says 2: \
             the total becomes 19 of 20"
        );
    }

    #[test]
    fn what_does_not_change_the_count_breaks_nothing() {
        let name: ClusterName = "a".parse().unwrap();
        for (path, new) in [
            (REPLICAS, Some(json!(2))),
            ("/spec/replicasX", Some(json!(9))),
            ("/metadata", None),
        ] {
            assert_eq!(
                BrokenTotals::find(REPLICAS, [(&name, 2, &report(path, new))]),
                None,
                "{path}"
            );
        }
    }

    #[test]
    fn a_count_that_is_removed_or_replaced_with_its_parent_counts_too() {
        let name: ClusterName = "a".parse().unwrap();
        let total = |path: &str, new| {
            BrokenTotals::find(REPLICAS, [(&name, 5, &report(path, new))]).map(|broken| broken.total)
        };
        assert_eq!(total(REPLICAS, None), Some(1));
        assert_eq!(total("/spec", Some(json!({ "replicas": 3 }))), Some(3));
        assert_eq!(total("/spec", Some(json!({ "replicas": "x" }))), Some(0));
        assert_eq!(total("/spec", Some(json!({ "replicas": 5 }))), None);
    }
}
