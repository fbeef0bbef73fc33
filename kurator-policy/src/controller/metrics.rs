//! What a host counts and times.

use std::{fmt, sync::Arc, time::Duration};

use kurator_core::{counters::Counters, names::ClusterName};

use crate::propagate::PolicyKey;

/// Something worth counting. Reasons are the tokens of conditions and Events.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum DistributionMetric<'a> {
    /// A pass over the policy ended.
    Reconciled {
        /// `Planned`, `Held`, `Waiting`, or the reason of the error.
        reason: &'a str,
        /// How long it took.
        took: Duration,
    },
    /// A pass over one member for the policy ended.
    Applied {
        /// The member.
        cluster: &'a ClusterName,
        /// Objects that were created or changed because something else is wanted.
        written: u32,
        /// Objects that were set back because somebody else had changed or removed them.
        drifted: u32,
        /// Objects that were removed, or told to go.
        removed: u32,
        /// Objects that could not be brought in place.
        failed: u32,
        /// How long it took.
        took: Duration,
    },
    /// Nothing could be done in a member.
    MemberFailed {
        /// The member.
        cluster: &'a ClusterName,
        /// Why.
        reason: &'a str,
    },
    /// Objects began to leave a cluster.
    Evicted {
        /// The cluster.
        cluster: &'a str,
        /// How many.
        objects: u32,
    },
    /// Objects took over a changed placement with a change of their template, where the policy activates lazily.
    Activated {
        /// How many.
        objects: u32,
    },
    /// A rollout came to stand otherwise.
    Rollout {
        /// How it stands.
        reason: &'a str,
    },
}

/// Takes what is to be counted: a registry of the host, or [`DistributionCounts`].
pub trait DistributionMetrics: fmt::Debug + Send + Sync + 'static {
    /// Takes one. It must return at once and cannot fail.
    fn record(&self, policy: &PolicyKey, metric: &DistributionMetric<'_>);
}

impl<T: DistributionMetrics + ?Sized> DistributionMetrics for Arc<T> {
    fn record(&self, policy: &PolicyKey, metric: &DistributionMetric<'_>) {
        (**self).record(policy, metric);
    }
}

/// Nobody counts.
impl DistributionMetrics for () {
    fn record(&self, _: &PolicyKey, _: &DistributionMetric<'_>) {}
}

/// Sums, by name and labels; clones share them. `Display` is the text that Prometheus scrapes. Policies are no label,
/// there may be thousands.
///
/// ```
/// use kurator_policy::controller::{DistributionCounts, DistributionMetric, DistributionMetrics};
/// use kurator_policy::propagate::PolicyKey;
///
/// let counts = DistributionCounts::default();
/// let policy = PolicyKey::new("policy.kurator.dev", "shop", "web");
/// counts.record(&policy, &DistributionMetric::Evicted { cluster: "paris", objects: 3 });
/// let text = counts.to_string();
/// let lines: Vec<&str> = text.lines().collect();
/// assert_eq!(lines, [
///     "# TYPE kurator_distribution_evictions_total counter",
///     r#"kurator_distribution_evictions_total{cluster="paris"} 3"#,
/// ]);
/// ```
#[derive(Clone, Debug)]
pub struct DistributionCounts(Counters);

impl Default for DistributionCounts {
    fn default() -> Self {
        Self(Counters::new("kurator_distribution"))
    }
}

impl DistributionCounts {
    /// The sum of one counter over all its labels, by its name without `kurator_distribution_` and `_total`.
    #[must_use]
    pub fn sum(&self, name: &str) -> f64 {
        self.0.sum(name)
    }
}

impl DistributionMetrics for DistributionCounts {
    fn record(&self, _: &PolicyKey, metric: &DistributionMetric<'_>) {
        match metric {
            DistributionMetric::Reconciled { reason, took } => {
                self.0.add("reconciles", &[("reason", reason)], 1.0);
                self.0
                    .add("reconcile_seconds", &[("reason", reason)], took.as_secs_f64());
            }
            DistributionMetric::Applied {
                cluster,
                written,
                drifted,
                removed,
                failed,
                took,
            } => {
                let here = [("cluster", cluster.as_str())];
                for (name, count) in [
                    ("objects_written", *written),
                    ("objects_drifted", *drifted),
                    ("objects_removed", *removed),
                    ("objects_failed", *failed),
                ] {
                    self.0.add(name, &here, f64::from(count));
                }
                self.0.add("member_passes", &here, 1.0);
                self.0.add("member_pass_seconds", &here, took.as_secs_f64());
            }
            DistributionMetric::MemberFailed { cluster, reason } => {
                let labels = [("cluster", cluster.as_str()), ("reason", *reason)];
                self.0.add("member_failures", &labels, 1.0);
            }
            DistributionMetric::Evicted { cluster, objects } => {
                self.0
                    .add("evictions", &[("cluster", cluster)], f64::from(*objects));
            }
            DistributionMetric::Activated { objects } => {
                self.0.add("activations", &[], f64::from(*objects));
            }
            DistributionMetric::Rollout { reason } => self.0.add("rollouts", &[("reason", reason)], 1.0),
        }
    }
}

impl fmt::Display for DistributionCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
