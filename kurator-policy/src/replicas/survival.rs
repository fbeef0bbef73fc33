//! How much has to be left when a cluster is lost.

use super::divisor::Bounds;

/// What must still run elsewhere when any one cluster is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Survive {
    /// So many replicas.
    Replicas(u32),
    /// So many percent of the replicas, rounded up; above 100 counts as 100.
    Percent(u32),
}

impl Survive {
    /// The most replicas one cluster may have so that the loss of any one leaves enough.
    ///
    /// ```
    /// use kurator_policy::replicas::Survive;
    /// // Two thirds of ten must be left: seven, so that no cluster has more than three.
    /// assert_eq!(Survive::Percent(67).most(10), 3);
    /// assert_eq!(Survive::Replicas(4).most(10), 6);
    /// assert_eq!(Survive::Replicas(12).most(10), 0);
    /// ```
    #[must_use]
    pub fn most(self, replicas: u32) -> u32 {
        let left = match self {
            Self::Replicas(left) => left,
            Self::Percent(percent) => {
                let product = u64::from(replicas) * u64::from(percent.min(100));
                u32::try_from(product.div_ceil(100)).unwrap_or(u32::MAX)
            }
        };
        replicas.saturating_sub(left)
    }

    /// Lowers every maximum to [`most`](Self::most). Minima stay as they are: where one is above it, the bounds are
    /// inverted and no division will be found.
    pub fn limit(self, bounds: &mut [Bounds], replicas: u32) {
        let most = self.most(replicas);
        for bound in bounds {
            bound.max = bound.max.min(most);
        }
    }

    /// An independent reading: what is left at worst, and whether that is enough.
    #[must_use]
    pub fn holds(self, seats: &[u32]) -> bool {
        let all: u64 = seats.iter().map(|&seats| u64::from(seats)).sum();
        let worst = all - u64::from(seats.iter().copied().max().unwrap_or(0));
        match self {
            Self::Replicas(left) => worst >= u64::from(left),
            Self::Percent(percent) => worst * 100 >= all * u64::from(percent.min(100)),
        }
    }
}
