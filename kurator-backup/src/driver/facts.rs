//! What must be known of a member before something is asked of it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{name::LocationName, observation::ResourceKind};

/// The backup server of a member, its locations and what a request may refer to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct MemberFacts {
    /// Version of the server, such as `v1.18.3`; `None` while it does not say.
    pub server_version: Option<String>,
    /// The storage locations.
    pub locations: BTreeMap<LocationName, LocationFacts>,
    /// The location that is used when a request names none.
    pub default_location: Option<LocationName>,
    /// Volume snapshot locations, with their providers.
    pub snapshot_locations: BTreeMap<String, String>,
    /// Providers whose snapshot location is given by default.
    pub default_snapshot_providers: BTreeSet<String>,
    /// Namespaces that the server adds to those a backup excludes, because they say so themselves. A request that
    /// includes one by its name is refused.
    pub left_out_namespaces: BTreeSet<String>,
    /// ConfigMaps in the server's namespace that a request may name as resource policy.
    pub resource_policies: BTreeSet<String>,
    /// Who wrote the backups of fleets that the server shows, by the location they are in.
    #[serde(default)]
    pub writers: BTreeMap<LocationName, Vec<StoreWriter>>,
}

/// Somebody who wrote backups of a fleet to a storage location.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct StoreWriter {
    /// The fleet, as the backups say.
    pub fleet: String,
    /// The member that was backed up.
    pub cluster: String,
    /// When the run of the oldest backup was asked for.
    pub first: Timestamp,
    /// When the run of the newest backup was asked for.
    pub last: Timestamp,
}

impl StoreWriter {
    /// Adds a backup, by its name and labels, to those of its writer. A backup that is of no fleet is nobody's.
    pub(crate) fn note(writers: &mut Vec<Self>, backup: &str, labels: &BTreeMap<String, String>) {
        let of = |label: &str| labels.get(label).filter(|value| !value.is_empty());
        let writer = of(crate::api::labels::FLEET).zip(of(crate::api::labels::CLUSTER));
        let (Some((fleet, cluster)), Some(at)) = (writer, asked_at(backup)) else {
            return;
        };
        let known = writers
            .iter_mut()
            .find(|writer| writer.fleet == *fleet && writer.cluster == *cluster);
        match known {
            Some(writer) => {
                writer.first = writer.first.min(at);
                writer.last = writer.last.max(at);
            }
            None => writers.push(Self {
                fleet: fleet.clone(),
                cluster: cluster.clone(),
                first: at,
                last: at,
            }),
        }
    }
}

/// When the run of a backup was asked for, by the name that [`RunId::backup_name`](crate::run::RunId::backup_name) gave
/// it. The time on the object is another one where the server found it in a store.
fn asked_at(backup: &str) -> Option<Timestamp> {
    let mut parts = backup.rsplitn(4, '-').skip(2);
    let (seconds, _cluster) = (parts.next()?, parts.next()?);
    Timestamp::from_second(seconds.parse().ok()?).ok()
}

impl MemberFacts {
    /// The location a request goes to: the one it names, or the default one.
    #[must_use]
    pub fn location<'a>(
        &'a self,
        named: Option<&'a LocationName>,
    ) -> Option<(&'a LocationName, &'a LocationFacts)> {
        let name = named.or(self.default_location.as_ref())?;
        self.locations.get_key_value(name.as_str())
    }
}

/// One storage location of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LocationFacts {
    /// Whether it can be used.
    pub state: LocationState,
    /// Whether backups may be written to it.
    pub access: LocationAccess,
    /// Which store it is.
    pub store: StoreAddress,
    /// When the server looked last.
    pub validated_at: Option<Timestamp>,
}

impl LocationFacts {
    /// A writable location that is available.
    pub fn available(store: StoreAddress) -> Self {
        Self {
            state: LocationState::Available,
            access: LocationAccess::ReadWrite,
            store,
            validated_at: None,
        }
    }
}

/// Whether a storage location can be used.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum LocationState {
    /// It can.
    Available,
    /// The server cannot reach it.
    Unavailable {
        /// What the server says; may be empty.
        message: String,
    },
    /// The server has not looked yet. A request made now may be refused for ever.
    #[default]
    Unknown,
}

/// What may be done with a storage location.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LocationAccess {
    /// Backups may be written and deleted.
    #[default]
    ReadWrite,
    /// Backups may only be restored.
    ReadOnly,
}

/// Which store a location is on: two locations with the same address share their backups, and only one member may
/// write there.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct StoreAddress {
    /// Provider, such as `aws`.
    pub provider: String,
    /// Endpoint, where the provider has more than one; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub endpoint: String,
    /// Bucket.
    pub bucket: String,
    /// Prefix in the bucket; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
}

impl StoreAddress {
    /// A bucket and a prefix in it.
    pub fn new(provider: impl Into<String>, bucket: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self {
            provider: provider.into(),
            endpoint: String::new(),
            bucket: bucket.into(),
            prefix: prefix.into(),
        }
    }

    /// Sets the endpoint.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = endpoint.into();
        self
    }
}

impl std::fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:", self.provider)?;
        if !self.endpoint.is_empty() {
            write!(f, "{}/", self.endpoint)?;
        }
        write!(f, "{}/{}", self.bucket, self.prefix)
    }
}

/// What a member can take in: compared with a backup before it is restored there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Capabilities {
    /// Version of Kubernetes, such as `v1.37.2`.
    pub kubernetes_version: String,
    /// Kinds it serves, in every served version.
    pub kinds: BTreeSet<ResourceKind>,
    /// Storage classes it has.
    pub storage_classes: BTreeSet<String>,
    /// The one of them that claims get which name none.
    #[serde(default)]
    pub default_storage_class: Option<String>,
}
