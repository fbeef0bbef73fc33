//! What a plan has to say beside its numbers: typed, counted in, printed by `Display`.

use std::fmt;

use kurator_core::{names::ClusterName, reason::Reason};

use super::{Missing, ObjectKey, ObjectKind, PolicyKey};
use crate::{
    failover::{Disruption, StateProblem},
    overrides::BrokenTotals,
};

/// Something about a policy that its owner should know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// The spec cannot be read; nothing was changed anywhere.
    InvalidSpec {
        /// What is wrong with it.
        problem: String,
    },
    /// The hub does not serve a kind that the policy selects, or not in namespaces.
    KindNotServed {
        /// The kind.
        kind: ObjectKind,
    },
    /// An override policy that concerns the policy's objects cannot be used; the objects it selects are held.
    InvalidOverride {
        /// Its name.
        policy: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No cluster can take an object; where it is already, it stays.
    NotPlaced {
        /// The object.
        object: ObjectKey,
        /// Why.
        problem: String,
    },
    /// Some replicas of an object find no room; the policy allows to place the others.
    PlacedInPart {
        /// The object.
        object: ObjectKey,
        /// The replicas that find none.
        missing: u64,
    },
    /// Another policy distributes the object.
    ClaimedByOther {
        /// The object.
        object: ObjectKey,
        /// The policy that has it.
        holder: PolicyKey,
    },
    /// No object matches the selectors.
    NothingSelected,
    /// The placement or a weight names a cluster that is not a member.
    UnknownCluster {
        /// The name.
        cluster: String,
    },
    /// Overrides make the clusters run another number of replicas than the division gave out.
    TotalChanged {
        /// The object.
        object: ObjectKey,
        /// What was given out, what came of it, and by whose word.
        totals: BrokenTotals,
    },
    /// Something that an object refers to cannot go along.
    DependencyMissing {
        /// What, and who needs it.
        missing: Missing,
    },
    /// Objects refer to more than [`MAX_DEPENDENCIES`](super::MAX_DEPENDENCIES) others.
    TooManyDependencies {
        /// How many do not go along.
        left_out: usize,
    },
    /// Most clusters are out of reach or not ready at once, so nothing leaves any of them for that.
    FailoverHeld {
        /// How many.
        disruption: Disruption,
    },
    /// What a copy says of its state cannot be a label, so it would not be carried along.
    StateUnfit {
        /// The object.
        object: ObjectKey,
        /// Where its copy is.
        cluster: ClusterName,
        /// The label it was to become.
        label: String,
        /// Why it cannot.
        problem: StateProblem,
    },
    /// The copies of the policy's objects say more of their state than can be kept.
    TooMuchState {
        /// The first object of which not all is kept.
        object: ObjectKey,
        /// How many bytes are kept.
        bytes: usize,
    },
    /// Nobody got the state of a copy that was left.
    StateNotCarried {
        /// The object.
        object: ObjectKey,
        /// The cluster that it left.
        cluster: String,
    },
    /// Other policies select the object too; they wait.
    Contested {
        /// The object.
        object: ObjectKey,
        /// The policies that wait.
        rivals: Vec<PolicyKey>,
    },
}

/// How much a note weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "good to know, look at it, does not work")]
pub enum Severity {
    /// Good to know.
    Information,
    /// It works, perhaps not as meant.
    Warning,
    /// Something that was asked for is not done.
    Failure,
}

impl Note {
    const fn reason(&self) -> &'static str {
        match self {
            Self::InvalidSpec { .. } => "InvalidSpec",
            Self::KindNotServed { .. } => "KindNotServed",
            Self::InvalidOverride { .. } => "InvalidOverride",
            Self::NotPlaced { .. } => "NotPlaced",
            Self::PlacedInPart { .. } => "PlacedInPart",
            Self::ClaimedByOther { .. } => "ClaimedByOther",
            Self::NothingSelected => "NothingSelected",
            Self::UnknownCluster { .. } => "UnknownCluster",
            Self::TotalChanged { .. } => "TotalChanged",
            Self::DependencyMissing { missing } => missing.token(),
            Self::TooManyDependencies { .. } => "TooManyDependencies",
            Self::FailoverHeld { .. } => "FleetDisrupted",
            Self::StateUnfit { problem, .. } => problem.reason(),
            Self::TooMuchState { .. } => "TooMuchState",
            Self::StateNotCarried { .. } => "StateNotCarried",
            Self::Contested { .. } => "Contested",
        }
    }

    /// How much it weighs.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::Contested { .. } => Severity::Information,
            Self::TotalChanged { .. }
            | Self::UnknownCluster { .. }
            | Self::DependencyMissing { .. }
            | Self::FailoverHeld { .. }
            | Self::StateUnfit { .. }
            | Self::TooMuchState { .. }
            | Self::StateNotCarried { .. } => Severity::Warning,
            Self::InvalidSpec { .. }
            | Self::KindNotServed { .. }
            | Self::InvalidOverride { .. }
            | Self::NotPlaced { .. }
            | Self::PlacedInPart { .. }
            | Self::ClaimedByOther { .. }
            | Self::NothingSelected
            | Self::TooManyDependencies { .. } => Severity::Failure,
        }
    }
}

impl Reason for Note {
    fn token(&self) -> &'static str {
        self.reason()
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidSpec { problem } => write!(f, "the spec cannot be used: {problem}"),
            Self::KindNotServed { kind } => write!(f, "the hub does not serve {kind} in namespaces"),
            Self::InvalidOverride { policy, problem } => {
                write!(f, "override policy {policy} cannot be used: {problem}")
            }
            Self::NotPlaced { object, problem } => write!(f, "{object} is not placed: {problem}"),
            Self::PlacedInPart { object, missing } => {
                write!(
                    f,
                    "{missing} replicas of {object} find no room in any cluster; add room, or ask for fewer"
                )
            }
            Self::ClaimedByOther { object, holder } => {
                write!(
                    f,
                    "{object} belongs to policy {holder}; narrow one of the two selectors"
                )
            }
            Self::NothingSelected => f.write_str("no object of the namespace matches the resource selectors"),
            Self::UnknownCluster { cluster } => write!(f, "cluster {cluster} is not a member of the fleet"),
            Self::TotalChanged { object, totals } => write!(f, "{object}: {totals}"),
            Self::DependencyMissing { missing } => missing.fmt(f),
            Self::TooManyDependencies { left_out } => write!(
                f,
                "{left_out} objects that are referred to do not go along: split the policy"
            ),
            Self::FailoverHeld { disruption } => write!(
                f,
                "{disruption}, so it may be us who are cut off and nothing fails over for that; look at the hub's \
                 network, and taint the clusters that are really lost"
            ),
            Self::StateUnfit {
                object,
                cluster,
                label,
                problem,
            } => {
                write!(
                    f,
                    "{label} of {object} in {cluster} would not be carried along: {problem}"
                )
            }
            Self::TooMuchState { object, bytes } => write!(
                f,
                "more state than {bytes} bytes is not kept, from {object} on: split the policy"
            ),
            Self::StateNotCarried { object, cluster } => write!(
                f,
                "the state of {object} in {cluster} was not carried along: what took over is not one cluster that did \
                 not have the object; status.failovers shows the state"
            ),
            Self::Contested { object, rivals } => {
                write!(f, "{object} is selected by ")?;
                for (index, rival) in rivals.iter().take(5).enumerate() {
                    let comma = if index > 0 { ", " } else { "" };
                    write!(f, "{comma}{rival}")?;
                }
                if rivals.len() > 5 {
                    write!(f, " and {} more", rivals.len() - 5)?;
                }
                f.write_str(" too")
            }
        }
    }
}
