//! Two of six nodes are taken away from a member, in memory: planned, checked, and carried out wave by wave.

use std::error::Error;

use kurator::core::apply::{KindRef, ObjectKey};
use kurator::core::memory::{InMemoryMember, Preconditions};
use kurator::core::names::NamespacedName;
use kurator::core::selector::LabelMatcher;
use kurator::fleet::scaling::{DrainPolicy, Model, Object, ScaleDown, check};
use serde_json::{Value, json};

const NODES: u64 = 6;

pub(crate) fn drain(member: &InMemoryMember) -> Result<(), Box<dyn Error>> {
    let deployment = ObjectKey::new("apps", "Deployment", NamespacedName::new("default", "storefront"));
    let replicas = settle_pods(member, &member.get(&deployment)?)?;

    let kinds = [
        ("v1", "Node"),
        ("v1", "Pod"),
        ("apps/v1", "Deployment"),
        ("apps/v1", "ReplicaSet"),
        ("policy/v1", "PodDisruptionBudget"),
    ];
    let mut items = Vec::new();
    for (api_version, kind) in kinds {
        items.extend(member.list(
            &KindRef::new(api_version, kind),
            None,
            &LabelMatcher::everything(),
        )?);
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let objects = Object::from_json(&serde_json::to_vec(&list)?)?;
    let now = "2026-11-23T12:00:00Z".parse()?;
    let plan =
        Model::from_objects(&objects)?.plan_scale_down(&ScaleDown::to(4), &DrainPolicy::default(), now)?;
    if !check::check(&plan, &objects, now).permits() {
        return Err("the checker has something against the plan".into());
    }

    println!(
        "\n{} has {NODES} nodes and is to have 4, and its budget wants 16 of {replicas} replicas healthy",
        member.name()
    );
    let mut least = replicas;
    for (number, wave) in (1..).zip(&plan.waves) {
        for node in &wave.nodes {
            let places: Vec<&str> = node.moves.iter().map(|step| step.to.as_str()).collect();
            println!(
                "  wave {number}: {} is drained, its pods move to {}",
                node.node,
                places.join(", ")
            );
            for round in 1..=wave.rounds {
                let round: Vec<_> = node.moves.iter().filter(|step| step.round == round).collect();
                let mut leaving = Vec::new();
                for step in &round {
                    let pod = ObjectKey::new("", "Pod", NamespacedName::new("default", &step.pod.name));
                    leaving.push(member.get(&pod)?);
                    member.delete(&pod, &Preconditions::default())?;
                }
                least = least.min(pods(member)?.len() as u64);
                for (step, mut pod) in round.into_iter().zip(leaving) {
                    pod["metadata"] = metadata(&format!("{}-again", step.pod.name));
                    pod["spec"]["nodeName"] = step.to.as_str().into();
                    member.create(&pod, "kube-scheduler")?;
                }
            }
            let key = ObjectKey::new("", "Node", NamespacedName::cluster_scoped(&node.node));
            member.delete(&key, &Preconditions::default())?;
        }
    }
    let ready = pods(member)?.len();
    println!(
        "  {} nodes removed in {} waves, {} at least; {ready} of {replicas} run, and {least} did all the time",
        plan.remove.len(),
        plan.waves.len(),
        plan.bound.waves,
    );
    Ok(())
}

/// Nodes for the pods of the Deployment, its pods spread over them, and a budget. How many pods there are.
fn settle_pods(member: &InMemoryMember, deployment: &Value) -> Result<u64, Box<dyn Error>> {
    let replicas = deployment["spec"]["replicas"].as_u64().ok_or("no replicas")?;
    for node in 0..NODES {
        member.create(
            &json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("node-{node}")},
                "status": {
                    "allocatable": {"cpu": "16", "memory": "64Gi", "pods": "110"},
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            }),
            "kubelet",
        )?;
    }
    let mut replica_set = metadata("storefront-7d9c");
    replica_set["ownerReferences"] = owner("Deployment", "storefront", &deployment["metadata"]["uid"]);
    let replica_set = member.create(
        &json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": replica_set,
            "spec": {"replicas": replicas, "selector": deployment["spec"]["selector"]},
        }),
        "kube-controller-manager",
    )?;
    for pod in 0..replicas {
        let mut meta = metadata(&format!("storefront-7d9c-{pod}"));
        meta["ownerReferences"] = owner("ReplicaSet", "storefront-7d9c", &replica_set["metadata"]["uid"]);
        let mut spec = deployment["spec"]["template"]["spec"].clone();
        spec["nodeName"] = format!("node-{}", pod % NODES).into();
        let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        member.create(
            &json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": status}),
            "kubelet",
        )?;
    }
    member.create(
        &json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata("storefront"),
            "spec": {"minAvailable": 16, "selector": deployment["spec"]["selector"]},
            "status": {
                "observedGeneration": 1, "currentHealthy": replicas, "desiredHealthy": 16,
                "expectedPods": replicas, "disruptionsAllowed": replicas.saturating_sub(16),
            },
        }),
        "kube-controller-manager",
    )?;
    Ok(replicas)
}

fn metadata(name: &str) -> Value {
    json!({"name": name, "namespace": "default", "labels": {"app": "storefront"}})
}

fn owner(kind: &str, name: &str, uid: &Value) -> Value {
    json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true}])
}

fn pods(member: &InMemoryMember) -> Result<Vec<Value>, Box<dyn Error>> {
    Ok(member.list(&KindRef::new("v1", "Pod"), None, &LabelMatcher::everything())?)
}
