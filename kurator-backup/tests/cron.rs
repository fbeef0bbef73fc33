//! The dialect against the library that Kubernetes uses, and against a second one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use jiff::{Timestamp, tz::TimeZone};
use kurator_backup::cron::{CronError, CronSchedule, Disagreement};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Vector {
    expr: String,
    zone: String,
    after: Timestamp,
    #[serde(default)]
    next: Vec<Timestamp>,
    #[serde(default)]
    err: bool,
}

/// The Kubernetes library gives up after five years.
const HORIZON_DAYS: i64 = 5 * 366;

#[test]
fn every_measured_expression_gives_the_measured_times() {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("data/cron-vectors.json")).unwrap();
    assert!(vectors.len() > 600);
    for vector in vectors {
        let context = format!("{} in {} after {}", vector.expr, vector.zone, vector.after);
        let schedule = match CronSchedule::parse(&vector.expr) {
            Ok(schedule) => schedule,
            // An interval below a second is refused here and by newer servers; robfig rounds it.
            Err(_) => {
                assert!(vector.err, "refused: {context}");
                continue;
            }
        };
        assert!(!vector.err, "accepted: {context}");
        let zone = TimeZone::get(&vector.zone).unwrap();
        let mut at = vector.after;
        for expected in &vector.next {
            at = schedule
                .next_after(at, &zone)
                .unwrap_or_else(|| panic!("nothing: {context}"));
            assert_eq!(at, *expected, "{context}");
        }
        if vector.next.len() < 4 {
            let horizon = at + jiff::SignedDuration::from_hours(HORIZON_DAYS * 24 - 48);
            assert!(
                schedule.next_after(at, &zone).is_none_or(|next| next > horizon),
                "{context}"
            );
        }
    }
}

#[test]
fn the_zone_of_the_expression_wins() {
    let schedule: CronSchedule = "CRON_TZ=Europe/Berlin 0 9 * * *".parse().unwrap();
    let tokyo = TimeZone::get("Asia/Tokyo").unwrap();
    let next = schedule.next_after("2026-01-01T00:00:00Z".parse().unwrap(), &tokyo);
    assert_eq!(next, Some("2026-01-01T08:00:00Z".parse().unwrap()));
}

#[test]
fn a_wrong_item_is_named_with_its_place() {
    let error = CronSchedule::parse("0 2 * * mon-fry").unwrap_err();
    assert!(
        matches!(error, CronError::Item { ref item, offset: 8, field: "day of week", .. } if item == "mon-fry")
    );
    assert!(matches!(
        CronSchedule::parse("0 2 * *"),
        Err(CronError::FieldCount { found: 4, .. })
    ));
    assert!(matches!(
        CronSchedule::parse("CRON_TZ=Mars/Base 0 2 * * *"),
        Err(CronError::Zone { offset: 8, .. })
    ));
    assert!(matches!(
        CronSchedule::parse("@every 10ms"),
        Err(CronError::Every { offset: 7, .. })
    ));
    assert!(matches!(
        CronSchedule::parse("@fortnightly"),
        Err(CronError::Descriptor { .. })
    ));
}

#[test]
fn what_servers_disagree_about_is_named() {
    let at: Timestamp = "2026-11-23T00:00:00Z".parse().unwrap();
    let new_york = TimeZone::get("America/New_York").unwrap();
    let of =
        |expression: &str, zone: &TimeZone| CronSchedule::parse(expression).unwrap().disagreements(at, zone);
    assert_eq!(of("0 0 13 * 5", &TimeZone::UTC), [Disagreement::DayAndWeekday]);
    assert_eq!(of("30 2 * * *", &new_york), [Disagreement::SkippedTime]);
    assert_eq!(of("30 2 * * *", &TimeZone::UTC), []);
    assert_eq!(of("30 3 * * *", &new_york), []);
    assert_eq!(
        of("*/70 * * * *", &TimeZone::UTC),
        [Disagreement::StepBeyondRange]
    );
    assert_eq!(of("@every 6h", &new_york), []);
}

/// Items that both dialects read alike.
fn shared_item(min: u32, max: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        Just("*".to_owned()),
        (min..=max).prop_map(|value| value.to_string()),
        (min..=max, min..=max).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        (min..=max, min..=max).prop_map(|(a, b)| format!("{},{}", a.min(b), a.max(b))),
        (2..=(max - min) / 2).prop_map(|step| format!("*/{step}")),
    ]
}

proptest! {
    #[test]
    fn a_second_library_agrees_where_the_dialects_do(
        minute in shared_item(0, 59), hour in shared_item(0, 23), day in shared_item(1, 28),
        month in shared_item(1, 12), second in 1_700_000_000_i64..1_900_000_000,
    ) {
        // The weekday stays open: with both day fields set the dialects differ.
        let expression = format!("{minute} {hour} {day} {month} *");
        let ours = CronSchedule::parse(&expression).unwrap();
        let theirs: croner::Cron = expression.parse().unwrap();
        let from = chrono::DateTime::<chrono::Utc>::from_timestamp(second, 0).unwrap();
        let expected = theirs.find_next_occurrence(&from, false).unwrap().timestamp();
        let got = ours.next_after(Timestamp::from_second(second).unwrap(), &TimeZone::UTC).unwrap();
        prop_assert_eq!(got.as_second(), expected);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[-@*/,? 0-9a-zA-Z=_\u{e9}]{0,40}", second in 0_i64..4_000_000_000) {
        if let Ok(schedule) = CronSchedule::parse(&text) {
            let _ = schedule.next_after(Timestamp::from_second(second).unwrap(), &TimeZone::UTC);
        }
    }

    #[test]
    fn the_next_time_is_later_and_nothing_lies_between(
        minute in shared_item(0, 59), hour in shared_item(0, 23), second in 1_780_000_000_i64..1_800_000_000,
    ) {
        let schedule = CronSchedule::parse(&format!("{minute} {hour} * * *")).unwrap();
        let zone = TimeZone::get("America/New_York").unwrap();
        let after = Timestamp::from_second(second).unwrap();
        let next = schedule.next_after(after, &zone).unwrap();
        prop_assert!(next > after);
        let between = Timestamp::from_second((after.as_second() + next.as_second()) / 2).unwrap();
        prop_assert_eq!(schedule.next_after(between, &zone), Some(next));
    }
}
