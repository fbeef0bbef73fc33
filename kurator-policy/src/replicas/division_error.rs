//! Why replicas cannot be divided as asked.

use thiserror::Error;

/// Why replicas cannot be divided as asked. Nothing is divided then.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DivisionError {
    /// There are replicas and no cluster that may have any.
    #[error("no cluster has a weight above 0 for the {replicas} replicas; give one a weight")]
    NoWeight {
        /// The replicas to divide.
        replicas: u32,
    },
    /// The minima of the clusters add up to more than there is.
    #[error("the minima add up to {minima}, above the {replicas} replicas; lower a minimum or ask for more")]
    MinimaExceed {
        /// The sum of the minima.
        minima: u64,
        /// The replicas to divide.
        replicas: u32,
    },
    /// The maxima of the clusters add up to less than there is.
    #[error("the maxima add up to {maxima}, below the {replicas} replicas; raise a maximum or add a cluster")]
    MaximaFallShort {
        /// The sum of the maxima; a cluster of weight 0 counts with its minimum.
        maxima: u64,
        /// The replicas to divide.
        replicas: u32,
    },
    /// A minimum is above the maximum of the same cluster.
    #[error("the cluster at position {position} has minimum {min} above maximum {max}")]
    Inverted {
        /// Where the cluster stands in the list.
        position: usize,
        /// Its minimum.
        min: u32,
        /// Its maximum.
        max: u32,
    },
    /// The clusters have less room than is asked for.
    #[error("{missing} of {replicas} replicas do not fit: the clusters have room for {room}")]
    NoRoom {
        /// The replicas to place: all of them, or those that are added.
        replicas: u64,
        /// The room of all clusters together.
        room: u128,
        /// What is missing.
        missing: u64,
    },
    /// A number of replicas does not fit the type that has to hold it.
    #[error("the sum of {what} does not fit; use smaller numbers")]
    Overflow {
        /// What was added up.
        what: &'static str,
    },
    /// The lists describe different numbers of clusters.
    #[error("{weights} weights and {bounds} entries beside them; give one for each cluster")]
    Lengths {
        /// The number of weights.
        weights: usize,
        /// The number of the other entries.
        bounds: usize,
    },
}
