//! What goes along because something refers to it: in a member once for all policies that need it there, and gone with
//! the last.
//!
//! Each such object has an owner of its own, so that one which somebody else has, or which is slow to go, holds up no
//! other. It is removed only when every policy that may need it has been planned by this process.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kube::api::DynamicObject;
use kurator_core::{
    apply::{ConflictResolution, ObjectSet, Owner},
    names::{ClusterName, bounded_name},
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    ControllerError,
    member::{Assignment, Desks, Wanted},
    trigger::Triggers,
};
use crate::propagate::{MemberObserved, MemberPlan, ObjectKey, PolicyKey, Rendered};

/// Stands where a policy's group does.
const GROUP: &str = "shared";

/// One policy's wish to have one object in one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    /// Write nothing for now.
    pub(super) suspended: bool,
    /// Take it over from somebody else.
    pub(super) overwrite: bool,
    /// Write nothing, and report what would be written.
    pub(super) report_only: bool,
}

/// Everything one policy says: what it needs where, and what it may have brought there before.
#[derive(Debug, Default)]
pub(super) struct Word {
    pub(super) wishes: BTreeMap<ObjectKey, BTreeMap<ClusterName, Wish>>,
    pub(super) manifests: BTreeMap<(ObjectKey, ClusterName), (Arc<Value>, String)>,
    /// What may be in some cluster because of it.
    pub(super) tracked: BTreeSet<ObjectKey>,
    /// The clusters concerned.
    pub(super) clusters: BTreeSet<ClusterName>,
}

/// All objects that went along.
#[derive(Debug)]
pub(super) struct SharedObjects {
    hub: String,
    triggers: Triggers,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    spoken: BTreeSet<PolicyKey>,
    objects: BTreeMap<ObjectKey, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    /// Who needs it where.
    users: BTreeMap<PolicyKey, BTreeMap<ClusterName, Wish>>,
    /// Who waits for its end, or needs it.
    trackers: BTreeSet<PolicyKey>,
    /// Where it may be, and what it is to be there as far as that is known.
    clusters: BTreeMap<ClusterName, Option<(Arc<Value>, String)>>,
}

impl Entry {
    fn wishes<'a>(&'a self, cluster: &'a ClusterName) -> impl Iterator<Item = &'a Wish> {
        self.users.values().filter_map(move |wishes| wishes.get(cluster))
    }
}

impl SharedObjects {
    pub(super) fn new(hub: String, triggers: Triggers) -> Self {
        Self {
            hub,
            triggers,
            state: Mutex::default(),
        }
    }

    /// Adds to what a member said of a policy what it said of the objects that went along with it. Gives those that
    /// are not needed by the policy there any more and may still be there because of it.
    pub(super) fn fold(
        &self,
        desks: &Desks,
        policy: &PolicyKey,
        cluster: &ClusterName,
        plan: Option<&MemberPlan>,
        tracked: &BTreeSet<ObjectKey>,
        seen: &mut MemberObserved,
    ) -> BTreeSet<ObjectKey> {
        let needed = plan.map(|plan| &plan.dependencies);
        let mut unfinished = BTreeSet::new();
        for key in needed.into_iter().flat_map(BTreeMap::keys) {
            let found = desks.open(cluster).observed(&stand_in(key));
            if let Some(object) = found.objects.get(key) {
                seen.objects.insert(key.clone(), object.clone());
            }
            seen.blocked = seen.blocked.take().or_else(|| found.blocked.clone());
        }
        let state = self.lock();
        let spoken = state.spoken.contains(policy);
        for key in tracked
            .iter()
            .filter(|key| needed.is_none_or(|needed| !needed.contains_key(*key)))
        {
            let entry = state.objects.get(key);
            let never_there = spoken && entry.is_none_or(|entry| !entry.clusters.contains_key(cluster));
            let others = entry.is_some_and(|entry| {
                let mut others = entry.users.iter().filter(|(user, _)| *user != policy);
                others.any(|(_, wishes)| wishes.contains_key(cluster))
            });
            if never_there || others {
                continue;
            }
            let found = desks.open(cluster).observed(&stand_in(key));
            if !found.is_clean() {
                unfinished.insert(key.clone());
                seen.complete = false;
                seen.blocked = seen.blocked.take().or_else(|| found.blocked.clone());
                seen.leaving.extend(found.leaving.clone());
            }
        }
        unfinished
    }

    /// Takes the word of a policy, and leaves the members their work. `everyone` are the policies that must have
    /// spoken before an object that nobody needs is removed, in its namespace or, for what has none, anywhere; `None`
    /// while they are not known.
    ///
    /// To be called when the status of the policy says what is tracked: whoever comes after us must know where to look.
    pub(super) fn speak(
        &self,
        desks: &Desks,
        policy: &PolicyKey,
        word: Word,
        everyone: impl Fn(&ObjectKey) -> Option<BTreeSet<PolicyKey>>,
    ) -> Result<(), ControllerError> {
        let mut state = self.lock();
        let first = state.spoken.insert(policy.clone());
        if word.tracked.is_empty() && state.objects.is_empty() {
            return Ok(());
        }
        let mut touched = self.retract(&mut state, policy);
        touched.extend(word.tracked.iter().cloned());
        if first {
            // What waited for its word.
            touched.extend(state.objects.keys().cloned());
        }
        for key in &word.tracked {
            let entry = state.objects.entry(key.clone()).or_default();
            entry.trackers.insert(policy.clone());
            if first {
                for cluster in &word.clusters {
                    entry.clusters.entry(cluster.clone()).or_default();
                }
            }
        }
        for (key, wishes) in word.wishes {
            let entry = state.objects.entry(key).or_default();
            for cluster in wishes.keys() {
                entry.clusters.entry(cluster.clone()).or_default();
            }
            entry.users.insert(policy.clone(), wishes);
        }
        for ((key, cluster), manifest) in word.manifests {
            if let Some(entry) = state.objects.get_mut(&key) {
                entry.clusters.insert(cluster, Some(manifest));
            }
        }
        self.settle(&mut state, desks, policy, &touched, everyone)
    }

    /// A policy that is gone needs nothing.
    pub(super) fn forget(
        &self,
        desks: &Desks,
        policy: &PolicyKey,
        everyone: impl Fn(&ObjectKey) -> Option<BTreeSet<PolicyKey>>,
    ) {
        let mut state = self.lock();
        state.spoken.remove(policy);
        let mut touched = self.retract(&mut state, policy);
        touched.extend(state.objects.keys().cloned());
        if let Err(error) = self.settle(&mut state, desks, policy, &touched, everyone) {
            tracing::warn!(%policy, reason = error.reason(), "what went along cannot be assigned anew");
        }
    }

    /// Takes back whatever a policy has said.
    fn retract(&self, state: &mut State, policy: &PolicyKey) -> BTreeSet<ObjectKey> {
        let mut touched = BTreeSet::new();
        for (key, entry) in &mut state.objects {
            let (used, tracked) = (entry.users.remove(policy), entry.trackers.remove(policy));
            if used.is_some() || tracked {
                touched.insert(key.clone());
            }
        }
        touched
    }

    fn settle(
        &self,
        state: &mut State,
        desks: &Desks,
        policy: &PolicyKey,
        touched: &BTreeSet<ObjectKey>,
        everyone: impl Fn(&ObjectKey) -> Option<BTreeSet<PolicyKey>>,
    ) -> Result<(), ControllerError> {
        let State { spoken, objects } = state;
        for key in touched {
            let name = stand_in(key);
            let Some(entry) = objects.get(key) else { continue };
            if entry.trackers.is_empty() {
                for cluster in entry.clusters.keys() {
                    desks.open(cluster).dismiss(&name);
                }
                self.triggers.follow(&name, BTreeSet::new());
                objects.remove(key);
                continue;
            }
            self.triggers.follow(&name, entry.trackers.clone());
            let all_spoken = || everyone(key).is_some_and(|everyone| everyone.is_subset(spoken));
            for (cluster, manifest) in &entry.clusters {
                let wanted = entry.wishes(cluster).next().is_some();
                let assignment = match manifest {
                    Some((manifest, revision)) if wanted => {
                        let suspended = entry.wishes(cluster).all(|wish| wish.suspended);
                        let terms = Wish {
                            suspended,
                            overwrite: entry.wishes(cluster).any(|wish| wish.overwrite),
                            report_only: entry.wishes(cluster).all(|wish| wish.report_only),
                        };
                        self.assignment(policy, key, Some((manifest, revision)), &terms)?
                    }
                    // It stays as it is until it is known what it is to be.
                    None if wanted => continue,
                    _ if all_spoken() => self.assignment(policy, key, None, &Wish::default())?,
                    _ => continue,
                };
                desks.open(cluster).assign(&name, assignment);
            }
        }
        Ok(())
    }

    fn assignment(
        &self,
        policy: &PolicyKey,
        key: &ObjectKey,
        wanted: Option<(&Arc<Value>, &String)>,
        terms: &Wish,
    ) -> Result<Assignment, ControllerError> {
        let name = &key.name;
        let (version, kind) = (&key.kind.api_version, &key.kind.kind);
        let uid = bounded_name([version, kind, &name.namespace, &name.name]);
        let owner = Owner::new(&self.hub, uid, format!("what refers to {key}"));
        let owner = owner.map_err(|source| ControllerError::Identity {
            policy: policy.clone(),
            source: Box::new(source),
        })?;
        let object = wanted.map(|(manifest, _)| DynamicObject::deserialize(&**manifest));
        let object = object.transpose().map_err(|source| ControllerError::Object {
            policy: policy.clone(),
            source,
        })?;
        let set = ObjectSet::new(owner, object).map_err(|source| ControllerError::ObjectSet {
            policy: policy.clone(),
            source: Box::new(source),
        })?;
        let revisions = wanted.map(|(_, revision)| {
            let wanted = Wanted {
                revision: revision.clone(),
                replicas: None,
            };
            (key.clone(), wanted)
        });
        Ok(Assignment {
            prune: set.is_empty(),
            set: Arc::new(set),
            revisions: revisions.into_iter().collect(),
            kinds: BTreeSet::from([key.kind.clone()]),
            conflicts: if terms.overwrite {
                ConflictResolution::Overwrite
            } else {
                ConflictResolution::Abort
            },
            suspended: terms.suspended,
            report_only: terms.report_only,
            shared: true,
            preserve: None,
            refused: false,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Word {
    /// Adds what a plan has for a member, and what stays there although it is not known what it is to be.
    pub(super) fn add(
        &mut self,
        cluster: &ClusterName,
        plan: Option<&MemberPlan>,
        wish: &Wish,
        keep: &BTreeSet<ObjectKey>,
    ) {
        for (key, rendered) in plan.into_iter().flat_map(|plan| &plan.dependencies) {
            let wishes = self.wishes.entry(key.clone()).or_default();
            wishes.insert(cluster.clone(), wish.clone());
            if let (
                Rendered::Manifest {
                    manifest, revision, ..
                },
                false,
            ) = (rendered, wish.suspended)
            {
                let manifest = (Arc::clone(manifest), revision.clone());
                self.manifests.insert((key.clone(), cluster.clone()), manifest);
            }
        }
        for key in keep {
            let wishes = self.wishes.entry(key.clone()).or_default();
            wishes.entry(cluster.clone()).or_insert_with(|| wish.clone());
        }
        self.clusters.insert(cluster.clone());
    }
}

/// The name under which an object's work is left at the desks of members.
fn stand_in(key: &ObjectKey) -> PolicyKey {
    let name = format!("{}/{}/{}", key.kind.api_version, key.kind.kind, key.name.name);
    PolicyKey::new(GROUP, &key.name.namespace, name)
}
