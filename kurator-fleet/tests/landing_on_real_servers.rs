//! Where the planner says a pod fits, the real scheduler puts it; and pods it says can move run again wherever the
//! scheduler puts them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "landing/draw.rs"]
mod draw;
#[path = "landing/play.rs"]
mod play;

use std::time::Duration;

use kurator_envtest::{Controllers, Fleet, MemberSpec, Part};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scheduler_accepts_every_pod_where_the_plan_sends_it() {
    // Without controllers nobody would take the taint off a node that has become Ready.
    let spec = MemberSpec::new("east").with_scheduler().with_kwok().with_flag(
        Part::ApiServer,
        "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
    );
    let fleet = Fleet::builder().member(spec).start().await.unwrap();
    let tally = play::sent(fleet.member("east").unwrap(), 24).await;
    println!("{tally:?}");
    assert!(tally.moved >= 100, "{tally:?}");
    assert_eq!(tally.wrong, Vec::<String>::new(), "{tally:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_drained_nodes_run_again_wherever_the_scheduler_puts_them() {
    let spec = MemberSpec::new("east")
        .with_scheduler()
        .with_kwok()
        .with_controllers(Controllers::Tuned);
    let patience = Duration::from_secs(60);
    let fleet = Fleet::builder()
        .member(spec)
        .patience(patience)
        .start()
        .await
        .unwrap();
    let tally = play::left_to_scheduler(fleet.member("east").unwrap(), 40).await;
    println!("{tally:?}");
    assert!(tally.moved >= 100, "{tally:?}");
    // The plan does not keep every node because room is tight, and where it does not, there is enough. It is a draw what
    // the scheduler does: `scale_landing` counts over more clusters.
    assert!(tally.tight * 2 <= tally.clusters, "{tally:?}");
    assert!(tally.wrong.len() <= 1, "{tally:?}");
}
