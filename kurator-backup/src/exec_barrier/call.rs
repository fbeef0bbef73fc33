//! One call into one container.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{AttachParams, AttachedProcess},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    command::{Answer, SHELL},
    pods::Place,
};

/// How long a container may take to answer; what it was asked to do goes on in it.
const PATIENCE: Duration = Duration::from_secs(8);
/// An answer is one line.
const LONGEST_ANSWER: u64 = 4096;

/// What came of a call.
#[derive(Debug)]
pub(super) enum Called {
    Answer(Answer),
    /// There is no such pod.
    Gone,
    /// Nothing can be run in the container: it is not up, or has no shell.
    NothingRuns,
    /// It may have done what it was asked.
    Silent(Option<kube::Error>),
    /// We may not.
    Forbidden(kube::Error),
}

pub(super) async fn call(client: Client, place: &Place, script: &str) -> Called {
    match tokio::time::timeout(PATIENCE, converse(client, place, script)).await {
        Ok(called) => called,
        Err(_) => Called::Silent(None),
    }
}

async fn converse(client: Client, place: &Place, script: &str) -> Called {
    let pods = Api::<Pod>::namespaced(client, &place.namespace);
    let params = AttachParams::default()
        .container(&place.container)
        .stdin(true)
        .stderr(false);
    match pods.exec(&place.pod, SHELL, &params).await {
        Ok(process) => listen(process, script).await,
        Err(kube::Error::Api(status)) if status.code == 404 => Called::Gone,
        Err(kube::Error::Api(status)) if status.code == 400 => Called::NothingRuns,
        Err(error) => match &error {
            kube::Error::Api(status) if matches!(status.code, 401 | 403) => Called::Forbidden(error),
            _ => Called::Silent(Some(error)),
        },
    }
}

async fn listen(mut process: AttachedProcess, script: &str) -> Called {
    let (stdin, stdout, status) = (process.stdin(), process.stdout(), process.take_status());
    let say = async {
        if let Some(mut stdin) = stdin {
            // A shell that is not there reads nothing; its status says so.
            let _ = stdin.write_all(script.as_bytes()).await;
            let _ = stdin.shutdown().await;
        }
    };
    let hear = async {
        let mut output = String::new();
        if let Some(stdout) = stdout {
            let _ = stdout.take(LONGEST_ANSWER).read_to_string(&mut output).await;
        }
        output
    };
    let ended = async {
        match status {
            Some(status) => status.await,
            None => None,
        }
    };
    let heard = async { tokio::join!(hear, ended) };
    tokio::pin!(say);
    let mut said = false;
    tokio::pin!(heard);
    let (output, status) = loop {
        tokio::select! {
            heard = &mut heard => break heard,
            () = &mut say, if !said => said = true,
        }
    };
    match (Answer::read(&output), status.and_then(|status| status.status)) {
        (Answer::Garbled, Some(status)) if status == "Failure" => Called::NothingRuns,
        (Answer::Garbled, None) => Called::Silent(None),
        (answer, _) => Called::Answer(answer),
    }
}
