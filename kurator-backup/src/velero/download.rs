//! Files of a backup, which the server lets us fetch from its store.

use std::{io::Read, time::Duration};

use flate2::read::MultiGzDecoder;
use futures::AsyncReadExt;
use http::{Request, Uri, uri::Scheme};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DeleteParams, DynamicObject, ObjectMeta, PostParams},
    runtime::wait::await_condition,
};
use kurator_core::{connect::ClientPurpose, names::NamespacedName};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{archive, failure::Attempt, wire};
use crate::driver::{BackupName, Claims, DriverError, Inventory, ResourceKind};

/// How long a server may take to sign an address.
const ANSWER: Duration = Duration::from_secs(8);
/// The largest file that is read, and the largest list unpacked: about half a million names.
const PACKED: u64 = 16 * 1024 * 1024;
const UNPACKED: u64 = 64 * 1024 * 1024;

#[derive(Clone, Copy, Debug)]
pub(super) struct Download<'a> {
    pub(super) attempt: Attempt<'a>,
    pub(super) plain_http: bool,
}

impl Download<'_> {
    /// The list of what is in a backup, by kind.
    pub(super) async fn contents(
        self,
        requests: &Api<DynamicObject>,
        backup: &BackupName,
    ) -> Result<Inventory, DriverError> {
        let address = self.address(requests, backup, "BackupResourceList").await?;
        let packed = self.fetch(&address).await?;
        let Some(packed) = packed else {
            return Err(self.attempt.unusable("the list is larger than 16 MiB"));
        };
        let mut text = String::new();
        MultiGzDecoder::new(packed.as_slice())
            .take(UNPACKED)
            .read_to_string(&mut text)
            .map_err(|error| {
                self.attempt
                    .unusable(format!("the list cannot be unpacked: {error}"))
            })?;
        let list = serde_json::from_str::<Value>(&text)
            .map_err(|error| self.attempt.unusable(format!("the list cannot be read: {error}")))?;
        Ok(inventory(&list))
    }

    /// The volume claims in a backup; `None` if it is too large to be looked into.
    pub(super) async fn claims(
        self,
        requests: &Api<DynamicObject>,
        backup: &BackupName,
    ) -> Result<Option<Claims>, DriverError> {
        let address = self.address(requests, backup, "BackupContents").await?;
        let Some(packed) = self.fetch(&address).await? else {
            return Ok(None);
        };
        // Unpacking may take a second.
        let read = tokio::task::spawn_blocking(move || archive::claims(&packed)).await;
        match read {
            Ok(Ok(claims)) => Ok(claims),
            Ok(Err(error)) => Err(self
                .attempt
                .unusable(format!("the archive cannot be unpacked: {error}"))),
            Err(_) => Err(self.attempt.unusable("the archive was not unpacked to its end")),
        }
    }

    /// An address the server signs for us, good for ten minutes. It removes the request itself, then.
    async fn address(
        self,
        requests: &Api<DynamicObject>,
        backup: &BackupName,
        file: &str,
    ) -> Result<Uri, DriverError> {
        let failed = |error| self.attempt.failed("DownloadRequest of velero.io", error);
        let mut request = DynamicObject::new("", &wire::kind("DownloadRequest"));
        request.metadata = ObjectMeta {
            generate_name: Some("kurator-".into()),
            ..ObjectMeta::default()
        };
        request.data = json!({"spec": {"target": {"kind": file, "name": backup}}});
        let name = requests
            .create(&PostParams::default(), &request)
            .await
            .map_err(failed)?
            .name_any();
        let answered = timeout(ANSWER, await_condition(requests.clone(), &name, is_answered)).await;
        let _ = requests.delete(&name, &DeleteParams::default()).await;
        let answer = match answered {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => None,
        };
        let Some(answer) = answer else {
            return Err(DriverError::Unreachable {
                cluster: self.attempt.cluster.clone(),
                action: format!("{}: its backup server does not answer", self.attempt.action),
                source: None,
            });
        };
        let address = address_in(&answer);
        let Some(address) = address else {
            return Err(self.attempt.not_found(format!("{file} of backup {backup}")));
        };
        address
            .parse::<Uri>()
            .map_err(|_| self.attempt.unusable("the address of the list is none"))
    }

    /// `None` for a file that is too large. With the TLS of kube, without a credential of ours, without following a redirection.
    async fn fetch(self, address: &Uri) -> Result<Option<Vec<u8>>, DriverError> {
        let plain = address.scheme() != Some(&Scheme::HTTPS);
        if plain && !self.plain_http {
            return Err(self.attempt.unusable(
                "the store is reached without TLS; allow it with VeleroDriver::allowing_plain_http",
            ));
        }
        let origin = Uri::builder()
            .scheme(address.scheme_str().unwrap_or("https"))
            .authority(address.authority().map(ToString::to_string).unwrap_or_default())
            .path_and_query("/")
            .build()
            .map_err(|_| self.attempt.unusable("the address of the list is none"))?;
        let mut config = Config::new(origin);
        ClientPurpose::Control.policy().apply_to(&mut config);
        let unreachable = |error: kube::Error| DriverError::Unreachable {
            cluster: self.attempt.cluster.clone(),
            action: format!("{} from its store", self.attempt.action),
            source: Some(Box::new(error)),
        };
        let client = Client::try_from(config).map_err(unreachable)?;
        let path = address.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::get(path)
            .body(Vec::new())
            .map_err(|_| self.attempt.unusable("the address of the list is none"))?;
        let answer = match client.request_stream(request).await {
            Ok(answer) => answer,
            Err(kube::Error::Api(status)) if status.code == 404 => {
                return Err(self
                    .attempt
                    .not_found("list of what is in the backup, in the store"));
            }
            Err(kube::Error::Api(status)) => {
                return Err(self
                    .attempt
                    .unusable(format!("its store answered {}", status.code)));
            }
            Err(error) => return Err(unreachable(error)),
        };
        let mut packed = Vec::new();
        let mut answer = std::pin::pin!(answer.take(PACKED + 1));
        answer
            .read_to_end(&mut packed)
            .await
            .map_err(|error| DriverError::Unreachable {
                cluster: self.attempt.cluster.clone(),
                action: format!("{} from its store", self.attempt.action),
                source: Some(Box::new(error)),
            })?;
        if packed.len() as u64 > PACKED {
            return Ok(None);
        }
        Ok(Some(packed))
    }
}

fn address_in(request: &DynamicObject) -> Option<&str> {
    let address = request
        .data
        .pointer("/status/downloadURL")
        .and_then(Value::as_str);
    address.filter(|address| !address.is_empty())
}

fn is_answered(request: Option<&DynamicObject>) -> bool {
    request.is_some_and(|request| {
        let phase = request.data.pointer("/status/phase").and_then(Value::as_str);
        address_in(request).is_some() || phase == Some("Failed")
    })
}

/// `{"apps/v1/Deployment": ["shop/web"], "v1/Namespace": ["shop"]}`.
fn inventory(list: &Value) -> Inventory {
    let mut inventory = Inventory::new();
    for (kind, names) in list.as_object().into_iter().flatten() {
        let Some(kind) = ResourceKind::parse(kind) else {
            continue;
        };
        let names = names.as_array().into_iter().flatten().filter_map(Value::as_str);
        let names = names.map(|name| match name.split_once('/') {
            Some((namespace, name)) => NamespacedName::new(namespace, name),
            None => NamespacedName::cluster_scoped(name),
        });
        inventory.insert(kind, names.collect());
    }
    inventory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_a_backup_is_read_by_kind_and_scope() {
        let list = json!({"apps/v1/Deployment": ["shop/web"], "v1/Namespace": ["shop"], "odd": ["x"]});
        let inventory = inventory(&list);
        let deployments = &inventory[&ResourceKind::new("apps/v1", "Deployment")];
        assert!(deployments.contains(&NamespacedName::new("shop", "web")));
        let namespaces = &inventory[&ResourceKind::new("v1", "Namespace")];
        assert!(namespaces.contains(&NamespacedName::cluster_scoped("shop")));
        assert_eq!(inventory.len(), 2);
    }
}
