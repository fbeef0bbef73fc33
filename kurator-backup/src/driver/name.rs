//! Parsed names of what a backup server keeps.

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest name of a Kubernetes object.
const MAX_NAME: usize = 253;

/// A name that no object of a backup server can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {value:?} at byte {offset}: expected {expected}")]
#[non_exhaustive]
pub struct InvalidName {
    /// What the name is the name of, such as `backup name`.
    pub what: &'static str,
    /// The text that was refused.
    pub value: String,
    /// Byte offset of the first offence; the length of the text if it ends too early.
    pub offset: usize,
    /// What would have been accepted there.
    pub expected: &'static str,
}

/// Offset and expectation of the first byte that keeps `value` from being an RFC 1123 subdomain.
fn offence(value: &str) -> Option<(usize, &'static str)> {
    let bytes = value.as_bytes();
    let alphanumeric = |at: usize| {
        bytes
            .get(at)
            .is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    for (offset, byte) in bytes.iter().enumerate() {
        if offset == MAX_NAME {
            return Some((offset, "the end: a name has at most 253 characters"));
        }
        let inner = offset > 0 && offset + 1 < bytes.len();
        match byte {
            _ if alphanumeric(offset) => {}
            b'-' if inner => {}
            b'.' if inner && alphanumeric(offset - 1) && alphanumeric(offset + 1) => {}
            _ => {
                return Some((
                    offset,
                    "lower case letters and digits, with '-' or '.' between them",
                ));
            }
        }
    }
    bytes.is_empty().then_some((0, "a lower case letter or a digit"))
}

macro_rules! object_name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// An RFC 1123 subdomain of at most 253 characters. Ordered by bytes; cloning shares the text.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses a name.
            ///
            /// # Errors
            /// [`InvalidName`] with the offset of the first byte that is not allowed there.
            pub fn new(value: impl AsRef<str>) -> Result<Self, InvalidName> {
                let value = value.as_ref();
                match offence(value) {
                    None => Ok(Self(value.into())),
                    Some((offset, expected)) => {
                        Err(InvalidName { what: $what, value: value.to_owned(), offset, expected })
                    }
                }
            }

            /// The name made of `parts`, at most 63 characters, with a hash of all parts at its end
            /// ([`bounded_name`](kurator_core::names::bounded_name)).
            pub fn bounded<I>(parts: I) -> Self
            where
                I: IntoIterator,
                I::Item: AsRef<str>,
            {
                Self(kurator_core::names::bounded_name(parts).into())
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(value: &str) -> Result<Self, Self::Err> {
                Self::new(value)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.as_str() == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.as_str() == *other
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(Cow::<'de, str>::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "minLength": 1,
                    "maxLength": MAX_NAME,
                    "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
                })
            }
        }
    };
}

object_name! {
    /// The name of a backup on a server. On Velero it is also the key in the object store, so it is unique among
    /// all clusters that share a bucket and prefix.
    BackupName, "backup name"
}

object_name! {
    /// The name of a restore on a server.
    RestoreName, "restore name"
}

object_name! {
    /// The name of a storage location on a server.
    LocationName, "storage location name"
}

object_name! {
    /// The name of a request to delete a backup.
    DeletionName, "deletion request name"
}

/// Who created an object on a server, and what for: compared before an object that exists already is adopted.
///
/// A label value: at most 63 of letters, digits, `-`, `_` and `.`. Made by [`bounded`](Self::bounded) from whatever
/// identifies one attempt, such as the UID of the execution, the cluster and the attempt's number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct OwnerToken(String);

impl OwnerToken {
    /// The token that stands for all of `parts`.
    pub fn bounded<I>(parts: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        Self(kurator_core::names::bounded_name(parts))
    }

    /// A token as it was read from the label of an object, whoever wrote it.
    pub fn read(label: impl Into<String>) -> Self {
        Self(label.into())
    }

    /// The token as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OwnerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_subdomain() {
        for name in ["a", "nightly-20261123030000", "a.b", &"x".repeat(253)] {
            assert_eq!(BackupName::new(name).unwrap().as_str(), name);
        }
        for (name, offset) in [
            ("", 0),
            ("A", 0),
            ("a.", 1),
            ("a..b", 1),
            ("a.-b", 1),
            ("a_b", 1),
            ("-a", 0),
        ] {
            let error = BackupName::new(name).unwrap_err();
            assert_eq!((error.offset, error.what), (offset, "backup name"), "{name:?}");
        }
        assert_eq!(BackupName::new("x".repeat(254)).unwrap_err().offset, 253);
    }

    #[test]
    fn bounded_names_fit_a_label() {
        let name = BackupName::bounded([&"c".repeat(80), "1764000000", "1"]);
        assert_eq!(name.as_str().len(), 63);
        assert!(BackupName::new(name.as_str()).is_ok());
    }
}
