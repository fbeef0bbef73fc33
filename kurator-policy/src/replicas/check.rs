//! An independent reading of a division: the proof that no seat would go elsewhere.

use std::fmt;

use super::divisor::{Bounds, Claim};
use super::ties::TieOrder;

/// What is wrong with a division.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flaw {
    /// The seats do not add up to the replicas.
    Sum {
        /// The seats given.
        given: u64,
        /// The replicas to divide.
        replicas: u32,
    },
    /// The lists differ in length.
    Lengths,
    /// A cluster is outside its bounds.
    OutOfBounds {
        /// The cluster's position.
        position: usize,
    },
    /// A cluster without a weight has more than its minimum.
    Weightless {
        /// The cluster's position.
        position: usize,
    },
    /// One cluster holds a seat that the other one has the better claim to.
    Unfair {
        /// The position of the cluster that has the seat.
        holder: usize,
        /// The position of the cluster that should have it.
        claimant: usize,
    },
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sum { given, replicas } => write!(f, "{given} seats given for {replicas} replicas"),
            Self::Lengths => f.write_str("the lists differ in length"),
            Self::OutOfBounds { position } => write!(f, "cluster {position} is outside its bounds"),
            Self::Weightless { position } => {
                write!(
                    f,
                    "cluster {position} weighs nothing and has more than its minimum"
                )
            }
            Self::Unfair { holder, claimant } => {
                write!(
                    f,
                    "cluster {claimant} has a better claim to the last seat of cluster {holder}"
                )
            }
        }
    }
}

/// Checks a division without dividing: the sum, the bounds, and that nobody holds a seat another has the better claim
/// to. There is exactly one division without a flaw, so passing is a proof, not a sample. `bounds` may be empty.
///
/// # Errors
/// The first [`Flaw`] found.
///
/// ```
/// use kurator_policy::replicas::{Flaw, TieOrder, check};
/// assert!(check(&[90, 10], &[], 20, TieOrder::Ascending, &[18, 2]).is_ok());
/// assert_eq!(
///     check(&[90, 10], &[], 20, TieOrder::Ascending, &[17, 3]),
///     Err(Flaw::Unfair { holder: 1, claimant: 0 }),
/// );
/// ```
pub fn check(
    weights: &[u64],
    bounds: &[Bounds],
    replicas: u32,
    ties: TieOrder,
    seats: &[u32],
) -> Result<(), Flaw> {
    if weights.len() != seats.len() || (!bounds.is_empty() && bounds.len() != seats.len()) {
        return Err(Flaw::Lengths);
    }
    let given: u64 = seats.iter().map(|&seats| u64::from(seats)).sum();
    if given != u64::from(replicas) {
        return Err(Flaw::Sum { given, replicas });
    }
    let mut holder: Option<Claim> = None;
    let mut claimant: Option<Claim> = None;
    for (position, (&weight, &seats)) in weights.iter().zip(seats).enumerate() {
        let bound = bounds.get(position).copied().unwrap_or_default();
        if seats < bound.min || seats > bound.max {
            return Err(Flaw::OutOfBounds { position });
        }
        if weight == 0 {
            if seats > bound.min {
                return Err(Flaw::Weightless { position });
            }
            continue;
        }
        let claim = Claim {
            position,
            weight,
            seats,
        };
        if seats > bound.min && holder.is_none_or(|worst| worst.last_before(claim, ties)) {
            holder = Some(claim);
        }
        if seats < bound.max && claimant.is_none_or(|best| claim.next_before(best, ties)) {
            claimant = Some(claim);
        }
    }
    if let (Some(holder), Some(claimant)) = (holder, claimant)
        && holder.position != claimant.position
    {
        // The claim the holder would have had to its last seat before it was given.
        let before = Claim {
            seats: holder.seats.saturating_sub(1),
            ..holder
        };
        if claimant.next_before(before, ties) {
            return Err(Flaw::Unfair {
                holder: holder.position,
                claimant: claimant.position,
            });
        }
    }
    Ok(())
}
