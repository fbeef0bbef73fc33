use proptest::prelude::*;

use super::*;
use crate::api::BackupPolicy;

fn spec(cron: &str) -> BackupScheduleSpec {
    BackupScheduleSpec::new(cron, BackupPolicy::new("fleet".parse().unwrap()))
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The schedule as it is after it was looked at once, at that time.
fn looked_at(spec: &BackupScheduleSpec, time: &str) -> (Schedule, BackupScheduleStatus) {
    let schedule = Schedule::new("nightly", spec).unwrap();
    let status = plan(&schedule, &BackupScheduleStatus::default(), &[], at(time)).status;
    (schedule, status)
}

#[test]
fn a_new_an_edited_and_a_resumed_schedule_do_not_run_at_once() {
    let (_, status) = looked_at(&spec("0 3 * * *"), "2026-11-23T12:00:00Z");
    let edited = Schedule::new("nightly", &spec("0 11 * * *")).unwrap();
    let planned = plan(&edited, &status, &[], at("2026-11-23T14:00:00Z"));
    assert_eq!((planned.create, planned.status.missed), (None, 0));
    assert_eq!(planned.wake_at, Some(at("2026-11-24T11:00:00Z")));

    let mut paused = spec("0 3 * * *");
    paused.paused = true;
    let schedule = Schedule::new("nightly", &paused).unwrap();
    let planned = plan(&schedule, &status, &[], at("2026-11-23T14:00:00Z"));
    assert_eq!((planned.wake_at, planned.reason), (None, ScheduleReason::Paused));
    let resumed = Schedule::new("nightly", &spec("0 3 * * *")).unwrap();
    let planned = plan(&resumed, &planned.status, &[], at("2026-11-26T14:00:00Z"));
    assert_eq!((planned.create, planned.status.missed), (None, 0));
}

#[test]
fn times_that_passed_unseen_make_one_run_or_none() {
    for (missed, now, created, lost) in [
        (
            MissedRuns::Once,
            "2026-11-26T03:30:00Z",
            Some("2026-11-26T03:00:00Z"),
            2,
        ),
        (MissedRuns::Once, "2026-11-26T05:00:00Z", None, 3),
        (MissedRuns::Skip, "2026-11-26T03:30:00Z", None, 3),
        (
            MissedRuns::Skip,
            "2026-11-24T03:00:30Z",
            Some("2026-11-24T03:00:00Z"),
            0,
        ),
    ] {
        let mut spec = spec("0 3 * * *");
        spec.missed_runs = missed;
        let (schedule, status) = looked_at(&spec, "2026-11-23T12:00:00Z");
        let planned = plan(&schedule, &status, &[], at(now));
        assert_eq!(
            planned.create.map(|run| run.at),
            created.map(at),
            "{missed:?} {now}"
        );
        assert_eq!(planned.status.missed, lost, "{missed:?} {now}");
    }
}

#[test]
fn the_run_before_is_waited_for_replaced_or_joined() {
    let going = [KnownRun::new(
        "before",
        at("2026-11-23T03:00:00Z"),
        ExecutionPhase::Finalizing,
    )];
    let now = at("2026-11-24T03:00:01Z");
    let with = |concurrency| {
        let mut spec = spec("0 3 * * *");
        spec.concurrency = concurrency;
        let (schedule, status) = looked_at(&spec, "2026-11-23T12:00:00Z");
        let planned = plan(&schedule, &status, &going, now);
        (schedule, planned)
    };
    let (schedule, waiting) = with(ConcurrencyPolicy::Forbid);
    assert_eq!(waiting.create, None);
    assert_eq!(
        waiting.reason.to_string(),
        "the run of 2026-11-24T03:00:00Z waits for before to end"
    );
    let after = plan(&schedule, &waiting.status, &[], at("2026-11-24T03:20:00Z"));
    assert_eq!(after.create.unwrap().at, at("2026-11-24T03:00:00Z"));
    let (_, replacing) = with(ConcurrencyPolicy::Replace);
    assert_eq!(
        (replacing.cancel, replacing.create.is_some()),
        (vec!["before".to_owned()], true)
    );
    let (_, joining) = with(ConcurrencyPolicy::Allow);
    assert_eq!((joining.cancel, joining.create.is_some()), (Vec::new(), true));
}

#[test]
fn what_is_wrong_with_a_schedule_is_said_by_its_token() {
    let token = |spec: &BackupScheduleSpec| {
        kurator_core::reason::Reason::token(&Schedule::new("nightly", spec).unwrap_err())
    };
    assert_eq!(token(&spec("61 * * * *")), "InvalidSchedule");
    let mut zoned = spec("0 3 * * *");
    zoned.time_zone = Some("Mars/Olympus".to_owned());
    assert_eq!(token(&zoned), "InvalidTimeZone");
    let mut quorum = spec("0 3 * * *");
    quorum.template.success.mode = crate::api::SuccessMode::Quorum;
    assert_eq!(token(&quorum), "QuorumMissing");
}

#[test]
fn names_of_runs_fit_whatever_the_schedule_is_called() {
    for name in ["a", &"x".repeat(253), "a.b"] {
        let schedule = Schedule::new(name, &spec("@daily")).unwrap();
        let (one, two) = (
            schedule.run_name(at("2026-11-24T00:00:00Z")),
            schedule.run_name(at("2026-11-25T00:00:00Z")),
        );
        assert!(one.len() <= 63 && one != two, "{one}");
    }
}

proptest! {
    #[test]
    fn however_often_it_is_looked_at_every_time_makes_one_run_or_is_counted_as_missed(
        pauses in proptest::collection::vec(1..40_000_i64, 1..60),
    ) {
        let mut spec = spec("0 */2 * * *");
        spec.concurrency = ConcurrencyPolicy::Allow;
        let schedule = Schedule::new("s", &spec).unwrap();
        let start = at("2026-11-23T01:00:00Z");
        let mut now = start;
        let mut status = plan(&schedule, &BackupScheduleStatus::default(), &[], now).status;
        let mut made = std::collections::BTreeSet::new();
        for pause in pauses {
            now += SignedDuration::from_secs(pause);
            let planned = plan(&schedule, &status, &[], now);
            if let Some(run) = planned.create {
                prop_assert!(made.insert(run.at), "twice at {}", run.at);
            }
            // A process that dies before it writes the status makes the same run again.
            status = planned.status;
            prop_assert_eq!(plan(&schedule, &status, &[], now).create, None);
        }
        let mut times = 0;
        let mut time = start;
        while let Some(next) = schedule.cron.next_after(time, &schedule.zone) {
            if next > now { break; }
            times += 1;
            time = next;
        }
        prop_assert_eq!(times, made.len() as u64 + status.missed);
    }
}
