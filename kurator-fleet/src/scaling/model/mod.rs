//! One cluster as the planner sees it, kept up to date object by object.
//!
//! A [`Model`] is filled from typed objects ([`Model::upsert_pod`] and its siblings), from [`Object`]s, or from the
//! JSON of `kubectl get ... -o json` ([`Model::from_json`]). The order does not matter: a pod may come before its
//! node, a budget before the pods it selects. Each change costs time in proportion to the one object: sums (what a
//! node's pods request, how many pods of a group are healthy) are adjusted by what changed, and what depends on
//! several objects is put together from the sums when a plan is made.
//!
//! What pods of one template have in common (labels, requests, affinities, tolerations) is stored once, so 150,000
//! pods take tens of megabytes. Strings and templates stay until the model is dropped; a host that re-lists from time
//! to time and builds a new model sheds those of workloads that are gone.
//!
//! ```
//! use kurator_fleet::scaling::Model;
//!
//! let model = Model::from_json(br#"{"kind": "List", "apiVersion": "v1", "items": [
//!     {"kind": "Node", "apiVersion": "v1", "metadata": {"name": "a"},
//!      "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "110"}}},
//!     {"kind": "Whatever", "apiVersion": "example.com/v1", "metadata": {"name": "ignored"}}
//! ]}"#)?;
//! assert_eq!(model.node_count(), 1);
//!
//! let error = Model::from_json(b"{\"hello\": 1}").unwrap_err();
//! assert!(error.to_string().contains("not a Kubernetes object"));
//! # Ok::<(), kurator_fleet::scaling::ModelError>(())
//! ```

pub(crate) mod budget;
pub(crate) mod constraint;
mod error;
pub(crate) mod group;
pub(crate) mod labels;
pub(crate) mod node;
mod object;
pub(crate) mod outline;
pub(crate) mod owner;
pub(crate) mod peers;
pub(crate) mod place;
pub(crate) mod pod;
pub(crate) mod resources;
pub(crate) mod symbols;
pub(crate) mod volume;

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::ObjectMeta};

pub use error::ModelError;
pub use object::Object;

use self::{
    budget::BudgetRecord,
    constraint::Constraint,
    group::Group,
    labels::Labels,
    node::{AttachLimits, NodeRecord, Slots},
    outline::Outline,
    owner::Owners,
    peers::{Aversions, Peers, Term},
    place::Place,
    pod::{HostPort, PodRecord},
    resources::Resources,
    symbols::{Map, Pool, Sym, Symbols},
    volume::{Claims, Volumes},
};

/// One cluster's nodes, pods, owners, budgets and volumes.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub(crate) symbols: Symbols,
    pub(crate) nodes: Slots<NodeRecord>,
    /// Everything a node's name stands for.
    pub(crate) places: Vec<Place>,
    pub(crate) place_ids: Map<Sym, u32>,
    /// Places of the nodes, in the order of their names.
    pub(crate) places_by_name: BTreeMap<Arc<str>, u32>,
    pub(crate) pods: Slots<PodRecord>,
    pub(crate) pod_ids: Map<(Sym, Arc<str>), u32>,
    /// By pod row; free ones are nowhere.
    pub(crate) outlines: Vec<Outline>,
    pub(crate) budgets: Slots<BudgetRecord>,
    pub(crate) budget_ids: Map<(Sym, Arc<str>), u32>,
    /// Rows of the budgets, in the order of namespace and name.
    pub(crate) budgets_by_name: BTreeMap<(Arc<str>, Arc<str>), u32>,
    pub(crate) owners: Owners,
    pub(crate) claims: Claims,
    pub(crate) volumes: Volumes,
    pub(crate) attach_limits: AttachLimits,
    /// Labels of namespaces.
    pub(crate) namespaces: Map<Sym, Labels>,

    pub(crate) labels: Pool<Labels>,
    pub(crate) constraints: Pool<Constraint>,
    pub(crate) peers: Pool<Peers>,
    pub(crate) terms: Pool<Term>,
    pub(crate) aversions: Aversions,
    pub(crate) requests: Pool<Resources>,
    pub(crate) ports: Pool<Box<[HostPort]>>,

    pub(crate) groups: Vec<Group>,
    group_ids: Map<(Sym, u32), u32>,
    /// Groups by namespace and one label.
    pub(crate) groups_by_label: Map<(Sym, Sym, Sym), Vec<u32>>,
    pub(crate) groups_by_namespace: Map<Sym, Vec<u32>>,
    /// Budgets by namespace and the label they are indexed under.
    budgets_by_label: Map<(Sym, Sym, Sym), Vec<u32>>,
    /// Budgets that ask for no particular value.
    budgets_by_namespace: Map<Sym, Vec<u32>>,
}

impl Model {
    /// A cluster without objects.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many nodes it has.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// How many pods it has, finished ones included.
    pub fn pod_count(&self) -> usize {
        self.pods.len()
    }

    /// How many PodDisruptionBudgets it has.
    pub fn budget_count(&self) -> usize {
        self.budgets.len()
    }

    /// Takes in a Namespace, for `namespaceSelector`.
    ///
    /// # Errors
    /// [`ModelError::NoName`].
    pub fn upsert_namespace(&mut self, namespace: &Namespace) -> Result<(), ModelError> {
        let name = self.symbols.intern(name_of("Namespace", &namespace.metadata)?);
        let labels = Labels::new(namespace.metadata.labels.as_ref(), &mut self.symbols);
        self.namespaces.insert(name, labels);
        Ok(())
    }

    /// Forgets a namespace's labels.
    pub fn remove_namespace(&mut self, name: &str) {
        if let Some(name) = self.symbols.find(name) {
            self.namespaces.remove(&name);
        }
    }

    /// That every pod that holds room is on a node the model has. Between two events of a live cluster this may
    /// fail for a moment; in a file it is an error.
    ///
    /// # Errors
    /// [`ModelError::NoNodes`], or [`ModelError::UnknownNode`] for the first such pod by namespace and name.
    pub fn check_references(&self) -> Result<(), ModelError> {
        if self.nodes.len() == 0 {
            return Err(ModelError::NoNodes);
        }
        let lost = self
            .pods
            .iter()
            .filter(|(_, pod)| pod.holds_room() && !pod.terminating)
            .filter_map(|(_, pod)| Some((pod, self.places.get(pod.place? as usize)?)))
            .filter(|(_, place)| place.node.is_none())
            .min_by_key(|(pod, _)| (&self.symbols[pod.namespace], &*pod.name));
        match lost {
            Some((pod, place)) => Err(ModelError::UnknownNode {
                namespace: self.symbols[pod.namespace].to_owned(),
                name: pod.name.to_string(),
                node: self.symbols[place.name].to_owned(),
            }),
            None => Ok(()),
        }
    }
}

fn name_of<'a>(kind: &str, metadata: &'a ObjectMeta) -> Result<&'a str, ModelError> {
    metadata
        .name
        .as_deref()
        .filter(|name| !name.is_empty())
        .ok_or_else(|| ModelError::NoName {
            object: kind.to_owned(),
            field: "metadata.name",
        })
}

fn key_of<'a>(kind: &str, metadata: &'a ObjectMeta) -> Result<(&'a str, &'a str), ModelError> {
    let name = name_of(kind, metadata)?;
    let namespace = metadata
        .namespace
        .as_deref()
        .filter(|namespace| !namespace.is_empty())
        .ok_or_else(|| ModelError::NoName {
            object: format!("{kind} {name}"),
            field: "metadata.namespace",
        })?;
    Ok((namespace, name))
}
