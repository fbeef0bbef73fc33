//! The identity of pods: set up once its role is ready, beside everything else.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kurator_core::reason::Reason;
use tokio_util::sync::CancellationToken;

use super::pass::Pass;
use super::status::Identity;
use super::tended::Tended;
use super::work::Running;
use crate::controller::status::Said;
use crate::scaling::execute::{WaitError, set_up};

/// When a role that could not be had is asked for again.
const AGAIN: SignedDuration = SignedDuration::from_secs(300);

/// The setting up of one role.
#[derive(Debug)]
pub(super) struct Setup {
    role: String,
    state: State,
}

#[derive(Debug)]
enum State {
    Done(String),
    Failed { why: Said, again: Timestamp },
    Running(Running<Result<String, WaitError>>),
}

impl Pass<'_> {
    /// How the identity of the pods is, and when to look again if that is known.
    pub(super) fn identity(&self, tended: &mut Tended) -> (Identity, Option<Timestamp>) {
        let spec = &self.cluster.spec;
        let Some(wanted) = spec.pod_identity.as_ref().filter(|identity| identity.enabled) else {
            tended.setup = None;
            return (Identity::Off, None);
        };
        let cloud = &spec.infrastructure.cloud_provider;
        let Some(provider) = self.context.options.identities.get(cloud) else {
            let message = format!(
                "no identity provider is registered for {cloud:?}; register one, or set podIdentity.enabled to false"
            );
            return (Identity::Failed(Said::new("IdentityUnsupported", message)), None);
        };
        let role = wanted
            .iam_role
            .clone()
            .unwrap_or_else(|| provider.default_role(self.member));
        let known = self
            .cluster
            .status
            .as_ref()
            .and_then(|status| status.pod_identity.as_ref());
        if let Some(known) = known.filter(|known| known.role == role) {
            tended.setup = None;
            let id = known.id.clone();
            return (Identity::Ready { role, id }, None);
        }
        if tended.setup.as_ref().is_some_and(|setup| setup.role != role) {
            tended.setup = None;
        }
        if let Some(setup) = &mut tended.setup {
            if let State::Running(running) = &setup.state
                && let Some(result) = running.take()
            {
                setup.state = match result {
                    Ok(id) => State::Done(id),
                    Err(error) => State::Failed {
                        why: Said::new(error.token(), chain(&error)),
                        again: self.now.saturating_add(AGAIN).unwrap_or(self.now),
                    },
                };
            }
            match &setup.state {
                State::Done(id) => return (Identity::Ready { role, id: id.clone() }, None),
                State::Failed { why, again } if *again > self.now => {
                    return (Identity::Failed(why.clone()), Some(*again));
                }
                State::Failed { .. } => {}
                State::Running(_) => return (pending(&role), None),
            }
        }
        let (provider, member) = (Arc::clone(provider), self.member.clone());
        let (policy, asked) = (self.context.options.identity_wait.clone(), role.clone());
        let running = Running::start(
            async move { set_up(&*provider, &member, &asked, &policy, CancellationToken::new()).await },
            self.context.waker(self.cluster),
        );
        tended.setup = Some(Setup {
            role: role.clone(),
            state: State::Running(running),
        });
        (pending(&role), None)
    }
}

fn pending(role: &str) -> Identity {
    let message = format!("waiting until role {role} can be used; its pods get it then");
    Identity::Pending(Said::new("IdentityPending", message))
}

/// An error with what it comes from, which `Display` does not say.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
