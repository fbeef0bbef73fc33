//! Waiting by watch.

use std::{collections::BTreeMap, fmt::Debug, pin::pin};

use futures::StreamExt;
use kube::{
    Api, Resource, ResourceExt,
    api::ListParams,
    runtime::{
        WatchStreamExt,
        wait::{Condition, await_condition},
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{Error, Member};

impl Member {
    /// Waits, by watch, until an object meets a condition (of [`kube::runtime::wait::conditions`], or a
    /// closure), and returns it; `None` when the condition is met by its absence.
    ///
    /// The time allowed is that of [`crate::FleetBuilder::patience`].
    ///
    /// # Errors
    /// [`Error::Timeout`], and [`Error::Api`] when the watch fails for good.
    pub async fn wait_for<K>(
        &self,
        api: &Api<K>,
        name: &str,
        condition: impl Condition<K> + Send + Sync,
    ) -> Result<Option<K>, Error>
    where
        K: Clone + Debug + DeserializeOwned + Resource + Send + 'static,
    {
        let what = format!("{name} meets the condition");
        match timeout(self.patience, await_condition(api.clone(), name, condition)).await {
            Ok(met) => met.map_err(Error::api(self.name(), format!("watch {name}"))),
            Err(_) => Err(self.gave_up(what)),
        }
    }

    /// Waits, by watch, until the objects that `params` selects are as `met` wants them, and returns them by
    /// namespace and name. `what` names the state in the error, such as "ten pods run".
    ///
    /// # Errors
    /// As [`Member::wait_for`].
    pub async fn wait_for_all<K>(
        &self,
        api: &Api<K>,
        params: &ListParams,
        what: &str,
        mut met: impl FnMut(&[&K]) -> bool + Send,
    ) -> Result<Vec<K>, Error>
    where
        K: Clone + Debug + DeserializeOwned + Resource + Send + 'static,
    {
        let config = watcher::Config {
            label_selector: params.label_selector.clone(),
            field_selector: params.field_selector.clone(),
            ..watcher::Config::default()
        };
        let watch = async {
            let mut known = BTreeMap::new();
            let mut arriving = BTreeMap::new();
            let mut listed = false;
            let mut events = pin!(watcher(api.clone(), config).default_backoff());
            while let Some(event) = events.next().await {
                let key = |object: &K| (object.namespace(), object.name_any());
                match event {
                    Ok(Event::Init) => arriving = BTreeMap::new(),
                    Ok(Event::InitApply(object)) => {
                        arriving.insert(key(&object), object);
                    }
                    Ok(Event::InitDone) => {
                        known = std::mem::take(&mut arriving);
                        listed = true;
                    }
                    Ok(Event::Apply(object)) => {
                        known.insert(key(&object), object);
                    }
                    Ok(Event::Delete(object)) => {
                        known.remove(&key(&object));
                    }
                    // The watcher tries again by itself.
                    Err(_) => continue,
                }
                if listed && met(&known.values().collect::<Vec<_>>()) {
                    break;
                }
            }
            known.into_values().collect()
        };
        timeout(self.patience, watch)
            .await
            .map_err(|_| self.gave_up(what.into()))
    }

    /// A part that died says more than the time that passed.
    fn gave_up(&self, waited_for: String) -> Error {
        let timeout = Error::Timeout {
            member: self.name().into(),
            waited_for,
            after: self.patience,
        };
        self.check().err().unwrap_or(timeout)
    }
}
