//! Work and requests under the right that a Lease gives.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use tower_service::Service;

use super::{Fence, ShardError};

impl Fence {
    /// Does `work` for as long as the right stands: its result, or `None` if the right ended first and the work with it.
    ///
    /// The Lease is handed on only after the work has ended.
    pub async fn run<W: Future>(&self, work: W) -> Option<W::Output> {
        self.track(async {
            tokio::select! {
                biased;
                () = self.revoked() => None,
                done = work => Some(done),
            }
        })
        .await
    }

    /// A client that sends what `client` would for as long as the right stands, and then answers
    /// [`ShardError::NotHeld`]: also when this process was suspended and does not know yet.
    ///
    /// # Caveats
    /// What is on the wire cannot be called back. `client` should not repeat requests by itself
    /// (`Config::default_retry = false`), or a late repetition is sent after the right has ended.
    #[must_use]
    pub fn guard(self: &Arc<Self>, client: Client) -> Client {
        let namespace = client.default_namespace().to_owned();
        Client::new(
            Guarded {
                fence: Arc::clone(self),
                client,
            },
            namespace,
        )
    }
}

#[derive(Clone)]
struct Guarded {
    fence: Arc<Fence>,
    client: Client,
}

impl Service<Request<Body>> for Guarded {
    type Response = Response<Body>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { fence, client } = self.clone();
        Box::pin(async move {
            if !fence.holds() {
                return Err(ShardError::NotHeld.into());
            }
            tokio::select! {
                response = client.send(request) => Ok(response?),
                () = fence.revoked() => Err(ShardError::NotHeld.into()),
            }
        })
    }
}
