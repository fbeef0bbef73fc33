//! What a host counts and times.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kurator_core::counters::Counters;
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
#[derive(Clone, Debug)]
pub struct ScalingCounts(Counters);

impl Default for ScalingCounts {
    fn default() -> Self {
        Self(Counters::new("kurator_cluster"))
    }
}

impl ScalingCounts {
    /// The sum of one counter over all its labels, by its name without `kurator_cluster_` and `_total`.
    pub fn sum(&self, name: &str) -> f64 {
        self.0.sum(name)
    }
}

impl ScalingMetrics for ScalingCounts {
    fn record(&self, cluster: &ClusterName, metric: &ScalingMetric<'_>) {
        let here = ("cluster", cluster.as_str());
        let add = |name, value| self.0.add(name, &[here], value);
        match metric {
            ScalingMetric::Drained {
                reason,
                removed,
                evicted,
                refused,
                forced,
                took,
            } => {
                let why = [here, ("reason", *reason)];
                self.0.add("drains", &why, 1.0);
                self.0.add("drain_seconds", &why, took.as_secs_f64());
                add("nodes_removed", f64::from(*removed));
                let (granted, refusals) = (f64::from(*evicted), f64::from(*refused));
                self.0.add("evictions", &[here, ("answer", "Granted")], granted);
                self.0.add("evictions", &[here, ("answer", "Refused")], refusals);
                add("pods_forced", f64::from(*forced));
            }
            ScalingMetric::Planned { remove, took } => {
                add("plans", 1.0);
                add("plan_seconds", took.as_secs_f64());
                add("nodes_planned", f64::from(*remove));
            }
            ScalingMetric::Provided { .. } => add("machine_requests", 1.0),
            ScalingMetric::Reconciled { reason, took } => {
                let why = [here, ("reason", *reason)];
                self.0.add("reconciles", &why, 1.0);
                self.0.add("reconcile_seconds", &why, took.as_secs_f64());
            }
        }
    }
}

impl fmt::Display for ScalingCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
