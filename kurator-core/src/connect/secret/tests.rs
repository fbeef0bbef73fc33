use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;
use crate::{
    membership::{Member, StaticMembership},
    names::NamespacedName,
    wire::{Log, failure, server},
};

const CANARY: &str = "c4n4ry";

/// A hub with one Secret whose state the test sets.
struct Hub {
    connector: SecretConnector,
    membership: Arc<StaticMembership>,
    secret: Arc<Mutex<(u16, Value)>>,
    log: Log,
}

fn secret(uid: &str, version: &str, kubeconfig: &str) -> (u16, Value) {
    use k8s_openapi::ByteString;
    let value = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "a", "namespace": "fleet", "uid": uid, "resourceVersion": version},
        "data": {"value": ByteString(kubeconfig.as_bytes().to_vec())},
    });
    (200, value)
}

fn kubeconfig(user: &str) -> String {
    format!(
        "current-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: 'https://10.0.0.1:6443'}}}}]\n\
         users: [{{name: u, user: {{{user}}}}}]\n"
    )
}

fn name() -> ClusterName {
    "a".parse().unwrap()
}

fn hub() -> Hub {
    let at = KubeconfigRef::new(NamespacedName::new("fleet", "a"));
    let membership: Arc<StaticMembership> =
        Arc::new([Member::new(name()).with_kubeconfig(at)].into_iter().collect());
    let answer = Arc::new(Mutex::new(secret("1", "1", &kubeconfig("token: t"))));
    let secret = Arc::clone(&answer);
    let (client, log) = server(move |_| answer.lock().unwrap().clone());
    let connector = SecretConnector::new(client, Arc::clone(&membership)).without_watch();
    Hub {
        connector,
        membership,
        secret,
        log,
    }
}

impl Hub {
    async fn connect(&self) -> Result<Client, ConnectError> {
        self.connector.client(&name(), ClientPurpose::Control).await
    }

    fn set(&self, answer: (u16, Value)) {
        *self.secret.lock().unwrap() = answer;
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_read_once_and_looked_at_again_after_the_recheck_interval() {
    let hub = hub();
    for purpose in ClientPurpose::ALL {
        hub.connector.client(&name(), purpose).await.unwrap();
    }
    assert_eq!(hub.log.lines(), ["GET /api/v1/namespaces/fleet/secrets/a"]);

    tokio::time::advance(SecretConnector::DEFAULT_RECHECK).await;
    hub.connect().await.unwrap();
    hub.connect().await.unwrap();
    assert_eq!(
        hub.log.take().len(),
        1,
        "one look at the metadata, no second read"
    );

    tokio::time::advance(SecretConnector::DEFAULT_RECHECK).await;
    hub.set(secret("1", "2", &kubeconfig("token: u")));
    hub.connect().await.unwrap();
    assert_eq!(hub.log.take().len(), 2, "metadata, then the changed Secret");
}

#[tokio::test]
async fn a_secret_made_anew_under_the_same_name_is_noticed() {
    let mut hub = hub();
    hub.connector = hub.connector.with_recheck(Duration::ZERO);
    hub.connect().await.unwrap();
    hub.set(secret("2", "1", &kubeconfig("exec: {command: sh}")));
    let error = hub.connect().await.err().unwrap();
    assert_eq!(error.reason(), "KubeconfigExecRefused");
}

#[tokio::test]
async fn a_deleted_secret_ends_access_and_an_unreadable_one_does_not() {
    let mut hub = hub();
    hub.connector = hub.connector.with_recheck(Duration::ZERO);
    hub.connect().await.unwrap();
    hub.set(failure(500, "InternalError", "etcd is away"));
    hub.connect().await.unwrap();
    hub.set(failure(404, "NotFound", "no such secret"));
    assert_eq!(
        hub.connect().await.err().unwrap().reason(),
        "KubeconfigSecretNotFound"
    );
    hub.set(failure(403, "Forbidden", "no"));
    let error = hub.connect().await.err().unwrap();
    assert_eq!(
        (error.reason(), error.is_retryable()),
        ("KubeconfigSecretUnreadable", true)
    );
}

#[tokio::test]
async fn a_member_that_leaves_or_has_no_kubeconfig_has_no_client() {
    let hub = hub();
    hub.connect().await.unwrap();
    hub.membership.join(Member::new(name()));
    assert_eq!(hub.connect().await.err().unwrap().reason(), "KubeconfigMissing");
    hub.membership.leave(&name());
    assert_eq!(hub.connect().await.err().unwrap().reason(), "UnknownCluster");
}

#[tokio::test]
async fn invalidating_reads_the_secret_again() {
    let hub = hub();
    hub.connect().await.unwrap();
    hub.connector.invalidate(&name()).await;
    hub.connect().await.unwrap();
    assert_eq!(hub.log.take().len(), 2);
}

#[tokio::test]
async fn no_credential_shows_in_debug_output_or_in_an_error() {
    let mut hub = hub();
    hub.connector = hub.connector.with_recheck(Duration::ZERO);
    let mut shown = String::new();
    let user = format!("token: {CANARY}, password: {CANARY}, username: {CANARY}");
    for (version, text) in [
        ("2", kubeconfig(&user)),
        ("3", kubeconfig(&format!("token: [{CANARY}"))),
        (
            "4",
            kubeconfig(&format!(
                "client-certificate-data: {CANARY}, client-key-data: {CANARY}"
            )),
        ),
        ("5", kubeconfig(&format!("exec: {{command: {CANARY}}}"))),
    ] {
        hub.set(secret("1", version, &text));
        if let Err(error) = hub.connect().await {
            shown += &format!("{error} {error:?}");
            let mut source = std::error::Error::source(&error);
            while let Some(inner) = source {
                shown += &format!(" {inner} {inner:?}");
                source = inner.source();
            }
        }
        shown += &format!("{:?}", hub.connector);
    }
    // A Secret that does not even parse: serde would quote it.
    hub.set((
        200,
        json!({"kind": "Secret", "metadata": {"name": "a"}, "data": {"value": [CANARY]}}),
    ));
    hub.connector.invalidate(&name()).await;
    let error = hub.connect().await.err().unwrap();
    shown += &format!("{error:?}");
    assert!(
        shown.contains("KubeconfigExecRefused") || shown.contains("ExecRefused"),
        "{shown}"
    );
    assert!(!shown.contains(CANARY), "{shown}");
}
