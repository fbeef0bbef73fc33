//! What a user does first: a project of its own, `cargo add --path`, the snippet of the README.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::run::{Outcome, cargo, root, run};

/// Package and its folder below the workspace.
const SNIPPETS: [(&str, &str); 4] = [
    ("kurator", "."),
    ("kurator-core", "kurator-core"),
    ("kurator-fleet", "kurator-fleet"),
    ("kurator-policy", "kurator-policy"),
];

/// The crate whose words the others speak; a snippet of theirs may name it.
const CORE: &str = "kurator-core";
/// Crates of the registry that a snippet may name.
const REGISTRY: [&str; 2] = ["serde_json", "serde-saphyr"];

/// Adds each package to a fresh project, runs the first Rust block of its README there.
pub(crate) fn builds_and_runs() -> Outcome {
    let root = root();
    let place =
        tempfile::tempdir().map_err(|error| format!("cannot make a folder for the project: {error}"))?;
    for (package, folder) in SNIPPETS {
        let source = root.join(folder);
        let readme = source.join("README.md");
        let text = fs::read_to_string(&readme)
            .map_err(|error| format!("cannot read {}: {error}", readme.display()))?;
        let snippet = first_rust_block(&text)
            .ok_or_else(|| format!("{folder}/README.md of {package} has no ```rust block to run"))?;
        let project = place.path().join(format!("uses-{package}"));
        run(cargo()
            .args(["init", "--quiet", "--vcs", "none", "--bin"])
            .arg(&project))?;
        let write = |name: &str, text: &[u8]| {
            fs::write(project.join(name), text)
                .map_err(|error| format!("cannot write {name} of the project: {error}"))
        };
        write("src/main.rs", snippet.as_bytes())?;
        // The same versions as ours, so that what was downloaded once serves here too.
        let lock =
            fs::read(root.join("Cargo.lock")).map_err(|error| format!("cannot read Cargo.lock: {error}"))?;
        write("Cargo.lock", &lock)?;
        run(outside(&project)
            .args(["add", "--quiet", package, "--path"])
            .arg(&source))?;
        run(outside(&project).args(["add", "--quiet", "k8s-openapi@0.29", "--features", "latest"]))?;
        let named = |name: &str| snippet.contains(&format!("{}::", name.replace('-', "_")));
        if package != CORE && named(CORE) {
            run(outside(&project)
                .args(["add", "--quiet", CORE, "--path"])
                .arg(root.join(CORE)))?;
        }
        for dependency in REGISTRY.into_iter().filter(|name| named(name)) {
            run(outside(&project).args(["add", "--quiet", dependency]))?;
        }
        run(outside(&project)
            .args(["run", "--quiet"])
            .env("CARGO_TARGET_DIR", root.join("target/outside")))?;
    }
    Ok(())
}

/// Cargo in the project's folder, without what our own configuration sets.
fn outside(project: &Path) -> Command {
    let mut command = cargo();
    command
        .current_dir(project)
        .env_remove("K8S_OPENAPI_ENABLED_VERSION");
    command
}

/// The block as a program: what a doctest adds around it is added here too.
fn first_rust_block(readme: &str) -> Option<String> {
    let mut lines = readme.lines().skip_while(|line| *line != "```rust");
    lines.next()?;
    let body: Vec<&str> = lines.take_while(|line| !line.starts_with("```")).collect();
    if body.is_empty() {
        return None;
    }
    if body.iter().any(|line| line.starts_with("fn main")) {
        return Some(body.join("\n") + "\n");
    }
    let visible: Vec<&str> = body.into_iter().filter(|line| !line.starts_with("# ")).collect();
    let visible = visible.join("\n");
    Some(format!(
        "fn main() -> Result<(), Box<dyn std::error::Error>> {{\n{visible}\nOk(())\n}}\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::first_rust_block;

    #[test]
    fn the_first_rust_block_is_the_snippet() {
        let readme = "# a\n```console\n$ x\n```\n```rust\nfn main() {}\n```\n```rust\nno\n```\n";
        assert_eq!(first_rust_block(readme).as_deref(), Some("fn main() {}\n"));
    }

    #[test]
    fn statements_are_put_into_a_main_and_hidden_lines_left_out() {
        let readme = "```rust\nlet a = b()?;\n# Ok::<(), E>(())\n```\n";
        let main = first_rust_block(readme).unwrap();
        assert!(main.contains("let a = b()?;\nOk(())"));
        assert!(!main.contains("E>"));
    }

    #[test]
    fn a_readme_without_rust_has_no_snippet() {
        assert_eq!(first_rust_block("# a\n"), None);
    }
}
