//! Writing to the hub: finalizer, status, Events. Nothing is written that is there already.

use std::collections::BTreeMap;

use kube::{
    Api, Resource,
    api::{DynamicObject, Patch, PatchParams},
    core::ObjectMeta,
    runtime::events::{Event, EventType},
};
use kurator_core::apply::FIELD_MANAGER;
use serde_json::{Value, json};

use super::{
    ControllerError, DistributionMetric, PolicyGroup,
    activation::activated,
    distribution::Context,
    policy::{FINALIZER, Policy},
};
use crate::{
    api::{DistributionPolicyStatus, FailedOver},
    propagate::{PolicyEvent, events},
};

/// The last status that was written, for passes that start before the watch has shown it.
#[derive(Clone, Debug)]
pub(super) struct Written {
    uid: String,
    resource_version: String,
    status: DistributionPolicyStatus,
}

impl Written {
    pub(super) fn uid(&self) -> &str {
        &self.uid
    }
}

impl Context {
    /// The status in place: what the watch shows, or what was written since.
    pub(super) fn previous(&self, policy: &Policy) -> Option<DistributionPolicyStatus> {
        let number = |version: &str| version.parse::<u64>().unwrap_or(0);
        match self.written().get(&policy.key) {
            Some(written)
                if written.uid == policy.uid
                    && number(&written.resource_version) > number(&policy.resource_version) =>
            {
                Some(written.status.clone())
            }
            _ => policy.status.clone(),
        }
    }

    /// Writes the status if it is another, and tells of the change by Events.
    pub(super) async fn write_status(
        &self,
        policy: &Policy,
        previous: Option<DistributionPolicyStatus>,
        status: DistributionPolicyStatus,
    ) -> Result<(), ControllerError> {
        if previous.as_ref() == Some(&status) {
            return Ok(());
        }
        let Some(group) = group(policy) else { return Ok(()) };
        let resource = group.resource();
        let patch = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            // Of the object this status is about, not of one that came after it under its name.
            "metadata": { "name": policy.key.name.name, "uid": policy.uid },
            "status": status,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let written = self
            .api(policy, group)
            .patch_status(&policy.key.name.name, &params, &Patch::Apply(&patch))
            .await
            .map_err(|source| hub("write the status", policy, source))?;
        let news = events(previous.as_ref(), &status);
        self.count(policy, previous.as_ref(), &status);
        let resource_version = written.metadata.resource_version.unwrap_or_default();
        let entry = Written {
            uid: policy.uid.clone(),
            resource_version,
            status,
        };
        self.written().insert(policy.key.clone(), entry);
        for event in news {
            self.publish(policy, group, event).await;
        }
        Ok(())
    }

    fn count(
        &self,
        policy: &Policy,
        before: Option<&DistributionPolicyStatus>,
        after: &DistributionPolicyStatus,
    ) {
        let mut evicted: BTreeMap<&str, u32> = BTreeMap::new();
        let known =
            |it: &FailedOver| before.is_some_and(|before| before.failovers.iter().any(|old| old.is_of(it)));
        for it in after.failovers.iter().filter(|it| !known(it)) {
            let count = evicted.entry(&it.cluster).or_default();
            *count = count.saturating_add(1);
        }
        for (cluster, objects) in evicted {
            let metric = DistributionMetric::Evicted { cluster, objects };
            self.metrics.record(&policy.key, &metric);
        }
        let before_that = before.map_or(&[][..], |before| &before.activations);
        let objects = activated(before_that, &after.activations);
        if objects > 0 {
            let metric = DistributionMetric::Activated { objects };
            self.metrics.record(&policy.key, &metric);
        }
        let stands = |status: &DistributionPolicyStatus| {
            let rollout = status.rollout.as_ref();
            rollout.map(|rollout| (rollout.revision.clone(), rollout.reason.clone()))
        };
        if let Some(now) = stands(after)
            && before.and_then(stands).as_ref() != Some(&now)
        {
            let metric = DistributionMetric::Rollout { reason: &now.1 };
            self.metrics.record(&policy.key, &metric);
        }
    }

    /// A policy that goes leaves something in clusters that are no longer members: nobody can look there.
    pub(super) async fn report_left_behind(&self, policy: &Policy, status: &DistributionPolicyStatus) {
        let names: Vec<&str> = status
            .clusters
            .iter()
            .map(|entry| entry.cluster.as_str())
            .collect();
        let Some(group) = group(policy) else { return };
        if names.is_empty() {
            return;
        }
        let event = PolicyEvent::new(
            true,
            "LeftBehind",
            "Withdraw",
            format!("no longer members, so not cleaned: {}", names.join(", ")),
        );
        self.publish(policy, group, event).await;
    }

    async fn publish(&self, policy: &Policy, group: PolicyGroup, event: PolicyEvent) {
        let type_ = if event.warning {
            EventType::Warning
        } else {
            EventType::Normal
        };
        let event = Event {
            type_,
            reason: event.reason,
            note: Some(event.note),
            action: event.action.to_owned(),
            secondary: None,
        };
        let object = DynamicObject {
            types: None,
            metadata: ObjectMeta {
                name: Some(policy.key.name.name.clone()),
                namespace: Some(policy.key.name.namespace.clone()),
                uid: Some(policy.uid.clone()),
                ..ObjectMeta::default()
            },
            data: Value::Null,
        };
        // An Event that is lost is a pity; the status says the same.
        if let Err(error) = self
            .recorder
            .publish(&event, &object.object_ref(&group.resource()))
            .await
        {
            tracing::warn!(policy = %policy.key, %error, "an Event could not be published");
        }
    }

    /// Whether that could be done; if not, the next pass begins with what the policy is now.
    pub(super) async fn add_finalizer(&self, policy: &Policy) -> Result<bool, ControllerError> {
        let mut finalizers = policy.finalizers.clone();
        finalizers.push(FINALIZER.to_owned());
        self.set_finalizers(policy, finalizers, "add the finalizer").await
    }

    pub(super) async fn remove_finalizer(&self, policy: &Policy) -> Result<bool, ControllerError> {
        let finalizers = policy
            .finalizers
            .iter()
            .filter(|finalizer| *finalizer != FINALIZER)
            .cloned()
            .collect();
        self.set_finalizers(policy, finalizers, "remove the finalizer")
            .await
    }

    /// Refused if the policy has changed meanwhile, so nobody else's finalizer is lost.
    async fn set_finalizers(
        &self,
        policy: &Policy,
        finalizers: Vec<String>,
        action: &'static str,
    ) -> Result<bool, ControllerError> {
        let Some(group) = group(policy) else {
            return Ok(false);
        };
        let patch = json!({
            "metadata": { "resourceVersion": policy.resource_version, "finalizers": finalizers },
        });
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        match self
            .api(policy, group)
            .patch(&policy.key.name.name, &params, &Patch::Merge(&patch))
            .await
        {
            Ok(_) => Ok(true),
            // Seen too late, or gone: the watch brings what it is now, and with it the next pass.
            Err(kube::Error::Api(answer)) if answer.code == 409 || answer.code == 404 => Ok(false),
            Err(source) => Err(hub(action, policy, source)),
        }
    }

    fn api(&self, policy: &Policy, group: PolicyGroup) -> Api<DynamicObject> {
        Api::namespaced_with(self.hub.clone(), &policy.key.name.namespace, &group.resource())
    }
}

fn group(policy: &Policy) -> Option<PolicyGroup> {
    PolicyGroup::ALL
        .into_iter()
        .find(|group| group.as_str() == policy.key.group)
}

fn hub(action: &'static str, policy: &Policy, source: kube::Error) -> ControllerError {
    ControllerError::Hub {
        action,
        policy: policy.key.clone(),
        source: Box::new(source),
    }
}
