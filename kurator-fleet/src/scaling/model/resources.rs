//! Amounts as integers: millicores, bytes, counts.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::PodSpec, apimachinery::pkg::api::resource::Quantity as WireQuantity};
use kurator_core::quantity::Quantity;

use super::{
    error::ModelError,
    symbols::{Sym, Symbols},
};

/// The largest amount of anything on one machine or in one pod: 2⁵³, as bytes nine petabytes. What is above is a
/// typing error, and sums of what is below stay far inside an `i64`.
const ABSURD: i128 = 1 << 53;

/// What a node has or a pod asks for. CPU in millicores, memory and storage in bytes, all rounded up as the
/// scheduler does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Resources {
    pub(crate) cpu: i64,
    pub(crate) memory: i64,
    pub(crate) storage: i64,
    pub(crate) pods: i64,
    /// Extended resources and huge pages, sorted by symbol.
    pub(crate) extended: Box<[(Sym, i64)]>,
}

type List = BTreeMap<String, WireQuantity>;

impl Resources {
    /// # Errors
    /// [`ModelError`] naming the object and the resource.
    pub(crate) fn new(
        list: Option<&List>,
        field: &impl Fn() -> String,
        object: &impl Fn() -> String,
        symbols: &mut Symbols,
    ) -> Result<Self, ModelError> {
        let mut all = Self::default();
        let mut extended = Vec::new();
        for (name, quantity) in list.into_iter().flatten() {
            let amount = amount(name, quantity, field, object)?;
            match name.as_str() {
                "cpu" => all.cpu = amount,
                "memory" => all.memory = amount,
                "ephemeral-storage" => all.storage = amount,
                "pods" => all.pods = amount,
                other => extended.push((symbols.intern(other), amount)),
            }
        }
        extended.sort_unstable();
        all.extended = extended.into_boxed_slice();
        Ok(all)
    }

    pub(crate) fn extended(&self, name: Sym) -> i64 {
        self.extended
            .binary_search_by_key(&name, |(name, _)| *name)
            .ok()
            .and_then(|at| self.extended.get(at))
            .map_or(0, |(_, amount)| *amount)
    }

    fn merge(&mut self, other: &Self, join: impl Fn(i64, i64) -> i64) {
        self.cpu = join(self.cpu, other.cpu);
        self.memory = join(self.memory, other.memory);
        self.storage = join(self.storage, other.storage);
        if self.extended.is_empty() && other.extended.is_empty() {
            return;
        }
        let mut names: Vec<Sym> = self
            .extended
            .iter()
            .chain(&other.extended)
            .map(|(name, _)| *name)
            .collect();
        names.sort_unstable();
        names.dedup();
        self.extended = names
            .into_iter()
            .map(|name| (name, join(self.extended(name), other.extended(name))))
            .collect();
    }

    fn add(&mut self, other: &Self) {
        self.merge(other, i64::saturating_add);
    }

    fn raise_to(&mut self, other: &Self) {
        self.merge(other, i64::max);
    }

    /// The request the scheduler books for a pod: the larger of its running containers together and the peak of
    /// its init containers, where a sidecar keeps running beside what starts after it; pod-level requests win over
    /// both; overhead comes on top.
    ///
    /// # Errors
    /// [`ModelError`] naming the pod and the container.
    pub(crate) fn of_pod(
        spec: &PodSpec,
        object: &impl Fn() -> String,
        symbols: &mut Symbols,
    ) -> Result<Self, ModelError> {
        let mut running = Self::default();
        for container in &spec.containers {
            let requests = container
                .resources
                .as_ref()
                .and_then(|resources| resources.requests.as_ref());
            if requests.is_some() {
                let field = || format!("requests of container {}", container.name);
                running.add(&Self::new(requests, &field, object, symbols)?);
            }
        }
        let mut sidecars = Self::default();
        let mut peak = Self::default();
        for container in spec.init_containers.iter().flatten() {
            let requests = container
                .resources
                .as_ref()
                .and_then(|resources| resources.requests.as_ref());
            let field = || format!("requests of init container {}", container.name);
            let own = Self::new(requests, &field, object, symbols)?;
            if container.restart_policy.as_deref() == Some("Always") {
                running.add(&own);
                sidecars.add(&own);
                peak.raise_to(&sidecars);
            } else {
                let mut together = own;
                together.add(&sidecars);
                peak.raise_to(&together);
            }
        }
        running.raise_to(&peak);
        if let Some(requests) = spec
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref())
        {
            let pod = Self::new(
                Some(requests),
                &|| "requests of the pod".to_owned(),
                object,
                symbols,
            )?;
            for name in requests.keys() {
                match name.as_str() {
                    "cpu" => running.cpu = pod.cpu,
                    "memory" => running.memory = pod.memory,
                    _ => {}
                }
            }
        }
        if spec.overhead.is_some() {
            running.add(&Self::new(
                spec.overhead.as_ref(),
                &|| "overhead".to_owned(),
                object,
                symbols,
            )?);
        }
        running.pods = 1;
        Ok(running)
    }
}

fn amount(
    name: &str,
    quantity: &WireQuantity,
    field: &impl Fn() -> String,
    object: &impl Fn() -> String,
) -> Result<i64, ModelError> {
    let parsed: Quantity = quantity.0.parse().map_err(|source| ModelError::Quantity {
        object: object(),
        field: format!("{name} in {}", field()),
        source: Box::new(source),
    })?;
    let value = if name == "cpu" {
        parsed.milli_value()
    } else {
        parsed.value()
    };
    if parsed.is_negative() || value > ABSURD {
        return Err(ModelError::OutOfRange {
            object: object(),
            field: format!("{name} in {}", field()),
            value: quantity.0.clone(),
            range: "0 to 2^53 (millicores for cpu, bytes or pieces for the rest)",
        });
    }
    Ok(i64::try_from(value).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(spec: serde_json::Value) -> Result<Resources, ModelError> {
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        Resources::of_pod(&spec, &|| "Pod a/b".into(), &mut Symbols::default())
    }

    #[test]
    fn a_sidecar_counts_beside_what_starts_after_it() {
        let container =
            |name: &str, cpu: &str| json!({"name": name, "resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = container("mesh", "100m");
        sidecar["restartPolicy"] = "Always".into();
        let requests = of(json!({
            "containers": [container("app", "200m")],
            "initContainers": [container("first", "250m"), sidecar, container("last", "400m")],
            "overhead": {"cpu": "10m"},
        }))
        .unwrap();
        // last + mesh = 500m is above app + mesh = 300m and above first alone.
        assert_eq!(requests.cpu, 510);
        assert_eq!(requests.pods, 1);
    }

    #[test]
    fn a_negative_or_absurd_request_names_pod_and_field() {
        for value in ["-1", "1e20"] {
            let error =
                of(json!({"containers": [{"name": "app", "resources": {"requests": {"cpu": value}}}]}))
                    .unwrap_err()
                    .to_string();
            assert!(
                error.contains("Pod a/b: cpu in requests of container app"),
                "{error}"
            );
        }
    }
}
