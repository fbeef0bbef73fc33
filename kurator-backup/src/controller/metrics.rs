//! What a host counts and times.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kurator_core::{
    counters::Counters,
    names::{ClusterName, FleetName, NamespacedName},
};

use crate::api::{ClusterPhase, ExecutionPhase, MigrationPhase, RestorePhase};

/// Something worth counting. Reasons are the tokens of conditions and Events.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum BackupMetric<'a> {
    /// A pass over an object ended.
    Reconciled {
        /// The kind of the object.
        kind: &'a str,
        /// `Done`, or the reason of the error.
        reason: &'a str,
        /// How long it took.
        took: Duration,
    },
    /// A backup of a fleet ended.
    RunEnded {
        /// The fleet.
        fleet: &'a FleetName,
        /// How.
        phase: ExecutionPhase,
        /// Since it began.
        took: Duration,
    },
    /// A member is done with in a backup.
    MemberEnded {
        /// The member.
        cluster: &'a ClusterName,
        /// How.
        phase: ClusterPhase,
        /// Why, as a token.
        reason: &'a str,
        /// Since its server began to read, where it did.
        took: Option<Duration>,
    },
    /// A member was asked for a backup again: an attempt before had failed.
    Retried {
        /// The member.
        cluster: &'a ClusterName,
        /// How often since the pass before.
        times: u32,
    },
    /// An attempt on a member failed.
    AttemptFailed {
        /// The member.
        cluster: &'a ClusterName,
        /// Why, as a token.
        reason: &'a str,
    },
    /// A server had forgotten a backup, and what was done about it helped or was done.
    StallCured {
        /// The member.
        cluster: &'a ClusterName,
        /// `Reminded`: it began when it was poked. `MadeAnew`: another backup is made in its place.
        cure: &'a str,
    },
    /// A member was asked to hold still.
    Held {
        /// The member.
        cluster: &'a ClusterName,
    },
    /// A member holds still no more.
    LetGo {
        /// The member.
        cluster: &'a ClusterName,
        /// Whether its lease ended by itself instead of being released.
        expired: bool,
        /// Since it was asked to hold still.
        held: Duration,
    },
    /// Backups of a run are no more on a member and in its store.
    Deleted {
        /// The member.
        cluster: &'a ClusterName,
        /// How many, one an attempt.
        backups: u32,
    },
    /// A server was asked again to delete a backup: it had lost or failed the request before.
    DeletionRetried {
        /// The member.
        cluster: &'a ClusterName,
        /// How often since the pass before.
        times: u32,
    },
    /// Backups stay on a cluster that is no member any more.
    LeftBehind {
        /// The cluster.
        cluster: &'a ClusterName,
    },
    /// When what can be restored completely now was read, on every member a schedule has such a backup of. What was told
    /// before of the schedule holds no more; nothing, once the schedule is gone.
    LastSuccess {
        /// The schedule.
        schedule: &'a NamespacedName,
        /// When the server began to read, by member.
        read_at: &'a BTreeMap<ClusterName, Timestamp>,
    },
    /// A restore ended.
    RestoreEnded {
        /// The fleet.
        fleet: &'a FleetName,
        /// How.
        phase: RestorePhase,
        /// Since it began.
        took: Duration,
    },
    /// A member is done with in a restore.
    MemberRestored {
        /// The member that was written to.
        cluster: &'a ClusterName,
        /// How.
        phase: RestorePhase,
        /// Why, as a token. `Verified` where what is there was compared with what was in the backup.
        reason: &'a str,
    },
    /// A migration came to another phase.
    Migrated {
        /// The phase.
        phase: MigrationPhase,
    },
}

/// Takes what is to be counted: a registry of the host, or [`BackupCounts`].
pub trait BackupMetrics: fmt::Debug + Send + Sync + 'static {
    /// Takes one, of the object it is about. It must return at once and cannot fail.
    fn record(&self, object: &NamespacedName, metric: &BackupMetric<'_>);
}

impl<T: BackupMetrics + ?Sized> BackupMetrics for Arc<T> {
    fn record(&self, object: &NamespacedName, metric: &BackupMetric<'_>) {
        (**self).record(object, metric);
    }
}

/// Nobody counts.
impl BackupMetrics for () {
    fn record(&self, _: &NamespacedName, _: &BackupMetric<'_>) {}
}

/// Sums by name and labels, and the last successes; clones share them. `Display` is the text that Prometheus scrapes.
/// Labels are members, fleets, schedules and tokens: executions and backups are none, there is no end of them.
///
/// ```
/// use kurator_backup::{api::ExecutionPhase, controller::{BackupCounts, BackupMetric, BackupMetrics}};
/// use kurator_core::names::NamespacedName;
///
/// let counts = BackupCounts::default();
/// let (fleet, took) = ("storefront".parse()?, std::time::Duration::from_secs(8));
/// let ended = BackupMetric::RunEnded { fleet: &fleet, phase: ExecutionPhase::Completed, took };
/// counts.record(&NamespacedName::new("default", "nightly-1"), &ended);
/// let text = counts.to_string();
/// let lines: Vec<&str> = text.lines().collect();
/// assert_eq!(lines, [
///     "# TYPE kurator_backup_run_seconds_total counter",
///     r#"kurator_backup_run_seconds_total{fleet="storefront",result="Completed"} 8"#,
///     "# TYPE kurator_backup_runs_total counter",
///     r#"kurator_backup_runs_total{fleet="storefront",result="Completed"} 1"#,
/// ]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct BackupCounts {
    sums: Counters,
    last: Arc<Mutex<BTreeMap<NamespacedName, BTreeMap<ClusterName, Timestamp>>>>,
}

impl Default for BackupCounts {
    fn default() -> Self {
        Self {
            sums: Counters::new("kurator_backup"),
            last: Arc::default(),
        }
    }
}

impl BackupCounts {
    /// The sum of one counter over all its labels, by its name without `kurator_backup_` and `_total`.
    #[must_use]
    pub fn sum(&self, name: &str) -> f64 {
        self.sums.sum(name)
    }

    /// When what `schedule` could restore of `cluster` was read.
    #[must_use]
    pub fn last_success(&self, schedule: &NamespacedName, cluster: &ClusterName) -> Option<Timestamp> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.get(schedule)?.get(cluster).copied()
    }
}

impl BackupMetrics for BackupCounts {
    fn record(&self, _: &NamespacedName, metric: &BackupMetric<'_>) {
        let add = |name, labels: &[(&str, &str)], value| self.sums.add(name, labels, value);
        match metric {
            BackupMetric::Reconciled { kind, reason, took } => {
                let labels = [("kind", *kind), ("reason", *reason)];
                add("reconciles", &labels, 1.0);
                add("reconcile_seconds", &labels, took.as_secs_f64());
            }
            BackupMetric::RunEnded { fleet, phase, took } => {
                let labels = [("fleet", fleet.as_str()), ("result", phase.as_str())];
                add("runs", &labels, 1.0);
                add("run_seconds", &labels, took.as_secs_f64());
            }
            BackupMetric::MemberEnded {
                cluster,
                phase,
                reason,
                took,
            } => {
                let result = format!("{phase:?}");
                let cluster = ("cluster", cluster.as_str());
                add(
                    "members",
                    &[cluster, ("reason", reason), ("result", &result)],
                    1.0,
                );
                if let Some(took) = took {
                    add(
                        "member_seconds",
                        &[cluster, ("result", &result)],
                        took.as_secs_f64(),
                    );
                }
            }
            BackupMetric::Retried { cluster, times } => {
                add("retries", &[("cluster", cluster.as_str())], f64::from(*times));
            }
            BackupMetric::AttemptFailed { cluster, reason } => {
                let labels = [("cluster", cluster.as_str()), ("reason", *reason)];
                add("attempt_failures", &labels, 1.0);
            }
            BackupMetric::StallCured { cluster, cure } => {
                let labels = [("cluster", cluster.as_str()), ("cure", *cure)];
                add("stalls_cured", &labels, 1.0);
            }
            BackupMetric::Held { cluster } => add("quiesce_held", &[("cluster", cluster.as_str())], 1.0),
            BackupMetric::LetGo {
                cluster,
                expired,
                held,
            } => {
                let name = if *expired {
                    "quiesce_expired"
                } else {
                    "quiesce_released"
                };
                add(name, &[("cluster", cluster.as_str())], 1.0);
                add(
                    "quiesce_seconds",
                    &[("cluster", cluster.as_str())],
                    held.as_secs_f64(),
                );
            }
            BackupMetric::Deleted { cluster, backups } => {
                add("deletions", &[("cluster", cluster.as_str())], f64::from(*backups));
            }
            BackupMetric::DeletionRetried { cluster, times } => {
                let labels = [("cluster", cluster.as_str())];
                add("deletion_retries", &labels, f64::from(*times));
            }
            BackupMetric::LeftBehind { cluster } => {
                add("left_behind", &[("cluster", cluster.as_str())], 1.0);
            }
            BackupMetric::LastSuccess { schedule, read_at } => {
                let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
                if read_at.is_empty() {
                    last.remove(*schedule);
                } else {
                    last.insert((*schedule).clone(), (*read_at).clone());
                }
            }
            BackupMetric::RestoreEnded { fleet, phase, took } => {
                let result = format!("{phase:?}");
                let labels = [("fleet", fleet.as_str()), ("result", result.as_str())];
                add("restores", &labels, 1.0);
                add("restore_seconds", &labels, took.as_secs_f64());
            }
            BackupMetric::MemberRestored {
                cluster,
                phase,
                reason,
            } => {
                let result = format!("{phase:?}");
                let cluster = ("cluster", cluster.as_str());
                add(
                    "restored_members",
                    &[cluster, ("reason", reason), ("result", &result)],
                    1.0,
                );
            }
            BackupMetric::Migrated { phase } => {
                add("migrations", &[("phase", &format!("{phase:?}"))], 1.0);
            }
        }
    }
}

impl fmt::Display for BackupCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LAST: &str = "kurator_backup_last_success_timestamp_seconds";
        self.sums.fmt(f)?;
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if !last.is_empty() {
            writeln!(f, "# TYPE {LAST} gauge")?;
        }
        for (schedule, clusters) in last.iter() {
            for (cluster, at) in clusters {
                let at = at.as_second();
                writeln!(f, r#"{LAST}{{cluster="{cluster}",schedule="{schedule}"}} {at}"#)?;
            }
        }
        Ok(())
    }
}
