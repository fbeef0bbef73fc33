//! One look at a member: who is it, and does it call itself ready?

use std::time::Duration;

use kube::Client;
use serde::Deserialize;

use super::ProbeFailure;
use crate::connect::ConnectError;
use crate::health::{ClusterUid, HealthReason};
use crate::reason::with_causes;

/// Asks for the identity and `/readyz`, both within the deadline.
pub(super) async fn probe(client: &Client, deadline: Duration) -> Result<ClusterUid, ProbeFailure> {
    let look = async {
        let uid = kube_system(client).await?;
        let ready = client.request_text(get("/readyz")?).await;
        match ready {
            Ok(_) => Ok(uid),
            Err(error) => Err(failure(&error)),
        }
    };
    match tokio::time::timeout(deadline, look).await {
        Ok(looked) => looked,
        Err(_) => Err(ProbeFailure::new(
            HealthReason::Unreachable,
            format!("no answer within {} ms", deadline.as_millis()),
        )),
    }
}

async fn kube_system(client: &Client) -> Result<ClusterUid, ProbeFailure> {
    #[derive(Deserialize)]
    struct Namespace {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        uid: String,
    }
    let text = client
        .request_text(get("/api/v1/namespaces/kube-system")?)
        .await
        .map_err(|error| failure(&error))?;
    let namespace: Namespace = serde_json::from_str(&text).map_err(|_| {
        ProbeFailure::new(
            HealthReason::ApiServerNotReady,
            "what answers is not a Kubernetes API server".to_owned(),
        )
    })?;
    Ok(ClusterUid::new(namespace.metadata.uid))
}

fn get(path: &str) -> Result<http::Request<Vec<u8>>, ProbeFailure> {
    http::Request::get(path)
        .body(Vec::new())
        .map_err(|error| ProbeFailure::new(HealthReason::Unreachable, error.to_string()))
}

/// A failed request told apart by what it says about the member.
fn failure(error: &kube::Error) -> ProbeFailure {
    let (reason, message) = match error {
        kube::Error::Api(status) => {
            let reason = match status.code {
                401 | 403 => HealthReason::CredentialsRefused,
                _ => HealthReason::ApiServerNotReady,
            };
            // Not the body: a gateway in between may put anything there.
            (reason, format!("the API server answered {}", status.code))
        }
        kube::Error::Auth(_) => (
            HealthReason::CredentialsInvalid,
            "the credentials cannot be used".to_owned(),
        ),
        other => {
            let said = with_causes(other);
            let tls = said.contains("certificate");
            (
                if tls {
                    HealthReason::TlsRefused
                } else {
                    HealthReason::Unreachable
                },
                said,
            )
        }
    };
    ProbeFailure::new(reason, message)
}

/// No client, so no look: an error of the hub says nothing about the member.
pub(super) fn no_client(error: &ConnectError) -> Option<ProbeFailure> {
    (!error.is_retryable()).then(|| ProbeFailure {
        reason: HealthReason::CredentialsInvalid,
        token: error.reason(),
        message: with_causes(error),
    })
}
