//! Test targets beyond the plain run: `test = false` in their manifest keeps them out of `cargo test`, and
//! their name says which flag runs them.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::run::{capture, cargo};

/// Runs with `--full`.
pub(crate) const FULL: &str = "full_";
/// Runs with `--scale`.
pub(crate) const SCALE: &str = "scale_";

/// The names of all test targets named for a flag; two packages may use one name.
pub(crate) fn beyond_plain() -> Result<BTreeSet<String>, String> {
    let text = capture(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value =
        serde_json::from_str(&text).map_err(|error| format!("cannot read cargo metadata: {error}"))?;
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let mut found = BTreeSet::new();
    for package in list(&metadata, "packages") {
        for target in list(&package, "targets") {
            let name = target["name"].as_str().unwrap_or_default();
            let is_test = list(&target, "kind").iter().any(|kind| kind == "test");
            if is_test && (name.starts_with(FULL) || name.starts_with(SCALE)) {
                found.insert(name.to_owned());
            }
        }
    }
    Ok(found)
}
