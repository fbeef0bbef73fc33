//! What a Velero server would refuse, said before it is asked.
//!
//! `FailedValidation` is final: a server never looks at a refused backup again, and its name is used up. So
//! whatever a server is known to refuse is found out here, from a request and the facts of its member. An
//! objection is certain: a server that takes what is objected to here is a defect of this module. The converse is not
//! promised, for a server knows flags of its own that nobody else can read.
//!
//! Held against Velero 1.18.3 in `tests/full_velero_preflight.rs`: of 300 generated backups and 100 generated restores
//! the server judged each as foretold.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::{SignedDuration, Timestamp};

use super::glob;
use crate::driver::{
    BackupName, BackupRequest, BackupScope, LocationAccess, LocationFacts, LocationName, LocationState,
    MemberFacts, RestoreRequest,
};

/// Kinds that a server never restores, and refuses to be asked for.
pub const NOT_RESTORABLE: [&str; 9] = [
    "nodes",
    "events",
    "events.events.k8s.io",
    "backups.velero.io",
    "restores.velero.io",
    "resticrepositories.velero.io",
    "csinodes.storage.k8s.io",
    "volumeattachments.storage.k8s.io",
    "backuprepositories.velero.io",
];

/// A list of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum List {
    /// Included and excluded namespaces.
    Namespaces,
    /// Included and excluded resources.
    Resources,
    /// Included and excluded cluster-scoped resources.
    ClusterScopedResources,
    /// Included and excluded namespaced resources.
    NamespaceScopedResources,
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Namespaces => "namespaces",
            Self::Resources => "resources",
            Self::ClusterScopedResources => "cluster-scoped resources",
            Self::NamespaceScopedResources => "namespaced resources",
        })
    }
}

/// Why a server would refuse a request. `Display` says what to change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Objection {
    /// `*` stands beside other items, or where it may not stand.
    #[error("in the included {list}, * must stand alone")]
    StarBesideOthers {
        /// Which list.
        list: List,
    },
    /// `*` is excluded.
    #[error(
        "the excluded {list} cannot contain * there; leave the list of the included empty, or name what to exclude"
    )]
    StarExcluded {
        /// Which list.
        list: List,
    },
    /// The same item is included and excluded.
    #[error("{item} is both in the included and the excluded {list}; take it out of one")]
    InBoth {
        /// Which list.
        list: List,
        /// The item.
        item: String,
    },
    /// A namespace that cannot be.
    #[error("{pattern:?} cannot be the name or pattern of namespaces: {problem}")]
    NamespacePattern {
        /// As given.
        pattern: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The two families of resource filters together.
    #[error(
        "filters by scope cannot be used with includedResources, excludedResources or includeClusterResources; choose one family"
    )]
    MixedFilters,
    /// Both kinds of label selectors.
    #[error("labelSelector and orLabelSelectors cannot be used together; put the one into the other")]
    MixedSelectors,
    /// There is no such storage location, or no default one.
    #[error("there is no storage location {}; create it or name another", location.as_ref().map_or("that is the default", LocationName::as_str))]
    LocationMissing {
        /// The one that was named; `None` for the default one.
        location: Option<LocationName>,
    },
    /// The storage location cannot be written to.
    #[error("storage location {location} is read-only; back up to another")]
    LocationReadOnly {
        /// The location.
        location: LocationName,
    },
    /// The storage location cannot be used now.
    #[error("storage location {location} cannot be used now ({message}); wait until it can")]
    LocationUnavailable {
        /// The location.
        location: LocationName,
        /// What the server says of it.
        message: String,
    },
    /// There is no such volume snapshot location.
    #[error("there is no volume snapshot location {location}; create it or name another")]
    SnapshotLocationMissing {
        /// The location.
        location: String,
    },
    /// Two volume snapshot locations of one provider are named.
    #[error("{first} and {second} are both snapshot locations of {provider}; name one of them")]
    TwoSnapshotLocations {
        /// The provider.
        provider: String,
        /// The one named first.
        first: String,
        /// The other.
        second: String,
    },
    /// A provider has several volume snapshot locations and none is named or given by default.
    #[error("{provider} has several volume snapshot locations; name one of them")]
    SnapshotLocationUndecided {
        /// The provider.
        provider: String,
    },
    /// The ConfigMap that says what to do with volumes does not exist or cannot be used.
    #[error("there is no usable resource policy {config_map} in the server's namespace; create it there")]
    ResourcePolicyMissing {
        /// Its name.
        config_map: String,
    },
    /// A kind that no server restores is asked for.
    #[error("a kind that is never restored is asked for: {kind}; take it out of the included resources")]
    NotRestorable {
        /// The kind.
        kind: String,
    },
    /// The backup to restore does not exist on the server.
    #[error("the server knows no backup {backup}; it may come with the next sync of its storage location")]
    BackupMissing {
        /// The backup.
        backup: BackupName,
    },
    /// The resource modifiers cannot be read.
    #[error("the resource modifiers are not as a server reads them: {problem}")]
    Modifiers {
        /// What is wrong.
        problem: String,
    },
}

impl Objection {
    /// Whether waiting may help, without a change to the request: what is missing may come, what is away may be
    /// back.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::LocationUnavailable { .. } | Self::BackupMissing { .. }
        )
    }
}

impl kurator_core::reason::Reason for Objection {
    fn token(&self) -> &'static str {
        match self {
            Self::StarBesideOthers { .. } | Self::StarExcluded { .. } => "StarMisplaced",
            Self::InBoth { .. } => "IncludedAndExcluded",
            Self::NamespacePattern { .. } => "InvalidNamespacePattern",
            Self::MixedFilters => "MixedResourceFilters",
            Self::MixedSelectors => "MixedLabelSelectors",
            Self::LocationMissing { .. } => "StorageLocationMissing",
            Self::LocationReadOnly { .. } => "StorageLocationReadOnly",
            Self::LocationUnavailable { .. } => "StorageLocationUnavailable",
            Self::SnapshotLocationMissing { .. } => "SnapshotLocationMissing",
            Self::TwoSnapshotLocations { .. } | Self::SnapshotLocationUndecided { .. } => {
                "SnapshotLocationUndecided"
            }
            Self::ResourcePolicyMissing { .. } => "ResourcePolicyMissing",
            Self::NotRestorable { .. } => "KindNotRestorable",
            Self::BackupMissing { .. } => "BackupMissing",
            Self::Modifiers { .. } => "InvalidResourceModifiers",
        }
    }
}

/// What the server of a member would refuse in `request`, in a fixed order; empty if nothing.
///
/// ```
/// use kurator_backup::driver::{BackupName, BackupRequest, MemberFacts, OwnerToken};
/// use kurator_backup::velero::preflight::{self, Objection};
///
/// let mut request = BackupRequest::new(BackupName::new("nightly")?, OwnerToken::bounded(["example"]));
/// request.scope.included_namespaces = vec!["shop".into(), "*".into()];
/// let objections = preflight::backup(&request, &MemberFacts::default());
/// assert!(objections.iter().any(|found| matches!(found, Objection::StarBesideOthers { .. })));
/// # Ok::<(), kurator_backup::driver::InvalidName>(())
/// ```
#[must_use]
pub fn backup(request: &BackupRequest, facts: &MemberFacts) -> Vec<Objection> {
    let mut found = Vec::new();
    location(request.location.as_ref(), facts, true, &mut found);
    snapshot_locations(&request.snapshot_locations, facts, &mut found);
    backup_scope(&request.scope, facts, &mut found);
    if let Some(config_map) = &request.resource_policy
        && !facts.resource_policies.contains(config_map)
    {
        found.push(Objection::ResourcePolicyMissing {
            config_map: config_map.clone(),
        });
    }
    found
}

/// What the server of a member would refuse in `request`; `location_of_backup` is where its server keeps the
/// backup, `None` if it knows no such backup.
#[must_use]
pub fn restore(
    request: &RestoreRequest,
    facts: &MemberFacts,
    location_of_backup: Option<&LocationName>,
) -> Vec<Objection> {
    let mut found = Vec::new();
    let scope = &request.scope;
    for kind in NOT_RESTORABLE {
        if scope.included_resources.iter().any(|item| item == kind) {
            found.push(Objection::NotRestorable { kind: kind.into() });
        }
    }
    plain_lists(
        List::Resources,
        &scope.included_resources,
        &scope.excluded_resources,
        &mut found,
    );
    plain_lists(
        List::Namespaces,
        &scope.included_namespaces,
        &scope.excluded_namespaces,
        &mut found,
    );
    if scope.label_selector.is_some() && !scope.or_label_selectors.is_empty() {
        found.push(Objection::MixedSelectors);
    }
    match location_of_backup {
        None => found.push(Objection::BackupMissing {
            backup: request.backup.clone(),
        }),
        named => location(named, facts, false, &mut found),
    }
    found
}

/// What the server would refuse in the resource modifiers of `request`, which [`restore`] does not look into: they are
/// YAML, and what reads YAML comes with the feature `client`.
#[cfg(feature = "client")]
#[must_use]
pub fn modifiers(request: &RestoreRequest) -> Option<Objection> {
    let problem = super::modifiers::offence(request.modifiers.as_deref()?)?;
    Some(Objection::Modifiers { problem })
}

/// Whether the server looked at the location at most `age` before `now` and found it usable. A server that is
/// down leaves `Available` standing for ever: only the time tells.
#[must_use]
pub fn is_fresh(location: &LocationFacts, now: Timestamp, age: SignedDuration) -> bool {
    location.state == LocationState::Available
        && location
            .validated_at
            .is_some_and(|looked| now.duration_since(looked) <= age)
}

fn location(named: Option<&LocationName>, facts: &MemberFacts, write: bool, found: &mut Vec<Objection>) {
    let Some((name, location)) = facts.location(named) else {
        found.push(Objection::LocationMissing {
            location: named.cloned(),
        });
        return;
    };
    if write && location.access == LocationAccess::ReadOnly {
        found.push(Objection::LocationReadOnly {
            location: name.clone(),
        });
    }
    let message = match &location.state {
        LocationState::Available => return,
        LocationState::Unavailable { message } if !message.is_empty() => message.clone(),
        LocationState::Unavailable { .. } => "the server does not say why".into(),
        LocationState::Unknown => "the server has not looked at it yet".into(),
    };
    found.push(Objection::LocationUnavailable {
        location: name.clone(),
        message,
    });
}

fn snapshot_locations(named: &[String], facts: &MemberFacts, found: &mut Vec<Objection>) {
    let mut chosen = BTreeMap::<&str, &str>::new();
    let before = found.len();
    for name in named {
        let Some(provider) = facts.snapshot_locations.get(name) else {
            found.push(Objection::SnapshotLocationMissing {
                location: name.clone(),
            });
            continue;
        };
        match chosen.get(provider.as_str()) {
            Some(first) if first != name => found.push(Objection::TwoSnapshotLocations {
                provider: provider.clone(),
                first: (*first).into(),
                second: name.clone(),
            }),
            Some(_) => {}
            None => {
                chosen.insert(provider, name);
            }
        }
    }
    if found.len() > before {
        return;
    }
    let providers = facts.snapshot_locations.values().collect::<BTreeSet<_>>();
    for provider in providers {
        let count = facts
            .snapshot_locations
            .values()
            .filter(|other| *other == provider)
            .count();
        let decided =
            chosen.contains_key(provider.as_str()) || facts.default_snapshot_providers.contains(provider);
        if count > 1 && !decided {
            found.push(Objection::SnapshotLocationUndecided {
                provider: provider.clone(),
            });
        }
    }
}

fn backup_scope(scope: &BackupScope, facts: &MemberFacts, found: &mut Vec<Objection>) {
    if scope.uses_plain_filters() && scope.uses_scoped_filters() {
        found.push(Objection::MixedFilters);
    }
    if scope.uses_plain_filters() {
        plain_lists(
            List::Resources,
            &scope.included_resources,
            &scope.excluded_resources,
            found,
        );
    } else {
        scoped_lists(
            List::ClusterScopedResources,
            &scope.included_cluster_scoped_resources,
            &scope.excluded_cluster_scoped_resources,
            found,
        );
        scoped_lists(
            List::NamespaceScopedResources,
            &scope.included_namespace_scoped_resources,
            &scope.excluded_namespace_scoped_resources,
            found,
        );
    }
    let star = ["*".to_owned()];
    let included: &[String] = if scope.included_namespaces.is_empty() {
        &star
    } else {
        &scope.included_namespaces
    };
    let excluded = scope.excluded_namespaces.iter().chain(&facts.left_out_namespaces);
    let excluded = excluded.cloned().collect::<Vec<_>>();
    plain_lists(List::Namespaces, included, &excluded, found);
    let patterns = included.iter().chain(&excluded);
    for pattern in patterns.collect::<BTreeSet<_>>() {
        if let Some(problem) = glob::offence(pattern) {
            found.push(Objection::NamespacePattern {
                pattern: pattern.clone(),
                problem,
            });
        }
    }
    if scope.label_selector.is_some() && !scope.or_label_selectors.is_empty() {
        found.push(Objection::MixedSelectors);
    }
}

fn plain_lists(list: List, included: &[String], excluded: &[String], found: &mut Vec<Objection>) {
    star_beside_others(list, included, found);
    if excluded.iter().any(|item| item == "*") {
        found.push(Objection::StarExcluded { list });
    }
    in_both(list, included, excluded, found);
}

/// `*` may be excluded, alone and with nothing included.
fn scoped_lists(list: List, included: &[String], excluded: &[String], found: &mut Vec<Objection>) {
    star_beside_others(list, included, found);
    let others = excluded.iter().any(|item| item != "*");
    if excluded.iter().any(|item| item == "*") && (others || !included.is_empty()) {
        found.push(Objection::StarExcluded { list });
    }
    in_both(list, included, excluded, found);
}

fn star_beside_others(list: List, included: &[String], found: &mut Vec<Objection>) {
    let star = included.iter().any(|item| item == "*");
    if star && included.iter().any(|item| item != "*") {
        found.push(Objection::StarBesideOthers { list });
    }
}

fn in_both(list: List, included: &[String], excluded: &[String], found: &mut Vec<Objection>) {
    let included = included.iter().collect::<BTreeSet<_>>();
    for item in excluded.iter().collect::<BTreeSet<_>>() {
        // `*` in both is said once, as excluded.
        if item != "*" && included.contains(item) {
            found.push(Objection::InBoth {
                list,
                item: item.clone(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::{OwnerToken, RestoreName, StoreAddress};

    fn facts() -> MemberFacts {
        let mut facts = MemberFacts::default();
        let name = LocationName::new("default").unwrap();
        let location = LocationFacts::available(StoreAddress::new("aws", "backups", ""));
        facts.default_location = Some(name.clone());
        facts.locations.insert(name, location);
        facts
    }

    fn request() -> BackupRequest {
        BackupRequest::new(BackupName::new("nightly").unwrap(), OwnerToken::bounded(["run"]))
    }

    fn list(items: &[&str]) -> Vec<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    #[test]
    fn a_request_that_a_server_takes_meets_no_objection() {
        let mut request = request();
        assert_eq!(backup(&request, &facts()), []);
        request.scope.included_namespaces = list(&["shop", "team-*"]);
        request.scope.excluded_cluster_scoped_resources = list(&["*"]);
        assert_eq!(backup(&request, &facts()), []);
    }

    #[test]
    fn what_excludes_each_other_is_objected_to_once() {
        let mut request = request();
        request.scope.included_namespaces = list(&["shop", "shop", "*"]);
        request.scope.excluded_namespaces = list(&["shop", "shop", "*"]);
        let namespaces = List::Namespaces;
        let item = "shop".into();
        assert_eq!(
            backup(&request, &facts()),
            [
                Objection::StarBesideOthers { list: namespaces },
                Objection::StarExcluded { list: namespaces },
                Objection::InBoth {
                    list: namespaces,
                    item
                },
            ]
        );
    }

    #[test]
    fn a_namespace_that_wants_no_backup_cannot_be_asked_for_by_name() {
        let mut request = request();
        request.scope.included_namespaces = list(&["private"]);
        let mut facts = facts();
        facts.left_out_namespaces = ["private".to_owned()].into();
        assert_eq!(backup(&request, &facts).len(), 1);
        request.scope.included_namespaces = list(&["priv*"]);
        assert_eq!(backup(&request, &facts), []);
    }

    #[test]
    fn one_snapshot_location_is_wanted_for_each_provider_that_has_several() {
        let mut facts = facts();
        facts.snapshot_locations = [("a", "aws"), ("b", "aws"), ("c", "csi")]
            .map(|(name, provider)| (name.to_owned(), provider.to_owned()))
            .into();
        let mut request = request();
        let undecided = Objection::SnapshotLocationUndecided {
            provider: "aws".into(),
        };
        assert_eq!(backup(&request, &facts), [undecided]);
        request.snapshot_locations = list(&["b", "b"]);
        assert_eq!(backup(&request, &facts), []);
        request.snapshot_locations = list(&["a", "b"]);
        assert!(matches!(
            backup(&request, &facts)[..],
            [Objection::TwoSnapshotLocations { .. }]
        ));
        facts.default_snapshot_providers = ["aws".to_owned()].into();
        request.snapshot_locations.clear();
        assert_eq!(backup(&request, &facts), []);
    }

    #[test]
    fn a_location_may_come_back_and_a_star_will_not_go_away() {
        let mut facts = facts();
        let location = facts.locations.values_mut().next().unwrap();
        location.state = LocationState::Unknown;
        let objections = backup(&request(), &facts);
        assert!(matches!(objections[..], [Objection::LocationUnavailable { .. }]));
        assert!(objections[0].may_pass());
        assert!(!Objection::MixedFilters.may_pass());
    }

    #[test]
    fn available_is_believed_only_of_a_server_that_looked_lately() {
        let now: Timestamp = "2026-11-23T03:00:00Z".parse().unwrap();
        let age = SignedDuration::from_secs(90);
        let mut location = LocationFacts::available(StoreAddress::default());
        assert!(!is_fresh(&location, now, age));
        location.validated_at = Some(now - SignedDuration::from_secs(60));
        assert!(is_fresh(&location, now, age));
        location.validated_at = Some(now - SignedDuration::from_secs(600));
        assert!(!is_fresh(&location, now, age));
        location.state = LocationState::Unknown;
        location.validated_at = Some(now);
        assert!(!is_fresh(&location, now, age));
    }

    #[test]
    fn a_restore_needs_its_backup_and_kinds_that_can_be_restored() {
        let name = BackupName::new("nightly").unwrap();
        let mut request =
            RestoreRequest::new(RestoreName::new("r").unwrap(), OwnerToken::bounded(["r"]), name);
        let default = LocationName::new("default").unwrap();
        assert_eq!(restore(&request, &facts(), Some(&default)), []);
        assert!(restore(&request, &facts(), None)[0].may_pass());
        request.scope.included_resources = list(&["nodes", "pods"]);
        let found = restore(&request, &facts(), Some(&default));
        assert!(matches!(found[..], [Objection::NotRestorable { .. }]));
    }

    #[cfg(feature = "client")]
    #[test]
    fn modifiers_that_a_server_cannot_read_are_objected_to() {
        let name = BackupName::new("nightly").unwrap();
        let mut request =
            RestoreRequest::new(RestoreName::new("r").unwrap(), OwnerToken::bounded(["r"]), name);
        assert_eq!(modifiers(&request), None);
        request.modifiers = Some("version: v9".into());
        assert!(matches!(modifiers(&request), Some(Objection::Modifiers { .. })));
    }
}
