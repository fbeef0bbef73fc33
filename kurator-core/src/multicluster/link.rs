//! The client that controllers hold: it stays the same while what is behind it changes.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use kube::Client;
use kube::client::Body;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tower_service::Service;

use super::rate::Rate;
use super::shard::Fence;
use crate::names::ClusterName;

/// Servers send a bookmark about once a minute; a watch that is silent for longer is on a dead connection.
const SILENCE: Duration = Duration::from_secs(90);

/// A request that was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// Another replica may own the member by now.
    #[error("cluster {cluster} is not this replica's any more; nothing was sent")]
    NotOwned {
        /// The member.
        cluster: ClusterName,
    },
    /// The member left, was lost, or turned out to be another cluster.
    #[error("cluster {cluster} is disengaged; nothing was sent")]
    Disengaged {
        /// The member.
        cluster: ClusterName,
    },
}

/// The clients behind a link, by what they are good for.
#[derive(Clone)]
pub(super) struct Clients {
    pub(super) requests: Client,
    pub(super) watches: Client,
}

/// What is shared between the client that controllers hold and the task that looks after the member.
pub(super) struct Link {
    cluster: ClusterName,
    clients: Mutex<Clients>,
    fence: Option<Arc<Fence>>,
    left: CancellationToken,
    rate: Option<Mutex<Rate>>,
    start: Instant,
    watches: Mutex<CancellationToken>,
    /// The member answered 401: the credentials may have been rotated.
    pub(super) unauthorized: Notify,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn new(
        cluster: ClusterName,
        clients: Clients,
        fence: Option<Arc<Fence>>,
        left: CancellationToken,
        rate: Option<Rate>,
    ) -> Arc<Self> {
        Arc::new(Self {
            cluster,
            clients: Mutex::new(clients),
            fence,
            left,
            rate: rate.map(Mutex::new),
            start: Instant::now(),
            watches: Mutex::default(),
            unauthorized: Notify::new(),
        })
    }

    pub(super) fn client(link: &Arc<Self>, namespace: &str) -> Client {
        Client::new(
            LinkService {
                link: Arc::clone(link),
            },
            namespace,
        )
    }

    /// Further requests go through these clients; those under way end where they are.
    pub(super) fn swap(&self, clients: Clients) {
        *self.clients.lock().unwrap_or_else(PoisonError::into_inner) = clients;
    }

    /// Ends every watch as if the server had closed it. Watchers continue from where they were, on new connections.
    pub(super) fn renew_watches(&self) {
        let old = std::mem::take(&mut *self.watches.lock().unwrap_or_else(PoisonError::into_inner));
        old.cancel();
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<LinkBody>, BoxError> {
        if let Some(rate) = &self.rate {
            let wait = rate
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(self.start.elapsed());
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
        }
        if self.left.is_cancelled() {
            return Err(LinkError::Disengaged {
                cluster: self.cluster.clone(),
            }
            .into());
        }
        let not_owned = || LinkError::NotOwned {
            cluster: self.cluster.clone(),
        };
        let watch = is_watch(&request);
        let clients = self
            .clients
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let client = if watch { clients.watches } else { clients.requests };
        let response = match &self.fence {
            None => client.send(request).await?,
            Some(fence) if fence.holds() => tokio::select! {
                response = client.send(request) => response?,
                () = fence.revoked() => return Err(not_owned().into()),
            },
            Some(_) => return Err(not_owned().into()),
        };
        if response.status() == StatusCode::UNAUTHORIZED {
            self.unauthorized.notify_one();
        }
        let ended = watch.then(|| {
            let ended = self
                .watches
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            WatchEnd {
                ended: Box::pin(ended.cancelled_owned()),
                silence: Box::pin(tokio::time::sleep(SILENCE)),
            }
        });
        Ok(response.map(|inner| LinkBody { inner, ended }))
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn is_watch(request: &Request<Body>) -> bool {
    let mut pairs = request.uri().query().unwrap_or_default().split('&');
    pairs.any(|pair| pair == "watch=true" || pair == "watch=1")
}

#[derive(Clone, Debug)]
struct LinkService {
    link: Arc<Link>,
}

impl Service<Request<Body>> for LinkService {
    type Response = Response<LinkBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let link = Arc::clone(&self.link);
        Box::pin(async move { link.send(request).await })
    }
}

/// The body of an answer; that of a watch can be ended from here.
struct LinkBody {
    inner: Body,
    ended: Option<WatchEnd>,
}

struct WatchEnd {
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    silence: Pin<Box<Sleep>>,
}

impl http_body::Body for LinkBody {
    type Data = Bytes;
    type Error = kube::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        let frame = Pin::new(&mut this.inner).poll_frame(cx);
        let Some(end) = &mut this.ended else { return frame };
        if frame.is_ready() {
            end.silence.as_mut().reset(Instant::now() + SILENCE);
            return frame;
        }
        if end.ended.as_mut().poll(cx).is_ready() || end.silence.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        Poll::Pending
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}
