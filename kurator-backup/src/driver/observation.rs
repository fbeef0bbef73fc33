//! What a driver sees of what it created.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use kurator_core::names::NamespacedName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    name::{BackupName, DeletionName, LocationName, OwnerToken, RestoreName},
    phase::Phase,
};

/// How far something is, in items.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ItemProgress {
    /// Items that are done.
    #[serde(default)]
    pub done: u64,
    /// Items there are, as far as the server knows by now.
    #[serde(default)]
    pub total: u64,
}

impl ItemProgress {
    /// `done` of `total`.
    #[must_use]
    pub const fn new(done: u64, total: u64) -> Self {
        Self { done, total }
    }
}

impl fmt::Display for ItemProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.done, self.total)
    }
}

/// A backup as its server shows it.
pub type BackupObservation = Observation<BackupName>;

/// A restore as its server shows it.
pub type RestoreObservation = Observation<RestoreName>;

/// A backup or a restore as its server shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Observation<N> {
    /// Its name.
    pub name: N,
    /// UID of the object: another one under the same name is another object.
    pub uid: String,
    /// Whose it is; `None` if it carries no token: somebody else made it.
    pub owner: Option<OwnerToken>,
    /// Labels of the object.
    pub labels: BTreeMap<String, String>,
    /// The phase.
    pub phase: Phase,
    /// Whether the object is on its way out.
    pub deleting: bool,
    /// When the object was created, by the member's clock.
    pub created_at: Option<Timestamp>,
    /// When the server began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// When the server deletes it.
    pub expires_at: Option<Timestamp>,
    /// How far it is.
    pub progress: Option<ItemProgress>,
    /// Errors the server counted.
    pub errors: u64,
    /// Warnings the server counted.
    pub warnings: u64,
    /// Hooks that failed.
    pub failed_hooks: u64,
    /// What the server says went wrong: validation errors and the reason of a failure. At most 16, of at most 512 bytes.
    pub messages: Vec<String>,
    /// Where it is kept.
    pub location: Option<LocationName>,
    /// The token of the last poke.
    pub poked: Option<String>,
}

impl<N> Observation<N> {
    /// How many messages are kept.
    pub const MAX_MESSAGES: usize = 16;
    /// How long one message is at most, in bytes.
    pub const MAX_MESSAGE: usize = 512;

    /// Something that was just created.
    pub fn new(name: N, uid: impl Into<String>) -> Self {
        Self {
            name,
            uid: uid.into(),
            owner: None,
            labels: BTreeMap::new(),
            phase: Phase::New,
            deleting: false,
            created_at: None,
            started_at: None,
            completed_at: None,
            expires_at: None,
            progress: None,
            errors: 0,
            warnings: 0,
            failed_hooks: 0,
            messages: Vec::new(),
            location: None,
            poked: None,
        }
    }

    /// Sets the messages, within their bounds; duplicates are left out.
    #[must_use]
    pub fn with_messages(mut self, messages: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.messages.clear();
        for message in messages {
            let message = cut(message.into(), Self::MAX_MESSAGE);
            if self.messages.len() < Self::MAX_MESSAGES && !self.messages.contains(&message) {
                self.messages.push(message);
            }
        }
        self
    }
}

/// At most `max` bytes of `text`, with an ellipsis where something is missing.
pub(crate) fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        let mut end = max.saturating_sub('\u{2026}'.len_utf8());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('\u{2026}');
    }
    text
}

/// A kind of objects, as Velero's resource list names it: `v1/ConfigMap`, `apps/v1/Deployment`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::exhaustive_structs, reason = "the pair is the whole idea")]
pub struct ResourceKind {
    /// Group and version, such as `apps/v1`; `v1` for the core group.
    pub api_version: String,
    /// Kind.
    pub kind: String,
}

impl ResourceKind {
    /// The kind `kind` of `api_version`.
    pub fn new(api_version: impl Into<String>, kind: impl Into<String>) -> Self {
        Self {
            api_version: api_version.into(),
            kind: kind.into(),
        }
    }

    /// Reads `apps/v1/Deployment`; `None` if there is no kind in it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (api_version, kind) = text.rsplit_once('/')?;
        (!api_version.is_empty() && !kind.is_empty()).then(|| Self::new(api_version, kind))
    }

    /// The group; empty for the core group.
    #[must_use]
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.api_version, self.kind)
    }
}

/// Whether `entry` (`*`, `deployments`, `deployments.apps`, `Deployment`) is about `kind`.
pub(crate) fn names_kind(entry: &str, kind: &ResourceKind) -> bool {
    let (resource, group) = entry
        .split_once('.')
        .map_or((entry, None), |(it, group)| (it, Some(group)));
    let (resource, singular) = (resource.to_ascii_lowercase(), kind.kind.to_ascii_lowercase());
    let plural = resource.strip_suffix("es").or(resource.strip_suffix('s'));
    entry == "*"
        || (group.is_none_or(|group| group == kind.group())
            && (resource == singular
                || plural == Some(&singular)
                || resource.strip_suffix('s') == Some(&singular)
                || resource.strip_suffix("ies").map(|stem| format!("{stem}y")) == Some(singular)))
}

/// Which objects there are, by kind: in a backup, or on a member.
pub type Inventory = BTreeMap<ResourceKind, BTreeSet<NamespacedName>>;

/// How far the deletion of a backup is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DeletionObservation {
    /// Whether the server still shows the backup.
    pub backup_present: bool,
    /// Whether a request is waiting or being worked on.
    pub pending: bool,
    /// When the newest pending request was created.
    pub pending_since: Option<Timestamp>,
    /// The requests that the server shows, pending or processed. Empty where a driver cannot tell.
    #[serde(default)]
    pub requests: BTreeSet<DeletionName>,
    /// What went wrong in requests that were processed.
    pub errors: Vec<String>,
}

impl DeletionObservation {
    /// Whether nothing is left to do: the backup is gone, and with it what it had in the store.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        !self.backup_present && !self.pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_bounded_and_said_once() {
        let name: BackupName = "a".parse().unwrap();
        let long = "\u{e9}".repeat(600);
        let seen = Observation::new(name, "u").with_messages(
            [long.clone(), long]
                .into_iter()
                .chain((0..40).map(|index| format!("error {index}"))),
        );
        assert_eq!(seen.messages.len(), BackupObservation::MAX_MESSAGES);
        assert!(
            seen.messages
                .iter()
                .all(|message| message.len() <= BackupObservation::MAX_MESSAGE)
        );
        assert_eq!(seen.messages[1], "error 0");
    }

    #[test]
    fn a_kind_reads_as_the_resource_list_has_it() {
        let kind = ResourceKind::parse("apps/v1/Deployment").unwrap();
        assert_eq!(
            (kind.group(), kind.to_string().as_str()),
            ("apps", "apps/v1/Deployment")
        );
        assert_eq!(ResourceKind::parse("v1/Pod").unwrap().group(), "");
        assert_eq!(ResourceKind::parse("Pod"), None);
    }
}
