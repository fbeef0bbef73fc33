//! What a test restore takes, and how nothing of it runs.

/// The kinds a verification restores, as a restore names them. All others are left out: pods and what is derived from
/// workloads would run, services and ingresses would take part in traffic, volume claims would take volumes, and the
/// controllers of custom resources would act on them wherever they are.
pub const KINDS: [&str; 12] = {
    let known = crate::restore::WELL_KNOWN;
    let mut kinds = [""; 12];
    let mut index = 0;
    while index < known.len() {
        kinds[index] = known[index].0;
        index += 1;
    }
    kinds
};

/// Resource modifiers (`version: v1`) by which the workloads among [`KINDS`] run nothing: none of them has a replica,
/// a time or a node. The quota of a scratch namespace says the same once more.
#[must_use]
pub fn modifiers() -> String {
    let nowhere =
        r#"{"spec":{"template":{"spec":{"nodeSelector":{"backup.kurator.dev/scratch":"nowhere"}}}}}"#;
    let rules = [
        ("deployments.apps", r#"{"spec":{"replicas":0}}"#),
        ("statefulsets.apps", r#"{"spec":{"replicas":0}}"#),
        ("cronjobs.batch", r#"{"spec":{"suspend":true}}"#),
        ("daemonsets.apps", nowhere),
    ];
    let mut text = "version: v1\nresourceModifierRules:\n".to_owned();
    for (resource, patch) in rules {
        text.push_str("- conditions:\n    groupResource: ");
        text.push_str(resource);
        text.push_str("\n  mergePatches:\n  - patchData: '");
        text.push_str(patch);
        text.push_str("'\n");
    }
    text
}
