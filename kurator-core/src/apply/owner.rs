use std::{collections::BTreeMap, fmt};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

/// Label of everything placed on a member: the identity of the hub, the UID of its `kube-system` namespace.
pub const LABEL_HUB: &str = "kurator.dev/hub";
/// Label of everything placed on a member: the UID of the hub object it was placed for.
pub const LABEL_OWNER: &str = "kurator.dev/owner";
/// Annotation of everything placed on a member: the hub object it was placed for, for people to read.
pub const ANNOTATION_OWNER_NAME: &str = "kurator.dev/owner-name";
/// The field manager of everything written to members.
pub const FIELD_MANAGER: &str = "kurator";

/// On whose behalf objects are placed on members: one object of one hub, say a DistributionPolicy.
///
/// ```
/// use kurator_core::apply::Owner;
///
/// let owner = Owner::new("7c1f-hub", "42aa-policy", "DistributionPolicy default/storefront")?;
/// assert_eq!(owner.selector(), "kurator.dev/hub=7c1f-hub,kurator.dev/owner=42aa-policy");
/// assert!(Owner::new("not a label value", "42aa-policy", "").is_err());
/// # Ok::<(), kurator_core::apply::OwnerError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Owner {
    hub: String,
    uid: String,
    name: String,
}

/// An identity that cannot be a label value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error(
    "{what} {value:?} is not 1 to 63 letters, digits, '-', '_' or '.' with a letter or digit at both ends"
)]
pub struct OwnerError {
    /// `hub` or `owner`.
    pub what: &'static str,
    /// The text that was refused.
    pub value: String,
}

impl Owner {
    /// The object with this UID of the hub with this identity; `name` is for people.
    ///
    /// # Errors
    /// [`OwnerError`] unless both identities are label values, as UIDs are.
    pub fn new(
        hub: impl Into<String>,
        uid: impl Into<String>,
        name: impl Into<String>,
    ) -> Result<Self, OwnerError> {
        let (hub, uid) = (hub.into(), uid.into());
        for (what, value) in [("hub", &hub), ("owner", &uid)] {
            if !is_label_value(value) {
                return Err(OwnerError {
                    what,
                    value: value.clone(),
                });
            }
        }
        Ok(Self {
            hub,
            uid,
            name: name.into(),
        })
    }

    /// Identity of the hub.
    pub fn hub(&self) -> &str {
        &self.hub
    }

    /// UID of the hub object.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// The hub object, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The label selector of everything this owner has placed.
    pub fn selector(&self) -> String {
        format!("{LABEL_HUB}={},{LABEL_OWNER}={}", self.hub, self.uid)
    }

    /// The labels of everything this owner has placed.
    pub fn labels(&self) -> BTreeMap<String, String> {
        [(LABEL_HUB, &self.hub), (LABEL_OWNER, &self.uid)]
            .map(|(key, value)| (key.to_owned(), value.clone()))
            .into()
    }

    /// Whether an object carries this owner's labels. Labels can be copied (the endpoint controllers copy those
    /// of a Service): [`Owner::placed`] also asks who wrote them.
    pub fn labelled(&self, metadata: &ObjectMeta) -> bool {
        label(metadata, LABEL_HUB) == Some(&self.hub) && label(metadata, LABEL_OWNER) == Some(&self.uid)
    }

    /// Whether `manager` has placed the object for this owner: the labels are there, and it has applied to it.
    pub fn placed(&self, metadata: &ObjectMeta, manager: &str) -> bool {
        let applied = |entry: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry| {
            entry.manager.as_deref() == Some(manager) && entry.operation.as_deref() == Some("Apply")
        };
        self.labelled(metadata) && metadata.managed_fields.iter().flatten().any(applied)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(if self.name.is_empty() {
            &self.uid
        } else {
            &self.name
        })
    }
}

pub(super) fn label<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a String> {
    metadata.labels.as_ref().and_then(|labels| labels.get(key))
}

fn is_label_value(value: &str) -> bool {
    let edge = |char: Option<char>| char.is_some_and(|char| char.is_ascii_alphanumeric());
    value.len() <= 63
        && edge(value.chars().next())
        && edge(value.chars().last())
        && value
            .chars()
            .all(|char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;

    use super::*;

    #[test]
    fn copied_labels_are_not_ownership() {
        let owner = Owner::new("hub", "uid", "name").unwrap();
        let entry = |manager: &str, operation: &str| ManagedFieldsEntry {
            manager: Some(manager.to_owned()),
            operation: Some(operation.to_owned()),
            ..ManagedFieldsEntry::default()
        };
        let mut metadata = ObjectMeta {
            labels: Some(owner.labels()),
            ..ObjectMeta::default()
        };
        assert!(owner.labelled(&metadata));
        assert!(!owner.placed(&metadata, FIELD_MANAGER));
        metadata.managed_fields = Some(vec![entry("kube-controller-manager", "Update")]);
        assert!(!owner.placed(&metadata, FIELD_MANAGER));
        metadata.managed_fields = Some(vec![entry(FIELD_MANAGER, "Update")]);
        assert!(!owner.placed(&metadata, FIELD_MANAGER));
        metadata.managed_fields = Some(vec![entry("kubectl", "Update"), entry(FIELD_MANAGER, "Apply")]);
        assert!(owner.placed(&metadata, FIELD_MANAGER));
        assert!(
            !Owner::new("hub", "other", "name")
                .unwrap()
                .placed(&metadata, FIELD_MANAGER)
        );
    }

    #[test]
    fn identities_are_label_values() {
        for bad in ["", "-a", "a-", "a b", "a/b", &"x".repeat(64)] {
            assert!(Owner::new("hub", bad, "").is_err(), "{bad}");
            assert!(Owner::new(bad, "uid", "").is_err(), "{bad}");
        }
    }
}
