use std::collections::BTreeMap;

use jiff::SignedDuration;
use kurator_core::selector::LabelMatcher;

/// How a change reaches the members: stage after stage, so many at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Strategy {
    /// The stages in order. A member belongs to the first that selects it; those that none selects follow in a last
    /// stage of their own, one at a time.
    pub stages: Vec<Stage>,
    /// So many members of a stage may fail before the rollout stops. None by default.
    pub max_failures: Limit,
    /// A member that has not become healthy after so long counts as failed. 10 minutes by default.
    pub progress_deadline: SignedDuration,
}

/// Members that are updated side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stage {
    /// Its name; approvals are given by it.
    pub name: String,
    /// Labels that a member must have; none selects every member.
    pub labels: BTreeMap<String, String>,
    /// What the labels of a member must match besides. Everything does by default.
    pub selector: LabelMatcher,
    /// How many members of the stage may be in flight at once. One by default.
    pub max_concurrency: Limit,
    /// How long a member must have been healthy to count as done. Zero by default.
    pub soak: SignedDuration,
    /// Whether somebody has to approve before the stage starts.
    pub approval: bool,
}

/// A number of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "an int-or-percent")]
pub enum Limit {
    /// So many.
    Count(u32),
    /// So many percent of the members of the stage.
    Percent(u32),
}

impl Limit {
    /// The number for a stage of `members`, rounded up, as concurrency: at least one, or nothing would ever move.
    #[must_use]
    pub fn at_once(self, members: usize) -> usize {
        self.rounded(members, 99).max(1)
    }

    /// The number for a stage of `members`, rounded down, as tolerated failures.
    #[must_use]
    pub fn tolerated(self, members: usize) -> usize {
        self.rounded(members, 0)
    }

    fn rounded(self, members: usize, up: u128) -> usize {
        match self {
            Self::Count(count) => usize::try_from(count).unwrap_or(usize::MAX),
            Self::Percent(percent) => {
                let product = u128::from(percent) * (members as u128);
                usize::try_from((product + up) / 100).unwrap_or(usize::MAX)
            }
        }
    }
}

impl Strategy {
    /// Everything at once.
    #[must_use]
    pub fn all_at_once() -> Self {
        Self::stages(vec![Stage::new("all").with_concurrency(Limit::Percent(100))])
    }

    /// One stage of all members, so many at a time.
    #[must_use]
    pub fn progressive(max_concurrency: Limit) -> Self {
        Self::stages(vec![Stage::new("all").with_concurrency(max_concurrency)])
    }

    /// One stage for each value of a label, in the order given, each all at once.
    #[must_use]
    pub fn by_group<'a>(label: &str, values: impl IntoIterator<Item = &'a str>) -> Self {
        let stage = |value| {
            Stage::new(value)
                .selecting(label, value)
                .with_concurrency(Limit::Percent(100))
        };
        Self::stages(values.into_iter().map(stage).collect())
    }

    /// These stages.
    #[must_use]
    pub fn stages(stages: Vec<Stage>) -> Self {
        Self {
            stages,
            max_failures: Limit::Count(0),
            progress_deadline: SignedDuration::from_mins(10),
        }
    }

    /// Lets so many members of a stage fail.
    #[must_use]
    pub fn tolerating(mut self, max_failures: Limit) -> Self {
        self.max_failures = max_failures;
        self
    }

    /// Gives a member so long to become healthy.
    #[must_use]
    pub fn with_progress_deadline(mut self, deadline: SignedDuration) -> Self {
        self.progress_deadline = deadline;
        self
    }
}

impl Stage {
    /// A stage of all members that no earlier stage selects, one at a time, at once done when healthy.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            labels: BTreeMap::new(),
            selector: LabelMatcher::everything(),
            max_concurrency: Limit::Count(1),
            soak: SignedDuration::ZERO,
            approval: false,
        }
    }

    /// Only members with this label.
    #[must_use]
    pub fn selecting(mut self, label: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(label.into(), value.into());
        self
    }

    /// Only members that a label selector matches, such as one with `NotIn`.
    #[must_use]
    pub fn matching(mut self, selector: LabelMatcher) -> Self {
        self.selector = selector;
        self
    }

    /// So many at a time.
    #[must_use]
    pub fn with_concurrency(mut self, max_concurrency: Limit) -> Self {
        self.max_concurrency = max_concurrency;
        self
    }

    /// Healthy for so long before a member counts as done.
    #[must_use]
    pub fn with_soak(mut self, soak: SignedDuration) -> Self {
        self.soak = soak;
        self
    }

    /// Only once somebody has approved.
    #[must_use]
    pub fn after_approval(mut self) -> Self {
        self.approval = true;
        self
    }

    pub(super) fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels
            .iter()
            .all(|(label, value)| labels.get(label) == Some(value))
            && self.selector.matches(labels)
    }
}
