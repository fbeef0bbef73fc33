//! Which steps a test run has, in which order, and what it leaves out.

use std::time::Duration;

use kurator_envtest::components::Group;

use crate::run::Outcome;
use crate::steps;

/// What the caller asked for beside the plain run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Selection {
    full: bool,
    scale: bool,
}

impl Selection {
    pub(crate) fn parse(args: &[String]) -> Result<Self, String> {
        let mut selection = Self::default();
        for arg in args {
            match arg.as_str() {
                "--full" => selection.full = true,
                "--scale" => selection.scale = true,
                other => {
                    return Err(format!(
                        "`cargo xtask test` knows --full and --scale, not `{other}`"
                    ));
                }
            }
        }
        Ok(selection)
    }

    /// The programs that its tests start: a plain run has none that start Velero.
    pub(crate) fn groups(self) -> Vec<Group> {
        if self.full || self.scale {
            Group::ALL.to_vec()
        } else {
            vec![Group::Kubernetes]
        }
    }
}

struct Step {
    name: &'static str,
    run: fn() -> Outcome,
    /// The flag that adds this step to a plain run.
    flag: Option<&'static str>,
}

const fn step(name: &'static str, run: fn() -> Outcome) -> Step {
    Step {
        name,
        run,
        flag: None,
    }
}

const fn flagged(flag: &'static str, name: &'static str, run: fn() -> Outcome) -> Step {
    Step {
        name,
        run,
        flag: Some(flag),
    }
}

/// Cheap mistakes first; the components build beside whatever does not need them.
const STEPS: &[Step] = &[
    step("formatting", steps::formatting),
    step(
        "dependency tree: planners stay light",
        crate::tree::planners_stay_light,
    ),
    step("dependency tree: one TLS provider", crate::tree::nothing_banned),
    step("lints, every feature", steps::lints),
    step("lints, no feature", steps::lints_without_features),
    step("custom resource definitions match the types", steps::crds),
    step("documentation", steps::documentation),
    step("tests are built", steps::build_tests),
    step("components of the test fleet", steps::control_planes),
    step(
        "unit, property and control plane tests, benches once, every example",
        steps::tests,
    ),
    step("documentation tests", steps::doc_tests),
    step("quickstart ends by itself", steps::quickstart),
    step("a project outside the workspace", steps::outside::builds_and_runs),
    flagged("--full", "packages", steps::packages),
    flagged(
        "--full",
        "tests named full_*, with real Velero servers",
        steps::full_runs,
    ),
    flagged("--scale", "large runs", steps::large_runs),
];

pub(crate) fn test(selection: Selection) -> Outcome {
    steps::start_components(selection.groups())?;
    let wanted = |flag: &str| (flag == "--full" && selection.full) || (flag == "--scale" && selection.scale);
    let (now, later): (Vec<&Step>, Vec<&Step>) = STEPS
        .iter()
        .partition(|step: &&Step| step.flag.is_none_or(wanted));
    let mut passed = 0;
    for (index, step) in now.iter().enumerate() {
        println!("==> [{}/{}] {}", index + 1, now.len(), step.name);
        let clock = steps::Stopwatch::start();
        if let Err(message) = (step.run)() {
            println!("steps: {passed} passed, 1 failed");
            return Err(format!("failed: {}: {message}", step.name));
        }
        passed += 1;
        println!("    done in {}", seconds(clock.elapsed()));
    }
    for step in later {
        println!("not run: {} (add {})", step.name, step.flag.unwrap_or_default());
    }
    println!("steps: {passed} passed, 0 failed");
    Ok(())
}

fn seconds(elapsed: Duration) -> String {
    let whole = elapsed.as_secs();
    if whole < 60 {
        format!("{:.1} s", elapsed.as_secs_f64())
    } else {
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}
