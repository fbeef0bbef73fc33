//! What a distribution policy does, without any cluster: `cargo run --example quickstart`.
//!
//! A fleet of two members in memory takes `examples/manifests/distribution.yaml`. The terminal shows the fleet, where
//! every replica went and why, what the override changed, the warning that it breaks the planned total, and what would
//! happen without one of the clusters. Then nodes are taken away from the other one, and the fleet is backed up at one
//! instant and restored.

mod backup;
mod drain;
mod manifests;

use std::collections::BTreeMap;
use std::error::Error;

use kurator::core::apply::{ApplyOptions, ObjectKey, ObjectSet, Owner};
use kurator::core::memory::InMemoryFleet;
use kurator::core::names::NamespacedName;
use kurator::core::observe::{ClusterView, Health, ResourceSummary, Snapshot};
use kurator::policy::overrides::{BrokenTotals, OverrideSet, REPLICAS};
use kurator::policy::placement::{
    Dialect, FleetIndex, PlanOptions, Planner, Prepared, Running, Workload, plan,
};
use kurator::policy::propagate::{BuiltinKinds, ResourceInterpreter as _, Template};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let fleet = fleet()?;
    println!("The fleet");
    for cluster in fleet.clusters() {
        let room = |resource| cluster.resources.as_ref().and_then(|sums| sums.free(resource));
        println!(
            "  {:<13} {} {:<10} free: {} CPU, {} memory",
            cluster.name,
            cluster.provider.as_deref().unwrap_or("-"),
            cluster.region.as_deref().unwrap_or("-"),
            room("cpu").map_or_else(|| "?".to_owned(), |free| free.to_string()),
            room("memory").map_or_else(|| "?".to_owned(), |free| free.to_string()),
        );
    }

    let (distribution, overrides) = manifests::policies()?;
    let template = Template::of(&manifests::storefront()?, &BuiltinKinds)?;
    let replicas = template.replicas.unwrap_or_default();

    let index = FleetIndex::new(&fleet);
    let policy = Prepared::new(&distribution.spec.placement, &index, Dialect::Kurator)?;
    let workload = Workload::new(template.key.to_string(), "apps/v1", "Deployment")
        .with_uid(&template.uid)
        .with_replicas(replicas);
    let decision = Planner::new(PlanOptions::default()).place(
        &index,
        &policy,
        &workload,
        &Running::default(),
        fleet.taken_at(),
    );
    println!(
        "\n{} has {replicas} replicas. Where they go, and why",
        template.key
    );
    for line in decision.to_string().lines() {
        println!("  {line}");
    }
    let placed = decision.outcome.map_err(|unplaced| unplaced.to_string())?;

    println!("\nWhat the override changes");
    let overrides = OverrideSet::compile([&overrides]);
    let mut rendered = Vec::new();
    for (name, planned) in &placed.clusters {
        let cluster = fleet
            .get(name)
            .ok_or("the plan names a cluster that is not in the fleet")?;
        let mut object = serde_json::Value::clone(&template.manifest);
        BuiltinKinds.set_replicas(&template.key.kind, &mut object, *planned);
        let result = overrides.render(&object, cluster)?;
        for line in result.report.to_string().lines() {
            println!("  {name}: {line}");
        }
        rendered.push((name, *planned, result));
    }
    let reports = rendered
        .iter()
        .map(|(name, planned, result)| (*name, u64::from(*planned), &result.report));
    if let Some(broken) = BrokenTotals::find(REPLICAS, reports) {
        println!("\nwarning: {broken}");
    }

    println!("\nWhat if cluster-dr were lost");
    let policies = BTreeMap::from([("storefront".to_owned(), distribution.spec.placement.clone())]);
    let workloads = [workload.with_policy("storefront")];
    let mut without = fleet.clone();
    without.remove(&"cluster-dr".parse()?);
    let [today, then] = [&fleet, &without].map(|fleet| {
        let options = PlanOptions::default();
        plan(
            &FleetIndex::new(fleet),
            &workloads,
            &policies,
            &BTreeMap::new(),
            fleet.taken_at(),
            &options,
        )
    });
    for (name, difference) in today.diff(&then) {
        println!("  {name}");
        for line in difference.to_string().lines() {
            println!("    {line}");
        }
    }

    println!("\nCarried out in memory");
    let members = InMemoryFleet::new(placed.clusters.iter().map(|(name, _)| name.clone()));
    let owner = Owner::new("hub", "storefront-uid", "DistributionPolicy default/storefront")?;
    for (name, _, result) in &rendered {
        let set = ObjectSet::new(owner.clone(), [serde_json::from_value(result.object.clone())?])?;
        print!("  {}", members.place(name, &set, &ApplyOptions::default())?);
    }
    members.settle();
    let key = ObjectKey::new("apps", "Deployment", NamespacedName::new("default", "storefront"));
    let mut ready = 0;
    for (name, _) in &placed.clusters {
        let here = members.member(name)?.get(&key)?["status"]["readyReplicas"]
            .as_u64()
            .unwrap_or(0);
        println!("  {name}: {here} ready");
        ready += here;
    }
    println!("  {ready} of {replicas} ready in the fleet");

    drain::drain(&members.member(&"cluster-prod".parse()?)?)?;

    println!("\nA backup of both members at one instant");
    let clusters: Vec<_> = fleet.clusters().map(|cluster| cluster.name.clone()).collect();
    backup::show(&clusters, &template.manifest).await
}

fn fleet() -> Result<Snapshot, Box<dyn Error>> {
    let member = |name: &str, region: &str, cpu: &str, memory: &str| -> Result<ClusterView, Box<dyn Error>> {
        let room = ResourceSummary::default()
            .with_allocatable("cpu", cpu.parse()?)
            .with_allocatable("memory", memory.parse()?)
            .with_allocatable("pods", "110".parse()?);
        Ok(ClusterView::new(name.parse()?)
            .with_provider("aws")
            .with_region(region)
            .with_health(Health::ready())
            .with_resources(room))
    };
    Ok(Snapshot::new("2026-11-23T12:00:00Z".parse()?)
        .with_cluster(member("cluster-prod", "us-west-2", "64", "256Gi")?)
        .with_cluster(member("cluster-dr", "eu-west-1", "16", "64Gi")?))
}
