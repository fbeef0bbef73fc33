//! Which storage classes the volume claims in a backup ask for.

use std::collections::{BTreeMap, BTreeSet};

use kurator_core::names::NamespacedName;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where the volume of a claim comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ClaimedClass {
    /// A volume of this storage class is made.
    Named(String),
    /// It names no class: a volume of the cluster's default one is made.
    Default,
    /// It is bound to a volume that somebody made by hand, or wants one: its class need not exist.
    Fixed,
}

/// The volume claims in a backup.
pub type Claims = BTreeMap<NamespacedName, ClaimedClass>;

/// Says of a volume that it was made for a claim, and by whom.
const PROVISIONED: &str = "pv.kubernetes.io/provisioned-by";
/// Where the class of a claim stood before it had a field, and still counts.
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// Puts claims together from objects in any order.
#[derive(Debug, Default)]
pub(crate) struct ClaimReader {
    claims: Vec<(NamespacedName, Option<String>, String)>,
    by_hand: BTreeSet<String>,
}

impl ClaimReader {
    /// Takes what matters of an object; claims and volumes do.
    pub(crate) fn take(&mut self, object: &Value) {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str);
        let annotation = |name: &str| object.pointer("/metadata/annotations")?.get(name)?.as_str();
        let name = text("/metadata/name").unwrap_or_default().to_owned();
        match text("/kind") {
            Some("PersistentVolumeClaim") => {
                let namespace = text("/metadata/namespace").unwrap_or_default();
                let class = annotation(OLD_CLASS).or(text("/spec/storageClassName"));
                self.claims.push((
                    NamespacedName::new(namespace, name),
                    class.map(str::to_owned),
                    text("/spec/volumeName").unwrap_or_default().to_owned(),
                ));
            }
            Some("PersistentVolume") if annotation(PROVISIONED).is_none() => {
                self.by_hand.insert(name);
            }
            _ => {}
        }
    }

    pub(crate) fn finish(self) -> Claims {
        let by_hand = self.by_hand;
        let class = |class: Option<String>, volume: &str| match class {
            _ if by_hand.contains(volume) => ClaimedClass::Fixed,
            Some(class) if class.is_empty() => ClaimedClass::Fixed,
            Some(class) => ClaimedClass::Named(class),
            None => ClaimedClass::Default,
        };
        self.claims
            .into_iter()
            .map(|(name, wanted, volume)| (name, class(wanted, &volume)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_wants_its_class_the_default_one_or_the_volume_somebody_made() {
        let claim = |name: &str, spec: Value| json!({"kind": "PersistentVolumeClaim", "metadata": {"namespace": "shop", "name": name}, "spec": spec});
        let mut reader = ClaimReader::default();
        for object in [
            claim("fast", json!({"storageClassName": "fast", "volumeName": "made"})),
            claim("any", json!({})),
            claim("none", json!({"storageClassName": ""})),
            claim("nfs", json!({"storageClassName": "nfs", "volumeName": "by-hand"})),
            json!({
                "kind": "PersistentVolumeClaim",
                "metadata": {"namespace": "shop", "name": "old", "annotations": {OLD_CLASS: "slow"}},
            }),
            json!({"kind": "PersistentVolume", "metadata": {"name": "by-hand"}}),
            json!({"kind": "PersistentVolume", "metadata": {"name": "made", "annotations": {PROVISIONED: "csi"}}}),
        ] {
            reader.take(&object);
        }
        let claims = reader.finish();
        let of = |name: &str| claims[&NamespacedName::new("shop", name)].clone();
        assert_eq!(of("fast"), ClaimedClass::Named("fast".into()));
        assert_eq!(of("old"), ClaimedClass::Named("slow".into()));
        assert_eq!(of("any"), ClaimedClass::Default);
        assert_eq!(
            (of("none"), of("nfs")),
            (ClaimedClass::Fixed, ClaimedClass::Fixed)
        );
    }
}
