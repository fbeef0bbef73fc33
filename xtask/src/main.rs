//! The project's tasks: `cargo xtask test | crds | envtest`.
//!
//! `test` is everything there is to test, in the order in which a mistake is cheapest to find. It uses nothing
//! but cargo and, to build the real control planes the first time, Go.

mod crds;
mod plan;
mod run;
mod steps;
mod tree;

use std::process::ExitCode;

use kurator_envtest::components::Group;

const USAGE: &str = "\
cargo xtask <task>

  test [--full] [--scale]   all tests; plain needs only the Kubernetes components
      --full                also verifies the packages and runs the test targets named full_*, some of them
                            with real Velero servers, which are built on first use
      --scale               also runs the test targets named scale_*, which print measured figures
  crds [--check]            write deploy/crds from the types, or fail if they drifted
  envtest [--full]          build the components that the tests run, and say where they are
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    let outcome = match args.first().map(String::as_str) {
        Some("test") => plan::Selection::parse(rest).and_then(plan::test),
        Some("crds") => return crds::run(rest.to_vec()),
        Some("envtest") => match rest {
            [] => steps::build_components(&[Group::Kubernetes]),
            [flag] if flag == "--full" => steps::build_components(Group::ALL),
            _ => Err(USAGE.to_owned()),
        },
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
