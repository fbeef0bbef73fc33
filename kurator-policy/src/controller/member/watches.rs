//! Watches on a member of what this hub placed there.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kube::{Api, Client, ResourceExt, api::DynamicObject, runtime::watcher};
use kurator_core::apply::{LABEL_HUB, LABEL_OWNER};
use tokio::{sync::mpsc::UnboundedSender, task::AbortHandle};

use super::{
    super::{
        kinds::{Served, Unknown},
        watch::{Change, pump},
    },
    glance::Glance,
    worker::Tools,
};
use crate::propagate::{ObjectKey, ObjectKind};

/// How long until the member is asked again for a kind that it did not serve.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// Something about an object of this hub in a member.
#[derive(Debug)]
pub(super) enum Seen {
    /// It is there, like this.
    There(Box<Sight>),
    /// It is gone.
    Gone {
        /// Whose it was.
        owner: String,
        /// Which.
        key: ObjectKey,
    },
    /// The list that a watch begins with, and begins anew with when it has missed something, is complete.
    Complete {
        /// What was listed.
        kind: ObjectKind,
        /// Everything of this hub.
        there: BTreeSet<ObjectKey>,
        /// Whether the watch had broken.
        back: bool,
    },
}

/// What a glance at an object tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sight {
    pub(super) owner: String,
    pub(super) key: ObjectKey,
    pub(super) mark: Mark,
    pub(super) glance: Glance,
    pub(super) deleting: bool,
}

/// Changes when anything but the status of an object does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    uid: String,
    /// The generation where the kind counts them, else the resource version.
    version: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

impl Mark {
    pub(super) fn of(object: &DynamicObject) -> Self {
        let version = match object.metadata.generation {
            Some(generation) => generation.to_string(),
            None => object.resource_version().unwrap_or_default(),
        };
        Self {
            uid: object.uid().unwrap_or_default(),
            version,
            labels: object.labels().clone(),
            annotations: object.annotations().clone(),
        }
    }
}

/// The watches of one member; they end when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Watches {
    tasks: BTreeMap<ObjectKind, AbortHandle>,
}

impl Watches {
    /// Watches exactly these kinds.
    pub(super) fn keep(
        &mut self,
        kinds: &BTreeSet<ObjectKind>,
        client: &Client,
        tools: &Tools,
        sender: &UnboundedSender<Seen>,
    ) {
        self.tasks.retain(|kind, task| {
            let wanted = kinds.contains(kind);
            if !wanted {
                task.abort();
            }
            wanted
        });
        for kind in kinds {
            if self.tasks.contains_key(kind) {
                continue;
            }
            let watch = watch(client.clone(), kind.clone(), tools.clone(), sender.clone());
            self.tasks
                .insert(kind.clone(), tokio::spawn(watch).abort_handle());
        }
    }

    pub(super) fn end(&mut self) {
        for task in std::mem::take(&mut self.tasks).into_values() {
            task.abort();
        }
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.end();
    }
}

async fn watch(client: Client, kind: ObjectKind, tools: Tools, sender: UnboundedSender<Seen>) {
    let served = loop {
        match Served::find(&client, &kind).await {
            Ok(served) => break served,
            Err(Unknown::NotServed | Unknown::Unanswered(_)) => {}
        }
        tokio::time::sleep(ASK_AGAIN).await;
    };
    let sight = |object: &DynamicObject| {
        let owner = object.labels().get(LABEL_OWNER)?.clone();
        let namespace = object.namespace().unwrap_or_default();
        let key = ObjectKey::new(&kind.api_version, &kind.kind, namespace, object.name_any());
        Some((owner, key))
    };
    let mut broken = false;
    let mut listed = BTreeSet::new();
    let on_change = |change: Change<'_>| {
        let seen = match change {
            Change::Listed(object) | Change::Applied(object) => {
                let Some((owner, key)) = sight(object) else { return };
                if matches!(change, Change::Listed(_)) {
                    listed.insert(key.clone());
                }
                let deleting = object.metadata.deletion_timestamp.is_some();
                Seen::There(Box::new(Sight {
                    key,
                    mark: Mark::of(object),
                    glance: Glance::at(&tools, &owner, &kind, object),
                    owner,
                    deleting,
                }))
            }
            Change::Deleted(object) => {
                let Some((owner, key)) = sight(object) else { return };
                Seen::Gone { owner, key }
            }
            Change::Failed(_) => {
                // A list that breaks off begins anew.
                listed.clear();
                broken = true;
                return;
            }
            Change::Synced => Seen::Complete {
                kind: kind.clone(),
                there: std::mem::take(&mut listed),
                back: std::mem::take(&mut broken),
            },
            Change::NotServed => return,
        };
        // A worker that is gone has aborted this task, or is about to.
        let _ = sender.send(seen);
    };
    let config = watcher::Config::default().labels(&format!("{LABEL_HUB}={}", tools.hub));
    pump(
        Api::all_with(client, &served.resource),
        config,
        |_| (),
        |_| (),
        on_change,
    )
    .await;
}
