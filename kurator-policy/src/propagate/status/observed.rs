//! What the members said.

use std::collections::BTreeMap;

use kurator_core::names::ClusterName;
use serde_json::Value;

use super::{MAX_MESSAGE, cut};
use crate::{
    failover::PickedState,
    propagate::{MemberReason, ObjectHealth, ObjectKey},
};

/// What the members said about one policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Observed {
    /// By cluster; a cluster that is missing has not said anything yet.
    pub members: BTreeMap<ClusterName, MemberObserved>,
}

/// What one member said about one policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberObserved {
    /// Why nothing can be done in the cluster as a whole.
    pub blocked: Option<Trouble>,
    /// The policy's objects there.
    pub objects: BTreeMap<ObjectKey, ObjectObserved>,
    /// Objects that are to go and are still there.
    pub leaving: BTreeMap<ObjectKey, Trouble>,
    /// Whether it is certain that nothing else of the policy is there.
    pub complete: bool,
}

impl MemberObserved {
    /// Whether nothing of the policy is left in the member, for certain.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.complete && self.blocked.is_none() && self.objects.is_empty() && self.leaving.is_empty()
    }
}

/// A reason with its explanation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the pair is the whole idea")]
pub struct Trouble {
    /// The token.
    pub reason: MemberReason,
    /// The same for people.
    pub message: String,
}

impl Trouble {
    /// A reason with a message, cut where it gets too long for a status.
    pub fn new(reason: MemberReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: cut(message.into(), MAX_MESSAGE),
        }
    }
}

/// What is known of one object in one member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectObserved {
    /// Replicas it was told to run; `None` if it was never applied, or has none.
    pub applied: Option<u32>,
    /// Replicas that are there, ready or not.
    pub created: Option<u32>,
    /// Replicas that are ready.
    pub ready: Option<u32>,
    /// Replicas on edge nodes that are cut off on purpose, which are presumed to run.
    pub presumed: u32,
    /// How it is doing, by the word of its kind.
    pub health: Option<ObjectHealth>,
    /// What its policy carries along when it fails over; `None` if that is nothing, or it was not seen.
    pub state: Option<PickedState>,
    /// What of its status is worth keeping, if it is to be put together on the hub.
    pub kept: Option<Value>,
    /// Fingerprint of the manifest that was last applied.
    pub revision: Option<String>,
    /// Fingerprint of the manifest that was last tried, with or without success.
    pub tried: Option<String>,
    /// Why the manifest of the plan is not there; `None` if it is.
    pub trouble: Option<Trouble>,
    /// The paths of fields that would change, where that is only reported.
    pub differs: Vec<String>,
}
