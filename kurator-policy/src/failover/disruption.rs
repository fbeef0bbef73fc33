//! When so many clusters are lost at once that it is more likely us who are cut off.

use std::fmt;

use kurator_core::observe::Taint;

/// The taint that a cluster which is out of reach counts as having; its name is one that users can tolerate.
pub const TAINT_UNREACHABLE: &str = "cluster.kurator.dev/unreachable";

/// The same of a cluster that answers and says that it is not ready.
pub const TAINT_NOT_READY: &str = "cluster.kurator.dev/not-ready";

/// Whether a taint is our own verdict about a cluster, and not somebody's word.
pub(super) fn is_verdict(taint: &Taint) -> bool {
    [TAINT_UNREACHABLE, TAINT_NOT_READY].contains(&taint.key.as_str())
}

/// From when on so many clusters are ill that nothing leaves any of them for it.
///
/// The rule is that of Kubernetes' node lifecycle controller for a zone in partial or full disruption, whose
/// `--unhealthy-zone-threshold` is 0.55 too. A taint that somebody has set is obeyed all the same, so whoever knows
/// that the clusters are really lost can say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DisruptionGuard {
    /// From this share of the clusters on, in percent; more than 100 means only when no cluster is ready. Default 55.
    pub threshold_percent: u8,
}

impl Default for DisruptionGuard {
    fn default() -> Self {
        Self {
            threshold_percent: 55,
        }
    }
}

/// As few ill clusters as that are never a disruption of a fleet in which others are ready.
const FEW: usize = 2;

impl DisruptionGuard {
    /// Nothing leaves for our own verdict from this share of the clusters on, in percent.
    #[must_use]
    pub const fn from_percent(threshold_percent: u8) -> Self {
        Self { threshold_percent }
    }

    /// What to think of `ill` clusters among `clusters`.
    ///
    /// ```
    /// use kurator_policy::failover::DisruptionGuard;
    ///
    /// let guard = DisruptionGuard::default();
    /// assert!(guard.judge(2, 3).is_none());
    /// assert!(guard.judge(5, 10).is_none());
    /// assert_eq!(guard.judge(6, 10).map(|it| it.to_string()).as_deref(), Some("6 of 10 clusters are not ready"));
    /// assert!(guard.judge(2, 2).is_some());
    /// ```
    #[must_use]
    pub fn judge(&self, ill: usize, clusters: usize) -> Option<Disruption> {
        let many =
            ill > FEW && ill.saturating_mul(100) >= clusters.saturating_mul(self.threshold_percent.into());
        let all = ill > 0 && ill >= clusters;
        (many || all).then_some(Disruption { ill, clusters })
    }
}

/// Most clusters of a fleet are ill at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Disruption {
    /// The clusters that are not ready.
    pub ill: usize,
    /// All clusters.
    pub clusters: usize,
}

impl fmt::Display for Disruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} clusters are not ready", self.ill, self.clusters)
    }
}
