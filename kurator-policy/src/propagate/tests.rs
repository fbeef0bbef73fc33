use std::collections::BTreeMap;

use jiff::Timestamp;
use kurator_core::{
    names::ClusterName,
    observe::{ClusterView, Snapshot},
};
use serde_json::{Value, json};

use super::*;
use crate::api::{DistributionPolicyStatus, OverridePolicy, Placement};

fn name(name: &str) -> ClusterName {
    name.parse().unwrap()
}

fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

fn fleet(names: &[&str]) -> Snapshot {
    names.iter().fold(Snapshot::new(now()), |fleet, cluster| {
        fleet.with_cluster(ClusterView::new(name(cluster)))
    })
}

fn deployment(name: &str, replicas: u32) -> Template {
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": name, "namespace": "shop", "uid": "", "labels": { "app": name } },
        "spec": { "replicas": replicas },
    });
    Template::of(&object, &BuiltinKinds).unwrap()
}

fn weighted(weights: &[(&str, u64)]) -> Placement {
    let names: Vec<_> = weights.iter().map(|(cluster, _)| cluster).collect();
    let list: Vec<_> = weights
        .iter()
        .map(|(cluster, weight)| json!({ "targetCluster": { "clusterNames": [cluster] }, "weight": weight }))
        .collect();
    serde_json::from_value(json!({
        "clusterAffinity": { "clusterNames": names },
        "replicaScheduling": { "weightPreference": { "staticWeightList": list } },
    }))
    .unwrap()
}

fn pinned(path: &str, cluster: &str, value: Value) -> OverridePolicy {
    serde_json::from_value(json!({
        "metadata": { "name": "pin", "namespace": "shop" },
        "spec": {
            "resourceSelectors": [{ "apiVersion": "apps/v1", "kind": "Deployment" }],
            "overrideRules": [{
                "targetClusters": { "clusterNames": [cluster] },
                "overrides": [{ "path": path, "operator": "replace", "value": value }],
            }],
        },
    }))
    .unwrap()
}

fn planned(
    placement: &Placement,
    templates: &[Template],
    overrides: &[OverridePolicy],
    fleet: &Snapshot,
) -> Planned {
    let policy = PolicyKey::new("policy.kurator.dev", "shop", "web");
    let request = Request {
        policy: &policy,
        placement,
        otherwise: &BTreeMap::new(),
        suspension: None,
        templates,
        overrides,
        fleet,
        running: &BTreeMap::new(),
        standing: &BTreeMap::new(),
        now: now(),
        interpreter: &BuiltinKinds,
    };
    let planned = plan(&request);
    assert_eq!(check(&request, &planned), []);
    planned
}

/// What the members say after everything was applied and so many replicas of each object are ready.
fn applied(planned: &Planned, ready: impl Fn(&str, u32) -> u32) -> Observed {
    let mut observed = Observed::default();
    for (cluster, member) in &planned.members {
        let seen = observed.members.entry(cluster.clone()).or_default();
        seen.complete = true;
        for (key, object) in &member.objects {
            if let Rendered::Manifest {
                applied, revision, ..
            } = &object.rendered
            {
                let ready = applied.map(|applied| ready(cluster.as_str(), applied));
                let object = ObjectObserved {
                    applied: *applied,
                    created: *applied,
                    ready,
                    revision: Some(revision.clone()),
                    ..ObjectObserved::default()
                };
                seen.objects.insert(key.clone(), object);
            }
        }
    }
    observed
}

fn summary(status: &DistributionPolicyStatus) -> Vec<(String, String)> {
    status
        .clusters
        .iter()
        .map(|entry| (entry.cluster.clone(), entry.reason.clone()))
        .collect()
}

fn is(status: &DistributionPolicyStatus, type_: &str) -> (String, String) {
    let found = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
        .unwrap();
    (found.status.clone(), found.reason.clone())
}

fn pair(a: &str, b: &str) -> (String, String) {
    (a.to_owned(), b.to_owned())
}

#[test]
fn an_override_that_breaks_the_total_is_planned_and_told() {
    let placement = weighted(&[("prod", 90), ("dr", 10)]);
    let plan = planned(
        &placement,
        &[deployment("web", 20)],
        &[pinned("/spec/replicas", "dr", json!(1))],
        &fleet(&["dr", "prod"]),
    );
    assert_eq!(
        plan.to_string(),
        "Deployment shop/web: 2 clusters\n  dr: 1 replicas (2 planned)\n  prod: 18 replicas\n\
         TotalChanged: Deployment shop/web: override shop/pin sets replicas 1 on dr, the plan says 2: the total becomes 19 of 20\n"
    );
    let status = status(Some(4), &plan, &applied(&plan, |_, applied| applied), None, now());
    let totals = status.totals.clone().unwrap();
    assert_eq!(
        (
            totals.desired_replicas,
            totals.planned_replicas,
            totals.applied_replicas
        ),
        (20, 20, 19)
    );
    assert_eq!(is(&status, "Ready"), pair("True", "Applied"));
    assert_eq!(is(&status, TOTAL_KEPT), pair("False", "TotalChanged"));
    assert!(
        status
            .conditions
            .iter()
            .all(|condition| condition.observed_generation == Some(4))
    );
    let told: Vec<_> = events(None, &status)
        .into_iter()
        .map(|event| (event.warning, event.reason))
        .collect();
    assert!(told.contains(&(true, "TotalChanged".to_owned())), "{told:?}");
    assert_eq!(events(Some(&status), &status), []);
}

#[test]
fn an_override_whose_place_is_not_there_holds_that_object_in_that_cluster_only() {
    let placement = weighted(&[("prod", 1), ("dr", 1)]);
    let plan = planned(
        &placement,
        &[deployment("web", 4)],
        &[pinned("/spec/nothing/here", "dr", json!(1))],
        &fleet(&["dr", "prod"]),
    );
    let rendered = |cluster: &str| {
        &plan
            .member(&name(cluster))
            .unwrap()
            .objects
            .values()
            .next()
            .unwrap()
            .rendered
    };
    assert!(matches!(
        rendered("prod"),
        Rendered::Manifest { applied: Some(2), .. }
    ));
    let Rendered::Held { reason, message } = rendered("dr") else {
        panic!("{plan}")
    };
    assert!(
        reason.is_failure() && message.contains("/spec/nothing/here"),
        "{reason}: {message}"
    );
    let status = status(None, &plan, &applied(&plan, |_, applied| applied), None, now());
    assert_eq!(is(&status, "Degraded").0, "True");
    assert_eq!(summary(&status)[1], pair("prod", "Applied"));
}

#[test]
fn names_that_no_member_bears_are_reported_and_the_others_share() {
    let plan = planned(
        &weighted(&[("prod", 1), ("gone", 1)]),
        &[deployment("web", 4)],
        &[],
        &fleet(&["prod"]),
    );
    assert_eq!(plan.objects.values().next().unwrap().planned, 4);
    let status = status(None, &plan, &applied(&plan, |_, applied| applied), None, now());
    assert_eq!(
        summary(&status),
        [pair("gone", "UnknownCluster"), pair("prod", "Applied")]
    );
    assert_eq!(is(&status, "Degraded"), pair("True", "UnknownCluster"));
    // A name is not a member that left: it goes with the placement that named it.
    let plan = planned(
        &weighted(&[("prod", 1)]),
        &[deployment("web", 4)],
        &[],
        &fleet(&["prod"]),
    );
    let after = super::status(
        None,
        &plan,
        &applied(&plan, |_, applied| applied),
        Some(&status),
        now(),
    );
    assert_eq!(summary(&after), [pair("prod", "Applied")]);
}

#[test]
fn what_cannot_be_placed_stays_where_it_is() {
    let plan = planned(
        &weighted(&[("gone", 1)]),
        &[deployment("web", 4)],
        &[],
        &fleet(&["prod"]),
    );
    assert_eq!(plan.held().count(), 1);
    assert!(
        plan.members.is_empty() && matches!(plan.notes.first(), Some(Note::NotPlaced { .. })),
        "{plan}"
    );
}

#[test]
fn a_policy_that_selects_nothing_says_so() {
    let plan = planned(&Placement::default(), &[], &[], &fleet(&["prod"]));
    let status = status(None, &plan, &Observed::default(), None, now());
    assert_eq!(is(&status, "Ready"), pair("False", "NothingSelected"));
    assert_eq!(is(&status, "Degraded"), pair("True", "NothingSelected"));
}

#[test]
fn a_member_that_cannot_be_reached_keeps_its_last_numbers_and_says_why() {
    let plan = planned(
        &weighted(&[("prod", 1), ("dr", 1)]),
        &[deployment("web", 4)],
        &[],
        &fleet(&["dr", "prod"]),
    );
    let well = status(None, &plan, &applied(&plan, |_, applied| applied), None, now());
    let mut observed = applied(&plan, |_, applied| applied);
    let blocked = Trouble::new(MemberReason::Cluster("MemberUnreachable"), "connection refused");
    let lost = MemberObserved {
        blocked: Some(blocked),
        ..MemberObserved::default()
    };
    observed.members.insert(name("dr"), lost);
    let ill = status(None, &plan, &observed, Some(&well), now());
    assert_eq!(
        summary(&ill),
        [pair("dr", "MemberUnreachable"), pair("prod", "Applied")]
    );
    let dr = ill.clusters.first().unwrap();
    assert_eq!((dr.applied_replicas, dr.ready_replicas), (2, 2));
    assert_eq!(is(&ill, "Degraded"), pair("True", "MemberUnreachable"));
    let told: Vec<_> = events(Some(&well), &ill)
        .into_iter()
        .map(|event| event.reason)
        .collect();
    assert_eq!(told, ["MemberUnreachable"]);
    let back: Vec<_> = events(Some(&ill), &well)
        .into_iter()
        .map(|event| (event.warning, event.reason))
        .collect();
    assert!(back.contains(&(false, "Applied".to_owned())), "{back:?}");
}

#[test]
fn a_cluster_that_left_the_policy_stays_in_the_status_until_it_is_clean() {
    let both = planned(
        &weighted(&[("prod", 1), ("dr", 1)]),
        &[deployment("web", 4)],
        &[],
        &fleet(&["dr", "prod"]),
    );
    let before = status(None, &both, &applied(&both, |_, applied| applied), None, now());
    let one = planned(
        &weighted(&[("prod", 1)]),
        &[deployment("web", 4)],
        &[],
        &fleet(&["dr", "prod"]),
    );
    let mut observed = applied(&one, |_, applied| applied);
    observed.members.insert(name("dr"), MemberObserved::default());
    let leaving = status(None, &one, &observed, Some(&before), now());
    assert_eq!(
        summary(&leaving),
        [pair("dr", "Removing"), pair("prod", "Applied")]
    );
    assert_eq!(is(&leaving, "Progressing"), pair("True", "Removing"));
    observed.members.insert(
        name("dr"),
        MemberObserved {
            complete: true,
            ..MemberObserved::default()
        },
    );
    let clean = status(None, &one, &observed, Some(&leaving), now());
    assert_eq!(summary(&clean), [pair("prod", "Applied")]);
    // One that left the fleet cannot be asked, and is not forgotten.
    observed.members.remove(&name("dr"));
    let former = status(None, &one, &observed, Some(&before), now());
    assert_eq!(summary(&former)[0], pair("dr", "UnknownCluster"));
    assert_eq!(former.clusters.first().unwrap().applied_replicas, 2);
}

#[test]
fn messages_stay_short_whatever_a_server_says() {
    let trouble = Trouble::new(MemberReason::Object("Invalid"), "\u{e4}".repeat(4000));
    assert!(trouble.message.len() <= MAX_MESSAGE && trouble.message.ends_with("..."));
}

#[test]
fn a_fleet_that_goes_down_as_a_whole_is_one_story() {
    let names: Vec<String> = (0..50).map(|index| format!("c{index:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let plan = planned(
        &Placement::default(),
        &[deployment("web", 4)],
        &[],
        &fleet(&names),
    );
    let well = status(None, &plan, &applied(&plan, |_, applied| applied), None, now());
    let mut observed = Observed::default();
    for cluster in &names {
        let blocked = Some(Trouble::new(TIMED_OUT, "silence"));
        observed.members.insert(
            name(cluster),
            MemberObserved {
                blocked,
                ..MemberObserved::default()
            },
        );
    }
    let ill = status(None, &plan, &observed, Some(&well), now());
    let told = events(Some(&well), &ill);
    assert_eq!(told.len(), MAX_EVENTS);
    assert!(told.last().unwrap().note.contains("41 more clusters"), "{told:?}");
}
