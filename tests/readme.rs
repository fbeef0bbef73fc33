//! What the README shows is what a user gets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod example;

use std::{fs, process::Command};

/// Stands in the README for lines that are left out there.
const LEFT_OUT: &str = "...";

/// The lines the README shows below a command, in runs that stand together.
fn shown(command: &str) -> Vec<Vec<String>> {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let lines: Vec<String> = readme
        .lines()
        .skip_while(|line| *line != format!("$ {command}"))
        .skip(1)
        .take_while(|line| *line != "```")
        .map(str::to_owned)
        .collect();
    assert!(!lines.is_empty(), "the README does not show `{command}`");
    lines
        .split(|line| line == LEFT_OUT)
        .map(<[String]>::to_vec)
        .collect()
}

#[test]
fn the_readme_shows_what_the_quickstart_prints() {
    let output = Command::new(example::binary("quickstart")).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let printed: Vec<&str> = text.lines().collect();

    let mut from = 0;
    for run in shown("cargo run --example quickstart") {
        let found = printed[from..]
            .windows(run.len())
            .position(|window| window == run)
            .unwrap_or_else(|| {
                panic!(
                    "not printed, or not in this order:\n{}\nprinted:\n{text}",
                    run.join("\n")
                )
            });
        from += found + run.len();
    }
}
