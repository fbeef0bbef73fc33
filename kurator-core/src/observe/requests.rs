//! What a pod requests of a node.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, ContainerStatus, Pod, PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource,
};

use super::Resources;
use crate::quantity::{ParseQuantityError, Quantity};

/// Requests that cannot be summed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestsError {
    /// The sum leaves the range of a [`Quantity`].
    #[error("the {resource} requests sum to more than a quantity can hold")]
    Overflow {
        /// Name of the resource.
        resource: String,
    },
    /// An amount that is not a quantity.
    #[error("the {resource} amount is not a quantity")]
    Quantity {
        /// Name of the resource.
        resource: String,
        /// Where it goes wrong.
        #[source]
        source: ParseQuantityError,
    },
}

/// What a pod of this spec requests of the node it goes to.
///
/// The rule of the scheduler: the containers and sidecars together or the greediest init container with the sidecars
/// before it, whichever is more, for each resource; requests of the pod as a whole instead where it has them;
/// overhead on top. As the API server does on admission, what has a limit and no request requests its limit, so the
/// template of a workload counts like the pods made from it.
///
/// # Errors
/// [`RequestsError`], naming the resource.
///
/// ```
/// use k8s_openapi::api::core::v1::PodSpec;
/// use kurator_core::observe::pod_requests;
///
/// let spec: PodSpec = serde_json::from_str(
///     r#"{"containers": [
///         {"name": "app", "resources": {"requests": {"cpu": "250m"}, "limits": {"nvidia.com/gpu": "1"}}},
///         {"name": "log", "resources": {"requests": {"cpu": "50m"}}}
///     ]}"#,
/// )?;
/// let requests = pod_requests(&spec)?;
/// assert_eq!(requests["cpu"].to_string(), "300m");
/// assert_eq!(requests["nvidia.com/gpu"].to_string(), "1");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn pod_requests(spec: &PodSpec) -> Result<Resources, RequestsError> {
    let containers = aggregate(spec, |container| declared(container.resources.as_ref()))?;
    of_pod(spec, containers)
}

/// What a pod that is there keeps from others: as [`pod_requests`], and while it is resized in place the largest of
/// what it asked for, was granted and has.
///
/// # Errors
/// As [`pod_requests`].
pub fn running_pod_requests(pod: &Pod) -> Result<Resources, RequestsError> {
    let Some(spec) = &pod.spec else {
        return Ok(Resources::new());
    };
    let refused = resize_is_infeasible(pod);
    let asked = |container: &Container| match refused {
        true => Ok(Resources::new()),
        false => declared(container.resources.as_ref()),
    };
    let granted = |container: &Container| match status(pod, &container.name)
        .and_then(|s| s.allocated_resources.as_ref())
    {
        Some(granted) => parse(granted),
        None => asked(container),
    };
    let actual = |container: &Container| {
        let resources = status(pod, &container.name).and_then(|status| status.resources.as_ref());
        match resources.and_then(|resources| resources.requests.as_ref()) {
            Some(actual) => parse(actual),
            None => granted(container),
        }
    };
    let mut containers = aggregate(spec, granted)?;
    raise(&mut containers, &aggregate(spec, actual)?);
    if !refused {
        raise(&mut containers, &aggregate(spec, asked)?);
    }
    of_pod(spec, containers)
}

fn status<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = [&status.container_statuses, &status.init_container_statuses];
    all.into_iter()
        .flatten()
        .flatten()
        .find(|status| status.name == container)
}

/// The kubelet has said that the resize it was asked for does not fit its node.
fn resize_is_infeasible(pod: &Pod) -> bool {
    pod.status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|condition| {
            condition.type_ == "PodResizePending" && condition.reason.as_deref() == Some("Infeasible")
        })
}

/// Requests of one container, or of a pod as a whole; a limit stands in for a request that is not there.
fn declared(resources: Option<&ResourceRequirements>) -> Result<Resources, RequestsError> {
    let Some(resources) = resources else {
        return Ok(Resources::new());
    };
    let mut declared = resources
        .limits
        .as_ref()
        .map_or_else(|| Ok(Resources::new()), parse)?;
    declared.extend(
        resources
            .requests
            .as_ref()
            .map_or_else(|| Ok(Resources::new()), parse)?,
    );
    Ok(declared)
}

fn aggregate(
    spec: &PodSpec,
    of: impl Fn(&Container) -> Result<Resources, RequestsError>,
) -> Result<Resources, RequestsError> {
    let mut running = Resources::new();
    for container in &spec.containers {
        add(&mut running, &of(container)?)?;
    }
    let mut sidecars = Resources::new();
    let mut starting = Resources::new();
    for container in spec.init_containers.iter().flatten() {
        let own = of(container)?;
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut running, &own)?;
            add(&mut sidecars, &own)?;
            raise(&mut starting, &sidecars);
        } else {
            let mut together = sidecars.clone();
            add(&mut together, &own)?;
            raise(&mut starting, &together);
        }
    }
    raise(&mut running, &starting);
    Ok(running)
}

/// Replaces what is requested for the pod as a whole, and adds the overhead.
fn of_pod(spec: &PodSpec, mut requests: Resources) -> Result<Resources, RequestsError> {
    if let Some(resources) = &spec.resources {
        let whole =
            |resource: &str| resource == "cpu" || resource == "memory" || resource.starts_with("hugepages-");
        let asked = resources
            .requests
            .as_ref()
            .map_or_else(|| Ok(Resources::new()), parse)?;
        let limits = resources
            .limits
            .as_ref()
            .map_or_else(|| Ok(Resources::new()), parse)?;
        for (resource, limit) in limits.into_iter().filter(|(resource, _)| whole(resource)) {
            requests.entry(resource).or_insert(limit);
        }
        requests.extend(asked.into_iter().filter(|(resource, _)| whole(resource)));
    }
    if let Some(overhead) = &spec.overhead {
        add(&mut requests, &parse(overhead)?)?;
    }
    Ok(requests)
}

/// Amounts as the API spells them, parsed.
pub(super) fn parse(amounts: &BTreeMap<String, resource::Quantity>) -> Result<Resources, RequestsError> {
    amounts
        .iter()
        .map(|(resource, amount)| match Quantity::try_from(amount) {
            Ok(amount) => Ok((resource.clone(), amount)),
            Err(source) => Err(RequestsError::Quantity {
                resource: resource.clone(),
                source,
            }),
        })
        .collect()
}

/// Adds `more` to `sum`.
pub(super) fn add(sum: &mut Resources, more: &Resources) -> Result<(), RequestsError> {
    for (resource, amount) in more {
        let so_far = sum.entry(resource.clone()).or_default();
        *so_far = so_far
            .checked_add(*amount)
            .ok_or_else(|| RequestsError::Overflow {
                resource: resource.clone(),
            })?;
    }
    Ok(())
}

/// Raises each amount to at least that in `floor`.
fn raise(amounts: &mut Resources, floor: &Resources) {
    for (resource, least) in floor {
        let amount = amounts.entry(resource.clone()).or_insert(*least);
        *amount = (*amount).max(*least);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn container(cpu: &str) -> Value {
        json!({"name": format!("c{cpu}"), "resources": {"requests": {"cpu": cpu}}})
    }

    fn sidecar(cpu: &str) -> Value {
        let mut sidecar = container(cpu);
        sidecar["restartPolicy"] = "Always".into();
        sidecar
    }

    fn cpu(spec: Value) -> String {
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        pod_requests(&spec).unwrap()["cpu"].to_string()
    }

    #[test]
    fn containers_add_up_and_the_greediest_init_container_is_the_least() {
        assert_eq!(
            cpu(json!({"containers": [container("1"), container("500m")]})),
            "1500m"
        );
        assert_eq!(
            cpu(json!({"containers": [container("1")], "initContainers": [container("3"), container("2")]})),
            "3"
        );
    }

    #[test]
    fn sidecars_count_with_the_containers_and_with_the_init_containers_after_them() {
        let containers = json!([container("1")]);
        let init = json!([container("4"), sidecar("2"), container("3")]);
        assert_eq!(
            cpu(json!({"containers": containers, "initContainers": init})),
            "5"
        );
        let init = json!([container("4"), sidecar("2")]);
        assert_eq!(
            cpu(json!({"containers": containers, "initContainers": init})),
            "4"
        );
        assert_eq!(
            cpu(json!({"containers": containers, "initContainers": [sidecar("2")]})),
            "3"
        );
    }

    #[test]
    fn the_pod_as_a_whole_overrules_and_overhead_comes_on_top() {
        let pod = json!({
            "containers": [container("1")],
            "resources": {"requests": {"cpu": "5"}, "limits": {"cpu": "9", "memory": "1Gi"}},
            "overhead": {"cpu": "100m"},
        });
        assert_eq!(cpu(pod.clone()), "5100m");
        let requests = pod_requests(&serde_json::from_value(pod).unwrap()).unwrap();
        assert_eq!(requests["memory"].to_string(), "1Gi");
    }

    #[test]
    fn a_resize_in_place_holds_the_largest_of_asked_granted_and_actual() {
        let mut pod: Value = json!({
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}]},
            "status": {"containerStatuses": [{
                "name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "allocatedResources": {"cpu": "1"},
                "resources": {"requests": {"cpu": "1500m"}},
            }]},
        });
        let cpu = |pod: &Value| {
            let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
            running_pod_requests(&pod).unwrap()["cpu"].to_string()
        };
        assert_eq!(cpu(&pod), "2");
        pod["status"]["conditions"] =
            json!([{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]);
        assert_eq!(cpu(&pod), "1500m");
    }

    #[test]
    fn an_amount_that_is_no_quantity_is_named() {
        let spec = json!({"containers": [container("1Kb")]});
        let error = pod_requests(&serde_json::from_value(spec).unwrap()).unwrap_err();
        assert!(matches!(error, RequestsError::Quantity { resource, .. } if resource == "cpu"));
        let huge = "100000000000E";
        let spec = json!({"containers": [container(huge), container(huge)]});
        let error = pod_requests(&serde_json::from_value(spec).unwrap()).unwrap_err();
        assert_eq!(
            error,
            RequestsError::Overflow {
                resource: "cpu".into()
            }
        );
    }
}
