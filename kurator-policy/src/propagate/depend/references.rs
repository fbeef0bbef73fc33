use std::collections::BTreeSet;

use serde_json::Value;

use super::super::ObjectKey;

/// An object that another one names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Reference {
    /// The object.
    pub object: ObjectKey,
    /// Whether it may be missing.
    pub optional: bool,
}

/// Where pods are in the kinds of Kubernetes, and in most others.
const PODS: [&str; 3] = [
    "/spec/template/spec",
    "/spec/jobTemplate/spec/template/spec",
    "/spec/podTemplate/spec",
];

/// What every cluster has of its own.
fn is_local(object: &ObjectKey) -> bool {
    let (kind, name) = (object.kind.kind.as_str(), object.name.name.as_str());
    (kind, name) == ("ConfigMap", "kube-root-ca.crt") || (kind, name) == ("ServiceAccount", "default")
}

/// The objects an object names: of its pods, the ConfigMaps, Secrets, volume claims, service account, claim templates
/// and pod group; of a ServiceAccount, its image pull secrets; of an Ingress, its certificates and services; of a
/// StatefulSet, its service. What every cluster has of its own is left out.
///
/// ```
/// use kurator_policy::propagate::references;
/// use serde_json::json;
///
/// let web = json!({
///     "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "namespace": "shop" },
///     "spec": { "template": { "spec": {
///         "serviceAccountName": "web",
///         "containers": [{ "name": "web", "envFrom": [{ "configMapRef": { "name": "settings" } }] }],
///         "volumes": [{ "name": "tls", "secret": { "secretName": "tls", "optional": true } }],
///     } } },
/// });
/// let named: Vec<String> = references(&web).iter().map(|named| named.object.to_string()).collect();
/// assert_eq!(named, ["ConfigMap shop/settings", "Secret shop/tls", "ServiceAccount shop/web"]);
/// ```
#[must_use]
pub fn references(object: &Value) -> BTreeSet<Reference> {
    let mut found = Found {
        namespace: text(object, "/metadata/namespace").unwrap_or_default().to_owned(),
        references: BTreeSet::new(),
    };
    let kind = text(object, "/kind").unwrap_or_default();
    let group = text(object, "/apiVersion").unwrap_or_default();
    if (group, kind) == ("v1", "Pod") {
        found.pod(object.get("spec"));
        found.volcano_group(object);
    }
    for pod in PODS {
        found.pod(object.pointer(pod));
    }
    for template in ["/spec/template", "/spec/jobTemplate/spec/template"] {
        if let Some(template) = object.pointer(template) {
            found.volcano_group(template);
        }
    }
    if group.starts_with("batch.volcano.sh/") {
        for task in list(object.get("spec"), "/tasks") {
            found.pod(task.pointer("/template/spec"));
        }
    }
    match (group, kind) {
        ("v1", "ServiceAccount") => {
            for secret in list(Some(object), "/imagePullSecrets") {
                found.add("v1", "Secret", text(secret, "/name"), false);
            }
        }
        ("networking.k8s.io/v1", "Ingress") => found.ingress(object),
        ("apps/v1", "StatefulSet") => found.add("v1", "Service", text(object, "/spec/serviceName"), false),
        _ => {}
    }
    found.references
}

struct Found {
    namespace: String,
    references: BTreeSet<Reference>,
}

impl Found {
    fn add(&mut self, api_version: &str, kind: &str, name: Option<&str>, optional: bool) {
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return;
        };
        let object = ObjectKey::new(api_version, kind, self.namespace.clone(), name);
        if !is_local(&object) {
            self.references.insert(Reference { object, optional });
        }
    }

    fn volcano_group(&mut self, template: &Value) {
        let annotations = template.pointer("/metadata/annotations");
        let group = annotations.and_then(|all| all.get("scheduling.k8s.io/group-name")?.as_str());
        self.add("scheduling.volcano.sh/v1beta1", "PodGroup", group, false);
    }

    fn ingress(&mut self, ingress: &Value) {
        for tls in list(Some(ingress), "/spec/tls") {
            self.add("v1", "Secret", text(tls, "/secretName"), false);
        }
        let name = "/service/name";
        let default = ingress.pointer("/spec/defaultBackend");
        self.add(
            "v1",
            "Service",
            default.and_then(|backend| text(backend, name)),
            false,
        );
        for rule in list(Some(ingress), "/spec/rules") {
            for path in list(Some(rule), "/http/paths") {
                let backend = path.get("backend");
                self.add(
                    "v1",
                    "Service",
                    backend.and_then(|backend| text(backend, name)),
                    false,
                );
            }
        }
    }

    fn pod(&mut self, pod: Option<&Value>) {
        let Some(pod) = pod.filter(|pod| pod.is_object()) else {
            return;
        };
        let account = text(pod, "/serviceAccountName").or_else(|| text(pod, "/serviceAccount"));
        self.add("v1", "ServiceAccount", account, false);
        for secret in list(Some(pod), "/imagePullSecrets") {
            self.add("v1", "Secret", text(secret, "/name"), false);
        }
        let group = text(pod, "/schedulingGroup/podGroupName");
        self.add("scheduling.k8s.io/v1beta1", "PodGroup", group, false);
        for claim in list(Some(pod), "/resourceClaims") {
            let template = text(claim, "/resourceClaimTemplateName");
            self.add("resource.k8s.io/v1", "ResourceClaimTemplate", template, false);
            self.add(
                "resource.k8s.io/v1",
                "ResourceClaim",
                text(claim, "/resourceClaimName"),
                false,
            );
        }
        for volume in list(Some(pod), "/volumes") {
            self.volume(volume);
        }
        for containers in ["/containers", "/initContainers", "/ephemeralContainers"] {
            for container in list(Some(pod), containers) {
                self.container(container);
            }
        }
    }

    fn volume(&mut self, volume: &Value) {
        self.config_map(volume.get("configMap"), "/name");
        self.secret(volume.get("secret"), "/secretName");
        for source in list(Some(volume), "/projected/sources") {
            self.config_map(source.get("configMap"), "/name");
            self.secret(source.get("secret"), "/name");
        }
        let claim = text(volume, "/persistentVolumeClaim/claimName");
        self.add("v1", "PersistentVolumeClaim", claim, false);
        self.add("v1", "Secret", text(volume, "/azureFile/secretName"), false);
        for driver in [
            "csi/nodePublishSecretRef",
            "cephfs/secretRef",
            "flexVolume/secretRef",
            "iscsi/secretRef",
            "rbd/secretRef",
            "scaleIO/secretRef",
            "storageos/secretRef",
        ] {
            self.add("v1", "Secret", text(volume, &format!("/{driver}/name")), false);
        }
    }

    fn container(&mut self, container: &Value) {
        for source in list(Some(container), "/envFrom") {
            self.config_map(source.get("configMapRef"), "/name");
            self.secret(source.get("secretRef"), "/name");
        }
        for variable in list(Some(container), "/env") {
            self.config_map(variable.pointer("/valueFrom/configMapKeyRef"), "/name");
            self.secret(variable.pointer("/valueFrom/secretKeyRef"), "/name");
        }
    }

    fn config_map(&mut self, source: Option<&Value>, name: &str) {
        if let Some(source) = source {
            self.add("v1", "ConfigMap", text(source, name), optional(source));
        }
    }

    fn secret(&mut self, source: Option<&Value>, name: &str) {
        if let Some(source) = source {
            self.add("v1", "Secret", text(source, name), optional(source));
        }
    }
}

fn optional(source: &Value) -> bool {
    source.get("optional").and_then(Value::as_bool) == Some(true)
}

fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer).and_then(Value::as_str)
}

fn list<'a>(object: Option<&'a Value>, pointer: &str) -> impl Iterator<Item = &'a Value> {
    let items = object.and_then(|object| object.pointer(pointer)?.as_array());
    items.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn named(object: Value) -> Vec<String> {
        references(&object)
            .iter()
            .map(|reference| {
                let mark = if reference.optional { "?" } else { "" };
                format!(
                    "{} {}{mark}",
                    reference.object.kind.kind, reference.object.name.name
                )
            })
            .collect()
    }

    #[test]
    fn every_place_in_a_pod_is_looked_at() {
        let cron = json!({
            "apiVersion": "batch/v1", "kind": "CronJob", "metadata": { "namespace": "n", "name": "c" },
            "spec": { "jobTemplate": { "spec": { "template": { "spec": {
                "imagePullSecrets": [{ "name": "pull" }],
                "serviceAccountName": "default",
                "resourceClaims": [{ "name": "g", "resourceClaimTemplateName": "gpu" }],
                "initContainers": [{ "env": [{ "valueFrom": { "secretKeyRef": { "name": "init", "key": "k" } } }] }],
                "containers": [{
                    "envFrom": [{ "secretRef": { "name": "from", "optional": true } }],
                    "env": [{ "valueFrom": { "configMapKeyRef": { "name": "key", "key": "k" } } }],
                }],
                "volumes": [
                    { "configMap": { "name": "map" } },
                    { "persistentVolumeClaim": { "claimName": "data" } },
                    { "csi": { "nodePublishSecretRef": { "name": "csi" } } },
                    { "projected": { "sources": [
                        { "secret": { "name": "token" } }, { "configMap": { "name": "kube-root-ca.crt" } },
                    ] } },
                ],
            } } } } },
        });
        assert_eq!(
            named(cron),
            [
                "ResourceClaimTemplate gpu",
                "ConfigMap key",
                "ConfigMap map",
                "PersistentVolumeClaim data",
                "Secret csi",
                "Secret from?",
                "Secret init",
                "Secret pull",
                "Secret token",
            ]
        );
    }

    #[test]
    fn other_kinds_name_objects_too() {
        let ingress = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": { "namespace": "n" },
            "spec": {
                "tls": [{ "secretName": "tls" }],
                "rules": [{ "http": { "paths": [{ "backend": { "service": { "name": "web" } } }] } }],
            },
        });
        assert_eq!(named(ingress), ["Secret tls", "Service web"]);
        let set = json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "namespace": "n" },
            "spec": { "serviceName": "db", "template": {
                "metadata": { "annotations": { "scheduling.k8s.io/group-name": "g" } },
                "spec": { "schedulingGroup": { "podGroupName": "native" } },
            } },
        });
        assert_eq!(named(set), ["PodGroup native", "PodGroup g", "Service db"]);
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "namespace": "n" },
            "imagePullSecrets": [{ "name": "pull" }],
        });
        assert_eq!(named(account), ["Secret pull"]);
        assert_eq!(named(json!("nothing")), Vec::<String>::new());
    }
}
