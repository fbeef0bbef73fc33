//! What a look at an object in a member tells of how it is doing.

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::worker::Tools;
use crate::{
    failover::PickedState,
    propagate::{ObjectHealth, ObjectKind, ObjectObserved},
};

/// How an object is doing, as its kind tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glance {
    created: Option<u32>,
    ready: Option<u32>,
    health: ObjectHealth,
    kept: Option<Value>,
    state: Option<PickedState>,
}

impl Glance {
    pub(super) fn at(tools: &Tools, owner: &str, kind: &ObjectKind, object: &DynamicObject) -> Self {
        let interpreter = &*tools.interpreter;
        let mut whole = object.data.clone();
        if let Value::Object(fields) = &mut whole {
            // A status may be about an earlier generation.
            let generation = object.metadata.generation;
            fields.insert("metadata".to_owned(), json!({ "generation": generation }));
        }
        Self {
            created: interpreter.created_replicas(kind, &whole),
            ready: interpreter.ready_replicas(kind, &whole),
            health: interpreter.health(kind, &whole),
            state: tools.states.pick(owner, &whole),
            kept: tools
                .settings
                .aggregate_status
                .then(|| interpreter.kept_status(kind, &whole))
                .flatten(),
        }
    }

    /// Writes it down.
    pub(super) fn tell(self, known: &mut ObjectObserved) {
        known.created = self.created;
        known.ready = self.ready;
        known.health = Some(self.health);
        known.kept = self.kept;
        known.state = self.state;
    }
}
