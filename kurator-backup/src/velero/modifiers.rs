//! Whether a text is as a server reads resource modifiers (Velero 1.18).

use serde::Deserialize;
use serde_json::Value;

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
