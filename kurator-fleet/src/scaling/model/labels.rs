//! Labels, and selectors over them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::symbols::{Sym, Symbols};

/// Labels sorted by key symbol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Labels(pub(crate) Box<[(Sym, Sym)]>);

impl Labels {
    pub(crate) fn new(labels: Option<&BTreeMap<String, String>>, symbols: &mut Symbols) -> Self {
        let Some(labels) = labels else {
            return Self::default();
        };
        // Of the exact size, so that it is not copied once more.
        let mut pairs = Vec::with_capacity(labels.len());
        pairs.extend(
            labels
                .iter()
                .map(|(key, value)| (symbols.intern(key), symbols.intern(value))),
        );
        pairs.sort_unstable();
        Self(pairs.into_boxed_slice())
    }

    pub(crate) fn get(&self, key: Sym) -> Option<Sym> {
        let at = self.0.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        self.0.get(at).map(|(_, value)| *value)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Operator {
    DoesNotExist,
    Exists,
    In,
    NotIn,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Requirement {
    pub(crate) key: Sym,
    pub(crate) operator: Operator,
    pub(crate) values: Box<[Sym]>,
}

impl Requirement {
    pub(crate) fn matches(&self, labels: &Labels) -> bool {
        match (self.operator, labels.get(self.key)) {
            (Operator::DoesNotExist, value) => value.is_none(),
            (Operator::Exists, value) => value.is_some(),
            (Operator::In, value) => value.is_some_and(|value| self.values.contains(&value)),
            (Operator::NotIn, value) => value.is_none_or(|value| !self.values.contains(&value)),
        }
    }
}

/// A label selector; without requirements it selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Selector(pub(crate) Box<[Requirement]>);

impl Selector {
    /// # Errors
    /// What the API server would refuse about it.
    pub(crate) fn new(selector: &LabelSelector, symbols: &mut Symbols) -> Result<Self, String> {
        let mut all = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            check_key(key)?;
            check_value(value)?;
            all.push(Requirement {
                key: symbols.intern(key),
                operator: Operator::In,
                values: [symbols.intern(value)].into(),
            });
        }
        for expression in selector.match_expressions.iter().flatten() {
            check_key(&expression.key)?;
            let values = expression.values.as_deref().unwrap_or_default();
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(format!(
                        "operator {other:?} of key {:?} is none of In, NotIn, Exists, DoesNotExist",
                        expression.key
                    ));
                }
            };
            let wants_values = matches!(operator, Operator::In | Operator::NotIn);
            if wants_values == values.is_empty() {
                let rule = if wants_values {
                    "needs values"
                } else {
                    "takes no values"
                };
                return Err(format!(
                    "{} on key {:?} {rule}",
                    expression.operator, expression.key
                ));
            }
            for value in values {
                check_value(value)?;
            }
            let mut values: Vec<_> = values.iter().map(|value| symbols.intern(value)).collect();
            values.sort_unstable();
            values.dedup();
            all.push(Requirement {
                key: symbols.intern(&expression.key),
                operator,
                values: values.into_boxed_slice(),
            });
        }
        Ok(Self::from_requirements(all))
    }

    pub(crate) fn from_requirements(mut all: Vec<Requirement>) -> Self {
        all.sort_unstable();
        all.dedup();
        Self(all.into_boxed_slice())
    }

    /// This selector, and those labels equal to `labels`' own: what `matchLabelKeys` means.
    pub(crate) fn narrowed(self, keys: &[Sym], labels: &Labels) -> Self {
        let mut all = self.0.into_vec();
        for key in keys {
            if let Some(value) = labels.get(*key) {
                all.push(Requirement {
                    key: *key,
                    operator: Operator::In,
                    values: [value].into(),
                });
            }
        }
        Self::from_requirements(all)
    }

    pub(crate) fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.matches(labels))
    }

    /// The pairs of which a selected object has at least one, if the selector asks for a value at all: the key of
    /// an index.
    pub(crate) fn anchor(&self) -> Option<impl Iterator<Item = (Sym, Sym)>> {
        self.0
            .iter()
            .filter(|requirement| requirement.operator == Operator::In)
            .min_by_key(|requirement| requirement.values.len())
            .map(|requirement| requirement.values.iter().map(|value| (requirement.key, *value)))
    }
}

/// A label key: an optional DNS prefix, a slash, and a name of at most 63 characters.
fn check_key(key: &str) -> Result<(), String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let dns = |prefix: &str| {
        !prefix.is_empty()
            && prefix.len() <= 253
            && prefix.split('.').all(|part| {
                !part.is_empty()
                    && part
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                    && !part.starts_with('-')
                    && !part.ends_with('-')
            })
    };
    if prefix.is_some_and(|prefix| !dns(prefix)) || name.is_empty() || !is_name(name) {
        return Err(format!("{key:?} is not a label key"));
    }
    Ok(())
}

fn check_value(value: &str) -> Result<(), String> {
    if value.is_empty() || is_name(value) {
        Ok(())
    } else {
        Err(format!("{value:?} is not a label value"))
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= 63
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

    use super::*;

    fn expression(key: &str, operator: &str, values: &[&str]) -> LabelSelector {
        LabelSelector {
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: key.into(),
                operator: operator.into(),
                values: Some(values.iter().map(ToString::to_string).collect()),
            }]),
            ..LabelSelector::default()
        }
    }

    #[test]
    fn every_operator_means_what_the_api_says() {
        let mut symbols = Symbols::default();
        let labels = Labels::new(
            Some(&BTreeMap::from([("app".into(), "web".into())])),
            &mut symbols,
        );
        for (key, operator, values, expected) in [
            ("app", "In", &["web", "db"][..], true),
            ("app", "In", &["db"][..], false),
            ("tier", "In", &["db"][..], false),
            ("app", "NotIn", &["web"][..], false),
            ("tier", "NotIn", &["web"][..], true),
            ("app", "Exists", &[][..], true),
            ("tier", "Exists", &[][..], false),
            ("tier", "DoesNotExist", &[][..], true),
        ] {
            let selector = Selector::new(&expression(key, operator, values), &mut symbols).unwrap();
            assert_eq!(selector.matches(&labels), expected, "{key} {operator} {values:?}");
        }
    }

    #[test]
    fn what_the_api_server_refuses_is_refused() {
        let mut symbols = Symbols::default();
        for (key, operator, values) in [
            ("app", "In", &[][..]),
            ("app", "Exists", &["x"][..]),
            ("app", "Like", &["x"][..]),
            ("not a key", "Exists", &[][..]),
            ("app", "In", &["not a value!"][..]),
        ] {
            assert!(Selector::new(&expression(key, operator, values), &mut symbols).is_err());
        }
    }

    #[test]
    fn an_empty_selector_selects_everything_and_has_no_anchor() {
        let selector = Selector::default();
        assert!(selector.matches(&Labels::default()));
        assert!(selector.anchor().is_none());
    }
}
