//! The steps of a test run, one function each.

mod components;
pub(crate) mod outside;
mod stopwatch;
mod targets;

use std::process::{ExitCode, Stdio};
use std::thread;
use std::time::Duration;

pub(crate) use components::{build_components, start_components};
pub(crate) use stopwatch::Stopwatch;

use kurator_envtest::components::Group;

use crate::run::{Outcome, cargo, run};

/// The issue of the quickstart: it ends by itself this soon after it was built.
const QUICKSTART_LIMIT: Duration = Duration::from_secs(5);

pub(crate) fn formatting() -> Outcome {
    run(cargo().args(["fmt", "--all", "--check"]))
}

pub(crate) fn lints() -> Outcome {
    run(cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "-D",
        "warnings",
    ]))?;
    let beyond = targets::beyond_plain()?;
    run(cargo()
        .args(["clippy", "--workspace", "--all-features"])
        .args(beyond.iter().flat_map(|name| ["--test", name]))
        .args(["--", "-D", "warnings"]))
}

/// One call for all, so that what they depend on is checked once.
pub(crate) fn lints_without_features() -> Outcome {
    let layers = [
        "kurator",
        "kurator-backup",
        "kurator-core",
        "kurator-fleet",
        "kurator-mesh",
        "kurator-policy",
    ];
    let packages = layers.into_iter().flat_map(|package| ["-p", package]);
    run(cargo()
        .args(["clippy", "--lib", "--no-default-features"])
        .args(packages)
        .args(["--", "-D", "warnings"]))
}

pub(crate) fn crds() -> Outcome {
    if crate::crds::run(["--check".to_owned()]) == ExitCode::SUCCESS {
        return Ok(());
    }
    Err("run `cargo xtask crds` and commit the result".to_owned())
}

pub(crate) fn documentation() -> Outcome {
    run(cargo().env("RUSTDOCFLAGS", "-D warnings").args([
        "doc",
        "--workspace",
        "--no-deps",
        "--all-features",
    ]))
}

pub(crate) fn control_planes() -> Outcome {
    components::wait_for(Group::Kubernetes)
}

pub(crate) fn build_tests() -> Outcome {
    run(cargo().args([
        "test",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--no-run",
    ]))
}

/// `--all-targets` runs each bench once as well; examples that need members are started by tests. One failure does not
/// hide the next.
pub(crate) fn tests() -> Outcome {
    run(cargo().args([
        "test",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--no-fail-fast",
    ]))
}

pub(crate) fn doc_tests() -> Outcome {
    run(cargo().args(["test", "--workspace", "--doc", "--all-features", "--no-fail-fast"]))
}

pub(crate) fn quickstart() -> Outcome {
    run(cargo().args(["build", "--example", "quickstart"]))?;
    let mut child = cargo()
        .args(["run", "--quiet", "--example", "quickstart"])
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start the quickstart: {error}"))?;
    let clock = Stopwatch::start();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("the quickstart ended with {status}")),
            Ok(None) if clock.elapsed() > QUICKSTART_LIMIT => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!(
                    "the quickstart was still running after {} s",
                    QUICKSTART_LIMIT.as_secs()
                ));
            }
            Ok(None) => thread::sleep(Duration::from_millis(20)),
            Err(error) => return Err(format!("cannot wait for the quickstart: {error}")),
        }
    }
}

/// Builds every published crate from its own package, as the registry would.
pub(crate) fn packages() -> Outcome {
    run(cargo()
        .args([
            "package",
            "--workspace",
            "--exclude",
            "kurator-envtest",
            "--exclude",
            "xtask",
        ])
        .args(["--allow-dirty", "--locked"]))
}

pub(crate) fn full_runs() -> Outcome {
    components::wait_for(Group::Velero)?;
    run_named(targets::FULL, &[])
}

pub(crate) fn large_runs() -> Outcome {
    components::wait_for(Group::Velero)?;
    run_named(targets::SCALE, &["--release"])
}

/// With the features of the plain run, so that what was built for that serves here.
fn run_named(prefix: &str, profile: &[&str]) -> Outcome {
    let named = targets::beyond_plain()?;
    let named: Vec<&String> = named.iter().filter(|name| name.starts_with(prefix)).collect();
    for name in &named {
        println!("    {name}");
    }
    run(cargo()
        .args(["test", "--workspace", "--all-features", "--no-fail-fast"])
        .args(profile)
        .args(named.iter().flat_map(|name| ["--test", name]))
        .args(["--", "--nocapture", "--test-threads", "1"]))
}
