use serde_json::Value;

use super::{
    InMemoryFleet, InMemoryMember, MemoryError, Preconditions,
    fields::{Managers, holds_beside},
    member::{Stored, labels_of},
};
use crate::{
    apply::{
        ANNOTATION_OWNER_NAME, ApplyFailure, ApplyOptions, ApplyReport, ConflictResolution, Desired,
        FIELD_MANAGER, KindRef, LABEL_HUB, LABEL_OWNER, ObjectKey, ObjectOutcome, ObjectReport, ObjectSet,
        Owner, PruneScope, Pruning, Refusal, Removal, RemovalReport, differences, leave,
    },
    names::ClusterName,
};

impl InMemoryFleet {
    /// Puts a set of objects onto a member, by the rules of ownership, conflicts and pruning that hold on API
    /// servers.
    ///
    /// # Errors
    /// [`MemoryError::UnknownMember`], [`MemoryError::Unreachable`].
    pub fn place(
        &self,
        cluster: &ClusterName,
        desired: &ObjectSet,
        options: &ApplyOptions,
    ) -> Result<ApplyReport, MemoryError> {
        let member = self.member(cluster)?;
        drop(member.answer()?);
        if options.dry_run {
            let mut report = place_all(&member.detached(), cluster, desired, options);
            rehearsed(&member, &mut report);
            return Ok(report);
        }
        Ok(place_all(&member, cluster, desired, options))
    }
}

fn place_all(
    member: &InMemoryMember,
    cluster: &ClusterName,
    desired: &ObjectSet,
    options: &ApplyOptions,
) -> ApplyReport {
    let objects: Vec<ObjectReport> = desired
        .objects()
        .map(|object| member.place(desired.owner(), object, options))
        .collect();
    let in_place = objects.iter().all(|report| report.outcome.is_in_place());
    let pruning = match &options.prune {
        PruneScope::Nothing => Pruning::NotAsked,
        _ if !in_place && !options.dry_run => Pruning::SetIncomplete,
        scope => Pruning::Done {
            removals: member.prune(desired, scope),
        },
    };
    ApplyReport::new(cluster.clone(), objects, pruning)
}

/// Says of what was done on a copy of a member that it would be done.
fn rehearsed(member: &InMemoryMember, report: &mut ApplyReport) {
    let stored = member.stored();
    for entry in &mut report.objects {
        let before = stored.get(&entry.object).map(|stored| &stored.object);
        match (&entry.outcome, before, &entry.live) {
            (ObjectOutcome::Created, _, _) => entry.outcome = ObjectOutcome::WouldCreate,
            (ObjectOutcome::Updated, Some(before), Some(after)) => {
                let after = serde_json::to_value(after).unwrap_or_default();
                let (fields, more) = differences(before, &after, "");
                entry.outcome = ObjectOutcome::WouldUpdate { fields, more };
            }
            _ => {}
        }
        let live = before.and_then(|before| serde_json::from_value(before.clone()).ok());
        entry.live = live.map(Box::new);
    }
    if let Pruning::Done { removals } = &mut report.pruning {
        for entry in removals.iter_mut().filter(|it| it.removal == Removal::Removed) {
            entry.removal = Removal::WouldRemove;
        }
    }
}

impl InMemoryMember {
    fn place(&self, owner: &Owner, desired: &Desired, options: &ApplyOptions) -> ObjectReport {
        let (outcome, live) = match self.try_place(owner, desired, options) {
            Ok(placed) => placed,
            Err(error) => (
                ObjectOutcome::Failed {
                    failure: failure(&error),
                },
                None,
            ),
        };
        let live = live.and_then(|live| serde_json::from_value(live).ok());
        ObjectReport::new(desired.key().clone(), outcome, live)
    }

    fn try_place(
        &self,
        owner: &Owner,
        desired: &Desired,
        options: &ApplyOptions,
    ) -> Result<(ObjectOutcome, Option<Value>), MemoryError> {
        let overwrite = options.conflict_resolution == ConflictResolution::Overwrite;
        let Some(Stored {
            object: live,
            managers,
        }) = self.stored().remove(desired.key())
        else {
            let applied = self.apply(desired.body(), FIELD_MANAGER, overwrite)?;
            return Ok((ObjectOutcome::Created, Some(applied.object)));
        };
        let mut body = desired.body().clone();
        if let Some(pointers) = options.member_owned.get(desired.key()) {
            leave(&mut body, &live, pointers, |pointer| {
                holds_beside(&managers, FIELD_MANAGER, pointer)
            });
        }
        if !is_of(owner, &live) {
            if let Some(refusal) = refusal(owner, &live, &managers, overwrite) {
                return Ok((ObjectOutcome::Refused { refusal }, Some(live)));
            }
            let applied = self.apply(&body, FIELD_MANAGER, true)?;
            return Ok((ObjectOutcome::Updated, Some(applied.object)));
        }
        let applied = match self.apply(&body, FIELD_MANAGER, overwrite) {
            Err(MemoryError::FieldConflict { mut conflicts, .. }) => {
                // What was merely edited is drift and is set back.
                conflicts.retain(|it| managers.get(&it.manager).is_some_and(|holding| holding.applied));
                if !conflicts.is_empty() {
                    return Ok((ObjectOutcome::Conflict { conflicts }, Some(live)));
                }
                self.apply(&body, FIELD_MANAGER, true)?
            }
            other => other?,
        };
        let outcome = if applied.changed {
            ObjectOutcome::Updated
        } else {
            ObjectOutcome::Unchanged
        };
        Ok((outcome, Some(applied.object)))
    }

    fn prune(&self, desired: &ObjectSet, scope: &PruneScope) -> Vec<RemovalReport> {
        let mut kinds: Vec<(String, String)> = desired
            .objects()
            .map(|it| (it.key().group.clone(), it.key().kind.clone()))
            .collect();
        if let PruneScope::Kinds(more) = scope {
            kinds.extend(more.iter().map(group_kind));
        }
        let every = *scope == PruneScope::EveryKind || kinds.is_empty();
        let in_scope = |key: &ObjectKey| every || kinds.contains(&(key.group.clone(), key.kind.clone()));
        let leftovers = self.stored().into_iter().filter(|(key, stored)| {
            let placed = stored
                .managers
                .get(FIELD_MANAGER)
                .is_some_and(|holding| holding.applied);
            in_scope(key) && !desired.contains(key) && placed && is_of(desired.owner(), &stored.object)
        });
        leftovers
            .map(|(key, stored)| {
                let removal = match self.delete(&key, &Preconditions::of(&stored.object)) {
                    Ok(()) | Err(MemoryError::NotFound { .. }) => Removal::Removed,
                    Err(error) => Removal::Failed {
                        failure: failure(&error),
                    },
                };
                RemovalReport::new(key, removal)
            })
            .collect()
    }
}

fn group_kind(kind: &KindRef) -> (String, String) {
    let group = kind.api_version.rsplit_once('/').map_or("", |(group, _)| group);
    (group.to_owned(), kind.kind.clone())
}

fn is_of(owner: &Owner, object: &Value) -> bool {
    let labels = labels_of(object);
    owner
        .labels()
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

fn refusal(owner: &Owner, live: &Value, managers: &Managers, overwrite: bool) -> Option<Refusal> {
    let labels = labels_of(live);
    if let (Some(hub), Some(_)) = (labels.get(LABEL_HUB), labels.get(LABEL_OWNER)) {
        let annotations = live.pointer("/metadata/annotations");
        let name = annotations
            .and_then(|it| it.get(ANNOTATION_OWNER_NAME))
            .and_then(Value::as_str);
        let made_anew = name.is_some_and(|name| !name.is_empty() && name == owner.name());
        let claimed = || Refusal::ClaimedByOther {
            owner: name.unwrap_or_default().to_owned(),
            hub: hub.clone(),
        };
        return (!made_anew || !overwrite).then(claimed);
    }
    let manager = managers
        .keys()
        .next()
        .cloned()
        .unwrap_or_else(|| "unknown".to_owned());
    (!overwrite).then_some(Refusal::OwnedByOther { manager })
}

fn failure(error: &MemoryError) -> ApplyFailure {
    match error {
        MemoryError::Conflict { .. } | MemoryError::FieldConflict { .. } => ApplyFailure::Changed,
        MemoryError::Unreachable { .. } => ApplyFailure::Unreachable {
            message: error.to_string(),
        },
        other => ApplyFailure::Invalid {
            message: other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::names::NamespacedName;

    fn fleet() -> (InMemoryFleet, InMemoryMember) {
        let fleet = InMemoryFleet::new(["a".parse().unwrap()]);
        let member = fleet.member(&"a".parse().unwrap()).unwrap();
        (fleet, member)
    }

    fn owner(uid: &str) -> Owner {
        Owner::new("hub", uid, format!("Policy {uid}")).unwrap()
    }

    fn config_map(name: &str, value: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "default"}, "data": {"key": value},
        })
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("", "ConfigMap", NamespacedName::new("default", name))
    }

    fn place(fleet: &InMemoryFleet, uid: &str, objects: &[Value], options: &ApplyOptions) -> ApplyReport {
        let objects = objects
            .iter()
            .map(|object| serde_json::from_value(object.clone()).unwrap());
        let set = ObjectSet::new(owner(uid), objects).unwrap();
        fleet.place(&"a".parse().unwrap(), &set, options).unwrap()
    }

    fn reasons(report: &ApplyReport) -> Vec<&str> {
        report.objects.iter().map(|it| it.outcome.reason()).collect()
    }

    #[test]
    fn drift_is_set_back_and_a_second_pass_changes_nothing() {
        let (fleet, member) = fleet();
        let (wanted, options) = ([config_map("a", "1")], ApplyOptions::default());
        assert_eq!(reasons(&place(&fleet, "p", &wanted, &options)), ["Created"]);
        assert!(place(&fleet, "p", &wanted, &options).is_unchanged());
        member
            .merge(&key("a"), &json!({"data": {"key": "2"}}), "kubectl")
            .unwrap();
        assert_eq!(reasons(&place(&fleet, "p", &wanted, &options)), ["Updated"]);
        assert_eq!(member.get(&key("a")).unwrap()["data"]["key"], "1");
    }

    #[test]
    fn what_others_hold_is_refused_or_in_conflict_until_overwritten() {
        let (fleet, member) = fleet();
        let overwrite = ApplyOptions::default().with_conflict_resolution(ConflictResolution::Overwrite);
        let wanted = [config_map("a", "1")];
        member.create(&config_map("a", "theirs"), "helm").unwrap();
        let report = place(&fleet, "p", &wanted, &ApplyOptions::default());
        assert_eq!(reasons(&report), ["OwnedByOther"]);
        assert_eq!(member.get(&key("a")).unwrap()["data"]["key"], "theirs");
        assert_eq!(reasons(&place(&fleet, "p", &wanted, &overwrite)), ["Updated"]);
        assert_eq!(
            reasons(&place(&fleet, "q", &wanted, &overwrite)),
            ["ClaimedByOther"]
        );

        member.apply(&config_map("a", "theirs"), "argo", true).unwrap();
        let report = place(&fleet, "p", &wanted, &ApplyOptions::default());
        assert_eq!(reasons(&report), ["FieldConflict"]);
        assert_eq!(report.pruning, Pruning::SetIncomplete);
    }

    #[test]
    fn only_what_was_placed_is_pruned() {
        let (fleet, member) = fleet();
        let options = ApplyOptions::default();
        let _ = place(
            &fleet,
            "p",
            &[config_map("a", "1"), config_map("b", "1")],
            &options,
        );
        let mut copy = config_map("copy", "1");
        copy["metadata"]["labels"] = serde_json::to_value(owner("p").labels()).unwrap();
        member.create(&copy, "controller").unwrap();
        let report = place(&fleet, "p", &[config_map("a", "1")], &options);
        let Pruning::Done { removals } = &report.pruning else {
            panic!("{report}")
        };
        assert_eq!(removals, &[RemovalReport::new(key("b"), Removal::Removed)]);
        let report = place(&fleet, "p", &[], &options);
        assert!(report.is_complete());
        assert_eq!(member.stored().into_keys().collect::<Vec<_>>(), [key("copy")]);
    }

    #[test]
    fn an_unreachable_member_is_told_from_an_unknown_one() {
        let (fleet, member) = fleet();
        member.set_reachable(false);
        let set = ObjectSet::empty(owner("p"));
        let at = |name: &str| {
            fleet
                .place(&name.parse().unwrap(), &set, &ApplyOptions::default())
                .unwrap_err()
        };
        assert!(matches!(at("a"), MemoryError::Unreachable { .. }));
        assert!(matches!(at("b"), MemoryError::UnknownMember { .. }));
    }
}
