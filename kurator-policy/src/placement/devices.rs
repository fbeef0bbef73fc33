//! Devices that are handed out through claims: counted per node and class, as if each class were a resource.
//!
//! Where a cluster publishes `ResourceSlice`s, a device class is planned with under the name that Kubernetes itself
//! gives it as a resource, `deviceclass.resource.kubernetes.io/<class>`: nodes offer it, replicas request it, and
//! `resourceConstraints` may name the class alone.

use std::collections::{BTreeMap, BTreeSet};

use kurator_core::observe::{ClusterView, ResourceSummary, Resources};
use kurator_core::quantity::Quantity;
use serde_json::Value;

use super::device_selector::{Device, DeviceSelector};

/// The prefix of a resource that stands for a device class.
const OF_CLASS: &str = "deviceclass.resource.kubernetes.io/";

/// Attributes that name the product of a device, the most telling first.
const PRODUCT: [&str; 4] = ["productName", "product", "model", "type"];

/// The resource that stands for a device class.
///
/// ```
/// use kurator_policy::placement::resource_of_class;
/// assert_eq!(resource_of_class("gpu.nvidia.com"), "deviceclass.resource.kubernetes.io/gpu.nvidia.com");
/// ```
#[must_use]
pub fn resource_of_class(class: &str) -> String {
    format!("{OF_CLASS}{class}")
}

/// The devices of one cluster, by node and class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInventory {
    /// What each node has of each class.
    pub nodes: BTreeMap<String, BTreeMap<String, DeviceCount>>,
    /// Classes that are not counted, because a selector of theirs cannot be read here, with that selector.
    pub unread: BTreeMap<String, String>,
    /// Resources that a class answers for beside its own name.
    extended: BTreeMap<String, String>,
}

/// The devices of one class on one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceCount {
    /// How many there are.
    pub all: u32,
    /// How many of them are given away.
    pub taken: u32,
    /// What they are, if they all say the same.
    pub product: Option<String>,
}

impl DeviceInventory {
    /// Counts from the `ResourceSlice`s, `DeviceClass`es and `ResourceClaim`s of a cluster, as its API server returns
    /// them (`resource.k8s.io/v1` and its betas).
    ///
    /// Of the selectors of a class, comparisons with `==` that are joined with `&&` are read: of the driver and of
    /// attributes. A class with another selector is not counted and named in [`unread`](Self::unread).
    ///
    /// ```
    /// use kurator_core::observe::{ClusterView, NodeView};
    /// use kurator_policy::placement::DeviceInventory;
    /// use serde_json::json;
    ///
    /// let slice = json!({ "spec": {
    ///     "driver": "gpu.nvidia.com", "nodeName": "n1", "pool": { "name": "n1" },
    ///     "devices": [
    ///         { "name": "gpu-0", "attributes": { "productName": { "string": "NVIDIA-A100" } } },
    ///         { "name": "gpu-1", "attributes": { "productName": { "string": "NVIDIA-A100" } } },
    ///     ],
    /// } });
    /// let class = json!({
    ///     "metadata": { "name": "gpu.nvidia.com" },
    ///     "spec": { "selectors": [{ "cel": { "expression": "device.driver == 'gpu.nvidia.com'" } }] },
    /// });
    /// let claim = json!({ "status": { "allocation": { "devices": { "results": [
    ///     { "driver": "gpu.nvidia.com", "pool": "n1", "device": "gpu-1" },
    /// ] } } } });
    ///
    /// let mut cluster = ClusterView::new("a".parse()?).with_node(NodeView::new("n1"));
    /// DeviceInventory::read(&[slice], &[class], &[claim]).add_to(&mut cluster);
    /// let node = cluster.nodes.iter().flatten().next().ok_or("a node")?;
    /// let free = node.free("deviceclass.resource.kubernetes.io/gpu.nvidia.com");
    /// assert_eq!(free, Some("1".parse()?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn read(slices: &[Value], classes: &[Value], claims: &[Value]) -> Self {
        let mut inventory = Self::default();
        let mut readable: Vec<(&str, Vec<DeviceSelector>)> = Vec::new();
        for class in classes {
            let Some(name) = class.pointer("/metadata/name").and_then(Value::as_str) else {
                continue;
            };
            if let Some(extended) = class
                .pointer("/spec/extendedResourceName")
                .and_then(Value::as_str)
            {
                inventory.extended.insert(name.to_owned(), extended.to_owned());
            }
            match selectors(class) {
                Ok(selectors) => readable.push((name, selectors)),
                Err(expression) => {
                    inventory.unread.insert(name.to_owned(), expression);
                }
            }
        }
        let taken = given_away(claims);
        for slice in slices {
            let text = |pointer| slice.pointer(pointer).and_then(Value::as_str);
            // Devices that several nodes reach are nobody's to count.
            let (Some(driver), Some(node)) = (text("/spec/driver"), text("/spec/nodeName")) else {
                continue;
            };
            let pool = text("/spec/pool/name").unwrap_or_default();
            let devices = slice.pointer("/spec/devices").and_then(Value::as_array);
            for device in devices.into_iter().flatten() {
                let name = device.get("name").and_then(Value::as_str).unwrap_or_default();
                let seen = Device::new(driver, device);
                let is_taken = taken.contains(&(driver, pool, name));
                for (class, _) in readable
                    .iter()
                    .filter(|(_, selectors)| selectors.iter().all(|selector| selector.matches(&seen)))
                {
                    let of_node = inventory.nodes.entry(node.to_owned()).or_default();
                    let first = !of_node.contains_key(*class);
                    let count = of_node.entry((*class).to_owned()).or_default();
                    let product = PRODUCT.iter().find_map(|attribute| seen.text(attribute));
                    if first {
                        count.product = product.map(str::to_owned);
                    } else if count.product.as_deref() != product {
                        count.product = None;
                    }
                    count.all = count.all.saturating_add(1);
                    count.taken = count.taken.saturating_add(u32::from(is_taken));
                }
            }
        }
        inventory
    }

    /// Adds the devices to the nodes and to the sums of a cluster. Nodes that the cluster does not have are left out.
    pub fn add_to(&self, cluster: &mut ClusterView) {
        let mut sums: BTreeMap<String, (u32, u32)> = BTreeMap::new();
        for node in cluster.nodes.iter_mut().flatten() {
            for (class, count) in self.nodes.get(&node.name).into_iter().flatten() {
                let extended = self
                    .extended
                    .get(class)
                    .filter(|name| !node.allocatable.contains_key(*name));
                let names = [Some(resource_of_class(class)), extended.cloned()];
                for resource in names.into_iter().flatten() {
                    let amount = |count: u32| Quantity::from_units(i64::from(count));
                    node.allocatable.insert(resource.clone(), amount(count.all));
                    node.allocated.insert(resource.clone(), amount(count.taken));
                    if let Some(product) = &count.product {
                        node.labels.insert(format!("{resource}.product"), product.clone());
                    }
                    let sum = sums.entry(resource).or_default();
                    sum.0 = sum.0.saturating_add(count.all);
                    sum.1 = sum.1.saturating_add(count.taken);
                }
            }
        }
        if let Some(total) = &mut cluster.resources {
            for (resource, (all, taken)) in sums {
                set(total, &resource, all, taken);
            }
        }
    }
}

fn set(total: &mut ResourceSummary, resource: &str, all: u32, taken: u32) {
    let amount = |count: u32| Quantity::from_units(i64::from(count));
    total.allocatable.insert(resource.to_owned(), amount(all));
    total.allocated.insert(resource.to_owned(), amount(taken));
}

/// The selectors of a class, or the first one that cannot be read.
fn selectors(class: &Value) -> Result<Vec<DeviceSelector>, String> {
    let all = class.pointer("/spec/selectors").and_then(Value::as_array);
    all.into_iter()
        .flatten()
        .map(|selector| {
            let expression = selector.pointer("/cel/expression").and_then(Value::as_str);
            let expression = expression.unwrap_or_default();
            DeviceSelector::parse(expression).ok_or_else(|| expression.to_owned())
        })
        .collect()
}

/// The devices that claims hold, by driver, pool and name.
fn given_away(claims: &[Value]) -> BTreeSet<(&str, &str, &str)> {
    let mut taken = BTreeSet::new();
    for claim in claims {
        let results = claim.pointer("/status/allocation/devices/results");
        for result in results.and_then(Value::as_array).into_iter().flatten() {
            let text = |field| result.get(field).and_then(Value::as_str).unwrap_or_default();
            taken.insert((text("driver"), text("pool"), text("device")));
        }
    }
    taken
}

/// What the claims of a pod ask for, as resources: one pod gets its own claim from each template it names.
///
/// `template` finds a `ResourceClaimTemplate` of the pod's namespace by name. A claim that exists already is shared by
/// all replicas and asks for nothing more.
///
/// ```
/// use kurator_policy::placement::claimed_devices;
/// use serde_json::json;
///
/// let pod = json!({ "resourceClaims": [{ "name": "gpu", "resourceClaimTemplateName": "two-gpus" }] });
/// let template = json!({ "spec": { "spec": { "devices": { "requests": [
///     { "name": "gpu", "exactly": { "deviceClassName": "gpu.nvidia.com", "count": 2 } },
/// ] } } } });
/// let asked = claimed_devices(&pod, |name| (name == "two-gpus").then_some(&template));
/// assert_eq!(asked["deviceclass.resource.kubernetes.io/gpu.nvidia.com"].to_string(), "2");
/// ```
#[must_use]
pub fn claimed_devices<'t>(pod: &Value, template: impl Fn(&str) -> Option<&'t Value>) -> Resources {
    let mut asked: BTreeMap<String, i64> = BTreeMap::new();
    let claims = pod.get("resourceClaims").and_then(Value::as_array);
    let names = claims
        .into_iter()
        .flatten()
        .filter_map(|claim| claim.get("resourceClaimTemplateName")?.as_str());
    for found in names.filter_map(template) {
        let requests = found
            .pointer("/spec/spec/devices/requests")
            .and_then(Value::as_array);
        for request in requests.into_iter().flatten() {
            // `v1` nests what the betas wrote beside the name; of alternatives, the first is what is wished for.
            let exactly = request
                .get("exactly")
                .or_else(|| request.pointer("/firstAvailable/0"))
                .unwrap_or(request);
            let Some(class) = exactly.get("deviceClassName").and_then(Value::as_str) else {
                continue;
            };
            let count = exactly.get("count").and_then(Value::as_i64).unwrap_or(1).max(0);
            let sum = asked.entry(resource_of_class(class)).or_default();
            *sum = sum.saturating_add(count);
        }
    }
    asked
        .into_iter()
        .map(|(resource, count)| (resource, Quantity::from_units(count)))
        .collect()
}
