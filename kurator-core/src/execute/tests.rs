use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    clock::ManualClock,
    names::ClusterName,
    progress::{CollectingSink, Progress},
};

fn name(name: &str) -> ClusterName {
    name.parse().unwrap()
}

fn executor() -> Executor {
    Executor::new(ManualClock::new(Timestamp::UNIX_EPOCH))
}

fn done(id: &str) -> impl Step<()> + use<> {
    step_fn(id, |_| async { Ok(Done::Changed(())) })
}

async fn run(executor: &Executor, run: Run<()>, log: &StepLog) -> RunReport<()> {
    executor.run(run, log, CancellationToken::new()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_on_one_member_the_others_complete() {
    let work = Run::new("r")
        .with_step(
            name("blocks"),
            step_fn("s", |_| async {
                Ok(Done::Blocked {
                    reason: "BudgetExhausted".into(),
                    message: "0 allowed".into(),
                    until: None,
                })
            }),
        )
        .with_step(
            name("fails"),
            step_fn("s", |_| async { Err(StepFailure::new("Broken", "no")) }),
        )
        .with_step(name("fails"), step_fn("never", |_| async { panic!("reached") }))
        .with_step(name("hangs"), step_fn("s", |_| std::future::pending()))
        .with_step(name("panics"), step_fn("s", |_| async { panic!("a defect") }))
        .with_step(name("works"), done("s"))
        .with_step(name("works"), done("t"));
    let report = run(&executor(), work, &StepLog::default()).await;
    let outcomes: Vec<_> = report
        .clusters
        .iter()
        .map(|(cluster, it)| (cluster.as_str(), it.outcome.reason(), it.steps.len()))
        .collect();
    assert_eq!(
        outcomes,
        [
            ("blocks", "BudgetExhausted", 1),
            ("fails", "Broken", 1),
            ("hangs", "DeadlineExceeded", 1),
            ("panics", "Panicked", 1),
            ("works", "Completed", 2),
        ]
    );
    assert!(!report.is_completed());
}

#[tokio::test(start_paused = true)]
async fn no_more_members_run_at_once_than_allowed() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    let clusters = (0..20).map(|it| name(&format!("c{it}")));
    let report = executor()
        .with_concurrency(3)
        .each(clusters, CancellationToken::new(), move |_| {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(10)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            }
        })
        .await;
    assert!(report.is_completed());
    assert_eq!((report.clusters.len(), seen.load(Ordering::SeqCst)), (20, 3));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_is_for_all_steps_of_a_member_and_counts_from_its_first() {
    let slow = |id: &str| {
        step_fn(id, |_| async {
            tokio::time::sleep(Duration::from_millis(600)).await;
            Ok(Done::Changed(()))
        })
    };
    let work = Run::new("r")
        .with_step(name("a"), slow("one"))
        .with_step(name("b"), slow("one"))
        .with_step(name("b"), slow("two"));
    let executor = executor()
        .with_concurrency(1)
        .with_deadline(Duration::from_secs(1));
    let report = run(&executor, work, &StepLog::default()).await;
    assert_eq!(report.clusters["a"].outcome, Outcome::Completed);
    let expected = Outcome::DeadlineExceeded {
        step: "two".into(),
        after_ms: 1000,
    };
    assert_eq!(report.clusters["b"].outcome, expected);
}

#[tokio::test]
async fn another_process_goes_on_where_the_first_was_stopped() {
    let ran = Arc::new(Mutex::new(Vec::new()));
    let work = |cancel: Option<CancellationToken>| {
        ["one", "two", "three"]
            .into_iter()
            .fold(Run::new("plan-7"), |run, id| {
                let (ran, cancel) = (Arc::clone(&ran), cancel.clone());
                run.with_step(
                    name("a"),
                    step_fn(id, move |_| {
                        ran.lock().unwrap().push(id);
                        if let Some(cancel) = cancel.as_ref().filter(|_| id == "two") {
                            cancel.cancel();
                        }
                        async { Ok(Done::Changed(())) }
                    }),
                )
            })
    };
    let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
    let (journal, cancel) = (MemoryJournal::default(), CancellationToken::new());
    let first = Executor::observed(clock.clone(), (), journal.clone());
    let report = first
        .run(work(Some(cancel.clone())), &StepLog::default(), cancel)
        .await
        .unwrap();
    assert_eq!(report.clusters["a"].outcome, Outcome::Cancelled);
    assert_eq!(*ran.lock().unwrap(), ["one", "two"]);

    let kept = serde_json::to_string(&journal.log()).unwrap();
    let sink = CollectingSink::default();
    let second = Executor::observed(clock, sink.clone(), MemoryJournal::default());
    let report = run(&second, work(None), &serde_json::from_str(&kept).unwrap()).await;
    assert!(report.is_completed());
    assert_eq!(*ran.lock().unwrap(), ["one", "two", "three"]);
    let progress: Vec<_> = sink
        .events()
        .into_iter()
        .map(|it| (it.step, it.progress))
        .collect();
    assert_eq!(
        progress,
        [
            ("one".to_owned(), Progress::Skipped),
            ("two".to_owned(), Progress::Skipped),
            ("three".to_owned(), Progress::Started),
            ("three".to_owned(), Progress::Succeeded),
        ]
    );
}

#[tokio::test]
async fn the_log_of_another_run_is_refused() {
    let mut log = StepLog::default();
    log.insert("old", &name("a"), "s");
    let work = Run::new("new").with_step(name("a"), done("s"));
    let error = executor()
        .run(work, &log, CancellationToken::new())
        .await
        .unwrap_err();
    assert_eq!(
        error,
        RunError::ForeignLog {
            run: "new".into(),
            found: "old".into()
        }
    );

    let twice = Run::new("r")
        .with_step(name("a"), done("s"))
        .with_step(name("a"), done("s"));
    let error = executor()
        .run(twice, &StepLog::default(), CancellationToken::new())
        .await
        .unwrap_err();
    assert_eq!(
        error,
        RunError::DuplicateStep {
            cluster: name("a"),
            step: "s".into()
        }
    );
}

#[tokio::test(start_paused = true)]
async fn cancellation_gives_a_running_step_its_grace_and_begins_no_other() {
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let work = Run::new("r")
        .with_step(
            name("a"),
            step_fn("hangs", move |_| {
                let stop = stop.clone();
                async move {
                    // Time passes once everybody waits: both have begun.
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    stop.cancel();
                    std::future::pending().await
                }
            }),
        )
        .with_step(
            name("b"),
            step_fn("listens", |context: StepContext| async move {
                context.cancel.cancelled().await;
                Ok(Done::Changed(()))
            }),
        )
        .with_step(name("b"), done("later"))
        .with_step(name("c"), done("queued"));
    let begun = tokio::time::Instant::now();
    let executor = executor().with_concurrency(2).with_grace(Duration::from_secs(2));
    let report = executor.run(work, &StepLog::default(), cancel).await.unwrap();
    let steps = |cluster: &str| -> Vec<StepResult> {
        report.clusters[cluster]
            .steps
            .iter()
            .map(|step| step.result)
            .collect()
    };
    assert!(
        report
            .clusters
            .values()
            .all(|it| it.outcome == Outcome::Cancelled),
        "{report}"
    );
    assert_eq!(steps("b"), [StepResult::Changed, StepResult::Stopped]);
    assert_eq!(steps("c"), [StepResult::Stopped]);
    assert_eq!(begun.elapsed(), Duration::from_secs(3));
}

#[derive(Debug)]
struct Broken;

#[async_trait::async_trait]
impl Journal for Broken {
    async fn finished(
        &self,
        _: &str,
        _: &ClusterName,
        _: &str,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Err("the disk is full".into())
    }
}

#[tokio::test]
async fn a_member_whose_step_cannot_be_recorded_gets_no_further() {
    let executor = Executor::observed(ManualClock::new(Timestamp::UNIX_EPOCH), (), Broken);
    let work = Run::new("r")
        .with_step(name("a"), done("one"))
        .with_step(name("a"), done("two"));
    let report = run(&executor, work, &StepLog::default()).await;
    let expected = Outcome::NotRecorded {
        step: "one".into(),
        message: "the disk is full".into(),
    };
    assert_eq!(report.clusters["a"].outcome, expected);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_run_drops_its_steps() {
    struct Flag(Arc<AtomicUsize>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dropped);
    let executor = executor();
    let running = executor.each([name("a"), name("b")], CancellationToken::new(), move |_| {
        let flag = Flag(Arc::clone(&count));
        async move {
            std::future::pending::<()>().await;
            drop(flag);
            Ok(())
        }
    });
    assert!(
        tokio::time::timeout(Duration::from_secs(1), running)
            .await
            .is_err()
    );
    tokio::task::yield_now().await;
    assert_eq!(dropped.load(Ordering::SeqCst), 2);
}
