//! `cargo xtask crds [--check]`: writes the definitions of all custom resources into `deploy/crds`, or says how the
//! files there differ from the types.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

const HEADER: &str = "# Written by `cargo xtask crds` from the Rust types: change those, not this file.\n";

/// Lines of a changed file that are printed before the rest is only counted.
const SHOWN_LINES: usize = 12;

/// Runs the task; the arguments are those after `crds`.
pub(crate) fn run(args: impl IntoIterator<Item = String>) -> ExitCode {
    let mut check = false;
    for arg in args {
        if arg != "--check" {
            eprintln!("crds: unknown argument {arg:?}; usage: cargo xtask crds [--check]");
            return ExitCode::FAILURE;
        }
        check = true;
    }
    match write_or_check(&root().join("deploy/crds"), check) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("crds: {error}");
            ExitCode::FAILURE
        }
    }
}

fn root() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path
}

fn write_or_check(folder: &Path, check: bool) -> io::Result<ExitCode> {
    let wanted = rendered()?;
    let present = present(folder)?;
    if check {
        let differences = differences(&wanted, &present);
        if differences.is_empty() {
            println!("crds: {} files in deploy/crds agree with the types", wanted.len());
            return Ok(ExitCode::SUCCESS);
        }
        eprint!("{differences}");
        eprintln!("crds: deploy/crds differs from the types; run `cargo xtask crds` and commit the result");
        return Ok(ExitCode::FAILURE);
    }
    fs::create_dir_all(folder)?;
    for (name, text) in &wanted {
        if present.get(name) != Some(text) {
            fs::write(folder.join(name), text)?;
            println!("crds: wrote deploy/crds/{name}");
        }
    }
    for name in present.keys().filter(|name| !wanted.contains_key(*name)) {
        fs::remove_file(folder.join(name))?;
        println!("crds: removed deploy/crds/{name}");
    }
    Ok(ExitCode::SUCCESS)
}

fn definitions() -> Vec<CustomResourceDefinition> {
    [
        kurator_backup::api::crds(),
        kurator_fleet::api::crds(),
        kurator_policy::api::crds(),
    ]
    .concat()
}

/// File names and contents, one definition a file.
fn rendered() -> io::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for definition in definitions() {
        let name = format!("{}_{}.yaml", definition.spec.group, definition.spec.names.plural);
        let mut value = serde_json::to_value(&definition).map_err(io::Error::other)?;
        tidy(&mut value);
        let yaml = serde_saphyr::to_string(&value).map_err(io::Error::other)?;
        if files
            .insert(name.clone(), format!("{HEADER}{}\n", yaml.trim_end()))
            .is_some()
        {
            return Err(io::Error::other(format!("two definitions are called {name}")));
        }
    }
    Ok(files)
}

fn present(folder: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    if !folder.exists() {
        return Ok(files);
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if let (Some("yaml"), Some(name)) = (
            path.extension().and_then(|extension| extension.to_str()),
            path.file_name().and_then(|name| name.to_str()),
        ) {
            files.insert(name.to_owned(), fs::read_to_string(&path)?);
        }
    }
    Ok(files)
}

fn differences(wanted: &BTreeMap<String, String>, present: &BTreeMap<String, String>) -> String {
    let names: BTreeSet<_> = wanted.keys().chain(present.keys()).collect();
    let mut report = String::new();
    for name in names {
        match (wanted.get(name), present.get(name)) {
            (Some(_), None) => report.push_str(&format!("{name}: missing\n")),
            (None, Some(_)) => report.push_str(&format!("{name}: no type has this definition\n")),
            (Some(wanted), Some(present)) if wanted != present => {
                describe(&mut report, name, wanted, present);
            }
            _ => {}
        }
    }
    report
}

/// Where two texts begin to differ, and how much: enough to see which field it is about.
fn describe(report: &mut String, name: &str, wanted: &str, present: &str) {
    let (new, old): (Vec<_>, Vec<_>) = (wanted.lines().collect(), present.lines().collect());
    let head = new.iter().zip(&old).take_while(|(a, b)| a == b).count();
    let tail = new
        .iter()
        .rev()
        .zip(old.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let tail = tail.min(new.len() - head).min(old.len() - head);
    let (gone, come) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    let _ = writeln!(report, "{name}: differs from line {} on", head + 1);
    for (sign, lines) in [('-', gone), ('+', come)] {
        for line in lines.iter().take(SHOWN_LINES) {
            let _ = writeln!(report, "  {sign}{line}");
        }
        if let Some(more) = lines.len().checked_sub(SHOWN_LINES).filter(|more| *more > 0) {
            let _ = writeln!(report, "  {sign} ... {more} more lines");
        }
    }
}

/// Makes rustdoc read like plain text in every `description` (no examples, no links), and names the integer formats
/// that an API server knows: it warns about `uint32`.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                match member {
                    Value::String(text) if key == "description" => *text = plain(text),
                    Value::String(format) if key == "format" && format == "uint32" => {
                        *format = "int64".to_owned();
                    }
                    other => tidy(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

fn plain(doc: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut inside_example = false;
    for line in doc.lines() {
        if line.trim_start().starts_with("```") {
            inside_example = !inside_example;
        } else if !inside_example {
            kept.push(line.trim_end());
        }
    }
    let text = kept.join("\n");
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.trim_end();
    while let Some(start) = rest.find("[`") {
        let (before, link) = rest.split_at(start);
        plain.push_str(before);
        let Some(end) = link.find("`]") else {
            rest = link;
            break;
        };
        plain.push_str(&link[1..=end]);
        rest = &link[end + 2..];
        if rest.starts_with('(') {
            rest = rest.split_once(')').map_or(rest, |(_, after)| after);
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checked_in_definitions_agree_with_the_types() {
        let present = present(&root().join("deploy/crds")).unwrap();
        assert_eq!(differences(&rendered().unwrap(), &present), "");
    }

    #[test]
    fn every_definition_reads_back_from_its_file() {
        let files = rendered().unwrap();
        assert_eq!(files.len(), definitions().len());
        for definition in definitions() {
            let name = format!("{}_{}.yaml", definition.spec.group, definition.spec.names.plural);
            let read: Value = serde_saphyr::from_str(&files[&name]).unwrap();
            let mut wanted = serde_json::to_value(&definition).unwrap();
            tidy(&mut wanted);
            assert_eq!(read, wanted, "{name}");
        }
    }

    #[test]
    fn a_difference_names_file_and_line() {
        let wanted = BTreeMap::from([("a.yaml".to_owned(), "x\ny\nz\n".to_owned())]);
        let present = BTreeMap::from([
            ("a.yaml".to_owned(), "x\nw\nz\n".to_owned()),
            ("b.yaml".to_owned(), String::new()),
        ]);
        let report = differences(&wanted, &present);
        assert_eq!(
            report,
            "a.yaml: differs from line 2 on\n  -w\n  +y\nb.yaml: no type has this definition\n"
        );
    }

    #[test]
    fn descriptions_lose_examples_and_links() {
        let doc = "What [`Foo`](crate::Foo) and [`Bar`] do.\n\n```\nlet x = 1;\n```";
        assert_eq!(plain(doc), "What `Foo` and `Bar` do.");
    }
}
