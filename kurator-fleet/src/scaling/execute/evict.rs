//! One eviction, and what the answer means.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams, Preconditions},
    core::Status,
};
use serde_json::json;

/// What became of an eviction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The pod is on its way.
    Granted,
    /// It is gone, or another pod has its name.
    Gone,
    /// The budget says no.
    NotNow,
    /// The budget's status is not up to date.
    BudgetUnknown,
    /// The server has too much to do.
    Overloaded,
    /// It will end with its namespace.
    NamespaceTerminating,
    /// Nobody knows: the answer was lost.
    Unknown,
    /// Never, as things are; with what the server said.
    Refused(String),
}

/// Asks for an eviction. The body is ours because kube 5 sends the options under a name the server does not know, and
/// so loses grace period and UID.
pub(super) async fn evict(
    client: Client,
    namespace: String,
    name: String,
    uid: String,
    grace: Option<i64>,
) -> Answer {
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let mut options = json!({"preconditions": {"uid": uid}});
    if let Some(grace) = grace {
        options["gracePeriodSeconds"] = grace.into();
    }
    let body = json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
        "deleteOptions": options,
    });
    let answer = pods
        .create_subresource::<_, Status>("eviction", &name, &PostParams::default(), &body)
        .await;
    match answer {
        Ok(_) => Answer::Granted,
        Err(error) => read(&error),
    }
}

/// Deletes a pod whatever its budgets say.
pub(super) async fn delete(
    client: Client,
    namespace: String,
    name: String,
    uid: String,
    grace: u32,
) -> Answer {
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let params = DeleteParams {
        grace_period_seconds: Some(grace),
        preconditions: Some(Preconditions {
            uid: Some(uid),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match pods.delete(&name, &params).await {
        Ok(_) => Answer::Granted,
        Err(error) => read(&error),
    }
}

fn read(error: &kube::Error) -> Answer {
    let kube::Error::Api(status) = error else {
        return Answer::Unknown;
    };
    let cause = |reason: &str| {
        let causes = status.details.iter().flat_map(|details| &details.causes);
        causes.into_iter().any(|cause| cause.reason == reason)
    };
    match status.code {
        404 => Answer::Gone,
        409 if status
            .details
            .as_ref()
            .is_some_and(|details| details.kind.eq_ignore_ascii_case("pod") || details.kind == "pods") =>
        {
            Answer::Gone
        }
        409 => Answer::Overloaded,
        429 if cause("DisruptionBudget") && status.message.contains("still being processed") => {
            Answer::BudgetUnknown
        }
        429 if cause("DisruptionBudget") => Answer::NotNow,
        403 if cause("DisruptionBudget") => Answer::BudgetUnknown,
        403 if cause("NamespaceTerminating") => Answer::NamespaceTerminating,
        429 | 503 | 504 => Answer::Overloaded,
        500 if status.message.contains("more than one PodDisruptionBudget") => {
            Answer::Refused(status.message.clone())
        }
        500 | 502 => Answer::Unknown,
        _ => Answer::Refused(status.message.clone()),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::{
        Status,
        response::{StatusCause, StatusDetails},
    };

    use super::*;

    fn answer(code: u16, message: &str, cause: &str, kind: &str) -> Answer {
        let status = Status {
            code,
            message: message.into(),
            details: Some(StatusDetails {
                kind: kind.into(),
                causes: vec![StatusCause {
                    reason: cause.into(),
                    message: String::new(),
                    field: String::new(),
                }],
                name: String::new(),
                group: String::new(),
                uid: String::new(),
                retry_after_seconds: 0,
            }),
            ..Status::default()
        };
        read(&kube::Error::Api(status.boxed()))
    }

    #[test]
    fn every_answer_of_the_server_is_told_apart() {
        let needs = "The disruption budget web needs 2 healthy pods and has 2 currently";
        let pending = "The disruption budget web is still being processed by the server.";
        assert_eq!(answer(429, needs, "DisruptionBudget", ""), Answer::NotNow);
        assert_eq!(
            answer(429, pending, "DisruptionBudget", ""),
            Answer::BudgetUnknown
        );
        assert_eq!(answer(429, "too many requests", "", ""), Answer::Overloaded);
        assert_eq!(answer(404, "", "", "pods"), Answer::Gone);
        assert_eq!(answer(409, "", "", "Pod"), Answer::Gone);
        assert_eq!(answer(409, "", "", "poddisruptionbudgets"), Answer::Overloaded);
        assert_eq!(
            answer(403, "", "NamespaceTerminating", ""),
            Answer::NamespaceTerminating
        );
        assert!(matches!(answer(403, "forbidden", "", ""), Answer::Refused(_)));
        let two = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        assert!(matches!(answer(500, two, "", ""), Answer::Refused(_)));
    }
}
