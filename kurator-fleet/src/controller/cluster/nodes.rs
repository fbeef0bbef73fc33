//! The nodes of a member, watched as far as their number matters.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use kurator_core::connect::{ClientPurpose, ClusterConnector};
use kurator_core::names::ClusterName;

use super::task::Task;
use crate::controller::status::Said;
use crate::scaling::execute::MARK;

/// The first pause before a member is reached out for again; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// One node, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Worker {
    control_plane: bool,
    ready: bool,
    marked: bool,
}

impl Worker {
    fn new(node: &Node) -> Self {
        let labels = node.labels();
        let conditions = node
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        Self {
            control_plane: labels.contains_key("node-role.kubernetes.io/control-plane")
                || labels.contains_key("node-role.kubernetes.io/master"),
            ready: conditions
                .into_iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
            marked: node.annotations().contains_key(MARK),
        }
    }
}

/// Worker nodes, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) workers: u32,
    pub(super) ready: u32,
    pub(super) marked: u32,
}

#[derive(Debug, Default)]
struct Known {
    /// None before the first list.
    nodes: Option<BTreeMap<String, Worker>>,
    arriving: BTreeMap<String, Worker>,
    /// Why the member does not answer, since the second failure in a row.
    failure: Option<Said>,
}

impl Known {
    /// Whether anything has changed that matters.
    fn take(&mut self, event: watcher::Event<Node>) -> bool {
        match event {
            watcher::Event::Init => {
                self.arriving.clear();
                false
            }
            watcher::Event::InitApply(node) => {
                self.arriving.insert(node.name_any(), Worker::new(&node));
                false
            }
            watcher::Event::InitDone => {
                let listed = Some(std::mem::take(&mut self.arriving));
                let changed = self.nodes != listed || self.failure.is_some();
                self.nodes = listed;
                self.failure = None;
                changed
            }
            watcher::Event::Apply(node) => {
                let worker = Worker::new(&node);
                let nodes = self.nodes.get_or_insert_default();
                nodes.insert(node.name_any(), worker) != Some(worker)
            }
            watcher::Event::Delete(node) => self
                .nodes
                .get_or_insert_default()
                .remove(&node.name_any())
                .is_some(),
        }
    }
}

/// Follows the nodes of one member until it is dropped.
#[derive(Debug)]
pub(super) struct NodeWatch {
    known: Arc<Mutex<Known>>,
    _task: Task,
}

impl NodeWatch {
    /// Calls `changed` whenever something has changed.
    pub(super) fn start(
        connector: Arc<dyn ClusterConnector>,
        member: ClusterName,
        changed: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let known = Arc::new(Mutex::new(Known::default()));
        let shared = Arc::clone(&known);
        let task = Task::spawn(async move {
            let mut failures = 0_u32;
            loop {
                let failure = follow(&*connector, &member, &shared, &changed, &mut failures).await;
                failures += 1;
                // Watches end now and then; that is no failure of the member.
                if failures > 1 {
                    lock(&shared).failure = Some(failure);
                    changed();
                }
                let pause = FIRST_PAUSE.saturating_mul(1 << (failures - 1).min(5));
                tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
            }
        });
        Self { known, _task: task }
    }

    /// The worker nodes; `None` before they are known, and why the member does not answer if so.
    pub(super) fn counts(&self) -> (Option<Counts>, Option<Said>) {
        let known = lock(&self.known);
        let counts = known.nodes.as_ref().map(|nodes| {
            let workers = nodes.values().filter(|node| !node.control_plane);
            workers.fold(Counts::default(), |counts, node| Counts {
                workers: counts.workers + 1,
                ready: counts.ready + u32::from(node.ready),
                marked: counts.marked + u32::from(node.marked),
            })
        });
        (counts, known.failure.clone())
    }
}

fn lock(known: &Mutex<Known>) -> std::sync::MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why it could not be followed any longer.
async fn follow(
    connector: &dyn ClusterConnector,
    member: &ClusterName,
    known: &Mutex<Known>,
    changed: &(impl Fn() + Sync),
    failures: &mut u32,
) -> Said {
    let client = match connector.client(member, ClientPurpose::Watch).await {
        Ok(client) => client,
        Err(error) => return Said::new(error.reason(), error.to_string()),
    };
    let mut events = watcher(Api::<Node>::all(client), watcher::Config::default()).boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                let listed = matches!(event, watcher::Event::InitDone);
                if lock(known).take(event) {
                    changed();
                }
                if listed {
                    *failures = 0;
                }
            }
            Err(error) => {
                if is_unauthorized(&error) {
                    connector.invalidate(member).await;
                }
                return Said::new("Unreachable", format!("its nodes cannot be watched: {error}"));
            }
        }
    }
    Said::new("Unreachable", "the watch of its nodes ended")
}

fn is_unauthorized(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 401,
        _ => false,
    }
}
