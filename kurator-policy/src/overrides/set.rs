use std::collections::BTreeMap;

use kurator_core::observe::ClusterView;
use serde_json::Value;

use crate::api::{OverridePolicy, OverrideRule};

use super::{
    Dialect,
    compile::{CompiledRule, compile_rules},
    draft::{Author, Draft},
    error::OverrideError,
    fault::Fault,
    report::{OverrideReport, PolicyName},
    select::{Identity, ObjectMatcher, Precision, SelectorSource},
};

/// A policy to be compiled, of either dialect: an [`OverridePolicy`], or one of Karmada's that
/// [`karmada`](super::karmada) has read.
#[derive(Clone, Debug)]
pub struct OverrideSource {
    pub(super) dialect: Dialect,
    pub(super) name: PolicyName,
    pub(super) priority: i32,
    /// Nothing means every object.
    pub(super) selectors: Option<Vec<SelectorSource>>,
    pub(super) rules: Vec<OverrideRule>,
}

impl From<&OverridePolicy> for OverrideSource {
    fn from(policy: &OverridePolicy) -> Self {
        let namespace = policy.metadata.namespace.as_deref();
        let selectors = policy
            .spec
            .resource_selectors
            .iter()
            .map(|selector| SelectorSource {
                api_version: selector.api_version.clone(),
                kind: selector.kind.clone(),
                namespace: None,
                name: selector.name.clone(),
                labels: selector.label_selector.clone(),
            });
        Self {
            dialect: Dialect::Kurator,
            name: PolicyName::new(namespace, policy.metadata.name.as_deref().unwrap_or_default()),
            priority: policy.spec.priority.unwrap_or_default(),
            selectors: Some(selectors.collect()),
            rules: policy.spec.override_rules.clone(),
        }
    }
}

/// Override policies, compiled once and applied to any number of objects and clusters.
///
/// # Guarantees
/// - The order in which policies are given does not matter.
/// - [`render`](Self::render) changes nothing in what it is given, and gives a whole object or an error.
/// - An object that a policy with an error selects is refused, not distributed without the policy.
/// - No input panics.
///
/// # Caveats
/// A policy without a namespace, as one that was never applied to a server, selects objects without one.
#[derive(Debug, Default)]
pub struct OverrideSet {
    /// Sorted by name.
    policies: Vec<CompiledPolicy>,
    /// By API version and kind: the policies with a selector of that kind, and the selector.
    by_kind: BTreeMap<String, BTreeMap<String, Vec<(usize, ObjectMatcher)>>>,
    /// Policies that select every object.
    everything: Vec<usize>,
    errors: Vec<OverrideError>,
}

#[derive(Debug)]
struct CompiledPolicy {
    name: PolicyName,
    dialect: Dialect,
    priority: i32,
    rules: Result<Vec<CompiledRule>, OverrideError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Cluster,
    Namespace,
}

/// An object as it is to be in one cluster, and how it came to be so.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[must_use]
pub struct Rendered {
    /// The object.
    pub object: Value,
    /// Who changed what.
    pub report: OverrideReport,
}

impl OverrideSet {
    /// Compiles policies. One that cannot be read is kept with its error, see [`errors`](Self::errors).
    #[must_use]
    pub fn compile<S: Into<OverrideSource>>(policies: impl IntoIterator<Item = S>) -> Self {
        let mut sources: Vec<OverrideSource> = policies.into_iter().map(Into::into).collect();
        sources.sort_by(|a, b| {
            let key = |source: &OverrideSource| (source.name.clone(), source.dialect);
            a.name.name().cmp(b.name.name()).then_with(|| key(a).cmp(&key(b)))
        });
        let mut set = Self::default();
        for source in &sources {
            set.add(source);
        }
        set
    }

    fn add(&mut self, source: &OverrideSource) {
        let number = self.policies.len();
        let name = source.name.clone();
        let mut rules = compile_rules(&name, &source.rules, source.dialect);
        match &source.selectors {
            None => self.everything.push(number),
            Some(selectors) => {
                for (place, selector) in selectors.iter().enumerate() {
                    let matcher = match ObjectMatcher::compile(selector, source.dialect) {
                        Ok(matcher) => matcher,
                        Err(error) => {
                            rules = Err(OverrideError::Objects {
                                policy: name.clone(),
                                selector: place,
                                source: Box::new(error),
                            });
                            // Whatever it was meant to select is of this kind.
                            ObjectMatcher::everything()
                        }
                    };
                    let kinds = self.by_kind.entry(selector.api_version.clone()).or_default();
                    kinds
                        .entry(selector.kind.clone())
                        .or_default()
                        .push((number, matcher));
                }
            }
        }
        if let Err(error) = &rules {
            self.errors.push(error.clone());
        }
        self.policies.push(CompiledPolicy {
            name,
            dialect: source.dialect,
            priority: source.priority,
            rules,
        });
    }

    /// What cannot be read, one error a policy.
    #[must_use]
    pub fn errors(&self) -> &[OverrideError] {
        &self.errors
    }

    /// How many policies there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.policies.len()
    }

    /// Whether there is no policy.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// The object as it is to be in this cluster.
    ///
    /// # Errors
    /// [`OverrideError`] naming policy, rule and path: a policy that selects the object cannot be read, or one of
    /// its changes does not fit.
    pub fn render(&self, object: &Value, cluster: &ClusterView) -> Result<Rendered, OverrideError> {
        let changed = self.change(object, cluster)?;
        Ok(changed.unwrap_or_else(|| Rendered {
            object: object.clone(),
            report: OverrideReport::default(),
        }))
    }

    /// The same; `None` if no rule concerns the object in this cluster, so that it is what it was.
    pub(crate) fn change(
        &self,
        object: &Value,
        cluster: &ClusterView,
    ) -> Result<Option<Rendered>, OverrideError> {
        let identity = Identity::of(object, Dialect::Kurator);
        for (there, what) in [
            (object.is_object(), "another value"),
            (!identity.kind.is_empty(), "one without a kind"),
            (!identity.api_version.is_empty(), "one without an apiVersion"),
        ] {
            if !there {
                return Err(OverrideError::NotAnObject { what });
            }
        }
        if self.policies.is_empty() {
            return Ok(None);
        }
        // Only Karmada has policies of the cluster scope.
        let cluster_wide = self.work(&[Identity::of(object, Dialect::Karmada)], Scope::Cluster, cluster)?;
        // What those made of the object is what Karmada's namespaced policies select by, labels included.
        let namespaced = |changed: &Value| {
            let before = Identity::of(object, Dialect::Kurator);
            let changed = Identity::of(changed, Dialect::Karmada);
            self.work(&[before, changed], Scope::Namespace, cluster)
        };
        if cluster_wide.is_empty() && namespaced(object)?.is_empty() {
            return Ok(None);
        }
        let mut draft = Draft::new(object.clone());
        if !cluster_wide.is_empty() {
            draft.keep_claims();
        }
        apply(&mut draft, &identity, cluster, &cluster_wide)?;
        let namespaced = namespaced(&draft.root)?;
        let mut names = namespaced.iter().map(|(policy, _)| &policy.name);
        let first = names.next();
        if names.any(|name| Some(name) != first) {
            draft.keep_claims();
        }
        apply(&mut draft, &identity, cluster, &namespaced)?;
        Ok(Some(Rendered {
            object: draft.root,
            report: draft.report,
        }))
    }

    /// The rules that concern an object and a cluster, in the order of their application. The object is given as
    /// the policies of each dialect see it.
    fn work(
        &self,
        object: &[Identity<'_>],
        scope: Scope,
        cluster: &ClusterView,
    ) -> Result<Vec<(&CompiledPolicy, &CompiledRule)>, OverrideError> {
        let mut selected: Vec<(&CompiledPolicy, Precision, usize)> = Vec::new();
        for seen in object {
            self.select(seen, scope, &mut selected);
        }
        selected.sort_by_key(|(policy, precision, number)| (policy.priority, *precision, *number));
        let mut work = Vec::new();
        for (policy, ..) in selected {
            let rules = policy.rules.as_ref().map_err(Clone::clone)?;
            let concerned = rules.iter().filter(|rule| {
                rule.clusters
                    .as_ref()
                    .is_none_or(|clusters| clusters.matches(cluster))
            });
            work.extend(concerned.map(|rule| (policy, rule)));
        }
        Ok(work)
    }

    fn select<'s>(
        &'s self,
        object: &Identity<'_>,
        scope: Scope,
        selected: &mut Vec<(&'s CompiledPolicy, Precision, usize)>,
    ) {
        let of_kind = self
            .by_kind
            .get(object.api_version)
            .and_then(|kinds| kinds.get(object.kind));
        let everything = self.everything.iter().map(|number| (*number, None));
        let candidates = of_kind
            .into_iter()
            .flatten()
            .map(|(number, matcher)| (*number, Some(matcher)));
        // Selectors of one policy follow one another.
        for (number, matcher) in candidates.chain(everything) {
            let Some(policy) = self
                .policies
                .get(number)
                .filter(|policy| policy.concerns(object, scope))
            else {
                continue;
            };
            let precision = matcher.map_or(Some(Precision::Kind), |matcher| matcher.precision(object));
            let Some(precision) = precision else { continue };
            match selected.last_mut() {
                Some((_, best, last)) if *last == number => *best = precision.max(*best),
                _ => selected.push((policy, precision, number)),
            }
        }
    }
}

impl CompiledPolicy {
    fn concerns(&self, object: &Identity<'_>, scope: Scope) -> bool {
        self.dialect == object.dialect
            && match (self.name.namespace(), self.dialect) {
                (None, Dialect::Karmada) => scope == Scope::Cluster,
                (namespace, _) => scope == Scope::Namespace && namespace == object.namespace,
            }
    }
}

fn apply<'p>(
    draft: &mut Draft<'p>,
    identity: &Identity<'_>,
    cluster: &ClusterView,
    work: &[(&'p CompiledPolicy, &'p CompiledRule)],
) -> Result<(), OverrideError> {
    for (policy, rule) in work {
        if draft.report.applied.last() != Some(&policy.name) {
            draft.report.applied.push(policy.name.clone());
        }
        for (step_name, step) in &rule.steps {
            draft.sign(Author {
                policy: &policy.name,
                rule: rule.number,
                step: step_name,
            });
            let done = step
                .apply(draft, policy.dialect)
                .and_then(|()| unchanged_identity(identity, &draft.root, policy.dialect));
            done.map_err(|fault| OverrideError::Apply {
                policy: policy.name.clone(),
                rule: rule.number,
                step: step_name.clone(),
                path: step.path(),
                object: describe(identity),
                cluster: cluster.name.to_string(),
                fault: Box::new(fault),
            })?;
        }
    }
    Ok(())
}

fn describe(object: &Identity<'_>) -> String {
    match object.namespace {
        Some(namespace) => format!("{} {namespace}/{}", object.kind, object.name),
        None => format!("{} {}", object.kind, object.name),
    }
}

/// A policy that could rename an object, or move it, could write what its namespace does not own. Karmada does not
/// look at it, but cannot go on without a kind.
fn unchanged_identity(before: &Identity<'_>, now: &Value, dialect: Dialect) -> Result<(), Fault> {
    let text = |path: &str| now.pointer(path).and_then(Value::as_str);
    if dialect == Dialect::Karmada {
        return match text("/kind") {
            Some(kind) if !kind.is_empty() => Ok(()),
            _ => Err(Fault::Identity { field: "/kind" }),
        };
    }
    let name = Some(before.name).filter(|name| !name.is_empty());
    for (field, before) in [
        ("/apiVersion", Some(before.api_version)),
        ("/kind", Some(before.kind)),
        ("/metadata/name", name),
        ("/metadata/namespace", before.namespace),
    ] {
        if text(field).filter(|text| !text.is_empty()) != before {
            return Err(Fault::Identity { field });
        }
    }
    Ok(())
}
