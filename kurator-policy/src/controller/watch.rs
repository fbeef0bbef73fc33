//! One watch of one kind.

use std::{pin::pin, sync::Arc};

use futures::StreamExt;
use kube::{
    Api,
    api::DynamicObject,
    discovery::ApiResource,
    runtime::{
        WatchStreamExt,
        reflector::{Store, store::Writer},
        watcher::{self, Event, watcher},
    },
};
use tokio::{sync::watch, task::AbortHandle};

use crate::propagate::strip_allocated;

/// What a watch has seen.
#[derive(Debug)]
pub(super) enum Change<'a> {
    /// An object is in the list that a watch begins with.
    Listed(&'a DynamicObject),
    /// The list is complete; anything may be different.
    Synced,
    /// An object came or changed.
    Applied(&'a DynamicObject),
    /// An object went.
    Deleted(&'a DynamicObject),
    /// The server does not serve the kind; the watch tries again by itself.
    NotServed,
    /// The server does not answer, or refuses; the watch tries again by itself.
    Failed(&'a watcher::Error),
}

/// Watches for ever, and tells `on_change`; `read` sees who wrote which field, the others do not.
pub(super) async fn pump(
    api: Api<DynamicObject>,
    config: watcher::Config,
    read: impl Fn(&mut DynamicObject) + Send,
    mut on_event: impl FnMut(&Event<DynamicObject>) + Send,
    mut on_change: impl FnMut(Change<'_>) + Send,
) {
    // Who wrote which field is of no interest here, and is half of the memory.
    let events = watcher(api, config).default_backoff().modify(move |object| {
        read(object);
        object.metadata.managed_fields = None;
    });
    let mut events = pin!(events);
    while let Some(event) = events.next().await {
        match &event {
            Ok(event) => {
                on_event(event);
                match event {
                    Event::Init => {}
                    Event::InitApply(object) => on_change(Change::Listed(object)),
                    Event::InitDone => on_change(Change::Synced),
                    Event::Apply(object) => on_change(Change::Applied(object)),
                    Event::Delete(object) => on_change(Change::Deleted(object)),
                }
            }
            Err(error) if is_not_served(error) => on_change(Change::NotServed),
            Err(error) => on_change(Change::Failed(error)),
        }
    }
}

fn is_not_served(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404)
}

/// A Service without what the hub's API server chose by itself, which is known only as long as it is known who wrote what.
fn forget_allocated(service: &mut DynamicObject) {
    let managers = service.metadata.managed_fields.iter().flatten();
    let own = managers.filter(|entry| entry.subresource.is_none());
    let owned = own.filter_map(|entry| entry.fields_v1.as_ref().map(|fields| &fields.0));
    if let Some(spec) = service.data.get_mut("spec") {
        strip_allocated(owned, spec);
    }
}

/// How far a watch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Synced {
    /// The first list is not complete.
    Starting,
    /// The store holds everything there is; while the server does not answer, everything there was.
    Complete,
    /// The server does not serve the kind.
    NotServed,
}

/// A running watch with a store; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    store: Store<DynamicObject>,
    sync: watch::Receiver<Synced>,
    task: AbortHandle,
}

impl Watch {
    /// Watches `api`, and tells `on_change` after the store knows. Objects of the first list are not told one by one.
    pub(super) fn start(
        api: Api<DynamicObject>,
        resource: ApiResource,
        mut on_change: impl FnMut(Change<'_>) + Send + 'static,
    ) -> Self {
        let is_service = resource.group.is_empty() && resource.kind == "Service";
        let read = move |object: &mut DynamicObject| {
            if is_service {
                forget_allocated(object);
            }
        };
        let mut writer = Writer::new(resource);
        let store = writer.as_reader();
        let (sender, sync) = watch::channel(Synced::Starting);
        let task = tokio::spawn(pump(
            api,
            watcher::Config::default(),
            read,
            move |event| writer.apply_watcher_event(event),
            move |change| match change {
                Change::Listed(_) => {}
                Change::Synced => {
                    sender.send_replace(Synced::Complete);
                    on_change(change);
                }
                Change::NotServed => {
                    if sender.send_replace(Synced::NotServed) != Synced::NotServed {
                        on_change(change);
                    }
                }
                change => on_change(change),
            },
        ));
        Self {
            store,
            sync,
            task: task.abort_handle(),
        }
    }

    pub(super) fn sync(&self) -> Synced {
        *self.sync.borrow()
    }

    pub(super) fn store(&self) -> Store<DynamicObject> {
        self.store.clone()
    }

    pub(super) fn all(&self) -> Vec<Arc<DynamicObject>> {
        self.store.state()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
