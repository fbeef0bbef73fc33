//! Answers a file of measured cases: `cargo run --release --example conformance -- division FILE`.
//!
//! Prints one JSON line a case, `{"id":…,"want":…}` or `{"id":…,"err":…}`, in the file's own form and from our own
//! answer alone; expected answers in the file are not looked at and need not be there. A case that cannot be read gets
//! its line too: `err` says what is wrong with it. The files are described in `kurator-policy/tests/data/README.md`.

use std::io::Write;
use std::process::ExitCode;

use serde_json::Value;

mod division;
mod overrides;
mod schedule;

/// The key and the value that stand for the answer to a case.
type Answer = Result<(&'static str, Value), Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("conformance: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, file] = arguments.as_slice() else {
        return Err("usage: conformance <division|schedule|overrides> FILE".into());
    };
    let answer: fn(&Value) -> Answer = match kind.as_str() {
        "division" => division::answer,
        "schedule" => schedule::answer,
        "overrides" => overrides::answer,
        other => {
            return Err(
                format!("{other:?} is not a kind of case: use division, schedule or overrides").into(),
            );
        }
    };
    let file: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    let cases = file
        .get("cases")
        .and_then(Value::as_array)
        .ok_or("the file has no list `cases`")?;
    let mut out = std::io::stdout().lock();
    for case in cases {
        let id = case.get("id").cloned().unwrap_or(Value::Null);
        let (key, value) = answer(case).unwrap_or_else(|error| ("err", Value::String(error.to_string())));
        writeln!(out, "{{\"id\":{id},\"{key}\":{value}}}")?;
    }
    Ok(())
}
