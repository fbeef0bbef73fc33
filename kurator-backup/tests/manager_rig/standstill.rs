//! Applications that hold still while a Lease of their member says so, and the barrier that writes these Leases.
//!
//! What a member promises outlives whoever asked: a Lease is an object of the member, and ends there by its time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    pin::pin,
    time::Duration,
};

use async_trait::async_trait;
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::ConfigMap,
    },
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use kurator_backup::driver::{ConsistencyBarrier, DriverError, OwnerToken, QuiesceRequest, QuiesceState};
use kurator_core::{
    clock::{Clock, SystemClock},
    names::ClusterName,
};
use kurator_envtest::{Fleet, Member};
use serde_json::json;
use tokio::{sync::watch, task::JoinHandle};

/// On every Lease of the barrier.
const LABEL: &str = "test.kurator.dev/standstill";
/// Set by the applications once they hold still.
const STILL: &str = "test.kurator.dev/still";
/// Where the applications write.
pub(crate) const LEDGER: &str = "ledger";
/// Between two writes of the applications, and two looks at the Leases.
const PACE: Duration = Duration::from_millis(50);

fn now() -> Timestamp {
    SystemClock::new().now()
}

fn end(lease: &Lease) -> Timestamp {
    let spec = lease.spec.clone().unwrap_or_default();
    let renewed = spec.renew_time.map_or(Timestamp::MIN, |time| time.0);
    renewed + SignedDuration::from_secs(spec.lease_duration_seconds.unwrap_or_default().into())
}

fn is_still(lease: &Lease) -> bool {
    lease.annotations().contains_key(STILL)
}

/// Leases in the namespace `default` of each member.
#[derive(Clone)]
pub(crate) struct LeaseBarrier(BTreeMap<ClusterName, Client>);

impl fmt::Debug for LeaseBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl LeaseBarrier {
    pub(crate) fn new(clients: BTreeMap<ClusterName, Client>) -> Self {
        Self(clients)
    }

    fn api(&self, cluster: &ClusterName) -> Api<Lease> {
        Api::default_namespaced(self.0[cluster.as_str()].clone())
    }
}

fn unreachable(cluster: &ClusterName, error: kube::Error) -> DriverError {
    DriverError::Unreachable {
        cluster: cluster.clone(),
        action: "hold its applications still".into(),
        source: Some(Box::new(error)),
    }
}

#[async_trait]
impl ConsistencyBarrier for LeaseBarrier {
    async fn quiesce(
        &self,
        cluster: &ClusterName,
        request: &QuiesceRequest,
    ) -> Result<QuiesceState, DriverError> {
        let failed = |error| unreachable(cluster, error);
        let (api, name, now) = (self.api(cluster), request.owner.as_str(), now());
        let seconds = request.until.duration_since(now).as_secs();
        let spec = LeaseSpec {
            holder_identity: Some(name.into()),
            renew_time: Some(MicroTime(now)),
            lease_duration_seconds: i32::try_from(seconds).ok(),
            ..LeaseSpec::default()
        };
        let found = api.get_opt(name).await.map_err(failed)?;
        let lease = match found.filter(|lease| end(lease) > now) {
            None if request.only_renew || seconds <= 0 => {
                return Ok(QuiesceState::Failed {
                    message: "there is no lease to renew".into(),
                });
            }
            None => {
                // What is left of one that has ended says nothing about now.
                match api.delete(name, &DeleteParams::default()).await {
                    Ok(_) => {}
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    Err(error) => return Err(failed(error)),
                }
                let lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(name.into()),
                        labels: Some([(LABEL.to_owned(), "yes".to_owned())].into()),
                        ..ObjectMeta::default()
                    },
                    spec: Some(spec),
                };
                api.create(&PostParams::default(), &lease).await.map_err(failed)?
            }
            Some(lease) if request.until.duration_since(end(&lease)) > SignedDuration::from_secs(1) => {
                let patch = Patch::Merge(json!({ "spec": spec }));
                let renewed = api.patch(name, &PatchParams::default(), &patch).await;
                renewed.map_err(failed)?
            }
            Some(lease) => lease,
        };
        Ok(if is_still(&lease) {
            QuiesceState::Held {
                pods: 1,
                until: end(&lease),
            }
        } else {
            QuiesceState::Pending { held: 0, wanted: 1 }
        })
    }

    async fn release(&self, cluster: &ClusterName, request: &QuiesceRequest) -> Result<(), DriverError> {
        let api = self.api(cluster);
        match api.delete(request.owner.as_str(), &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(unreachable(cluster, error)),
        }
    }

    async fn holders(&self, cluster: &ClusterName) -> Result<BTreeSet<OwnerToken>, DriverError> {
        let leases = held(&self.api(cluster)).await;
        let leases = leases.map_err(|error| unreachable(cluster, error))?;
        Ok(leases
            .iter()
            .map(|lease| OwnerToken::read(lease.name_any()))
            .collect())
    }
}

/// The Leases that have not ended.
async fn held(api: &Api<Lease>) -> kube::Result<Vec<Lease>> {
    let mut leases = api.list(&ListParams::default().labels(LABEL)).await?.items;
    let now = now();
    leases.retain(|lease| end(lease) > now);
    Ok(leases)
}

/// Applications with nothing to write, which hold still as soon as they see that they are to.
#[derive(Debug)]
pub(crate) struct Idle(Vec<JoinHandle<()>>);

impl Drop for Idle {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Idle {
    pub(crate) fn start<'a>(members: impl IntoIterator<Item = &'a Member>) -> Self {
        let listen = |member: &Member| {
            let api = Api::<Lease>::default_namespaced(member.direct_client().unwrap());
            tokio::spawn(async move {
                let leases = watcher(api.clone(), watcher::Config::default().labels(LABEL));
                let mut leases = pin!(leases.default_backoff().applied_objects());
                while let Some(lease) = leases.next().await {
                    // The watcher tries again by itself.
                    if let Ok(lease) = lease {
                        hold_still(&api, &lease).await;
                    }
                }
            })
        };
        Self(members.into_iter().map(listen).collect())
    }
}

/// Applications of several members that depend on each other: entry 0 is written on the first member, then on the
/// second, and so on, then entry 1. An entry on a member is the effect of the same entry on the members before.
#[derive(Debug)]
pub(crate) struct Ledger {
    written: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ledger {
    /// They work on the members themselves, whatever becomes of the network to us.
    pub(crate) async fn start(fleet: &Fleet, names: &[&str]) -> Self {
        let mut clients = Vec::new();
        for name in names {
            let member = fleet.member(name).unwrap();
            let namespace =
                json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": LEDGER } });
            member.apply(&namespace.to_string()).await.unwrap();
            clients.push(member.direct_client().unwrap());
        }
        // Those of a ledger before are entries too.
        let maps = Api::<ConfigMap>::namespaced(clients[0].clone(), LEDGER);
        let first = maps.list_metadata(&ListParams::default()).await.unwrap();
        let first = first.items.len() as u64;
        let (sender, written) = watch::channel(first);
        let task = tokio::spawn(async move {
            for entry in first.. {
                for member in 0..clients.len() {
                    may_write(&clients, member).await;
                    write(&clients[member], entry).await;
                }
                sender.send_replace(entry + 1);
            }
        });
        Self { written, task }
    }

    /// Until there are as many more entries: nobody holds the applications still for good.
    pub(crate) async fn goes_on(&mut self, entries: u64) {
        let goal = *self.written.borrow_and_update() + entries;
        let waited = tokio::time::timeout(
            Duration::from_secs(60),
            self.written.wait_for(|written| *written >= goal),
        );
        waited.await.expect("the applications hold still").unwrap();
    }
}

/// Says on a Lease that the applications hold still.
async fn hold_still(api: &Api<Lease>, lease: &Lease) {
    if is_still(lease) {
        return;
    }
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { STILL: "yes" } } }));
    match api
        .patch(&lease.name_any(), &PatchParams::default(), &patch)
        .await
    {
        Ok(_) => {}
        // Released since.
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => panic!("{error}"),
    }
}

/// Says on every Lease that the applications hold still, and waits until none is on this member.
async fn may_write(clients: &[Client], member: usize) {
    let mut looks = tokio::time::interval(PACE);
    loop {
        looks.tick().await;
        let mut free = true;
        for (index, client) in clients.iter().enumerate() {
            let api = Api::<Lease>::default_namespaced(client.clone());
            for lease in held(&api).await.unwrap() {
                free &= index != member;
                hold_still(&api, &lease).await;
            }
        }
        if free {
            return;
        }
    }
}

async fn write(client: &Client, entry: u64) {
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(format!("entry-{entry:06}")),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    };
    let maps = Api::<ConfigMap>::namespaced(client.clone(), LEDGER);
    maps.create(&PostParams::default(), &map).await.unwrap();
}
