use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::plan::{Planned, Verdict};

/// What became of the revisions of one change after another: the facts a rollout needs that no member shows.
///
/// Plain data in the order in which the revisions were last wanted, to be kept wherever the caller keeps things over a
/// restart. It holds names only; what a revision consists of is the caller's to keep, for as long as it is listed here.
///
/// ```
/// use std::collections::{BTreeMap, BTreeSet};
/// use kurator_core::names::ClusterName;
/// use kurator_policy::rollout::{Health, History, Limit, Member, Rollout, Strategy, Verdict, plan};
///
/// let (strategy, now) = (Strategy::progressive(Limit::Count(1)), "2026-11-23T12:00:00Z".parse()?);
/// let mut history = History::default();
/// history.vouch("v1");
/// history.want("v2");
///
/// let bad = Member::new(Some("v2")).with_health(Health::Failed { since: now });
/// let mut members = BTreeMap::from([("east".parse::<ClusterName>()?, bad)]);
/// let planned = plan(&Rollout::resume(&strategy, &history, &members).ok_or("nothing wanted")?, now);
/// assert_eq!(planned.revision, "v1");
/// history.learn(&planned);
///
/// // Another process goes on from what was written down.
/// let history: History = serde_json::from_str(&serde_json::to_string(&history)?)?;
/// members.insert("east".parse()?, Member::new(Some("v1")));
/// let planned = plan(&Rollout::resume(&strategy, &history, &members).ok_or("nothing wanted")?, now);
/// assert_eq!((planned.verdict, planned.update), (Verdict::RolledBack, vec![]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History {
    revisions: Vec<Past>,
}

/// A revision and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Past {
    /// Its name.
    pub revision: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_enums, reason = "good, bad or not known")]
pub enum Outcome {
    /// It was given up for another, or is on its way.
    Open,
    /// It reached every member that could be reached, and was proven good on at least one.
    Good,
    /// It was rolled back, and stays off the members until somebody calls [`History::pardon`].
    Condemned,
}

impl History {
    /// Makes a revision the one that is wanted. One that was good before has to prove itself again, so that there is
    /// something to return to; one that was rolled back stays so.
    pub fn want(&mut self, revision: &str) {
        if self.target() == Some(revision) {
            return;
        }
        let outcome = match self.outcome(revision) {
            Some(Outcome::Condemned) => Outcome::Condemned,
            _ => Outcome::Open,
        };
        self.put(revision, outcome);
    }

    /// Makes a revision the one that is wanted, and takes somebody's word that it is good: what ran before there were
    /// rollouts.
    pub fn vouch(&mut self, revision: &str) {
        self.put(revision, Outcome::Good);
    }

    /// Adds what was written down elsewhere, as the revision that was wanted last.
    pub fn restore(&mut self, revision: &str, outcome: Outcome) {
        self.put(revision, outcome);
    }

    /// Lets a revision that was rolled back be tried again.
    pub fn pardon(&mut self, revision: &str) {
        for past in &mut self.revisions {
            if past.revision == revision && past.outcome == Outcome::Condemned {
                past.outcome = Outcome::Open;
            }
        }
    }

    /// Takes down what a plan for the wanted revision found out; tells whether that was news. To be kept before the
    /// plan is acted upon: once the members have returned, none of them shows that the revision failed.
    pub fn learn(&mut self, planned: &Planned) -> bool {
        let Some(newest) = self.revisions.last_mut() else {
            return false;
        };
        let proven = planned.stages.iter().any(|stage| !stage.done.is_empty());
        let outcome = match planned.verdict {
            Verdict::RollingBack { .. } => Outcome::Condemned,
            Verdict::Completed if proven && planned.revision == newest.revision => Outcome::Good,
            _ => return false,
        };
        std::mem::replace(&mut newest.outcome, outcome) != outcome
    }

    /// The revision that is wanted.
    #[must_use]
    pub fn target(&self) -> Option<&str> {
        self.revisions.last().map(|past| past.revision.as_str())
    }

    /// The good revision that was wanted last, which may be the [`target`](Self::target) itself.
    #[must_use]
    pub fn last_good(&self) -> Option<&str> {
        let mut newest_first = self.revisions.iter().rev();
        let good = newest_first.find(|past| past.outcome == Outcome::Good);
        good.map(|past| past.revision.as_str())
    }

    /// What became of a revision; `None` if it is not listed.
    #[must_use]
    pub fn outcome(&self, revision: &str) -> Option<Outcome> {
        let past = self.revisions.iter().find(|past| past.revision == revision);
        past.map(|past| past.outcome)
    }

    /// The revisions, those wanted last at the end.
    #[must_use]
    pub fn revisions(&self) -> &[Past] {
        &self.revisions
    }

    /// Drops the oldest revisions until at most `limit` are left, and names those it dropped. The target, the last
    /// good one, and what members still run are never dropped, even if that leaves more.
    pub fn trim(&mut self, limit: usize, running: &BTreeSet<&str>) -> Vec<String> {
        let keep: Vec<String> = [self.target(), self.last_good()]
            .into_iter()
            .flatten()
            .map(str::to_owned)
            .collect();
        let mut excess = self.revisions.len().saturating_sub(limit);
        let mut dropped = Vec::new();
        self.revisions.retain(|past| {
            let drop =
                excess > 0 && !keep.contains(&past.revision) && !running.contains(past.revision.as_str());
            if drop {
                excess -= 1;
                dropped.push(past.revision.clone());
            }
            !drop
        });
        dropped
    }

    fn put(&mut self, revision: &str, outcome: Outcome) {
        self.revisions.retain(|past| past.revision != revision);
        self.revisions.push(Past {
            revision: revision.to_owned(),
            outcome,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(revisions: &[(&str, Outcome)]) -> History {
        let mut history = History::default();
        for (revision, outcome) in revisions {
            history.put(revision, *outcome);
        }
        history
    }

    #[test]
    fn a_good_revision_that_is_wanted_again_leaves_the_one_before_it_to_return_to() {
        let mut history = history(&[("v1", Outcome::Good), ("v2", Outcome::Good)]);
        history.want("v2");
        assert_eq!(history.last_good(), Some("v2"));
        history.want("v1");
        assert_eq!((history.target(), history.last_good()), (Some("v1"), Some("v2")));
    }

    #[test]
    fn a_condemned_revision_stays_so_until_it_is_pardoned() {
        let mut history = history(&[("v1", Outcome::Good), ("v2", Outcome::Condemned)]);
        history.want("v3");
        history.want("v2");
        assert_eq!(history.outcome("v2"), Some(Outcome::Condemned));
        history.pardon("v2");
        assert_eq!(history.outcome("v2"), Some(Outcome::Open));
    }

    #[test]
    fn trimming_never_drops_what_is_needed() {
        let mut history = history(&[
            ("v1", Outcome::Open),
            ("v2", Outcome::Good),
            ("v3", Outcome::Condemned),
            ("v4", Outcome::Open),
            ("v5", Outcome::Open),
        ]);
        assert_eq!(history.trim(4, &BTreeSet::new()), ["v1"]);
        assert_eq!(history.trim(0, &BTreeSet::from(["v3"])), ["v4"]);
        let left: Vec<_> = history
            .revisions()
            .iter()
            .map(|past| past.revision.as_str())
            .collect();
        assert_eq!(left, ["v2", "v3", "v5"]);
        assert!(history.trim(3, &BTreeSet::new()).is_empty());
    }
}
