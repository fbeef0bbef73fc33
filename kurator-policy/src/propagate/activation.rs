//! When a changed policy begins to hold for an object.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::{ObjectKey, ResourceInterpreter, Template, revision};
use crate::api::{ActivatedObjects, Activation, Placement, PlacementInUse};

/// The most objects of which is recorded by what they were placed, about 50 bytes each. Those beyond, by name, are placed
/// by the policy as it stands.
pub const MAX_ACTIVATED: usize = 5_000;

/// The most bytes of placements that are recorded, the newest first. Objects whose placement is beyond stay where they
/// are until their template changes.
pub const MAX_RECORDED_PLACEMENTS: usize = 128 << 10;

/// What an object was last placed by, as it is recorded where a policy activates lazily.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Activated<'p> {
    /// The placement.
    pub placement: &'p Placement,
    /// The [revision](activation_revision) of the template it was placed with.
    pub revision: &'p str,
}

impl<'p> Activated<'p> {
    /// A template of this revision was placed so.
    #[must_use]
    pub fn new(placement: &'p Placement, revision: &'p str) -> Self {
        Self { placement, revision }
    }
}

/// The placement that holds for a template now, and whether a change of the policy waits for the template to change.
///
/// ```
/// use kurator_policy::api::{Activation, ClusterAffinity, Placement};
/// use kurator_policy::propagate::{Activated, active_placement};
///
/// let old = Placement::default();
/// let before = Activated::new(&old, "r1");
/// let mut changed = Placement::default();
/// changed.cluster_affinity = Some(ClusterAffinity::names(["a"]));
///
/// let lazy = Activation::Lazy;
/// assert_eq!(active_placement(lazy, &changed, Some(before), "r1"), (&old, true));
/// assert_eq!(active_placement(lazy, &changed, Some(before), "r2"), (&changed, false));
/// assert_eq!(active_placement(Activation::Immediate, &changed, Some(before), "r1"), (&changed, false));
/// ```
#[must_use]
pub fn active_placement<'p>(
    activation: Activation,
    current: &'p Placement,
    recorded: Option<Activated<'p>>,
    revision: &str,
) -> (&'p Placement, bool) {
    match (activation, recorded) {
        (Activation::Lazy, Some(recorded)) if recorded.revision == revision => {
            (recorded.placement, recorded.placement != current)
        }
        _ => (current, false),
    }
}

/// The revision of a template as activation counts it: a template that is only scaled has not changed.
#[must_use]
pub fn activation_revision(template: &Template, interpreter: &dyn ResourceInterpreter) -> String {
    if template.replicas.is_none() {
        return template.revision.clone();
    }
    let mut manifest = Value::clone(&template.manifest);
    interpreter.set_replicas(&template.key.kind, &mut manifest, 0);
    revision(&manifest)
}

/// Objects for which another placement holds than that of their policy as it stands; `None` where nobody knows any more
/// which, so that they stay where they are.
pub type Otherwise = BTreeMap<ObjectKey, Option<Arc<Placement>>>;

/// The placement that holds for an object of a policy with this placement; `None` if nobody knows.
pub(crate) fn holds_for<'p>(
    placement: &'p Placement,
    otherwise: &'p Otherwise,
    object: &ObjectKey,
) -> Option<&'p Placement> {
    match otherwise.get(object) {
        Some(other) => other.as_deref(),
        None => Some(placement),
    }
}

/// By which placement each object of a policy is placed.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Activations {
    /// The objects that wait for their template to change, with the placement that holds for them until then.
    pub otherwise: Arc<Otherwise>,
    /// The revision of each template today; empty if everything holds at once.
    revisions: BTreeMap<ObjectKey, String>,
    recorded: BTreeMap<ObjectKey, Record>,
}

#[derive(Clone, Debug)]
struct Record {
    revision: String,
    placement: String,
}

impl Activations {
    /// Decides for each template whether the policy as it stands holds for it, by what is `recorded`.
    pub fn of(
        activation: Activation,
        current: &Placement,
        recorded: &[PlacementInUse],
        templates: &[Template],
        interpreter: &dyn ResourceInterpreter,
    ) -> Self {
        if activation == Activation::Immediate {
            return Self::default();
        }
        let name = placement_revision(current);
        let older = recorded.iter().filter(|it| it.revision != name);
        let older: BTreeMap<&str, Option<Arc<Placement>>> = older
            .map(|it| {
                let text = it.placement.as_deref();
                let placement = text.and_then(|text| serde_json::from_str(text).ok());
                (it.revision.as_str(), placement.map(Arc::new))
            })
            .collect();
        let mut this = Self::default();
        let mut otherwise = Otherwise::new();
        let records = records(recorded);
        for template in templates {
            let key = &template.key;
            let revision = activation_revision(template, interpreter);
            let id = (&*key.kind.api_version, &*key.kind.kind, &*key.name.name);
            if let Some((of, placement)) = records.get(&id) {
                match older.get(placement) {
                    Some(Some(older)) => {
                        let before = Activated::new(older, of);
                        if active_placement(activation, current, Some(before), &revision).1 {
                            otherwise.insert(key.clone(), Some(Arc::clone(older)));
                        }
                    }
                    Some(None) if *of == revision => {
                        otherwise.insert(key.clone(), None);
                    }
                    _ => {}
                }
                let record = Record {
                    revision: (*of).to_owned(),
                    placement: (*placement).to_owned(),
                };
                this.recorded.insert(key.clone(), record);
            }
            this.revisions.insert(key.clone(), revision);
        }
        this.otherwise = Arc::new(otherwise);
        this
    }

    /// The policy as it stands holds for every template, and that is recorded: a policy that takes objects away from
    /// others may activate lazily one day, and has what it has by then.
    pub fn immediate(templates: &[Template], interpreter: &dyn ResourceInterpreter) -> Self {
        let revisions = templates
            .iter()
            .map(|template| (template.key.clone(), activation_revision(template, interpreter)));
        Self {
            revisions: revisions.collect(),
            ..Self::default()
        }
    }

    /// What is to be recorded once the objects are placed, the policy's own placement first. Of an object that is not
    /// `placed` what was recorded before stays, so that the next change of the policy finds it waiting for nothing.
    #[must_use]
    pub fn record(
        &self,
        current: &Placement,
        recorded: &[PlacementInUse],
        placed: impl Fn(&ObjectKey) -> bool,
    ) -> Vec<PlacementInUse> {
        let name = placement_revision(current);
        let mut groups: BTreeMap<&str, Vec<(&ObjectKey, &str)>> = BTreeMap::new();
        for (key, revision) in self.revisions.iter().take(MAX_ACTIVATED) {
            let (placement, revision) = match self.recorded.get(key) {
                Some(before) if self.otherwise.contains_key(key) || !placed(key) => {
                    (before.placement.as_str(), before.revision.as_str())
                }
                None if !placed(key) => continue,
                _ => (name.as_str(), revision.as_str()),
            };
            groups.entry(placement).or_default().push((key, revision));
        }
        let text = serde_json::to_string(current).ok();
        let older = recorded.iter().filter(|it| it.revision != name);
        let older = older.map(|it| (it.revision.as_str(), it.placement.clone()));
        let mut room = MAX_RECORDED_PLACEMENTS;
        std::iter::once((name.as_str(), text))
            .chain(older)
            .filter_map(|(revision, text)| {
                let objects = groups.remove(revision)?;
                let fits = text.as_ref().and_then(|text| room.checked_sub(text.len()));
                room = fits.unwrap_or(0);
                Some(PlacementInUse {
                    revision: revision.to_owned(),
                    placement: text.filter(|_| fits.is_some()),
                    waiting: revision != name,
                    objects: listed(&objects),
                })
            })
            .collect()
    }
}

/// The name of a placement.
#[must_use]
pub fn placement_revision(placement: &Placement) -> String {
    revision(&serde_json::to_value(placement).unwrap_or_default())
}

/// The revisions of template and placement, by version, kind and name.
fn records(recorded: &[PlacementInUse]) -> BTreeMap<(&str, &str, &str), (&str, &str)> {
    let mut records = BTreeMap::new();
    for placement in recorded {
        for of_kind in &placement.objects {
            for (name, revision) in &of_kind.templates {
                let id = (&*of_kind.api_version, &*of_kind.kind, name.as_str());
                records.insert(id, (revision.as_str(), placement.revision.as_str()));
            }
        }
    }
    records
}

/// Objects as the status lists them, from their revisions; they come by kind.
pub(crate) fn listed(objects: &[(&ObjectKey, &str)]) -> Vec<ActivatedObjects> {
    let mut kinds: Vec<ActivatedObjects> = Vec::new();
    for (key, revision) in objects {
        let (api_version, kind) = (&key.kind.api_version, &key.kind.kind);
        let entry = (key.name.name.clone(), (*revision).to_owned());
        match kinds.last_mut() {
            Some(last) if last.api_version == *api_version && last.kind == *kind => {
                last.templates.extend([entry]);
            }
            _ => kinds.push(ActivatedObjects {
                api_version: api_version.clone(),
                kind: kind.clone(),
                templates: [entry].into(),
            }),
        }
    }
    kinds
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{api::ClusterAffinity, propagate::BuiltinKinds};

    fn web(name: &str, replicas: u32, image: &str) -> Template {
        let container = json!({ "name": "web", "image": image });
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name, "namespace": "shop" },
            "spec": { "replicas": replicas, "template": { "spec": { "containers": [container] } } },
        });
        Template::of(&object, &BuiltinKinds).unwrap()
    }

    fn to(cluster: &str) -> Placement {
        Placement {
            cluster_affinity: Some(ClusterAffinity::names([cluster])),
            ..Placement::default()
        }
    }

    /// A pass of a lazy policy: where each object goes, and what is recorded then.
    fn pass(
        current: &Placement,
        recorded: &[PlacementInUse],
        templates: &[Template],
        placed: bool,
    ) -> (Vec<String>, Vec<PlacementInUse>) {
        let pass = Activations::of(Activation::Lazy, current, recorded, templates, &BuiltinKinds);
        let goes = templates.iter().map(|template| {
            let placement = match pass.otherwise.get(&template.key) {
                Some(Some(older)) => older,
                Some(None) => return "stays".to_owned(),
                None => current,
            };
            placement
                .cluster_affinity
                .as_ref()
                .unwrap()
                .cluster_names
                .join(",")
        });
        (goes.collect(), pass.record(current, recorded, |_| placed))
    }

    #[test]
    fn each_object_changes_its_placement_with_its_template() {
        let (goes, first) = pass(&to("a"), &[], &[web("api", 1, "1"), web("web", 1, "1")], true);
        assert_eq!(goes, ["a", "a"]);
        assert_eq!((first.len(), first[0].waiting), (1, false));
        // Scaling is no change of the template.
        let (goes, second) = pass(&to("b"), &first, &[web("api", 5, "1"), web("web", 1, "2")], true);
        assert_eq!(goes, ["a", "b"]);
        assert_eq!(
            second.iter().map(|it| it.waiting).collect::<Vec<_>>(),
            [false, true]
        );
        assert_eq!(second[1].objects[0].templates.keys().collect::<Vec<_>>(), ["api"]);
        // One more change of the policy, before the first object changes.
        let (goes, third) = pass(&to("c"), &second, &[web("api", 5, "1"), web("web", 1, "2")], true);
        assert_eq!(goes, ["a", "b"]);
        let (goes, fourth) = pass(&to("c"), &third, &[web("api", 5, "2"), web("web", 1, "2")], true);
        assert_eq!((goes, fourth.len()), (vec!["c".to_owned(), "b".to_owned()], 2));
        // Changed back, nobody waits any more.
        let (goes, back) = pass(&to("b"), &fourth, &[web("web", 1, "2")], true);
        assert_eq!(
            (goes, back.len(), back[0].waiting),
            (vec!["b".to_owned()], 1, false)
        );
    }

    #[test]
    fn what_could_not_be_placed_waits_for_nothing() {
        let (_, none) = pass(&to("full"), &[], &[web("web", 1, "1")], false);
        assert_eq!(none, []);
        let (_, first) = pass(&to("a"), &none, &[web("web", 1, "1")], true);
        let (goes, second) = pass(&to("full"), &first, &[web("web", 1, "2")], false);
        assert_eq!(
            (goes, &second[0].objects),
            (vec!["full".to_owned()], &first[0].objects)
        );
        let (goes, _) = pass(&to("b"), &second, &[web("web", 1, "2")], true);
        assert_eq!(goes, ["b"]);
    }

    #[test]
    fn what_was_placed_by_nobody_knows_what_stays_until_its_template_changes() {
        let (_, mut first) = pass(&to("a"), &[], &[web("web", 1, "1")], true);
        first[0].placement = None;
        let (goes, second) = pass(&to("b"), &first, &[web("web", 1, "1")], true);
        assert_eq!((goes, second[0].waiting), (vec!["stays".to_owned()], true));
        let (goes, _) = pass(&to("b"), &second, &[web("web", 1, "2")], true);
        assert_eq!(goes, ["b"]);
    }

    #[test]
    fn the_record_is_bounded_and_the_newest_placements_are_kept() {
        let names = |letter: &str| Placement {
            cluster_affinity: Some(ClusterAffinity::names(
                (0..1000).map(|n| format!("{letter}{n:095}")),
            )),
            ..Placement::default()
        };
        let templates = |image: &str| [web("api", 1, "1"), web("web", 1, image)];
        let (_, first) = pass(&names("a"), &[], &templates("1"), true);
        let (_, second) = pass(&names("b"), &first, &templates("2"), true);
        let kept: Vec<_> = second
            .iter()
            .map(|it| (it.waiting, it.placement.is_some()))
            .collect();
        assert_eq!(kept, [(false, true), (true, false)]);
    }

    #[test]
    fn an_immediate_policy_records_nothing() {
        let (_, first) = pass(&to("a"), &[], &[web("web", 1, "1")], true);
        let templates = [web("web", 1, "1")];
        let pass = Activations::of(Activation::Immediate, &to("b"), &first, &templates, &BuiltinKinds);
        assert!(pass.otherwise.is_empty());
        assert_eq!(pass.record(&to("b"), &first, |_| true), []);
    }
}
