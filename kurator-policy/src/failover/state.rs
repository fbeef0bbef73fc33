//! Which of what an object says of itself goes along to the cluster it fails over to, as labels.

use std::{collections::BTreeMap, fmt};

use kurator_core::reason::Reason;
use serde_json::Value;

use crate::api::StatePreservation;

/// The most rules a policy may have.
pub const MAX_STATE_RULES: usize = 8;

/// What was picked of a status: by label, its value, or why the field cannot be one. What is not there is missing here.
pub type PickedState = BTreeMap<String, Result<String, StateProblem>>;

/// The rules of a policy, ready to be used.
///
/// ```
/// use kurator_policy::{api::StatePreservation, failover::StateRules};
/// use serde_json::json;
///
/// let rules: StatePreservation = serde_json::from_value(json!({ "rules": [
///     { "aliasLabelName": "example.com/job", "jsonPath": "{ .jobStatus.jobID }" },
/// ]}))?;
/// let rules = StateRules::compile(&rules)?;
/// let picked = rules.pick(&json!({ "jobStatus": { "jobID": "a1" } }));
/// assert_eq!(picked["example.com/job"], Ok("a1".to_owned()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateRules(Vec<(String, Vec<Step>)>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Item(usize),
}

/// A rule that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateRuleError {
    /// The path is none.
    #[error(
        "statePreservation: {path:?} is no path to one field of a status ({problem}); write it as \
         {{.jobStatus.jobID}}, {{.items[0].name}} or {{.parts['a.b']}}"
    )]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The label is none, or is one by which this hub knows its objects.
    #[error("statePreservation: {label:?} cannot be a label to carry state: {problem}")]
    Label {
        /// The label.
        label: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// There are too many.
    #[error("statePreservation: {count} rules, at most {MAX_STATE_RULES} are allowed")]
    TooMany {
        /// How many there are.
        count: usize,
    },
}

/// Why a field cannot be carried as a label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum StateProblem {
    /// It is a list or an object.
    NotScalar,
    /// It is longer than 63 bytes.
    TooLong {
        /// How long, in bytes.
        bytes: usize,
    },
    /// It has characters that a label's value cannot have.
    NotALabelValue,
}

impl StateProblem {
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::NotScalar => "StateNotScalar",
            Self::TooLong { .. } => "StateTooLong",
            Self::NotALabelValue => "StateNotALabelValue",
        }
    }
}

impl Reason for StateProblem {
    fn token(&self) -> &'static str {
        self.reason()
    }
}

impl fmt::Display for StateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotScalar => f.write_str("it is a list or an object: point at one field of it"),
            Self::TooLong { bytes } => write!(f, "it has {bytes} bytes, and a label has room for 63"),
            Self::NotALabelValue => {
                f.write_str("a label takes letters, digits, '-', '_' and '.', and begins and ends with one of the first two")
            }
        }
    }
}

impl StateRules {
    /// Reads the rules of a policy.
    ///
    /// # Errors
    /// [`StateRuleError`] names the first that cannot be used.
    pub fn compile(spec: &StatePreservation) -> Result<Self, StateRuleError> {
        if spec.rules.len() > MAX_STATE_RULES {
            return Err(StateRuleError::TooMany {
                count: spec.rules.len(),
            });
        }
        let mut rules: Vec<(String, Vec<Step>)> = Vec::new();
        for rule in &spec.rules {
            let label = &rule.alias_label_name;
            let twice = rules.iter().any(|(known, _)| known == label);
            let problem = label_offence(label).or(twice.then_some("two rules have it"));
            if let Some(problem) = problem {
                let label = label.clone();
                return Err(StateRuleError::Label { label, problem });
            }
            let path = steps(&rule.json_path).map_err(|problem| StateRuleError::Path {
                path: rule.json_path.clone(),
                problem,
            })?;
            rules.push((label.clone(), path));
        }
        Ok(Self(rules))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What they find in the status of an object.
    #[must_use]
    pub fn pick(&self, status: &Value) -> PickedState {
        let found = self.0.iter().filter_map(|(label, path)| {
            let start = Some(status);
            let value = path.iter().fold(start, |value, step| match step {
                Step::Field(name) => value?.get(name),
                Step::Item(index) => value?.get(index),
            })?;
            Some((label.clone(), label_value(value)?))
        });
        found.collect()
    }
}

/// `None` for what is as good as missing.
fn label_value(value: &Value) -> Option<Result<String, StateProblem>> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) if text.is_empty() => return None,
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(_) | Value::Object(_) => return Some(Err(StateProblem::NotScalar)),
    };
    Some(match text.len() {
        bytes @ 64.. => Err(StateProblem::TooLong { bytes }),
        _ if is_name(&text) => Ok(text),
        _ => Err(StateProblem::NotALabelValue),
    })
}

/// Letters, digits, `-`, `_` and `.`, the first two at both ends.
fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(inner)
}

fn label_offence(label: &str) -> Option<&'static str> {
    let (prefix, name) = match label.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, label),
    };
    if name.len() > 63 || !is_name(name) {
        return Some("its name takes up to 63 letters, digits, '-', '_' and '.'");
    }
    let prefix = prefix?;
    let part = |part: &str| {
        let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !part.is_empty() && part.bytes().all(lower) && !part.starts_with('-') && !part.ends_with('-')
    };
    if prefix.len() > 253 || !prefix.split('.').all(part) {
        return Some("what is before the slash must be a DNS name");
    }
    let ours = prefix == "kurator.dev" || prefix.ends_with(".kurator.dev");
    ours.then_some("labels of kurator.dev say whose an object is")
}

/// The steps of a path as `kubectl` writes it: `{.a.b[0]['c.d']}`, with or without the braces and a `$`.
fn steps(path: &str) -> Result<Vec<Step>, &'static str> {
    let text = path.trim();
    let inner = match (text.strip_prefix('{'), text.ends_with('}')) {
        (Some(inner), true) => inner.strip_suffix('}').unwrap_or(inner).trim(),
        (None, false) => text,
        _ => return Err("a brace is missing"),
    };
    let mut rest = inner.strip_prefix('$').unwrap_or(inner);
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (name, left) = after.split_at(end);
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            if name.is_empty() || !name.bytes().all(plain) {
                return Err("a step is no name of a field");
            }
            steps.push(Step::Field(name.to_owned()));
            rest = left;
        } else if let Some(after) = rest.strip_prefix("['") {
            let (name, left) = after.split_once("']").ok_or("a bracket is not closed")?;
            if name.is_empty() || name.contains('\'') {
                return Err("a step is no name of a field");
            }
            steps.push(Step::Field(name.to_owned()));
            rest = left;
        } else if let Some(after) = rest.strip_prefix('[') {
            let (index, left) = after.split_once(']').ok_or("a bracket is not closed")?;
            let digits = index.bytes().all(|byte| byte.is_ascii_digit());
            let index = index.parse().ok().filter(|_| digits);
            steps.push(Step::Item(
                index.ok_or("wildcards, filters and slices are not known here")?,
            ));
            rest = left;
        } else {
            return Err("each step begins with a dot or a bracket");
        }
    }
    if steps.is_empty() {
        return Err("it is empty");
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::api::StatePreservationRule;

    fn rules(label: &str, path: &str) -> Result<StateRules, StateRuleError> {
        let rule = StatePreservationRule {
            alias_label_name: label.to_owned(),
            json_path: path.to_owned(),
        };
        StateRules::compile(&StatePreservation { rules: vec![rule] })
    }

    fn picked(path: &str, status: &Value) -> Option<Result<String, StateProblem>> {
        rules("example.com/state", path)
            .unwrap()
            .pick(status)
            .remove("example.com/state")
    }

    #[test]
    fn a_path_is_written_as_kubectl_writes_it() {
        let status =
            json!({ "a": { "b": [{ "c.d": "x" }, { "c.d": 7 }], "ok": true }, "gone": null, "no": "" });
        for path in ["{.a.b[0]['c.d']}", "{ $.a.b[0]['c.d'] }", ".a.b[0]['c.d']"] {
            assert_eq!(picked(path, &status), Some(Ok("x".to_owned())), "{path}");
        }
        assert_eq!(picked("{.a.b[1]['c.d']}", &status), Some(Ok("7".to_owned())));
        assert_eq!(picked("{.a.ok}", &status), Some(Ok("true".to_owned())));
        for missing in ["{.a.c}", "{.a.b[2]}", "{.gone}", "{.no}", "{.a.ok.deeper}"] {
            assert_eq!(picked(missing, &status), None, "{missing}");
        }
    }

    #[test]
    fn what_no_label_can_hold_is_told_and_not_dropped() {
        let status = json!({ "list": [], "uri": "s3://bucket/cp-7", "long": "x".repeat(64), "edge": "-x" });
        assert_eq!(picked("{.list}", &status), Some(Err(StateProblem::NotScalar)));
        assert_eq!(picked("{.uri}", &status), Some(Err(StateProblem::NotALabelValue)));
        assert_eq!(
            picked("{.edge}", &status),
            Some(Err(StateProblem::NotALabelValue))
        );
        assert_eq!(
            picked("{.long}", &status),
            Some(Err(StateProblem::TooLong { bytes: 64 }))
        );
    }

    #[test]
    fn a_rule_that_cannot_be_used_is_refused() {
        for path in [
            "",
            "{}",
            "{.a",
            ".a}",
            "a.b",
            "{.a[*]}",
            "{..a}",
            "{.a[?(@.b)]}",
            "{.a[-1]}",
            "{.a['b}",
            "{.a[+1]}",
        ] {
            assert!(
                matches!(rules("a", path), Err(StateRuleError::Path { .. })),
                "{path}"
            );
        }
        let long = "a".repeat(64);
        for label in [
            "",
            "-a",
            "a b",
            "/a",
            "A.b/c",
            "a/b/c",
            "kurator.dev/hub",
            "x.kurator.dev/y",
            &long,
        ] {
            assert!(
                matches!(rules(label, "{.a}"), Err(StateRuleError::Label { .. })),
                "{label}"
            );
        }
        let rule = StatePreservationRule {
            alias_label_name: "a".to_owned(),
            json_path: "{.a}".to_owned(),
        };
        let twice = StatePreservation {
            rules: vec![rule.clone(), rule.clone()],
        };
        assert!(matches!(
            StateRules::compile(&twice),
            Err(StateRuleError::Label { .. })
        ));
        let many = StatePreservation {
            rules: vec![rule; MAX_STATE_RULES + 1],
        };
        assert_eq!(
            StateRules::compile(&many),
            Err(StateRuleError::TooMany {
                count: MAX_STATE_RULES + 1
            })
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_stumble(label in ".{0,80}", path in "[{}.$\\[\\]'a-z0-9*? -]{0,20}", value in ".{0,80}") {
            if let Ok(rules) = rules(&label, &path) {
                let _ = rules.pick(&json!({ "a": [value.clone()] }));
            }
            if let Some(Ok(text)) = picked("{.a}", &json!({ "a": value })) {
                prop_assert!(text.len() <= 63 && is_name(&text));
            }
        }
    }
}
