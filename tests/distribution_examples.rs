//! `examples/distribute.rs` and `examples/operator.rs`, run as they are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod example;
mod storefront;

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use kube::api::DeleteParams;
use storefront::{DR, PROD, Storefront};

/// A running example; it ends with this value whatever ends the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(name: &str, arguments: &[&str], fleet: &Storefront) -> Self {
        let hub = fleet.member("hub").kubeconfig_file();
        let mut command = Command::new(example::binary(name));
        command
            .args(arguments)
            .env("KUBECONFIG", hub)
            .env_remove("RUST_LOG")
            .stdout(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// Asks it to end, as a kubelet or Ctrl-C would, and waits until it has.
    fn end(mut self, signal: &str) {
        let id = self.0.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
        assert!(self.0.wait().unwrap().success());
    }
}

async fn eighteen_and_one(fleet: &Storefront) {
    fleet.template(20).await;
    fleet.policies().await;
    fleet.replicas(PROD, "storefront", 18).await;
    fleet.replicas(DR, "storefront", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_distribute_and_end_in_order() {
    let fleet = Storefront::idle().await;

    let mut distribute = Running::start("distribute", &[], &fleet);
    let printed = BufReader::new(distribute.0.stdout.take().unwrap());
    let (told, hears) = std::sync::mpsc::channel();
    // Reads to the end: a program must not be ended by a pipe that nobody empties.
    let reader = std::thread::spawn(move || {
        for line in printed.lines().map_while(Result::ok) {
            if line.contains("the total becomes 19 of 20") {
                let _ = told.send(line);
            }
        }
    });
    eighteen_and_one(&fleet).await;
    tokio::task::spawn_blocking(move || hears.recv_timeout(storefront::PATIENCE).unwrap())
        .await
        .unwrap();
    distribute.end("-INT");
    reader.join().unwrap();

    // Its successor finds everything as it was left, and follows on.
    let operator = Running::start("operator", &["--install-crds"], &fleet);
    fleet.template(40).await;
    fleet.replicas(PROD, "storefront", 36).await;
    fleet
        .policy_api()
        .delete("storefront", &DeleteParams::default())
        .await
        .unwrap();
    fleet.gone(PROD, "storefront").await;
    fleet.gone(DR, "storefront").await;
    fleet.policy_gone("storefront").await;
    operator.end("-TERM");
}

/// Runs an example that brings its own fleet and ends by itself; gives what it printed.
fn shown(name: &str) -> String {
    let done = Command::new(example::binary(name))
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(
        done.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    text
}

#[test]
fn the_failover_example_empties_a_cluster_and_brings_everything_home() {
    let text = shown("failover");
    assert!(
        text.contains("Deployment web left paris: Tainted maintenance:NoExecute"),
        "{text}"
    );
    let last: Vec<&str> = text.lines().rev().take(2).collect();
    assert!(
        last.iter().all(|line| line.contains("3 of 3 replicas ready")),
        "{text}"
    );
}

#[test]
fn the_rollout_example_takes_a_bad_change_back() {
    let text = shown("rollout");
    assert!(text.contains("waits for an approval"), "{text}");
    let last: Vec<&str> = text.lines().rev().take(3).collect();
    assert!(
        last.iter()
            .all(|line| line.ends_with("has registry.example/web:2")),
        "{text}"
    );
}
