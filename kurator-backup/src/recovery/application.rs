//! The same for applications: what each could be brought back to, in all clusters it is in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use kurator_core::{names::ClusterName, reason::Reason};
use serde::Serialize;

use super::{Backups, Objectives, RecoveryReport, RestoreRecord, Rounded, last_restores, report_on};
use crate::{driver::BackupScope, retention::RunRecord};

/// Namespaces in clusters that belong together: they are of use only when all are brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Application {
    /// Its name, unique among those that are asked for.
    pub name: String,
    /// Its namespaces.
    pub namespaces: BTreeSet<String>,
    /// The clusters it is in.
    pub clusters: BTreeSet<ClusterName>,
}

impl Application {
    /// The namespaces of an application in these clusters.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        namespaces: impl IntoIterator<Item = impl Into<String>>,
        clusters: impl IntoIterator<Item = ClusterName>,
    ) -> Self {
        Self {
            name: name.into(),
            namespaces: namespaces.into_iter().map(Into::into).collect(),
            clusters: clusters.into_iter().collect(),
        }
    }
}

/// A run, and what it was to take.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ScopedRun<'a> {
    /// What came of it.
    pub record: &'a RunRecord,
    /// What it was to take: the scope of its policy.
    pub scope: &'a BackupScope,
}

impl<'a> ScopedRun<'a> {
    /// A run of this scope.
    #[must_use]
    pub const fn new(record: &'a RunRecord, scope: &'a BackupScope) -> Self {
        Self { record, scope }
    }

    /// Whether everything in these namespaces was to be taken. In doubt it was not: a run that selects by label or
    /// kind has a part of an application only, and what a `[...]` in a pattern takes is not looked at.
    fn has_all(&self, namespaces: &BTreeSet<String>) -> bool {
        let scope = self.scope;
        let everything = |list: &[String]| list.is_empty() || list.iter().any(|it| it == "*");
        let whole = scope.label_selector.is_none()
            && scope.or_label_selectors.is_empty()
            && everything(&scope.included_resources)
            && everything(&scope.included_namespace_scoped_resources)
            && scope.excluded_resources.is_empty()
            && scope.excluded_namespace_scoped_resources.is_empty();
        let included = |namespace: &str| {
            let taken = |pattern: &String| !pattern.contains('[') && is_like(namespace, pattern);
            scope.included_namespaces.is_empty() || scope.included_namespaces.iter().any(taken)
        };
        let excluded = |namespace: &str| {
            let left_out = |pattern: &String| pattern.contains('[') || is_like(namespace, pattern);
            scope.excluded_namespaces.iter().any(left_out)
        };
        whole && namespaces.iter().all(|it| included(it) && !excluded(it))
    }
}

/// Whether a name is what a pattern with `*` and `?` says.
fn is_like(name: &str, pattern: &str) -> bool {
    let (name, pattern) = (name.as_bytes(), pattern.as_bytes());
    let (mut at, mut here) = (0, 0);
    // Where the last star was, and what it has taken so far.
    let mut star = None;
    while let Some(byte) = name.get(at) {
        match pattern.get(here) {
            Some(b'*') => {
                star = Some((here, at));
                here += 1;
            }
            Some(expected) if *expected == b'?' || expected == byte => (at, here) = (at + 1, here + 1),
            _ => {
                let Some((began, taken)) = star else { return false };
                star = Some((began, taken + 1));
                (at, here) = (taken + 1, began + 1);
            }
        }
    }
    pattern.iter().skip(here).all(|rest| *rest == b'*')
}

/// What one application could be brought back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ApplicationRecovery {
    /// The oldest recovery point of its clusters: what all of it could be brought back to. `None` if one has none.
    pub point: Option<Timestamp>,
    /// How old that is.
    pub age: Option<SignedDuration>,
    /// The longest last verified restore of its clusters, of everything that was restored with it: an upper bound. `None`
    /// if one was never restored.
    pub time: Option<SignedDuration>,
    /// Each of its clusters, by the runs that have all of the application.
    pub members: RecoveryReport,
}

impl ApplicationRecovery {
    fn of(members: RecoveryReport, now: Timestamp) -> Self {
        let times: Option<Vec<SignedDuration>> = members.iter().map(|(_, member)| member.time).collect();
        let point = members.fleet_point();
        Self {
            point,
            age: point.map(|point| now.duration_since(point)),
            time: times.and_then(|times| times.into_iter().max()),
            members,
        }
    }
}

impl Reason for ApplicationRecovery {
    /// That of the cluster it is worst in.
    fn token(&self) -> &'static str {
        const WORST_FIRST: [&str; 4] = ["NothingRestorable", "PointMissed", "TimeMissed", "Restorable"];
        let tokens: BTreeSet<&str> = self.members.iter().map(|(_, member)| member.token()).collect();
        if tokens.is_empty() {
            return "NothingRestorable";
        }
        let worst = WORST_FIRST.into_iter().find(|token| tokens.contains(token));
        worst.unwrap_or("PointKept")
    }
}

impl fmt::Display for ApplicationRecovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.age {
            Some(age) => write!(f, "{} old", Rounded(age))?,
            None => {
                let without = self.members.iter().filter(|(_, member)| member.run.is_none());
                let all = self.members.iter().count();
                return write!(
                    f,
                    "{} of {all} clusters have no complete backup of it",
                    without.count()
                );
            }
        }
        match self.time {
            Some(time) => write!(f, "; last restored in {}", Rounded(time)),
            None => f.write_str("; not restored everywhere yet"),
        }
    }
}

/// What every application could be brought back to. Prints one line an application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
#[must_use = "a report tells whether anything can be restored"]
pub struct ApplicationReport {
    applications: BTreeMap<String, ApplicationRecovery>,
}

impl ApplicationReport {
    /// The applications, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ApplicationRecovery)> {
        self.applications
            .iter()
            .map(|(name, found)| (name.as_str(), found))
    }

    /// One application.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&ApplicationRecovery> {
        self.applications.get(name)
    }
}

impl fmt::Display for ApplicationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.applications.keys().map(String::len).max().unwrap_or(0);
        self.applications
            .iter()
            .try_for_each(|(name, found)| writeln!(f, "{name:width$}  {}: {found}", found.token()))
    }
}

/// What could be restored of each of `applications`, whatever the order of everything.
///
/// As in [`report`](super::report), only complete backups of runs that have ended count; and of those only the ones whose
/// scope has all namespaces of the application, with every object in them.
///
/// ```
/// use kurator_backup::{
///     api::ExecutionPhase,
///     driver::BackupScope,
///     recovery::{Application, Objectives, ScopedRun, by_application},
///     retention::RunRecord,
/// };
///
/// let mut nightly = RunRecord::new("nightly", "2026-11-24T03:00:00Z".parse()?, ExecutionPhase::Completed);
/// nightly.complete.extend(["east".parse()?, "west".parse()?]);
/// let mut hourly = RunRecord::new("hourly", "2026-11-24T11:00:00Z".parse()?, ExecutionPhase::Completed);
/// hourly.complete.extend(["east".parse()?]);
/// let (everything, mut shop) = (BackupScope::default(), BackupScope::default());
/// shop.included_namespaces = vec!["shop".to_owned()];
///
/// let runs = [ScopedRun::new(&nightly, &everything), ScopedRun::new(&hourly, &shop)];
/// let applications = [
///     Application::new("shop", ["shop"], ["east".parse()?]),
///     Application::new("till", ["shop", "till"], ["east".parse()?, "west".parse()?]),
///     Application::new("wiki", ["wiki"], ["north".parse()?]),
/// ];
/// let found = by_application(&applications, &runs, &[], &Objectives::default(), "2026-11-24T12:00:00Z".parse()?);
/// assert_eq!(
///     found.to_string(),
///     "shop  Restorable: 60m old; not restored everywhere yet\n\
///      till  Restorable: 9h old; not restored everywhere yet\n\
///      wiki  NothingRestorable: 1 of 1 clusters have no complete backup of it\n",
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn by_application(
    applications: &[Application],
    runs: &[ScopedRun<'_>],
    restores: &[RestoreRecord],
    objectives: &Objectives,
    now: Timestamp,
) -> ApplicationReport {
    let last = last_restores(restores);
    // Most applications are in the same runs, so those are read once.
    let mut read: BTreeMap<Vec<bool>, Backups<'_>> = BTreeMap::new();
    let mut found = BTreeMap::new();
    for application in applications {
        let has: Vec<bool> = runs
            .iter()
            .map(|run| run.has_all(&application.namespaces))
            .collect();
        let backups = read.entry(has).or_insert_with_key(|has| {
            let having = runs.iter().zip(has).filter(|(_, has)| **has);
            Backups::of(having.map(|(run, _)| run.record))
        });
        let members = report_on(&application.clusters, backups, &last, objectives, now);
        found.insert(application.name.clone(), ApplicationRecovery::of(members, now));
    }
    ApplicationReport { applications: found }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ExecutionPhase;

    #[test]
    fn patterns_take_what_a_server_takes() {
        for (name, pattern) in [
            ("shop", "*"),
            ("shop", "s*p"),
            ("shop-a", "shop-?"),
            ("aab", "*ab"),
            ("a", "a*"),
        ] {
            assert!(is_like(name, pattern), "{name} {pattern}");
        }
        for (name, pattern) in [
            ("shop", "sho"),
            ("shop", "s*x"),
            ("shop-", "shop-?"),
            ("", "?"),
            ("ab", "a"),
        ] {
            assert!(!is_like(name, pattern), "{name} {pattern}");
        }
    }

    #[test]
    fn a_run_that_has_only_a_part_of_an_application_does_not_count() {
        let cluster: ClusterName = "east".parse().unwrap();
        let mut record = RunRecord::new(
            "r",
            "2026-11-24T03:00:00Z".parse().unwrap(),
            ExecutionPhase::Completed,
        );
        record.complete.insert(cluster.clone());
        let application = [Application::new("till", ["shop", "till"], [cluster])];
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        let point = |change: fn(&mut BackupScope)| {
            let mut scope = BackupScope::default();
            change(&mut scope);
            let run = [ScopedRun::new(&record, &scope)];
            let found = by_application(&application, &run, &[], &Objectives::default(), now);
            found.get("till").unwrap().point
        };
        assert_eq!(point(|_| {}), Some(record.started_at));
        assert_eq!(
            point(|it| it.included_namespaces = vec!["shop".into(), "t*".into()]),
            Some(record.started_at)
        );
        assert_eq!(
            point(|it| it.excluded_cluster_scoped_resources = vec!["nodes".into()]),
            Some(record.started_at)
        );
        for change in [
            (|it| it.included_namespaces = vec!["shop".into()]) as fn(&mut BackupScope),
            |it| it.excluded_namespaces = vec!["t?ll".into()],
            |it| it.excluded_namespaces = vec!["[a-z]x".into()],
            |it| it.included_resources = vec!["configmaps".into()],
            |it| it.excluded_resources = vec!["secrets".into()],
            |it| it.label_selector = Some(Default::default()),
        ] {
            assert_eq!(point(change), None);
        }
    }

    #[test]
    fn an_application_is_as_old_and_as_slow_as_its_worst_cluster() {
        let name = |name: &str| -> ClusterName { name.parse().unwrap() };
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let mut old = RunRecord::new("old", at("2026-11-23T03:00:00Z"), ExecutionPhase::Completed);
        old.complete.extend([name("a"), name("b")]);
        let mut new = RunRecord::new("new", at("2026-11-24T03:00:00Z"), ExecutionPhase::PartiallyFailed);
        new.complete.insert(name("a"));
        let scope = BackupScope::default();
        let restores = [
            RestoreRecord::new(name("a"), at("2026-11-24T04:00:00Z"), at("2026-11-24T04:09:00Z")),
            RestoreRecord::new(name("b"), at("2026-11-24T04:00:00Z"), at("2026-11-24T04:02:00Z")),
        ];
        let objectives = Objectives::default()
            .with_recovery_point(SignedDuration::from_hours(24))
            .with_recovery_time(SignedDuration::from_mins(5));
        let runs = [ScopedRun::new(&new, &scope), ScopedRun::new(&old, &scope)];
        let both = [Application::new("x", ["x"], [name("a"), name("b")])];
        let found = by_application(&both, &runs, &restores, &objectives, at("2026-11-24T12:00:00Z"));
        let x = found.get("x").unwrap();
        assert_eq!(
            (x.token(), x.to_string().as_str(), x.time),
            (
                "PointMissed",
                "33h old; last restored in 9m",
                Some(SignedDuration::from_mins(9))
            )
        );
    }
}
