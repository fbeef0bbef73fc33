//! Rollouts played to their end on simulated members.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kurator_core::names::ClusterName;
use kurator_core::selector::LabelMatcher;
use kurator_policy::rollout::{
    Health, History, Limit, Member, Outcome, Rollout, Stage, Strategy as Steps, Verdict, check, plan,
};
use proptest::collection::vec;
use proptest::prelude::*;

const START: i64 = 1_780_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(START + second).unwrap()
}

fn name(index: usize) -> ClusterName {
    format!("m{index:02}").parse().unwrap()
}

/// What becomes of a member once it has the target.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Healthy after so many seconds.
    Good(u8),
    /// Failed after so many seconds.
    Bad(u8),
    /// Neither, ever.
    Stuck,
    /// Out of reach until this second, then good.
    Away(u8),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        8 => (0..60_u8).prop_map(Fate::Good),
        1 => (0..60_u8).prop_map(Fate::Bad),
        1 => Just(Fate::Stuck),
        1 => (0..200_u8).prop_map(Fate::Away),
    ]
}

fn limit() -> impl Strategy<Value = Limit> {
    prop_oneof![
        (0..5_u32).prop_map(Limit::Count),
        (0..120_u32).prop_map(Limit::Percent)
    ]
}

fn stages() -> impl Strategy<Value = Vec<Stage>> {
    vec((0..3_usize, limit(), 0..90_i64, any::<bool>()), 0..4).prop_map(|stages| {
        let stage = |(at, (group, at_once, soak, approval)): (usize, (usize, Limit, i64, bool))| {
            let stage = Stage::new(format!("s{at}"))
                .selecting("group", group.to_string())
                .with_concurrency(at_once);
            let stage = stage.with_soak(SignedDuration::from_secs(soak));
            if approval { stage.after_approval() } else { stage }
        };
        stages.into_iter().enumerate().map(stage).collect()
    })
}

struct World {
    fates: Vec<(usize, Fate)>,
    members: BTreeMap<ClusterName, Member>,
    ever_had_target: Vec<bool>,
}

impl World {
    fn new(fates: &[(usize, Fate)]) -> Self {
        let member = |(index, (group, _)): (usize, &(usize, Fate))| {
            (
                name(index),
                Member::new(Some("v1")).with_label("group", group.to_string()),
            )
        };
        Self {
            fates: fates.to_vec(),
            members: fates.iter().enumerate().map(member).collect(),
            ever_had_target: vec![false; fates.len()],
        }
    }

    fn tick(&mut self, second: i64) {
        for (index, (_, fate)) in self.fates.iter().enumerate() {
            let member = self.members.get_mut(&name(index)).unwrap();
            member.away_since = match fate {
                Fate::Away(until) if second < i64::from(*until) => Some(at(0)),
                _ => None,
            };
            let Health::Updating { since } = member.health else {
                continue;
            };
            if member.revision.as_deref() != Some("v2") || member.away_since.is_some() {
                member.health = Health::Healthy { since: at(second) };
                continue;
            }
            let age = at(second).duration_since(since).as_secs();
            member.health = match fate {
                Fate::Good(after) if age >= i64::from(*after) => Health::Healthy { since: at(second) },
                Fate::Away(_) => Health::Healthy { since: at(second) },
                Fate::Bad(after) if age >= i64::from(*after) => Health::Failed { since: at(second) },
                _ => member.health,
            };
        }
    }

    fn apply(&mut self, update: &[ClusterName], revision: &str, second: i64) {
        for (index, had) in self.ever_had_target.iter_mut().enumerate() {
            if update.contains(&name(index)) {
                let member = self.members.get_mut(&name(index)).unwrap();
                member.revision = Some(revision.to_owned());
                member.health = Health::Updating { since: at(second) };
                *had |= revision == "v2";
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn every_rollout_ends_keeps_its_promises_and_stops_a_bad_change_early(
        fates in vec((0..4_usize, fate()), 1..12), stages in stages(), failures in limit(), roll_back in any::<bool>(),
    ) {
        let strategy = Steps::stages(stages).tolerating(failures)
            .with_progress_deadline(SignedDuration::from_secs(120));
        let mut world = World::new(&fates);
        let mut approved: Vec<String> = Vec::new();
        let mut history = History::default();
        if roll_back {
            history.vouch("v1");
        }
        history.want("v2");
        let mut second = 0;
        let end = loop {
            world.tick(second);
            let members = world.members.clone();
            // Somebody else goes on from what was written down.
            history = serde_json::from_str(&serde_json::to_string(&history).unwrap()).unwrap();
            let kept = history.clone();
            let mut rollout = Rollout::resume(&strategy, &kept, &members).unwrap();
            for stage in &approved {
                rollout = rollout.approving(stage);
            }
            let planned = plan(&rollout, at(second));
            prop_assert_eq!(check(&rollout, at(second), &planned), vec![]);
            prop_assert_eq!(plan(&rollout, at(second)), planned.clone());
            let news = history.learn(&planned);
            prop_assert_eq!(news, history != kept);
            if let Verdict::AwaitingApproval { stage } = &planned.verdict {
                prop_assert!(planned.update.is_empty());
                approved.push(stage.clone());
            }
            world.apply(&planned.update, &planned.revision, second);
            let settled = planned.update.is_empty() && planned.wake_at.is_none() && second > 255;
            match planned.verdict {
                Verdict::Completed | Verdict::Halted { .. } | Verdict::RolledBack if settled => break planned,
                _ => {}
            }
            second += 7;
            prop_assert!(second < 20_000, "never ends: {planned}");
        };
        let expected = match end.verdict {
            Verdict::Completed if end.stages.iter().any(|stage| !stage.done.is_empty()) => Outcome::Good,
            Verdict::RolledBack => Outcome::Condemned,
            _ => Outcome::Open,
        };
        prop_assert_eq!(history.outcome("v2"), Some(expected));
        let failed = |fate: &Fate| matches!(fate, Fate::Bad(_) | Fate::Stuck);
        match end.verdict {
            Verdict::Completed => {
                let on_target = world.members.values().filter(|member| member.revision.as_deref() == Some("v2"));
                prop_assert_eq!(on_target.count(), fates.len());
            }
            Verdict::RolledBack => {
                prop_assert!(world.members.values().all(|member| member.revision.as_deref() != Some("v2")));
                prop_assert!(fates.iter().any(|(_, fate)| failed(fate)));
            }
            _ => prop_assert!(!roll_back),
        }
        if !matches!(end.verdict, Verdict::Completed) {
            // No member of a stage after the one that failed ever had the bad revision.
            let stage_of = |group: usize| {
                strategy.stages.iter().take_while(|s| s.labels.get("group") != Some(&group.to_string())).count()
            };
            let first_bad = fates.iter().zip(&world.ever_had_target)
                .filter(|((_, fate), had)| **had && failed(fate)).map(|((group, _), _)| stage_of(*group)).max().unwrap();
            for ((group, fate), had) in fates.iter().zip(&world.ever_had_target) {
                // One that came back late may have had its turn in an earlier stage.
                prop_assert!(!had || stage_of(*group) <= first_bad || matches!(fate, Fate::Away(_)));
            }
        }
    }
}

fn three() -> BTreeMap<ClusterName, Member> {
    (0..3)
        .map(|index| {
            (
                name(index),
                Member::new(Some("v1")).with_label("tier", if index == 0 { "canary" } else { "prod" }),
            )
        })
        .collect()
}

#[test]
fn a_stage_waits_for_its_approval_and_a_begun_one_does_not_wait_again() {
    let strategy = Steps::stages(vec![
        Stage::new("all")
            .with_concurrency(Limit::Count(1))
            .after_approval(),
    ]);
    let mut members = three();
    let rollout = Rollout::new(&strategy, "v2", &members);
    assert_eq!(
        plan(&rollout, at(0)).verdict,
        Verdict::AwaitingApproval {
            stage: "all".to_owned()
        }
    );
    assert_eq!(plan(&rollout.approving("all"), at(0)).update, [name(0)]);
    // The approval is lost over a restart; what has begun goes on.
    members.get_mut(&name(0)).unwrap().revision = Some("v2".to_owned());
    assert_eq!(
        plan(&Rollout::new(&strategy, "v2", &members), at(0)).update,
        [name(1)]
    );
}

#[test]
fn a_soak_holds_the_next_member_and_says_until_when() {
    let strategy = Steps::stages(vec![Stage::new("all").with_soak(SignedDuration::from_mins(5))]);
    let mut members = three();
    let first = members.get_mut(&name(0)).unwrap();
    first.revision = Some("v2".to_owned());
    first.health = Health::Healthy { since: at(0) };
    let rollout = Rollout::new(&strategy, "v2", &members);
    let waiting = plan(&rollout, at(60));
    assert_eq!(
        (waiting.update.as_slice(), waiting.wake_at),
        ([].as_slice(), Some(at(300)))
    );
    assert_eq!(plan(&rollout, at(300)).update, [name(1)]);
}

#[test]
fn a_member_that_is_away_is_passed_over_and_gets_its_turn_on_return() {
    let strategy = Steps::progressive(Limit::Count(1));
    let mut members = three();
    members.get_mut(&name(0)).unwrap().away_since = Some(at(0));
    let planned = plan(&Rollout::new(&strategy, "v2", &members), at(90));
    assert_eq!(planned.update, [name(1)]);
    assert_eq!(planned.stages[0].away, [(name(0), SignedDuration::from_secs(90))]);
    for index in [1, 2] {
        members.get_mut(&name(index)).unwrap().revision = Some("v2".to_owned());
    }
    assert_eq!(
        plan(&Rollout::new(&strategy, "v2", &members), at(90)).verdict,
        Verdict::Completed
    );
    members.get_mut(&name(0)).unwrap().away_since = None;
    assert_eq!(
        plan(&Rollout::new(&strategy, "v2", &members), at(99)).update,
        [name(0)]
    );
}

#[test]
fn a_rolled_back_revision_reaches_nobody_and_newcomers_get_the_last_good_one() {
    let strategy = Steps::progressive(Limit::Count(1));
    let mut members = three();
    let nothing_to_return_to = Rollout::new(&strategy, "v2", &members).condemned(true);
    let planned = plan(&nothing_to_return_to, at(0));
    assert_eq!((planned.verdict, planned.update), (Verdict::RolledBack, vec![]));
    members.get_mut(&name(2)).unwrap().revision = None;
    let rollout = Rollout::new(&strategy, "v2", &members)
        .condemned(true)
        .rolling_back_to("v1");
    let planned = plan(&rollout, at(0));
    assert_eq!(
        (planned.revision.as_str(), planned.update.as_slice()),
        ("v1", [name(2)].as_slice())
    );
}

#[test]
fn a_stage_selects_by_expressions_too() {
    let selector = LabelSelector {
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: "tier".to_owned(),
            operator: "NotIn".to_owned(),
            values: Some(vec!["prod".to_owned()]),
        }]),
        ..LabelSelector::default()
    };
    let strategy = Steps::stages(vec![
        Stage::new("not prod").matching(LabelMatcher::compile(&selector).unwrap()),
    ]);
    let mut members = three();
    members.get_mut(&name(2)).unwrap().labels.clear();
    let planned = plan(&Rollout::new(&strategy, "v2", &members), at(0));
    assert_eq!(planned.stages[0].waiting, [name(0), name(2)]);
    assert_eq!(planned.stages[1].waiting, [name(1)]);
}
