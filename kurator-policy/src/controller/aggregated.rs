//! The status of templates on the hub, put together from those of their copies.

use std::{collections::BTreeMap, sync::Arc};

use kube::{
    Api, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
};
use kurator_core::apply::FIELD_MANAGER;
use serde_json::{Value, json};

use super::{distribution::Context, kinds::Served, policy::Policy, templates::Listed};
use crate::propagate::{ObjectKey, ObjectKind, Observed, Planned, chain};

impl Context {
    /// Writes the status of each template, where it is another. What somebody else has written there is left alone: a
    /// controller on the hub that takes the template for its own work knows better.
    pub(super) async fn aggregate(&self, policy: &Policy, planned: &Planned, observed: &Observed) {
        let mut lists: BTreeMap<&ObjectKind, Vec<Arc<DynamicObject>>> = BTreeMap::new();
        for key in planned.objects.keys() {
            let kept: BTreeMap<_, _> = observed
                .members
                .iter()
                .filter(|(cluster, _)| {
                    let plan = planned.member(cluster);
                    plan.is_some_and(|plan| plan.objects.contains_key(key))
                })
                .filter_map(|(cluster, seen)| {
                    let kept = seen.objects.get(key)?.kept.clone()?;
                    Some((cluster.clone(), kept))
                })
                .collect();
            if kept.is_empty() {
                continue;
            }
            let list = lists.entry(&key.kind).or_insert_with(|| {
                let listed = self.templates.list(&policy.key, &key.kind);
                if let Listed::Objects(objects) = listed {
                    objects
                } else {
                    Vec::new()
                }
            });
            let Some(template) = list.iter().find(|it| it.name_any() == key.name.name) else {
                continue;
            };
            let mut whole = template.data.clone();
            whole["metadata"] = json!({ "generation": template.metadata.generation });
            let status = self.interpreter.aggregated_status(&key.kind, &whole, &kept);
            let Some(status) = status.filter(|status| !is_there(status, whole.get("status"))) else {
                continue;
            };
            if let Err(error) = self.write_aggregated(key, template, &status).await {
                tracing::debug!(%key, "the status of a template is left as it is: {}", chain(&error));
            }
        }
    }

    async fn write_aggregated(
        &self,
        key: &ObjectKey,
        template: &DynamicObject,
        status: &Value,
    ) -> Result<(), kube::Error> {
        let Ok(served) = Served::find(&self.hub, &key.kind).await else {
            return Ok(());
        };
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.hub.clone(), &key.name.namespace, &served.resource);
        let patch = json!({
            "apiVersion": key.kind.api_version,
            "kind": key.kind.kind,
            // Of this template, not of one that came after it under its name.
            "metadata": { "name": key.name.name, "uid": template.metadata.uid },
            "status": status,
        });
        let params = PatchParams::apply(FIELD_MANAGER);
        api.patch_status(&key.name.name, &params, &Patch::Apply(&patch))
            .await
            .map(drop)
    }
}

/// Whether a status says all of it already.
fn is_there(wanted: &Value, found: Option<&Value>) -> bool {
    match (wanted, found) {
        (Value::Object(wanted), Some(Value::Object(found))) => wanted
            .iter()
            .all(|(field, value)| is_there(value, found.get(field))),
        // The server does not store a count of zero.
        (Value::Number(zero), None) => zero.as_u64() == Some(0),
        (Value::Object(wanted), None) => wanted.is_empty(),
        (wanted, found) => found == Some(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_that_says_all_of_it_and_more_need_not_be_written() {
        let found = json!({ "replicas": 3, "conditions": [] });
        assert!(is_there(
            &json!({ "replicas": 3, "readyReplicas": 0 }),
            Some(&found)
        ));
        assert!(!is_there(&json!({ "replicas": 2 }), Some(&found)));
        assert!(!is_there(&json!({ "readyReplicas": 1 }), Some(&found)));
        assert!(is_there(&json!({}), None));
    }
}
