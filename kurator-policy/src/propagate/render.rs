//! One template as each member is to have it: replicas set, overrides applied.

use std::{collections::BTreeMap, sync::Arc};

use kurator_core::{observe::ClusterView, reason::with_causes};
use serde_json::{Value, json};

use super::{MemberReason, Rendered, ResourceInterpreter, Template, interpret::set, template::revision};
use crate::overrides::{OverrideReport, OverrideSet};

/// Renders one template for one member after the other. Members that are to have the same share it: a copy and its
/// fingerprint are made once for each number of replicas, and for each member that an override concerns.
pub(super) struct Renderer<'a> {
    template: &'a Template,
    overrides: &'a OverrideSet,
    interpreter: &'a dyn ResourceInterpreter,
    divided: BTreeMap<Share, Divided>,
}

/// What a member is given: replicas, and parts of totals, by the pointers to them.
type Share = (Option<u32>, Vec<(String, u32)>);

/// A template with its replicas, before overrides.
#[derive(Clone)]
struct Divided {
    manifest: Arc<Value>,
    applied: Option<u32>,
    revision: String,
}

impl<'a> Renderer<'a> {
    pub(super) fn new(
        template: &'a Template,
        overrides: &'a OverrideSet,
        interpreter: &'a dyn ResourceInterpreter,
    ) -> Self {
        Self {
            template,
            overrides,
            interpreter,
            divided: BTreeMap::new(),
        }
    }

    /// The template for a member, and what overrides did to it.
    pub(super) fn render(
        &mut self,
        replicas: Option<u32>,
        parts: &[(String, u32)],
        cluster: &ClusterView,
    ) -> (Rendered, OverrideReport) {
        let (template, interpreter) = (self.template, self.interpreter);
        let divided = self
            .divided
            .entry((replicas, parts.to_vec()))
            .or_insert_with(|| Divided::of(template, replicas, parts, interpreter));
        match self.overrides.change(&divided.manifest, cluster) {
            Ok(None) => (Rendered::from(divided.clone()), OverrideReport::default()),
            Ok(Some(changed)) => {
                let rendered = Divided::new(template, replicas, changed.object, interpreter);
                (Rendered::from(rendered), changed.report)
            }
            Err(error) => {
                let reason = MemberReason::Object(error.reason());
                let message = with_causes(&error);
                (Rendered::Held { reason, message }, OverrideReport::default())
            }
        }
    }
}

impl Divided {
    fn of(
        template: &Template,
        replicas: Option<u32>,
        parts: &[(String, u32)],
        interpreter: &dyn ResourceInterpreter,
    ) -> Self {
        if replicas.is_none() && parts.is_empty() {
            return Self {
                manifest: Arc::clone(&template.manifest),
                applied: None,
                revision: template.revision.clone(),
            };
        }
        let mut manifest = Value::clone(&template.manifest);
        if let Some(replicas) = replicas {
            interpreter.set_replicas(&template.key.kind, &mut manifest, replicas);
        }
        for (pointer, part) in parts {
            set(&mut manifest, pointer, json!(part));
        }
        Self::new(template, replicas, manifest, interpreter)
    }

    fn new(
        template: &Template,
        replicas: Option<u32>,
        manifest: Value,
        interpreter: &dyn ResourceInterpreter,
    ) -> Self {
        Self {
            applied: replicas.and_then(|_| interpreter.replicas(&template.key.kind, &manifest)),
            revision: revision(&manifest),
            manifest: Arc::new(manifest),
        }
    }
}

impl From<Divided> for Rendered {
    fn from(divided: Divided) -> Self {
        Self::Manifest {
            manifest: divided.manifest,
            applied: divided.applied,
            revision: divided.revision,
        }
    }
}
