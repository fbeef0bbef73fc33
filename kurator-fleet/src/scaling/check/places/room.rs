//! Requests, volumes and host ports.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{Container, Node, PersistentVolume, Pod, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity as WireQuantity,
};
use kurator_core::quantity::Quantity;

use super::{
    super::world::{pod_key, spec},
    Scene,
    nodes::node_matches,
};

impl<'a> Scene<'_, 'a> {
    pub(super) fn room(&self, pod: &Pod, node: &Node) -> Result<(), String> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let own = requests(pod);
        let mut used: BTreeMap<String, i128> = BTreeMap::new();
        let mut count = 0;
        for other in self.pods_on(name) {
            count += 1;
            for (resource, amount) in requests(other) {
                *used.entry(resource).or_default() += amount;
            }
        }
        let status = node.status.as_ref();
        let allocatable = status.and_then(|status| status.allocatable.as_ref().or(status.capacity.as_ref()));
        let has = |resource: &str| match allocatable.and_then(|all| all.get(resource)) {
            Some(quantity) => amount(resource, quantity),
            // What a kubelet takes unless told otherwise.
            None if resource == "pods" => 110,
            None => 0,
        };
        if count > has("pods") {
            return Err(format!("{count} pods, {} slots", has("pods")));
        }
        for (resource, amount) in own {
            let sum = used.get(&resource).copied().unwrap_or(0);
            if amount > 0 && sum > has(&resource) {
                return Err(format!("{resource}: {sum} requested of {}", has(&resource)));
            }
        }
        Ok(())
    }

    pub(super) fn volumes(&self, pod: &Pod, node: &Node) -> Result<(), String> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        for volume in self.bound(pod) {
            let required = volume
                .spec
                .as_ref()
                .and_then(|spec| spec.node_affinity.as_ref()?.required.as_ref());
            if required.is_some_and(|required| !node_matches(required, node)) {
                return Err("a volume is out of reach".into());
            }
        }
        let Some(csi) = self.world.csi.get(name) else {
            return Ok(());
        };
        for driver in &csi.spec.drivers {
            let Some(limit) = driver
                .allocatable
                .as_ref()
                .and_then(|allocatable| allocatable.count)
            else {
                continue;
            };
            let of_driver = |pod: &Pod| -> BTreeSet<String> {
                self.bound(pod)
                    .filter(|volume| {
                        volume
                            .spec
                            .as_ref()
                            .and_then(|spec| spec.csi.as_ref())
                            .is_some_and(|csi| csi.driver == driver.name)
                    })
                    .filter_map(|volume| volume.metadata.name.clone())
                    .collect()
            };
            let attached: BTreeSet<String> = self.pods_on(name).flat_map(of_driver).collect();
            if !of_driver(pod).is_empty()
                && i64::try_from(attached.len()).unwrap_or(i64::MAX) > i64::from(limit)
            {
                return Err(format!(
                    "{} volumes of {}, {limit} can be attached",
                    attached.len(),
                    driver.name
                ));
            }
        }
        Ok(())
    }

    /// Volumes of a pod's claims, as far as they are known.
    fn bound<'s>(&'s self, pod: &'s Pod) -> impl Iterator<Item = &'a PersistentVolume> + use<'s, 'a> {
        let namespace = pod_key(pod).0;
        spec(pod)
            .into_iter()
            .flat_map(|spec| spec.volumes.iter().flatten())
            .filter_map(|volume| volume.persistent_volume_claim.as_ref())
            .filter_map(move |claim| self.world.claims.get(&(namespace, claim.claim_name.as_str())))
            .filter_map(|claim| claim.spec.as_ref()?.volume_name.as_deref())
            .filter_map(|volume| self.world.volumes.get(volume).copied())
    }

    pub(super) fn ports(&self, pod: &Pod, to: &str) -> Result<(), String> {
        let own = host_ports(pod);
        for other in self.pods_on(to).filter(|other| pod_key(other) != pod_key(pod)) {
            for (ip, protocol, port) in host_ports(other) {
                let clash = own.iter().find(|(own_ip, own_protocol, own_port)| {
                    let any = |ip: &str| matches!(ip, "0.0.0.0" | "::");
                    *own_port == port
                        && *own_protocol == protocol
                        && (*own_ip == ip || any(&ip) || any(own_ip))
                });
                if clash.is_some() {
                    return Err(format!("host port {port}"));
                }
            }
        }
        Ok(())
    }
}

/// Millicores for CPU, whole units for the rest, rounded up.
fn amount(resource: &str, quantity: &WireQuantity) -> i128 {
    let parsed: Quantity = quantity.0.parse().unwrap_or(Quantity::MAX);
    if resource == "cpu" {
        parsed.milli_value()
    } else {
        parsed.value()
    }
}

fn requests(pod: &Pod) -> BTreeMap<String, i128> {
    let Some(spec) = spec(pod) else {
        return BTreeMap::new();
    };
    let of = |resources: &Option<ResourceRequirements>| -> BTreeMap<String, i128> {
        let requests = resources
            .iter()
            .flat_map(|resources| resources.requests.iter().flatten());
        requests
            .into_iter()
            .map(|(name, quantity)| (name.clone(), amount(name, quantity)))
            .collect()
    };
    let add = |sum: &mut BTreeMap<String, i128>, more: &BTreeMap<String, i128>| {
        more.iter()
            .for_each(|(name, amount)| *sum.entry(name.clone()).or_default() += amount);
    };
    let is_sidecar = |container: &Container| container.restart_policy.as_deref() == Some("Always");
    let mut sum = BTreeMap::new();
    spec.containers
        .iter()
        .for_each(|container| add(&mut sum, &of(&container.resources)));
    let mut sidecars = BTreeMap::new();
    let mut peaks: Vec<BTreeMap<String, i128>> = Vec::new();
    for container in spec.init_containers.iter().flatten() {
        let own = of(&container.resources);
        if is_sidecar(container) {
            add(&mut sidecars, &own);
            peaks.push(sidecars.clone());
        } else {
            let mut peak = sidecars.clone();
            add(&mut peak, &own);
            peaks.push(peak);
        }
    }
    add(&mut sum, &sidecars);
    for (name, amount) in peaks.into_iter().flatten() {
        let entry = sum.entry(name).or_default();
        *entry = (*entry).max(amount);
    }
    for (name, amount) in of(&spec.resources) {
        if matches!(name.as_str(), "cpu" | "memory") {
            sum.insert(name, amount);
        }
    }
    for (name, quantity) in spec.overhead.iter().flatten() {
        *sum.entry(name.clone()).or_default() += amount(name, quantity);
    }
    sum
}

fn host_ports(pod: &Pod) -> Vec<(String, String, i32)> {
    let Some(spec) = spec(pod) else { return Vec::new() };
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let ip = port
                .host_ip
                .clone()
                .filter(|ip| !ip.is_empty())
                .unwrap_or_else(|| "0.0.0.0".into());
            Some((ip, port.protocol.clone().unwrap_or_else(|| "TCP".into()), number))
        })
        .collect()
}
