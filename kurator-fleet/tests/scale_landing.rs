//! Pods of two hundred drawn clusters, drained under strict landing, run again wherever the real scheduler puts them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "landing/draw.rs"]
mod draw;
#[path = "landing/play.rs"]
#[allow(dead_code, reason = "it also plays what another test asks for")]
mod play;

use std::time::Duration;

use kurator_envtest::{Controllers, Fleet, MemberSpec};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_nearly_every_cluster_all_pods_of_drained_nodes_run_again() {
    let spec = MemberSpec::new("east")
        .with_scheduler()
        .with_kwok()
        .with_controllers(Controllers::Tuned);
    let fleet = Fleet::builder()
        .member(spec)
        .patience(Duration::from_secs(60))
        .start()
        .await
        .unwrap();
    let tally = play::left_to_scheduler(fleet.member("east").unwrap(), 200).await;
    println!(
        "{} clusters, {} nodes removed, {} pods moved; a node stays for tight room in {}; {} left pods waiting",
        tally.clusters,
        tally.removed,
        tally.moved,
        tally.tight,
        tally.wrong.len(),
    );
    assert!(tally.wrong.len() * 200 <= tally.clusters, "{tally:?}");
}
