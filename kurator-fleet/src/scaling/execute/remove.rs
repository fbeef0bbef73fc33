//! How nodes leave a plan: removed, or let go.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use kube::api::{DeleteParams, Preconditions};
use kurator_core::{progress::Progress, reason::Reason};

use super::{
    DrainError, DrainExecutor, Left, Machine,
    mark::{Marks, Step},
    session::Session,
};

/// Machines that are removed at once.
const AT_ONCE: usize = 16;

/// One node that goes.
struct Removal<'e> {
    executor: &'e DrainExecutor,
    marks: Marks,
    machine: Machine,
    uid: Option<String>,
}

impl Removal<'_> {
    async fn run(self) -> Result<String, DrainError> {
        let Self {
            executor,
            marks,
            machine,
            uid,
        } = self;
        let name = machine.node.clone();
        let step = format!("mark {name} for removal");
        executor.emit(&step, Progress::Started);
        marks.step(&name, Step::Removing).await?;
        executor.emit(&step, Progress::Succeeded);

        let step = format!("remove the machine of {name}");
        let infrastructure = &executor.infrastructure;
        let fault = |error| DrainError::Infrastructure(Box::new(error));
        executor.emit(&step, Progress::Started);
        // A process before this one may have asked already.
        if infrastructure.exists(&machine).await.map_err(fault)? {
            infrastructure.remove(&machine).await.map_err(fault)?;
        }
        executor.emit(&step, Progress::Succeeded);

        let step = format!("delete node {name}");
        executor.emit(&step, Progress::Started);
        let params = DeleteParams {
            preconditions: uid.map(|uid| Preconditions {
                uid: Some(uid),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match marks.nodes.delete(&name, &params).await {
            Ok(_) => {}
            // The infrastructure may have deleted it, or a new machine may have its name.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => return Err(DrainError::api("delete a node")(error)),
        }
        executor.emit(&step, Progress::Succeeded);
        Ok(name)
    }
}

impl Session<'_> {
    /// Removes empty nodes, several at a time.
    ///
    /// One that fails does not keep the others; the first failure is told when all have been tried.
    pub(super) async fn remove(&mut self, nodes: &[String]) -> Result<(), DrainError> {
        // The node that carries the course goes after all others.
        let holder = self.course.holder().cloned();
        let (last, first): (Vec<_>, Vec<_>) = nodes.iter().partition(|node| holder.as_ref() == Some(*node));
        let mut failure = None;
        for group in [first, last] {
            let removals: Vec<_> = group
                .into_iter()
                .filter_map(|name| {
                    let node = self.live.nodes.get(name)?;
                    let cluster = self.executor.cluster.clone();
                    Some(Removal {
                        executor: self.executor,
                        marks: self.marks.clone(),
                        machine: Machine::new(cluster, name.clone(), node.provider_id.clone()),
                        uid: node.uid.clone(),
                    })
                })
                .map(Removal::run)
                .collect();
            let mut removals = stream::iter(removals).buffer_unordered(AT_ONCE);
            while let Some(removed) = removals.next().await {
                match removed {
                    Ok(name) => {
                        self.live.nodes.remove(&name);
                        self.report.removed.insert(name);
                    }
                    Err(error) => drop(failure.get_or_insert(error)),
                }
            }
            if let Some(error) = failure {
                return Err(error);
            }
        }
        let ahead = std::mem::take(&mut self.ahead);
        self.baseline.retain(|controller, _| ahead.contains(controller));
        Ok(())
    }

    /// Takes one node out of the plan, with mark and own cordon; the others go on.
    pub(super) async fn let_go(&mut self, name: &str, why: Left) -> Result<(), DrainError> {
        tracing::info!(
            node = name,
            plan = self.course.plan,
            reason = why.token(),
            "the node leaves the plan: {why}"
        );
        self.end_unused_surges(&[name.to_owned()]).await?;
        let before = self.course.holder().cloned();
        self.course.forget(name);
        self.marks.carry(&self.course, before.as_ref()).await?;
        self.marks.roll_back(name).await?;
        self.emit(&format!("let go of {name}"), Progress::Succeeded);
        self.live.leaving.remove(name);
        self.report.left.insert(name.to_owned(), why);
        Ok(())
    }

    /// Takes marks and own cordons off every node that is still there, and finishes removals that had begun.
    pub(super) async fn take_back(&mut self) -> Result<(), DrainError> {
        if !self.course.stop {
            // Whoever comes after a crash in the midst of this is to go on taking back.
            self.course.stop = true;
            self.course.revision += 1;
            let holder = self.course.holder().cloned();
            self.marks.carry(&self.course, holder.as_ref()).await?;
            self.emit("give up the plan", Progress::Succeeded);
        }
        self.end_surges(|_| true).await?;
        let here = |node: &&String| self.live.nodes.contains_key(*node);
        let nodes: Vec<String> = self.course.nodes().filter(here).cloned().collect();
        let begun = |node: &&String| self.mark(node).is_some_and(|mark| mark.step == Step::Removing);
        let begun: BTreeSet<String> = nodes.iter().filter(begun).cloned().collect();
        let holder = self.course.holder().cloned();
        for node in &nodes {
            // The machine may be gone already, so there is nothing to give back.
            if !begun.contains(node) && Some(node) != holder.as_ref() {
                self.roll_back(node).await?;
            }
        }
        self.remove(&begun.iter().cloned().collect::<Vec<_>>()).await?;
        match holder {
            Some(node) if nodes.contains(&node) && !begun.contains(&node) => self.roll_back(&node).await,
            _ => Ok(()),
        }
    }

    async fn roll_back(&mut self, node: &str) -> Result<(), DrainError> {
        self.emit(&format!("roll back {node}"), Progress::Started);
        self.marks.roll_back(node).await?;
        self.emit(&format!("roll back {node}"), Progress::Succeeded);
        self.report.rolled_back.insert(node.to_owned());
        Ok(())
    }
}
