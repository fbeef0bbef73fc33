//! Puts on record which cluster a `Cluster` is. An `AttachedCluster` has it in the status that its controller writes.

use std::sync::Arc;
use std::time::Duration;

use kube::Api;
use kube::api::{Patch, PatchParams};
use kurator_core::membership::Membership;
use serde_json::json;

use super::context::Context;
use crate::api::Cluster;

/// How soon after a write that failed the next one comes.
const AGAIN: Duration = Duration::from_secs(10);

/// At first contact, and never again: another identity behind the same kubeconfig is then refused.
pub(super) async fn run(context: Arc<Context>) {
    let api: Api<Cluster> = Api::namespaced(context.hub.clone(), &context.namespace);
    let (mut seen, mut registered) = (context.members.changes(), context.fleets.changes());
    loop {
        seen.mark_unchanged();
        registered.mark_unchanged();
        let mut failed = false;
        for cluster in context.fleets.managed().unwrap_or_default() {
            let name = cluster.member.name;
            let known = context.members.status(&name).and_then(|known| known.uid);
            // The name may be that of an attached cluster too, which then is the member.
            let member = context.members.registration(&name);
            let ours = member.is_some_and(|member| member.kubeconfig == cluster.member.kubeconfig);
            let (None, Some(uid), true) = (cluster.member.uid, known, ours) else {
                continue;
            };
            let patch = json!({ "status": { "clusterUid": uid } });
            let written = api
                .patch_status(name.as_str(), &PatchParams::default(), &Patch::Merge(patch))
                .await;
            if let Err(error) = written {
                failed = true;
                tracing::warn!(cluster = %name, %error, "its identity is put on record later");
            }
        }
        tokio::select! {
            changed = seen.changed() => if changed.is_err() { return },
            changed = registered.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN), if failed => {}
        }
    }
}
