//! From the name of a member to a client of its API server.
//!
//! Everything that touches a member asks a [`ClusterConnector`], and says what for: a [`ClientPurpose`] decides
//! timeouts and whether the client retries on its own, because one set of values cannot serve both a watch that
//! is silent for minutes and a probe that must know within seconds. [`SecretConnector`] takes kubeconfigs from
//! Secrets on the hub, [`InClusterConnector`] adds the cluster the process runs in, and [`StaticConnector`]
//! holds clients the host has made.
//!
//! # TLS
//! This crate enables no TLS stack of kube: the application does (`kube` with `rustls-tls` and `ring`, say).
//! With two rustls providers in one program, one must be installed as the default before the first client is
//! made, or rustls panics.

mod cache;
mod error;
mod fixed;
mod purpose;
mod secret;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use kube::Client;
use tokio::sync::watch;

pub use self::{
    error::ConnectError,
    fixed::{InClusterConnector, StaticConnector},
    purpose::{ClientPolicy, ClientPurpose},
    secret::SecretConnector,
};
use crate::names::ClusterName;

/// Gives clients of members.
///
/// # Guarantees an implementation gives
/// A client never sends one member's credentials to another. Rotated credentials are followed without a restart.
/// Nothing a connector returns or logs contains a credential.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait ClusterConnector: fmt::Debug + Send + Sync + 'static {
    /// A client of `cluster` for `purpose`. Cheap to call again: ask for a client where it is used rather than
    /// keep it, so that rotation is followed.
    ///
    /// # Errors
    /// [`ConnectError`]: why there is no client. That the server does not answer shows on the first request.
    async fn client(&self, cluster: &ClusterName, purpose: ClientPurpose) -> Result<Client, ConnectError>;

    /// Forgets what is cached of `cluster`: it left, or its server said 401.
    async fn invalidate(&self, cluster: &ClusterName);

    /// A counter that grows whenever the way to `cluster` may have become another: new credentials, or none any more.
    /// `None` when this connector cannot tell, so that asking for a client now and then is all there is.
    async fn follow(&self, cluster: &ClusterName) -> Option<watch::Receiver<u64>> {
        let _ = cluster;
        None
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: ClusterConnector + ?Sized> ClusterConnector for Arc<T> {
    async fn client(&self, cluster: &ClusterName, purpose: ClientPurpose) -> Result<Client, ConnectError> {
        (**self).client(cluster, purpose).await
    }

    async fn invalidate(&self, cluster: &ClusterName) {
        (**self).invalidate(cluster).await;
    }

    async fn follow(&self, cluster: &ClusterName) -> Option<watch::Receiver<u64>> {
        (**self).follow(cluster).await
    }
}
