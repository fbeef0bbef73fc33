//! What a template is to the scheduling pass.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{ObjectKey, ObjectKind, ResourceInterpreter, Template, crd_of};
use crate::gangs::{self, GangError};
use crate::placement::{Gang, Workload};

/// Objects that others refer to by group, kind and name, in whatever version they were written.
#[derive(Clone, Debug, Default)]
pub struct Known<'a> {
    objects: BTreeMap<(String, String, String, String), &'a Value>,
}

impl<'a> Known<'a> {
    /// The manifests of templates.
    pub fn of(templates: impl IntoIterator<Item = &'a Template>) -> Self {
        let mut known = Self::default();
        for template in templates {
            known.add(&template.manifest);
        }
        known
    }

    /// Adds an object; what is no object is left out.
    pub fn add(&mut self, object: &'a Value) {
        if let Some(key) = ObjectKey::of(object) {
            self.objects.insert(versionless(&key), object);
        }
    }

    /// The CustomResourceDefinition of a kind, if it is among them.
    #[must_use]
    pub fn definition(&self, kind: &ObjectKind) -> Option<ObjectKey> {
        let definitions = self
            .objects
            .iter()
            .filter(|((_, name, _, _), _)| name == "CustomResourceDefinition");
        definitions
            .into_iter()
            .find_map(|(_, definition)| crd_of(kind, definition))
    }

    /// Finds an object; the version in the key does not matter.
    #[must_use]
    pub fn find(&self, key: &ObjectKey) -> Option<&'a Value> {
        self.objects.get(&versionless(key)).copied()
    }
}

fn versionless(key: &ObjectKey) -> (String, String, String, String) {
    let (group, _) = key.kind.group_version();
    let name = &key.name;
    (
        group.to_owned(),
        key.kind.kind.clone(),
        name.namespace.clone(),
        name.name.clone(),
    )
}

/// Makes of a template what the scheduling pass places: its replicas, what one of them needs, the devices it claims,
/// and the gang it is.
///
/// `known` holds the objects it may refer to: claim templates and pod groups. `divided` says whether its policy divides
/// replicas; then an object that must not be taken apart is a gang of its own.
///
/// # Errors
/// [`GangError`] if it is a gang that cannot run as it is written.
///
/// ```
/// use kurator_policy::propagate::{BuiltinKinds, Known, Template, workload};
/// use serde_json::json;
///
/// let web = Template::of(&json!({
///     "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "namespace": "shop" },
///     "spec": { "replicas": 4, "template": { "spec": { "containers": [
///         { "name": "web", "resources": { "requests": { "cpu": "500m" } } },
///     ] } } },
/// }), &BuiltinKinds)?;
/// let placed = workload(&web, &BuiltinKinds, &Known::default(), true)?;
/// assert_eq!(placed.replicas, Some(4));
/// assert_eq!(placed.request["cpu"].to_string(), "500m");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn workload(
    template: &Template,
    interpreter: &dyn ResourceInterpreter,
    known: &Known<'_>,
    divided: bool,
) -> Result<Workload, GangError> {
    let key = &template.key;
    let mut workload = Workload::new(key.to_string(), &key.kind.api_version, &key.kind.kind);
    workload.uid.clone_from(&template.uid);
    workload.replicas = template.replicas;
    if let Some(mut needs) = interpreter.requirements(&key.kind, &template.manifest) {
        needs.claim_devices(|name| {
            let namespace = key.name.namespace.as_str();
            known.find(&ObjectKey::new(
                "resource.k8s.io/v1",
                "ResourceClaimTemplate",
                namespace,
                name,
            ))
        });
        workload.request = needs.request;
        workload.node_selector = needs.node_selector;
        workload.node_affinity = needs.node_affinity;
        workload.tolerations = needs.tolerations;
    }
    let gang = gangs::gang_of(&template.manifest, template.replicas, |group| known.find(group))?;
    workload.gang = match gang {
        Some(gang) => {
            // A gang has members even where its kind has no replicas of its own.
            let members = gang.members(template.replicas.unwrap_or(0));
            workload.replicas = Some(members);
            Some(gang)
        }
        None if divided && interpreter.indivisible(&key.kind, &template.manifest) => Some(Gang::of(1)),
        None => None,
    };
    Ok(workload)
}
