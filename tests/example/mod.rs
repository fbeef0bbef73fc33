//! Examples as a user runs them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The example's program, built beside this test, which `cargo test --test` does not do; with the features of the whole
/// run, so that there it is built already.
pub(crate) fn binary(example: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--workspace",
            "--all-features",
            "--example",
            example,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_TARGET_DIR", profile.parent().unwrap())
        .status()
        .unwrap();
    assert!(built.success());
    profile.join("examples").join(example)
}
