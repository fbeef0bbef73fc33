//! What the status of a cluster and of a fleet says, from what is known. Pure.

mod attached;
mod fleet;

use kurator_core::condition::ConditionStatus;
use kurator_core::health::HealthReason;
use kurator_core::multicluster::MemberStatus;
use kurator_core::observe::HealthStatus;

pub(super) use kurator_core::reason::Said;

pub(super) use self::attached::attached_status;
pub(super) use self::fleet::{
    Candidate, Candidates, Members, Waiting, dissolving_status, fleet_status, of_attached, of_managed,
    shadowed,
};

/// Whether a member is ready, and why.
fn readiness(known: &MemberStatus) -> (ConditionStatus, Said) {
    let (health, reason) = (known.health.health, known.health.reason);
    let status = match health {
        HealthStatus::Ready => ConditionStatus::True,
        HealthStatus::NotReady => ConditionStatus::False,
        HealthStatus::Unknown => ConditionStatus::Unknown,
    };
    let said = match &known.failure {
        Some(failure) if health != HealthStatus::Ready => Said::new(failure.token, failure.message.clone()),
        _ if reason == HealthReason::NeverSeen => Said::new(reason.as_str(), "not probed yet"),
        _ => Said::new(reason.as_str(), "the API server answers and calls itself ready"),
    };
    (status, said)
}

/// What is wrong with the way to a member, which no waiting will mend: it is told at once, while the member still
/// counts as ready for the grace. Silence, which may be a blink, is not among it.
fn broken_way(known: &MemberStatus) -> Option<Said> {
    let failure = known.failure.as_ref()?;
    let lasting = matches!(
        failure.reason,
        HealthReason::CredentialsInvalid | HealthReason::CredentialsRefused | HealthReason::TlsRefused
    );
    lasting.then(|| Said::new(failure.token, failure.message.clone()))
}
