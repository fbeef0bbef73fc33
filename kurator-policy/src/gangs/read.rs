use serde_json::Value;

use super::error::GangError;
use crate::placement::{Gang, Role};
use crate::propagate::{ObjectKey, ReplicaRequirements};

/// The annotation by which a pod names its Volcano pod group.
const VOLCANO_GROUP: &str = "scheduling.k8s.io/group-name";
/// The annotation by which a workload asks Volcano for a pod group of its own.
const VOLCANO_MINIMUM: &str = "scheduling.volcano.sh/group-min-member";
const VOLCANO_QUEUE: &str = "scheduling.volcano.sh/queue-name";

/// Where the pod template of a workload is.
const TEMPLATES: [&str; 2] = ["/spec/template", "/spec/jobTemplate/spec/template"];

/// The gang an object is; `None` if its replicas can do without each other.
///
/// Read are a Volcano Job (`batch.volcano.sh/v1alpha1`, with its defaults), the Volcano annotations of a workload, and
/// the pod group that its pods name: Volcano's (`scheduling.volcano.sh`, by annotation) or Kubernetes' own
/// (`scheduling.k8s.io`, by `spec.schedulingGroup`). `replicas` are those of the workload, and `group` finds a pod group
/// on the hub; its version is that of the hub, so look it up by group, kind and name.
///
/// # Errors
/// [`GangError`] if the gang cannot run as it is written, or its pod group is not known.
///
/// ```
/// use kurator_policy::gangs::gang_of;
/// use serde_json::json;
///
/// let job = json!({
///     "apiVersion": "batch.volcano.sh/v1alpha1", "kind": "Job",
///     "metadata": { "name": "train", "namespace": "ml" },
///     "spec": { "minAvailable": 3, "queue": "research", "tasks": [
///         { "name": "ps", "replicas": 1, "template": { "spec": { "containers": [] } } },
///         { "name": "worker", "replicas": 4, "minAvailable": 2, "template": { "spec": { "containers": [] } } },
///     ] },
/// });
/// let gang = gang_of(&job, None, |_| None)?.ok_or("a gang")?;
/// assert_eq!((gang.min, gang.members(0)), (3, 5));
/// assert_eq!((gang.roles[0].min, gang.roles[1].min), (1, 2));
/// assert_eq!(gang.queue.as_deref(), Some("research"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn gang_of<'g>(
    object: &Value,
    replicas: Option<u32>,
    group: impl Fn(&ObjectKey) -> Option<&'g Value>,
) -> Result<Option<Gang>, GangError> {
    let Some(key) = ObjectKey::of(object) else {
        return Ok(None);
    };
    if key.kind.group_version().0 == "batch.volcano.sh" && key.kind.kind == "Job" {
        return volcano_job(&key, object).map(Some);
    }
    let Some(replicas) = replicas else { return Ok(None) };
    let gang = match group_of(object) {
        Some(named) => {
            let found = group(&named).ok_or_else(|| GangError::GroupMissing {
                object: Box::new(key.clone()),
                group: Box::new(named.clone()),
            })?;
            of_group(&named, found)?
        }
        None => of_annotations(&key, object)?,
    };
    match gang {
        Some(gang) if gang.min > replicas => Err(GangError::Minimum {
            object: Box::new(key),
            min: gang.min,
            members: replicas,
        }),
        gang => Ok(gang),
    }
}

/// The pod group that the pods of a workload name, in whatever version.
#[must_use]
pub fn group_of(object: &Value) -> Option<ObjectKey> {
    let namespace = text(object, "/metadata/namespace").unwrap_or_default();
    let template = TEMPLATES.iter().find_map(|pointer| object.pointer(pointer))?;
    if let Some(name) = text(template, "/spec/schedulingGroup/podGroupName") {
        return Some(ObjectKey::new(
            "scheduling.k8s.io/v1beta1",
            "PodGroup",
            namespace,
            name,
        ));
    }
    let name = annotation(template, VOLCANO_GROUP)?;
    let version = "scheduling.volcano.sh/v1beta1";
    Some(ObjectKey::new(version, "PodGroup", namespace, name))
}

/// Whether what an override made of a gang can still run: `rendered` is the object for one cluster, `applied` its
/// replicas.
///
/// # Errors
/// [`GangError`] naming the minimum that is not reached.
pub fn keeps_minimum(gang: &Gang, rendered: &Value, applied: Option<u32>) -> Result<(), GangError> {
    let Some(object) = ObjectKey::of(rendered) else {
        return Ok(());
    };
    if gang.roles.is_empty() {
        return match applied {
            Some(members) if members < gang.min => Err(GangError::Minimum {
                object: Box::new(object),
                min: gang.min,
                members,
            }),
            _ => Ok(()),
        };
    }
    // A Job states its minimums itself, and an override may lower those too.
    gang_of(rendered, applied, |_| None).map(|_| ())
}

fn volcano_job(key: &ObjectKey, job: &Value) -> Result<Gang, GangError> {
    let tasks = job.pointer("/spec/tasks").and_then(Value::as_array);
    let tasks = tasks
        .filter(|tasks| !tasks.is_empty())
        .ok_or_else(|| GangError::NoTask {
            object: Box::new(key.clone()),
        })?;
    let mut gang = Gang::default();
    let (mut least, mut members) = (0_u32, 0_u32);
    for (index, task) in tasks.iter().enumerate() {
        let name = text(task, "/name").map_or_else(|| format!("default{index}"), str::to_owned);
        let replicas = number(key, task, "replicas")?.unwrap_or(1);
        let min = number(key, task, "minAvailable")?.unwrap_or(replicas);
        if min > replicas {
            return Err(GangError::TaskMinimum {
                object: Box::new(key.clone()),
                task: name,
                min,
                replicas,
            });
        }
        let pod = task
            .pointer("/template/spec")
            .and_then(ReplicaRequirements::of_pod);
        let pod = pod.ok_or_else(|| GangError::Pod {
            object: Box::new(key.clone()),
            task: name.clone(),
        })?;
        let mut role = Role::new(name, replicas, min);
        role.request = pod.request;
        role.node_selector = pod.node_selector;
        role.node_affinity = pod.node_affinity;
        role.tolerations = pod.tolerations;
        least = least.saturating_add(min);
        members = members.saturating_add(replicas);
        gang = gang.with_role(role);
    }
    let spec = job.get("spec").unwrap_or(&Value::Null);
    // Volcano writes 0 for a minimum that is left out.
    let asked = number(key, spec, "minAvailable")?.filter(|min| *min > 0);
    gang.min = asked.unwrap_or(least);
    if gang.min > members {
        return Err(GangError::Minimum {
            object: Box::new(key.clone()),
            min: gang.min,
            members,
        });
    }
    Ok(gang.with_queue(text(spec, "/queue").unwrap_or("default")))
}

fn of_group(key: &ObjectKey, group: &Value) -> Result<Option<Gang>, GangError> {
    let spec = group.get("spec").unwrap_or(&Value::Null);
    if key.kind.group_version().0 == "scheduling.volcano.sh" {
        let min = number(key, spec, "minMember")?.unwrap_or(1);
        return Ok(Some(
            Gang::of(min).with_queue(text(spec, "/queue").unwrap_or("default")),
        ));
    }
    // A group without a gang policy schedules its pods one by one.
    let Some(policy) = spec.pointer("/schedulingPolicy/gang") else {
        return Ok(None);
    };
    let mut gang = Gang::of(number(key, policy, "minCount")?.unwrap_or(1));
    gang.topology = text(spec, "/schedulingConstraints/topology/0/key").map(str::to_owned);
    Ok(Some(gang))
}

fn of_annotations(key: &ObjectKey, object: &Value) -> Result<Option<Gang>, GangError> {
    let metadata = object.get("metadata").unwrap_or(&Value::Null);
    let own = |name| annotation(object, name);
    let Some(minimum) = own(VOLCANO_MINIMUM).filter(|_| metadata.is_object()) else {
        return Ok(None);
    };
    let min = minimum.parse().map_err(|_| GangError::Number {
        object: Box::new(key.clone()),
        field: VOLCANO_MINIMUM.to_owned(),
        value: format!("{minimum:?}"),
    })?;
    Ok(Some(
        Gang::of(min).with_queue(own(VOLCANO_QUEUE).unwrap_or("default")),
    ))
}

fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
}

fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.pointer("/metadata/annotations")?.get(name)?.as_str()
}

fn number(key: &ObjectKey, object: &Value, field: &str) -> Result<Option<u32>, GangError> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().and_then(|count| u32::try_from(count).ok()) {
            Some(count) => Ok(Some(count)),
            None => Err(GangError::Number {
                object: Box::new(key.clone()),
                field: field.to_owned(),
                value: value.to_string(),
            }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(spec: Value) -> Value {
        json!({
            "apiVersion": "batch.volcano.sh/v1alpha1", "kind": "Job",
            "metadata": { "name": "j", "namespace": "n" }, "spec": spec,
        })
    }

    fn task(name: &str, replicas: u32) -> Value {
        json!({ "name": name, "replicas": replicas, "template": { "spec": {
            "containers": [{ "name": "c", "resources": { "requests": { "cpu": "2" } } }],
            "nodeSelector": { "pool": name },
        } } })
    }

    #[test]
    fn a_job_without_minimums_needs_everybody() {
        let gang = gang_of(
            &job(json!({ "tasks": [task("a", 2), task("b", 3)] })),
            None,
            |_| None,
        );
        let gang = gang.unwrap().unwrap();
        assert_eq!((gang.min, gang.queue.as_deref()), (5, Some("default")));
        assert_eq!(gang.roles[1].request["cpu"].to_string(), "2");
        assert_eq!(gang.roles[1].node_selector["pool"], "b");
    }

    #[test]
    fn a_job_that_volcano_would_refuse_is_refused_with_what_to_change() {
        let small = |field: &str, value: u32| {
            let mut task = task("a", 2);
            task[field] = json!(value);
            job(json!({ "tasks": [task] }))
        };
        for (object, message) in [
            (
                job(json!({ "tasks": [] })),
                "Job n/j has no task; add one to spec.tasks",
            ),
            (
                small("minAvailable", 3),
                "task a of Job n/j has 2 replicas and asks for 3; lower its minAvailable",
            ),
            (
                job(json!({ "minAvailable": 4, "tasks": [task("a", 2)] })),
                "Job n/j has 2 members and asks for 4; lower the minimum or add replicas",
            ),
            (
                job(json!({ "minAvailable": -1, "tasks": [task("a", 2)] })),
                "Job n/j: minAvailable is -1, which is no number of members",
            ),
        ] {
            assert_eq!(gang_of(&object, None, |_| None).unwrap_err().to_string(), message);
        }
    }

    fn workload(template: Value) -> Value {
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": { "name": "w", "namespace": "n" }, "spec": { "template": template },
        })
    }

    #[test]
    fn pods_name_a_pod_group_of_either_kind() {
        let native = json!({ "spec": {
            "schedulingPolicy": { "gang": { "minCount": 4 } },
            "schedulingConstraints": { "topology": [{ "key": "rack" }] },
        } });
        let object = workload(json!({ "spec": { "schedulingGroup": { "podGroupName": "g" } } }));
        let gang = gang_of(&object, Some(6), |key| (key.name.name == "g").then_some(&native));
        let gang = gang.unwrap().unwrap();
        assert_eq!(
            (gang.min, gang.topology.as_deref(), gang.queue),
            (4, Some("rack"), None)
        );

        let volcano = json!({ "spec": { "minMember": 3, "queue": "q" } });
        let object =
            workload(json!({ "metadata": { "annotations": { "scheduling.k8s.io/group-name": "v" } } }));
        let found =
            |key: &ObjectKey| (key.kind.group_version().0 == "scheduling.volcano.sh").then_some(&volcano);
        let gang = gang_of(&object, Some(6), found).unwrap().unwrap();
        assert_eq!((gang.min, gang.queue.as_deref()), (3, Some("q")));

        assert_eq!(
            gang_of(&object, Some(2), found).unwrap_err().to_string(),
            "Job n/w has 2 members and asks for 3; lower the minimum or add replicas"
        );
        let missing = gang_of(&object, Some(6), |_| None).unwrap_err();
        assert_eq!(missing.token(), "PodGroupMissing");
        let basic = json!({ "spec": { "schedulingPolicy": { "basic": {} } } });
        let object = workload(json!({ "spec": { "schedulingGroup": { "podGroupName": "g" } } }));
        assert_eq!(gang_of(&object, Some(6), |_| Some(&basic)), Ok(None));
    }

    #[test]
    fn an_override_may_not_push_a_gang_below_its_minimum() {
        let object = workload(json!({}));
        assert!(keeps_minimum(&Gang::of(3), &object, Some(3)).is_ok());
        assert_eq!(
            keeps_minimum(&Gang::of(3), &object, Some(2))
                .unwrap_err()
                .to_string(),
            "Job n/w has 2 members and asks for 3; lower the minimum or add replicas"
        );
        let whole = job(json!({ "minAvailable": 2, "tasks": [task("a", 2)] }));
        let gang = gang_of(&whole, None, |_| None).unwrap().unwrap();
        assert!(keeps_minimum(&gang, &whole, None).is_ok());
        let cut = job(json!({ "minAvailable": 2, "tasks": [task("a", 1)] }));
        assert!(keeps_minimum(&gang, &cut, None).is_err());
    }
}
