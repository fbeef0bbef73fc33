//! A member that is down, slow or refuses holds up nobody else, is named with its reason, and catches up alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod storefront;

use kube::api::DeleteParams;
use kurator_envtest::{Cut, Part};
use storefront::{DR, PROD, Storefront, condition, entry, reason};

async fn distributed() -> Storefront {
    let fleet = Storefront::still().await;
    fleet.template(20).await;
    fleet.policies().await;
    fleet.replicas(PROD, "storefront", 18).await;
    fleet.replicas(DR, "storefront", 1).await;
    fleet
        .status("storefront", "everything in place", |it| {
            [PROD, DR]
                .iter()
                .all(|cluster| entry(it, cluster).is_some_and(|it| it.applied_objects == 1))
        })
        .await;
    fleet
}

/// With `DR` out of reach: the other follows an edit, the status names the one and why, and it catches up.
async fn the_other_goes_on(fleet: &Storefront, replicas: i32) {
    let lost = |it: &_| reason(it, DR) == "Unreachable";
    let status = fleet.status("storefront", "lost", lost).await;
    assert_eq!(
        entry(&status, DR).unwrap().applied_replicas,
        1,
        "the last known number stands"
    );
    assert!(condition(&status, "Degraded", "True").unwrap().1.contains(DR));
    fleet.template(replicas).await;
    fleet.replicas(PROD, "storefront", replicas * 9 / 10).await;
    let expected = i64::from(replicas * 9 / 10);
    fleet
        .status("storefront", "the other is told of", |it| {
            entry(it, PROD).is_some_and(|it| it.applied_replicas == expected) && lost(it)
        })
        .await;
}

async fn caught_up(fleet: &Storefront) {
    fleet
        .status("storefront", "caught up", |it| {
            entry(it, DR).is_some_and(|it| it.applied_objects == 1)
                && condition(it, "Degraded", "False").is_some()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_a_paused_and_a_cut_member_hold_up_nobody_and_catch_up_alone() {
    let fleet = distributed().await;
    let dr = fleet.member(DR);

    dr.kill(Part::ApiServer).unwrap();
    the_other_goes_on(&fleet, 40).await;
    dr.restart(Part::ApiServer).await.unwrap();
    caught_up(&fleet).await;

    dr.pause(Part::ApiServer).unwrap();
    the_other_goes_on(&fleet, 60).await;
    dr.resume(Part::ApiServer).unwrap();
    caught_up(&fleet).await;

    dr.link().cut(Cut::Reset);
    the_other_goes_on(&fleet, 80).await;
    dr.link().heal();
    caught_up(&fleet).await;

    dr.link().half_open();
    the_other_goes_on(&fleet, 100).await;
    dr.link().heal();
    caught_up(&fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_waits_for_a_member_that_does_not_answer_and_holds_up_no_other_policy() {
    let fleet = distributed().await;
    let dr = fleet.member(DR);
    dr.link().cut(Cut::Reset);
    fleet
        .status("storefront", "lost", |it| reason(it, DR) == "Unreachable")
        .await;
    fleet
        .policy_api()
        .delete("storefront", &DeleteParams::default())
        .await
        .unwrap();
    fleet.gone(PROD, "storefront").await;
    // What is left is named, and why it cannot be taken away.
    let status = fleet
        .status("storefront", "only one left", |it| it.clusters.len() == 1)
        .await;
    assert_eq!(reason(&status, DR), "Unreachable");
    assert!(
        fleet
            .policy_api()
            .get("storefront")
            .await
            .unwrap()
            .metadata
            .deletion_timestamp
            .is_some()
    );
    // Others go on meanwhile.
    fleet.another("other", "other", 5).await;
    fleet.replicas(PROD, "other", 5).await;
    dr.link().heal();
    fleet.gone(DR, "storefront").await;
    fleet.policy_gone("storefront").await;
    fleet.replicas(DR, "other", 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_while_a_watch_is_broken_comes_back() {
    let fleet = distributed().await;
    let dr = fleet.member(DR);
    dr.link().cut(Cut::Reset);
    storefront::deployments(dr)
        .delete("storefront", &DeleteParams::default())
        .await
        .unwrap();
    // A server that begins anew does not know what happened before: watches begin with a list.
    dr.kill(Part::ApiServer).unwrap();
    dr.restart(Part::ApiServer).await.unwrap();
    dr.link().heal();
    fleet.replicas(DR, "storefront", 1).await;
}
