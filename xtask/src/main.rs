//! tasks

mod crds;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("crds") => crds::run(args),
        other => {
            eprintln!("no such task: {other:?}; there is: crds [--check]");
            ExitCode::FAILURE
        }
    }
}
