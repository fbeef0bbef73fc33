//! Waiting until an identity of the cloud can be used.
//!
//! A role that has just been made is not there at once: what is configured with it too early fails in ways that look
//! like something else. [`wait_ready`] asks an [`IdentityProvider`] again and again, with growing pauses, until the role
//! is ready or one of three bounds is reached, and says which. [`set_up`] gives pods the role, and does so only then.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use kurator_core::{names::ClusterName, reason::Reason};
use tokio_util::sync::CancellationToken;

/// What a provider knows of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RoleState {
    /// It can be used, under this identifier.
    Ready {
        /// Such as an ARN.
        id: String,
    },
    /// Not yet.
    Pending {
        /// What is missing, in the provider's words.
        detail: String,
    },
}

/// What a provider could not do.
#[derive(Debug, thiserror::Error)]
#[error("the identity provider cannot say what role {role} is like")]
#[non_exhaustive]
pub struct IdentityError {
    /// The role.
    pub role: String,
    /// Whether it makes sense to ask again.
    pub transient: bool,
    /// What it said.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl IdentityError {
    /// An error that may go away.
    pub fn transient(
        role: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            role: role.into(),
            transient: true,
            source: source.into(),
        }
    }

    /// An error that will not.
    pub fn permanent(
        role: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            role: role.into(),
            transient: false,
            source: source.into(),
        }
    }
}

/// The identities of a cloud.
#[async_trait]
pub trait IdentityProvider: fmt::Debug + Send + Sync + 'static {
    /// What the role is like now. Asks once, and does not wait.
    ///
    /// # Errors
    /// [`IdentityError`] if that cannot be told.
    async fn role(&self, role: &str) -> Result<RoleState, IdentityError>;

    /// The role of the pods of a cluster that names none.
    fn default_role(&self, cluster: &ClusterName) -> String {
        format!("{cluster}-pods")
    }

    /// Gives the pods of a cluster the role with this identifier. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`IdentityError`] if they do not have it now.
    async fn configure(&self, cluster: &ClusterName, id: &str) -> Result<(), IdentityError>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: IdentityProvider + ?Sized> IdentityProvider for Arc<T> {
    async fn role(&self, role: &str) -> Result<RoleState, IdentityError> {
        (**self).role(role).await
    }

    fn default_role(&self, cluster: &ClusterName) -> String {
        (**self).default_role(cluster)
    }

    async fn configure(&self, cluster: &ClusterName, id: &str) -> Result<(), IdentityError> {
        (**self).configure(cluster, id).await
    }
}

/// How patiently a role is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaitPolicy {
    /// The first pause; half a second by default. Each is twice the one before.
    pub first_pause: Duration,
    /// The longest pause; fifteen seconds by default.
    pub longest_pause: Duration,
    /// Questions at most; 30 by default, and at least 1.
    pub attempts: u32,
    /// All of it takes at most that long; five minutes by default.
    pub deadline: Duration,
}

impl Default for WaitPolicy {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(15),
            attempts: 30,
            deadline: Duration::from_secs(300),
        }
    }
}

/// Why a role did not become ready.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// It was called off.
    #[error("waiting for role {role} was cancelled after {attempts} attempts")]
    Cancelled {
        /// The role.
        role: String,
        /// Questions asked.
        attempts: u32,
    },
    /// The provider cannot tell, and will not be able to.
    #[error("the identity provider failed for role {role}")]
    Provider {
        /// The role.
        role: String,
        /// What the provider said.
        #[source]
        source: Box<IdentityError>,
    },
    /// It was not ready in time.
    #[error("role {role} is not ready after {attempts} attempts in {}s: {last}; wait longer or look at the role", waited.as_secs())]
    Timeout {
        /// The role.
        role: String,
        /// Questions asked.
        attempts: u32,
        /// How long.
        waited: Duration,
        /// What was missing when it was last asked.
        last: String,
    },
}

impl Reason for WaitError {
    fn token(&self) -> &'static str {
        match self {
            Self::Cancelled { .. } => "IdentityWaitCancelled",
            Self::Provider { .. } => "IdentityProviderFailed",
            Self::Timeout { .. } => "IdentityNotReady",
        }
    }
}

/// Waits until the role is ready, gives it to the pods of the cluster, and returns its identifier.
///
/// # Errors
/// As [`wait_ready`]; [`WaitError::Provider`] also if the role is ready and the pods could not be given it.
pub async fn set_up(
    provider: &(impl IdentityProvider + ?Sized),
    cluster: &ClusterName,
    role: &str,
    policy: &WaitPolicy,
    cancel: CancellationToken,
) -> Result<String, WaitError> {
    let id = wait_ready(provider, role, policy, cancel).await?;
    let configured = provider.configure(cluster, &id).await;
    configured.map_err(|source| WaitError::Provider {
        role: role.to_owned(),
        source: Box::new(source),
    })?;
    Ok(id)
}

/// Waits until the role is ready, and returns its identifier.
///
/// # Errors
/// [`WaitError::Timeout`] after the last attempt or the deadline, whichever comes first; [`WaitError::Cancelled`];
/// [`WaitError::Provider`] at once for an error that will not go away.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use kurator_core::names::ClusterName;
/// use kurator_fleet::scaling::execute::{IdentityError, IdentityProvider, RoleState, WaitPolicy, wait_ready};
/// use tokio_util::sync::CancellationToken;
///
/// #[derive(Debug)]
/// struct Roles;
///
/// #[async_trait::async_trait]
/// impl IdentityProvider for Roles {
///     async fn role(&self, role: &str) -> Result<RoleState, IdentityError> {
///         Ok(RoleState::Ready { id: format!("arn:aws:iam::123456789012:role/{role}") })
///     }
///
///     async fn configure(&self, _: &ClusterName, _: &str) -> Result<(), IdentityError> {
///         Ok(()) // an association, an annotation on a service account, ...
///     }
/// }
///
/// let id = wait_ready(&Roles, "backup", &WaitPolicy::default(), CancellationToken::new()).await?;
/// assert!(id.ends_with("role/backup"));
/// # Ok(())
/// # }
/// ```
pub async fn wait_ready(
    provider: &(impl IdentityProvider + ?Sized),
    role: &str,
    policy: &WaitPolicy,
    cancel: CancellationToken,
) -> Result<String, WaitError> {
    let started = tokio::time::Instant::now();
    let end = started + policy.deadline;
    let mut pause = policy.first_pause;
    let mut attempts = 0;
    let cancelled = |attempts| WaitError::Cancelled {
        role: role.to_owned(),
        attempts,
    };
    loop {
        attempts += 1;
        let answer = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(cancelled(attempts - 1)),
            answer = tokio::time::timeout_at(end, provider.role(role)) => answer,
        };
        let last = match answer {
            Ok(Ok(RoleState::Ready { id })) => return Ok(id),
            Ok(Ok(RoleState::Pending { detail })) => detail,
            Ok(Err(error)) if error.transient => error.source.to_string(),
            Ok(Err(error)) => {
                return Err(WaitError::Provider {
                    role: role.to_owned(),
                    source: Box::new(error),
                });
            }
            Err(_) => String::from("the provider did not answer"),
        };
        let now = tokio::time::Instant::now();
        if attempts >= policy.attempts || now + pause > end {
            return Err(WaitError::Timeout {
                role: role.to_owned(),
                attempts,
                waited: now.duration_since(started),
                last,
            });
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(cancelled(attempts)),
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(policy.longest_pause);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    /// Ready at the given question; before that what `before` says.
    #[derive(Debug)]
    struct Roles {
        asked: AtomicU32,
        ready_at: u32,
        before: fn() -> Result<RoleState, IdentityError>,
        /// What was configured, and after how many questions.
        configured: Mutex<Vec<(String, u32)>>,
    }

    #[async_trait]
    impl IdentityProvider for Roles {
        async fn role(&self, role: &str) -> Result<RoleState, IdentityError> {
            if self.asked.fetch_add(1, Ordering::SeqCst) + 1 >= self.ready_at {
                return Ok(RoleState::Ready { id: role.to_owned() });
            }
            (self.before)()
        }

        async fn configure(&self, _: &ClusterName, id: &str) -> Result<(), IdentityError> {
            self.configured
                .lock()
                .unwrap()
                .push((id.to_owned(), self.asked.load(Ordering::SeqCst)));
            Ok(())
        }
    }

    fn roles(ready_at: u32, before: fn() -> Result<RoleState, IdentityError>) -> Roles {
        Roles {
            asked: AtomicU32::new(0),
            ready_at,
            before,
            configured: Mutex::default(),
        }
    }

    fn pending() -> Result<RoleState, IdentityError> {
        Ok(RoleState::Pending {
            detail: "trust policy not attached".into(),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_role_that_takes_a_while_is_waited_for() {
        let slow = roles(5, pending);
        let started = tokio::time::Instant::now();
        let id = wait_ready(&slow, "r", &WaitPolicy::default(), CancellationToken::new())
            .await
            .unwrap();
        assert_eq!(id, "r");
        // 0.5 + 1 + 2 + 4 seconds of pauses.
        assert_eq!(started.elapsed(), Duration::from_millis(7500));
        let flaky = roles(3, || Err(IdentityError::transient("r", "throttled")));
        assert!(
            wait_ready(&flaky, "r", &WaitPolicy::default(), CancellationToken::new())
                .await
                .is_ok()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn pods_get_a_role_once_it_is_ready_and_never_before() {
        let cluster: ClusterName = "east".parse().unwrap();
        let slow = roles(4, pending);
        let policy = WaitPolicy::default();
        set_up(&slow, &cluster, "r", &policy, CancellationToken::new())
            .await
            .unwrap();
        assert_eq!(*slow.configured.lock().unwrap(), [("r".to_owned(), 4)]);
        let never = roles(u32::MAX, pending);
        let error = set_up(&never, &cluster, "r", &policy, CancellationToken::new()).await;
        assert!(matches!(error, Err(WaitError::Timeout { .. })), "{error:?}");
        assert!(never.configured.lock().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn each_bound_ends_the_wait_with_what_was_missing() {
        let never = roles(u32::MAX, pending);
        let few = WaitPolicy {
            attempts: 3,
            ..WaitPolicy::default()
        };
        let error = wait_ready(&never, "r", &few, CancellationToken::new())
            .await
            .unwrap_err();
        assert!(
            matches!(&error, WaitError::Timeout { attempts: 3, last, .. } if last == "trust policy not attached")
        );
        assert_eq!(error.token(), "IdentityNotReady");
        let error = wait_ready(&never, "r", &WaitPolicy::default(), CancellationToken::new())
            .await
            .unwrap_err();
        assert!(matches!(error, WaitError::Timeout { waited, .. } if waited <= Duration::from_secs(300)));

        let broken = roles(u32::MAX, || Err(IdentityError::permanent("r", "no such account")));
        let error = wait_ready(&broken, "r", &WaitPolicy::default(), CancellationToken::new())
            .await
            .unwrap_err();
        assert!(matches!(error, WaitError::Provider { .. }));
        assert_eq!(broken.asked.load(Ordering::SeqCst), 1);

        let cancel = CancellationToken::new();
        cancel.cancel();
        let error = wait_ready(&never, "r", &WaitPolicy::default(), cancel)
            .await
            .unwrap_err();
        assert!(matches!(error, WaitError::Cancelled { attempts: 0, .. }));
    }
}
