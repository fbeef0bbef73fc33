use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kurator_core::condition::{ConditionSet, ConditionStatus, READY};
use kurator_core::health::{ClusterUid, HealthReason};
use kurator_core::kubeconfig::KubeconfigRef;
use kurator_core::multicluster::MemberStatus;
use kurator_core::names::NamespacedName;
use kurator_core::observe::HealthStatus;
use kurator_core::reason::Reason;
use kurator_core::selector::LabelMatcher;

use super::{Said, readiness};
use crate::api::{AttachedCluster, Fleet, FleetMemberStatus, FleetStatus, MemberKind};
use crate::membership::{DetachBlocked, Registered};

/// The most members that a fleet's status lists.
const MOST_LISTED: usize = 1000;
/// The most bytes that the listed members may take in the stored object, about half of the 1.5 MiB that etcd takes: a
/// thousand members with the longest names and messages.
const MOST_BYTES: usize = 720 * 1024;
/// What a listed member takes besides its name and message: keys, reason, times, and its fields' owners.
const ENTRY: usize = 420;
/// The longest message of a listed member, in bytes.
const LONGEST_MESSAGE: usize = 160;
/// How many of the members that are waited for a message names.
const MOST_NAMED: usize = 3;

/// A cluster that a fleet may name or select.
#[derive(Clone, Debug)]
pub(in super::super) struct Candidate {
    pub(in super::super) labels: BTreeMap<String, String>,
    pub(in super::super) uid: Option<ClusterUid>,
    pub(in super::super) kubeconfig: KubeconfigRef,
    pub(in super::super) status: FleetMemberStatus,
}

/// By name and kind.
pub(in super::super) type Candidates = BTreeMap<(String, MemberKind), Candidate>;

/// The members of a fleet: candidates, or `None` for those that it names and that do not exist.
pub(in super::super) struct Members<'a> {
    pub(in super::super) listed: BTreeMap<(String, MemberKind), Option<&'a Candidate>>,
    selector_error: Option<String>,
}

impl<'a> Members<'a> {
    pub(in super::super) fn of(fleet: &Fleet, candidates: &'a Candidates) -> Self {
        let named = fleet.spec.clusters.iter().map(|member| {
            let key = (member.name.clone(), member.kind);
            let found = candidates.get(&key);
            (key, found)
        });
        let mut listed: BTreeMap<_, _> = named.collect();
        let mut selector_error = None;
        match fleet.spec.cluster_selector.as_ref().map(LabelMatcher::compile) {
            None => {}
            Some(Err(error)) => selector_error = Some(error.to_string()),
            Some(Ok(matcher)) => listed.extend(
                candidates
                    .iter()
                    .filter(|(_, candidate)| matcher.matches(&candidate.labels))
                    .map(|(key, candidate)| (key.clone(), Some(candidate))),
            ),
        }
        Self {
            listed,
            selector_error,
        }
    }
}

/// The status of a fleet over the clusters of its namespace.
pub(in super::super) fn fleet_status(fleet: &Fleet, candidates: &Candidates, now: Timestamp) -> FleetStatus {
    let before = fleet.status.clone().unwrap_or_default();
    let Members {
        listed,
        selector_error,
    } = Members::of(fleet, candidates);
    // Whoever leads from now on has not heard of everybody yet, and knows no better than what is on record.
    let recorded = |status: &FleetMemberStatus| {
        if status.reason != HealthReason::NeverSeen.as_str() {
            return None;
        }
        let mut recorded = before.clusters.iter();
        recorded
            .find(|it| (&it.name, it.kind) == (&status.name, status.kind))
            .cloned()
    };
    let members: Vec<FleetMemberStatus> = listed
        .into_iter()
        .map(|((name, kind), found)| match found {
            Some(candidate) => recorded(&candidate.status).unwrap_or_else(|| candidate.status.clone()),
            None => missing(&name, kind),
        })
        .collect();
    let (total, ready) = (
        members.len(),
        members.iter().filter(|member| member.ready).count(),
    );
    let said = match (&selector_error, total) {
        (Some(error), _) => Said::new("SelectorInvalid", error.clone()),
        (None, 0) => Said::new("NoMembers", "no cluster is named or selected"),
        _ if ready == total => Said::new("AllMembersReady", format!("all {total} members are ready")),
        _ => Said::new("MembersNotReady", format!("{ready} of {total} members are ready")),
    };
    let mut conditions = ConditionSet::new(before.conditions.clone(), fleet.metadata.generation, now);
    conditions.ready(said.token == "AllMembersReady", &said);
    conditions.degraded(total > ready || selector_error.is_some(), &said);
    let (clusters, omitted) = bounded(members);
    FleetStatus {
        observed_generation: fleet.metadata.generation,
        conditions: conditions.into_vec(),
        total_clusters: i64::try_from(total).ok(),
        ready_clusters: i64::try_from(ready).ok(),
        clusters,
        omitted_clusters: i64::try_from(omitted).ok().filter(|omitted| *omitted > 0),
    }
}

/// A member that a fleet which is being deleted still waits for.
#[derive(Clone, Debug)]
pub(in super::super) struct Waiting {
    pub(in super::super) name: String,
    /// Why; `None` while it is being cleaned.
    pub(in super::super) blocked: Option<DetachBlocked>,
}

/// The same for a fleet that is being deleted: whom it waits for, and why.
pub(in super::super) fn dissolving_status(
    fleet: &Fleet,
    candidates: &Candidates,
    waiting: &[Waiting],
    now: Timestamp,
) -> FleetStatus {
    let blocked = waiting
        .iter()
        .find_map(|member| member.blocked.map(|reason| (member, reason)));
    let names: Vec<&str> = waiting
        .iter()
        .take(MOST_NAMED)
        .map(|member| member.name.as_str())
        .collect();
    let more = waiting.len().saturating_sub(names.len());
    let names = match more {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    };
    let said = match blocked {
        Some((member, reason)) => Said::new(
            reason.as_str(),
            format!("{}: {reason}; still to be cleaned: {names}", member.name),
        ),
        None => Said::new("Detaching", format!("still to be cleaned: {names}")),
    };
    let mut status = fleet_status(fleet, candidates, now);
    let mut conditions = ConditionSet::new(status.conditions, fleet.metadata.generation, now);
    conditions.ready(false, &said);
    conditions.degraded(blocked.is_some(), &said);
    status.conditions = conditions.into_vec();
    status
}

/// As many as there is room for, sorted; those that are ready are left out first. And how many were left out.
fn bounded(mut members: Vec<FleetMemberStatus>) -> (Vec<FleetMemberStatus>, usize) {
    let total = members.len();
    members.sort_by_key(|member| member.ready);
    let mut room = MOST_BYTES;
    let fits = |member: &FleetMemberStatus| {
        // The name stands in the entry and again in the record of who owns its fields.
        let bytes = ENTRY + 2 * member.name.len() + member.message.len();
        let left = room.checked_sub(bytes);
        room = left.unwrap_or(0);
        left.is_some()
    };
    let fit = members.iter().map(fits).take_while(|fits| *fits).count();
    members.truncate(fit.min(MOST_LISTED));
    let omitted = total - members.len();
    members.sort_by(|a, b| (&a.name, a.kind).cmp(&(&b.name, b.kind)));
    (members, omitted)
}

/// An attached cluster as a fleet sees it: what its own status says.
pub(in super::super) fn of_attached(cluster: &AttachedCluster) -> Candidate {
    let name = cluster.name_any();
    let status = cluster.status.as_ref();
    let ready = status
        .into_iter()
        .flat_map(|status| &status.conditions)
        .find(|condition| condition.type_ == READY);
    let is_ready = ready.is_some_and(|condition| condition.status == "True");
    let last_seen = status.and_then(|status| status.last_seen_time.clone());
    let secret = &cluster.spec.kubeconfig;
    let place = NamespacedName::new(cluster.namespace().unwrap_or_default(), &secret.name);
    Candidate {
        labels: cluster.cluster_labels(),
        uid: status
            .and_then(|status| status.cluster_uid.clone())
            .map(ClusterUid::new),
        kubeconfig: KubeconfigRef::new(place).with_key(&secret.key),
        status: FleetMemberStatus {
            name,
            kind: MemberKind::AttachedCluster,
            ready: is_ready,
            reason: ready.map_or_else(|| "NeverSeen".to_owned(), |condition| condition.reason.clone()),
            message: ready
                .filter(|_| !is_ready)
                .map(|condition| cut(&condition.message))
                .unwrap_or_default(),
            version: status.and_then(|status| status.kubernetes_version.clone()),
            since: ready.map(|condition| condition.last_transition_time.clone()),
            last_seen: last_seen.filter(|_| !is_ready),
        },
    }
}

/// A managed cluster as a fleet sees it: what the probes of it say.
pub(in super::super) fn of_managed(
    registered: &Registered,
    known: Option<&MemberStatus>,
    version: Option<String>,
) -> Option<Candidate> {
    let member = &registered.member;
    let said = known.map(readiness);
    let (health, reason) =
        said.unwrap_or_else(|| (ConditionStatus::Unknown, Said::new("NeverSeen", "not probed yet")));
    let is_ready = health == ConditionStatus::True;
    let state = known.map(|known| &known.health);
    Some(Candidate {
        labels: member.labels.clone(),
        uid: member.uid.clone(),
        kubeconfig: member.kubeconfig.clone()?,
        status: FleetMemberStatus {
            name: member.name.to_string(),
            kind: MemberKind::Cluster,
            ready: is_ready,
            reason: reason.token().to_owned(),
            message: if is_ready {
                String::new()
            } else {
                cut(&reason.message)
            },
            version,
            since: state.and_then(|state| state.since).map(Time),
            last_seen: state
                .filter(|state| state.health != HealthStatus::Ready)
                .and_then(|state| state.last_seen)
                .map(Time),
        },
    })
}

/// A managed cluster whose name an attached cluster has: a member's name stands for one cluster.
pub(in super::super) fn shadowed(registered: &Registered) -> Option<Candidate> {
    let mut candidate = of_managed(registered, None, None)?;
    candidate.uid = None;
    "NameTaken".clone_into(&mut candidate.status.reason);
    "an AttachedCluster has this name; rename one of them".clone_into(&mut candidate.status.message);
    Some(candidate)
}

fn missing(name: &str, kind: MemberKind) -> FleetMemberStatus {
    let message = match kind {
        MemberKind::AttachedCluster => "there is no AttachedCluster of this name; create it",
        MemberKind::Cluster => "there is no Cluster of this name; create it",
    };
    FleetMemberStatus {
        name: name.to_owned(),
        kind,
        ready: false,
        reason: "ClusterNotFound".to_owned(),
        message: message.to_owned(),
        version: None,
        since: None,
        last_seen: None,
    }
}

fn cut(message: &str) -> String {
    let end = (0..=LONGEST_MESSAGE.min(message.len()))
        .rev()
        .find(|end| message.is_char_boundary(*end));
    message.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

    use super::*;
    use crate::api::{AttachedClusterSpec, AttachedClusterStatus, FleetMember, FleetSpec};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn cluster(name: &str, ready: bool) -> AttachedCluster {
        let mut cluster = AttachedCluster::new(name, AttachedClusterSpec::default());
        let said = Said::new(
            if ready { "ApiServerReady" } else { "Unreachable" },
            "x".repeat(5000),
        );
        let mut conditions = ConditionSet::new(Vec::new(), Some(1), at(0));
        conditions.ready(ready, &said);
        cluster.status = Some(AttachedClusterStatus {
            conditions: conditions.into_vec(),
            kubernetes_version: Some("v1.37.2".to_owned()),
            last_seen_time: Some(Time(at(0))),
            ..AttachedClusterStatus::default()
        });
        cluster
    }

    fn fleet(names: &[&str]) -> Fleet {
        let member = |name: &&str| FleetMember {
            name: (*name).to_owned(),
            kind: MemberKind::AttachedCluster,
        };
        Fleet::new(
            "fleet",
            FleetSpec {
                clusters: names.iter().map(member).collect(),
                ..FleetSpec::default()
            },
        )
    }

    fn named(clusters: impl IntoIterator<Item = AttachedCluster>) -> Candidates {
        clusters
            .into_iter()
            .map(|cluster| {
                (
                    (cluster.name_any(), MemberKind::AttachedCluster),
                    of_attached(&cluster),
                )
            })
            .collect()
    }

    #[test]
    fn one_cluster_that_does_not_exist_is_a_reason_and_hides_nobody() {
        let status = fleet_status(
            &fleet(&["a", "ghost", "b"]),
            &named([cluster("a", true), cluster("b", false)]),
            at(1),
        );
        let reasons: Vec<(&str, &str)> = status
            .clusters
            .iter()
            .map(|member| (member.name.as_str(), member.reason.as_str()))
            .collect();
        assert_eq!(
            reasons,
            [
                ("a", "ApiServerReady"),
                ("b", "Unreachable"),
                ("ghost", "ClusterNotFound")
            ]
        );
        assert_eq!((status.total_clusters, status.ready_clusters), (Some(3), Some(1)));
    }

    #[test]
    fn a_selector_and_a_name_make_one_member_of_a_cluster_that_both_mean() {
        let mut selecting = fleet(&["a"]);
        let labels = BTreeMap::from([("tier".to_owned(), "gold".to_owned())]);
        selecting.spec.cluster_selector = Some(LabelSelector {
            match_labels: Some(labels.clone()),
            ..LabelSelector::default()
        });
        let gold = |name| {
            let mut cluster = cluster(name, true);
            cluster.spec.labels = labels.clone();
            cluster
        };
        let status = fleet_status(
            &selecting,
            &named([gold("a"), gold("b"), cluster("c", true)]),
            at(1),
        );
        assert_eq!(
            status
                .clusters
                .iter()
                .map(|it| it.name.as_str())
                .collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert_eq!(
            status
                .conditions
                .iter()
                .find(|it| it.type_ == READY)
                .unwrap()
                .reason,
            "AllMembersReady"
        );
    }

    fn broken(count: usize, longest: usize) -> (Fleet, Candidates) {
        let names: Vec<String> = (0..count)
            .map(|index| format!("{index:05}-{}", "n".repeat(longest - 6)))
            .collect();
        let clusters = names.iter().enumerate();
        let clusters = named(clusters.map(|(index, name)| cluster(name, index >= 1000)));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        (fleet(&names), clusters)
    }

    #[test]
    fn the_status_of_a_thousand_broken_members_fits_and_of_more_the_ready_ones_are_left_out_first() {
        let (fleet, clusters) = broken(1500, 63);
        let status = fleet_status(&fleet, &clusters, at(1));
        let bytes = serde_json::to_vec(&status).unwrap().len();
        assert!(bytes < MOST_BYTES, "{bytes} bytes");
        assert_eq!(
            (status.total_clusters, status.omitted_clusters),
            (Some(1500), Some(500))
        );
        assert!(status.clusters.iter().all(|member| !member.ready));
    }

    #[test]
    fn names_of_any_length_take_no_more_room_than_there_is() {
        let (fleet, clusters) = broken(1000, 253);
        let status = fleet_status(&fleet, &clusters, at(1));
        let bytes = serde_json::to_vec(&status).unwrap().len();
        assert!(bytes < MOST_BYTES, "{bytes} bytes");
        let listed = i64::try_from(status.clusters.len()).unwrap();
        assert!(listed > 500, "{listed} are listed");
        assert_eq!(status.omitted_clusters, Some(1000 - listed));
    }

    #[test]
    fn a_fleet_that_is_being_deleted_says_whom_it_waits_for_and_what_stands_in_the_way() {
        let (fleet, clusters) = broken(5, 10);
        let waiting = |blocked: Option<DetachBlocked>| -> Vec<Waiting> {
            (0..5)
                .map(|index| Waiting {
                    name: format!("m{index}"),
                    blocked: blocked.filter(|_| index == 1),
                })
                .collect()
        };
        let ready = |waiting: &[Waiting]| {
            let status = dissolving_status(&fleet, &clusters, waiting, at(1));
            let ready = status
                .conditions
                .into_iter()
                .find(|it| it.type_ == READY)
                .unwrap();
            (ready.reason, ready.message)
        };
        let (reason, message) = ready(&waiting(None));
        assert_eq!(reason, "Detaching");
        assert_eq!(message, "still to be cleaned: m0, m1, m2 and 2 more");
        let (reason, message) = ready(&waiting(Some(DetachBlocked::MemberUnreachable)));
        assert_eq!(reason, "MemberUnreachable");
        assert!(message.starts_with("m1: the member does not answer"), "{message}");
    }

    #[test]
    fn an_empty_fleet_is_not_ready_and_not_degraded() {
        let status = fleet_status(&fleet(&[]), &Candidates::new(), at(1));
        let condition = |type_: &str| {
            status
                .conditions
                .iter()
                .find(|it| it.type_ == type_)
                .unwrap()
                .clone()
        };
        assert_eq!(
            (
                condition("Ready").status.as_str(),
                condition("Ready").reason.as_str()
            ),
            ("False", "NoMembers")
        );
        assert_eq!(condition("Degraded").status, "False");
    }
}
