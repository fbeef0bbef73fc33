//! A drain of three of twelve nodes beside an observer process, and the same one node at a time as kubectl does it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod drain_rig;

use std::env;

use kurator_envtest::Controllers;

use self::drain_rig::{
    contest::{Contest, Size},
    observer,
};

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        ["--observe", kubeconfig] => runtime.block_on(observer::observe(kubeconfig.into())),
        _ => runtime.block_on(small()),
    }
}

async fn small() {
    let size = Size {
        nodes: 12,
        remove: 3,
        apps: 12,
        replicas: 10,
        step: None,
    };
    let contest = Contest::start(Controllers::Tuned, size).await;
    let run = contest.drain(false).await;
    assert_eq!(run.report.refused, 0, "{:?}", run.report);
    assert_eq!(run.report.evicted as usize, run.plan.moves().count());
    contest.again().await;
    let (one_by_one, asked, refused) = contest.one_by_one(&run.plan.remove).await;
    println!(
        "3 of 12 nodes, {} pods: {:.1} s and 0 of {} evictions refused, {} instants observed; one by one {:.1} s and \
         {refused} of {asked} refused",
        run.plan.moves().count(),
        run.took.as_secs_f64(),
        run.report.evicted,
        run.record.instants,
        one_by_one.as_secs_f64(),
    );
    assert!(run.took <= one_by_one, "{:?} against {one_by_one:?}", run.took);
}
