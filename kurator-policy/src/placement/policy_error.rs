//! Why a policy cannot be used as it is written.

use kurator_core::reason::Reason;
use kurator_core::selector::SelectorError;
use thiserror::Error;

/// Why a policy cannot be used as it is written. An API server that has our CRDs refuses most of these already.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A label selector is one the API server would refuse.
    #[error("the label selector of {at} cannot be used")]
    Selector {
        /// The field of the policy.
        at: String,
        /// What is wrong with it.
        #[source]
        source: Box<SelectorError>,
    },
    /// A toleration has an operator other than `Exists` and `Equal`.
    #[error("clusterTolerations: operator {operator:?} of key {key:?} is none of Exists and Equal")]
    Toleration {
        /// The key tolerated.
        key: String,
        /// The operator.
        operator: String,
    },
    /// Both `clusterAffinity` and `clusterAffinities` are set.
    #[error("clusterAffinity and clusterAffinities exclude each other; remove one")]
    TwoAffinities,
    /// A spread constraint sets both `spreadByField` and `spreadByLabel`, or neither.
    #[error("spreadConstraints[{index}]: exactly one of spreadByField and spreadByLabel must be set")]
    SpreadBy {
        /// Which constraint.
        index: usize,
    },
    /// A spread constraint asks for more groups than it allows.
    #[error("spreadConstraints[{index}]: minGroups {min} is above maxGroups {max}; raise maxGroups")]
    SpreadRange {
        /// Which constraint.
        index: usize,
        /// Its minimum.
        min: u32,
        /// Its maximum.
        max: u32,
    },
    /// Two spread constraints are about the same thing.
    #[error("spreadConstraints[{index}]: {by} has a constraint already; merge the two")]
    SpreadTwice {
        /// Which constraint.
        index: usize,
        /// What it spreads by.
        by: String,
    },
    /// A minimum is above a maximum for the same cluster.
    #[error("{at}: minReplicas {min} is above maxReplicas {max}; lower it")]
    LimitRange {
        /// Which limit, or which cluster several limits meet in.
        at: String,
        /// The minimum.
        min: u32,
        /// The maximum.
        max: u32,
    },
    /// `surviveClusterLoss` sets both of its fields, or neither.
    #[error("surviveClusterLoss: exactly one of minAvailable and minAvailablePercent must be set")]
    SurviveClusterLoss,
    /// `subGangs` beside a field that does not go with it.
    #[error("gang.subGangs: it does not go with {with}; leave one of them out")]
    SubGangs {
        /// The other field.
        with: &'static str,
    },
    /// A level of `hierarchy` sets both `groupByField` and `groupByLabel`, or neither.
    #[error("hierarchy[{index}]: exactly one of groupByField and groupByLabel must be set")]
    GroupBy {
        /// Which level.
        index: usize,
    },
}

impl Reason for PolicyError {
    fn token(&self) -> &'static str {
        match self {
            Self::Selector { .. } => "InvalidSelector",
            Self::Toleration { .. } => "InvalidToleration",
            Self::TwoAffinities => "InvalidAffinity",
            Self::LimitRange { .. } | Self::SurviveClusterLoss => "InvalidLimits",
            Self::GroupBy { .. } => "InvalidWeights",
            Self::SubGangs { .. } => "InvalidGang",
            Self::SpreadBy { .. } | Self::SpreadRange { .. } | Self::SpreadTwice { .. } => "InvalidSpread",
        }
    }
}
