use kube::core::Status;
use serde::{Deserialize, Serialize};

use super::ObjectKey;
use crate::reason::Reason;

/// Why an object could not be applied or removed. Data, not an error: the other objects go on, and the next pass
/// tries again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyFailure {
    /// A webhook or an admission policy of the member said no.
    #[error("refused by admission: {message}")]
    AdmissionDenied {
        /// The server's words.
        message: String,
    },
    /// A webhook of the member did not answer, and is set to fail closed.
    #[error("an admission webhook does not work: {message}")]
    AdmissionUnavailable {
        /// The server's words.
        message: String,
    },
    /// The object is on its way out and will be placed again when it is gone.
    #[error("the object is being deleted; it is placed again once it is gone")]
    BeingDeleted,
    /// Somebody changed the object between the read and the write.
    #[error("the object changed meanwhile; the next pass sees the change")]
    Changed,
    /// A field that cannot be changed has changed. Delete the object on the member to have it made anew.
    #[error("immutable: {}; delete the object on the member to have it made anew", fields.join(", "))]
    FieldImmutable {
        /// Paths of the fields.
        fields: Vec<String>,
    },
    /// The credentials of this hub may not do that on the member.
    #[error("forbidden on the member: {message}")]
    Forbidden {
        /// The server's words.
        message: String,
    },
    /// The object does not fit its schema or its validation.
    #[error("invalid: {message}")]
    Invalid {
        /// The server's words.
        message: String,
    },
    /// The member does not serve the kind: a CustomResourceDefinition is missing, or not yet established.
    #[error("the member does not serve {kind} in {api_version}; install its CustomResourceDefinition there")]
    KindMissing {
        /// `apiVersion`.
        api_version: String,
        /// `kind`.
        kind: String,
    },
    /// The namespace does not exist and was not to be created.
    #[error("namespace {namespace} does not exist on the member")]
    NamespaceMissing {
        /// The namespace.
        namespace: String,
    },
    /// The namespace is on its way out.
    #[error("namespace {namespace} is being deleted on the member")]
    NamespaceTerminating {
        /// The namespace.
        namespace: String,
    },
    /// A ResourceQuota is used up.
    #[error("quota exceeded: {message}")]
    QuotaExceeded {
        /// The server's words.
        message: String,
    },
    /// The server answered with something else.
    #[error("the member answered {code}: {message}")]
    ServerError {
        /// HTTP status code.
        code: u16,
        /// The server's words.
        message: String,
    },
    /// Flow control of the member turned the request away.
    #[error("the member is busy; next try in {retry_after_seconds} s or later")]
    Throttled {
        /// What the server asked for; 0 if nothing.
        retry_after_seconds: u32,
    },
    /// More than the server stores in one object.
    #[error("{bytes} bytes are more than the member stores in one object; split it")]
    TooLarge {
        /// Size of the object as sent.
        bytes: usize,
    },
    /// The member does not know the credentials.
    #[error("the member does not accept the credentials")]
    Unauthorized,
    /// The connection did not stand or broke.
    #[error("the member does not answer: {message}")]
    Unreachable {
        /// What happened to the connection.
        message: String,
    },
}

/// So that a status with many failures stays an object the hub can store.
const MAX_MESSAGE: usize = 512;

impl ApplyFailure {
    /// The reason as conditions, Events and metric labels carry it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::AdmissionDenied { .. } => "AdmissionDenied",
            Self::AdmissionUnavailable { .. } => "AdmissionUnavailable",
            Self::BeingDeleted => "BeingDeleted",
            Self::Changed => "Changed",
            Self::FieldImmutable { .. } => "FieldImmutable",
            Self::Forbidden { .. } => "Forbidden",
            Self::Invalid { .. } => "Invalid",
            Self::KindMissing { .. } => "KindMissing",
            Self::NamespaceMissing { .. } => "NamespaceMissing",
            Self::NamespaceTerminating { .. } => "NamespaceTerminating",
            Self::QuotaExceeded { .. } => "QuotaExceeded",
            Self::ServerError { .. } => "ServerError",
            Self::Throttled { .. } => "Throttled",
            Self::TooLarge { .. } => "TooLarge",
            Self::Unauthorized => "Unauthorized",
            Self::Unreachable { .. } => "MemberUnreachable",
        }
    }

    /// Whether the member as a whole is out of reach, so that trying its other objects is waste.
    pub fn concerns_member(&self) -> bool {
        matches!(self, Self::Unauthorized | Self::Unreachable { .. })
    }

    /// What a failed request for `object`, with a body of this size, means. The wording of the API server is read
    /// only where it gives no reason of its own; the places are kube-apiserver 1.33 to 1.37.
    pub fn of_status(object: &ObjectKey, status: &Status, bytes: usize) -> Self {
        let message = shown(object, &status.message);
        let text = status.message.as_str();
        let namespace = object.object.namespace.clone();
        let cause = |reason: &str| {
            status
                .details
                .iter()
                .flat_map(|details| &details.causes)
                .any(|cause| cause.reason == reason)
        };
        match status.code {
            401 => Self::Unauthorized,
            403 if cause("NamespaceTerminating") => Self::NamespaceTerminating { namespace },
            403 if QUOTA.iter().any(|words| text.contains(words)) => Self::QuotaExceeded { message },
            _ if is_admission_denial(text) => Self::AdmissionDenied { message },
            500.. if text.contains("failed calling webhook") => Self::AdmissionUnavailable { message },
            403 => Self::Forbidden { message },
            404 if status
                .details
                .as_ref()
                .is_some_and(|details| details.kind == "namespaces") =>
            {
                Self::NamespaceMissing { namespace }
            }
            404 => Self::KindMissing {
                api_version: object.group.clone(),
                kind: object.kind.clone(),
            },
            409 => Self::Changed,
            413 => Self::TooLarge { bytes },
            429 => Self::Throttled {
                retry_after_seconds: status
                    .details
                    .as_ref()
                    .map_or(0, |details| details.retry_after_seconds),
            },
            500.. if text.contains("request is too large") || text.contains("larger than max") => {
                Self::TooLarge { bytes }
            }
            // What a ConfigMap or Secret may hold is less than what the server stores.
            422 if is_too_long(object, status) => Self::TooLarge { bytes },
            // How server-side apply answers a field that the schema does not have, or one of another type.
            500 if text.contains("failed to create typed patch object") => Self::Invalid { message },
            400 | 422 => match immutable_fields(status) {
                fields if fields.is_empty() => Self::Invalid { message },
                fields => Self::FieldImmutable { fields },
            },
            code => Self::ServerError { code, message },
        }
    }
}

impl Reason for ApplyFailure {
    fn token(&self) -> &'static str {
        self.reason()
    }
}

/// `admission webhook "x" denied the request: ...`, `ValidatingAdmissionPolicy 'x' with binding 'y' denied request: ...`.
fn is_admission_denial(text: &str) -> bool {
    text.contains("denied the request") || text.contains("denied request:")
}

/// What the ResourceQuota plugin says (`plugin/pkg/admission/resourcequota/controller.go`): used up, not counted yet, or
/// a limit that must be given and is not.
const QUOTA: [&str; 3] = ["exceeded quota", "status unknown for quota", "failed quota"];

/// How validation says that a field keeps its value (`pkg/apis/*/validation`): most kinds have words of their own.
const IMMUTABLE: [&str; 7] = [
    "immutable",
    "may not change once set",
    "may not be changed",
    "can not be unset",
    "may not change fields other than",
    "cannot change roleRef",
    "updates to ",
];

fn immutable_fields(status: &Status) -> Vec<String> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let mut fields: Vec<String> = causes
        .filter(|cause| IMMUTABLE.iter().any(|words| cause.message.contains(words)))
        .map(|cause| cause.field.clone())
        .collect();
    fields.dedup();
    fields
}

fn is_too_long(object: &ObjectKey, status: &Status) -> bool {
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    object.group.is_empty()
        && matches!(object.kind.as_str(), "ConfigMap" | "Secret")
        && causes.any(|cause| cause.reason == "FieldValueTooLong" && !cause.field.starts_with("metadata"))
}

/// The server's words, cut; for a Secret none of them, since a rejected value is quoted in them.
fn shown(object: &ObjectKey, message: &str) -> String {
    if object.group.is_empty() && object.kind == "Secret" {
        return "(not shown for a Secret)".to_owned();
    }
    match message.char_indices().nth(MAX_MESSAGE) {
        None => message.to_owned(),
        Some((end, _)) => format!("{}...", message.get(..end).unwrap_or_default()),
    }
}

#[cfg(feature = "client")]
impl ApplyFailure {
    /// What a failed request for `object`, with a body of this size, means.
    pub fn of_error(object: &ObjectKey, error: &kube::Error, bytes: usize) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(object, status, bytes),
            kube::Error::Discovery(_) => Self::KindMissing {
                api_version: object.group.clone(),
                kind: object.kind.clone(),
            },
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Self::ServerError {
                code: 200,
                message: "the answer is not a Kubernetes object".to_owned(),
            },
            kube::Error::BuildRequest(_) => Self::Invalid {
                message: "the name does not make a request path".to_owned(),
            },
            other => Self::Unreachable {
                message: innermost(other),
            },
        }
    }
}

/// The last of a chain of errors: "connection refused" rather than five times "error trying to connect".
#[cfg(feature = "client")]
fn innermost(error: &kube::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{names::NamespacedName, reason::is_token};

    fn failure(kind: &str, status: serde_json::Value) -> ApplyFailure {
        let key = ObjectKey::new("", kind, NamespacedName::new("apps", "a"));
        ApplyFailure::of_status(&key, &serde_json::from_value(status).unwrap(), 7)
    }

    /// The wording of kube-apiserver 1.37.
    #[test]
    fn every_answer_of_the_server_has_its_reason() {
        let cases = [
            (json!({"code": 401, "reason": "Unauthorized"}), "Unauthorized"),
            (
                json!({"code": 403, "message": "deployments.apps is forbidden: User \"x\" cannot patch"}),
                "Forbidden",
            ),
            (
                json!({"code": 403, "message": "unable to create new content in namespace apps because it is being terminated",
                    "details": {"causes": [{"reason": "NamespaceTerminating"}]}}),
                "NamespaceTerminating",
            ),
            (
                json!({"code": 403, "message": "pods \"a\" is forbidden: exceeded quota: q, requested: pods=1"}),
                "QuotaExceeded",
            ),
            (
                json!({"code": 403, "message": "admission webhook \"w\" denied the request: no"}),
                "AdmissionDenied",
            ),
            (
                json!({"code": 422, "message": "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no"}),
                "AdmissionDenied",
            ),
            (
                json!({"code": 500, "message": "Internal error occurred: failed calling webhook \"w\""}),
                "AdmissionUnavailable",
            ),
            (
                json!({"code": 404, "message": "namespaces \"apps\" not found", "details": {"kind": "namespaces"}}),
                "NamespaceMissing",
            ),
            (
                json!({"code": 404, "message": "the server could not find the requested resource"}),
                "KindMissing",
            ),
            (json!({"code": 409, "reason": "Conflict"}), "Changed"),
            (json!({"code": 413}), "TooLarge"),
            (
                json!({"code": 500, "message": "etcdserver: request is too large"}),
                "TooLarge",
            ),
            (
                json!({"code": 429, "details": {"retryAfterSeconds": 3}}),
                "Throttled",
            ),
            (
                json!({"code": 422, "message": "spec.x: Required value"}),
                "Invalid",
            ),
            (
                json!({"code": 422, "details": {"causes": [{"field": "spec.selector", "message": "Invalid value: field is immutable"}]}}),
                "FieldImmutable",
            ),
            (
                json!({"code": 422, "details": {"causes": [{"reason": "FieldValueInvalid", "field": "spec.clusterIPs[0]",
                    "message": "Invalid value: [\"None\"]: may not change once set"}]}}),
                "FieldImmutable",
            ),
            (
                json!({"code": 422, "details": {"causes": [{"reason": "FieldValueForbidden", "field": "spec",
                    "message": "Forbidden: updates to statefulset spec for fields other than 'replicas' are forbidden"}]}}),
                "FieldImmutable",
            ),
            (
                json!({"code": 422, "details": {"causes": [{"reason": "FieldValueTooLong", "field": "metadata.annotations",
                    "message": "Too long: may not be more than 262144 bytes"}]}}),
                "Invalid",
            ),
            (
                json!({"code": 403, "message": "configmaps \"a\" is forbidden: status unknown for quota: q, resources: configmaps"}),
                "QuotaExceeded",
            ),
            (
                json!({"code": 500, "message": "failed to create typed patch object: .spec.x: field not declared in schema"}),
                "Invalid",
            ),
            (json!({"code": 500, "message": "boom"}), "ServerError"),
        ];
        for (status, reason) in cases {
            assert_eq!(failure("Pod", status.clone()).reason(), reason, "{status}");
            assert!(is_token(reason));
        }
    }

    #[test]
    fn a_config_map_that_holds_too_much_is_too_large() {
        let status = json!({"code": 422, "message": "ConfigMap \"a\" is invalid: []: Too long: may not be more than 1048576 bytes",
            "details": {"causes": [{"reason": "FieldValueTooLong", "field": "[]",
                "message": "Too long: may not be more than 1048576 bytes"}]}});
        assert_eq!(failure("ConfigMap", status.clone()).reason(), "TooLarge");
        assert_eq!(failure("Service", status).reason(), "Invalid");
    }

    #[test]
    fn the_words_about_a_secret_are_not_repeated_and_long_ones_are_cut() {
        let status = json!({"code": 422, "message": "data[x]: Invalid value: \"c4n4ry\""});
        assert!(!format!("{:?}", failure("Secret", status.clone())).contains("c4n4ry"));
        assert!(failure("ConfigMap", status).to_string().contains("c4n4ry"));
        let long = failure("Pod", json!({"code": 422, "message": "\u{e4}".repeat(2000)}));
        assert!(long.to_string().chars().count() < 600);
    }
}
