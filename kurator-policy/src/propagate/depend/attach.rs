use std::collections::{BTreeMap, BTreeSet};

use super::super::{Known, Note, ObjectKey, Planned, Request, Template, render::Renderer};
use super::plan::{Use, dependencies};
use crate::overrides::OverrideSet;

/// The most objects that go along with one policy: they are listed in its status, about 80 bytes each.
pub const MAX_DEPENDENCIES: usize = 2_000;

/// Adds to a plan what its templates refer to, to every cluster that gets one of them.
///
/// `hub` holds the objects of the hub that may be needed, as templates; overrides apply to them as to any other. What
/// is not there is told by a [note](Note::DependencyMissing).
///
/// # Guarantees
/// Pure: the order of `hub` does not reach the result. An object that the plan itself sends to a cluster does not go
/// along there. Beyond [`MAX_DEPENDENCIES`], the last in the order of their names are left out, and it is told.
///
/// ```
/// use std::collections::BTreeMap;
/// use kurator_core::{names::ClusterName, observe::{ClusterView, Snapshot}};
/// use kurator_policy::{api::Placement, propagate::{BuiltinKinds, PolicyKey, Request, Template, attach, plan}};
/// use serde_json::json;
///
/// let web = Template::of(&json!({
///     "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web", "namespace": "shop" },
///     "spec": { "containers": [{ "name": "web", "envFrom": [{ "configMapRef": { "name": "settings" } }] }] },
/// }), &BuiltinKinds)?;
/// let settings = Template::of(&json!({
///     "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "settings", "namespace": "shop" },
/// }), &BuiltinKinds)?;
/// let now = "2026-01-02T03:04:05Z".parse()?;
/// let paris: ClusterName = "paris".parse()?;
/// let mut fleet = Snapshot::new(now);
/// fleet.insert(ClusterView::new(paris.clone()));
/// let request = Request {
///     policy: &PolicyKey::new("policy.kurator.dev", "shop", "everywhere"),
///     placement: &Placement::default(),
///     otherwise: &BTreeMap::new(),
///     templates: &[web],
///     suspension: None,
///     overrides: &[],
///     fleet: &fleet,
///     running: &BTreeMap::new(),
///     standing: &BTreeMap::new(),
///     now,
///     interpreter: &BuiltinKinds,
/// };
/// let mut planned = plan(&request);
/// attach(&request, &[settings.clone()], &mut planned);
/// assert!(planned.members[&paris].dependencies.contains_key(&settings.key));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn attach(request: &Request<'_>, hub: &[Template], planned: &mut Planned) {
    let uses: Vec<Use<'_>> = request
        .templates
        .iter()
        .map(|template| {
            let members = planned.members.iter();
            let there = members.filter(|(_, member)| member.objects.contains_key(&template.key));
            Use::new(
                request.policy,
                template,
                there.map(|(cluster, _)| cluster.clone()),
            )
        })
        .collect();
    let needed = dependencies(&uses, &Known::of(hub.iter().chain(request.templates)));
    let overrides = OverrideSet::compile(request.overrides);
    let sources: BTreeMap<&ObjectKey, &Template> = hub
        .iter()
        .chain(request.templates)
        .map(|template| (&template.key, template))
        .collect();
    let all: BTreeSet<&ObjectKey> = needed.members.values().flat_map(BTreeMap::keys).collect();
    let kept: BTreeSet<&ObjectKey> = all.iter().copied().take(MAX_DEPENDENCIES).collect();
    let mut renderers: BTreeMap<&ObjectKey, Renderer<'_>> = BTreeMap::new();
    for (cluster, objects) in &needed.members {
        let (Some(view), Some(member)) = (request.fleet.get(cluster), planned.members.get_mut(cluster))
        else {
            continue;
        };
        for key in objects.keys().filter(|key| kept.contains(*key)) {
            let Some(template) = sources.get(key) else {
                continue;
            };
            let renderer = renderers
                .entry(&template.key)
                .or_insert_with(|| Renderer::new(template, &overrides, request.interpreter));
            let (rendered, _) = renderer.render(None, &[], view);
            member.dependencies.insert(key.clone(), rendered);
        }
    }
    let left_out = all.len() - kept.len();
    let missing = needed.missing.into_iter();
    let notes = missing.map(|missing| Note::DependencyMissing { missing });
    planned.note(notes.chain((left_out > 0).then_some(Note::TooManyDependencies { left_out })));
}
