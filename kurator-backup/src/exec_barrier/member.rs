//! The API calls on one member.

use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::Selector,
};
use kurator_core::names::ClusterName;
use serde_json::json;

use super::{
    ExecBarrier,
    call::{Called, call},
    command::{Commands, Verb},
    judge::{Problem, not_held, released},
    pods::{self, Place},
    record,
};
use crate::driver::{BackupHook, DriverError, OwnerToken, QuiesceRequest, QuiesceState};

/// Pods that are asked for at once.
const PAGE: u32 = 500;
/// Containers of one member that are called at once.
const CALLS: usize = 32;
/// Containers one lease may hold: they are written down in one object.
const MOST_PLACES: usize = 1000;

/// A member during one call.
pub(super) struct Member<'a> {
    pub(super) barrier: &'a ExecBarrier,
    pub(super) cluster: &'a ClusterName,
    pub(super) action: &'a str,
    pub(super) client: Client,
}

impl Member<'_> {
    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.barrier.namespace)
    }

    async fn failed(&self, error: kube::Error) -> DriverError {
        let (cluster, action) = (self.cluster.clone(), self.action.to_owned());
        match error {
            kube::Error::Api(status) if status.code == 404 => DriverError::NotInstalled {
                cluster,
                missing: format!("namespace {}", self.barrier.namespace),
            },
            kube::Error::Api(status) if matches!(status.code, 401 | 403) => {
                if status.code == 401 {
                    self.barrier.connector.invalidate(self.cluster).await;
                }
                DriverError::Forbidden {
                    cluster,
                    action,
                    source: Some(Box::new(kube::Error::Api(status))),
                }
            }
            kube::Error::Api(status) if matches!(status.code, 400 | 409 | 413 | 422) => {
                DriverError::Refused {
                    cluster,
                    action,
                    message: status.message.clone(),
                }
            }
            error => self.silent(Some(error)),
        }
    }

    fn silent(&self, error: Option<kube::Error>) -> DriverError {
        DriverError::Unreachable {
            cluster: self.cluster.clone(),
            action: self.action.to_owned(),
            source: error.map(|error| Box::new(error).into()),
        }
    }

    pub(super) async fn record(&self, owner: &OwnerToken) -> Result<Option<Lease>, DriverError> {
        match self.leases().get_opt(&record::name(owner)).await {
            Ok(found) => Ok(found),
            Err(error) => Err(self.failed(error).await),
        }
    }

    /// The containers that the hooks are for now, or why there is no answer.
    pub(super) async fn places(
        &self,
        hooks: &[BackupHook],
    ) -> Result<Result<Vec<Place>, String>, DriverError> {
        let mut selected = Vec::new();
        for hook in hooks {
            if pods::is_boundless(hook) {
                return Ok(Err(format!(
                    "hook {} selects every pod of the cluster; give it namespaces or labels",
                    hook.name
                )));
            }
            let selector = hook.label_selector.clone().unwrap_or_default();
            let Ok(selector) = Selector::try_from(selector) else {
                return Ok(Err(format!(
                    "labelSelector of hook {} is no label selector",
                    hook.name
                )));
            };
            let params = ListParams::default().labels_from(&selector).limit(PAGE);
            let apis: Vec<Api<Pod>> = match pods::namespaces(hook) {
                None => vec![Api::all(self.client.clone())],
                Some(names) => {
                    let api = |name| Api::namespaced(self.client.clone(), name);
                    names.into_iter().map(api).collect()
                }
            };
            let mut found = Vec::new();
            for api in apis {
                found.extend(self.list(&api, params.clone()).await?);
            }
            selected.push((hook, found));
        }
        Ok(match pods::places(&selected) {
            Ok(places) if places.len() > MOST_PLACES => Err(format!(
                "the hooks select {} containers, at most {MOST_PLACES} can be held at once; select fewer",
                places.len()
            )),
            Ok(places) => Ok(places),
            Err(missing) => Err(format!(
                "pod {} has no container {}, which hook {} names",
                missing.pod, missing.container, missing.hook
            )),
        })
    }

    async fn list(&self, api: &Api<Pod>, mut params: ListParams) -> Result<Vec<Pod>, DriverError> {
        let mut pods = Vec::new();
        loop {
            let page = match api.list(&params).await {
                Ok(page) => page,
                Err(error) => return Err(self.failed(error).await),
            };
            pods.extend(page.items);
            match page.metadata.continue_.filter(|more| !more.is_empty()) {
                Some(more) => params.continue_token = Some(more),
                None => return Ok(pods),
            }
        }
    }

    /// Asks every container. What they are asked goes on in them when this is dropped.
    pub(super) async fn call_all(
        &self,
        request: &QuiesceRequest,
        places: &[Place],
        verb: Verb,
    ) -> Vec<(Place, Called)> {
        let calls = places.iter().cloned().map(|place| {
            let commands = Commands::new(&request.hooks, &place);
            let folders = &self.barrier.folders;
            let script = commands.script(self.cluster.as_str(), &request.owner, folders, verb);
            let client = self.client.clone();
            async move {
                let called = call(client, &place, &script).await;
                (place, called)
            }
        });
        stream::iter(calls).buffer_unordered(CALLS).collect().await
    }

    /// Lets the containers go. `None` if all of them have.
    pub(super) async fn release(
        &self,
        request: &QuiesceRequest,
        places: &[Place],
    ) -> Option<(Place, Problem)> {
        let called = self.call_all(request, places, Verb::Release).await;
        called.into_iter().find_map(|(place, called)| {
            let problem = released(&request.hooks, &place, called)?;
            Some((place, problem))
        })
    }

    pub(super) fn problem(&self, place: &Place, problem: Problem) -> DriverError {
        let (cluster, action) = (self.cluster.clone(), self.action.to_owned());
        match problem {
            Problem::Forbidden(error) => DriverError::Forbidden {
                cluster,
                action: format!("run commands in {place}"),
                source: Some(Box::new(error)),
            },
            Problem::No(message) => DriverError::Refused {
                cluster,
                action,
                message,
            },
            Problem::Silent(error) => DriverError::Unreachable {
                cluster,
                action: format!("let go of {place}"),
                source: error.map(|error| Box::new(error).into()),
            },
            Problem::Later | Problem::Gone => DriverError::Unreachable {
                cluster,
                action: format!("let go of {place}"),
                source: None,
            },
        }
    }

    /// Everything is let go because of something: the record stays if that may not have worked.
    pub(super) async fn give_up(
        &self,
        request: &QuiesceRequest,
        places: &[Place],
        message: String,
    ) -> QuiesceState {
        if self.release(request, places).await.is_none() {
            // What is left says only that it was tried, and ends by its time.
            let _ = self.forget(&request.owner).await;
        }
        QuiesceState::Failed { message }
    }

    pub(super) async fn forget(&self, owner: &OwnerToken) -> Result<(), DriverError> {
        match self
            .leases()
            .delete(&record::name(owner), &DeleteParams::default())
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(self.failed(error).await),
        }
    }

    pub(super) async fn all_records(&self) -> Result<Vec<Lease>, DriverError> {
        let params = ListParams::default().labels(record::LABEL);
        match self.leases().list(&params).await {
            Ok(leases) => Ok(leases.items),
            Err(error) => Err(self.failed(error).await),
        }
    }

    /// Takes away what owners that never came back left behind.
    pub(super) async fn sweep(&self, now: Timestamp) -> Result<(), DriverError> {
        for lease in self.all_records().await? {
            let kept_until = record::end(&lease).saturating_add(record::KEPT_FOR);
            if kept_until.is_ok_and(|until| until < now)
                && let Some(owner) = record::owner(&lease)
            {
                self.forget(&owner).await?;
            }
        }
        Ok(())
    }

    /// Asks everyone whether they could hold still, before anyone does. `Some` if not.
    pub(super) async fn probe(
        &self,
        request: &QuiesceRequest,
        places: &[Place],
    ) -> Result<Option<QuiesceState>, DriverError> {
        for (place, called) in self.call_all(request, places, Verb::Probe).await {
            match not_held(request, &place, called) {
                Some(Problem::No(message)) => return Ok(Some(QuiesceState::Failed { message })),
                Some(Problem::Forbidden(error)) => {
                    return Err(self.problem(&place, Problem::Forbidden(error)));
                }
                Some(Problem::Silent(error)) => return Err(self.silent(error)),
                None | Some(Problem::Gone | Problem::Later) => {}
            }
        }
        Ok(None)
    }

    /// Writes down whom we are about to hold, and until when.
    pub(super) async fn write_down(
        &self,
        request: &QuiesceRequest,
        found: Option<Lease>,
        places: &[Place],
        now: Timestamp,
    ) -> Result<(), DriverError> {
        let api = self.leases();
        let written = match found {
            None => {
                let lease = record::lease(&request.owner, places, now, request.until);
                api.create(&PostParams::default(), &lease).await
            }
            Some(lease) => {
                let later = request.until.duration_since(record::end(&lease)) > SignedDuration::from_secs(1);
                if !later && record::places(&lease).as_deref() == Some(places) {
                    return Ok(());
                }
                let until = request.until.max(record::end(&lease));
                let patch = json!({
                    "metadata": {
                        "resourceVersion": lease.resource_version(),
                        "annotations": record::annotations(places),
                    },
                    "spec": record::spec(&request.owner, now, until),
                });
                let params = PatchParams::default();
                api.patch(&lease.name_any(), &params, &Patch::Merge(patch)).await
            }
        };
        match written {
            Ok(_) => Ok(()),
            // Somebody else wrote under the same owner: ask again, and see what.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                Err(self.silent(Some(kube::Error::Api(status))))
            }
            Err(error) => Err(self.failed(error).await),
        }
    }
}
