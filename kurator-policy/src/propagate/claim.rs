//! Which policy an object belongs to, when several select it.
//!
//! One object, one policy. The older policy keeps what it has, so a new one never takes anything over in silence;
//! among policies of the same second the more precise selector wins, then the smaller name. Both sides learn of
//! each other: see [`Claim::rivals`].

use std::{cmp::Reverse, collections::BTreeMap};

use jiff::Timestamp;
use kurator_core::selector::{LabelMatcher, SelectorError};

use super::{ObjectKey, ObjectKind, PolicyKey, Template};
use crate::api::ResourceSelector;

/// A policy as far as its claims go.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Claimant {
    /// Which policy.
    pub policy: PolicyKey,
    /// When the policy was created.
    pub created: Timestamp,
    selectors: Vec<Compiled>,
}

#[derive(Clone, Debug)]
struct Compiled {
    kind: ObjectKind,
    name: Option<String>,
    labels: Option<LabelMatcher>,
}

impl Claimant {
    /// A policy that selects these objects of its namespace.
    ///
    /// # Errors
    /// [`SelectorError`] for a label selector that an API server would refuse too.
    pub fn new(
        policy: PolicyKey,
        created: Timestamp,
        selectors: &[ResourceSelector],
    ) -> Result<Self, SelectorError> {
        let selectors = selectors
            .iter()
            .map(|selector| {
                Ok(Compiled {
                    kind: ObjectKind::new(&selector.api_version, &selector.kind),
                    name: selector.name.clone(),
                    labels: selector
                        .label_selector
                        .as_ref()
                        .map(LabelMatcher::compile)
                        .transpose()?,
                })
            })
            .collect::<Result<_, SelectorError>>()?;
        Ok(Self {
            policy,
            created,
            selectors,
        })
    }

    /// The kinds it selects from.
    pub fn kinds(&self) -> impl Iterator<Item = &ObjectKind> {
        self.selectors.iter().map(|selector| &selector.kind)
    }

    /// How precisely the policy selects a template; `None` if it does not.
    #[must_use]
    pub fn selects(&self, template: &Template) -> Option<Precision> {
        if template.key.name.namespace != self.policy.name.namespace {
            return None;
        }
        self.selectors
            .iter()
            .filter_map(|selector| selector.matches(template))
            .max()
    }

    /// Older first, then more precise, then by name.
    fn rank(&self, precision: Precision) -> (Timestamp, Reverse<Precision>, &PolicyKey) {
        (self.created, Reverse(precision), &self.policy)
    }
}

impl Compiled {
    fn matches(&self, template: &Template) -> Option<Precision> {
        if self.kind != template.key.kind {
            return None;
        }
        match (&self.name, &self.labels) {
            (Some(name), _) => (*name == template.key.name.name).then_some(Precision::Name),
            (None, Some(labels)) => labels.matches(&template.labels).then_some(Precision::Labels),
            (None, None) => Some(Precision::Kind),
        }
    }
}

/// How precisely a selector names an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a selector has a kind, perhaps labels, perhaps a name"
)]
pub enum Precision {
    /// Every object of the kind.
    Kind,
    /// By its labels.
    Labels,
    /// By its name.
    Name,
}

/// Who an object belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claim {
    /// The policy that distributes it.
    pub holder: PolicyKey,
    /// Policies that select it as well and wait, by rank.
    pub rivals: Vec<PolicyKey>,
}

/// Decides for every template that is selected at all who it belongs to.
///
/// Policies that are being deleted claim nothing and are not to be among `claimants`. The order of neither input
/// reaches the result.
#[must_use]
pub fn claims<'a>(
    claimants: &[Claimant],
    templates: impl IntoIterator<Item = &'a Template>,
) -> BTreeMap<ObjectKey, Claim> {
    let mut claims = BTreeMap::new();
    for template in templates {
        let mut contenders: Vec<_> = claimants
            .iter()
            .filter_map(|claimant| Some(claimant.rank(claimant.selects(template)?)))
            .collect();
        contenders.sort();
        let mut policies = contenders.into_iter().map(|(_, _, policy)| policy.clone());
        if let Some(holder) = policies.next() {
            claims.insert(
                template.key.clone(),
                Claim {
                    holder,
                    rivals: policies.collect(),
                },
            );
        }
    }
    claims
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::propagate::BuiltinKinds;

    fn template(name: &str, app: &str) -> Template {
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": name, "namespace": "shop", "labels": { "app": app } },
        });
        Template::of(&object, &BuiltinKinds).unwrap()
    }

    fn claimant(name: &str, created: &str, selector: serde_json::Value) -> Claimant {
        let mut selector = selector;
        selector["apiVersion"] = json!("apps/v1");
        selector["kind"] = json!("Deployment");
        let selector = serde_json::from_value(selector).unwrap();
        let policy = PolicyKey::new("policy.kurator.dev", "shop", name);
        Claimant::new(policy, created.parse().unwrap(), &[selector]).unwrap()
    }

    fn holder(claimants: &[Claimant], template: &Template) -> Option<String> {
        claims(claimants, [template])
            .remove(&template.key)
            .map(|claim| claim.holder.name.name)
    }

    const EARLY: &str = "2026-01-01T00:00:00Z";
    const LATE: &str = "2026-01-02T00:00:00Z";

    #[test]
    fn a_new_policy_takes_nothing_over() {
        let wide = claimant("wide", EARLY, json!({}));
        let exact = claimant("exact", LATE, json!({ "name": "web" }));
        let claims = claims(&[exact, wide], [&template("web", "a")]);
        let claim = claims.values().next().unwrap();
        assert_eq!(claim.holder.name.name, "wide");
        assert_eq!(
            claim
                .rivals
                .iter()
                .map(|rival| rival.name.name.as_str())
                .collect::<Vec<_>>(),
            ["exact"]
        );
    }

    #[test]
    fn of_the_same_second_the_more_precise_wins_then_the_smaller_name() {
        let kind = claimant("a", EARLY, json!({}));
        let labels = claimant(
            "b",
            EARLY,
            json!({ "labelSelector": { "matchLabels": { "app": "a" } } }),
        );
        let name = claimant("c", EARLY, json!({ "name": "web" }));
        let web = template("web", "a");
        assert_eq!(
            holder(&[kind.clone(), labels.clone(), name], &web).as_deref(),
            Some("c")
        );
        assert_eq!(
            holder(&[kind.clone(), labels.clone()], &web).as_deref(),
            Some("b")
        );
        assert_eq!(
            holder(&[labels, kind], &template("web", "other")).as_deref(),
            Some("a")
        );
        assert_eq!(
            holder(
                &[claimant("y", EARLY, json!({})), claimant("x", EARLY, json!({}))],
                &web
            )
            .as_deref(),
            Some("x")
        );
    }

    #[test]
    fn a_policy_does_not_look_outside_its_namespace() {
        let mut other = claimant("a", EARLY, json!({}));
        other.policy.name.namespace = "other".into();
        assert_eq!(holder(&[other], &template("web", "a")), None);
    }
}
