//! What the status of a cluster and of a fleet says, from what is known. Pure.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use kurator_core::condition::{ConditionSet, ConditionStatus, READY};
use kurator_core::health::HealthReason;
use kurator_core::multicluster::MemberStatus;
use kurator_core::observe::HealthStatus;
use kurator_core::reason::Reason;
use kurator_core::selector::LabelMatcher;

use crate::api::{AttachedCluster, AttachedClusterStatus, Fleet, FleetMemberStatus, FleetStatus, MemberKind};

/// The most members that a fleet's status lists: about 300 bytes each, a fifth of what etcd takes.
pub(super) const MOST_LISTED: usize = 1000;

/// The longest message of a listed member, in bytes.
const LONGEST_MESSAGE: usize = 160;

/// A reason with a sentence, as a condition has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) token: &'static str,
    pub(super) message: String,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Reason for Said {
    fn token(&self) -> &'static str {
        self.token
    }
}

impl Said {
    pub(super) fn new(token: &'static str, message: impl Into<String>) -> Self {
        Self {
            token,
            message: message.into(),
        }
    }
}

/// The status of an attached cluster. The identity, once on record, stays.
pub(super) fn attached_status(
    cluster: &AttachedCluster,
    known: &MemberStatus,
    version: Option<String>,
    now: Timestamp,
) -> AttachedClusterStatus {
    let before = cluster.status.clone().unwrap_or_default();
    let (health, reason) = (known.health.health, known.health.reason);
    let status = match health {
        HealthStatus::Ready => ConditionStatus::True,
        HealthStatus::NotReady => ConditionStatus::False,
        HealthStatus::Unknown => ConditionStatus::Unknown,
    };
    let said = match &known.failure {
        Some(failure) if health != HealthStatus::Ready => Said::new(failure.token, failure.message.clone()),
        _ if reason == HealthReason::NeverSeen => Said::new(reason.as_str(), "not probed yet"),
        _ => Said::new(reason.as_str(), "the API server answers and calls itself ready"),
    };
    let mut conditions = ConditionSet::new(before.conditions, cluster.metadata.generation, now);
    let turned = conditions.get(READY).map(|condition| condition.status.as_str()) != Some(status.as_str());
    conditions.ready(status, &said);
    let last_seen = known.health.last_seen.map(Time);
    AttachedClusterStatus {
        observed_generation: cluster.metadata.generation,
        conditions: conditions.into_vec(),
        kubernetes_version: version.or(before.kubernetes_version),
        cluster_uid: before
            .cluster_uid
            .or_else(|| known.uid.as_ref().map(ToString::to_string)),
        // Not with every probe: a status that changes all the time is written all the time.
        last_seen_time: if turned {
            last_seen.or(before.last_seen_time)
        } else {
            before.last_seen_time
        },
    }
}

/// The status of a fleet over the attached clusters of its namespace, by name.
pub(super) fn fleet_status(
    fleet: &Fleet,
    clusters: &BTreeMap<String, AttachedCluster>,
    now: Timestamp,
) -> FleetStatus {
    let before = fleet.status.clone().unwrap_or_default();
    let mut listed = BTreeMap::new();
    for member in &fleet.spec.clusters {
        let found = (member.kind == MemberKind::AttachedCluster)
            .then(|| clusters.get(&member.name))
            .flatten();
        let status = match (member.kind, found) {
            (_, Some(cluster)) => of_cluster(cluster),
            (kind, None) => missing(&member.name, kind),
        };
        listed.insert((member.name.clone(), member.kind), status);
    }
    let (selected, selector_error) = match fleet.spec.cluster_selector.as_ref().map(LabelMatcher::compile) {
        None => (Vec::new(), None),
        Some(Err(error)) => (Vec::new(), Some(error.to_string())),
        Some(Ok(matcher)) => (
            clusters
                .values()
                .filter(|cluster| matcher.matches(&cluster.cluster_labels()))
                .collect(),
            None,
        ),
    };
    for cluster in selected {
        listed
            .entry((cluster.name_any(), MemberKind::AttachedCluster))
            .or_insert_with(|| of_cluster(cluster));
    }
    let (total, ready) = (
        listed.len(),
        listed.values().filter(|member| member.ready).count(),
    );
    let said = match (&selector_error, total) {
        (Some(error), _) => Said::new("SelectorInvalid", error.clone()),
        (None, 0) => Said::new("NoMembers", "no cluster is named or selected"),
        _ if ready == total => Said::new("AllMembersReady", format!("all {total} members are ready")),
        _ => Said::new("MembersNotReady", format!("{ready} of {total} members are ready")),
    };
    let mut conditions = ConditionSet::new(before.conditions, fleet.metadata.generation, now);
    conditions.ready(said.token == "AllMembersReady", &said);
    conditions.degraded(total > ready || selector_error.is_some(), &said);
    let mut members: Vec<FleetMemberStatus> = listed.into_values().collect();
    members.sort_by_key(|member| member.ready);
    let omitted = members.len().saturating_sub(MOST_LISTED);
    members.truncate(MOST_LISTED);
    members.sort_by(|a, b| (&a.name, a.kind).cmp(&(&b.name, b.kind)));
    FleetStatus {
        observed_generation: fleet.metadata.generation,
        conditions: conditions.into_vec(),
        total_clusters: i64::try_from(total).ok(),
        ready_clusters: i64::try_from(ready).ok(),
        clusters: members,
        omitted_clusters: i64::try_from(omitted).ok().filter(|omitted| *omitted > 0),
    }
}

fn of_cluster(cluster: &AttachedCluster) -> FleetMemberStatus {
    let status = cluster.status.as_ref();
    let ready: Option<&Condition> = status.and_then(|status| {
        status
            .conditions
            .iter()
            .find(|condition| condition.type_ == READY)
    });
    let is_ready = ready.is_some_and(|condition| condition.status == "True");
    FleetMemberStatus {
        name: cluster.name_any(),
        kind: MemberKind::AttachedCluster,
        ready: is_ready,
        reason: ready.map_or_else(|| "NeverSeen".to_owned(), |condition| condition.reason.clone()),
        message: if is_ready {
            String::new()
        } else {
            ready.map(|it| cut(&it.message)).unwrap_or_default()
        },
        version: status.and_then(|status| status.kubernetes_version.clone()),
        since: ready.map(|condition| condition.last_transition_time.clone()),
        last_seen: status
            .filter(|_| !is_ready)
            .and_then(|status| status.last_seen_time.clone()),
    }
}

fn missing(name: &str, kind: MemberKind) -> FleetMemberStatus {
    let (reason, message) = match kind {
        MemberKind::AttachedCluster => (
            "ClusterNotFound",
            "there is no AttachedCluster of this name; create it",
        ),
        MemberKind::Cluster => (
            "ClusterNotFound",
            "clusters of kind Cluster have no connection here; attach it",
        ),
    };
    FleetMemberStatus {
        name: name.to_owned(),
        kind,
        ready: false,
        reason: reason.to_owned(),
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
    use crate::api::{AttachedClusterSpec, FleetMember, FleetSpec};

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

    fn named(clusters: impl IntoIterator<Item = AttachedCluster>) -> BTreeMap<String, AttachedCluster> {
        clusters
            .into_iter()
            .map(|cluster| (cluster.name_any(), cluster))
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

    #[test]
    fn the_status_of_a_thousand_broken_members_fits_and_of_more_the_ready_ones_are_left_out_first() {
        let names: Vec<String> = (0..1500)
            .map(|index| format!("{index:04}-{}", "n".repeat(50)))
            .collect();
        let clusters = named(
            names
                .iter()
                .enumerate()
                .map(|(index, name)| cluster(name, index >= 1000)),
        );
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let status = fleet_status(&fleet(&names), &clusters, at(1));
        let bytes = serde_json::to_vec(&status).unwrap().len();
        assert!(bytes < 512 * 1024, "{bytes} bytes");
        assert_eq!(
            (status.total_clusters, status.omitted_clusters),
            (Some(1500), Some(500))
        );
        assert!(status.clusters.iter().all(|member| !member.ready));
    }

    #[test]
    fn an_empty_fleet_is_not_ready_and_not_degraded() {
        let status = fleet_status(&fleet(&[]), &BTreeMap::new(), at(1));
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
