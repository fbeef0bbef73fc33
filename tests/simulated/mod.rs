//! A small API server in this process: enough of it for a member that gets ConfigMaps.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use http_body::Frame;
use kube::{Client, client::Body};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

const MAPS: &str = "/api/v1/configmaps";

/// One simulated member.
#[derive(Clone)]
pub(crate) struct Simulated {
    uid: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    revision: u64,
    /// By path.
    maps: BTreeMap<String, Value>,
    watches: Vec<UnboundedSender<Bytes>>,
    silent: Vec<UnboundedSender<Bytes>>,
}

impl Simulated {
    pub(crate) fn new(uid: &str) -> Self {
        Self {
            uid: uid.to_owned(),
            state: Arc::default(),
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.clone(), "default")
    }

    /// The ConfigMaps that are there.
    pub(crate) fn maps(&self) -> Vec<Value> {
        self.state.lock().unwrap().maps.values().cloned().collect()
    }

    fn read(&self, request: &Request<Body>) -> (u16, Answer) {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        let mut state = self.state.lock().unwrap();
        let answer = match path {
            "/readyz" => return (200, Answer::Once(Bytes::from("ok"))),
            "/version" => json!({
                "major": "1", "minor": "37", "gitVersion": "v1.37.0", "gitCommit": "", "gitTreeState": "",
                "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
            }),
            "/api" => json!({
                "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
                "items": [{ "metadata": { "name": "" }, "versions": [{ "version": "v1", "resources": [{
                    "resource": "configmaps", "responseKind": { "group": "", "version": "v1", "kind": "ConfigMap" },
                    "scope": "Namespaced", "singularResource": "configmap", "verbs": verbs(),
                }] }] }],
            }),
            "/apis" => json!({
                "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": [],
            }),
            "/api/v1" => json!({
                "kind": "APIResourceList", "groupVersion": "v1", "resources": [{
                    "name": "configmaps", "singularName": "configmap", "namespaced": true, "kind": "ConfigMap",
                    "verbs": verbs(),
                }],
            }),
            "/api/v1/namespaces/kube-system" => {
                json!({ "metadata": { "name": "kube-system", "uid": self.uid } })
            }
            _ if query.contains("watch=true") => {
                let (sender, watch) = unbounded_channel();
                let from = query
                    .split('&')
                    .find_map(|pair| pair.strip_prefix("resourceVersion="));
                let from: u64 = from.and_then(|from| from.parse().ok()).unwrap_or(0);
                if path == MAPS {
                    for map in state.maps.values().filter(|map| version(map) > from) {
                        sender.send(event("MODIFIED", map)).unwrap();
                    }
                    state.watches.push(sender);
                } else {
                    // Nothing else ever changes; the stream stays open all the same.
                    state.silent.push(sender);
                }
                return (200, Answer::Stream(watch));
            }
            _ if path.ends_with("/configmaps") => {
                let within = path.strip_prefix("/api/v1").unwrap_or(path);
                let maps = state.maps.iter().filter(|(path, _)| path.contains(within));
                let maps: Vec<&Value> = maps.map(|(_, map)| map).collect();
                let accepts = request.headers().get("accept");
                if accepts.is_some_and(|it| it.to_str().unwrap_or_default().contains("as=Table")) {
                    let rows = maps
                        .iter()
                        .map(|map| json!({ "cells": [map["metadata"]["name"]] }));
                    json!({
                        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {},
                        "columnDefinitions": [{ "name": "Name", "type": "string", "format": "name" }],
                        "rows": rows.collect::<Vec<_>>(),
                    })
                } else {
                    json!({
                        "kind": "ConfigMapList", "apiVersion": "v1", "items": maps,
                        "metadata": { "resourceVersion": state.revision.to_string() },
                    })
                }
            }
            _ if path.contains("/configmaps/") => match state.maps.get(path) {
                Some(map) => map.clone(),
                None => {
                    let status = json!({
                        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404,
                        "message": "not found", "details": { "kind": "configmaps" },
                    });
                    return (404, Answer::Once(Bytes::from(status.to_string())));
                }
            },
            _ => {
                json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": [] })
            }
        };
        (200, Answer::Once(Bytes::from(answer.to_string())))
    }

    /// Takes an applied ConfigMap in, and books its fields to whoever applied it.
    fn apply(&self, path: &str, query: &str, mut map: Value) -> (u16, Answer) {
        let mut state = self.state.lock().unwrap();
        state.revision += 1;
        let manager = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("fieldManager="));
        let book = json!([{
            "manager": manager.unwrap_or_default(), "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "fieldsV1": book(&map),
        }]);
        let metadata = map["metadata"].as_object_mut().unwrap();
        metadata.insert("uid".to_owned(), path.into());
        metadata.insert("resourceVersion".to_owned(), state.revision.to_string().into());
        metadata.insert("managedFields".to_owned(), book);
        let known = state.maps.insert(path.to_owned(), map.clone()).is_some();
        let event = event(if known { "MODIFIED" } else { "ADDED" }, &map);
        state.watches.retain(|watch| watch.send(event.clone()).is_ok());
        let code = if known { 200 } else { 201 };
        (code, Answer::Once(Bytes::from(map.to_string())))
    }
}

fn verbs() -> Value {
    json!(["create", "delete", "get", "list", "patch", "watch"])
}

fn version(map: &Value) -> u64 {
    let version = map["metadata"]["resourceVersion"].as_str();
    version.and_then(|version| version.parse().ok()).unwrap_or(0)
}

fn event(what: &str, map: &Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({ "type": what, "object": map })))
}

fn book(map: &Value) -> Value {
    let mut owned = fields(map);
    let top = owned.as_object_mut().unwrap();
    top.remove("f:apiVersion");
    top.remove("f:kind");
    let metadata = top["f:metadata"].as_object_mut().unwrap();
    metadata.retain(|field, _| field == "f:labels" || field == "f:annotations");
    owned
}

fn fields(value: &Value) -> Value {
    let fields = value.as_object().into_iter().flatten();
    let fields: Map<String, Value> = fields
        .map(|(key, value)| (format!("f:{key}"), self::fields(value)))
        .collect();
    fields.into()
}

enum Answer {
    Once(Bytes),
    Stream(UnboundedReceiver<Bytes>),
}

impl tower_service::Service<Request<Body>> for Simulated {
    type Response = Response<Streamed>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            let (code, answer) = if request.method() == Method::GET {
                server.read(&request)
            } else {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let query = parts.uri.query().unwrap_or_default();
                server.apply(parts.uri.path(), query, serde_json::from_slice(&body).unwrap())
            };
            let body = match answer {
                Answer::Once(bytes) => Streamed::Once(Some(bytes)),
                Answer::Stream(stream) => Streamed::Stream(stream),
            };
            let response = Response::builder()
                .status(code)
                .header("content-type", "application/json");
            Ok(response.body(body).unwrap())
        })
    }
}

pub(crate) enum Streamed {
    Once(Option<Bytes>),
    Stream(UnboundedReceiver<Bytes>),
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match &mut *self {
            Self::Once(bytes) => Poll::Ready(bytes.take()),
            Self::Stream(stream) => stream.poll_recv(cx),
        };
        bytes.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
