use serde_json::Value;
use sha2::{Digest, Sha256};

use super::ANNOTATION_APPLIED_HASH;

/// An object of a set as it is written to a member that does not have it, which is the same text for all of them.
#[derive(Clone, Debug)]
pub(in super::super) struct DesiredText {
    /// How long it is without the hash.
    pub(super) bytes: usize,
    /// The hash of what is wanted.
    pub(super) hash: String,
    /// With the hash in its annotation.
    pub(super) hashed: Vec<u8>,
}

impl DesiredText {
    pub(in super::super) fn of(body: &Value) -> Self {
        let plain = body.to_string();
        let hash = hash(&plain);
        Self {
            bytes: plain.len(),
            hashed: with_hash(body.clone(), &hash).to_string().into_bytes(),
            hash,
        }
    }
}

pub(super) fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn with_hash(mut body: Value, hash: &str) -> Value {
    let annotations = body.pointer_mut("/metadata/annotations");
    if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
        annotations.insert(ANNOTATION_APPLIED_HASH.to_owned(), hash.into());
    }
    body
}
