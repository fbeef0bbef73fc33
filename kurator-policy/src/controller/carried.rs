//! The state of copies: taken down on the hub while they can be seen, and given to what replaces them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use kurator_core::names::ClusterName;
use serde_json::{Value, json};

use super::{decide::Wish, distribution::Context, member::Desks, running::written};
use crate::{
    api::{CarryPhase, DistributionPolicyStatus, FailedOver},
    failover::{CarryRequest, LeftCluster, PickedState, StateRules, carry},
    propagate::{
        Note, ObjectKey, Planned, PolicyKey, Rendered, ResourceInterpreter, Standing, Template, revision,
    },
};

/// The most bytes of labels that the status of a policy holds for the state of its copies: an object in an API server is
/// small.
const MAX_STATE_BYTES: usize = 256 * 1024;

/// What to look for in the status of objects, by their owner's UID, for those who see them.
#[derive(Debug, Default)]
pub(super) struct StateBook(Mutex<BTreeMap<String, Arc<StateRules>>>);

impl StateBook {
    pub(super) fn set(&self, owner: &str, rules: Option<&Arc<StateRules>>) {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match rules {
            Some(rules) => drop(book.insert(owner.to_owned(), Arc::clone(rules))),
            None => drop(book.remove(owner)),
        }
    }

    /// What the rules of its owner find in an object; `None` if there are no rules.
    pub(super) fn pick(&self, owner: &str, object: &Value) -> Option<PickedState> {
        let rules = {
            let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(book.get(owner)?)
        };
        Some(rules.pick(object.get("status").unwrap_or(&Value::Null)))
    }
}

/// What the copies said last, by object and cluster.
type States = BTreeMap<ObjectKey, BTreeMap<String, BTreeMap<String, String>>>;

/// What each copy with replicas says of its state, or said when it was last seen by anybody, and what cannot be kept.
fn states(
    policy: &PolicyKey,
    previous: Option<&DistributionPolicyStatus>,
    standing: &BTreeMap<ObjectKey, Standing>,
    desks: &Desks,
) -> (States, Vec<Note>) {
    let (mut states, mut notes) = (States::new(), Vec::new());
    let clusters: BTreeSet<&ClusterName> = standing.values().flat_map(|it| it.clusters.keys()).collect();
    let seen: BTreeMap<_, _> = clusters
        .into_iter()
        .map(|cluster| (cluster, desks.open(cluster).observed(policy)))
        .collect();
    let written = written(previous);
    let mut room = MAX_STATE_BYTES;
    for (object, standing) in standing {
        let written = written.get(&object.named());
        let here = standing.clusters.iter().filter(|(_, stand)| stand.told > 0);
        for (cluster, _) in here {
            let picked = seen
                .get(cluster)
                .and_then(|seen| seen.objects.get(object)?.state.as_ref());
            let labels = match picked {
                Some(picked) => fit(object, cluster, picked, &mut notes),
                None => written
                    .and_then(|it| it.states.get(cluster.as_str()).cloned())
                    .unwrap_or_default(),
            };
            if labels.is_empty() {
                continue;
            }
            let bytes: usize = labels
                .iter()
                .map(|(label, value)| label.len() + value.len() + 8)
                .sum();
            let Some(left) = room.checked_sub(bytes + cluster.as_str().len()) else {
                notes.push(Note::TooMuchState {
                    object: object.clone(),
                    bytes: MAX_STATE_BYTES,
                });
                break;
            };
            room = left;
            let of = states.entry(object.clone()).or_default();
            of.insert(cluster.to_string(), labels);
        }
    }
    (states, notes)
}

fn fit(
    object: &ObjectKey,
    cluster: &ClusterName,
    picked: &PickedState,
    notes: &mut Vec<Note>,
) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (label, value) in picked {
        match value {
            Ok(value) => drop(labels.insert(label.clone(), value.clone())),
            Err(problem) => notes.push(Note::StateUnfit {
                object: object.clone(),
                cluster: cluster.clone(),
                label: label.clone(),
                problem: problem.clone(),
            }),
        }
    }
    labels
}

/// What a pass has to say of the state of copies.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// What to look for, if anything.
    pub(super) rules: Option<Arc<StateRules>>,
    states: States,
}

impl Context {
    /// Takes down the state of all copies, and gives that of those which were left to those which took over.
    pub(super) fn carry(
        &self,
        wish: &Wish<'_>,
        previous: Option<&DistributionPolicyStatus>,
        templates: &[Template],
        standing: &BTreeMap<ObjectKey, Standing>,
        planned: &mut Planned,
        failovers: &mut [FailedOver],
    ) -> Carried {
        let failover = wish.spec.failover.as_ref();
        let Some(preservation) = failover.and_then(|it| it.state_preservation.as_ref()) else {
            return Carried::default();
        };
        let rules = match StateRules::compile(preservation) {
            Ok(rules) => Some(Arc::new(rules)).filter(|rules| !rules.is_empty()),
            Err(error) => {
                planned.note([Note::InvalidSpec {
                    problem: error.to_string(),
                }]);
                None
            }
        };
        if rules.is_none() {
            return Carried::default();
        }
        let (states, notes) = states(&wish.policy.key, previous, standing, &self.desks);
        planned.note(notes);
        give(
            planned,
            failovers,
            &states,
            previous,
            templates,
            standing,
            &*self.interpreter,
        );
        Carried { rules, states }
    }
}

/// Writes into a status what the copies said last.
pub(super) fn write_down(status: &mut DistributionPolicyStatus, carried: &Carried) {
    for placement in &mut status.placements {
        let of = carried.states.iter().find(|(object, _)| placement.is_of(object));
        placement.states = of.map(|(_, states)| states.clone()).unwrap_or_default();
    }
}

/// Decides who gets the state of what was left, and gives it in the plan.
fn give(
    planned: &mut Planned,
    failovers: &mut [FailedOver],
    states: &States,
    previous: Option<&DistributionPolicyStatus>,
    templates: &[Template],
    standing: &BTreeMap<ObjectKey, Standing>,
    interpreter: &dyn ResourceInterpreter,
) {
    let mut notes = Vec::new();
    for template in templates {
        let object = &template.key;
        let is_of = |it: &FailedOver| {
            it.name == object.name.name
                && it.kind == object.kind.kind
                && it.api_version == object.kind.api_version
        };
        let mut of: Vec<&mut FailedOver> = failovers.iter_mut().filter(|it| is_of(it)).collect();
        if of.is_empty() {
            continue;
        }
        let said = states.get(object);
        let left = of.iter().filter_map(|it| {
            let before = previous.into_iter().flat_map(|status| &status.failovers);
            let before = before.into_iter().find(|before| before.is_of(it));
            let left = LeftCluster {
                since: it.since.0,
                // What was left before there were rules has no state.
                known: before.map(|before| before.state.clone().unwrap_or_default()),
                state: said
                    .and_then(|said| said.get(&it.cluster).cloned())
                    .unwrap_or_default(),
            };
            Some((it.cluster.parse().ok()?, left))
        });
        let left = left.collect();
        let (mut told, mut ready) = (BTreeSet::new(), BTreeSet::new());
        for (cluster, stand) in standing.get(object).into_iter().flat_map(|it| &it.clusters) {
            told.insert(cluster.clone());
            if stand.ready.is_some_and(|replicas| replicas > 0) {
                ready.insert(cluster.clone());
            }
        }
        let members = planned.members.iter().filter(|(_, member)| {
            let here = member.objects.get(object);
            here.is_some_and(|here| !here.leaving && here.told.is_none_or(|replicas| replicas > 0))
        });
        let totals = planned.objects.get(object).copied().unwrap_or_default();
        let carried = carry(&CarryRequest {
            left: &left,
            planned: &members.map(|(cluster, _)| cluster.clone()).collect(),
            told: &told,
            ready: &ready,
            searching: totals.held || totals.missing > 0,
            revision: &without_replicas(template, interpreter),
        });
        for it in &mut of {
            let name = it.cluster.parse::<ClusterName>();
            it.state = name.ok().and_then(|name| carried.get(&name).cloned());
            let Some(state) = &it.state else { continue };
            if state.phase == CarryPhase::NoSingleTarget {
                notes.push(Note::StateNotCarried {
                    object: object.clone(),
                    cluster: it.cluster.clone(),
                });
            }
            if let (CarryPhase::Carried, Some(Ok(target))) = (
                state.phase,
                state.cluster.as_ref().map(|it| it.parse::<ClusterName>()),
            ) {
                label(planned, &target, object, &state.labels);
            }
            it.state = it.state.take().filter(|state| !state.labels.is_empty());
        }
    }
    planned.note(notes);
}

/// A number of replicas is no other template.
fn without_replicas(template: &Template, interpreter: &dyn ResourceInterpreter) -> String {
    let mut manifest = Value::clone(&template.manifest);
    if template.replicas.is_some() {
        interpreter.set_replicas(&template.key.kind, &mut manifest, 1);
    }
    revision(&manifest)
}

fn label(
    planned: &mut Planned,
    cluster: &ClusterName,
    object: &ObjectKey,
    labels: &BTreeMap<String, String>,
) {
    let here = planned
        .members
        .get_mut(cluster)
        .and_then(|member| member.objects.get_mut(object));
    let Some(here) = here else { return };
    if let Rendered::Manifest {
        manifest,
        revision: fingerprint,
        ..
    } = &mut here.rendered
        && let Some(Value::Object(metadata)) = Arc::make_mut(manifest).get_mut("metadata")
        && let Value::Object(all) = metadata.entry("labels").or_insert_with(|| json!({}))
    {
        for (label, value) in labels {
            all.insert(label.clone(), json!(value));
        }
        *fingerprint = revision(manifest);
    }
}
