//! A drain is killed with SIGKILL at every boundary between two steps, each time continued by a fresh process, while an
//! observer process records every budget at every instant.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod drain_rig;

use std::{collections::BTreeSet, env, path::Path};

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Node};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use kurator_envtest::{Controllers, Fleet, MemberSpec, Nodes};
use kurator_fleet::scaling::{DrainPolicy, ScaleDown, execute::SURGE};
use serde_json::json;

use self::drain_rig::{
    deploy,
    killed::{self, Grave},
    no_retry,
    observer::{self, Observer, kubeconfig_in},
    plan, settled, traces,
};

const APPS: usize = 3;
const REPLICAS: i32 = 4;

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        ["--observe", kubeconfig] => runtime.block_on(observer::observe(kubeconfig.into())),
        ["--drain", kubeconfig, folder] => {
            runtime.block_on(killed::drain(Path::new(kubeconfig), Path::new(folder)))
        }
        _ => runtime.block_on(dies_everywhere()),
    }
}

async fn dies_everywhere() {
    let fleet = Fleet::builder()
        .member(
            MemberSpec::new("east")
                .with_controllers(Controllers::Tuned)
                .with_scheduler()
                .with_nodes(Nodes::new(6).with_zones(["a", "b", "c"])),
        )
        .start()
        .await
        .unwrap();
    let member = fleet.member("east").unwrap();
    let client = no_retry(member);
    // Somebody else's cordon, on a node of the plan and on another one.
    let nodes: Api<Node> = Api::all(client.clone());
    deploy(&client, APPS, REPLICAS, "300m").await;
    settled(member, APPS, REPLICAS).await;
    single(&client).await;
    for node in ["node-1", "node-5"] {
        let foreign = Patch::Merge(json!({"spec": {"unschedulable": true}}));
        nodes
            .patch(node, &PatchParams::default(), &foreign)
            .await
            .unwrap();
    }
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let ready = |deployment: Option<&Deployment>| {
        let status = deployment.and_then(|deployment| deployment.status.as_ref());
        status.and_then(|status| status.ready_replicas) == Some(1)
    };
    member.wait_for(&deployments, "single", ready).await.unwrap();
    let request = ScaleDown::nodes(["node-0", "node-1"]);
    let plan = plan(&client, &request, &DrainPolicy::default().with_surge()).await;
    assert_eq!(plan.remove.len(), 2, "{plan}");
    assert_eq!(plan.surges.len(), 1, "{plan}");

    let folder = fleet.folder().join("killed");
    std::fs::create_dir(&folder).unwrap();
    let grave = Grave::new(&folder);
    grave.write_plan(&plan);
    let kubeconfig = kubeconfig_in(fleet.folder(), &member.kubeconfig());
    let observer = Observer::start(&kubeconfig);
    let began = tokio::time::Instant::now();
    let processes = tokio::task::spawn_blocking({
        let (kubeconfig, folder) = (kubeconfig.clone(), folder.clone());
        move || killed::until_the_end(&kubeconfig, &folder)
    });
    let processes = processes.await.unwrap();
    let took = began.elapsed();
    settled(member, APPS, REPLICAS).await;
    let record = observer.finish();
    let deaths = grave.deaths();
    println!(
        "{} boundaries, a SIGKILL at each, {processes} processes, {:.1} s; {} instants observed",
        deaths.len(),
        took.as_secs_f64(),
        record.instants,
    );

    assert!(killed::each_once(&deaths), "{deaths:#?}");
    assert_eq!(processes, deaths.len() + 1);
    for step in [
        "cordon",
        "surge",
        "evict",
        "end the surge",
        "mark",
        "remove the machine",
        "delete node",
    ] {
        let died = deaths.iter().filter(|death| death.starts_with(step)).count();
        assert!(died >= 2, "{died} deaths at {step:?}: {deaths:#?}");
    }
    let mut removals = grave.removals();
    removals.sort();
    assert_eq!(removals, plan.remove, "every machine once");
    assert_eq!(
        traces(&client).await,
        (BTreeSet::from(["node-5".to_owned()]), BTreeSet::new()),
        "no cordon of ours stays, and no other one goes"
    );
    assert_eq!(record.below, Vec::<String>::new(), "a budget was exceeded");
    let moved: BTreeSet<String> = plan.moves().map(|step| step.uid.clone()).collect();
    // The one replica too many is taken away at the end, whichever of the two that is.
    let others: Vec<_> = record.ended.difference(&moved).collect();
    assert!(others.len() <= 1, "{others:?} were evicted and not planned to be");
    assert!(moved.is_subset(&record.ended), "all planned pods moved");
    let single = deployments.get("single").await.unwrap();
    assert_eq!(single.spec.replicas, Some(1));
    assert!(!single.annotations().contains_key(SURGE));
}

/// One replica on the first node, with a budget that allows nothing.
async fn single(client: &kube::Client) {
    let labels = json!({"single": "yes"});
    let budget = json!({
        "metadata": {"name": "single"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": labels}},
    });
    let affinity = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 100,
        "preference": {"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-0"]},
        ]},
    }]}});
    let deployment = json!({
        "metadata": {"name": "single"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"affinity": affinity, "containers": [{"name": "c", "image": "c"}]},
        }},
    });
    let params = PostParams::default();
    let budget: k8s_openapi::api::policy::v1::PodDisruptionBudget = serde_json::from_value(budget).unwrap();
    let deployment: Deployment = serde_json::from_value(deployment).unwrap();
    Api::default_namespaced(client.clone())
        .create(&params, &budget)
        .await
        .unwrap();
    Api::default_namespaced(client.clone())
        .create(&params, &deployment)
        .await
        .unwrap();
}
