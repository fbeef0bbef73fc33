//! One template as one member is to have it: replicas set, overrides applied.

use kurator_core::{observe::ClusterView, reason::with_causes};
use serde_json::json;

use super::{MemberReason, Rendered, ResourceInterpreter, Template, interpret::set, template::revision};
use crate::overrides::{OverrideReport, OverrideSet};

/// A rendered template, and what overrides did to it.
pub(super) fn render(
    template: &Template,
    replicas: Option<u32>,
    parts: &[(String, u32)],
    cluster: &ClusterView,
    overrides: &OverrideSet,
    interpreter: &dyn ResourceInterpreter,
) -> (Rendered, OverrideReport) {
    let mut divided = template.manifest.clone();
    if let Some(replicas) = replicas {
        interpreter.set_replicas(&template.key.kind, &mut divided, replicas);
    }
    for (pointer, part) in parts {
        set(&mut divided, pointer, json!(part));
    }
    match overrides.render(&divided, cluster) {
        Ok(rendered) => {
            let applied = match replicas {
                Some(_) => interpreter.replicas(&template.key.kind, &rendered.object),
                None => None,
            };
            let revision = revision(&rendered.object);
            (
                Rendered::Manifest {
                    manifest: rendered.object,
                    applied,
                    revision,
                },
                rendered.report,
            )
        }
        Err(error) => {
            let reason = MemberReason::Object(error.reason());
            (
                Rendered::Held {
                    reason,
                    message: with_causes(&error),
                },
                OverrideReport::default(),
            )
        }
    }
}
