//! A distribution policy as it came from the hub, read with care.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::{ResourceExt, api::DynamicObject};
use kurator_core::names::ClusterName;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::PolicyGroup;
use crate::{
    api::{DistributionPolicySpec, DistributionPolicyStatus, Preemption},
    propagate::{Claimant, PolicyKey},
};

/// Keeps a policy until nothing of it is left in any member.
pub const FINALIZER: &str = "policy.kurator.dev/withdraw";

/// Approves stages of a rollout: `REVISION/STAGE`, several separated by commas.
pub const APPROVE: &str = "policy.kurator.dev/approve";

/// Lets a revision that was taken back be tried again: its name.
pub const RETRY: &str = "policy.kurator.dev/retry";

/// Lets objects that leave a cluster with the purge mode `Never` be taken out there: names of clusters, separated by
/// commas.
pub const RELEASE: &str = "policy.kurator.dev/release";

/// What users say about single decisions, by annotations of the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    approved: BTreeSet<String>,
    pub(super) retry: Option<String>,
    released: BTreeSet<String>,
}

impl Words {
    fn of(annotations: &BTreeMap<String, String>) -> Self {
        let list = |key| {
            let text: Option<&String> = annotations.get(key);
            let names = text.into_iter().flat_map(|text| text.split(','));
            names
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect()
        };
        Self {
            approved: list(APPROVE),
            retry: annotations.get(RETRY).map(|name| name.trim().to_owned()),
            released: list(RELEASE),
        }
    }

    /// The stages that are approved for this revision, and for no other.
    pub(super) fn approved<'a>(&'a self, revision: &'a str) -> impl Iterator<Item = &'a str> {
        let pairs = self.approved.iter().filter_map(|name| name.split_once('/'));
        pairs
            .filter(move |(of, _)| *of == revision)
            .map(|(_, stage)| stage)
    }

    pub(super) fn releases(&self, cluster: &ClusterName) -> bool {
        self.released.contains(cluster.as_str())
    }
}

/// A policy, whether or not its spec can be read: one that cannot must not stop the watch of all others.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) key: PolicyKey,
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) generation: Option<i64>,
    pub(super) created: Timestamp,
    pub(super) deleting: bool,
    pub(super) finalizers: Vec<String>,
    /// What its users say about single decisions.
    pub(super) words: Words,
    /// What is asked for, or why that cannot be read.
    pub(super) spec: Result<DistributionPolicySpec, String>,
    pub(super) status: Option<DistributionPolicyStatus>,
}

impl Policy {
    pub(super) fn of(group: PolicyGroup, object: &DynamicObject) -> Self {
        let key = PolicyKey::new(
            group.as_str(),
            object.namespace().unwrap_or_default(),
            object.name_any(),
        );
        let created = object
            .creation_timestamp()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        Self {
            key,
            uid: object.uid().unwrap_or_default(),
            resource_version: object.resource_version().unwrap_or_default(),
            generation: object.metadata.generation,
            created,
            deleting: object.metadata.deletion_timestamp.is_some(),
            finalizers: object.finalizers().to_vec(),
            words: Words::of(object.annotations()),
            spec: spec(object),
            // A status of another version is as good as none: it is computed anew.
            status: object.data.get("status").and_then(|status| read(status).ok()),
        }
    }

    pub(super) fn has_finalizer(&self) -> bool {
        self.finalizers.iter().any(|finalizer| finalizer == FINALIZER)
    }

    /// What it claims; nothing while it is being deleted or cannot be read.
    pub(super) fn claimant(&self) -> Result<Claimant, String> {
        let spec = self.spec.as_ref().map_err(Clone::clone)?;
        let claimant = Claimant::new(self.key.clone(), self.created, &spec.resource_selectors)
            .map_err(|error| error.to_string())?
            .with_priority(spec.priority.unwrap_or(0));
        Ok(match spec.preemption {
            Some(Preemption::Always) => claimant.with_preemption(),
            _ => claimant,
        })
    }
}

fn spec(object: &DynamicObject) -> Result<DistributionPolicySpec, String> {
    let spec = object.data.get("spec").unwrap_or(&Value::Null);
    read(spec).map_err(|error| error.to_string())
}

fn read<T: DeserializeOwned>(value: &Value) -> Result<T, serde_json::Error> {
    T::deserialize(value)
}
