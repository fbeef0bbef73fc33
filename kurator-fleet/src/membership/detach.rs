//! How a member leaves: one decision a pass, from what is known now.
//!
//! Leaving must always be possible, also for a cluster that is gone for good, and must never harm what runs on a
//! cluster only because it could not be asked. The modes trade one against the other; the owner chooses.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use kurator_core::health::{ClusterUid, HealthReason, HealthState};
use kurator_core::observe::HealthStatus;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happens to what the fleet placed on a member when the member leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub enum DetachMode {
    /// Take everything off the member first, and wait for it as long as that takes. The default.
    #[default]
    Drain,
    /// Leave everything running where it is and let go of it.
    Orphan,
    /// Take everything off if the member answers before the deadline; otherwise leave at once and write a tombstone,
    /// by which the member is cleaned when it returns.
    Force,
}

/// What is still on the member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "counted or not counted")]
pub enum Remains {
    /// Asked, and this many objects of ours are there.
    Counted(u64),
    /// The member could not be asked.
    NotCounted,
}

/// Whether the member can be acted on now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the three cases the decision tells apart")]
pub enum Contact {
    /// The right cluster answers, well or not.
    Answers,
    /// Another cluster answers.
    OtherCluster,
    /// No usable answer.
    Silent,
}

impl From<&HealthState> for Contact {
    fn from(state: &HealthState) -> Self {
        match (state.health, state.reason) {
            (_, HealthReason::IdentityMismatch) => Self::OtherCluster,
            (HealthStatus::Ready, _)
            | (HealthStatus::NotReady, HealthReason::ApiServerNotReady | HealthReason::CloudNodesNotReady) => {
                Self::Answers
            }
            _ => Self::Silent,
        }
    }
}

/// Everything the decision takes into account.
#[derive(Clone, Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "the input of one pure function; a new fact is a new decision"
)]
pub struct Detaching {
    /// The chosen mode.
    pub mode: DetachMode,
    /// When the removal was asked for (the deletion timestamp).
    pub since: Timestamp,
    /// How long `Force` waits for an answer. Ignored by the other modes.
    pub patience: Duration,
    /// Whether the member answers.
    pub contact: Contact,
    /// What is still there.
    pub remains: Remains,
    /// Which cluster it is. Unknown when the member was never reached, in which case nothing of ours can be there.
    pub uid: Option<ClusterUid>,
}

/// The next thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub enum DetachStep {
    /// Delete what the fleet placed there, then decide again.
    Clean,
    /// Nothing can be done now.
    Blocked {
        /// Why.
        reason: DetachBlocked,
        /// When the answer will be another by the passing of time alone, if ever.
        until: Option<Timestamp>,
    },
    /// The member is out: remove its finalizer, after writing the tombstone if there is one.
    Release {
        /// What must be cleaned when this cluster is met again.
        tombstone: Option<Tombstone>,
    },
}

/// Why a member cannot leave yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DetachBlocked {
    /// It does not answer, and the mode waits for it.
    MemberUnreachable,
    /// Its kubeconfig leads to another cluster, where nothing may be deleted.
    IdentityMismatch,
}

impl DetachBlocked {
    /// The CamelCase token used as condition reason, Event reason and metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MemberUnreachable => "MemberUnreachable",
            Self::IdentityMismatch => "IdentityMismatch",
        }
    }
}

impl fmt::Display for DetachBlocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MemberUnreachable => {
                "the member does not answer; detach mode Force removes it now and cleans it when it returns"
            }
            Self::IdentityMismatch => "the kubeconfig leads to another cluster; nothing is deleted there",
        })
    }
}

/// A cluster that left without being cleaned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Tombstone {
    /// Which cluster.
    pub uid: ClusterUid,
    /// When it left.
    pub since: Timestamp,
}

/// Decides the next step of a removal.
///
/// # Guarantees
/// - `Clean` is only ever answered while the right cluster answers, so never when the identity is in doubt.
/// - `Orphan` and an expired `Force` release a member in whatever state it is.
/// - `Drain` never releases a member on which something of ours may be left.
pub fn next_step(detaching: &Detaching, now: Timestamp) -> DetachStep {
    let release = DetachStep::Release { tombstone: None };
    let Some(uid) = &detaching.uid else {
        return release;
    };
    if detaching.mode == DetachMode::Orphan || detaching.remains == Remains::Counted(0) {
        return release;
    }
    let reason = match detaching.contact {
        Contact::Answers => return DetachStep::Clean,
        Contact::OtherCluster => DetachBlocked::IdentityMismatch,
        Contact::Silent => DetachBlocked::MemberUnreachable,
    };
    if detaching.mode != DetachMode::Force {
        return DetachStep::Blocked { reason, until: None };
    }
    let deadline = detaching
        .since
        .checked_add(detaching.patience)
        .unwrap_or(Timestamp::MAX);
    if now < deadline {
        return DetachStep::Blocked {
            reason,
            until: Some(deadline),
        };
    }
    DetachStep::Release {
        tombstone: Some(Tombstone {
            uid: uid.clone(),
            since: now,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn detaching(mode: DetachMode, contact: Contact, remains: Remains) -> Detaching {
        Detaching {
            mode,
            since: at(0),
            patience: Duration::from_secs(60),
            contact,
            remains,
            uid: Some(ClusterUid::new("uid")),
        }
    }

    #[test]
    fn draining_cleans_then_releases() {
        let step = next_step(
            &detaching(DetachMode::Drain, Contact::Answers, Remains::Counted(3)),
            at(1),
        );
        assert_eq!(step, DetachStep::Clean);
        let step = next_step(
            &detaching(DetachMode::Drain, Contact::Answers, Remains::Counted(0)),
            at(1),
        );
        assert_eq!(step, DetachStep::Release { tombstone: None });
    }

    #[test]
    fn draining_waits_for_a_silent_member_for_ever() {
        let step = next_step(
            &detaching(DetachMode::Drain, Contact::Silent, Remains::NotCounted),
            at(1_000_000),
        );
        assert_eq!(
            step,
            DetachStep::Blocked {
                reason: DetachBlocked::MemberUnreachable,
                until: None
            }
        );
    }

    #[test]
    fn orphaning_never_touches_the_member() {
        for contact in [Contact::Answers, Contact::Silent, Contact::OtherCluster] {
            let step = next_step(
                &detaching(DetachMode::Orphan, contact, Remains::NotCounted),
                at(1),
            );
            assert_eq!(step, DetachStep::Release { tombstone: None });
        }
    }

    #[test]
    fn an_unreachable_member_can_always_be_removed_by_force_and_is_remembered() {
        let gone = detaching(DetachMode::Force, Contact::Silent, Remains::NotCounted);
        assert_eq!(
            next_step(&gone, at(59)),
            DetachStep::Blocked {
                reason: DetachBlocked::MemberUnreachable,
                until: Some(at(60))
            }
        );
        let DetachStep::Release {
            tombstone: Some(tombstone),
        } = next_step(&gone, at(60))
        else {
            panic!("released with a tombstone");
        };
        assert_eq!(
            tombstone,
            Tombstone {
                uid: ClusterUid::new("uid"),
                since: at(60)
            }
        );
    }

    #[test]
    fn nothing_is_deleted_on_another_cluster_in_any_mode() {
        for mode in [DetachMode::Drain, DetachMode::Orphan, DetachMode::Force] {
            for second in [0, 59, 60, 1_000] {
                let swapped = detaching(mode, Contact::OtherCluster, Remains::Counted(7));
                assert_ne!(
                    next_step(&swapped, at(second)),
                    DetachStep::Clean,
                    "{mode:?} after {second} s"
                );
            }
        }
    }

    #[test]
    fn a_member_that_was_never_reached_leaves_at_once() {
        let never = Detaching {
            uid: None,
            ..detaching(DetachMode::Drain, Contact::Silent, Remains::NotCounted)
        };
        assert_eq!(next_step(&never, at(0)), DetachStep::Release { tombstone: None });
    }
}
