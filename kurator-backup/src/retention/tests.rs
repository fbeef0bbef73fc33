use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;

/// Last, daily, weekly, monthly; 0 for not given.
fn keep(last: u32, daily: u32, weekly: u32, monthly: u32) -> RetentionPolicy {
    let some = |count: u32| (count > 0).then_some(count);
    RetentionPolicy {
        last: some(last),
        daily: some(daily),
        weekly: some(weekly),
        monthly: some(monthly),
    }
}

fn run(name: &str, at: &str, complete: &[&str]) -> RunRecord {
    let mut run = RunRecord::new(name, at.parse().unwrap(), ExecutionPhase::Completed);
    run.complete = complete.iter().map(|name| name.parse().unwrap()).collect();
    run
}

fn kept(policy: &RetentionPolicy, runs: &[RunRecord]) -> Vec<String> {
    let deleted = plan(policy, runs, &TimeZone::UTC).plan;
    let kept = runs.iter().filter(|run| !deleted.contains(&run.name));
    kept.map(|run| run.name.clone()).collect()
}

#[test]
fn days_weeks_and_months_are_counted_by_those_that_have_a_run() {
    let policy = keep(0, 2, 2, 2);
    let runs = [
        run("sep", "2026-09-30T03:00:00Z", &["a"]),
        run("oct", "2026-10-31T03:00:00Z", &["a"]),
        run("nov-week-46", "2026-11-15T03:00:00Z", &["a"]),
        run("sat", "2026-11-21T03:00:00Z", &["a"]),
        run("sun", "2026-11-22T03:00:00Z", &["a"]),
        run("mon-early", "2026-11-23T01:00:00Z", &["a"]),
        run("mon-late", "2026-11-23T03:00:00Z", &["a"]),
    ];
    assert_eq!(kept(&policy, &runs), ["oct", "sun", "mon-late"]);
}

#[test]
fn a_day_is_that_of_the_zone() {
    let policy = keep(0, 2, 0, 0);
    let runs = [
        run("before-midnight", "2026-11-22T22:30:00Z", &["a"]),
        run("after-midnight", "2026-11-22T23:30:00Z", &["a"]),
    ];
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    assert!(plan(&policy, &runs, &berlin).plan.is_empty());
    assert_eq!(plan(&policy, &runs, &TimeZone::UTC).plan, ["before-midnight"]);
}

#[test]
fn a_complete_run_stands_for_its_day_rather_than_a_later_partial_one() {
    let policy = keep(0, 1, 0, 0);
    let mut partial = run("partial", "2026-11-23T05:00:00Z", &["b"]);
    partial.phase = ExecutionPhase::PartiallyFailed;
    let runs = [run("complete", "2026-11-23T03:00:00Z", &["a", "b"]), partial];
    assert_eq!(
        plan(&policy, &runs, &TimeZone::UTC).report.to_string(),
        "complete  Daily: stands for its day\npartial   LastGood: newest complete backup of b\n"
    );
}

#[test]
fn a_hold_keeps_a_run_whatever_the_policy_says() {
    let policy = keep(1, 0, 0, 0);
    let mut held = run("old", "2020-01-01T00:00:00Z", &["a"]);
    held.hold = true;
    let runs = [held, run("new", "2026-11-23T03:00:00Z", &["a"])];
    assert_eq!(kept(&policy, &runs), ["old", "new"]);
}

#[test]
fn failures_go_when_something_newer_has_ended() {
    let policy = keep(5, 0, 0, 0);
    let failed = |name, at: &str| RunRecord::new(name, at.parse().unwrap(), ExecutionPhase::Failed);
    let runs = [
        run("good", "2026-11-20T03:00:00Z", &["a"]),
        failed("bad-1", "2026-11-21T03:00:00Z"),
        failed("bad-2", "2026-11-22T03:00:00Z"),
    ];
    assert_eq!(kept(&policy, &runs), ["good", "bad-2"]);
}

fn record() -> impl Strategy<Value = RunRecord> {
    let phase = prop_oneof![
        3 => Just(ExecutionPhase::Completed),
        2 => Just(ExecutionPhase::PartiallyFailed),
        1 => Just(ExecutionPhase::Failed),
        1 => Just(ExecutionPhase::InProgress),
        1 => Just(ExecutionPhase::Deleting),
    ];
    let members = || proptest::collection::btree_set(0..4_u8, 0..4);
    (
        0..2000_i64,
        phase,
        prop::bool::weighted(0.1),
        members(),
        members(),
    )
        .prop_map(|(hours, phase, hold, complete, partial)| {
            let at = "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(hours);
            let mut run = RunRecord::new("", at, phase);
            let name = |index: u8| format!("c{index}").parse().unwrap();
            run.hold = hold;
            if phase.has_ended() {
                run.complete = complete.into_iter().map(name).collect();
                run.partial = partial.into_iter().map(name).collect();
            }
            run
        })
}

proptest! {
    #[test]
    fn retention_never_deletes_the_only_restorable_set(
        mut runs in proptest::collection::vec(record(), 0..40),
        last in proptest::option::of(1..5_u32),
        daily in proptest::option::of(1..5_u32),
        weekly in proptest::option::of(1..5_u32),
        monthly in proptest::option::of(1..5_u32),
    ) {
        for (index, run) in runs.iter_mut().enumerate() {
            run.name = format!("run-{index:02}");
        }
        let policy = RetentionPolicy { last, daily, weekly, monthly };
        let planned = plan(&policy, &runs, &TimeZone::UTC);
        let notes = check(&runs, &planned.plan);
        prop_assert!(notes.permits(), "{notes}");
        let mut shuffled = runs.clone();
        shuffled.reverse();
        prop_assert_eq!(&planned, &plan(&policy, &shuffled, &TimeZone::UTC));
        // What is left is stable: another pass finds nothing more to delete.
        runs.retain(|run| !planned.plan.contains(&run.name));
        prop_assert_eq!(plan(&policy, &runs, &TimeZone::UTC).plan, Vec::<String>::new());
    }
}

#[test]
fn the_checker_sees_what_a_bad_plan_would_lose() {
    let runs = [run("only", "2026-11-23T03:00:00Z", &["a"])];
    let notes = check(&runs, &["only".to_owned(), "other".to_owned()]);
    let reasons: Vec<_> = notes.iter().map(|note| note.reason.as_str()).collect();
    assert_eq!(reasons, ["OnlyComplete", "OnlyRestorable", "UnknownRun"]);
}
