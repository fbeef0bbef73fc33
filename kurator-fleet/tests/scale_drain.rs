//! Ten of fifty nodes with 1500 pods under 100 budgets, with the stock and the tuned controller manager: quiet, with
//! outside churn, and one node at a time as kubectl does it. Pods take a second each to be created, to be Ready and to
//! end. `-- tuned` or `-- stock` runs one of them, `-- instant` the tuned one with pods that take no time at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod drain_rig;

use std::env;

use kurator_envtest::Controllers;

use self::drain_rig::{
    contest::{Contest, Pace, Run, Size},
    observer,
};

const SIZE: Size = Size {
    nodes: 50,
    remove: 10,
    apps: 100,
    replicas: 15,
    step: Some(1),
};

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        ["--observe", kubeconfig] => runtime.block_on(observer::observe(kubeconfig.into())),
        ["stock"] => runtime.block_on(large("stock", Controllers::Stock, SIZE)),
        ["tuned"] => runtime.block_on(large("tuned", Controllers::Tuned, SIZE)),
        ["instant"] => {
            let size = Size { step: None, ..SIZE };
            runtime.block_on(large("tuned", Controllers::Tuned, size));
        }
        _ => {
            runtime.block_on(large("tuned", Controllers::Tuned, SIZE));
            runtime.block_on(large("stock", Controllers::Stock, SIZE));
        }
    }
}

async fn large(name: &str, controllers: Controllers, size: Size) {
    println!("{name} controller manager, 10 of 50 nodes, 1500 pods, 100 budgets of one");
    let contest = Contest::start(controllers, size).await;
    let pace = contest.pace().await;
    println!(
        "  measured before: {:.2} s from an eviction until its budget allows one again, {:.1} evictions a second \
         sustained",
        pace.round.as_secs_f64(),
        pace.rate,
    );
    let quiet = contest.drain(false).await;
    show("quiet", &quiet, &pace);
    contest.again().await;
    let churn = contest.drain(true).await;
    show("churn", &churn, &pace);
    contest.again().await;
    let (one_by_one, asked, refused) = contest.one_by_one(&quiet.plan.remove).await;
    println!(
        "  one by one: {:.1} s, {refused} of {asked} evictions refused",
        one_by_one.as_secs_f64()
    );
    println!(
        "  quiet / bound = {:.2}, quiet / one by one = {:.2}",
        quiet.took.as_secs_f64() / pace.bound(&quiet.plan).as_secs_f64(),
        quiet.took.as_secs_f64() / one_by_one.as_secs_f64(),
    );
    assert_eq!(quiet.report.refused, 0);
    let asked = churn.report.evicted + churn.report.refused;
    assert!(
        churn.report.refused * 50 <= asked,
        "more than 2% of {asked} evictions refused"
    );
    assert!(
        quiet.took <= pace.bound(&quiet.plan) * 6 / 5,
        "more than 1.2 times the bound"
    );
    // Where the controllers are what everybody waits for, not even the bound is that much faster.
    let half = (one_by_one / 2).max(pace.bound(&quiet.plan) * 6 / 5);
    assert!(quiet.took <= half, "more than half of one by one");
}

fn show(name: &str, run: &Run, pace: &Pace) {
    println!(
        "  {name}: {:.1} s for {} pods in {} waves (bound {} waves, {} rounds: {:.1} s); {} of {} evictions refused; {} \
         instants observed, never below a budget; planned again {} times",
        run.took.as_secs_f64(),
        run.plan.moves().count(),
        run.plan.waves.len(),
        run.plan.bound.waves,
        run.plan.bound.rounds,
        pace.bound(&run.plan).as_secs_f64(),
        run.report.refused,
        run.report.evicted + run.report.refused,
        run.record.instants,
        run.report.replans,
    );
}
