//! What a revision of a policy consists of: templates, overrides and placement, without replica counts.

use std::{collections::BTreeMap, sync::Arc};

use kurator_core::selector::LabelMatcher;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    api::{OverridePolicy, Placement},
    propagate::{ObjectKey, Otherwise, ResourceInterpreter, Template, holds_for, revision},
};

/// Everything that a change of a policy may change, as it is kept on the hub.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Content {
    templates: Vec<Value>,
    pub(super) overrides: Vec<OverridePolicy>,
    /// That of the first object: what it is in the policy matters to no object that it does not hold for.
    pub(super) placement: Placement,
    /// Objects that are placed otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    otherwise: Vec<PlacedOtherwise>,
}

/// Objects that are placed by another placement, or stay where they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct PlacedOtherwise {
    placement: Option<Placement>,
    objects: Vec<ObjectKey>,
}

impl Content {
    /// The content of a policy as it stands.
    pub(super) fn of(
        templates: &[Template],
        overrides: &[OverridePolicy],
        placement: &Placement,
        otherwise: &Otherwise,
    ) -> Self {
        let mut sorted: Vec<&Template> = templates.iter().collect();
        sorted.sort_by(|a, b| a.key.cmp(&b.key));
        let mut overrides: Vec<OverridePolicy> = overrides
            .iter()
            .filter(|policy| concerns(policy, templates))
            .map(plain)
            .collect();
        overrides.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        let of = |template: &Template| holds_for(placement, otherwise, &template.key);
        let first = sorted
            .iter()
            .find_map(|template| of(template))
            .unwrap_or(placement);
        let mut others: Vec<PlacedOtherwise> = Vec::new();
        for template in &sorted {
            let placement = of(template);
            if placement == Some(first) {
                continue;
            }
            match others.iter_mut().find(|it| it.placement.as_ref() == placement) {
                Some(group) => group.objects.push(template.key.clone()),
                None => others.push(PlacedOtherwise {
                    placement: placement.cloned(),
                    objects: vec![template.key.clone()],
                }),
            }
        }
        Self {
            placement: first.clone(),
            otherwise: others,
            templates: sorted.into_iter().map(whole).collect(),
            overrides,
        }
    }

    /// The objects that are placed otherwise, with their placements.
    pub(super) fn otherwise(&self) -> Otherwise {
        let mut all = Otherwise::new();
        for group in &self.otherwise {
            let placement = group.placement.clone().map(Arc::new);
            all.extend(
                group
                    .objects
                    .iter()
                    .map(|object| (object.clone(), placement.clone())),
            );
        }
        all
    }

    /// Its name: the same for what differs in replica counts only.
    pub(super) fn revision(&self, interpreter: &dyn ResourceInterpreter) -> String {
        let templates: Vec<Value> = self
            .templates
            .iter()
            .filter_map(|object| Template::of(object, interpreter).ok())
            .map(|template| {
                let mut manifest = Arc::unwrap_or_clone(template.manifest);
                if template.replicas.is_some() {
                    interpreter.set_replicas(&template.key.kind, &mut manifest, 0);
                }
                manifest
            })
            .collect();
        let overrides: Vec<Value> = self
            .overrides
            .iter()
            .map(|policy| json!({ "name": policy.metadata.name, "spec": policy.spec }))
            .collect();
        let mut all = json!({ "templates": templates, "overrides": overrides, "placement": self.placement });
        if !self.otherwise.is_empty() {
            all["otherwise"] = json!(self.otherwise);
        }
        revision(&all)
    }

    /// Its templates, with as many replicas as are asked for today.
    pub(super) fn templates(
        &self,
        today: &[Template],
        interpreter: &dyn ResourceInterpreter,
    ) -> Vec<Template> {
        let replicas: BTreeMap<&ObjectKey, u32> = today
            .iter()
            .filter_map(|template| Some((&template.key, template.replicas?)))
            .collect();
        let templates = self.templates.iter().filter_map(|object| {
            let mut object = object.clone();
            let template = Template::of(&object, interpreter).ok()?;
            match replicas.get(&template.key) {
                Some(replicas) if template.replicas.is_some() => {
                    interpreter.set_replicas(&template.key.kind, &mut object, *replicas);
                    Template::of(&object, interpreter).ok()
                }
                _ => Some(template),
            }
        });
        templates.collect()
    }
}

/// The manifest of a template with what else is known of it, so that reading it gives the same template.
fn whole(template: &Template) -> Value {
    let mut manifest = Value::clone(&template.manifest);
    let metadata = manifest.get_mut("metadata").and_then(Value::as_object_mut);
    if let Some(metadata) = metadata {
        metadata.insert("uid".to_owned(), template.uid.clone().into());
        if let Some(created) = template.created {
            metadata.insert("creationTimestamp".to_owned(), created.to_string().into());
        }
    }
    manifest
}

/// An override policy without what its API server keeps beside it.
fn plain(policy: &OverridePolicy) -> OverridePolicy {
    let mut kept = OverridePolicy::new(
        policy.metadata.name.as_deref().unwrap_or_default(),
        policy.spec.clone(),
    );
    kept.metadata.namespace.clone_from(&policy.metadata.namespace);
    kept
}

/// Whether an override policy says something about one of the templates. One whose selector cannot be read does.
fn concerns(policy: &OverridePolicy, templates: &[Template]) -> bool {
    policy.spec.resource_selectors.iter().any(|selector| {
        let labels = LabelMatcher::compile_optional(selector.label_selector.as_ref());
        templates.iter().any(|template| {
            template.key.kind.api_version == selector.api_version
                && template.key.kind.kind == selector.kind
                && selector
                    .name
                    .as_ref()
                    .is_none_or(|name| *name == template.key.name.name)
                && (selector.label_selector.is_none()
                    || labels
                        .as_ref()
                        .map_or(true, |labels| labels.matches(&template.labels)))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::propagate::BuiltinKinds;

    fn template(replicas: u32, image: &str) -> Template {
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": "web", "namespace": "shop", "uid": "u-1", "labels": { "app": "web" } },
            "spec": { "replicas": replicas, "template": { "spec": { "containers": [{ "name": "web", "image": image }] } } },
        });
        Template::of(&object, &BuiltinKinds).unwrap()
    }

    fn over(name: &str, app: &str) -> OverridePolicy {
        serde_json::from_value(json!({
            "apiVersion": "policy.kurator.dev/v1alpha1", "kind": "OverridePolicy",
            "metadata": { "name": name, "namespace": "shop", "resourceVersion": "7" },
            "spec": {
                "resourceSelectors": [{
                    "apiVersion": "apps/v1", "kind": "Deployment", "labelSelector": { "matchLabels": { "app": app } },
                }],
                "overrideRules": [{ "overrides": [{ "path": "/spec/paused", "value": true }] }],
            },
        }))
        .unwrap()
    }

    fn named(templates: &[Template], overrides: &[OverridePolicy]) -> String {
        Content::of(templates, overrides, &Placement::default(), &Otherwise::new()).revision(&BuiltinKinds)
    }

    #[test]
    fn scaling_is_no_change_and_everything_else_is() {
        let before = named(&[template(3, "web:1")], &[]);
        assert_eq!(named(&[template(5, "web:1")], &[]), before);
        assert_ne!(named(&[template(3, "web:2")], &[]), before);
        assert_ne!(named(&[template(3, "web:1")], &[over("o", "web")]), before);
        let placement =
            serde_json::from_value(json!({ "clusterAffinity": { "clusterNames": ["a"] } })).unwrap();
        let moved = Content::of(&[template(3, "web:1")], &[], &placement, &Otherwise::new());
        assert_ne!(moved.revision(&BuiltinKinds), before);
    }

    #[test]
    fn an_override_of_something_else_is_no_change() {
        let templates = [template(3, "web:1")];
        assert_eq!(named(&templates, &[over("o", "db")]), named(&templates, &[]));
    }

    #[test]
    fn what_is_read_back_has_the_replicas_of_today() {
        let content = Content::of(
            &[template(3, "web:1")],
            &[over("o", "web")],
            &Placement::default(),
            &Otherwise::new(),
        );
        let text = serde_json::to_string(&content).unwrap();
        let read: Content = serde_json::from_str(&text).unwrap();
        assert_eq!(read.revision(&BuiltinKinds), content.revision(&BuiltinKinds));
        let templates = read.templates(&[template(8, "web:2")], &BuiltinKinds);
        assert_eq!(templates, [template(8, "web:1")]);
    }

    #[test]
    fn a_placement_that_holds_for_no_object_yet_is_no_change() {
        let templates = [template(3, "web:1")];
        let key = &templates[0].key;
        let moved: Placement =
            serde_json::from_value(json!({ "clusterAffinity": { "clusterNames": ["a"] } })).unwrap();
        let before = Placement::default();
        let waits = Otherwise::from([(key.clone(), Some(Arc::new(before.clone())))]);
        let content = Content::of(&templates, &[], &moved, &waits);
        assert_eq!(content, Content::of(&templates, &[], &before, &Otherwise::new()));

        let mut two = templates.to_vec();
        two.push(template(3, "web:1"));
        two[1].key.name.name = "zebra".to_owned();
        let content = Content::of(&two, &[], &moved, &waits);
        assert_eq!(content.placement, before);
        let otherwise = content.otherwise();
        assert_eq!(otherwise.keys().collect::<Vec<_>>(), [&two[1].key]);
        assert_eq!(otherwise[&two[1].key].as_deref(), Some(&moved));
        let text = serde_json::to_string(&content).unwrap();
        assert_eq!(serde_json::from_str::<Content>(&text).unwrap(), content);
    }
}
