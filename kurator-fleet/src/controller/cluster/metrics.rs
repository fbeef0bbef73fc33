//! What a host counts and times.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kurator_core::names::ClusterName;

/// Something worth counting. Reasons are the tokens of conditions and Events.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ScalingMetric<'a> {
    /// A drain ended.
    Drained {
        /// How.
        reason: &'a str,
        /// Nodes that were removed.
        removed: u32,
        /// Evictions the server granted.
        evicted: u32,
        /// Evictions the server refused because of a budget.
        refused: u32,
        /// Pods deleted past their budget.
        forced: u32,
        /// How long it took, in this process.
        took: Duration,
    },
    /// A plan was made.
    Planned {
        /// Nodes it removes.
        remove: u32,
        /// How long it took, with the reading of the cluster.
        took: Duration,
    },
    /// Machines were asked for, so that there are that many.
    Provided {
        /// Machines in all.
        count: u32,
    },
    /// A pass over the cluster ended.
    Reconciled {
        /// The reason of its condition `Progressing`, or of the error.
        reason: &'a str,
        /// How long it took.
        took: Duration,
    },
}

/// Takes what is to be counted: a registry of the host, or [`ScalingCounts`].
pub trait ScalingMetrics: fmt::Debug + Send + Sync + 'static {
    /// Takes one. It must return at once and cannot fail.
    fn record(&self, cluster: &ClusterName, metric: &ScalingMetric<'_>);
}

impl<T: ScalingMetrics + ?Sized> ScalingMetrics for Arc<T> {
    fn record(&self, cluster: &ClusterName, metric: &ScalingMetric<'_>) {
        (**self).record(cluster, metric);
    }
}

/// Nobody counts.
impl ScalingMetrics for () {
    fn record(&self, _: &ClusterName, _: &ScalingMetric<'_>) {}
}

/// Sums, by name and labels; clones share them. `Display` is the text that Prometheus scrapes.
///
/// ```
/// use std::time::Duration;
/// use kurator_fleet::controller::cluster::{ScalingCounts, ScalingMetric, ScalingMetrics};
///
/// let counts = ScalingCounts::default();
/// let took = Duration::from_millis(1500);
/// counts.record(&"east".parse()?, &ScalingMetric::Reconciled { reason: "AsWanted", took });
/// let text = counts.to_string();
/// let lines: Vec<&str> = text.lines().collect();
/// assert_eq!(lines, [
///     "# TYPE kurator_cluster_reconcile_seconds_total counter",
///     r#"kurator_cluster_reconcile_seconds_total{cluster="east",reason="AsWanted"} 1.5"#,
///     "# TYPE kurator_cluster_reconciles_total counter",
///     r#"kurator_cluster_reconciles_total{cluster="east",reason="AsWanted"} 1"#,
/// ]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ScalingCounts(Arc<Mutex<BTreeMap<(&'static str, String), f64>>>);

impl ScalingCounts {
    /// The sum of one counter over all its labels, by its name without `kurator_cluster_` and `_total`.
    pub fn sum(&self, name: &str) -> f64 {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_name = counts.iter().filter(|((counter, _), _)| *counter == name);
        of_name.map(|(_, value)| value).sum()
    }

    fn add(&self, name: &'static str, labels: &str, value: f64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((name, labels.to_owned())).or_default() += value;
    }
}

impl ScalingMetrics for ScalingCounts {
    fn record(&self, cluster: &ClusterName, metric: &ScalingMetric<'_>) {
        let here = format!("cluster=\"{cluster}\"");
        let why = |reason: &str| format!("{here},reason=\"{reason}\"");
        match metric {
            ScalingMetric::Drained {
                reason,
                removed,
                evicted,
                refused,
                forced,
                took,
            } => {
                self.add("drains", &why(reason), 1.0);
                self.add("drain_seconds", &why(reason), took.as_secs_f64());
                self.add("nodes_removed", &here, f64::from(*removed));
                self.add(
                    "evictions",
                    &format!("{here},answer=\"Granted\""),
                    f64::from(*evicted),
                );
                self.add(
                    "evictions",
                    &format!("{here},answer=\"Refused\""),
                    f64::from(*refused),
                );
                self.add("pods_forced", &here, f64::from(*forced));
            }
            ScalingMetric::Planned { remove, took } => {
                self.add("plans", &here, 1.0);
                self.add("plan_seconds", &here, took.as_secs_f64());
                self.add("nodes_planned", &here, f64::from(*remove));
            }
            ScalingMetric::Provided { .. } => self.add("machine_requests", &here, 1.0),
            ScalingMetric::Reconciled { reason, took } => {
                self.add("reconciles", &why(reason), 1.0);
                self.add("reconcile_seconds", &why(reason), took.as_secs_f64());
            }
        }
    }
}

impl fmt::Display for ScalingCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last = "";
        for ((name, labels), value) in counts.iter() {
            if *name != last {
                writeln!(f, "# TYPE kurator_cluster_{name}_total counter")?;
                last = name;
            }
            writeln!(f, "kurator_cluster_{name}_total{{{labels}}} {value}")?;
        }
        Ok(())
    }
}
