//! Test support: a client whose server is a closure, and the requests it has seen.

use std::sync::{Arc, Mutex};

use kube::{Client, client::Body};
use serde_json::Value;

/// A request as the tests look at it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) content_type: String,
    pub(crate) body: Value,
}

/// What was asked, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Seen>>>);

impl Log {
    /// Everything since the last call.
    pub(crate) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.take()
            .into_iter()
            .map(|seen| format!("{} {}", seen.method, seen.path))
            .collect()
    }
}

/// A client that is answered by `answer`: a status code and a JSON body.
pub(crate) fn server(answer: impl Fn(&Seen) -> (u16, Value) + Send + 'static) -> (Client, Log) {
    let (service, mut handle) = tower_test::mock::pair::<http::Request<Body>, http::Response<Body>>();
    let log = Log::default();
    let record = log.clone();
    tokio::spawn(async move {
        while let Some((request, respond)) = handle.next_request().await {
            let (head, body) = request.into_parts();
            let bytes = body.collect_bytes().await.unwrap();
            let header = |name: &str| {
                head.headers
                    .get(name)
                    .map(|value| value.to_str().unwrap().to_owned())
            };
            let seen = Seen {
                method: head.method.to_string(),
                path: head.uri.path().to_owned(),
                query: head.uri.query().unwrap_or_default().to_owned(),
                content_type: header("content-type").unwrap_or_default(),
                body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            };
            record.0.lock().unwrap().push(seen.clone());
            let (code, body) = answer(&seen);
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            respond.send_response(http::Response::builder().status(code).body(body).unwrap());
        }
    });
    (Client::new(service, "default"), log)
}

/// The body of a failure.
pub(crate) fn failure(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let body = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message,
    });
    (code, body)
}
