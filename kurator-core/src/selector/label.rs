//! Label selectors.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::core::{Expression, Selector, SelectorExt};

use crate::names::MAX_LABEL;

/// The longest DNS subdomain, and so the longest prefix of a label key.
const MAX_PREFIX: usize = 253;

/// A label selector the API server would refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectorError {
    /// A key that no label can have.
    #[error("label key {key:?} is not valid at byte {offset}: expected {expected}")]
    Key {
        /// The key.
        key: String,
        /// Byte offset of the first offence.
        offset: usize,
        /// What would have been accepted there.
        expected: &'static str,
    },
    /// An operator that needs values has none.
    #[error("operator {operator} on label {key:?} needs at least one value")]
    NoValues {
        /// The key.
        key: String,
        /// The operator.
        operator: String,
    },
    /// An operator other than `In`, `NotIn`, `Exists` and `DoesNotExist`.
    #[error("operator {operator:?} on label {key:?} is not known: use In, NotIn, Exists or DoesNotExist")]
    Operator {
        /// The key.
        key: String,
        /// The operator.
        operator: String,
    },
    /// A value that no label can have.
    #[error("value {value:?} for label {key:?} is not valid at byte {offset}: expected {expected}")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// Byte offset of the first offence.
        offset: usize,
        /// What would have been accepted there.
        expected: &'static str,
    },
    /// An operator that takes no values has some.
    #[error("operator {operator} on label {key:?} takes no values")]
    Values {
        /// The key.
        key: String,
        /// The operator.
        operator: String,
    },
}

/// A label selector that has been checked.
///
/// # Semantics
/// Those of the API server: all requirements must hold; an empty selector matches everything, and one that is not
/// there matches nothing; `NotIn` and `DoesNotExist` hold where the label is missing. Its `Display` is the form
/// list and watch requests take; nothing is sent for a matcher of everything, and one of nothing has no such form
/// (see [`LabelMatcher::selector`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelMatcher {
    /// `None` matches nothing.
    selector: Option<Selector>,
}

impl LabelMatcher {
    /// Matches every set of labels.
    pub fn everything() -> Self {
        Self {
            selector: Some(Selector::default()),
        }
    }

    /// Matches no set of labels.
    pub fn nothing() -> Self {
        Self { selector: None }
    }

    /// Checks a selector; an empty one matches everything.
    ///
    /// # Errors
    /// [`SelectorError`], naming the key, if the API server would refuse the selector.
    pub fn compile(selector: &LabelSelector) -> Result<Self, SelectorError> {
        let mut compiled = Selector::default();
        for (key, value) in selector.match_labels.iter().flatten() {
            check_key(key)?;
            check_value(key, value)?;
            compiled.extend(Expression::Equal(key.clone(), value.clone()));
        }
        for requirement in selector.match_expressions.iter().flatten() {
            compiled.extend(expression(requirement)?);
        }
        Ok(Self {
            selector: Some(compiled),
        })
    }

    /// Checks a selector that may not be there, in which case it matches nothing.
    ///
    /// # Errors
    /// As [`LabelMatcher::compile`].
    pub fn compile_optional(selector: Option<&LabelSelector>) -> Result<Self, SelectorError> {
        selector.map_or_else(|| Ok(Self::nothing()), Self::compile)
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.selector
            .as_ref()
            .is_some_and(|selector| selector.matches(labels))
    }

    /// The selector for list and watch requests; `None` if it matches nothing, so there is nothing to ask for.
    pub fn selector(&self) -> Option<&Selector> {
        self.selector.as_ref()
    }
}

impl fmt::Display for LabelMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.selector {
            Some(selector) => selector.fmt(f),
            None => f.write_str("<nothing>"),
        }
    }
}

fn expression(requirement: &LabelSelectorRequirement) -> Result<Expression, SelectorError> {
    let LabelSelectorRequirement {
        key,
        operator,
        values,
    } = requirement;
    check_key(key)?;
    let values = values.as_deref().unwrap_or_default();
    let some = || -> Result<BTreeSet<String>, SelectorError> {
        if values.is_empty() {
            return Err(SelectorError::NoValues {
                key: key.clone(),
                operator: operator.clone(),
            });
        }
        values
            .iter()
            .map(|value| check_value(key, value).map(|()| value.clone()))
            .collect()
    };
    let none = |expression| {
        if values.is_empty() {
            Ok(expression)
        } else {
            Err(SelectorError::Values {
                key: key.clone(),
                operator: operator.clone(),
            })
        }
    };
    match operator.as_str() {
        "In" => Ok(Expression::In(key.clone(), some()?)),
        "NotIn" => Ok(Expression::NotIn(key.clone(), some()?)),
        "Exists" => none(Expression::Exists(key.clone())),
        "DoesNotExist" => none(Expression::DoesNotExist(key.clone())),
        _ => Err(SelectorError::Operator {
            key: key.clone(),
            operator: operator.clone(),
        }),
    }
}

/// `[prefix/]name`: the prefix a DNS subdomain, the name 1 to 63 characters.
fn check_key(key: &str) -> Result<(), SelectorError> {
    let error = |offset, expected| {
        Err(SelectorError::Key {
            key: key.to_owned(),
            offset,
            expected,
        })
    };
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if let Some(prefix) = prefix {
        if prefix.len() > MAX_PREFIX {
            return error(MAX_PREFIX, "'/' after at most 253 characters");
        }
        let mut start = 0;
        for label in prefix.split('.') {
            if let Some(offset) = first_outside(
                label,
                |c| c.is_ascii_lowercase() || c.is_ascii_digit(),
                |c| c == '-',
            ) {
                return error(start + offset, "a DNS subdomain before '/'");
            }
            start += label.len() + 1;
        }
    }
    let start = key.len() - name.len();
    match word_offence(name) {
        Some((offset, expected)) => error(start + offset, expected),
        None if name.is_empty() => error(start, "a letter or a digit"),
        None => Ok(()),
    }
}

/// At most 63 characters, possibly none.
fn check_value(key: &str, value: &str) -> Result<(), SelectorError> {
    match word_offence(value) {
        Some((offset, expected)) => Err(SelectorError::Value {
            key: key.to_owned(),
            value: value.to_owned(),
            offset,
            expected,
        }),
        None => Ok(()),
    }
}

/// Offset and expectation of the first offence in the name of a label or its value; an empty one has none.
fn word_offence(word: &str) -> Option<(usize, &'static str)> {
    if word.is_empty() {
        return None;
    }
    let inner = |c| matches!(c, '-' | '_' | '.');
    if let Some(offset) = first_outside(word, |c| c.is_ascii_alphanumeric(), inner) {
        return Some((
            offset,
            "letters, digits, '-', '_' or '.', with a letter or a digit at both ends",
        ));
    }
    (word.len() > MAX_LABEL).then_some((MAX_LABEL, "the end: at most 63 characters"))
}

/// Offset of the first character that is neither an `edge` character nor an `inner` one inside; 0 if empty.
fn first_outside(word: &str, edge: impl Fn(char) -> bool, inner: impl Fn(char) -> bool) -> Option<usize> {
    if word.is_empty() {
        return Some(0);
    }
    word.char_indices()
        .find(|(offset, c)| {
            let at_edge = *offset == 0 || offset + c.len_utf8() == word.len();
            !(edge(*c) || (!at_edge && inner(*c)))
        })
        .map(|(offset, _)| offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requirement(key: &str, operator: &str, values: &[&str]) -> LabelSelector {
        LabelSelector {
            match_labels: None,
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: key.into(),
                operator: operator.into(),
                values: Some(values.iter().map(|value| (*value).into()).collect()),
            }]),
        }
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect()
    }

    #[test]
    fn an_empty_selector_matches_everything_and_a_missing_one_nothing() {
        let empty = LabelMatcher::compile_optional(Some(&LabelSelector::default())).unwrap();
        assert!(empty.matches(&labels(&[])) && empty.matches(&labels(&[("a", "b")])));
        let missing = LabelMatcher::compile_optional(None).unwrap();
        assert!(!missing.matches(&labels(&[])) && !missing.matches(&labels(&[("a", "b")])));
        assert!(missing.selector().is_none());
    }

    #[test]
    fn negative_operators_hold_where_the_label_is_missing() {
        for (operator, values, missing, other, same) in [
            ("In", &["x"][..], false, false, true),
            ("NotIn", &["x"][..], true, true, false),
            ("Exists", &[][..], false, true, true),
            ("DoesNotExist", &[][..], true, false, false),
        ] {
            let matcher = LabelMatcher::compile(&requirement("a", operator, values)).unwrap();
            assert_eq!(matcher.matches(&labels(&[])), missing, "{operator}");
            assert_eq!(matcher.matches(&labels(&[("a", "y")])), other, "{operator}");
            assert_eq!(matcher.matches(&labels(&[("a", "x")])), same, "{operator}");
        }
    }

    #[test]
    fn what_the_server_refuses_is_refused_naming_the_key() {
        let key = "example.com/tier";
        for (operator, values) in [
            ("In", &[][..]),
            ("NotIn", &[]),
            ("Exists", &["x"]),
            ("DoesNotExist", &["x"]),
            ("Gt", &["1"]),
            ("in", &["1"]),
            ("In", &["a b"]),
        ] {
            let error = LabelMatcher::compile(&requirement(key, operator, values)).unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
        }
    }

    #[test]
    fn the_grammar_of_keys_and_values_is_that_of_labels() {
        let ok = |selector: &LabelSelector| LabelMatcher::compile(selector).is_ok();
        let (long, longer) = ("x".repeat(63), "x".repeat(64));
        for key in ["a", "A_b.c-d", "example.com/a", "0/0", &long] {
            assert!(ok(&requirement(key, "Exists", &[])), "{key}");
        }
        for key in [
            "",
            "/",
            "a/",
            "/a",
            "a/b/c",
            "-a",
            "a-",
            "a b",
            "Example.com/a",
            "a..b/c",
            "\u{e9}",
            &longer,
        ] {
            assert!(!ok(&requirement(key, "Exists", &[])), "{key}");
        }
        assert!(ok(&requirement("a", "In", &["", "A_b.c-d", &long])));
        for value in ["-", "a-", "a/b", &longer] {
            assert!(!ok(&requirement("a", "In", &[value])), "{value}");
        }
    }

    #[test]
    fn the_offset_counts_from_the_start_of_the_key() {
        let error = LabelMatcher::compile(&requirement("example.com/a b", "Exists", &[])).unwrap_err();
        assert!(
            matches!(error, SelectorError::Key { offset: 13, .. }),
            "{error:?}"
        );
    }
}
