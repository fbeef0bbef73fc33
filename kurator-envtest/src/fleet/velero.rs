//! A Velero server beside a member.

use std::{fs, path::Path, time::Duration};

use kube::{
    Api,
    api::{ApiResource, DynamicObject},
    core::GroupVersionKind,
};
use serde_json::{Value, json};

use super::{Error, Member, Part, store::Access};

/// What a backup storage location on the store of the fleet is called.
const LOCATION: &str = "default";

/// A Velero server of a member: its definitions, its namespace, a default backup storage location on the object
/// store of the fleet, and the process, with the plug-in for S3.
///
/// Members that name the same bucket and prefix see each other's backups, after Velero's sync at the latest.
/// Velero wants one writer for each bucket and prefix: give the others [`Velero::read_only`].
///
/// ```
/// use kurator_envtest::{MemberSpec, Velero};
///
/// let east = MemberSpec::new("east").with_velero(Velero::on("backups").with_prefix("east"));
/// let spare = MemberSpec::new("spare").with_velero(Velero::on("backups").with_prefix("east").read_only());
/// # let _ = (east, spare);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Velero {
    pub(super) bucket: String,
    prefix: Option<String>,
    read_only: bool,
    sync_period: Option<Duration>,
    validation_frequency: Option<Duration>,
}

impl Velero {
    /// Namespace of the server, its storage location, and every backup and restore of it.
    pub const NAMESPACE: &'static str = "velero";
    /// Name of the default backup storage location.
    pub const LOCATION: &'static str = LOCATION;

    /// Keeps its backups in this bucket of the fleet's object store, which is made if need be.
    pub fn on(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            prefix: None,
            read_only: false,
            sync_period: None,
            validation_frequency: None,
        }
    }

    /// Below this folder of the bucket.
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// The location can be restored from, not written to.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// How often the server looks for backups of others in the location, and for its own that are gone from it:
    /// once a minute if not said, which is also as often as it can. Zero: never.
    pub fn with_sync_period(mut self, period: Duration) -> Self {
        self.sync_period = Some(period);
        self
    }

    /// How often the server looks whether the location can be used: once a minute if not said, at most about
    /// once in 10 s.
    pub fn with_validation_frequency(mut self, frequency: Duration) -> Self {
        self.validation_frequency = Some(frequency);
        self
    }

    fn location(&self, endpoint: &str) -> Value {
        let mut spec = json!({
            "provider": "aws",
            "default": true,
            "accessMode": if self.read_only { "ReadOnly" } else { "ReadWrite" },
            "objectStorage": {"bucket": self.bucket},
            "config": {"region": "us-east-1", "s3ForcePathStyle": "true", "s3Url": endpoint},
        });
        if let Some(prefix) = &self.prefix {
            spec["objectStorage"]["prefix"] = json!(prefix);
        }
        for (field, period) in [
            ("backupSyncPeriod", self.sync_period),
            ("validationFrequency", self.validation_frequency),
        ] {
            if let Some(period) = period {
                spec[field] = json!(format!("{}ms", period.as_millis()));
            }
        }
        json!({
            "apiVersion": "velero.io/v1",
            "kind": "BackupStorageLocation",
            "metadata": {"name": LOCATION, "namespace": Self::NAMESPACE},
            "spec": spec,
        })
    }
}

/// A restore looks its own server up, for the image of its helpers, and fails in part without it. No pod of it
/// is wanted: the server is a process.
fn deployment() -> Value {
    let labels = json!({"deploy": "velero"});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "velero", "namespace": Velero::NAMESPACE},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "velero", "image": "velero"}]},
            },
        },
    })
}

impl Member {
    /// All the server needs to find when it starts.
    pub(super) async fn prepare_velero(&self, velero: &Velero, store: &Access) -> Result<(), Error> {
        let definitions = self
            .components
            .files("velero-crds")
            .map_err(|source| Error::Components { source })?
            .to_owned();
        for text in yaml_below(&definitions)? {
            self.apply(&text).await?;
        }
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": Velero::NAMESPACE}});
        for object in [namespace, velero.location(&store.endpoint()), deployment()] {
            self.apply(&object.to_string()).await?;
        }
        let credentials = self.folder.join("velero-credentials");
        fs::write(&credentials, store.credentials_file()).map_err(Error::io("write", &credentials))?;
        let temporary = self.folder.join("velero-tmp");
        fs::create_dir_all(&temporary).map_err(Error::io("create", &temporary))
    }

    /// Waits until the server has found its storage location usable: before that it refuses every backup.
    pub(super) async fn wait_until_location_is_available(&self) -> Result<(), Error> {
        let kind = GroupVersionKind::gvk("velero.io", "v1", "BackupStorageLocation");
        let resource = ApiResource::from_gvk(&kind);
        let api = Api::<DynamicObject>::namespaced_with(self.direct_client()?, Velero::NAMESPACE, &resource);
        let available = |location: Option<&DynamicObject>| {
            let phase = location.and_then(|location| location.data["status"]["phase"].as_str());
            phase == Some("Available")
        };
        tokio::select! {
            met = self.wait_for(&api, LOCATION, available) => met.map(|_| ()),
            exited = self.exited() => Err(exited),
        }
    }

    /// Kills and starts the Velero server again, and waits until it works: until it has looked at its storage
    /// location anew. Backups and restores that ran are `Failed` then.
    ///
    /// # Errors
    /// [`Error::NoSuchPart`] without Velero, [`Error::Exited`] or [`Error::Timeout`] when it does not come back.
    pub async fn restart_velero(&self) -> Result<(), Error> {
        self.kill(Part::Velero)?;
        let kind = GroupVersionKind::gvk("velero.io", "v1", "BackupStorageLocation");
        let resource = ApiResource::from_gvk(&kind);
        let api = Api::<DynamicObject>::namespaced_with(self.direct_client()?, Velero::NAMESPACE, &resource);
        let validated = |location: Option<&DynamicObject>| {
            let time = location.map(|location| location.data["status"]["lastValidationTime"].clone());
            time.unwrap_or_default()
        };
        let before = validated(
            api.get_opt(LOCATION)
                .await
                .map_err(Error::api(self.name(), "read the storage location"))?
                .as_ref(),
        );
        self.restart(Part::Velero).await?;
        let anew = |location: Option<&DynamicObject>| validated(location) != before;
        tokio::select! {
            met = self.wait_for(&api, LOCATION, anew) => met.map(|_| ()),
            exited = self.exited() => Err(exited),
        }
    }
}

/// The texts of all files below a folder, in the order of their paths.
fn yaml_below(folder: &Path) -> Result<Vec<String>, Error> {
    let mut texts = Vec::new();
    let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let mut paths = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect::<Vec<_>>();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            texts.extend(yaml_below(&path)?);
        } else {
            texts.push(fs::read_to_string(&path).map_err(Error::io("read", &path))?);
        }
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_says_no_more_than_was_asked() {
        let plain = Velero::on("b").location("http://127.0.0.1:1");
        assert_eq!(plain["spec"]["objectStorage"], json!({"bucket": "b"}));
        assert_eq!(plain["spec"]["accessMode"], "ReadWrite");
        assert!(plain["spec"].get("backupSyncPeriod").is_none());
        assert!(plain["spec"].get("validationFrequency").is_none());

        let asked = Velero::on("b")
            .with_prefix("east")
            .read_only()
            .with_sync_period(Duration::from_secs(10));
        let asked = asked.location("http://127.0.0.1:1");
        assert_eq!(asked["spec"]["objectStorage"]["prefix"], "east");
        assert_eq!(asked["spec"]["accessMode"], "ReadOnly");
        assert_eq!(asked["spec"]["backupSyncPeriod"], "10000ms");
    }
}
