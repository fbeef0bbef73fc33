//! What there is to count between two statuses: the same state that conditions and Events are made of.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kurator_core::{
    names::{ClusterName, FleetName},
    reason::Reason as _,
};

use super::metrics::BackupMetric;
use crate::{
    api::{BackupExecution, BackupExecutionStatus, ClusterExecution, ClusterPhase, RestoreExecutionStatus},
    driver::Phase,
    run::ClusterReason,
};

fn between(from: Option<&Time>, to: Timestamp) -> Duration {
    from.map(|from| to.duration_since(from.0))
        .and_then(|took| Duration::try_from(took).ok())
        .unwrap_or_default()
}

/// What a pass over a run came to.
pub(super) fn run<'a>(
    fleet: &'a FleetName,
    before: Option<&'a BackupExecutionStatus>,
    after: &'a BackupExecutionStatus,
    now: Timestamp,
) -> Vec<BackupMetric<'a>> {
    let mut found = Vec::new();
    for entry in &after.clusters {
        let was = before
            .into_iter()
            .flat_map(|status| &status.clusters)
            .find(|it| it.cluster == entry.cluster);
        member(was, entry, &mut found);
        let held = was.and_then(|it| it.held_until.as_ref());
        let cluster = &entry.cluster;
        match (held, &entry.held_until) {
            (None, Some(_)) => found.push(BackupMetric::Held { cluster }),
            (Some(until), None) => {
                let expired = until.0 <= now;
                let ended = if expired { until.0 } else { now };
                let since = before.and_then(|status| status.quiesce.as_ref());
                let held = between(since.map(|record| &record.started_at), ended);
                found.push(BackupMetric::LetGo {
                    cluster,
                    expired,
                    held,
                });
            }
            _ => {}
        }
    }
    if after.phase.has_ended() && before.is_none_or(|status| !status.phase.has_ended()) {
        let ended = after.completed_at.as_ref().map_or(now, |at| at.0);
        found.push(BackupMetric::RunEnded {
            fleet,
            phase: after.phase,
            took: between(after.started_at.as_ref(), ended),
        });
    }
    found
}

fn member<'a>(
    was: Option<&ClusterExecution>,
    entry: &'a ClusterExecution,
    found: &mut Vec<BackupMetric<'a>>,
) {
    let (cluster, reason) = (&entry.cluster, entry.reason.as_str());
    let attempts = was.map_or(0, |it| it.attempt);
    // The first attempt is none again.
    let times = entry.attempt.saturating_sub(attempts.max(1));
    if times > 0 {
        found.push(BackupMetric::Retried { cluster, times });
    }
    let Some(was) = was else {
        if entry.phase.has_ended() {
            found.push(ended(entry));
        }
        return;
    };
    let at_work = was.phase.is_at_work();
    if at_work && entry.phase == ClusterPhase::Waiting {
        found.push(BackupMetric::AttemptFailed { cluster, reason });
        let stalled = ClusterReason::BackupStalled { phase: Phase::New };
        if reason == stalled.token() {
            let cure = "MadeAnew";
            found.push(BackupMetric::StallCured { cluster, cure });
        }
    }
    let begun = matches!(
        entry.phase,
        ClusterPhase::InProgress
            | ClusterPhase::Finalizing
            | ClusterPhase::Completed
            | ClusterPhase::PartiallyFailed
    );
    if was.phase == ClusterPhase::Queued && was.pokes > 0 && was.attempt == entry.attempt && begun {
        let cure = "Reminded";
        found.push(BackupMetric::StallCured { cluster, cure });
    }
    if entry.phase.has_ended() && !was.phase.has_ended() {
        if entry.phase == ClusterPhase::Failed && at_work {
            found.push(BackupMetric::AttemptFailed { cluster, reason });
        }
        found.push(ended(entry));
    }
}

fn ended(entry: &ClusterExecution) -> BackupMetric<'_> {
    let completed = entry.completed_at.as_ref().zip(entry.started_at.as_ref());
    BackupMetric::MemberEnded {
        cluster: &entry.cluster,
        phase: entry.phase,
        reason: &entry.reason,
        took: completed.map(|(to, from)| between(Some(from), to.0)),
    }
}

/// What a pass over a run that is being deleted came to.
pub(super) fn deletion<'a>(
    before: &'a BackupExecutionStatus,
    after: &BackupExecutionStatus,
    left_behind: &'a [ClusterName],
) -> Vec<BackupMetric<'a>> {
    let mut found: Vec<BackupMetric<'a>> = left_behind
        .iter()
        .map(|cluster| BackupMetric::LeftBehind { cluster })
        .collect();
    for was in before.clusters.iter().filter(|was| was.attempt > 0) {
        let cluster = &was.cluster;
        match after.clusters.iter().find(|entry| entry.cluster == *cluster) {
            None if left_behind.contains(cluster) => {}
            None => found.push(BackupMetric::Deleted {
                cluster,
                backups: was.attempt,
            }),
            Some(entry) => {
                // The first request is none again.
                let times = entry.deletion.saturating_sub(was.deletion.max(1));
                if times > 0 {
                    found.push(BackupMetric::DeletionRetried { cluster, times });
                }
            }
        }
    }
    found
}

/// What a pass over a restore came to.
pub(super) fn restore<'a>(
    fleet: &'a FleetName,
    before: Option<&RestoreExecutionStatus>,
    after: &'a RestoreExecutionStatus,
    now: Timestamp,
) -> Vec<BackupMetric<'a>> {
    let mut found = Vec::new();
    for entry in after.clusters.iter().filter(|entry| entry.phase.has_ended()) {
        let ended_before = before
            .into_iter()
            .flat_map(|status| &status.clusters)
            .any(|was| was.cluster == entry.cluster && was.phase.has_ended());
        if !ended_before {
            found.push(BackupMetric::MemberRestored {
                cluster: &entry.target,
                phase: entry.phase,
                reason: &entry.reason,
            });
        }
    }
    if after.phase.has_ended() && before.is_none_or(|status| !status.phase.has_ended()) {
        let ended = after.completed_at.as_ref().map_or(now, |at| at.0);
        found.push(BackupMetric::RestoreEnded {
            fleet,
            phase: after.phase,
            took: between(after.started_at.as_ref(), ended),
        });
    }
    found
}

/// When the newest complete backup of each member was read, over runs that are not being deleted.
pub(super) fn last_success(runs: &[BackupExecution]) -> BTreeMap<ClusterName, Timestamp> {
    let mut last = BTreeMap::<ClusterName, Timestamp>::new();
    let kept = runs
        .iter()
        .filter(|run| run.metadata.deletion_timestamp.is_none());
    for entry in kept
        .filter_map(|run| run.status.as_ref())
        .flat_map(|status| &status.clusters)
    {
        if entry.phase == ClusterPhase::Completed
            && let Some(read_at) = &entry.started_at
        {
            let known = last.entry(entry.cluster.clone()).or_insert(read_at.0);
            *known = (*known).max(read_at.0);
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use kurator_core::names::NamespacedName;

    use super::*;
    use crate::{
        api::{BackupExecutionSpec, BackupPolicy, ExecutionPhase, QuiesceRecord},
        controller::{BackupCounts, BackupMetrics as _},
    };

    fn at(text: &str) -> Time {
        Time(text.parse().unwrap())
    }

    fn fleet() -> FleetName {
        "storefront".parse().unwrap()
    }

    fn entry(phase: ClusterPhase, attempt: u32, reason: &str) -> ClusterExecution {
        let mut entry = ClusterExecution::new("a".parse().unwrap());
        entry.phase = phase;
        entry.attempt = attempt;
        reason.clone_into(&mut entry.reason);
        entry
    }

    fn status(entry: ClusterExecution) -> BackupExecutionStatus {
        BackupExecutionStatus {
            started_at: Some(at("2026-11-23T03:00:00Z")),
            clusters: vec![entry],
            ..BackupExecutionStatus::default()
        }
    }

    /// What is counted when statuses follow each other, as Prometheus sees it.
    fn counted(statuses: &[BackupExecutionStatus], now: &Time) -> String {
        let counts = BackupCounts::default();
        let object = NamespacedName::new("default", "run");
        for pair in statuses.windows(2) {
            for metric in run(&fleet(), Some(&pair[0]), &pair[1], now.0) {
                counts.record(&object, &metric);
            }
        }
        counts.to_string()
    }

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
    }

    #[test]
    fn a_run_counts_once_when_it_ends_with_its_members_and_how_long_they_took() {
        let begun = status(entry(ClusterPhase::InProgress, 1, "InProgress"));
        let mut ended = status(entry(ClusterPhase::Completed, 1, "Completed"));
        ended.clusters[0].started_at = Some(at("2026-11-23T03:00:02Z"));
        ended.clusters[0].completed_at = Some(at("2026-11-23T03:00:05Z"));
        ended.phase = ExecutionPhase::Completed;
        ended.completed_at = Some(at("2026-11-23T03:00:08Z"));
        let text = counted(&[begun, ended.clone(), ended], &at("2026-11-23T04:00:00Z"));
        has(
            &text,
            r#"kurator_backup_runs_total{fleet="storefront",result="Completed"} 1"#,
        );
        has(
            &text,
            r#"kurator_backup_run_seconds_total{fleet="storefront",result="Completed"} 8"#,
        );
        has(
            &text,
            r#"kurator_backup_members_total{cluster="a",reason="Completed",result="Completed"} 1"#,
        );
        has(
            &text,
            r#"kurator_backup_member_seconds_total{cluster="a",result="Completed"} 3"#,
        );
        assert!(!text.contains("retries"), "{text}");
    }

    #[test]
    fn attempts_that_failed_stalls_that_were_cured_and_what_was_made_again_count() {
        let first = status(entry(ClusterPhase::Submitting, 1, "Submitted"));
        let mut reminded = status(entry(ClusterPhase::Queued, 1, "Reminded"));
        reminded.clusters[0].pokes = 1;
        let began = status(entry(ClusterPhase::InProgress, 1, "InProgress"));
        let failed = status(entry(ClusterPhase::Waiting, 1, "BackupFailed"));
        let second = status(entry(ClusterPhase::Queued, 2, "Queued"));
        let stalled = status(entry(ClusterPhase::Waiting, 2, "BackupStalled"));
        let third = status(entry(ClusterPhase::Submitting, 3, "Submitted"));
        let over = status(entry(ClusterPhase::Failed, 3, "AttemptsExhausted"));
        let text = counted(
            &[first, reminded, began, failed, second, stalled, third, over],
            &at("2026-11-23T04:00:00Z"),
        );
        has(&text, r#"kurator_backup_retries_total{cluster="a"} 2"#);
        for reason in ["AttemptsExhausted", "BackupFailed", "BackupStalled"] {
            let line = format!(r#"kurator_backup_attempt_failures_total{{cluster="a",reason="{reason}"}} 1"#);
            has(&text, &line);
        }
        for cure in ["MadeAnew", "Reminded"] {
            has(
                &text,
                &format!(r#"kurator_backup_stalls_cured_total{{cluster="a",cure="{cure}"}} 1"#),
            );
        }
    }

    #[test]
    fn a_member_that_was_let_go_and_one_whose_lease_ended_by_itself_are_told_apart() {
        let free = status(entry(ClusterPhase::Waiting, 0, ""));
        let mut held = status(entry(ClusterPhase::Quiescing, 0, "Quiescing"));
        held.clusters[0].held_until = Some(at("2026-11-23T03:02:10Z"));
        held.quiesce = Some(QuiesceRecord {
            round: 1,
            started_at: at("2026-11-23T03:00:10Z"),
            until: at("2026-11-23T03:02:10Z"),
            held_at: None,
            consistent: None,
        });
        let passes = [free.clone(), held, free];
        let text = counted(&passes, &at("2026-11-23T03:00:15Z"));
        has(&text, r#"kurator_backup_quiesce_held_total{cluster="a"} 1"#);
        has(&text, r#"kurator_backup_quiesce_released_total{cluster="a"} 1"#);
        has(&text, r#"kurator_backup_quiesce_seconds_total{cluster="a"} 5"#);
        let text = counted(&passes, &at("2026-11-23T05:00:00Z"));
        has(&text, r#"kurator_backup_quiesce_expired_total{cluster="a"} 1"#);
        has(&text, r#"kurator_backup_quiesce_seconds_total{cluster="a"} 120"#);
    }

    #[test]
    fn a_deletion_counts_the_backups_of_all_attempts_and_what_is_left_behind() {
        let mut before = status(entry(ClusterPhase::Completed, 2, ""));
        before.clusters.push(ClusterExecution {
            cluster: "b".parse().unwrap(),
            deletion: 1,
            ..before.clusters[0].clone()
        });
        let mut after = before.clone();
        after.clusters.remove(0);
        after.clusters[0].deletion = 2;
        let found = deletion(&before, &after, &[]);
        let (a, b) = (&before.clusters[0].cluster, &before.clusters[1].cluster);
        let expected = [
            BackupMetric::Deleted {
                cluster: a,
                backups: 2,
            },
            BackupMetric::DeletionRetried { cluster: b, times: 1 },
        ];
        assert_eq!(found, expected);
        let gone = [a.clone()];
        let found = deletion(&before, &after, &gone);
        assert_eq!(found[0], BackupMetric::LeftBehind { cluster: a });
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn the_last_success_is_of_backups_that_are_complete_and_stay() {
        let execution = |read_at: &str, phase| {
            let mut run = BackupExecution::new("run", BackupExecutionSpec::new(BackupPolicy::new(fleet())));
            let mut status = status(entry(phase, 1, ""));
            status.clusters[0].started_at = Some(at(read_at));
            run.status = Some(status);
            run
        };
        let old = execution("2026-11-20T03:00:00Z", ClusterPhase::Completed);
        let new = execution("2026-11-21T03:00:00Z", ClusterPhase::Completed);
        let partial = execution("2026-11-22T03:00:00Z", ClusterPhase::PartiallyFailed);
        let mut going = execution("2026-11-23T03:00:00Z", ClusterPhase::Completed);
        going.metadata.deletion_timestamp = Some(at("2026-11-23T04:00:00Z"));
        let found = last_success(&[new, old, partial, going]);
        let expected: Timestamp = "2026-11-21T03:00:00Z".parse().unwrap();
        assert_eq!(found.values().collect::<Vec<_>>(), [&expected]);

        let (counts, schedule) = (BackupCounts::default(), NamespacedName::new("default", "nightly"));
        let read_at = &found;
        let told = BackupMetric::LastSuccess {
            schedule: &schedule,
            read_at,
        };
        counts.record(&schedule, &told);
        let line = r#"kurator_backup_last_success_timestamp_seconds{cluster="a",schedule="default/nightly"} 1795230000"#;
        has(&counts.to_string(), line);
        let gone = BackupMetric::LastSuccess {
            schedule: &schedule,
            read_at: &BTreeMap::new(),
        };
        counts.record(&schedule, &gone);
        assert_eq!(counts.to_string(), "");
    }
}
