use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use kurator_core::{
    names::{ClusterName, FleetName, bounded_name},
    reason::Reason,
};

use super::safety::{KINDS, modifiers};
use crate::{
    api::{BackupScheduleSpec, RestoreExecutionSpec, RestoreSource, RestoreTarget, VerificationRun},
    cron::{CronError, CronSchedule},
    driver::{OwnerToken, ScratchRequest},
    run::{PolicyError, Selection, signed},
};

/// Why nothing can be verified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerificationError {
    /// The expression is wrong.
    #[error("spec.verification.schedule cannot be read")]
    Cron {
        /// What is wrong with it.
        #[source]
        source: CronError,
    },
    /// There is no such time zone.
    #[error("spec.timeZone {zone:?} is no time zone; expected an IANA name such as Europe/Berlin, or UTC")]
    Zone {
        /// The name.
        zone: String,
    },
    /// The selection of members is wrong.
    #[error("spec.verification.clusters cannot be read")]
    Clusters {
        /// Why.
        #[source]
        source: PolicyError,
    },
    /// The deadline is negative or zero.
    #[error("spec.verification.deadline is no time; expected a duration such as 30m")]
    Deadline,
    /// Nobody says which namespaces are restored.
    #[error(
        "nothing says which namespaces are verified; list them in spec.verification.namespaces, or by name in \
         spec.template.scope.includedNamespaces"
    )]
    NoNamespaces,
    /// What is called a namespace is none.
    #[error("{namespace:?} is not the name of a namespace; a verification takes names and no globs")]
    Namespace {
        /// The text.
        namespace: String,
    },
    /// More namespaces than one verification takes.
    #[error(
        "{count} namespaces are more than a verification takes; list at most 20 in spec.verification.namespaces"
    )]
    TooMany {
        /// How many.
        count: usize,
    },
}

impl Reason for VerificationError {
    fn token(&self) -> &'static str {
        match self {
            Self::Cron { .. } => "InvalidSchedule",
            Self::Zone { .. } => "InvalidTimeZone",
            Self::Clusters { source } => source.token(),
            Self::Deadline => "InvalidDuration",
            Self::NoNamespaces => "NoNamespaces",
            Self::Namespace { .. } => "InvalidNamespace",
            Self::TooMany { .. } => "TooManyNamespaces",
        }
    }
}

/// The test restores of one schedule.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Verification {
    /// Namespace of the schedule.
    pub namespace: String,
    /// Name of the schedule.
    pub schedule: String,
    /// UID of the schedule: what everything that is made for it carries.
    pub uid: String,
    pub(super) fleet: FleetName,
    /// `None` where no verification is wanted.
    pub(super) rules: Result<Option<Rules>, VerificationError>,
}

/// What is wanted, read.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) counted_by: String,
    pub(super) paused: bool,
    pub(super) cron: CronSchedule,
    pub(super) zone: TimeZone,
    pub(super) clusters: Selection,
    pub(super) members: usize,
    pub(super) onto: Option<ClusterName>,
    pub(super) namespaces: Vec<String>,
    pub(super) deadline: SignedDuration,
    pub(super) keep_failed: bool,
}

const MOST_NAMESPACES: usize = 20;
const MOST_MEMBERS: usize = 10;

impl Verification {
    /// The verification of a schedule of this name and UID. What is wrong with its policy is said when it is
    /// [stepped](super::step()): what is under way is cleaned up in any case.
    pub fn new(
        namespace: impl Into<String>,
        schedule: impl Into<String>,
        uid: impl Into<String>,
        spec: &BackupScheduleSpec,
    ) -> Self {
        Self {
            namespace: namespace.into(),
            schedule: schedule.into(),
            uid: uid.into(),
            fleet: spec.template.fleet.clone(),
            rules: rules(spec),
        }
    }

    /// Whether verifications are wanted, and can be made.
    #[must_use]
    pub const fn is_wanted(&self) -> bool {
        matches!(self.rules, Ok(Some(_)))
    }

    /// What the restore of a verification is called: always the same.
    #[must_use]
    pub fn restore_name(&self, run: &VerificationRun) -> String {
        let began = run.started_at.0.as_second().to_string();
        bounded_name([self.schedule.as_str(), "verify", &began, &self.uid])
    }

    /// The scratch namespaces on each member: names of at most 63 characters that follow from the UID of the schedule,
    /// the verification and the namespace.
    #[must_use]
    pub fn scratch(&self, run: &VerificationRun) -> ScratchRequest {
        ScratchRequest::new(self.owner(run), self.mapping(run).into_values())
    }

    fn owner(&self, run: &VerificationRun) -> OwnerToken {
        let began = run.started_at.0.as_second().to_string();
        OwnerToken::bounded(["verify", &self.uid, &began])
    }

    /// Which namespace of the backup goes into which scratch namespace.
    fn mapping(&self, run: &VerificationRun) -> BTreeMap<String, String> {
        let began = run.started_at.0.as_second().to_string();
        let scratch = |namespace: &String| {
            let full = bounded_name([namespace.as_str(), &began, &self.uid]);
            let hash = full.get(full.len().saturating_sub(10)..).unwrap_or(&full);
            let head = namespace.get(..namespace.len().min(45)).unwrap_or(namespace);
            (
                namespace.clone(),
                format!("verify-{}-{hash}", head.trim_end_matches('-')),
            )
        };
        run.namespaces.iter().map(scratch).collect()
    }

    /// The restore of a verification. It takes the named namespaces and no other, each into a scratch namespace.
    #[must_use]
    pub fn restore(&self, run: &VerificationRun) -> RestoreExecutionSpec {
        let mut spec =
            RestoreExecutionSpec::new(self.fleet.clone(), RestoreSource::execution(&run.execution));
        spec.clusters.names.clone_from(&run.clusters);
        spec.targets = run
            .onto
            .iter()
            .flat_map(|to| {
                run.clusters
                    .iter()
                    .map(|from| RestoreTarget::new(from.clone(), to.clone()))
            })
            .collect();
        spec.namespace_mapping = self.mapping(run);
        spec.scope.included_namespaces.clone_from(&run.namespaces);
        spec.scope.included_resources = KINDS.map(str::to_owned).to_vec();
        spec.scope.include_cluster_resources = Some(false);
        spec.restore_volumes = Some(false);
        spec.preserve_node_ports = Some(false);
        spec.modifiers = Some(modifiers());
        // Another attempt would be another restore into the same namespaces; the next verification is one.
        spec.limits.max_attempts = Some(1);
        let left = run.until.0.duration_since(run.started_at.0).unsigned_abs();
        spec.limits.deadline = Some(left.into());
        spec
    }
}

fn rules(spec: &BackupScheduleSpec) -> Result<Option<Rules>, VerificationError> {
    let Some(policy) = &spec.verification else {
        return Ok(None);
    };
    let cron = CronSchedule::parse(&policy.schedule).map_err(|source| VerificationError::Cron { source })?;
    let zone = match &spec.time_zone {
        None => TimeZone::UTC,
        Some(name) => TimeZone::get(name).map_err(|_| VerificationError::Zone { zone: name.clone() })?,
    };
    let clusters = Selection::new(&policy.clusters, "verification.clusters.selector")
        .map_err(|source| VerificationError::Clusters { source })?;
    let deadline = match policy.deadline {
        None => SignedDuration::from_mins(30),
        Some(given) => signed(given)
            .filter(|deadline| *deadline >= SignedDuration::from_secs(1))
            .ok_or(VerificationError::Deadline)?,
    };
    let mut namespaces = if policy.namespaces.is_empty() {
        spec.template.scope.included_namespaces.clone()
    } else {
        policy.namespaces.clone()
    };
    namespaces.sort();
    namespaces.dedup();
    if namespaces.is_empty() || namespaces == ["*"] {
        return Err(VerificationError::NoNamespaces);
    }
    if let Some(namespace) = namespaces.iter().find(|name| !is_label(name)) {
        let namespace = namespace.clone();
        return Err(VerificationError::Namespace { namespace });
    }
    if namespaces.len() > MOST_NAMESPACES {
        let count = namespaces.len();
        return Err(VerificationError::TooMany { count });
    }
    let wanted = usize::try_from(policy.members.unwrap_or(1)).unwrap_or(1);
    let paused = if spec.paused { " paused" } else { "" };
    Ok(Some(Rules {
        counted_by: format!(
            "{} {}{paused}",
            policy.schedule,
            spec.time_zone.as_deref().unwrap_or("UTC")
        ),
        paused: spec.paused,
        cron,
        zone,
        clusters,
        members: if policy.onto.is_some() {
            1
        } else {
            wanted.clamp(1, MOST_MEMBERS)
        },
        onto: policy.onto.clone(),
        namespaces,
        deadline,
        keep_failed: policy.keep_failed,
    }))
}

/// Whether a namespace can be called so (RFC 1123).
fn is_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

impl Rules {
    /// The next time after this one.
    pub(super) fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        if self.paused {
            None
        } else {
            self.cron.next_after(at, &self.zone)
        }
    }
}
