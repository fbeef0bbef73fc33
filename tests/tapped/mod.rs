//! A client whose writes are counted on their way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::{Method, Request, Response};
use kube::{
    Client,
    client::{Body, ClientBuilder},
};
use tokio::sync::watch;

/// What goes through a number of clients.
#[derive(Clone)]
pub(crate) struct Tap(Arc<Counts>);

struct Counts {
    reads: AtomicUsize,
    writes: watch::Sender<usize>,
    /// ConfigMaps that an API server has answered to have.
    placed: watch::Sender<usize>,
}

impl Tap {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Counts {
            reads: AtomicUsize::new(0),
            writes: watch::Sender::new(0),
            placed: watch::Sender::new(0),
        }))
    }

    pub(crate) fn on(&self, client: Client) -> Client {
        let tapped = Tapped {
            client,
            tap: self.clone(),
        };
        ClientBuilder::new(tapped, "default").build()
    }

    pub(crate) fn reads(&self) -> usize {
        self.0.reads.load(Ordering::Relaxed)
    }

    /// How many writes were sent, and every further one.
    pub(crate) fn writes(&self) -> watch::Receiver<usize> {
        self.0.writes.subscribe()
    }

    /// How many ConfigMaps are in place, and every further one.
    pub(crate) fn placed(&self) -> watch::Receiver<usize> {
        self.0.placed.subscribe()
    }
}

#[derive(Clone)]
struct Tapped {
    client: Client,
    tap: Tap,
}

impl tower_service::Service<Request<Body>> for Tapped {
    type Response = Response<Body>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { client, tap } = self.clone();
        Box::pin(async move {
            if request.method() == Method::GET {
                tap.0.reads.fetch_add(1, Ordering::Relaxed);
                return Ok(client.send(request).await?);
            }
            tap.0.writes.send_modify(|count| *count += 1);
            let places = request.method() == Method::PATCH && request.uri().path().contains("/configmaps/");
            let response = client.send(request).await?;
            if places && response.status().is_success() {
                tap.0.placed.send_modify(|count| *count += 1);
            }
            Ok(response)
        })
    }
}
