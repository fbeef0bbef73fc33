//! Why a cluster was dropped, chosen and given its number, and why a workload could not be placed.

use std::fmt;

use kurator_core::reason::Reason;
use serde::{Deserialize, Serialize};

use super::amount::Amount;

/// What became of one cluster in one step, and what would have to change for another answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ClusterReason {
    /// The policy does not name the cluster.
    NotInAffinity {
        /// The affinity group that was tried, if the policy has groups.
        group: Option<String>,
    },
    /// The cluster is being removed from the fleet.
    Deleting,
    /// The cluster does not serve the kind.
    ApiMissing {
        /// The API version of the object.
        api_version: String,
        /// The kind of the object.
        kind: String,
    },
    /// The cluster has a taint that the policy does not tolerate.
    Tainted {
        /// The taint, as `kubectl` writes it.
        taint: String,
    },
    /// The cluster is in none of the groups the workload spreads over.
    NotGrouped {
        /// What the groups share.
        by: String,
    },
    /// The workload is being evicted from the cluster.
    Evicting,
    /// The cluster is not ready, so it gets nothing new.
    NotReady,
    /// The host's own filter objects.
    FilteredByHost {
        /// The filter's name.
        filter: String,
        /// Its objection.
        objection: String,
    },
    /// The cluster has too little of the hardware asked for.
    HardwareMissing {
        /// The resource.
        resource: String,
        /// Free units on nodes of a fitting type.
        found: u64,
        /// Units asked for.
        wanted: u64,
    },
    /// The minimum of the gang does not fit on the nodes at the same time.
    GangDoesNotFit {
        /// How many of its members fit.
        fit: u32,
        /// How many have to run together.
        wanted: u32,
        /// What must be free on one node for one more of them.
        lacking: String,
    },
    /// How many more replicas fit.
    Room {
        /// The number of replicas.
        replicas: u64,
        /// What ends it.
        limit: Limit,
    },
    /// The spread chose other clusters.
    Outranked {
        /// The group of the cluster was not chosen; `None` if it was and others in it came first.
        group: Option<String>,
    },
    /// Chosen, and how many replicas it gets.
    Assigned {
        /// Its replicas from now on.
        replicas: u32,
        /// Its replicas today.
        previous: u32,
        /// How the number came about.
        share: ShareOf,
    },
}

/// What ends the room of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Limit {
    /// Nothing is known of its capacity, so it is taken to have room for everything.
    Unknown,
    /// The number of pods.
    Pods,
    /// A resource; one replica more needs `missing` more of it.
    Resource {
        /// The resource.
        name: String,
        /// How much of it is missing for one more replica.
        missing: Amount,
    },
    /// The cluster does not have the resource at all.
    NotOffered {
        /// The resource.
        name: String,
    },
    /// The size classes of its nodes.
    Models,
    /// What is free on its nodes one by one; one replica more needs `missing` more on that node.
    Node {
        /// The node that is nearest to it.
        node: String,
        /// The resource.
        name: String,
        /// How much of it is missing there.
        missing: Amount,
    },
    /// No node is near: none admits the replica, or all lack more than one resource or pods.
    Nodes,
    /// A cluster that is not ready takes nothing more.
    NotReady,
    /// The policy's maximum for the cluster.
    Maximum,
    /// The host's own estimator.
    Host,
}

/// How the number of a cluster came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ShareOf {
    /// Every chosen cluster gets all replicas.
    Copy,
    /// Nothing changed, so nothing moves.
    Kept,
    /// A part by weight: `weight` of `total`.
    Weight {
        /// Its weight.
        weight: u64,
        /// The sum of the weights.
        total: u64,
    },
    /// The replicas it runs stay; its part of the new ones goes by room.
    Grown,
    /// Its part of the ones that are left goes by what it runs.
    Shrunk,
    /// Its part of all goes by room.
    Fresh,
    /// The whole gang.
    Gang,
    /// The object has no replicas.
    NotDivided,
}

/// Why a workload is not placed. It stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Unplaced {
    /// There is no policy of that name.
    NoPolicy {
        /// The name.
        policy: String,
    },
    /// The policy cannot be used as it is written.
    InvalidPolicy {
        /// The policy.
        policy: String,
        /// What is wrong, with the causes.
        problem: String,
    },
    /// No cluster passes the filters.
    NoCluster {
        /// How many clusters there are.
        clusters: usize,
        /// How many clusters each reason dropped, by token.
        dropped: Vec<(String, usize)>,
    },
    /// A spread constraint cannot be met.
    Spread {
        /// What is spread by.
        by: String,
        /// The groups there are.
        found: usize,
        /// The groups asked for.
        wanted: usize,
    },
    /// The clusters a spread constraint allows have too little room together.
    SpreadRoom {
        /// How many clusters it allows.
        clusters: usize,
        /// The replicas they have room for.
        room: u64,
        /// The replicas to place.
        wanted: u64,
    },
    /// Two spread constraints group the clusters across each other, so that their groups cannot be counted together.
    SpreadCrosses {
        /// The one.
        by: String,
        /// A group of the other that reaches over several of its groups.
        group: String,
    },
    /// The clusters have too little room.
    NoRoom {
        /// The replicas that find no room.
        missing: u64,
        /// The replicas there is room for.
        room: u64,
        /// The replicas to place.
        wanted: u64,
    },
    /// No cluster holds the minimum of the gang at the same time.
    Gang {
        /// How many of its members fit where most of them do.
        fit: u32,
        /// How many have to run together.
        wanted: u32,
        /// What must be free on one node there for one more of them.
        lacking: String,
    },
    /// The clusters do not hold every gang of a workload at the same time.
    SubGangs {
        /// How many of its gangs fit.
        fit: u32,
        /// How many it has.
        wanted: u32,
    },
    /// The limits for single clusters contradict the number of replicas.
    Limits {
        /// What contradicts what.
        conflict: String,
    },
    /// A sum does not fit the type that has to hold it.
    Overflow {
        /// What was added up.
        what: String,
    },
}

impl Reason for ClusterReason {
    fn token(&self) -> &'static str {
        match self {
            Self::NotInAffinity { .. } => "NotInAffinity",
            Self::Deleting => "Deleting",
            Self::ApiMissing { .. } => "ApiMissing",
            Self::Tainted { .. } => "Tainted",
            Self::NotGrouped { .. } => "NotGrouped",
            Self::Evicting => "Evicting",
            Self::NotReady => "NotReady",
            Self::FilteredByHost { .. } => "FilteredByHost",
            Self::HardwareMissing { .. } => "HardwareMissing",
            Self::GangDoesNotFit { .. } => "GangDoesNotFit",
            Self::Room { .. } => "Room",
            Self::Outranked { .. } => "Outranked",
            Self::Assigned { .. } => "Assigned",
        }
    }
}

impl fmt::Display for ClusterReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInAffinity { group: None } => {
                f.write_str("the affinity does not include it; add its name or labels to the policy")
            }
            Self::NotInAffinity { group: Some(group) } => {
                write!(f, "affinity group {group} does not include it")
            }
            Self::Deleting => f.write_str("it is being removed from the fleet"),
            Self::ApiMissing { api_version, kind } => {
                write!(
                    f,
                    "it does not serve {api_version} {kind}; install that API there"
                )
            }
            Self::Tainted { taint } => {
                write!(
                    f,
                    "its taint {taint} is not tolerated; tolerate it or remove the taint"
                )
            }
            Self::NotGrouped { by } => write!(f, "it has no {by} to spread by; set one"),
            Self::Evicting => {
                f.write_str("the workload is being evicted from it; it can come back after that")
            }
            Self::NotReady => f.write_str("it is not ready and gets nothing new until it is"),
            Self::FilteredByHost { filter, objection } => write!(f, "{filter}: {objection}"),
            Self::HardwareMissing {
                resource,
                found,
                wanted,
            } => write!(
                f,
                "{found} free {resource} of a fitting type, {wanted} are asked for; {} more would do",
                wanted.saturating_sub(*found)
            ),
            Self::GangDoesNotFit { fit, wanted, lacking } => {
                write!(
                    f,
                    "{fit} of the {wanted} members that must run together fit on its nodes; {lacking} free on one \
                     node would take another"
                )
            }
            Self::Room { replicas, limit } => write!(f, "room for {replicas} more replicas; {limit}"),
            Self::Outranked { group: Some(group) } => {
                write!(f, "the spread chose other groups than {group}; raise its maxGroups to have it too")
            }
            Self::Outranked { group: None } => f.write_str(
                "the spread chose clusters that come before it; raise maxGroups, or give it more room than they have",
            ),
            Self::Assigned {
                replicas,
                previous,
                share,
            } => {
                write!(f, "{replicas} replicas, {previous} before: {share}")
            }
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("its capacity is not known"),
            Self::Pods => f.write_str("one pod more would take another"),
            Self::Resource { name, missing } => write!(f, "{missing} more {name} would take another"),
            Self::NotOffered { name } => write!(f, "it has no {name}"),
            Self::Models => f.write_str("its nodes are of too small a size class for more"),
            Self::Node { node, name, missing } => {
                write!(f, "{missing} more {name} on node {node} would take another")
            }
            Self::Nodes => f.write_str("no single node has what another needs"),
            Self::NotReady => f.write_str("it is not ready"),
            Self::Maximum => f.write_str("the policy allows it no more"),
            Self::Host => f.write_str("the host's estimate"),
        }
    }
}

impl fmt::Display for ShareOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copy => f.write_str("every chosen cluster runs all of them"),
            Self::Kept => f.write_str("nothing changed, so nothing moves"),
            Self::Weight { weight, total } => write!(f, "its weight is {weight} of {total}"),
            Self::Grown => f.write_str("what runs stays, new ones go where there is room"),
            Self::Shrunk => f.write_str("in proportion to what it ran"),
            Self::Fresh => f.write_str("divided anew by room"),
            Self::Gang => f.write_str("the gang is placed whole"),
            Self::NotDivided => f.write_str("the object has no replicas"),
        }
    }
}

impl Reason for Unplaced {
    fn token(&self) -> &'static str {
        match self {
            Self::NoPolicy { .. } => "NoPolicy",
            Self::InvalidPolicy { .. } => "InvalidPolicy",
            Self::NoCluster { .. } => "NoClusterFits",
            Self::Spread { .. } | Self::SpreadRoom { .. } | Self::SpreadCrosses { .. } => "SpreadNotMet",
            Self::NoRoom { .. } => "Unschedulable",
            Self::Gang { .. } => "GangDoesNotFit",
            Self::SubGangs { .. } => "GangsDoNotFit",
            Self::Limits { .. } => "LimitsConflict",
            Self::Overflow { .. } => "Overflow",
        }
    }
}

impl fmt::Display for Unplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPolicy { policy } => write!(f, "there is no policy {policy:?}; create it"),
            Self::InvalidPolicy { policy, problem } => write!(f, "policy {policy}: {problem}"),
            Self::NoCluster { clusters, dropped } => {
                write!(f, "none of {clusters} clusters fits")?;
                for (index, (token, count)) in dropped.iter().enumerate() {
                    write!(f, "{} {count} {token}", if index == 0 { ":" } else { "," })?;
                }
                Ok(())
            }
            Self::Spread { by, found, wanted } => {
                write!(f, "spread by {by}: {found} of at least {wanted} can be had")
            }
            Self::SpreadRoom {
                clusters,
                room,
                wanted,
            } => write!(
                f,
                "the {clusters} clusters the spread allows have room for {room} of {wanted} replicas; {} are missing",
                wanted.saturating_sub(*room)
            ),
            Self::SpreadCrosses { by, group } => {
                write!(
                    f,
                    "{group} reaches over several groups by {by}; spread by one of the two"
                )
            }
            Self::NoRoom {
                missing,
                room,
                wanted,
            } => {
                write!(
                    f,
                    "{missing} of {wanted} replicas find no room: there is room for {room}"
                )
            }
            Self::Gang { fit, wanted, lacking } => write!(
                f,
                "no cluster has nodes for the {wanted} members that must run together; at best {fit} fit, {} are \
                 missing; {lacking} free on one node would take another",
                wanted.saturating_sub(*fit)
            ),
            Self::SubGangs { fit, wanted } => write!(
                f,
                "{fit} of the {wanted} gangs fit at the same time, and all of them are placed or none; make room for {} \
                 more",
                wanted.saturating_sub(*fit)
            ),
            Self::Limits { conflict } => f.write_str(conflict),
            Self::Overflow { what } => write!(f, "the sum of {what} is too large to be counted"),
        }
    }
}
