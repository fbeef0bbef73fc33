//! Resource modifiers as a server reads them (Velero 1.18): whether a text is some, and those that replace storage
//! classes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Modifiers {
    #[serde(default)]
    version: String,
    #[serde(default)]
    resource_modifier_rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    conditions: Conditions,
    #[serde(default)]
    patches: Vec<Patch>,
    #[serde(default)]
    merge_patches: Vec<Value>,
    #[serde(default)]
    strategic_patches: Vec<Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Conditions {
    #[serde(default)]
    group_resource: String,
}

#[derive(Deserialize)]
struct Patch {
    #[serde(default)]
    operation: String,
    #[serde(default)]
    path: String,
}

const OPERATIONS: [&str; 6] = ["add", "copy", "move", "remove", "replace", "test"];

/// How many claim templates of a stateful set are changed: the patches count them, and cannot be told of all.
const TEMPLATES: usize = 8;

/// The modifiers of a restore that also replaces storage classes, as JSON, which is YAML too. All conditions are about
/// the object as it is in the backup, so that classes may be swapped, and `given` has the last word.
pub(super) fn with_storage_classes(
    given: Option<&str>,
    classes: &BTreeMap<String, String>,
) -> Result<Option<String>, String> {
    if classes.is_empty() {
        return Ok(given.map(str::to_owned));
    }
    let mut rules = Vec::new();
    for (class, becomes) in classes {
        let mut replace = |resource: &str, path: String| {
            // In quotes, or a class called 1 is a number.
            rules.push(json!({
                "conditions": {
                    "groupResource": resource,
                    "matches": [{"path": path, "value": format!("\"{class}\"")}],
                },
                "patches": [{"operation": "replace", "path": path, "value": format!("\"{becomes}\"")}],
            }));
        };
        replace("persistentvolumeclaims", "/spec/storageClassName".into());
        replace("persistentvolumes", "/spec/storageClassName".into());
        for index in 0..TEMPLATES {
            let path = format!("/spec/volumeClaimTemplates/{index}/spec/storageClassName");
            replace("statefulsets.apps", path);
        }
    }
    if let Some(given) = given {
        if let Some(problem) = offence(given) {
            return Err(format!(
                "the resource modifiers are not as a server reads them: {problem}"
            ));
        }
        let given: Value = serde_saphyr::from_str(given).map_err(|error| error.to_string())?;
        let more = given.get("resourceModifierRules").and_then(Value::as_array);
        rules.extend(more.into_iter().flatten().cloned());
    }
    Ok(Some(
        json!({"version": "v1", "resourceModifierRules": rules}).to_string(),
    ))
}

/// Why a server refuses a restore with these modifiers; `None` if it does not.
pub(super) fn offence(text: &str) -> Option<String> {
    let modifiers = match serde_saphyr::from_str::<Modifiers>(text) {
        Ok(modifiers) => modifiers,
        Err(error) => return Some(error.to_string()),
    };
    if !modifiers.version.eq_ignore_ascii_case("v1") {
        return Some("their version must be v1".into());
    }
    if modifiers.resource_modifier_rules.is_empty() {
        return Some("they have no rules".into());
    }
    modifiers
        .resource_modifier_rules
        .iter()
        .enumerate()
        .find_map(|(index, rule)| in_rule(rule).map(|problem| format!("rule {}: {problem}", index + 1)))
}

fn in_rule(rule: &Rule) -> Option<&'static str> {
    if rule.conditions.group_resource.is_empty() {
        return Some("conditions.groupResource is missing");
    }
    let lists = [
        rule.patches.is_empty(),
        rule.merge_patches.is_empty(),
        rule.strategic_patches.is_empty(),
    ];
    if lists.into_iter().filter(|empty| !empty).count() > 1 {
        return Some("only one of patches, mergePatches and strategicPatches may be given");
    }
    rule.patches.iter().find_map(|patch| {
        let operation = patch.operation.to_ascii_lowercase();
        if !OPERATIONS.contains(&operation.as_str()) {
            Some("the operation of a patch is unknown")
        } else if patch.path.is_empty() {
            Some("the path of a patch is missing")
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modifiers_that_replace_storage_classes_are_as_a_server_reads_them_and_keep_those_given() {
        let classes = BTreeMap::from([("gold".to_owned(), "fast".to_owned())]);
        assert_eq!(with_storage_classes(None, &BTreeMap::new()), Ok(None));
        let given = "version: v1\nresourceModifierRules:\n- conditions: {groupResource: pods}\n  patches: [{operation: remove, path: /spec/nodeName}]";
        let text = with_storage_classes(Some(given), &classes).unwrap().unwrap();
        assert_eq!(offence(&text), None, "{text}");
        let read: Value = serde_json::from_str(&text).unwrap();
        let rules = read["resourceModifierRules"].as_array().unwrap();
        assert_eq!(rules.len(), 2 + TEMPLATES + 1);
        assert_eq!(rules[0]["patches"][0]["value"], "\"fast\"");
        assert_eq!(rules.last().unwrap()["conditions"]["groupResource"], "pods");
        assert!(with_storage_classes(Some("version: v9"), &classes).is_err());
    }

    #[test]
    fn modifiers_are_told_from_what_a_server_refuses() {
        let rule = |more: &str| {
            format!("version: v1\nresourceModifierRules:\n- conditions: {{groupResource: pods}}\n{more}")
        };
        for good in [
            rule(""),
            rule("  patches: [{operation: add, path: /a, value: b}]"),
            rule("  mergePatches: [{patchData: '{}'}]"),
            rule("").replace("v1", "V1"),
        ] {
            assert_eq!(offence(&good), None, "{good}");
        }
        for bad in [
            String::from("text"),
            "version: v1".into(),
            rule("").replace("v1", "v2"),
            rule("").replace("groupResource", "resource"),
            rule("  patches: [{operation: burn, path: /a}]"),
            rule("  patches: [{operation: add}]"),
            rule("  patches: [{operation: add, path: /a}]\n  mergePatches: [{patchData: '{}'}]"),
            rule("  colour: red"),
        ] {
            assert!(offence(&bad).is_some(), "{bad}");
        }
    }
}
