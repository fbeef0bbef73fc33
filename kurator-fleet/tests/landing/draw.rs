//! Random clusters as JSON, each in a namespace and on nodes of its own, so that many share one API server.

use serde_json::{Value, json};

/// Splitmix: the same clusters in every run.
#[derive(Debug)]
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % limit
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[derive(Debug)]
pub(crate) struct Drawn {
    pub(crate) name: String,
    pub(crate) nodes: Vec<Value>,
    /// With the node they start on.
    pub(crate) pods: Vec<Value>,
    /// Deployments that would make such pods.
    pub(crate) deployments: Vec<Value>,
    /// Claims and volumes.
    pub(crate) volumes: Vec<(Value, Value)>,
    pub(crate) csi_nodes: Vec<Value>,
    pub(crate) budgets: Vec<Value>,
}

pub(crate) fn cluster(number: u64, with_volumes: bool) -> Drawn {
    let draw = &mut Draw(number.wrapping_mul(0x1234_5678_9abc_def1));
    let name = format!("c{number}");
    let nodes: Vec<Value> = (0..5 + draw.below(5)).map(|at| node(&name, at, draw)).collect();
    let mut drawn = Drawn {
        csi_nodes: nodes.iter().map(csi_node).collect(),
        name,
        nodes,
        pods: Vec::new(),
        deployments: Vec::new(),
        volumes: Vec::new(),
        budgets: Vec::new(),
    };
    let mut cpu = vec![0u64; drawn.nodes.len()];
    for app in 0..4 + draw.below(8) {
        self::app(&mut drawn, app, &mut cpu, draw, with_volumes);
    }
    drawn
}

fn node(cluster: &str, at: u64, draw: &mut Draw) -> Value {
    let name = format!("{cluster}-n{at}");
    let mut amounts = json!({"cpu": "4", "memory": "16Gi", "ephemeral-storage": "100Gi",
        "pods": (9 + draw.below(6)).to_string()});
    if draw.one_in(4) {
        amounts["example.com/gpu"] = "2".into();
    }
    let mut node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {
            "cluster": cluster, "kubernetes.io/hostname": name, "pool": if at.is_multiple_of(2) { "even" } else { "odd" },
            "topology.kubernetes.io/zone": format!("{cluster}-z{}", at % 3), "slots": at.to_string(),
        }},
        "spec": {},
        "status": {"capacity": amounts, "allocatable": amounts},
    });
    if draw.one_in(12) {
        node["metadata"]["labels"]
            .as_object_mut()
            .unwrap()
            .remove("topology.kubernetes.io/zone");
    }
    if draw.one_in(8) {
        node["spec"]["taints"] = json!([{"key": "dedicated", "value": "x", "effect": "NoSchedule"}]);
    }
    node
}

fn csi_node(node: &Value) -> Value {
    let name = &node["metadata"]["name"];
    json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": name}, "spec": {"drivers": [
        {"name": "csi.example.com", "nodeID": name, "allocatable": {"count": 2}}]}})
}

/// An application of one to five replicas, with a rule of some kind.
fn app(drawn: &mut Drawn, app: u64, cpu: &mut [u64], draw: &mut Draw, with_volumes: bool) {
    let cluster = drawn.name.clone();
    let name = format!("app{app}");
    let replicas = 1 + draw.below(5);
    let request = 100 * (1 + draw.below(9));
    let selector = json!({"matchLabels": {"app": name}});
    let mut labels = json!({"app": name, "cluster": cluster});
    let mut spec = json!({
        "nodeSelector": {"cluster": cluster},
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "c", "resources": {"requests": {
            "cpu": format!("{request}m"), "memory": format!("{}Mi", 128 * (1 + draw.below(16)))}}}],
    });
    let spread = |key: &str, skew: u64| json!([{"maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}]);
    let zone = "topology.kubernetes.io/zone";
    let host = "kubernetes.io/hostname";
    let term = |key: &str, value: &Value| json!([{"labelSelector": value, "topologyKey": key}]);
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let mut claims = false;
    match draw.below(20) {
        0 => spec["nodeSelector"]["pool"] = "even".into(),
        1 | 2 => spec["affinity"]["podAntiAffinity"][required] = term(host, &selector),
        3 => spec["affinity"]["podAntiAffinity"][required] = term(zone, &selector),
        4 => spec["topologySpreadConstraints"] = spread(zone, 1),
        5 => spec["topologySpreadConstraints"] = spread(host, 2),
        6 => {
            spec["topologySpreadConstraints"] = spread(zone, 2);
            spec["topologySpreadConstraints"][0]["minDomains"] = 3.into();
        }
        7 => {
            spec["topologySpreadConstraints"] = spread(host, 1);
            spec["topologySpreadConstraints"][0]["nodeTaintsPolicy"] = "Honor".into();
        }
        8 => {
            spec["topologySpreadConstraints"] = spread(zone, 1);
            spec["topologySpreadConstraints"][0]["nodeAffinityPolicy"] = "Ignore".into();
            spec["nodeSelector"]["pool"] = "odd".into();
        }
        9 => spec["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 8080 + app % 2}]),
        10 => spec["affinity"]["podAffinity"][required] = term(zone, &selector),
        11 => {
            // Beside an application that may not exist, in a zone.
            let other = json!({"matchLabels": {"app": format!("app{}", app / 2)}});
            spec["affinity"]["podAffinity"][required] = term(zone, &other);
        }
        12 => {
            labels["tier"] = "loud".into();
            let loud = json!({"matchExpressions": [{"key": "tier", "operator": "In", "values": ["loud", "shrill"]}]});
            spec["affinity"]["podAntiAffinity"][required] = term(host, &loud);
        }
        13 => labels["tier"] = "shrill".into(),
        14 => spec["tolerations"] = json!([{"key": "dedicated", "operator": "Exists"}]),
        15 => spec["containers"][0]["resources"]["requests"]["example.com/gpu"] = "1".into(),
        16 => {
            spec["affinity"]["nodeAffinity"][required] = json!({"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "slots", "operator": "Gt", "values": ["2"]}]},
                {"matchExpressions": [{"key": "pool", "operator": "NotIn", "values": ["odd"]}]}]});
        }
        17 => {
            let big = json!({"name": "init", "image": "c", "resources": {"requests": {"cpu": "1200m"}}});
            let sidecar = json!({"name": "mesh", "image": "c", "restartPolicy": "Always", "resources": {"requests": {"cpu": "150m"}}});
            spec["initContainers"] = json!([sidecar, big]);
        }
        18 | 19 if with_volumes => claims = true,
        _ => {}
    }
    let gpu = "example.com/gpu";
    let requested = spec["containers"][0]["resources"]["requests"].get(gpu).cloned();
    if let Some(amount) = requested {
        spec["containers"][0]["resources"]["limits"] = json!({gpu: amount});
    }
    drawn.deployments.push(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": cluster},
        "spec": {"replicas": replicas, "selector": selector, "template": {"metadata": {"labels": labels}, "spec": spec}},
    }));
    if draw.one_in(2) {
        drawn.budgets.push(json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"name": name, "namespace": cluster},
            "spec": {"maxUnavailable": 1 + draw.below(2), "selector": selector},
        }));
    }
    let peak = if spec.get("initContainers").is_some() {
        1350.max(request + 150)
    } else {
        request
    };
    for replica in 0..replicas {
        let count =
            |pods: &[Value], node: &str| pods.iter().filter(|pod| pod["spec"]["nodeName"] == node).count();
        let start = usize::try_from(draw.below(100)).unwrap();
        let place = (0..cpu.len()).map(|step| (start + step) % cpu.len()).find(|on| {
            let node = drawn.nodes[*on]["metadata"]["name"].as_str().unwrap();
            cpu[*on] + peak <= 4000 && count(&drawn.pods, node) < 8
        });
        let Some(on) = place else { continue };
        cpu[on] += peak;
        let mut own = spec.clone();
        own["nodeName"] = drawn.nodes[on]["metadata"]["name"].clone();
        let pod = format!("{name}-{replica}");
        if claims {
            let zone = drawn.nodes[on]["metadata"]["labels"].get(zone).cloned();
            drawn.volumes.push(volume(&cluster, &pod, zone));
            own["volumes"] = json!([{"name": "data", "persistentVolumeClaim": {"claimName": pod}}]);
        }
        drawn.pods.push(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": pod, "namespace": cluster, "labels": labels, "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": "none", "controller": true}]},
            "spec": own,
        }));
    }
}

/// A claim and the volume it is bound to, in a zone if there is one.
fn volume(cluster: &str, name: &str, zone: Option<Value>) -> (Value, Value) {
    let volume = format!("{cluster}-{name}");
    let mut pv = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume, "labels": {"cluster": cluster}},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "csi": {"driver": "csi.example.com", "volumeHandle": volume},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": cluster, "name": name}},
    });
    if let Some(zone) = zone {
        pv["spec"]["nodeAffinity"] = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "topology.kubernetes.io/zone", "operator": "In", "values": [zone]}]}]}});
    }
    let pvc = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": cluster,
            "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": volume,
            "resources": {"requests": {"storage": "1Gi"}}},
    });
    (pvc, pv)
}
