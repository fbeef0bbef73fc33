//! A policy read once: durations with their defaults, selectors compiled.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use kube::core::Duration;
use kurator_core::{
    names::{ClusterName, FleetName},
    reason::Reason,
    selector::{LabelMatcher, SelectorError},
};

use crate::api::{
    BackupPolicy, ClusterOverride, ClusterSelection, Consistency, RunLimits, SuccessMode, SuccessRule,
};
use crate::driver::BackupHook;

/// Why a policy cannot be carried out by anybody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A duration is negative, or zero where that makes no sense.
    #[error("{field} is {value}: expected a duration of at least {least}, such as 90s or 1h30m")]
    Duration {
        /// The field, as a path from the policy.
        field: &'static str,
        /// What stands there.
        value: String,
        /// The least that is taken.
        least: &'static str,
    },
    /// A label selector is malformed.
    #[error("{field} is no label selector")]
    Selector {
        /// The field.
        field: String,
        /// What is wrong with it.
        #[source]
        source: SelectorError,
    },
    /// The quorum is missing or zero.
    #[error("success.mode is Quorum without success.quorum; say how many members must complete")]
    Quorum,
    /// The consistency `Fleet` without anything that holds the applications still.
    #[error(
        "consistency is Fleet and quiesce.hooks is empty; say what holds the applications still, or ask for None"
    )]
    NothingQuiesces,
    /// Hooks without a consistency that runs them.
    #[error("there are hooks and consistency is None; ask for Application or Fleet, or leave the hooks out")]
    HooksWithoutConsistency,
    /// A hook has no command.
    #[error("hook {hook} has an empty command; give the program and its arguments")]
    EmptyCommand {
        /// The hook.
        hook: String,
    },
    /// Two hooks have one name.
    #[error("two hooks are called {hook}; names of hooks are unique in a policy")]
    HookTwice {
        /// The name.
        hook: String,
    },
}

impl Reason for PolicyError {
    fn token(&self) -> &'static str {
        match self {
            Self::Duration { .. } => "InvalidDuration",
            Self::Selector { .. } => "InvalidSelector",
            Self::Quorum => "QuorumMissing",
            Self::NothingQuiesces => "NothingQuiesces",
            Self::HooksWithoutConsistency => "HooksWithoutConsistency",
            Self::EmptyCommand { .. } => "EmptyCommand",
            Self::HookTwice { .. } => "HookTwice",
        }
    }
}

/// A policy that was read and can be carried out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Prepared {
    /// The policy as it is written.
    pub source: BackupPolicy,
    pub(crate) limits: Limits,
    pub(crate) quiesce: Option<Quiesce>,
    pub(crate) clusters: Selection,
    pub(crate) overrides: Vec<(Selection, ClusterOverride)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) max_parallel: usize,
    pub(crate) jitter: SignedDuration,
    pub(crate) deadline: SignedDuration,
    pub(crate) max_attempts: u32,
    pub(crate) first_backoff: SignedDuration,
    pub(crate) longest_backoff: SignedDuration,
    pub(crate) stall_after: SignedDuration,
    pub(crate) hang_after: SignedDuration,
}

impl Limits {
    pub(crate) fn new(given: &RunLimits) -> Result<Self, PolicyError> {
        Ok(Self {
            max_parallel: usize::try_from(given.max_parallel.unwrap_or(10).max(1)).unwrap_or(usize::MAX),
            jitter: at_least("limits.jitter", given.jitter, 0, 0, "0s")?,
            deadline: at_least("limits.deadline", given.deadline, 3600, 1, "1s")?,
            max_attempts: given.max_attempts.unwrap_or(5).max(1),
            first_backoff: at_least("limits.firstBackoff", given.first_backoff, 5, 1, "1s")?,
            longest_backoff: at_least("limits.longestBackoff", given.longest_backoff, 60, 1, "1s")?,
            stall_after: at_least("limits.stallAfter", given.stall_after, 30, 1, "1s")?,
            hang_after: at_least("limits.hangAfter", given.hang_after, 1800, 1, "1s")?,
        })
    }

    /// The pause after that many failures in a row.
    pub(crate) fn backoff(&self, failures: u32) -> SignedDuration {
        let factor = 1_i32 << failures.saturating_sub(1).min(20);
        self.first_backoff
            .checked_mul(factor)
            .map_or(self.longest_backoff, |pause| pause.min(self.longest_backoff))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Quiesce {
    pub(crate) hooks: Vec<BackupHook>,
    pub(crate) lease: SignedDuration,
    pub(crate) timeout: SignedDuration,
}

#[derive(Clone, Debug)]
pub(crate) struct Selection {
    pub(crate) names: Vec<ClusterName>,
    matcher: Option<LabelMatcher>,
}

impl Selection {
    pub(crate) fn new(selection: &ClusterSelection, field: &str) -> Result<Self, PolicyError> {
        let matcher = selection
            .selector
            .as_ref()
            .map(LabelMatcher::compile)
            .transpose()
            .map_err(|source| PolicyError::Selector {
                field: field.to_owned(),
                source,
            })?;
        Ok(Self {
            names: selection.names.clone(),
            matcher,
        })
    }

    pub(crate) fn selects(&self, cluster: &ClusterName, labels: &BTreeMap<String, String>) -> bool {
        (self.names.is_empty() && self.matcher.is_none())
            || self.names.contains(cluster)
            || self
                .matcher
                .as_ref()
                .is_some_and(|matcher| matcher.matches(labels))
    }
}

impl Prepared {
    /// Reads a policy.
    ///
    /// # Errors
    /// [`PolicyError`]: what nobody could carry out. What depends on a member is found when it is looked at.
    pub fn new(policy: &BackupPolicy) -> Result<Self, PolicyError> {
        let limits = Limits::new(&policy.limits)?;
        if let Some(ttl) = policy.ttl {
            at_least("ttl", Some(ttl), 0, 1, "1s")?;
        }
        for hooks in std::iter::once(&policy.hooks)
            .chain(policy.quiesce.iter().map(|quiesce| &quiesce.hooks))
            .chain(policy.overrides.iter().filter_map(|it| it.hooks.as_ref()))
        {
            check_hooks(hooks)?;
            if !hooks.is_empty() && policy.consistency == Consistency::None {
                return Err(PolicyError::HooksWithoutConsistency);
            }
        }
        if let SuccessRule {
            mode: SuccessMode::Quorum,
            quorum: None | Some(0),
        } = policy.success
        {
            return Err(PolicyError::Quorum);
        }
        let quiesce = match (policy.consistency, &policy.quiesce) {
            (Consistency::Fleet, Some(quiesce)) if !quiesce.hooks.is_empty() => Some(Quiesce {
                hooks: quiesce.hooks.clone(),
                lease: at_least("quiesce.lease", quiesce.lease, 120, 10, "10s")?,
                timeout: at_least("quiesce.timeout", quiesce.timeout, 60, 1, "1s")?,
            }),
            (Consistency::Fleet, _) => return Err(PolicyError::NothingQuiesces),
            _ => None,
        };
        let mut overrides = Vec::with_capacity(policy.overrides.len());
        for (index, entry) in policy.overrides.iter().enumerate() {
            if let Some(ttl) = entry.ttl {
                at_least("overrides.ttl", Some(ttl), 0, 1, "1s")?;
            }
            let field = format!("overrides[{index}].clusters.selector");
            overrides.push((Selection::new(&entry.clusters, &field)?, entry.clone()));
        }
        Ok(Self {
            clusters: Selection::new(&policy.clusters, "clusters.selector")?,
            source: policy.clone(),
            limits,
            quiesce,
            overrides,
        })
    }

    /// The fleet.
    #[must_use]
    pub fn fleet(&self) -> &FleetName {
        &self.source.fleet
    }
}

fn check_hooks(hooks: &[BackupHook]) -> Result<(), PolicyError> {
    for (index, hook) in hooks.iter().enumerate() {
        if hooks.iter().take(index).any(|other| other.name == hook.name) {
            return Err(PolicyError::HookTwice {
                hook: hook.name.clone(),
            });
        }
        let empty = |command: &[String]| command.first().is_none_or(String::is_empty);
        if hook.pre.iter().chain(&hook.post).any(|exec| empty(&exec.command)) {
            return Err(PolicyError::EmptyCommand {
                hook: hook.name.clone(),
            });
        }
    }
    Ok(())
}

fn at_least(
    field: &'static str,
    given: Option<Duration>,
    default: i64,
    least_seconds: i64,
    least: &'static str,
) -> Result<SignedDuration, PolicyError> {
    let Some(given) = given else {
        return Ok(SignedDuration::from_secs(default));
    };
    let refuse = || PolicyError::Duration {
        field,
        value: duration_text(given),
        least,
    };
    let duration = signed(given).ok_or_else(refuse)?;
    if duration < SignedDuration::from_secs(least_seconds) {
        return Err(refuse());
    }
    Ok(duration)
}

/// The same duration as jiff has it; `None` if it is negative or too long.
pub(crate) fn signed(given: Duration) -> Option<SignedDuration> {
    if given.is_negative() {
        return None;
    }
    SignedDuration::try_from(std::time::Duration::from(given)).ok()
}

fn duration_text(given: Duration) -> String {
    serde_json::to_value(given)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}
