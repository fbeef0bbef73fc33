//! Which policy an object belongs to, when several select it.
//!
//! One object, one policy. Among policies that are there when an object comes, the highest priority wins, then the more
//! precise selector, then the smaller name. Whoever has an object keeps it: a policy that comes later, or whose
//! priority is raised, takes nothing over in silence. Only one that says so and has a strictly higher priority does,
//! and that is told. All sides learn of each other: see [`Claim::rivals`].

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

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
    /// Its explicit priority; 0 by default.
    pub priority: i32,
    /// Whether it takes objects away from policies of lower priority.
    pub preempts: bool,
    /// What it does not take away for now: it activates lazily, and these objects have not changed yet.
    pub waits_for: BTreeSet<ObjectKey>,
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
            priority: 0,
            preempts: false,
            waits_for: BTreeSet::new(),
            selectors,
        })
    }

    /// Sets the priority.
    #[must_use]
    pub fn with_priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Lets it take objects away from policies of lower priority.
    #[must_use]
    pub fn with_preemption(mut self) -> Self {
        self.preempts = true;
        self
    }

    /// Lets it wait for these objects to change before it takes them away.
    #[must_use]
    pub fn with_waiting(mut self, objects: BTreeSet<ObjectKey>) -> Self {
        self.waits_for = objects;
        self
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

    /// Higher priority first, then more precise, then by name.
    fn rank(&self, precision: Precision) -> (Reverse<i32>, Reverse<Precision>, &PolicyKey) {
        (Reverse(self.priority), Reverse(precision), &self.policy)
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
    /// The policy that had it until now, if the holder takes it over.
    pub taken_from: Option<PolicyKey>,
    /// The policy that takes it over once the object changes.
    pub awaited: Option<PolicyKey>,
}

/// The annotation on an object of the hub that says which policy has it; its value is [`PolicyKey::owner`]. The controller
/// writes it, unless its settings say otherwise, and it is not copied to members.
pub const CLAIMED_BY: &str = "policy.kurator.dev/claimed-by";

/// Decides for every template that is selected at all who it belongs to.
///
/// Policies that are being deleted claim nothing and are not to be among `claimants`. The order of neither input
/// reaches the result. Who has an object already is taken from the times at which the policies and the object were
/// created; where it is written down, use [`claims_held`].
#[must_use]
pub fn claims<'a>(
    claimants: &[Claimant],
    templates: impl IntoIterator<Item = &'a Template>,
) -> BTreeMap<ObjectKey, Claim> {
    claims_held(claimants, templates, &BTreeMap::new())
}

/// As [`claims`], where it is known who has what: `held` is by object, from its [annotation](CLAIMED_BY).
///
/// ```
/// use std::collections::BTreeMap;
/// use kurator_policy::propagate::{BuiltinKinds, Claimant, PolicyKey, Template, claims_held};
/// use serde_json::json;
///
/// let web = Template::of(
///     &json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "namespace": "shop" } }),
///     &BuiltinKinds,
/// )?;
/// let selector = serde_json::from_value(json!({ "apiVersion": "apps/v1", "kind": "Deployment" }))?;
/// let claimant = |name: &str| {
///     let policy = PolicyKey::new("policy.kurator.dev", "shop", name);
///     Claimant::new(policy, "2026-01-01T00:00:00Z".parse()?, std::slice::from_ref(&selector)).map_err(Box::<dyn std::error::Error>::from)
/// };
/// let (old, urgent) = (claimant("old")?, claimant("urgent")?.with_priority(10));
/// let held = BTreeMap::from([(web.key.clone(), old.policy.clone())]);
///
/// // A higher priority waits, until its policy says that it takes over.
/// let claim = &claims_held(&[old.clone(), urgent.clone()], [&web], &held)[&web.key];
/// assert_eq!((claim.holder.name.name.as_str(), claim.rivals.len()), ("old", 1));
/// let claim = &claims_held(&[old, urgent.with_preemption()], [&web], &held)[&web.key];
/// assert_eq!(claim.holder.name.name, "urgent");
/// assert_eq!(claim.taken_from.as_ref().map(|from| from.name.name.as_str()), Some("old"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn claims_held<'a>(
    claimants: &[Claimant],
    templates: impl IntoIterator<Item = &'a Template>,
    held: &BTreeMap<ObjectKey, PolicyKey>,
) -> BTreeMap<ObjectKey, Claim> {
    let mut claims = BTreeMap::new();
    for template in templates {
        let mut contenders: Vec<(&Claimant, Precision)> = claimants
            .iter()
            .filter_map(|claimant| Some((claimant, claimant.selects(template)?)))
            .collect();
        contenders.sort_by(|(a, of_a), (b, of_b)| a.rank(*of_a).cmp(&b.rank(*of_b)));
        let written = held.get(&template.key).and_then(|policy| {
            contenders
                .iter()
                .find(|(claimant, _)| claimant.policy == *policy)
                .map(|(claimant, _)| *claimant)
        });
        let Some(incumbent) = written.or_else(|| first(&contenders, template)) else {
            continue;
        };
        let mut challengers = contenders
            .iter()
            .map(|(claimant, _)| *claimant)
            .filter(|claimant| claimant.preempts && claimant.priority > incumbent.priority);
        let best = challengers.clone().next();
        let challenger = challengers.find(|claimant| !claimant.waits_for.contains(&template.key));
        let awaited = best.filter(|claimant| claimant.waits_for.contains(&template.key));
        let holder = challenger.unwrap_or(incumbent).policy.clone();
        // Without a record nobody knows whether it was taken over just now.
        let taken_from = (challenger.is_some() && written.is_some()).then(|| incumbent.policy.clone());
        let rivals = contenders
            .iter()
            .map(|(claimant, _)| claimant.policy.clone())
            .filter(|policy| *policy != holder)
            .collect();
        claims.insert(
            template.key.clone(),
            Claim {
                holder,
                rivals,
                taken_from,
                awaited: awaited.map(|claimant| claimant.policy.clone()),
            },
        );
    }
    claims
}

/// Who had an object first: the best of the policies that were there when it came, or the oldest of those that came
/// after it. The contenders are by rank.
fn first<'c>(contenders: &[(&'c Claimant, Precision)], template: &Template) -> Option<&'c Claimant> {
    let there = template.created.and_then(|created| {
        contenders
            .iter()
            .find(|(claimant, _)| claimant.created <= created)
    });
    // `min_by_key` takes the first of equals, which is the best.
    let first = there.or_else(|| contenders.iter().min_by_key(|(claimant, _)| claimant.created));
    first.map(|(claimant, _)| *claimant)
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
    fn of_policies_that_were_there_first_the_priority_decides_then_the_precision() {
        let mut web = template("web", "a");
        web.created = Some("2026-01-03T00:00:00Z".parse().unwrap());
        let wide = claimant("wide", EARLY, json!({}));
        let exact = claimant("exact", LATE, json!({ "name": "web" }));
        assert_eq!(
            holder(&[wide.clone(), exact.clone()], &web).as_deref(),
            Some("exact")
        );
        let wide = wide.with_priority(1);
        assert_eq!(holder(&[exact.clone(), wide], &web).as_deref(), Some("wide"));
        // One that came after the object waits, whatever its priority.
        let late = claimant("late", "2026-01-04T00:00:00Z", json!({})).with_priority(9);
        assert_eq!(
            holder(&[late.clone(), exact.clone()], &web).as_deref(),
            Some("exact")
        );
        assert_eq!(
            holder(&[late.with_preemption(), exact], &web).as_deref(),
            Some("late")
        );
    }

    #[test]
    fn only_a_strictly_higher_priority_takes_over_and_that_is_told() {
        let web = template("web", "a");
        let held = |name: &str| {
            BTreeMap::from([(
                web.key.clone(),
                PolicyKey::new("policy.kurator.dev", "shop", name),
            )])
        };
        let old = claimant("old", LATE, json!({})).with_priority(3);
        let of = |priority: i32, preempts: bool| {
            let new = claimant("new", EARLY, json!({ "name": "web" })).with_priority(priority);
            let new = if preempts { new.with_preemption() } else { new };
            let claim = claims_held(&[old.clone(), new], [&web], &held("old"))
                .remove(&web.key)
                .unwrap();
            (
                claim.holder.name.name,
                claim.taken_from.map(|from| from.name.name),
            )
        };
        assert_eq!(of(9, false), ("old".to_owned(), None));
        assert_eq!(of(3, true), ("old".to_owned(), None));
        assert_eq!(of(4, true), ("new".to_owned(), Some("old".to_owned())));
        // A record of a policy that does not select the object any more says nothing.
        let claim = claims_held(&[old], [&web], &held("gone"))
            .remove(&web.key)
            .unwrap();
        assert_eq!(
            (claim.holder.name.name, claim.taken_from),
            ("old".to_owned(), None)
        );
    }

    #[test]
    fn one_that_activates_lazily_takes_over_what_it_does_not_wait_for() {
        let web = template("web", "a");
        let old = claimant("old", EARLY, json!({}));
        let new = claimant("new", LATE, json!({}))
            .with_priority(1)
            .with_preemption();
        let waits = new.clone().with_waiting([web.key.clone()].into());
        let of = |claimants: &[Claimant]| {
            let claim = claims(claimants, [&web]).remove(&web.key).unwrap();
            (
                claim.holder.name.name,
                claim.awaited.map(|awaited| awaited.name.name),
            )
        };
        assert_eq!(
            of(&[old.clone(), waits.clone()]),
            ("old".to_owned(), Some("new".to_owned()))
        );
        assert_eq!(of(&[old.clone(), new]), ("new".to_owned(), None));
        // Nobody else has it, so there is nothing to wait for.
        assert_eq!(of(&[waits]), ("new".to_owned(), None));
    }

    #[test]
    fn a_policy_does_not_look_outside_its_namespace() {
        let mut other = claimant("a", EARLY, json!({}));
        other.policy.name.namespace = "other".into();
        assert_eq!(holder(&[other], &template("web", "a")), None);
    }
}
