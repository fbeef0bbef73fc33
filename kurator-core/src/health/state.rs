//! The health of a member: a lease that every successful probe renews.
//!
//! The semantics follow the node lease of Kubernetes (the node lifecycle controller's monitor grace period): silence
//! is not a verdict until it has lasted for the grace. One lost probe therefore changes nothing, and neither do many,
//! as long as one in each grace comes through.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::observe::HealthStatus;

/// Why a member has the health it has. The variant's name is the condition and Event reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum HealthReason {
    /// The API server answers and calls itself ready.
    ApiServerReady,
    /// The API server answers and does not call itself ready.
    ApiServerNotReady,
    /// Every cloud node is out of order. Edge nodes never lead here.
    CloudNodesNotReady,
    /// The kubeconfig could not be used: missing, unreadable, or refused by the security rules.
    CredentialsInvalid,
    /// The API server does not accept our credentials, or they lack the rights to probe.
    CredentialsRefused,
    /// The cluster that answers is registered already, under another name.
    DuplicateRegistration,
    /// Another cluster answers than the one that was registered.
    IdentityMismatch,
    /// Not probed yet.
    #[default]
    NeverSeen,
    /// The server's certificate is not signed by the authority that the kubeconfig names.
    TlsRefused,
    /// No answer: refused, reset, no route, or silence until the deadline.
    Unreachable,
}

impl HealthReason {
    /// The CamelCase token used as condition reason, Event reason and metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ApiServerReady => "ApiServerReady",
            Self::ApiServerNotReady => "ApiServerNotReady",
            Self::CloudNodesNotReady => "CloudNodesNotReady",
            Self::CredentialsInvalid => "CredentialsInvalid",
            Self::CredentialsRefused => "CredentialsRefused",
            Self::DuplicateRegistration => "DuplicateRegistration",
            Self::IdentityMismatch => "IdentityMismatch",
            Self::NeverSeen => "NeverSeen",
            Self::TlsRefused => "TlsRefused",
            Self::Unreachable => "Unreachable",
        }
    }

    /// Whether it is about who the cluster is, which is never noise.
    const fn is_identity(self) -> bool {
        matches!(self, Self::DuplicateRegistration | Self::IdentityMismatch)
    }

    /// Whether the member itself said so, as opposed to us not hearing from it.
    const fn is_verdict(self) -> bool {
        matches!(
            self,
            Self::ApiServerNotReady
                | Self::CloudNodesNotReady
                | Self::CredentialsRefused
                | Self::DuplicateRegistration
                | Self::IdentityMismatch
        )
    }
}

impl fmt::Display for HealthReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How one probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a probe succeeds or it does not")]
pub enum Probe {
    /// The right cluster answered and is well.
    Succeeded,
    /// Anything else, and what it was.
    Failed(HealthReason),
}

/// How often to probe and how long silence is tolerated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthPolicy {
    /// How long a member stays Ready after its last successful probe. Default 40 s, as for a node.
    pub grace: Duration,
    /// Time between probes while they succeed. Default 10 s.
    pub period: Duration,
    /// Time between the end of a failed probe and the next. Default 500 ms.
    pub retry: Duration,
    /// The deadline of one probe. Default 2 s.
    pub timeout: Duration,
    /// Successes in a row before a member that was lost is Ready again, at least 1. Default 2.
    pub recovery: u32,
}

impl Default for HealthPolicy {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(40),
            period: Duration::from_secs(10),
            retry: Duration::from_millis(500),
            timeout: Duration::from_secs(2),
            recovery: 2,
        }
    }
}

impl HealthPolicy {
    /// The default proportions (a period of a quarter, a timeout of a twentieth, a retry of an eightieth) for a grace.
    ///
    /// Whatever the grace, at least twelve probes fail in a row before a member is lost.
    #[must_use]
    pub fn with_grace(grace: Duration) -> Self {
        Self {
            grace,
            period: grace / 4,
            retry: grace / 80,
            timeout: grace / 20,
            ..Self::default()
        }
    }

    /// The fewest probes that must fail in a row, each at its deadline, before a member is lost.
    ///
    /// A share `q` of lost probes turns a healthy member Unknown with a chance of `q` to this power in each grace;
    /// with the defaults and 30% loss that is under one in a million.
    #[must_use]
    pub fn attempts_in_grace(&self) -> u32 {
        let attempt = (self.timeout + self.retry).as_millis().max(1);
        let suspect = self.grace.saturating_sub(self.period).as_millis();
        u32::try_from(suspect / attempt).unwrap_or(u32::MAX)
    }
}

/// What is known about one member, and since when.
///
/// A value: the probes and the time go in, the next value comes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthState {
    /// The verdict.
    pub health: HealthStatus,
    /// Why.
    pub reason: HealthReason,
    /// When the health last became another, if it ever was one.
    pub since: Option<Timestamp>,
    /// When a probe last succeeded.
    pub last_seen: Option<Timestamp>,
    /// When the member last answered with a verdict of its own against it.
    last_verdict: Option<Timestamp>,
    /// The last failure since the last success.
    pending: Option<HealthReason>,
    /// Successes in a row.
    streak: u32,
}

/// A change of health, for an Event and a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transition {
    /// What it was.
    pub from: HealthStatus,
    /// What it is.
    pub to: HealthStatus,
    /// Why it is so now.
    pub reason: HealthReason,
}

impl HealthState {
    /// What an earlier run recorded in a status. The lease goes on where it was.
    #[must_use]
    pub fn resumed(
        health: HealthStatus,
        reason: HealthReason,
        since: Option<Timestamp>,
        last_seen: Option<Timestamp>,
    ) -> Self {
        let pending = (health != HealthStatus::Ready).then_some(reason);
        Self {
            health,
            reason,
            since,
            last_seen,
            pending,
            ..Self::default()
        }
    }

    /// Takes in the result of a probe that ended at `at`, and says what that changed.
    ///
    /// A probe that ended before the last one taken in moves nothing backwards. Another identity is not noise: it
    /// counts at once. Everything else must last for the grace.
    pub fn observe(&mut self, policy: &HealthPolicy, probe: Probe, at: Timestamp) -> Option<Transition> {
        match probe {
            Probe::Succeeded => {
                self.last_seen = self.last_seen.max(Some(at));
                self.pending = None;
                self.last_verdict = None;
                self.streak = self.streak.saturating_add(1);
                let never_seen = self.reason == HealthReason::NeverSeen;
                if self.health != HealthStatus::Ready && (never_seen || self.streak >= policy.recovery) {
                    return self.turn(HealthStatus::Ready, HealthReason::ApiServerReady, at);
                }
                None
            }
            Probe::Failed(reason) => {
                self.streak = 0;
                self.pending = Some(reason);
                if reason.is_verdict() {
                    self.last_verdict = self.last_verdict.max(Some(at));
                }
                if reason.is_identity() {
                    return self.turn(HealthStatus::NotReady, reason, at);
                }
                self.elapse(policy, at)
            }
        }
    }

    /// What the passing of time alone changes: a lease that has run out.
    pub fn elapse(&mut self, policy: &HealthPolicy, now: Timestamp) -> Option<Transition> {
        let reason = self.pending?;
        if self.reason.is_identity() && self.health == HealthStatus::NotReady {
            // Only the right cluster, answering, clears this.
            return None;
        }
        if self.last_seen.is_some_and(|seen| now < after(seen, policy.grace))
            && self.health == HealthStatus::Ready
        {
            return None;
        }
        let heard = self.last_verdict.is_some_and(|at| now < after(at, policy.grace));
        let health = if heard {
            HealthStatus::NotReady
        } else {
            HealthStatus::Unknown
        };
        let reason = if heard || !reason.is_verdict() {
            reason
        } else {
            HealthReason::Unreachable
        };
        self.turn(health, reason, now)
    }

    /// What the last probe ran into, if it failed.
    #[must_use]
    pub const fn last_failure(&self) -> Option<HealthReason> {
        self.pending
    }

    /// When to probe next, given the end of the last probe.
    #[must_use]
    pub fn next_probe(&self, policy: &HealthPolicy, last: Timestamp) -> Timestamp {
        let recovering = self.health != HealthStatus::Ready && self.streak > 0;
        let suspect = self.pending.is_some() && self.health == HealthStatus::Ready;
        after(
            last,
            if recovering || suspect {
                policy.retry
            } else {
                policy.period
            },
        )
    }

    /// When the lease runs out if nothing is heard until then. `None` when it already has.
    #[must_use]
    pub fn expires(&self, policy: &HealthPolicy) -> Option<Timestamp> {
        (self.health == HealthStatus::Ready).then(|| self.last_seen.map(|seen| after(seen, policy.grace)))?
    }

    fn turn(&mut self, to: HealthStatus, reason: HealthReason, now: Timestamp) -> Option<Transition> {
        let from = self.health;
        let known = self.since.is_some();
        self.reason = reason;
        if from == to && known {
            return None;
        }
        self.health = to;
        self.since = Some(now);
        (from != to).then_some(Transition { from, to, reason })
    }
}

fn after(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap()
    }

    fn ready() -> HealthState {
        let mut state = HealthState::default();
        state
            .observe(&HealthPolicy::default(), Probe::Succeeded, at(0))
            .unwrap();
        state
    }

    const LOST: Probe = Probe::Failed(HealthReason::Unreachable);

    #[test]
    fn a_member_nobody_probed_is_unknown_and_stays_so() {
        let mut state = HealthState::default();
        assert_eq!(state.elapse(&HealthPolicy::default(), at(1_000_000)), None);
        assert_eq!(
            (state.health, state.reason),
            (HealthStatus::Unknown, HealthReason::NeverSeen)
        );
    }

    #[test]
    fn the_first_answer_makes_a_member_ready() {
        assert_eq!(ready().health, HealthStatus::Ready);
    }

    #[test]
    fn failures_within_the_grace_change_nothing() {
        let policy = HealthPolicy::default();
        let mut state = ready();
        for second in 1..40 {
            assert_eq!(state.observe(&policy, LOST, at(second * 1000)), None);
        }
        assert_eq!(state.health, HealthStatus::Ready);
    }

    #[test]
    fn silence_for_the_grace_is_unknown_at_its_end_and_not_before() {
        let policy = HealthPolicy::default();
        let mut state = ready();
        state.observe(&policy, LOST, at(10_000));
        assert_eq!(state.expires(&policy), Some(at(40_000)));
        assert_eq!(state.elapse(&policy, at(39_999)), None);
        let turned = state.elapse(&policy, at(40_000)).unwrap();
        assert_eq!(
            (turned.to, turned.reason),
            (HealthStatus::Unknown, HealthReason::Unreachable)
        );
        assert_eq!(state.since, Some(at(40_000)));
    }

    #[test]
    fn time_alone_loses_nobody_that_was_not_probed_in_vain() {
        let mut state = ready();
        assert_eq!(
            state.elapse(&HealthPolicy::default(), at(3_600_000)),
            None,
            "a paused controller is not a dead member"
        );
    }

    #[test]
    fn a_server_that_calls_itself_not_ready_for_the_grace_is_not_ready() {
        let policy = HealthPolicy::default();
        let mut state = ready();
        state.observe(&policy, Probe::Failed(HealthReason::ApiServerNotReady), at(1_000));
        let turned = state
            .observe(
                &policy,
                Probe::Failed(HealthReason::ApiServerNotReady),
                at(40_000),
            )
            .unwrap();
        assert_eq!(
            (turned.to, turned.reason),
            (HealthStatus::NotReady, HealthReason::ApiServerNotReady)
        );
    }

    #[test]
    fn not_ready_becomes_unknown_when_it_falls_silent() {
        let policy = HealthPolicy::default();
        let mut state = ready();
        state.observe(
            &policy,
            Probe::Failed(HealthReason::ApiServerNotReady),
            at(40_000),
        );
        assert_eq!(state.health, HealthStatus::NotReady);
        state.observe(&policy, LOST, at(60_000));
        assert_eq!(state.health, HealthStatus::NotReady, "its word still counts");
        state.observe(&policy, LOST, at(80_000));
        assert_eq!(state.health, HealthStatus::Unknown);
    }

    #[test]
    fn another_cluster_behind_the_kubeconfig_counts_at_once_and_until_the_right_one_answers() {
        let policy = HealthPolicy::default();
        let mut state = ready();
        let turned = state
            .observe(&policy, Probe::Failed(HealthReason::IdentityMismatch), at(1))
            .unwrap();
        assert_eq!(turned.to, HealthStatus::NotReady);
        state.observe(&policy, LOST, at(500_000));
        assert_eq!(
            (state.health, state.reason),
            (HealthStatus::NotReady, HealthReason::IdentityMismatch)
        );
        state.observe(&policy, Probe::Succeeded, at(500_001));
        assert_eq!(
            state.observe(&policy, Probe::Succeeded, at(500_002)).unwrap().to,
            HealthStatus::Ready
        );
    }

    #[test]
    fn a_lost_member_is_ready_after_two_answers_in_a_row() {
        let policy = HealthPolicy::default();
        let mut state = ready();
        state.observe(&policy, LOST, at(50_000));
        assert_eq!(state.health, HealthStatus::Unknown);
        assert_eq!(state.observe(&policy, Probe::Succeeded, at(51_000)), None);
        assert_eq!(state.observe(&policy, LOST, at(52_000)), None);
        assert_eq!(state.observe(&policy, Probe::Succeeded, at(53_000)), None);
        assert_eq!(
            state.observe(&policy, Probe::Succeeded, at(54_000)).unwrap().to,
            HealthStatus::Ready
        );
    }

    #[test]
    fn a_suspect_is_probed_more_often_and_a_lost_member_is_not() {
        let policy = HealthPolicy::default();
        let mut state = ready();
        assert_eq!(state.next_probe(&policy, at(0)), at(10_000));
        state.observe(&policy, LOST, at(10_000));
        assert_eq!(state.next_probe(&policy, at(10_000)), at(10_500));
        state.observe(&policy, LOST, at(40_000));
        assert_eq!(state.health, HealthStatus::Unknown);
        assert_eq!(
            state.next_probe(&policy, at(40_000)),
            at(50_000),
            "a member that is gone costs next to nothing"
        );
    }

    #[test]
    fn thirty_percent_loss_for_a_week_flaps_nobody() {
        let policy = HealthPolicy::default();
        assert!(policy.attempts_in_grace() >= 12);
        let mut state = ready();
        let (mut now, mut seed) = (0_i64, 42_u64);
        while now < 7 * 24 * 3_600_000 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let lost = (seed >> 33) % 10 < 3;
            now += if lost { 2_000 } else { 20 };
            let probe = if lost { LOST } else { Probe::Succeeded };
            assert_eq!(
                state.observe(&policy, probe, at(now)),
                None,
                "flapped after {now} ms"
            );
            now = (state.next_probe(&policy, at(now)).as_millisecond() - at(0).as_millisecond()).max(now + 1);
        }
    }

    #[test]
    fn the_record_of_an_earlier_run_keeps_its_lease() {
        let policy = HealthPolicy::default();
        let mut state = HealthState::resumed(
            HealthStatus::Ready,
            HealthReason::ApiServerReady,
            Some(at(-90_000)),
            Some(at(0)),
        );
        assert_eq!(state.observe(&policy, LOST, at(1_000)), None);
        assert_eq!(
            state.observe(&policy, LOST, at(40_000)).unwrap().to,
            HealthStatus::Unknown
        );
    }
}
