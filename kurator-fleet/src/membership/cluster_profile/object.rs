//! A `ClusterProfile` reduced to what matters of it here.

use std::collections::BTreeMap;

use kube::ResourceExt;
use kube::api::DynamicObject;
use kurator_core::membership::Member;
use kurator_core::names::{ClusterName, NamespacedName, bounded_name};
use serde::Deserialize;
use serde_json::Value;

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";

/// A profile: whom it describes, and which ways lead there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Profile {
    pub(super) member: Member,
    pub(super) at: NamespacedName,
    /// In the order of the profile.
    pub(super) access: Vec<Access>,
}

/// One way of access that the inventory offers.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Access {
    pub(super) name: String,
    /// In the form of `clusters[].cluster` of a kubeconfig.
    #[serde(default)]
    pub(super) cluster: Value,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    properties: Vec<Property>,
    access_providers: Vec<Access>,
    /// The name they had before.
    credential_providers: Vec<Access>,
}

#[derive(Deserialize)]
struct Property {
    name: String,
    value: String,
}

/// What a profile says; `None` if its status is not in the form of the API.
pub(super) fn profile(object: &DynamicObject) -> Option<Profile> {
    let name = object.name_any();
    let at = NamespacedName::new(object.namespace()?, name.clone());
    let status = match object.data.get("status") {
        None | Some(Value::Null) => Status::default(),
        Some(status) => match Status::deserialize(status) {
            Ok(status) => status,
            Err(error) => {
                tracing::warn!(profile = %at, %error, "the status of a ClusterProfile cannot be read");
                return None;
            }
        },
    };
    let short = name
        .parse::<ClusterName>()
        .or_else(|_| bounded_name([name.as_str()]).parse());
    let mut member = Member::new(short.ok()?);
    member.labels = object.labels().clone();
    let properties: BTreeMap<&str, &str> = status
        .properties
        .iter()
        .map(|property| (property.name.as_str(), property.value.as_str()))
        .collect();
    member.region = properties.get(REGION).map(|region| (*region).to_owned());
    member.zones = properties
        .get(ZONE)
        .map(|zone| (*zone).to_owned())
        .into_iter()
        .collect();
    // One that is offered under both names is the same.
    let mut access = status.access_providers;
    for old in status.credential_providers {
        if access.iter().all(|new| new.name != old.name) {
            access.push(old);
        }
    }
    Some(Profile { member, at, access })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, status: &Value) -> DynamicObject {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "multicluster.x-k8s.io/v1alpha1", "kind": "ClusterProfile",
            "metadata": {"name": name, "namespace": "inventory", "labels": {"x-k8s.io/cluster-manager": "ocm"}},
            "spec": {"clusterManager": {"name": "ocm"}},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn a_profile_names_a_member_its_place_and_every_way_there_once() {
        let status = serde_json::json!({
            "version": {"kubernetes": "v1.37.2"},
            "properties": [{"name": REGION, "value": "us-west-2"}, {"name": "nodes", "value": "3"}],
            "accessProviders": [{"name": "new", "cluster": {"server": "https://a"}}],
            "credentialProviders": [
                {"name": "new", "cluster": {"server": "https://old"}},
                {"name": "old", "cluster": {"server": "https://b"}},
            ],
        });
        let found = profile(&object("east", &status)).unwrap();
        assert_eq!(found.member.name, "east");
        assert_eq!(found.member.labels["x-k8s.io/cluster-manager"], "ocm");
        assert_eq!(found.member.region.as_deref(), Some("us-west-2"));
        let ways: Vec<_> = found
            .access
            .iter()
            .map(|access| (access.name.as_str(), access.cluster["server"].as_str().unwrap()))
            .collect();
        assert_eq!(ways, [("new", "https://a"), ("old", "https://b")]);
    }

    #[test]
    fn a_profile_without_a_status_is_a_member_without_a_way_and_a_broken_one_is_none() {
        assert_eq!(profile(&object("east", &Value::Null)).unwrap().access, []);
        let broken = serde_json::json!({"accessProviders": "none"});
        assert_eq!(profile(&object("east", &broken)), None);
    }

    #[test]
    fn long_names_that_differ_at_their_end_are_two_members() {
        let named = |end: &str| {
            let name = format!("{}-{end}", "x".repeat(80));
            profile(&object(&name, &Value::Null)).unwrap().member.name
        };
        assert_ne!(named("a"), named("b"));
    }
}
