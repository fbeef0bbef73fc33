//! How the pass is to go about its work.

/// How the pass is to go about its work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlanOptions {
    /// Whose habits are followed where they differ.
    pub dialect: Dialect,
    /// How much of the reasoning is kept.
    pub detail: Detail,
}

impl PlanOptions {
    /// Sets whose habits are followed.
    #[must_use]
    pub fn with_dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Sets how much of the reasoning is kept.
    #[must_use]
    pub fn with_detail(mut self, detail: Detail) -> Self {
        self.detail = detail;
        self
    }
}

/// Whose habits are followed where the answer to the same policy differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a new dialect changes what every caller gets"
)]
pub enum Dialect {
    /// Ours: every spread constraint holds, clusters that are not ready get nothing new, the order in which running
    /// replicas are listed does not matter.
    #[default]
    Kurator,
    /// Karmada's, for migration and comparison: of the spread constraints only `region` and `cluster` count, a
    /// `maxGroups` left out is 0, health is not looked at (taints are), and where equally large clusters shrink the
    /// listed order decides.
    Karmada,
}

/// How much of the reasoning a plan keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "all or nothing")]
pub enum Detail {
    /// A reason for every cluster and step.
    #[default]
    Full,
    /// Only what was decided; reasons can be had later by planning the one workload again.
    Decision,
}
