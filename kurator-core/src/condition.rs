//! Status conditions that change only when something has changed.
//!
//! ```
//! use kurator_core::condition::{ConditionSet, ConditionStatus};
//! use kurator_core::reason::Reason;
//!
//! #[derive(Debug)]
//! struct AllApplied(usize);
//!
//! impl std::fmt::Display for AllApplied {
//!     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
//!         write!(f, "applied to {} clusters", self.0)
//!     }
//! }
//!
//! impl Reason for AllApplied {
//!     fn token(&self) -> &'static str {
//!         "AllApplied"
//!     }
//! }
//!
//! let now = "2026-01-02T03:04:05Z".parse()?;
//! let mut conditions = ConditionSet::new(Vec::new(), Some(3), now);
//! assert!(conditions.ready(ConditionStatus::True, &AllApplied(2)));
//! assert!(!conditions.ready(ConditionStatus::True, &AllApplied(2)));
//! assert!(conditions.is_true("Ready"));
//! # Ok::<(), jiff::Error>(())
//! ```

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::reason::Reason;

/// Whether the object does what its spec says.
pub const READY: &str = "Ready";
/// Whether work towards the spec is going on.
pub const PROGRESSING: &str = "Progressing";
/// Whether something is wrong that will not pass by itself.
pub const DEGRADED: &str = "Degraded";

/// The longest message the API server takes, in bytes.
const MAX_MESSAGE: usize = 32_768;

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the three states of a Kubernetes condition"
)]
pub enum ConditionStatus {
    /// It does not hold.
    False,
    /// It holds.
    True,
    /// Nobody can tell.
    Unknown,
}

impl ConditionStatus {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::False => "False",
            Self::True => "True",
            Self::Unknown => "Unknown",
        }
    }
}

impl fmt::Display for ConditionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// The conditions of one object while one pass looks at it.
///
/// # Guarantees
/// - The transition time changes only when the status does, as `meta.SetStatusCondition` of apimachinery does it.
/// - Conditions that are not set keep every field, those of other writers too.
/// - The result is sorted by type, so an unchanged status serialises to the same bytes and no patch is needed.
#[derive(Clone, Debug)]
pub struct ConditionSet {
    conditions: BTreeMap<String, Condition>,
    generation: Option<i64>,
    now: Timestamp,
    changed: bool,
}

impl ConditionSet {
    /// Starts from the conditions in the status. `generation` is `metadata.generation` of the object that is looked
    /// at: it becomes `observedGeneration` of every condition that is set.
    pub fn new(existing: Vec<Condition>, generation: Option<i64>, now: Timestamp) -> Self {
        let conditions = existing
            .into_iter()
            .map(|condition| (condition.type_.clone(), condition))
            .collect();
        Self {
            conditions,
            generation,
            now,
            changed: false,
        }
    }

    /// Sets a condition; its message is what `reason` displays, cut to what the server takes. Tells whether anything
    /// is different from before.
    pub fn set(
        &mut self,
        type_: &str,
        status: impl Into<ConditionStatus>,
        reason: &(impl Reason + ?Sized),
    ) -> bool {
        let status = status.into().as_str();
        let last_transition_time = match self.conditions.get(type_) {
            Some(before) if before.status == status => before.last_transition_time.clone(),
            _ => Time(self.now),
        };
        let after = Condition {
            last_transition_time,
            message: cut(reason.to_string()),
            observed_generation: self.generation,
            reason: reason.token().to_owned(),
            status: status.to_owned(),
            type_: type_.to_owned(),
        };
        let changed = self.conditions.get(type_) != Some(&after);
        if changed {
            self.conditions.insert(type_.to_owned(), after);
            self.changed = true;
        }
        changed
    }

    /// Sets [`READY`].
    pub fn ready(&mut self, status: impl Into<ConditionStatus>, reason: &(impl Reason + ?Sized)) -> bool {
        self.set(READY, status, reason)
    }

    /// Sets [`PROGRESSING`].
    pub fn progressing(
        &mut self,
        status: impl Into<ConditionStatus>,
        reason: &(impl Reason + ?Sized),
    ) -> bool {
        self.set(PROGRESSING, status, reason)
    }

    /// Sets [`DEGRADED`].
    pub fn degraded(&mut self, status: impl Into<ConditionStatus>, reason: &(impl Reason + ?Sized)) -> bool {
        self.set(DEGRADED, status, reason)
    }

    /// Takes a condition away; tells whether it was there.
    pub fn remove(&mut self, type_: &str) -> bool {
        let removed = self.conditions.remove(type_).is_some();
        self.changed |= removed;
        removed
    }

    /// The condition of that type.
    pub fn get(&self, type_: &str) -> Option<&Condition> {
        self.conditions.get(type_)
    }

    /// Whether the condition is there and its status is `True`.
    pub fn is_true(&self, type_: &str) -> bool {
        self.get(type_)
            .is_some_and(|condition| condition.status == "True")
    }

    /// Whether anything differs from what the set was made of.
    pub fn changed(&self) -> bool {
        self.changed
    }

    /// The conditions for the status, sorted by type.
    pub fn into_vec(self) -> Vec<Condition> {
        self.conditions.into_values().collect()
    }
}

/// At most [`MAX_MESSAGE`] bytes of `message`, with an ellipsis where something is missing.
fn cut(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        let mut end = MAX_MESSAGE - '\u{2026}'.len_utf8();
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push('\u{2026}');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Because(&'static str, String);

    impl fmt::Display for Because {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&self.1)
        }
    }

    impl Reason for Because {
        fn token(&self) -> &'static str {
            self.0
        }
    }

    fn because(token: &'static str) -> Because {
        Because(token, format!("because of {token}"))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let mut set = ConditionSet::new(Vec::new(), Some(1), at(1));
        assert!(set.ready(false, &because("Waiting")));
        let mut set = ConditionSet::new(set.into_vec(), Some(2), at(2));
        assert!(set.ready(false, &because("Failing")));
        let ready = set.get(READY).unwrap();
        assert_eq!(
            (ready.last_transition_time.0, ready.observed_generation),
            (at(1), Some(2))
        );
        assert!(set.ready(true, &because("Done")));
        assert_eq!(set.get(READY).unwrap().last_transition_time.0, at(2));
    }

    #[test]
    fn setting_the_same_again_changes_nothing() {
        let mut set = ConditionSet::new(Vec::new(), None, at(1));
        set.ready(true, &because("Done"));
        let before = set.into_vec();
        let mut set = ConditionSet::new(before.clone(), None, at(9));
        assert!(!set.ready(true, &because("Done")));
        assert!(!set.remove(DEGRADED) && !set.changed());
        assert_eq!(set.into_vec(), before);
    }

    #[test]
    fn conditions_come_out_sorted_and_those_of_others_stay() {
        let mut set = ConditionSet::new(Vec::new(), None, at(1));
        set.set("Theirs", ConditionStatus::Unknown, &because("New"));
        let mut set = ConditionSet::new(set.into_vec(), Some(4), at(2));
        set.ready(true, &because("Done"));
        set.progressing(false, &because("Done"));
        set.degraded(false, &because("Done"));
        let types: Vec<_> = set
            .into_vec()
            .into_iter()
            .map(|c| (c.type_, c.observed_generation))
            .collect();
        let expected = [
            (DEGRADED, Some(4)),
            (PROGRESSING, Some(4)),
            (READY, Some(4)),
            ("Theirs", None),
        ]
        .map(|(t, g)| (t.to_owned(), g));
        assert_eq!(types, expected);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let mut set = ConditionSet::new(Vec::new(), None, at(1));
        set.ready(true, &Because("Long", "\u{e9}".repeat(MAX_MESSAGE)));
        let message = &set.get(READY).unwrap().message;
        assert!(
            message.len() <= MAX_MESSAGE && message.len() > MAX_MESSAGE - 8 && message.ends_with('\u{2026}')
        );
    }
}
