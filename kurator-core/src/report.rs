//! What a planner decided about each thing it looked at, and why.
//!
//! ```
//! use kurator_core::report::Report;
//! # use kurator_core::reason::Reason;
//! # #[derive(Debug)]
//! # enum Verdict { Kept, TooSmall { missing: u32 } }
//! # impl std::fmt::Display for Verdict {
//! #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
//! #         match self {
//! #             Self::Kept => f.write_str("it was there before"),
//! #             Self::TooSmall { missing } => write!(f, "{missing} more CPUs would change that"),
//! #         }
//! #     }
//! # }
//! # impl Reason for Verdict {
//! #     fn token(&self) -> &'static str {
//! #         match self {
//! #             Self::Kept => "Kept",
//! #             Self::TooSmall { .. } => "TooSmall",
//! #         }
//! #     }
//! # }
//!
//! let mut report = Report::default();
//! report.add("cluster-b", Verdict::TooSmall { missing: 3 });
//! report.add("cluster-a", Verdict::Kept);
//! assert_eq!(
//!     report.to_string(),
//!     "cluster-a  Kept: it was there before\n\
//!      cluster-b  TooSmall: 3 more CPUs would change that\n",
//! );
//! assert_eq!(report.tally()["TooSmall"], 1);
//! ```

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::reason::Reason;

/// Reasons by subject: subjects sorted, the reasons of one in the order the steps of the planner gave them.
///
/// `S` names what was looked at, such as a cluster, a node or an object; `R` is the reason type of the step or of
/// the planner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    transparent,
    bound(deserialize = "S: Ord + Deserialize<'de>, R: Deserialize<'de>")
)]
#[must_use = "a report is the explanation of a plan"]
pub struct Report<S, R> {
    entries: BTreeMap<S, Vec<R>>,
}

impl<S, R> Default for Report<S, R> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
        }
    }
}

impl<S: Ord, R> Report<S, R> {
    /// Adds a reason for what became of `subject`.
    pub fn add(&mut self, subject: S, reason: R) {
        self.entries.entry(subject).or_default().push(reason);
    }

    /// The reasons given for `subject`; empty if it was not looked at.
    pub fn of<Q: Ord + ?Sized>(&self, subject: &Q) -> &[R]
    where
        S: std::borrow::Borrow<Q>,
    {
        self.entries.get(subject).map_or(&[], Vec::as_slice)
    }

    /// Every subject with its reasons.
    pub fn iter(&self) -> impl Iterator<Item = (&S, &[R])> {
        self.entries
            .iter()
            .map(|(subject, reasons)| (subject, reasons.as_slice()))
    }

    /// Whether nothing was looked at.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<S: Ord, R: Reason> Report<S, R> {
    /// How often each token was given: for metrics, and for "3 of 5 clusters" in a message.
    pub fn tally(&self) -> BTreeMap<&'static str, usize> {
        let mut tally = BTreeMap::new();
        for reason in self.entries.values().flatten() {
            *tally.entry(reason.token()).or_default() += 1;
        }
        tally
    }
}

/// One line a reason, the subjects in a column.
impl<S: fmt::Display, R: Reason> fmt::Display for Report<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subjects: Vec<_> = self.entries.keys().map(ToString::to_string).collect();
        let width = subjects
            .iter()
            .map(|subject| subject.chars().count())
            .max()
            .unwrap_or(0);
        for (subject, reasons) in subjects.iter().zip(self.entries.values()) {
            for reason in reasons {
                writeln!(f, "{subject:width$}  {}: {reason}", reason.token())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::ClusterName;

    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    enum Step {
        Fits(u32),
    }

    impl fmt::Display for Step {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let Self::Fits(count) = self;
            write!(f, "{count} fit")
        }
    }

    impl Reason for Step {
        fn token(&self) -> &'static str {
            "Fits"
        }
    }

    #[test]
    fn a_report_survives_json_and_keeps_the_order_of_steps() {
        let mut report = Report::default();
        let (a, b): (ClusterName, ClusterName) = ("a".parse().unwrap(), "b".parse().unwrap());
        report.add(b, Step::Fits(1));
        report.add(a.clone(), Step::Fits(3));
        report.add(a.clone(), Step::Fits(2));
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(json, r#"{"a":[{"Fits":3},{"Fits":2}],"b":[{"Fits":1}]}"#);
        assert_eq!(
            serde_json::from_str::<Report<ClusterName, Step>>(&json).unwrap(),
            report
        );
        assert_eq!(report.of(&a), [Step::Fits(3), Step::Fits(2)]);
        assert_eq!(report.of("c"), []);
        assert_eq!(report.tally()["Fits"], 3);
    }
}
