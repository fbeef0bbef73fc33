//! To which cluster the state of a copy that was left goes, and for how long.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kurator_core::names::ClusterName;

use crate::api::{CarriedState, CarryPhase};

/// One cluster that an object has left or is leaving.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "an input: a new field must not be forgotten"
)]
pub struct LeftCluster {
    /// When it was decided.
    pub since: Timestamp,
    /// What was written of its state since; `None` if it is only being decided.
    pub known: Option<CarriedState>,
    /// What its copy said last, as labels.
    pub state: BTreeMap<String, String>,
}

/// An object that leaves clusters, and where it is to be.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "an input: a new field must not be forgotten"
)]
pub struct CarryRequest<'a> {
    /// The clusters it leaves.
    pub left: &'a BTreeMap<ClusterName, LeftCluster>,
    /// The clusters that it is to be in, all of them told or about to be.
    pub planned: &'a BTreeSet<ClusterName>,
    /// The clusters that were told to hold it before this.
    pub told: &'a BTreeSet<ClusterName>,
    /// Those in which something of it is ready.
    pub ready: &'a BTreeSet<ClusterName>,
    /// Whether a part of it still looks for a place.
    pub searching: bool,
    /// Fingerprint of its template, whatever the number of its replicas.
    pub revision: &'a str,
}

/// What becomes of the state of each cluster that was left.
///
/// # Guarantees
/// - Only a cluster that was not told to hold the object before gets labels, and each from one cluster only.
/// - Two clusters never get the state of the same copy: one job is not started twice from one checkpoint.
/// - Once it has begun to run with them, another revision of the template goes without.
/// - Applied to its own result with the same input it changes nothing.
#[must_use]
pub fn carry(request: &CarryRequest<'_>) -> BTreeMap<ClusterName, CarriedState> {
    let mut carried: BTreeMap<ClusterName, CarriedState> = BTreeMap::new();
    for (cluster, left) in request.left {
        let state = match &left.known {
            Some(known) => go_on(known, request),
            None => CarriedState {
                labels: inherited(cluster, left, request),
                ..CarriedState::default()
            },
        };
        carried.insert(cluster.clone(), state);
    }
    let taken: BTreeSet<String> = carried.values().filter_map(|it| it.cluster.clone()).collect();
    let is_new = |cluster: &&ClusterName| {
        let known = request.told.contains(*cluster) || request.left.contains_key(*cluster);
        !known && !taken.contains(cluster.as_str())
    };
    // The newest state counts: what was left before that has been followed by it.
    let waiting = carried
        .iter()
        .filter(|(_, it)| it.phase == CarryPhase::Waiting && !it.labels.is_empty());
    let newest = waiting
        .max_by_key(|(cluster, _)| (request.left.get(*cluster).map(|left| left.since), *cluster))
        .map(|(cluster, _)| cluster.clone());
    let mut targets = request.planned.iter().filter(is_new);
    let target = (targets.next(), targets.next());
    for (cluster, it) in carried
        .iter_mut()
        .filter(|(_, it)| it.phase == CarryPhase::Waiting)
    {
        if it.labels.is_empty() {
            it.phase = CarryPhase::Over;
        } else if let ((Some(target), None), true) = (target, Some(cluster) == newest.as_ref()) {
            it.phase = CarryPhase::Carried;
            it.cluster = Some(target.to_string());
        } else if target.0.is_some() && Some(cluster) != newest.as_ref() {
            it.phase = CarryPhase::Over;
        } else if target.0.is_some() || (!request.searching && !request.planned.is_empty()) {
            it.phase = CarryPhase::NoSingleTarget;
        }
    }
    carried
}

/// What the copy said, and what it was itself given and does not say.
fn inherited(
    cluster: &ClusterName,
    left: &LeftCluster,
    request: &CarryRequest<'_>,
) -> BTreeMap<String, String> {
    let given = request.left.values().filter_map(|left| left.known.as_ref());
    let mut labels: BTreeMap<String, String> = given
        .filter(|known| {
            known.phase == CarryPhase::Carried && known.cluster.as_deref() == Some(cluster.as_str())
        })
        .flat_map(|known| known.labels.clone())
        .collect();
    labels.extend(left.state.clone());
    labels
}

/// What was written, as far as it still holds.
fn go_on(known: &CarriedState, request: &CarryRequest<'_>) -> CarriedState {
    let mut state = known.clone();
    if state.phase != CarryPhase::Carried {
        return state;
    }
    let is = |name: &&ClusterName| Some(name.as_str()) == state.cluster.as_deref();
    if request.left.keys().any(|name| is(&name)) {
        // That cluster failed too, and has a state of its own by now.
        state.phase = CarryPhase::Over;
    } else if !request.planned.iter().any(|name| is(&name)) {
        if state.revision.is_some() {
            state.phase = CarryPhase::Over;
        } else {
            state.phase = CarryPhase::Waiting;
            state.cluster = None;
        }
    } else if let Some(begun) = &state.revision {
        if begun != request.revision {
            state.phase = CarryPhase::Over;
        }
    } else if request.ready.iter().any(|name| is(&name)) {
        state.revision = Some(request.revision.to_owned());
    }
    state
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(index: usize) -> ClusterName {
        format!("c{index}").parse().unwrap()
    }

    fn set(clusters: &[usize]) -> BTreeSet<ClusterName> {
        clusters.iter().map(|index| name(*index)).collect()
    }

    fn fresh(second: i64, value: &str) -> LeftCluster {
        LeftCluster {
            since: Timestamp::from_second(second).unwrap(),
            known: None,
            state: [("job".to_owned(), value.to_owned())].into(),
        }
    }

    struct World {
        left: BTreeMap<ClusterName, LeftCluster>,
        told: BTreeSet<ClusterName>,
        ready: BTreeSet<ClusterName>,
        revision: String,
        searching: bool,
    }

    impl World {
        fn of(told: &[usize]) -> Self {
            Self {
                left: BTreeMap::new(),
                told: set(told),
                ready: BTreeSet::new(),
                revision: "r1".to_owned(),
                searching: false,
            }
        }

        fn leaves(&mut self, index: usize, second: i64, value: &str) {
            self.left.insert(name(index), fresh(second, value));
        }

        fn request<'a>(&'a self, planned: &'a BTreeSet<ClusterName>) -> CarryRequest<'a> {
            CarryRequest {
                left: &self.left,
                planned,
                told: &self.told,
                ready: &self.ready,
                searching: self.searching,
                revision: &self.revision,
            }
        }

        /// One pass, as it is written down.
        fn pass(&mut self, planned: &BTreeSet<ClusterName>) -> BTreeMap<ClusterName, CarriedState> {
            let carried = carry(&self.request(planned));
            for (cluster, left) in &mut self.left {
                left.known = carried.get(cluster).cloned();
            }
            assert_eq!(
                carry(&self.request(planned)),
                carried,
                "a second look changes nothing"
            );
            self.told.clone_from(planned);
            carried
        }
    }

    /// Which cluster gets which value.
    fn given(carried: &BTreeMap<ClusterName, CarriedState>) -> Vec<(String, String)> {
        let given = carried.values().filter(|it| it.phase == CarryPhase::Carried);
        given
            .map(|it| (it.cluster.clone().unwrap(), it.labels["job"].clone()))
            .collect()
    }

    fn pair(cluster: &str, value: &str) -> Vec<(String, String)> {
        vec![(cluster.to_owned(), value.to_owned())]
    }

    #[test]
    fn the_one_cluster_that_takes_over_gets_it_until_the_template_is_another() {
        let mut world = World::of(&[0]);
        world.leaves(0, 1, "a");
        world.searching = true;
        assert_eq!(given(&world.pass(&set(&[]))), [], "there is no room yet");
        world.searching = false;
        assert_eq!(given(&world.pass(&set(&[1]))), pair("c1", "a"));
        world.revision = "r2".to_owned();
        assert_eq!(
            given(&world.pass(&set(&[1]))),
            pair("c1", "a"),
            "it has not begun to run"
        );
        world.ready = set(&[1]);
        assert_eq!(given(&world.pass(&set(&[1]))), pair("c1", "a"));
        assert_eq!(
            given(&world.pass(&set(&[1, 2]))),
            pair("c1", "a"),
            "what joins later starts anew"
        );
        world.revision = "r3".to_owned();
        assert_eq!(given(&world.pass(&set(&[1]))), []);
        world.revision = "r2".to_owned();
        assert_eq!(given(&world.pass(&set(&[1]))), [], "it never comes back");
    }

    #[test]
    fn what_fails_before_it_has_said_anything_hands_on_what_it_was_given() {
        let mut world = World::of(&[0]);
        world.leaves(0, 1, "a");
        world.pass(&set(&[1]));
        world.leaves(1, 2, "b");
        world.left.get_mut(&name(1)).unwrap().state.clear();
        assert_eq!(given(&world.pass(&set(&[2]))), pair("c2", "a"));
        let mut world = World::of(&[0]);
        world.leaves(0, 1, "a");
        world.pass(&set(&[1]));
        world.leaves(1, 2, "b");
        assert_eq!(
            given(&world.pass(&set(&[2]))),
            pair("c2", "b"),
            "its own counts more"
        );
    }

    #[test]
    fn replicas_that_move_to_a_copy_that_runs_already_carry_nothing() {
        let mut world = World::of(&[0, 1]);
        world.leaves(0, 1, "a");
        let carried = world.pass(&set(&[1]));
        assert_eq!(carried[&name(0)].phase, CarryPhase::NoSingleTarget);
        assert_eq!(
            given(&world.pass(&set(&[1, 2]))),
            [],
            "a later cluster is not its successor"
        );
    }

    #[test]
    fn two_successors_get_nothing() {
        let mut world = World::of(&[0]);
        world.leaves(0, 1, "a");
        let carried = world.pass(&set(&[1, 2]));
        assert_eq!(carried[&name(0)].phase, CarryPhase::NoSingleTarget);
    }

    #[test]
    fn a_successor_that_is_given_up_before_it_ran_is_followed_by_another() {
        let mut world = World::of(&[0]);
        world.leaves(0, 1, "a");
        world.pass(&set(&[1]));
        assert_eq!(given(&world.pass(&set(&[2]))), pair("c2", "a"));
        world.ready = set(&[2]);
        world.pass(&set(&[2]));
        assert_eq!(given(&world.pass(&set(&[3]))), [], "a move is no failover");
    }

    proptest! {
        #[test]
        fn nobody_who_had_the_object_gets_a_state_and_no_state_goes_to_two(
            steps in proptest::collection::vec(
                (proptest::collection::btree_set(0_usize..5, 0..4), proptest::collection::btree_set(0_usize..5, 0..2),
                 any::<bool>(), any::<bool>(), 0_u8..3),
                1..12,
            ),
        ) {
            let mut world = World::of(&[0, 1]);
            let mut before = Vec::new();
            for (second, (planned, leave, returns, searching, revision)) in steps.iter().enumerate() {
                if *returns {
                    world.left.clear();
                    before.clear();
                }
                for index in leave {
                    if !world.told.contains(&name(*index)) {
                        continue;
                    }
                    world.leaves(*index, i64::try_from(second).unwrap(), &format!("{index}-{second}"));
                }
                world.searching = *searching;
                world.revision = revision.to_string();
                let planned: BTreeSet<_> =
                    planned.iter().map(|index| name(*index)).filter(|it| !world.left.contains_key(it)).collect();
                let told = world.told.clone();
                let carried = world.pass(&planned);
                let now = given(&carried);
                for (cluster, value) in &now {
                    let target: ClusterName = cluster.parse().unwrap();
                    prop_assert!(planned.contains(&target));
                    prop_assert!(before.contains(&(cluster.clone(), value.clone())) || !told.contains(&target));
                }
                let targets: BTreeSet<_> = now.iter().map(|(cluster, _)| cluster).collect();
                let values: BTreeSet<_> = now.iter().map(|(_, value)| value).collect();
                prop_assert_eq!((targets.len(), values.len()), (now.len(), now.len()));
                world.ready = if *returns { planned } else { BTreeSet::new() };
                before = now;
            }
        }
    }
}
