//! What the status of a cluster says, from what is known. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kurator_core::condition::{ConditionSet, ConditionStatus};

use super::nodes::Counts;
use crate::api::{Cluster, ClusterStatus, DrainProgress, PodIdentityStatus, WorkerNodeCount};
use crate::controller::status::Said;
use crate::scaling::execute::DrainStanding;

/// Whether pods have their identity.
pub(super) const POD_IDENTITY: &str = "PodIdentityReady";
/// Nodes of a plan that the status names.
const MOST_NAMED: usize = 100;

/// What the controller is doing about a cluster, or why nothing.
#[derive(Clone, Debug)]
pub(super) enum Doing {
    /// Nothing is to be done.
    Nothing,
    /// Nothing can be done now.
    Held(Said),
    /// It is being done.
    Working(Said),
}

/// What is known of the identity of pods.
#[derive(Clone, Debug)]
pub(super) enum Identity {
    /// None is wanted.
    Off,
    Pending(Said),
    Failed(Said),
    Ready {
        role: String,
        id: String,
    },
}

/// What the status is made of.
#[derive(Debug)]
pub(super) struct Known {
    /// None if they have never been seen.
    pub(super) counts: Option<Counts>,
    /// The member does not answer.
    pub(super) unreachable: Option<Said>,
    pub(super) doing: Doing,
    pub(super) standing: Option<DrainStanding>,
    /// Something is wrong that will not pass by itself.
    pub(super) trouble: Option<Said>,
    pub(super) identity: Identity,
}

pub(super) fn cluster_status(cluster: &Cluster, known: &Known, now: Timestamp) -> ClusterStatus {
    let before = cluster.status.clone().unwrap_or_default();
    let mut conditions = ConditionSet::new(before.conditions, cluster.metadata.generation, now);
    let wanted = cluster.spec.worker_nodes.count;

    let progressing = match &known.doing {
        Doing::Nothing => (
            false,
            Said::new("AsWanted", format!("there are {wanted} worker nodes, as wanted")),
        ),
        Doing::Held(why) => (false, why.clone()),
        Doing::Working(what) => (true, what.clone()),
    };
    conditions.progressing(progressing.0, &progressing.1);

    let (status, why) = match (&known.unreachable, known.counts) {
        (Some(failure), _) => (ConditionStatus::Unknown, failure.clone()),
        (None, None) => (
            ConditionStatus::Unknown,
            Said::new("Connecting", "its nodes have not been listed yet"),
        ),
        (None, Some(counts)) => ready(wanted, counts, known, &progressing.1),
    };
    conditions.ready(status, &why);

    match (&known.trouble, &known.unreachable) {
        (Some(trouble), _) => conditions.degraded(true, trouble),
        (None, Some(failure)) => conditions.degraded(true, failure),
        (None, None) => conditions.degraded(false, &Said::new("NoTrouble", "nothing is wrong")),
    };

    let mut pod_identity = None;
    match &known.identity {
        Identity::Off => {
            conditions.remove(POD_IDENTITY);
        }
        Identity::Pending(what) | Identity::Failed(what) => {
            conditions.set(POD_IDENTITY, false, what);
        }
        Identity::Ready { role, id } => {
            let said = Said::new("IdentityConfigured", format!("its pods have role {role}"));
            conditions.set(POD_IDENTITY, true, &said);
            pod_identity = Some(PodIdentityStatus {
                role: role.clone(),
                id: id.clone(),
            });
        }
    }

    ClusterStatus {
        observed_generation: cluster.metadata.generation,
        conditions: conditions.into_vec(),
        worker_nodes: known
            .counts
            .map(|counts| WorkerNodeCount {
                current: counts.workers,
                ready: counts.ready,
            })
            .or(before.worker_nodes),
        cluster_uid: before.cluster_uid,
        drain: known.standing.as_ref().map(progress),
        pod_identity,
    }
}

fn ready(wanted: u32, counts: Counts, known: &Known, progressing: &Said) -> (ConditionStatus, Said) {
    let Counts { workers, ready, .. } = counts;
    if workers != wanted || !matches!(known.doing, Doing::Nothing) {
        let message = format!("{workers} worker nodes, {wanted} wanted: {}", progressing.message);
        return (ConditionStatus::False, Said::new(progressing.token, message));
    }
    if ready < workers {
        let said = Said::new(
            "WorkersNotReady",
            format!("{ready} of {workers} worker nodes are Ready"),
        );
        return (ConditionStatus::False, said);
    }
    match &known.identity {
        Identity::Pending(why) | Identity::Failed(why) => (ConditionStatus::False, why.clone()),
        Identity::Off | Identity::Ready { .. } => (
            ConditionStatus::True,
            Said::new("WorkersReady", format!("all {workers} worker nodes are Ready")),
        ),
    }
}

fn progress(standing: &DrainStanding) -> DrainProgress {
    DrainProgress {
        plan: standing.plan.clone(),
        nodes: standing.nodes.iter().take(MOST_NAMED).cloned().collect(),
        wave: standing.wave,
        waves: standing.waves,
        pods_moved: standing.pods_moved,
        pods_to_move: standing.pods_to_move,
        expected_end: standing.expected_end.map(whole_seconds).map(Time),
    }
}

/// The API keeps no more, and a status that differs from what is stored would be written for ever.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

    use super::*;
    use crate::api::{ClusterSpec, WorkerNodes};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn cluster(count: u32) -> Cluster {
        let spec = ClusterSpec {
            worker_nodes: WorkerNodes {
                count,
                ..WorkerNodes::default()
            },
            ..ClusterSpec::default()
        };
        let mut cluster = Cluster::new("c", spec);
        cluster.metadata.generation = Some(7);
        cluster
    }

    fn known(workers: u32, ready: u32, doing: Doing) -> Known {
        Known {
            counts: Some(Counts {
                workers,
                ready,
                marked: 0,
            }),
            unreachable: None,
            doing,
            standing: None,
            trouble: None,
            identity: Identity::Off,
        }
    }

    fn condition<'s>(status: &'s ClusterStatus, type_: &str) -> &'s Condition {
        status
            .conditions
            .iter()
            .find(|condition| condition.type_ == type_)
            .unwrap()
    }

    fn told(status: &ClusterStatus) -> Vec<(&str, &str, &str)> {
        ["Ready", "Progressing", "Degraded"]
            .map(|type_| condition(status, type_))
            .iter()
            .map(|it| (it.type_.as_str(), it.status.as_str(), it.reason.as_str()))
            .collect()
    }

    #[test]
    fn a_cluster_as_wanted_is_ready_and_every_condition_names_the_generation() {
        let status = cluster_status(&cluster(5), &known(5, 5, Doing::Nothing), at(0));
        assert_eq!(
            told(&status),
            [
                ("Ready", "True", "WorkersReady"),
                ("Progressing", "False", "AsWanted"),
                ("Degraded", "False", "NoTrouble")
            ]
        );
        assert_eq!(status.observed_generation, Some(7));
        assert!(
            status
                .conditions
                .iter()
                .all(|it| it.observed_generation == Some(7))
        );
    }

    #[test]
    fn a_drain_shows_its_progress_and_is_not_ready_yet() {
        let doing = Doing::Working(Said::new("ScalingDown", "wave 1 of 2"));
        let mut known = known(8, 8, doing);
        known.standing = Some(DrainStanding {
            plan: "p".into(),
            nodes: BTreeSet::from(["a".into(), "b".into(), "c".into()]),
            wave: 1,
            waves: 2,
            pods_moved: 4,
            pods_to_move: 10,
            expected_end: Some(at(60)),
            waiting: None,
        });
        let status = cluster_status(&cluster(5), &known, at(0));
        assert_eq!(condition(&status, "Ready").reason, "ScalingDown");
        assert_eq!(
            condition(&status, "Ready").message,
            "8 worker nodes, 5 wanted: wave 1 of 2"
        );
        let drain = status.drain.unwrap();
        assert_eq!((drain.pods_moved, drain.pods_to_move, drain.wave), (4, 10, 1));
        assert_eq!(drain.expected_end, Some(Time(at(60))));
    }

    #[test]
    fn a_member_out_of_reach_is_unknown_and_keeps_its_last_numbers() {
        let mut cluster = cluster(5);
        cluster.status = Some(cluster_status(&cluster, &known(5, 4, Doing::Nothing), at(0)));
        let gone = Known {
            counts: None,
            unreachable: Some(Said::new("Unreachable", "connection refused")),
            doing: Doing::Held(Said::new("Unreachable", "connection refused")),
            ..known(0, 0, Doing::Nothing)
        };
        let status = cluster_status(&cluster, &gone, at(9));
        assert_eq!(
            told(&status),
            [
                ("Ready", "Unknown", "Unreachable"),
                ("Progressing", "False", "Unreachable"),
                ("Degraded", "True", "Unreachable")
            ]
        );
        assert_eq!(status.worker_nodes.unwrap().ready, 4);
    }

    #[test]
    fn an_identity_that_is_not_there_keeps_a_cluster_from_being_ready() {
        let mut known = known(5, 5, Doing::Nothing);
        known.identity = Identity::Pending(Said::new("IdentityPending", "waiting for role r"));
        let status = cluster_status(&cluster(5), &known, at(0));
        assert_eq!(condition(&status, "Ready").reason, "IdentityPending");
        assert_eq!(condition(&status, POD_IDENTITY).status, "False");
        known.identity = Identity::Ready {
            role: "r".into(),
            id: "arn".into(),
        };
        let status = cluster_status(&cluster(5), &known, at(0));
        assert_eq!(condition(&status, "Ready").status, "True");
        assert_eq!(condition(&status, POD_IDENTITY).reason, "IdentityConfigured");
    }
}
