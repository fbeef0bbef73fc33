//! Objects a test starts from.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::{GroupVersionKind, TypeMeta},
    discovery::{ApiCapabilities, Scope, pinned_kind},
    runtime::wait::conditions,
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{Error, Member};

/// Who owns the fields that tests apply.
const FIELD_MANAGER: &str = "kurator-envtest";
const POLL: Duration = Duration::from_millis(50);
/// How long a kind may be unknown: discovery is behind by less than a second.
const KIND_PATIENCE: Duration = Duration::from_secs(10);

impl Member {
    /// Applies every document of a YAML text (server-side, conflicts overridden) in its order, past the link.
    /// Objects without a namespace go to `default`; a `List` counts as its items. A custom resource definition
    /// is waited for until it is served, so that its objects may follow in the same text.
    ///
    /// The text is read as YAML 1.2.
    ///
    /// # Errors
    /// [`Error::Manifest`] when a document is no object, [`Error::Api`] with what the server says about one,
    /// [`Error::Timeout`] when a kind is never served.
    pub async fn apply(&self, yaml: &str) -> Result<Vec<DynamicObject>, Error> {
        let documents = serde_saphyr::from_multiple::<Value>(yaml).map_err(|error| Error::Manifest {
            document: 1,
            reason: error.to_string(),
        })?;
        let client = self.direct_client()?;
        let mut applied = Vec::new();
        for (index, document) in documents.into_iter().enumerate() {
            for object in items(document) {
                let object =
                    serde_json::from_value::<DynamicObject>(object).map_err(|error| Error::Manifest {
                        document: index + 1,
                        reason: error.to_string(),
                    })?;
                if object.types.is_none() || object.metadata.name.is_none() {
                    let reason = "it needs apiVersion, kind and metadata.name".to_owned();
                    return Err(Error::Manifest {
                        document: index + 1,
                        reason,
                    });
                }
                applied.push(self.apply_object(&client, object).await?);
            }
        }
        Ok(applied)
    }

    /// Applies custom resource definitions, such as those of `CustomResourceExt::crd`, and waits until their
    /// kinds are served.
    ///
    /// # Errors
    /// As [`Member::apply`].
    pub async fn install<'a>(
        &self,
        definitions: impl IntoIterator<Item = &'a CustomResourceDefinition> + Send,
    ) -> Result<(), Error> {
        let objects = definitions
            .into_iter()
            .map(|definition| serde_json::from_value(serde_json::to_value(definition)?))
            .collect::<Result<Vec<DynamicObject>, serde_json::Error>>()
            .map_err(Error::api(self.name(), "read the definitions to apply"))?;
        let client = self.direct_client()?;
        for mut object in objects {
            object
                .types
                .get_or_insert_with(TypeMeta::resource::<CustomResourceDefinition>);
            self.apply_object(&client, object).await?;
        }
        Ok(())
    }

    async fn apply_object(&self, client: &Client, object: DynamicObject) -> Result<DynamicObject, Error> {
        let types = object.types.clone().unwrap_or_default();
        let name = object.name_any();
        let what = format!("apply {} {name}", types.kind);
        let gvk = GroupVersionKind::try_from(&types).map_err(Error::api(self.name(), what.clone()))?;
        let (resource, capabilities) = self.served(client, &gvk).await?;
        let api = match capabilities.scope {
            Scope::Cluster => Api::<DynamicObject>::all_with(client.clone(), &resource),
            Scope::Namespaced => {
                let namespace = object.namespace().unwrap_or_else(|| "default".into());
                Api::namespaced_with(client.clone(), &namespace, &resource)
            }
        };
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let applied = api
            .patch(&name, &params, &Patch::Apply(&object))
            .await
            .map_err(Error::api(self.name(), what))?;
        if gvk.kind == "CustomResourceDefinition" {
            self.wait_until_served(client, &name).await?;
        }
        Ok(applied)
    }

    async fn wait_until_served(&self, client: &Client, definition: &str) -> Result<(), Error> {
        let api = Api::<CustomResourceDefinition>::all(client.clone());
        let established = self
            .wait_for(&api, definition, conditions::is_crd_established())
            .await?;
        let Some(spec) = established.map(|definition| definition.spec) else {
            return Ok(());
        };
        for version in spec.versions.iter().filter(|version| version.served) {
            self.served(
                client,
                &GroupVersionKind::gvk(&spec.group, &version.name, &spec.names.kind),
            )
            .await?;
        }
        Ok(())
    }

    /// Discovery learns of a kind a moment after it is established.
    async fn served(
        &self,
        client: &Client,
        gvk: &GroupVersionKind,
    ) -> Result<(ApiResource, ApiCapabilities), Error> {
        let started = Instant::now();
        let waiting = format!("{} {} is served", gvk.api_version(), gvk.kind);
        loop {
            match pinned_kind(client, gvk).await {
                Ok(found) => return Ok(found),
                Err(kube::Error::Discovery(_)) => {}
                // A group that is not served yet has no Status, only the code.
                Err(kube::Error::Api(status)) if status.is_not_found() || status.code == 404 => {}
                Err(error) => return Err(Error::api(self.name(), format!("look up {}", gvk.kind))(error)),
            }
            if started.elapsed() > KIND_PATIENCE {
                return Err(Error::Timeout {
                    member: self.name().into(),
                    waited_for: waiting,
                    after: KIND_PATIENCE,
                });
            }
            sleep(POLL).await;
        }
    }
}

/// The objects of a document: those of a `List`, or itself.
fn items(mut document: Value) -> Vec<Value> {
    let is_list = document
        .get("kind")
        .and_then(Value::as_str)
        .is_some_and(|kind| kind == "List");
    match document.get_mut("items").filter(|_| is_list).map(Value::take) {
        Some(Value::Array(items)) => items,
        _ => vec![document],
    }
}
