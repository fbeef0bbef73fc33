use serde_json::{Value, json};

use super::InMemoryMember;

impl InMemoryMember {
    /// Does at once what the controllers of a member would do over time: workloads get as many ready replicas as
    /// they ask for. A member that is unreachable goes on doing so; it just does not tell.
    pub fn settle(&self) {
        for (key, stored) in self.stored() {
            if key.group != "apps" || !matches!(key.kind.as_str(), "Deployment" | "StatefulSet") {
                continue;
            }
            let object = stored.object;
            let replicas = object
                .pointer("/spec/replicas")
                .and_then(Value::as_u64)
                .unwrap_or(1);
            let status = json!({
                "observedGeneration": object.pointer("/metadata/generation"),
                "replicas": replicas,
                "updatedReplicas": replicas,
                "readyReplicas": replicas,
                "availableReplicas": replicas,
            });
            self.set_status(&key, status);
        }
    }
}
