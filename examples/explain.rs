//! Why does it run there, and what would change that? Answered from a snapshot file, without any cluster.
//!
//! ```sh
//! cargo run --example explain                       # the snapshot in examples/data
//! cargo run --example explain -- fleet-snapshot.json
//! ```
//!
//! Three workloads are planned together under the policies of `examples/manifests` and one more. The first part of the
//! output is the plan with a reason for every cluster and step; the second is a what-if: the same plan once the taint
//! of `cluster-spare` is gone, as the difference to the first.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kurator_core::observe::Snapshot;
use kurator_policy::api::Placement;
use kurator_policy::placement::{FleetIndex, PlanOptions, Planned, Running, Workload, plan};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples");
    let file = std::env::args()
        .nth(1)
        .map_or_else(|| here.join("data/fleet-snapshot.json"), PathBuf::from);
    let fleet = Snapshot::from_json(&std::fs::read(&file)?)?;

    let mut policies = BTreeMap::new();
    for manifest in ["distribution.yaml", "accelerators.yaml"] {
        let text = std::fs::read_to_string(here.join("manifests").join(manifest))?;
        for document in serde_saphyr::from_multiple::<Value>(&text)? {
            if document["kind"] == "DistributionPolicy" {
                let name = document["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                policies.insert(
                    name,
                    serde_json::from_value(document["spec"]["placement"].clone())?,
                );
            }
        }
    }
    policies.insert("batch".to_owned(), batch()?);

    let workloads = [
        Workload::new("default/storefront", "apps/v1", "Deployment")
            .with_policy("storefront")
            .with_replicas(20)
            .with_request("cpu", "500m".parse()?)
            .with_request("memory", "1Gi".parse()?),
        Workload::new("default/llm-inference", "apps/v1", "Deployment")
            .with_policy("inference")
            .with_replicas(2)
            .with_request("nvidia.com/gpu", "1".parse()?),
        Workload::new("default/report", "apps/v1", "Deployment")
            .with_policy("batch")
            .with_replicas(18)
            .with_request("cpu", "2".parse()?),
    ];
    let running = BTreeMap::from([(
        "default/storefront".to_owned(),
        Running::new([("cluster-prod", 15), ("cluster-dr", 2)]),
    )]);

    let plan_for = |fleet: &Snapshot| -> Planned {
        let index = FleetIndex::new(fleet);
        plan(
            &index,
            &workloads,
            &policies,
            &running,
            fleet.taken_at(),
            &PlanOptions::default(),
        )
    };
    let today = plan_for(&fleet);
    println!("{today}");

    let mut without_taint = fleet.clone();
    if let Some(mut spare) = fleet.get(&"cluster-spare".parse()?).cloned() {
        spare.taints.clear();
        without_taint.insert(spare);
    }
    println!("what if cluster-spare were not tainted?");
    for (workload, difference) in today.diff(&plan_for(&without_taint)) {
        print!("{workload}: {difference}");
    }
    Ok(())
}

/// Nothing of it may be lost with one cluster but a half, and it goes where there is room.
fn batch() -> Result<Placement> {
    Ok(serde_json::from_value(json!({
        "clusterAffinity": { "exclude": ["cluster-gpu-a100", "cluster-gpu-h100"] },
        "replicaScheduling": {
            "weightPreference": { "dynamicWeight": "AvailableReplicas" },
            "surviveClusterLoss": { "minAvailablePercent": 50 },
        },
    }))?)
}
