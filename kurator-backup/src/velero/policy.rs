//! Whether a ConfigMap is a resource policy that a server takes (Velero 1.18).

use std::collections::BTreeMap;

use serde_json::Value;

const KEYS: [&str; 5] = [
    "clusterScopedFilterPolicy",
    "includeExcludePolicy",
    "namespacedFilterPolicies",
    "version",
    "volumePolicies",
];
const ACTIONS: [&str; 4] = ["custom", "fs-backup", "skip", "snapshot"];
const CONDITIONS: [&str; 9] = [
    "capacity",
    "csi",
    "nfs",
    "pvcAccessModes",
    "pvcLabels",
    "pvcPhase",
    "pvcVolumeMode",
    "storageClass",
    "volumeTypes",
];

/// Why a server refuses a backup that names this ConfigMap; `None` if it does not, or if nobody but the server can
/// tell.
pub(super) fn objection(data: Option<&BTreeMap<String, String>>) -> Option<&'static str> {
    let mut texts = data.into_iter().flat_map(BTreeMap::values);
    let (Some(text), None) = (texts.next(), texts.next()) else {
        return Some("it must have one key");
    };
    let Ok(policy) = serde_saphyr::from_str::<Value>(text) else {
        // Another reader of YAML may make something of it.
        return None;
    };
    let Some(policy) = policy.as_object() else {
        return Some("it must be a mapping");
    };
    if policy.get("version").and_then(Value::as_str) != Some("v1") {
        return Some("its version must be v1");
    }
    if policy.keys().any(|key| !KEYS.contains(&key.as_str())) {
        return Some("it has a key that is unknown");
    }
    let policies = policy.get("volumePolicies").and_then(Value::as_array);
    policies.into_iter().flatten().find_map(volume_policy)
}

fn volume_policy(policy: &Value) -> Option<&'static str> {
    let action = policy
        .pointer("/action/type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !ACTIONS.contains(&action) {
        return Some("the type of an action is unknown");
    }
    let conditions = policy.get("conditions").and_then(Value::as_object);
    let mut keys = conditions.into_iter().flat_map(|conditions| conditions.keys());
    keys.any(|key| !CONDITIONS.contains(&key.as_str()))
        .then_some("a condition is unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<&'static str> {
        objection(Some(&[("policy.yaml".to_owned(), text.to_owned())].into()))
    }

    #[test]
    fn a_policy_is_told_from_any_other_config_map() {
        let good =
            "version: v1\nvolumePolicies:\n- conditions: {storageClass: [gp3]}\n  action: {type: skip}\n";
        assert_eq!(of(good), None);
        assert_eq!(of("version: v1"), None);
        for bad in [
            "version: v2",
            "text",
            "version: v1\nother: 1",
            "version: v1\nvolumePolicies: [{conditions: {}, action: {type: burn}}]",
            "version: v1\nvolumePolicies: [{conditions: {colour: red}, action: {type: skip}}]",
        ] {
            assert!(of(bad).is_some(), "{bad}");
        }
        assert!(objection(None).is_some());
        let two = [
            ("a".to_owned(), good.to_owned()),
            ("b".to_owned(), good.to_owned()),
        ];
        assert!(objection(Some(&two.into())).is_some());
    }
}
