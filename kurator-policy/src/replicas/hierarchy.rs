//! Weights on several levels: regions, in them zones, in them clusters.

use super::division_error::DivisionError;
use super::divisor::{Bounds, Divider};
use super::ties::TieOrder;

/// A cluster, or a group of them, with its weight among its siblings. Siblings stand in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Branch {
    /// One cluster.
    Cluster {
        /// Its weight among its siblings.
        weight: u64,
        /// Where its number goes in the result.
        position: usize,
        /// What it may get.
        bounds: Bounds,
    },
    /// A group.
    Group {
        /// Its weight among its siblings.
        weight: u64,
        /// Its parts.
        parts: Vec<Self>,
    },
}

impl Branch {
    /// A cluster.
    #[must_use]
    pub fn cluster(weight: u64, position: usize, bounds: Bounds) -> Self {
        Self::Cluster {
            weight,
            position,
            bounds,
        }
    }

    /// A group of clusters or of groups.
    #[must_use]
    pub fn group(weight: u64, parts: Vec<Self>) -> Self {
        Self::Group { weight, parts }
    }

    fn weight(&self) -> u64 {
        match self {
            Self::Cluster { weight, .. } | Self::Group { weight, .. } => *weight,
        }
    }

    /// What the whole branch may get: its parts together.
    fn bounds(&self) -> Bounds {
        match self {
            Self::Cluster { bounds, .. } => *bounds,
            Self::Group { parts, .. } => parts.iter().fold(Bounds { min: 0, max: 0 }, |sum, part| {
                let of = part.bounds();
                // A part without weight gets its minimum and no more.
                let most = if part.weight() == 0 { of.min } else { of.max };
                Bounds {
                    min: sum.min.saturating_add(of.min),
                    max: sum.max.saturating_add(most),
                }
            }),
        }
    }
}

/// Divides from the top: every level by Webster's method within what the level below can take.
///
/// The result stands by position; a position no cluster names gets 0. `clusters` is the length of the result.
///
/// # Errors
/// [`DivisionError`] as of [`Divider::divide_within`], and [`DivisionError::Lengths`] if a position is not below
/// `clusters`.
///
/// ```
/// # fn main() -> Result<(), kurator_policy::replicas::DivisionError> {
/// use kurator_policy::replicas::{Bounds, Branch, Divider, TieOrder, divide_tree};
/// let cluster = |weight, position| Branch::cluster(weight, position, Bounds::default());
/// let tree = [
///     Branch::group(70, vec![cluster(1, 0), cluster(1, 1)]),
///     Branch::group(30, vec![cluster(2, 2), cluster(1, 3)]),
/// ];
/// let seats = divide_tree(&mut Divider::default(), &tree, 4, 100, TieOrder::Ascending)?;
/// assert_eq!(seats, [35, 35, 20, 10]);
/// # Ok(())
/// # }
/// ```
pub fn divide_tree(
    divider: &mut Divider,
    tree: &[Branch],
    clusters: usize,
    replicas: u32,
    ties: TieOrder,
) -> Result<Vec<u32>, DivisionError> {
    let mut seats = vec![0; clusters];
    // A list of work instead of recursion: the depth comes from the user.
    let mut open: Vec<(&[Branch], u32)> = vec![(tree, replicas)];
    while let Some((branches, replicas)) = open.pop() {
        let weights: Vec<u64> = branches.iter().map(Branch::weight).collect();
        let bounds: Vec<Bounds> = branches.iter().map(Branch::bounds).collect();
        let shares = divider.divide_within(&weights, &bounds, replicas, ties)?;
        for (branch, &share) in branches.iter().zip(shares) {
            match branch {
                Branch::Cluster { position, .. } => {
                    let seat = seats.get_mut(*position).ok_or(DivisionError::Lengths {
                        weights: clusters,
                        bounds: position + 1,
                    })?;
                    *seat = share;
                }
                Branch::Group { parts, .. } => open.push((parts, share)),
            }
        }
    }
    Ok(seats)
}
