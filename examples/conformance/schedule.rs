//! Cases of the whole pass over one Deployment.

use std::collections::BTreeMap;

use kurator_core::observe::{
    ApiSet, ClusterView, Health, ModelGrade, ResourceSummary, Resources, Snapshot, Taint,
};
use kurator_core::quantity::Quantity;
use kurator_core::reason::Reason;
use kurator_policy::api::Placement;
use kurator_policy::placement::{
    Detail, Dialect, FleetIndex, PlanOptions, Planner, Prepared, Running, Workload,
};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Case {
    clusters: Vec<Cluster>,
    placement: Placement,
    #[serde(default)]
    replicas: u32,
    #[serde(default)]
    request: Resources,
    workload: bool,
    #[serde(default)]
    prev: Vec<(String, u32)>,
    #[serde(default)]
    evicting: Vec<String>,
    affinity: Option<String>,
    #[serde(default)]
    fresh: bool,
    #[serde(default)]
    uid: String,
}

#[derive(Deserialize)]
struct Cluster {
    n: String,
    #[serde(default)]
    l: BTreeMap<String, String>,
    p: Option<String>,
    r: Option<String>,
    #[serde(default)]
    z: Vec<String>,
    #[serde(default)]
    t: Vec<Taint>,
    #[serde(default)]
    cap: Resources,
    #[serde(default)]
    used: Resources,
    #[serde(default)]
    noapi: bool,
    #[serde(default)]
    deleting: bool,
    #[serde(default)]
    grades: Vec<u64>,
}

/// The least CPU and memory of each resource model, and the most.
const MODELS: [(&str, &str, &str, &str); 3] = [
    ("0", "2", "0", "8Gi"),
    ("2", "8", "8Gi", "32Gi"),
    ("8", "1000", "32Gi", "4Ti"),
];

impl Cluster {
    fn view(self) -> Result<ClusterView, Box<dyn std::error::Error>> {
        let mut view = ClusterView::new(self.n.parse()?).with_health(Health::ready());
        view.labels = self.l;
        view.provider = self.p;
        view.region = self.r;
        view.zones = self.z.into_iter().collect();
        view.taints = self.t;
        view.deleting = self.deleting;
        view.apis = ApiSet::complete();
        if !self.noapi {
            view.apis.insert("apps/v1", "Deployment");
        }
        let mut sums = ResourceSummary::default();
        sums.allocatable = self.cap;
        sums.allocated = self.used;
        view.resources = Some(sums);
        for ((grade, nodes), (cpu, cpu_end, memory, memory_end)) in (0..).zip(self.grades).zip(MODELS) {
            let quantity = |text: &str| text.parse::<Quantity>();
            view.models.push(
                ModelGrade::new(grade, nodes)
                    .with_range("cpu", quantity(cpu)?, Some(quantity(cpu_end)?))
                    .with_range("memory", quantity(memory)?, Some(quantity(memory_end)?)),
            );
        }
        Ok(view)
    }
}

/// What we answer: the key and the value that stand for it.
pub(crate) fn answer(case: &Value) -> Result<(&'static str, Value), Box<dyn std::error::Error>> {
    let mut case = Case::deserialize(case)?;
    // A case is one attempt with the affinity group in use; going on to the next one is not part of it.
    if let Some(in_use) = &case.affinity {
        case.placement
            .cluster_affinities
            .retain(|group| group.affinity_name == *in_use);
    }
    let mut fleet = Snapshot::new("2026-01-01T00:00:00Z".parse()?);
    for cluster in case.clusters {
        fleet.insert(cluster.view()?);
    }
    let index = FleetIndex::new(&fleet);
    let policy = Prepared::new(&case.placement, &index, Dialect::Karmada)?;
    let mut workload = Workload::new("ns/d", "apps/v1", "Deployment").with_uid(case.uid);
    workload.request = case.request;
    workload.replicas = case.workload.then_some(case.replicas);
    let mut running = Running::new(case.prev);
    running.evicting = case.evicting;
    running.affinity = case.affinity;
    running.fresh = case.fresh;
    let options = PlanOptions::default()
        .with_dialect(Dialect::Karmada)
        .with_detail(Detail::Decision);
    match Planner::new(options)
        .place(&index, &policy, &workload, &running, fleet.taken_at())
        .outcome
    {
        Ok(placed) => Ok((
            "want",
            placed
                .clusters
                .iter()
                .map(|(name, n)| json!([name.as_str(), n]))
                .collect(),
        )),
        Err(unplaced) => match unplaced.token() {
            "NoClusterFits" => Ok(("err", json!("nofit"))),
            "SpreadNotMet" => Ok(("err", json!("select"))),
            "Unschedulable" => Ok(("err", json!("unschedulable"))),
            _ => Err(unplaced.to_string().into()),
        },
    }
}
