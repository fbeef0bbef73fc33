//! What the dependency tree must look like: light planners, one TLS provider.

use std::collections::BTreeSet;

use crate::run::{Outcome, capture, cargo};

/// Crates in the normal tree of a planner without the `client` feature, at most.
const PURE_LIMIT: usize = 60;
/// The crates that hold planners, which must stay light without `client`.
const PURE: [&str; 5] = [
    "kurator",
    "kurator-core",
    "kurator-fleet",
    "kurator-policy",
    "kurator-backup",
];
/// What makes a planner heavy: an async runtime, an HTTP client, TLS.
const HEAVY: [&str; 6] = ["tokio", "hyper", "rustls", "tower", "kube-client", "kube-runtime"];
/// A second TLS provider makes `kube::Client` panic at start; the others are unmaintained or need a system library.
const BANNED: [&str; 5] = [
    "aws-lc-rs",
    "aws-lc-sys",
    "openssl-sys",
    "native-tls",
    "serde_yaml",
];

/// The planners pull in no client and stay under the limit.
pub(crate) fn planners_stay_light() -> Outcome {
    for package in PURE {
        let names = names(&["-p", package, "-e", "normal"])?;
        println!("    {package}: {} crates without `client`", names.len());
        if names.len() > PURE_LIMIT {
            return Err(format!(
                "{package} has {} crates without `client`, at most {PURE_LIMIT} are allowed",
                names.len()
            ));
        }
        if let Some(heavy) = HEAVY.iter().find(|heavy| names.contains(**heavy)) {
            return Err(format!(
                "{package} pulls in {heavy} without `client`; make it part of that feature"
            ));
        }
    }
    Ok(())
}

/// No crate of any feature brings a second TLS provider or an unmaintained parser.
pub(crate) fn nothing_banned() -> Outcome {
    let names = names(&["--workspace", "--all-features", "-e", "all"])?;
    match BANNED.iter().find(|banned| names.contains(**banned)) {
        Some(banned) => Err(format!(
            "{banned} is in the tree; `cargo tree -i {banned} --all-features` shows who brings it"
        )),
        None => Ok(()),
    }
}

fn names(args: &[&str]) -> Result<BTreeSet<String>, String> {
    let listed = capture(
        cargo()
            .arg("tree")
            .args(args)
            .args(["--prefix", "none", "--format", "{p}"]),
    )?;
    Ok(listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect())
}
