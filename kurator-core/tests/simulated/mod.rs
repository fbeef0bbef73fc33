//! A small API server in this process: enough of it for a member that holds ConfigMaps.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use http_body::Frame;
use kube::Client;
use kube::client::Body;
use kurator_core::connect::StaticConnector;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower_service::Service;

/// One simulated member.
#[derive(Clone)]
pub struct Server(Arc<State>);

pub struct State {
    uid: Mutex<String>,
    objects: Mutex<Objects>,
    /// Answers nothing, for ever.
    pub hung: AtomicBool,
    /// Answers 500 to `/readyz`.
    pub unwell: AtomicBool,
    pub requests: AtomicUsize,
    pub lists: AtomicUsize,
    pub writes: AtomicUsize,
}

#[derive(Default)]
struct Objects {
    revision: u64,
    config_maps: BTreeMap<String, Value>,
    watches: Vec<mpsc::UnboundedSender<Bytes>>,
}

impl std::ops::Deref for Server {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

impl Server {
    pub fn new(uid: &str) -> Self {
        Self(Arc::new(State {
            uid: Mutex::new(uid.to_owned()),
            objects: Mutex::new(Objects {
                revision: 1,
                ..Objects::default()
            }),
            hung: AtomicBool::new(false),
            unwell: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            lists: AtomicUsize::new(0),
            writes: AtomicUsize::new(0),
        }))
    }

    pub fn client(&self) -> Client {
        Client::new(self.clone(), "default")
    }

    pub fn set_uid(&self, uid: &str) {
        *self.uid.lock().unwrap() = uid.to_owned();
    }

    /// Creates or changes a ConfigMap, as someone else would.
    pub fn touch(&self, name: &str) {
        let mut objects = self.objects.lock().unwrap();
        objects.revision += 1;
        let (revision, known) = (
            objects.revision.to_string(),
            objects.config_maps.contains_key(name),
        );
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "default", "uid": name, "resourceVersion": revision},
        });
        objects.config_maps.insert(name.to_owned(), object.clone());
        let event = json!({"type": if known { "MODIFIED" } else { "ADDED" }, "object": object});
        objects
            .watches
            .retain(|watch| watch.send(Bytes::from(format!("{event}\n"))).is_ok());
    }

    pub fn watches(&self) -> usize {
        self.objects
            .lock()
            .unwrap()
            .watches
            .iter()
            .filter(|watch| !watch.is_closed())
            .count()
    }

    fn answer(&self, request: &Request<Body>) -> (u16, Answer) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if request.method() != Method::GET {
            self.writes.fetch_add(1, Ordering::Relaxed);
        }
        let query = request.uri().query().unwrap_or_default();
        match request.uri().path() {
            "/readyz" if self.unwell.load(Ordering::Relaxed) => (500, Answer::Text("not ready".into())),
            "/readyz" => (200, Answer::Text("ok".into())),
            "/api/v1/namespaces/kube-system" => {
                let uid = self.uid.lock().unwrap().clone();
                (
                    200,
                    Answer::Json(json!({"metadata": {"name": "kube-system", "uid": uid}})),
                )
            }
            "/api/v1/configmaps" if query.contains("watch=true") => {
                let (sender, watch) = mpsc::unbounded_channel();
                let from = query
                    .split('&')
                    .find_map(|pair| pair.strip_prefix("resourceVersion="));
                let from: u64 = from.and_then(|from| from.parse().ok()).unwrap_or(0);
                let mut objects = self.objects.lock().unwrap();
                for object in objects.config_maps.values() {
                    if object["metadata"]["resourceVersion"]
                        .as_str()
                        .unwrap()
                        .parse::<u64>()
                        .unwrap()
                        > from
                    {
                        let event = json!({"type": "MODIFIED", "object": object});
                        sender.send(Bytes::from(format!("{event}\n"))).unwrap();
                    }
                }
                objects.watches.retain(|watch| !watch.is_closed());
                objects.watches.push(sender);
                (200, Answer::Watch(watch))
            }
            "/api/v1/configmaps" => {
                self.lists.fetch_add(1, Ordering::Relaxed);
                let objects = self.objects.lock().unwrap();
                let items: Vec<&Value> = objects.config_maps.values().collect();
                let list = json!({
                    "apiVersion": "v1", "kind": "ConfigMapList", "items": items,
                    "metadata": {"resourceVersion": objects.revision.to_string()},
                });
                (200, Answer::Json(list))
            }
            _ => (200, Answer::Json(json!({}))),
        }
    }
}

enum Answer {
    Json(Value),
    Text(String),
    Watch(mpsc::UnboundedReceiver<Bytes>),
}

impl Service<Request<Body>> for Server {
    type Response = Response<Streamed>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            if server.hung.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            let (code, answer) = server.answer(&request);
            let body = match answer {
                Answer::Json(value) => Streamed::Once(Some(Bytes::from(value.to_string()))),
                Answer::Text(text) => Streamed::Once(Some(Bytes::from(text))),
                Answer::Watch(watch) => Streamed::Watch(watch),
            };
            let response = Response::builder()
                .status(code)
                .header("content-type", "application/json");
            Ok(response.body(body).unwrap())
        })
    }
}

pub enum Streamed {
    Once(Option<Bytes>),
    Watch(mpsc::UnboundedReceiver<Bytes>),
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Once(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Watch(watch) => watch
                .poll_recv(cx)
                .map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }
}

/// Servers by the names of the members they are.
pub fn connector<'a>(servers: impl IntoIterator<Item = (&'a str, &'a Server)>) -> StaticConnector {
    servers
        .into_iter()
        .fold(StaticConnector::default(), |connector, (name, server)| {
            connector.with_client(name.parse().unwrap(), server.client())
        })
}
