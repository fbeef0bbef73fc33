//! What the autoscalers of a member scale: the replicas of these are theirs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::autoscaling::v1::HorizontalPodAutoscaler;
use kube::{Api, Client, ResourceExt, api::DynamicObject, discovery::ApiResource, runtime::watcher};
use tokio::{sync::watch, task::AbortHandle};

use super::super::watch::{Change, pump};
use crate::propagate::ObjectKey;

/// Which object, whatever the version it was named in: group, kind, namespace and name.
type Target = (String, String, String, String);

/// What is known of the autoscalers of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Scaled {
    /// Nothing yet.
    #[default]
    NotYet,
    /// The member does not tell; this is what it says.
    Unanswered(String),
    /// The objects that are scaled.
    Known(Arc<BTreeSet<Target>>),
}

impl Scaled {
    pub(super) fn contains(&self, object: &ObjectKey) -> bool {
        match self {
            Self::Known(targets) => targets.contains(&target(object)),
            Self::NotYet | Self::Unanswered(_) => false,
        }
    }
}

pub(super) fn target(object: &ObjectKey) -> Target {
    (
        object.kind.group_version().0.to_owned(),
        object.kind.kind.clone(),
        object.name.namespace.clone(),
        object.name.name.clone(),
    )
}

/// A watch on the autoscalers of a member; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Autoscalers {
    scaled: watch::Receiver<Scaled>,
    task: AbortHandle,
}

impl Drop for Autoscalers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Autoscalers {
    pub(super) fn watch(client: Client) -> Self {
        let (sender, scaled) = watch::channel(Scaled::NotYet);
        let api: Api<DynamicObject> =
            Api::all_with(client, &ApiResource::erase::<HorizontalPodAutoscaler>(&()));
        let mut all: BTreeMap<(String, String), Target> = BTreeMap::new();
        let mut listing = BTreeMap::new();
        let on_change = move |change: Change<'_>| {
            match change {
                Change::Listed(object) => {
                    listing.extend(entry(object));
                    return;
                }
                Change::Synced => all = std::mem::take(&mut listing),
                Change::Applied(object) => all.extend(entry(object)),
                Change::Deleted(object) => drop(all.remove(&name(object))),
                Change::NotServed => all.clear(),
                Change::Failed(error) if is_forbidden(error) => {
                    tracing::warn!(
                        "autoscalers of a member cannot be listed, so they are overruled: {error}"
                    );
                    all.clear();
                }
                Change::Failed(error) => {
                    // A watch that breaks loses nothing: what it knew holds until it is complete again.
                    sender.send_if_modified(|scaled| {
                        let unknown = !matches!(scaled, Scaled::Known(_));
                        if unknown {
                            *scaled = Scaled::Unanswered(error.to_string());
                        }
                        unknown
                    });
                    return;
                }
            }
            let targets = Scaled::Known(Arc::new(all.values().cloned().collect()));
            sender.send_if_modified(|scaled| {
                let changed = *scaled != targets;
                *scaled = targets;
                changed
            });
        };
        let config = watcher::Config::default();
        let task = tokio::spawn(pump(api, config, |_| (), |_| (), on_change));
        Self {
            scaled,
            task: task.abort_handle(),
        }
    }

    pub(super) fn scaled(&self) -> Scaled {
        self.scaled.borrow().clone()
    }

    /// Waits until something else is known; never, if nothing more will be.
    pub(super) async fn changed(&mut self) {
        if self.scaled.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn name(object: &DynamicObject) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn entry(object: &DynamicObject) -> Option<((String, String), Target)> {
    let text = |field: &str| {
        let value = object.data.pointer(&format!("/spec/scaleTargetRef/{field}"))?;
        value.as_str()
    };
    let (namespace, own_name) = name(object);
    let scaled = ObjectKey::new(
        text("apiVersion").unwrap_or_default(),
        text("kind")?,
        &namespace,
        text("name")?,
    );
    Some(((namespace, own_name), target(&scaled)))
}

fn is_forbidden(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 403)
}
