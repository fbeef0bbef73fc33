//! The override policies of the hub.

use std::sync::Arc;

use kube::{Api, Client, CustomResourceExt, ResourceExt, api::DynamicObject};

use super::watch::{Change, Synced, Watch};
use crate::{api::OverridePolicy, propagate::Note};

/// A watch on the override policies; whoever distributes in their namespace is triggered when they change.
#[derive(Debug)]
pub(super) struct OverridePolicies {
    watch: Watch,
}

impl OverridePolicies {
    pub(super) fn start(hub: Client, on_change: impl Fn(Option<&str>) + Send + 'static) -> Self {
        let resource = OverridePolicy::api_resource();
        let api = Api::all_with(hub, &resource);
        let watch = Watch::start(api, resource, move |change| match change {
            Change::Applied(object) | Change::Deleted(object) => on_change(object.namespace().as_deref()),
            Change::Failed(error) => tracing::warn!(%error, "watching override policies failed"),
            Change::Listed(_) | Change::Synced | Change::NotServed => on_change(None),
        });
        Self { watch }
    }

    /// Those of a namespace, and what is wrong with those that cannot be read; `None` while they are not known.
    pub(super) fn within(&self, namespace: &str) -> Option<(Vec<OverridePolicy>, Vec<Note>)> {
        let objects: Vec<Arc<DynamicObject>> = match self.watch.sync() {
            Synced::Starting => return None,
            Synced::NotServed => Vec::new(),
            Synced::Complete => self.watch.all(),
        };
        let mut policies = Vec::new();
        let mut notes = Vec::new();
        for object in objects
            .iter()
            .filter(|object| object.namespace().as_deref() == Some(namespace))
        {
            match object.as_ref().clone().try_parse::<OverridePolicy>() {
                Ok(policy) => policies.push(policy),
                Err(error) => {
                    notes.push(Note::InvalidOverride {
                        policy: object.name_any(),
                        problem: error.to_string(),
                    });
                }
            }
        }
        policies.sort_by_key(ResourceExt::name_any);
        Some((policies, notes))
    }
}
