//! What a planner returns, and what an independent checker says about it.
//!
//! A planner is a pure function `plan(snapshot, spec, now) -> Planned<P, R>`: the plan `P` says what to do, the
//! report `R` why. A checker reads the plan against the snapshot without trusting the planner, and returns [`Notes`].
//!
//! ```
//! use kurator_core::plan::{Notes, Planned};
//! # use kurator_core::reason::Reason;
//! # #[derive(Debug)]
//! # struct TooMany { planned: u32, wanted: u32 }
//! # impl std::fmt::Display for TooMany {
//! #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
//! #         write!(f, "{} replicas are planned, {} were wanted", self.planned, self.wanted)
//! #     }
//! # }
//! # impl Reason for TooMany {
//! #     fn token(&self) -> &'static str {
//! #         "TooMany"
//! #     }
//! # }
//!
//! let planned = Planned::new("cluster-a: 3", "cluster-a has room for 3");
//! assert_eq!(planned.to_string(), "cluster-a: 3\n\ncluster-a has room for 3\n");
//!
//! let mut notes = Notes::default();
//! notes.error("Deployment default/web", &TooMany { planned: 3, wanted: 2 });
//! assert!(!notes.permits());
//! assert_eq!(
//!     notes.to_string(),
//!     "error   Deployment default/web: TooMany: 3 replicas are planned, 2 were wanted\n",
//! );
//! ```

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use crate::reason::Reason;

/// A plan, and the report that explains it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use = "a plan does nothing until it is executed"]
#[expect(
    clippy::exhaustive_structs,
    reason = "a plan and its explanation, nothing else"
)]
pub struct Planned<P, R> {
    /// What to do.
    pub plan: P,
    /// Why, and why not something else.
    pub report: R,
}

impl<P, R> Planned<P, R> {
    /// A plan with its report.
    pub fn new(plan: P, report: R) -> Self {
        Self { plan, report }
    }

    /// The same report with another plan made from this one.
    pub fn map<Q>(self, change: impl FnOnce(P) -> Q) -> Planned<Q, R> {
        Planned {
            plan: change(self.plan),
            report: self.report,
        }
    }
}

/// The plan, an empty line, the report.
impl<P: fmt::Display, R: fmt::Display> fmt::Display for Planned<P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (plan, report) = (self.plan.to_string(), self.report.to_string());
        writeln!(f, "{}\n\n{}", plan.trim_end(), report.trim_end())
    }
}

/// How bad a [`Note`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Severity {
    /// The plan breaks a rule and must not be executed.
    Error,
    /// The plan keeps the rules and may still not be what was meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One thing a checker has to say about a plan.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Note {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about, such as `Deployment default/web` or `cluster-a`.
    pub object: String,
    /// CamelCase token of the rule.
    pub reason: String,
    /// The same as a sentence.
    pub message: String,
}

/// What a checker has to say about a plan: errors first, then by object, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
#[must_use = "a plan with errors must not be executed"]
pub struct Notes(BTreeSet<Note>);

impl Notes {
    /// Adds an error.
    pub fn error(&mut self, object: impl fmt::Display, reason: &(impl Reason + ?Sized)) {
        self.add(Severity::Error, object, reason);
    }

    /// Adds a warning.
    pub fn warning(&mut self, object: impl fmt::Display, reason: &(impl Reason + ?Sized)) {
        self.add(Severity::Warning, object, reason);
    }

    fn add(&mut self, severity: Severity, object: impl fmt::Display, reason: &(impl Reason + ?Sized)) {
        self.0.insert(Note {
            severity,
            object: object.to_string(),
            reason: reason.token().to_owned(),
            message: reason.to_string(),
        });
    }

    /// The notes, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Note> {
        self.0.iter()
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the plan may be executed: no note is an error.
    pub fn permits(&self) -> bool {
        self.iter().all(|note| note.severity != Severity::Error)
    }
}

impl Extend<Note> for Notes {
    fn extend<I: IntoIterator<Item = Note>>(&mut self, notes: I) {
        self.0.extend(notes);
    }
}

impl IntoIterator for Notes {
    type Item = Note;
    type IntoIter = std::collections::btree_set::IntoIter<Note>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:7} {}: {}: {}",
            self.severity, self.object, self.reason, self.message
        )
    }
}

/// One line a note.
impl fmt::Display for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|note| writeln!(f, "{note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Rule(&'static str);

    impl fmt::Display for Rule {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "broke {}", self.0)
        }
    }

    impl Reason for Rule {
        fn token(&self) -> &'static str {
            self.0
        }
    }

    #[test]
    fn notes_are_sorted_whatever_order_they_came_in() {
        let mut notes = Notes::default();
        notes.warning("b", &Rule("Late"));
        notes.error("b", &Rule("Sum"));
        notes.error("a", &Rule("Sum"));
        notes.error("a", &Rule("Sum"));
        let lines: Vec<_> = notes.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "error   a: Sum: broke Sum",
                "error   b: Sum: broke Sum",
                "warning b: Late: broke Late"
            ]
        );
    }

    #[test]
    fn warnings_do_not_stop_a_plan() {
        let mut notes = Notes::default();
        notes.warning("b", &Rule("Late"));
        assert!(notes.permits() && !notes.is_empty());
        notes.error("b", &Rule("Sum"));
        assert!(!notes.permits());
    }
}
