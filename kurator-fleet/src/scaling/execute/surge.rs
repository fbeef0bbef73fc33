//! One replica more for Deployments whose budget allows nothing with the one they have.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use kurator_core::progress::Progress;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{DrainError, live::Key, session::Session};
use crate::scaling::Surge;

/// On a Deployment with one replica more: for which plan, and how many it had and has.
pub const SURGE: &str = "scaling.kurator.dev/surge";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Surged {
    plan: String,
    from: i64,
    to: i64,
}

fn surged(deployment: &Deployment) -> Option<Surged> {
    serde_json::from_str(deployment.annotations().get(SURGE)?).ok()
}

impl Session<'_> {
    /// Scales up what the nodes need before their pods can be evicted.
    pub(super) async fn begin_surges(&mut self, nodes: &[String]) -> Result<(), DrainError> {
        let needed: Vec<Surge> = self
            .course
            .surges
            .iter()
            .filter(|surge| !self.surging.contains(&key(surge)) && self.is_needed(surge, nodes))
            .cloned()
            .collect();
        for surge in needed {
            let plan = self.course.plan.clone();
            let step = format!("surge {}", surge.deployment);
            self.emit(&step, Progress::Started);
            self.edit(&surge, |deployment| {
                let replicas = deployment.spec.replicas.unwrap_or(1);
                // Somebody else scales it: then the budget alone decides.
                if surged(deployment).is_some() || i64::from(replicas) != surge.from {
                    return None;
                }
                let mark = Surged {
                    plan: plan.clone(),
                    from: surge.from,
                    to: surge.to,
                };
                let mark = serde_json::to_string(&mark).ok()?;
                Some(json!({"metadata": {"annotations": {SURGE: mark}}, "spec": {"replicas": surge.to}}))
            })
            .await?;
            self.emit(&step, Progress::Succeeded);
            self.surging.insert(key(&surge));
        }
        Ok(())
    }

    /// Scales back what no node but these empty ones needs any more.
    pub(super) async fn end_unused_surges(&mut self, empty: &[String]) -> Result<(), DrainError> {
        let others: Vec<String> = self
            .course
            .nodes()
            .filter(|node| !empty.contains(node))
            .cloned()
            .collect();
        let unused: BTreeSet<Key> = self
            .course
            .surges
            .iter()
            .filter(|surge| !self.is_needed(surge, &others))
            .map(key)
            .collect();
        self.end_surges(|surge| unused.contains(surge)).await
    }

    /// Scales back what this plan, in this process or one before, has scaled up.
    pub(super) async fn end_surges(&mut self, which: impl Fn(&Key) -> bool) -> Result<(), DrainError> {
        let ending: Vec<Surge> = self
            .course
            .surges
            .iter()
            .filter(|surge| which(&key(surge)) && !self.surges_ended.contains(&key(surge)))
            .cloned()
            .collect();
        for surge in ending {
            let plan = self.course.plan.clone();
            let step = format!("end the surge of {}", surge.deployment);
            self.emit(&step, Progress::Started);
            self.edit(&surge, |deployment| {
                let mark = surged(deployment).filter(|mark| mark.plan == plan)?;
                let replicas = deployment.spec.replicas.unwrap_or(1);
                let mut patch = json!({"metadata": {"annotations": {SURGE: null}}});
                if i64::from(replicas) == mark.to {
                    patch["spec"] = json!({"replicas": mark.from});
                }
                Some(patch)
            })
            .await?;
            self.emit(&step, Progress::Succeeded);
            self.surges_ended.insert(key(&surge));
        }
        Ok(())
    }

    /// Whether pods of its budget are on these nodes.
    fn is_needed(&self, surge: &Surge, nodes: &[String]) -> bool {
        let budget = (surge.budget.namespace.clone(), surge.budget.name.clone());
        nodes.iter().any(|node| {
            let mut pods = self.live.pods_on(node);
            pods.any(|(key, pod)| {
                !pod.finished
                    && self
                        .live
                        .budgets_of(key, pod)
                        .iter()
                        .any(|(name, _)| **name == budget)
            })
        })
    }

    async fn edit(
        &mut self,
        surge: &Surge,
        change: impl Fn(&Deployment) -> Option<Value> + Send + Sync,
    ) -> Result<(), DrainError> {
        let deployments: Api<Deployment> = Api::namespaced(self.control.clone(), &surge.deployment.namespace);
        let name = &surge.deployment.name;
        let mut tries = 0;
        loop {
            let deployment = deployments
                .get_opt(name)
                .await
                .map_err(DrainError::api("read a Deployment"))?;
            let Some(deployment) = deployment else {
                return Ok(());
            };
            let Some(mut patch) = change(&deployment) else {
                return Ok(());
            };
            patch["metadata"]["resourceVersion"] = deployment.metadata.resource_version.clone().into();
            match deployments
                .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
                .await
            {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
                Err(kube::Error::Api(status)) if status.code == 409 && tries < 20 => tries += 1,
                Err(error) => return Err(DrainError::api("scale a Deployment")(error)),
            }
        }
    }
}

fn key(surge: &Surge) -> Key {
    (surge.deployment.namespace.clone(), surge.deployment.name.clone())
}
