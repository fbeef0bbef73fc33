//! What every member is to hold: templates, placed, divided and overridden.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use jiff::Timestamp;
use kurator_core::{names::ClusterName, observe::Snapshot, reason::Reason as _};
use serde_json::Value;

use super::{
    Known, MemberReason, Note, ObjectKey, Otherwise, PolicyKey, ResourceInterpreter, Standing, Template,
    activation::holds_for,
    place::{Placer, today, unknown_clusters},
    render::Renderer,
    workload,
};
use crate::{
    api::{OverridePolicy, Placement, ReplicaSchedulingType, Suspension},
    gangs,
    overrides::{BrokenTotals, OverrideSet, REPLICAS},
    placement::{Placed, Running},
    replicas::{Divider, TieOrder},
};

/// Everything one policy's plan depends on.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "the input of one pure function; a new fact is a new decision"
)]
pub struct Request<'a> {
    /// Which policy.
    pub policy: &'a PolicyKey,
    /// Where it places and how it divides.
    pub placement: &'a Placement,
    /// The objects for which another placement holds.
    pub otherwise: &'a Otherwise,
    /// The objects that belong to it: see [`claims`](super::claims).
    pub templates: &'a [Template],
    /// What it does not do for now.
    pub suspension: Option<&'a Suspension>,
    /// The override policies of its namespace.
    pub overrides: &'a [OverridePolicy],
    /// The members.
    pub fleet: &'a Snapshot,
    /// Where the objects run today, for divisions that keep what runs where it is.
    pub running: &'a BTreeMap<ObjectKey, Running>,
    /// What the members were told of the objects and what of that is ready, for moves that make before they break.
    /// Of an object that is missing, everything is told at once.
    pub standing: &'a BTreeMap<ObjectKey, Standing>,
    /// The time of the plan.
    pub now: Timestamp,
    /// What kinds mean.
    pub interpreter: &'a dyn ResourceInterpreter,
}

impl<'a> Request<'a> {
    /// The placement that holds for an object; `None` if nobody knows, and it stays where it is.
    #[must_use]
    pub fn placement_of(&self, object: &ObjectKey) -> Option<&'a Placement> {
        holds_for(self.placement, self.otherwise, object)
    }

    /// Every placement that holds for something, and that of the policy.
    pub(super) fn placements(&self) -> impl Iterator<Item = &'a Placement> {
        let mut seen = BTreeSet::new();
        let others = self.otherwise.values().flatten();
        let others = others.filter(move |other| seen.insert(Arc::as_ptr(other)));
        std::iter::once(self.placement).chain(others.map(|other| &**other))
    }
}

/// What every member is to hold, and what there is to say about it.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
#[must_use]
pub struct Planned {
    /// The clusters that get something.
    pub members: BTreeMap<ClusterName, MemberPlan>,
    /// The objects, with their sums over all clusters.
    pub objects: BTreeMap<ObjectKey, ObjectTotals>,
    /// Where each object was placed: the affinity group in use, and what is still to move.
    pub placements: BTreeMap<ObjectKey, Placed>,
    /// What is not done for now.
    pub suspension: Suspension,
    /// Whether nothing is to be written to members, but reported what would be.
    pub report_only: bool,
    /// What the policy's owner should know, sorted.
    pub notes: Vec<Note>,
}

/// What one member is to hold of one policy.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct MemberPlan {
    /// The objects.
    pub objects: BTreeMap<ObjectKey, PlannedObject>,
    /// What goes along because they refer to it: see [`attach`](super::attach).
    pub dependencies: BTreeMap<ObjectKey, Rendered>,
}

/// One object for one member.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PlannedObject {
    /// Replicas the division gave the cluster; `None` if the kind has none.
    pub planned: Option<u32>,
    /// Replicas the cluster is told to run now, before overrides: more than were given while what moves away from there
    /// is not ready elsewhere.
    pub told: Option<u32>,
    /// Whether it belongs elsewhere, and is kept here for now.
    pub leaving: bool,
    /// What is to be sent.
    pub rendered: Rendered,
}

/// What is to be sent to a member.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Rendered {
    /// This manifest.
    Manifest {
        /// The object as the member is to have it; one for all members that are to have the same.
        manifest: Arc<Value>,
        /// Replicas it asks for, after overrides.
        applied: Option<u32>,
        /// Fingerprint of the manifest.
        revision: String,
    },
    /// Nothing new: what is there stays as it is.
    Held {
        /// Why.
        reason: MemberReason,
        /// The same for people.
        message: String,
    },
}

impl Rendered {
    /// Fingerprint of the manifest, if there is one.
    #[must_use]
    pub fn revision(&self) -> Option<&str> {
        match self {
            Self::Manifest { revision, .. } => Some(revision),
            Self::Held { .. } => None,
        }
    }
}

/// An object's sums over all clusters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectTotals {
    /// Replicas the template asks for.
    pub desired: u64,
    /// Replicas given to clusters.
    pub planned: u64,
    /// Replicas after overrides, where these could be applied.
    pub applied: u64,
    /// Clusters that get it.
    pub clusters: usize,
    /// Replicas that found no room, where the policy allows to place a part.
    pub missing: u64,
    /// Whether it stays wherever it is because it could not be placed.
    pub held: bool,
}

impl Planned {
    /// What `cluster` is to hold; `None` for a cluster that gets nothing.
    #[must_use]
    pub fn member(&self, cluster: &ClusterName) -> Option<&MemberPlan> {
        self.members.get(cluster)
    }

    /// The objects that must not be taken out of any cluster: it is not known where they belong.
    pub fn held(&self) -> impl Iterator<Item = &ObjectKey> {
        self.objects
            .iter()
            .filter(|(_, totals)| totals.held)
            .map(|(key, _)| key)
    }

    /// Whether more room in the fleet would change something: an object is not placed, or only a part of it.
    #[must_use]
    pub fn waits_for_room(&self) -> bool {
        self.objects
            .values()
            .any(|totals| totals.held || totals.missing > 0)
    }

    /// A plan without objects: everything the policy placed is to go.
    pub fn empty() -> Self {
        Self::default()
    }
}

/// Plans what every member is to hold.
///
/// # Guarantees
/// - Pure and deterministic: the order of templates, overrides and members does not reach the result.
/// - What one object is given is gone for the next, so that together they never take more room than there is.
/// - An object that cannot be placed stays where it is, with the replicas it has, and its other changes go there; an
///   override that does not fit concerns that object in that cluster only, which is [held](Rendered::Held).
/// - A rendered manifest is the object of its template: overrides that change its kind, name or namespace are refused.
pub fn plan(request: &Request<'_>) -> Planned {
    let mut planned = Planned {
        suspension: request.suspension.cloned().unwrap_or_default(),
        ..Planned::default()
    };
    let frozen = planned.suspension.scheduling;
    let overrides = OverrideSet::compile(request.overrides);
    let mut placer = Placer::new(request);
    let nowhere = Running::default();
    let known = Known::of(request.templates);
    // What one object is given is gone for the next, so they take their turn by name.
    let mut templates: Vec<&Template> = request.templates.iter().collect();
    templates.sort_by(|a, b| a.key.cmp(&b.key));
    for template in templates {
        let key = &template.key;
        let desired = u64::from(template.replicas.unwrap_or(0));
        let mut totals = ObjectTotals {
            desired,
            ..ObjectTotals::default()
        };
        let running = request.running.get(key).unwrap_or(&nowhere);
        let standing = request.standing.get(key);
        let placement = request.placement_of(key);
        let frozen = frozen || placement.is_none();
        let divided = placement.is_none_or(|it| it.scheduling_type() == ReplicaSchedulingType::Divided);
        let workload = workload(template, request.interpreter, &known, divided);
        let placed = workload
            .map_err(|error| format!("{}: {error}", error.token()))
            .and_then(|workload| {
                let placed = if frozen {
                    stay(running)
                } else {
                    // One step after the other: nothing moves before what moves already has arrived.
                    let under_way = standing.is_some_and(|standing| standing.is_under_way(&numbers(running)));
                    placer.place(key, &workload, running, !under_way, request.now)
                };
                Ok((placed?, workload.gang))
            });
        let (placed, gang) = placed.unwrap_or_else(|problem| {
            planned.notes.push(Note::NotPlaced {
                object: key.clone(),
                problem,
            });
            totals.held = true;
            (today(running), None)
        });
        if placed.missing > 0 {
            totals.missing = u64::from(placed.missing);
            planned.notes.push(Note::PlacedInPart {
                object: key.clone(),
                missing: totals.missing,
            });
        }
        let parts = parts(template, &placed, request.interpreter, divided);
        let has_parts = !parts.is_empty();
        let mut reports = Vec::new();
        let decided: BTreeMap<ClusterName, u32> = placed.clusters.iter().cloned().collect();
        let told = match (standing, template.replicas) {
            (None, _) => decided.clone(),
            (Some(standing), Some(wanted)) if divided => standing.told(&decided, wanted),
            (Some(standing), _) => standing.copied(&decided),
        };
        let mut renderer = Renderer::new(template, &overrides, request.interpreter);
        for (cluster, now) in told {
            let Some(view) = request.fleet.get(&cluster) else {
                continue;
            };
            let given = decided.get(&cluster).copied();
            let leaving = given.is_none();
            let (planned_here, now) = (
                template.replicas.map(|_| given.unwrap_or(0)),
                template.replicas.map(|_| now),
            );
            let part = parts.get(&cluster).map_or(&[][..], Vec::as_slice);
            let (mut rendered, report) = renderer.render(now, part, view);
            if leaving && has_parts {
                // What it was given of a total is not to be seen any more, and must not change.
                rendered = Rendered::Held {
                    reason: MemberReason::Removing,
                    message: "kept until what replaces it is ready".to_owned(),
                };
            }
            if let (
                Some(gang),
                Rendered::Manifest {
                    manifest, applied, ..
                },
            ) = (&gang, &rendered)
                && let Err(error) = gangs::keeps_minimum(gang, manifest, *applied)
            {
                rendered = Rendered::Held {
                    reason: MemberReason::Object("BelowGangMinimum"),
                    message: format!("an override leaves too little of the gang: {error}"),
                };
            }
            totals.clusters += usize::from(!leaving);
            totals.planned += u64::from(planned_here.unwrap_or(0));
            if let Rendered::Manifest { applied, .. } = rendered {
                totals.applied += u64::from(applied.unwrap_or(0));
            }
            if let Some(now) = now {
                reports.push((cluster.clone(), u64::from(now), report));
            }
            let member = planned.members.entry(cluster).or_default();
            member.objects.insert(
                key.clone(),
                PlannedObject {
                    planned: planned_here,
                    told: now,
                    leaving,
                    rendered,
                },
            );
        }
        let compared = reports
            .iter()
            .map(|(cluster, replicas, report)| (cluster, *replicas, report));
        if let Some(totals) = BrokenTotals::find(REPLICAS, compared) {
            planned.notes.push(Note::TotalChanged {
                object: key.clone(),
                totals,
            });
        }
        planned.objects.insert(key.clone(), totals);
        planned.placements.insert(key.clone(), placed);
    }
    for placement in request.placements() {
        planned.notes.extend(unknown_clusters(placement, request.fleet));
    }
    if request.templates.is_empty() {
        planned.notes.push(Note::NothingSelected);
    }
    planned.sort_notes();
    planned
}

/// The replicas of a placement by cluster.
fn numbers(running: &Running) -> BTreeMap<ClusterName, u32> {
    let clusters = running.clusters.iter();
    let known = clusters.filter_map(|(name, replicas)| Some((name.parse().ok()?, *replicas)));
    known.filter(|(_, replicas)| *replicas > 0).collect()
}

/// Where an object is already, if it is anywhere.
fn stay(running: &Running) -> Result<Placed, String> {
    if running.clusters.is_empty() {
        return Err("SchedulingSuspended: nothing is placed while scheduling is suspended".to_owned());
    }
    Ok(today(running))
}

/// Totals that are divided in the proportion of the replicas, by cluster: pointers with their values there.
fn parts(
    template: &Template,
    placed: &Placed,
    interpreter: &dyn ResourceInterpreter,
    divided: bool,
) -> BTreeMap<ClusterName, Vec<(String, u32)>> {
    let mut parts: BTreeMap<ClusterName, Vec<(String, u32)>> = BTreeMap::new();
    let weights: Vec<u64> = placed.clusters.iter().map(|(_, n)| u64::from(*n)).collect();
    if !divided || weights.iter().all(|&weight| weight == 0) {
        return parts;
    }
    for pointer in interpreter.divided_totals(&template.key.kind, &template.manifest) {
        let total = template.manifest.pointer(&pointer).and_then(Value::as_u64);
        let Some(total) = total.and_then(|total| u32::try_from(total).ok()) else {
            continue;
        };
        let mut divider = Divider::default();
        let Ok(shares) = divider.divide(&weights, total, TieOrder::of_uid(&template.uid)) else {
            continue;
        };
        for ((cluster, _), share) in placed.clusters.iter().zip(shares) {
            parts
                .entry(cluster.clone())
                .or_default()
                .push((pointer.clone(), *share));
        }
    }
    parts
}

impl Planned {
    /// The objects that go along to any cluster.
    #[must_use]
    pub fn dependencies(&self) -> BTreeSet<&ObjectKey> {
        let members = self.members.values();
        members.flat_map(|member| member.dependencies.keys()).collect()
    }

    /// Adds what was found out beside the plan.
    pub fn note(&mut self, notes: impl IntoIterator<Item = Note>) {
        self.notes.extend(notes);
        self.sort_notes();
    }

    /// The weightiest first, and among equals in an order that does not depend on who spoke first.
    fn sort_notes(&mut self) {
        self.notes
            .sort_by_cached_key(|note| (Reverse(note.severity()), note.token(), note.to_string()));
        self.notes.dedup();
    }
}

/// One line an object, one for each cluster, and the notes.
impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, totals) in &self.objects {
            write!(f, "{key}")?;
            if totals.held {
                write!(f, ": stays where it is")?;
            }
            writeln!(f, ": {} clusters", totals.clusters)?;
            for (cluster, member) in &self.members {
                let Some(object) = member.objects.get(key) else {
                    continue;
                };
                match (&object.rendered, object.planned) {
                    (Rendered::Held { reason, message }, _) => {
                        writeln!(f, "  {cluster}: {reason}: {message}")?
                    }
                    (
                        Rendered::Manifest {
                            applied: Some(applied),
                            ..
                        },
                        Some(planned),
                    ) if *applied != planned => {
                        writeln!(f, "  {cluster}: {applied} replicas ({planned} planned)")?;
                    }
                    (Rendered::Manifest { .. }, Some(planned)) => {
                        writeln!(f, "  {cluster}: {planned} replicas")?
                    }
                    (Rendered::Manifest { .. }, None) => writeln!(f, "  {cluster}: copied")?,
                }
            }
        }
        for note in &self.notes {
            writeln!(f, "{}: {note}", note.token())?;
        }
        Ok(())
    }
}
