//! Examples as a user runs them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The example's program, built beside this test: `cargo test --test` does not build examples.
pub(crate) fn binary(example: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "kurator", "--example", example])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_TARGET_DIR", profile.parent().unwrap())
        .status()
        .unwrap();
    assert!(built.success());
    profile.join("examples").join(example)
}
