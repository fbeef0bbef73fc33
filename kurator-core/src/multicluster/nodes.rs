//! The nodes' say in the health of their member, and nothing else of them.

use std::collections::BTreeMap;
use std::fmt;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, watcher::Config};
use kube::{Api, ResourceExt};
use tokio_util::sync::DropGuard;

use super::each::on_each;
use super::engaged::EngagedMember;
use super::members::Members;
use crate::health::{NodeHealth, cloud_nodes};

/// Watches the nodes of every engaged member for what they mean for its health: it is not ready when it has cloud nodes
/// and none of them is. Two bits a node are kept. [`Facts`](super::Facts) does the same and keeps the nodes too.
///
/// Dropping the value ends it.
///
/// # RBAC
/// On the member: `list` and `watch` of `nodes`. Where that is not allowed the nodes have no say.
pub struct CloudNodes {
    _observing: DropGuard,
}

impl fmt::Debug for CloudNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudNodes").finish_non_exhaustive()
    }
}

impl CloudNodes {
    /// Starts to watch, in background tasks of the current runtime.
    #[must_use]
    pub fn watch(members: &Members) -> Self {
        Self {
            _observing: on_each(members, |member| Box::pin(async move { observe(&member).await })),
        }
    }
}

async fn observe(member: &EngagedMember) {
    let events = watcher(Api::<Node>::all(member.client()), Config::default()).default_backoff();
    futures::pin_mut!(events);
    let (mut nodes, mut listed) = (BTreeMap::new(), BTreeMap::new());
    while let Some(event) = events.next().await {
        if take(event, &mut nodes, &mut listed) {
            member.report_nodes(cloud_nodes(nodes.values().copied()));
        }
    }
}

/// Tells whether the nodes are others than before.
fn take(
    event: watcher::Result<Event<Node>>,
    nodes: &mut BTreeMap<String, NodeHealth>,
    listed: &mut BTreeMap<String, NodeHealth>,
) -> bool {
    match event {
        Ok(Event::Init) => {
            listed.clear();
            false
        }
        Ok(Event::InitApply(node)) => {
            listed.insert(node.name_any(), NodeHealth::from(&node));
            false
        }
        Ok(Event::InitDone) => {
            *nodes = std::mem::take(listed);
            true
        }
        Ok(Event::Apply(node)) => {
            let health = NodeHealth::from(&node);
            nodes.insert(node.name_any(), health) != Some(health)
        }
        Ok(Event::Delete(node)) => nodes.remove(&node.name_any()).is_some(),
        Err(error) => {
            tracing::debug!(%error, "nodes are watched again; what was last seen of them counts");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{HealthReason, Probe};

    fn node(name: &str, ready: &str) -> Node {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    #[test]
    fn a_list_counts_once_it_is_complete_and_a_heartbeat_is_no_news() {
        let (mut nodes, mut listed) = (BTreeMap::new(), BTreeMap::new());
        let mut see = |event| {
            let news = take(Ok(event), &mut nodes, &mut listed);
            (news, cloud_nodes(nodes.values().copied()))
        };
        let down = Probe::Failed(HealthReason::CloudNodesNotReady);
        assert_eq!(see(Event::Init), (false, Probe::Succeeded));
        assert_eq!(
            see(Event::InitApply(node("a", "False"))),
            (false, Probe::Succeeded),
            "half a list says nothing"
        );
        assert_eq!(see(Event::InitDone), (true, down));
        assert_eq!(see(Event::Apply(node("b", "True"))), (true, Probe::Succeeded));
        assert_eq!(see(Event::Apply(node("b", "True"))), (false, Probe::Succeeded));
        assert_eq!(see(Event::Delete(node("b", "True"))), (true, down));
    }
}
