use std::{fmt, sync::Arc};

use serde_json::Value;

use super::super::ObjectKind;
use super::{ObjectHealth, ReplicaRequirements, ResourceInterpreter};

type Read<T> = Arc<dyn Fn(&Value) -> T + Send + Sync>;
type Write = Arc<dyn Fn(&mut Value, u32) + Send + Sync>;
type Change = Arc<dyn Fn(&mut Value) + Send + Sync>;

/// A kind told by closures; register it with [`Kinds`](super::Kinds). What is not told is as of a kind of which
/// nothing is known.
#[derive(Clone, Default)]
pub struct CustomKind {
    replicas: Option<(Read<Option<u32>>, Write)>,
    ready: Option<Read<Option<u32>>>,
    requirements: Option<Read<Option<ReplicaRequirements>>>,
    health: Option<Read<ObjectHealth>>,
    strip: Option<Change>,
    member_owned: Vec<String>,
}

impl CustomKind {
    /// How replicas are read and set.
    #[must_use]
    pub fn with_replicas(
        mut self,
        read: impl Fn(&Value) -> Option<u32> + Send + Sync + 'static,
        set: impl Fn(&mut Value, u32) + Send + Sync + 'static,
    ) -> Self {
        self.replicas = Some((Arc::new(read), Arc::new(set)));
        self
    }

    /// How many replicas are ready.
    #[must_use]
    pub fn with_ready_replicas(
        mut self,
        read: impl Fn(&Value) -> Option<u32> + Send + Sync + 'static,
    ) -> Self {
        self.ready = Some(Arc::new(read));
        self
    }

    /// What a replica needs of a node.
    #[must_use]
    pub fn with_requirements(
        mut self,
        read: impl Fn(&Value) -> Option<ReplicaRequirements> + Send + Sync + 'static,
    ) -> Self {
        self.requirements = Some(Arc::new(read));
        self
    }

    /// How an object is doing.
    #[must_use]
    pub fn with_health(mut self, read: impl Fn(&Value) -> ObjectHealth + Send + Sync + 'static) -> Self {
        self.health = Some(Arc::new(read));
        self
    }

    /// What is taken out before it is copied.
    #[must_use]
    pub fn with_strip(mut self, strip: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        self.strip = Some(Arc::new(strip));
        self
    }

    /// A field that a controller in the member may own, as a JSON pointer.
    #[must_use]
    pub fn with_member_owned(mut self, pointer: impl Into<String>) -> Self {
        self.member_owned.push(pointer.into());
        self
    }
}

impl fmt::Debug for CustomKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomKind")
            .field("replicas", &self.replicas.is_some())
            .field("ready", &self.ready.is_some())
            .field("requirements", &self.requirements.is_some())
            .field("health", &self.health.is_some())
            .field("strip", &self.strip.is_some())
            .field("member_owned", &self.member_owned)
            .finish()
    }
}

impl ResourceInterpreter for CustomKind {
    fn replicas(&self, _: &ObjectKind, object: &Value) -> Option<u32> {
        self.replicas.as_ref().and_then(|(read, _)| read(object))
    }

    fn set_replicas(&self, _: &ObjectKind, object: &mut Value, replicas: u32) {
        if let Some((_, set)) = &self.replicas {
            set(object, replicas);
        }
    }

    fn ready_replicas(&self, _: &ObjectKind, object: &Value) -> Option<u32> {
        self.ready.as_ref().and_then(|read| read(object))
    }

    fn strip(&self, _: &ObjectKind, object: &mut Value) {
        if let Some(strip) = &self.strip {
            strip(object);
        }
    }

    fn requirements(&self, _: &ObjectKind, object: &Value) -> Option<ReplicaRequirements> {
        self.requirements.as_ref().and_then(|read| read(object))
    }

    fn health(&self, _: &ObjectKind, object: &Value) -> ObjectHealth {
        self.health
            .as_ref()
            .map_or(ObjectHealth::Unknown, |read| read(object))
    }

    fn member_owned(&self, _: &ObjectKind, _: &Value) -> Vec<String> {
        self.member_owned.clone()
    }
}
