//! The fleet prepared for planning: every question a policy asks of a cluster, answered for all clusters at once.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use jiff::Timestamp;
use kurator_core::names::ClusterName;
use kurator_core::observe::{ClusterView, HealthStatus, ModelGrade, NodeView, Resources, Snapshot, Taint};
use kurator_core::quantity::Quantity;

use super::bits::Bits;
use super::gang::Gang;
use super::hardware::Hardware;
use super::workload::Workload;
use super::{capacity, gang_fit, nodes};

/// A fleet prepared for planning.
///
/// Made once from a [`Snapshot`] and kept up to date with [`FleetIndex::update`], it turns selectors, taints and API
/// lookups into operations on bit sets, and quantities into columns of numbers. Clusters stand in the order of their
/// names, whatever order they came in.
///
/// ```
/// use kurator_core::observe::{ClusterView, Health, Snapshot};
/// use kurator_policy::placement::FleetIndex;
///
/// let fleet = Snapshot::new("2026-01-02T03:04:05Z".parse()?)
///     .with_cluster(ClusterView::new("b".parse()?))
///     .with_cluster(ClusterView::new("a".parse()?).with_health(Health::ready()));
/// let mut index = FleetIndex::new(&fleet);
/// assert_eq!(index.names().map(|name| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
///
/// index.update(&ClusterView::new("b".parse()?).with_label("tier", "gold"));
/// assert_eq!(index.len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct FleetIndex {
    pub(super) names: Vec<ClusterName>,
    pub(super) labels: BTreeMap<String, Values>,
    pub(super) provider: Values,
    pub(super) region: Values,
    pub(super) zone: Values,
    apis: BTreeMap<String, BTreeMap<String, Bits>>,
    discovered: Bits,
    pub(super) taints: BTreeMap<Taint, Bits>,
    pub(super) deleting: Bits,
    pub(super) unready: Bits,
    /// Since when each cluster has been ready, where that is known.
    pub(super) ready_since: Vec<Option<Timestamp>>,
    /// Clusters whose sums are known.
    pub(super) summed: Bits,
    pub(super) pods: Vec<u64>,
    pub(super) free: BTreeMap<String, Column>,
    pub(super) models: Vec<Vec<ModelGrade>>,
    pub(super) nodes: Vec<Option<Vec<NodeView>>>,
}

/// Who has which value of one label or field.
#[derive(Clone, Debug, Default)]
pub(super) struct Values {
    pub(super) of: BTreeMap<String, Bits>,
}

/// What is free of one resource, in thousandths for CPU and in whole units for everything else.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) free: Vec<u64>,
    /// Clusters that have the resource at all.
    pub(super) offered: Bits,
}

impl FleetIndex {
    /// Prepares a fleet.
    pub fn new(fleet: &Snapshot) -> Self {
        let mut index = Self::default();
        index
            .names
            .extend(fleet.clusters().map(|cluster| cluster.name.clone()));
        index.resize();
        for (at, cluster) in fleet.clusters().enumerate() {
            index.write(at, cluster);
        }
        index
    }

    /// The number of clusters.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether the fleet has no cluster.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The names of the clusters, in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &ClusterName> {
        self.names.iter()
    }

    /// Takes over what is now known of one cluster, which may be new to the fleet.
    ///
    /// A known cluster costs time for itself alone; a new one moves those behind it.
    pub fn update(&mut self, cluster: &ClusterView) {
        match self.position(cluster.name.as_str()) {
            Ok(at) => {
                self.clear(at);
                self.write(at, cluster);
            }
            Err(at) => {
                self.names.insert(at, cluster.name.clone());
                self.shift(|now| match now.cmp(&at) {
                    Ordering::Less => Some(now),
                    Ordering::Equal => None,
                    Ordering::Greater => Some(now - 1),
                });
                self.models.insert(at, Vec::new());
                self.nodes.insert(at, None);
                self.pods.insert(at, 0);
                self.ready_since.insert(at, None);
                for column in self.free.values_mut() {
                    column.free.insert(at, 0);
                }
                self.write(at, cluster);
            }
        }
    }

    /// Forgets a cluster. Returns whether it was known.
    pub fn remove(&mut self, name: &ClusterName) -> bool {
        let Ok(at) = self.position(name.as_str()) else {
            return false;
        };
        self.names.remove(at);
        self.shift(|now| Some(if now < at { now } else { now + 1 }));
        self.models.remove(at);
        self.nodes.remove(at);
        self.pods.remove(at);
        self.ready_since.remove(at);
        for column in self.free.values_mut() {
            column.free.remove(at);
        }
        true
    }

    /// Where a cluster stands, or where it would.
    pub(super) fn position(&self, name: &str) -> Result<usize, usize> {
        self.names.binary_search_by(|known| known.as_str().cmp(name))
    }

    /// Clusters that serve a kind, as far as known: `(served, unknown)`.
    pub(super) fn serving(&self, api_version: &str, kind: &str) -> (Option<&Bits>, &Bits) {
        (
            self.apis.get(api_version).and_then(|kinds| kinds.get(kind)),
            &self.discovered,
        )
    }

    fn resize(&mut self) {
        let len = self.names.len();
        self.discovered = Bits::none(len);
        self.deleting = Bits::none(len);
        self.unready = Bits::none(len);
        self.summed = Bits::none(len);
        self.pods.resize(len, 0);
        self.ready_since.resize(len, None);
        self.models.resize(len, Vec::new());
        self.nodes.resize(len, None);
    }

    fn sets(&mut self) -> impl Iterator<Item = &mut Bits> {
        let values = self
            .labels
            .values_mut()
            .chain([&mut self.provider, &mut self.region, &mut self.zone]);
        values
            .flat_map(|values| values.of.values_mut())
            .chain(self.apis.values_mut().flat_map(|kinds| kinds.values_mut()))
            .chain(self.taints.values_mut())
            .chain(self.free.values_mut().map(|column| &mut column.offered))
            .chain([
                &mut self.discovered,
                &mut self.deleting,
                &mut self.unready,
                &mut self.summed,
            ])
    }

    /// Rebuilds every set for the present number of clusters; `old` says where a position was before, if anywhere.
    fn shift(&mut self, old: impl Fn(usize) -> Option<usize>) {
        let len = self.names.len();
        for set in self.sets() {
            let mut moved = Bits::none(len);
            for at in 0..len {
                if old(at).is_some_and(|old| set.has(old)) {
                    moved.set(at, true);
                }
            }
            *set = moved;
        }
    }

    fn clear(&mut self, at: usize) {
        for set in self.sets() {
            set.set(at, false);
        }
        for column in self.free.values_mut() {
            if let Some(free) = column.free.get_mut(at) {
                *free = 0;
            }
        }
    }

    fn write(&mut self, at: usize, cluster: &ClusterView) {
        let len = self.names.len();
        for (key, value) in &cluster.labels {
            self.labels.entry(key.clone()).or_default().add(value, at, len);
        }
        for (values, own) in [
            (&mut self.provider, &cluster.provider),
            (&mut self.region, &cluster.region),
        ] {
            if let Some(value) = own.as_deref().filter(|value| !value.is_empty()) {
                values.add(value, at, len);
            }
        }
        for zone in cluster.zones.iter().filter(|zone| !zone.is_empty()) {
            self.zone.add(zone, at, len);
        }
        for (api_version, kinds) in &cluster.apis.kinds {
            let served = self.apis.entry(api_version.clone()).or_default();
            for kind in kinds {
                served
                    .entry(kind.clone())
                    .or_insert_with(|| Bits::none(len))
                    .set(at, true);
            }
        }
        self.discovered.set(at, cluster.apis.complete);
        for taint in &cluster.taints {
            // Two taints that differ in age alone repel the same workloads.
            let mut ageless = taint.clone();
            ageless.time_added = None;
            self.taints
                .entry(ageless)
                .or_insert_with(|| Bits::none(len))
                .set(at, true);
        }
        self.deleting.set(at, cluster.deleting);
        self.unready
            .set(at, cluster.health.status == HealthStatus::NotReady);
        if let Some(since) = self.ready_since.get_mut(at) {
            *since = cluster.health.since.filter(|_| cluster.health.is_ready());
        }
        self.summed.set(at, cluster.resources.is_some());
        if let Some(pods) = self.pods.get_mut(at) {
            *pods = cluster
                .resources
                .as_ref()
                .map_or(0, |sums| whole(sums.free("pods")));
        }
        for resource in cluster.resources.iter().flat_map(|sums| sums.allocatable.keys()) {
            let free = cluster.resources.as_ref().and_then(|sums| sums.free(resource));
            let column = self.free.entry(resource.clone()).or_insert_with(|| Column {
                free: vec![0; len],
                offered: Bits::none(len),
            });
            column.offered.set(at, true);
            if let Some(slot) = column.free.get_mut(at) {
                *slot = units(resource, free);
            }
        }
        if let Some(models) = self.models.get_mut(at) {
            models.clone_from(&cluster.models);
            models.sort_by_key(|model| model.grade);
        }
        if let Some(nodes) = self.nodes.get_mut(at) {
            nodes.clone_from(&cluster.nodes);
        }
    }
}

impl Values {
    fn add(&mut self, value: &str, at: usize, len: usize) {
        match self.of.get_mut(value) {
            Some(bits) => bits.set(at, true),
            None => {
                let mut bits = Bits::none(len);
                bits.set(at, true);
                self.of.insert(value.to_owned(), bits);
            }
        }
    }

    /// Who has any value.
    pub(super) fn any(&self, len: usize) -> Bits {
        let mut any = Bits::none(len);
        for bits in self.of.values() {
            any.or(bits);
        }
        any
    }

    /// Who has one of these values.
    pub(super) fn one_of<'v>(&self, values: impl IntoIterator<Item = &'v String>, len: usize) -> Bits {
        let mut found = Bits::none(len);
        for bits in values.into_iter().filter_map(|value| self.of.get(value)) {
            found.or(bits);
        }
        found
    }
}

impl FleetIndex {
    /// Takes the room of `replicas` more of a workload from a cluster, as if they ran there.
    pub(super) fn reserve(&mut self, at: usize, workload: &Workload, hardware: &Hardware, replicas: u64) {
        let asks = nodes::Asks::of(workload);
        self.take(at, asks.request, replicas);
        if let Some(nodes) = self.nodes.get_mut(at).and_then(Option::as_mut) {
            nodes::reserve(nodes, &asks, hardware, replicas);
        }
    }

    /// Takes the room of a whole gang from a cluster: its minimum as it was packed, then the rest of it.
    pub(super) fn reserve_gang(&mut self, at: usize, gang: &Gang, workload: &Workload, hardware: &Hardware) {
        let needs = gang_fit::needs(gang, workload);
        for need in &needs {
            self.take(at, need.asks.request, u64::from(need.replicas));
        }
        if let Some(nodes) = self.nodes.get_mut(at).and_then(Option::as_mut) {
            let packing = gang_fit::fit(gang, workload, nodes, hardware).packing;
            for (position, members) in &packing {
                let Some(node) = nodes.get_mut(*position) else {
                    continue;
                };
                for (need, &members) in needs.iter().zip(members) {
                    nodes::take(node, need.asks.request, u64::from(members));
                }
            }
            for need in &needs {
                let rest = u64::from(need.replicas.saturating_sub(need.count));
                nodes::reserve(nodes, &need.asks, hardware, rest);
            }
        }
    }

    /// Takes from the sums of a cluster.
    fn take(&mut self, at: usize, request: &Resources, replicas: u64) {
        if let Some(pods) = self.pods.get_mut(at) {
            *pods = pods.saturating_sub(replicas);
        }
        for (resource, amount) in capacity::amounts(request) {
            if let Some(free) = self
                .free
                .get_mut(resource)
                .and_then(|column| column.free.get_mut(at))
            {
                *free = free.saturating_sub(amount.saturating_mul(replicas));
            }
        }
    }
}

/// An amount as a planner counts it: thousandths of a CPU, whole units of everything else, nothing below zero. What
/// is beyond 2⁶⁴ units counts as that.
pub(super) fn units(resource: &str, amount: Option<Quantity>) -> u64 {
    let amount = amount.unwrap_or_default();
    clamp(if resource == "cpu" {
        amount.milli_value()
    } else {
        amount.value()
    })
}

fn whole(amount: Option<Quantity>) -> u64 {
    clamp(amount.unwrap_or_default().value())
}

fn clamp(amount: i128) -> u64 {
    u64::try_from(amount.max(0)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kurator_core::observe::ResourceSummary;

    fn cluster(name: &str, tier: &str) -> ClusterView {
        let sums = ResourceSummary::default()
            .with_allocatable("cpu", Quantity::from_units(4))
            .with_allocatable("pods", Quantity::from_units(10));
        ClusterView::new(name.parse().unwrap())
            .with_label("tier", tier)
            .with_resources(sums)
            .with_api("apps/v1", "Deployment")
    }

    fn described(index: &FleetIndex) -> String {
        let set = |bits: &Bits| bits.iter().collect::<Vec<_>>();
        let labels: Vec<_> = index
            .labels
            .iter()
            .flat_map(|(key, values)| values.of.iter().map(move |(v, bits)| (key, v, set(bits))))
            .filter(|(_, _, at)| !at.is_empty())
            .collect();
        let free: Vec<_> = index
            .free
            .iter()
            .map(|(name, c)| (name, &c.free, set(&c.offered)))
            .collect();
        let apis = index.serving("apps/v1", "Deployment").0.map(set);
        format!(
            "{:?} {labels:?} {free:?} {:?} {apis:?} {:?}",
            index.names,
            index.pods,
            set(&index.summed)
        )
    }

    #[test]
    fn updating_gives_what_preparing_anew_gives() {
        let at = "2026-01-02T03:04:05Z".parse().unwrap();
        let mut fleet = Snapshot::new(at);
        let mut index = FleetIndex::new(&fleet);
        for (name, tier) in [
            ("m", "gold"),
            ("c", "silver"),
            ("z", "gold"),
            ("a", "bronze"),
            ("m", "bronze"),
        ] {
            fleet.insert(cluster(name, tier));
            index.update(&cluster(name, tier));
            assert_eq!(described(&index), described(&FleetIndex::new(&fleet)));
        }
        for name in ["c", "z", "a"] {
            let name = name.parse().unwrap();
            fleet.remove(&name);
            assert!(index.remove(&name));
            assert!(!index.remove(&name));
            assert_eq!(
                described(&index).replace("silver", ""),
                described(&FleetIndex::new(&fleet))
            );
        }
    }
}
