//! Parsed names: a value that exists is a valid one, so nothing downstream checks again.
//!
//! ```
//! use kurator_core::names::ClusterName;
//!
//! let name: ClusterName = "cluster-a".parse()?;
//! assert_eq!(name.as_str(), "cluster-a");
//!
//! let error = "Cluster-a".parse::<ClusterName>().unwrap_err();
//! assert_eq!(error.offset, 0);
//! # Ok::<(), kurator_core::names::ParseNameError>(())
//! ```

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest RFC 1123 label, and so the longest name this module makes or accepts.
pub const MAX_LABEL: usize = 63;

/// A name that is not an RFC 1123 label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {value:?} at byte {offset}: expected {expected}")]
#[non_exhaustive]
pub struct ParseNameError {
    /// What the name is the name of, for example `cluster name`.
    pub what: &'static str,
    /// The text that was refused.
    pub value: String,
    /// Byte offset of the first offence; the length of the text if it ends too early.
    pub offset: usize,
    /// What would have been accepted there.
    pub expected: &'static str,
}

/// Offset and expectation of the first byte that keeps `value` from being an RFC 1123 label.
fn label_offence(value: &str) -> Option<(usize, &'static str)> {
    let bytes = value.as_bytes();
    for (offset, byte) in bytes.iter().enumerate() {
        if offset == MAX_LABEL {
            return Some((offset, "the end: a name has at most 63 characters"));
        }
        let edge = offset == 0 || offset + 1 == bytes.len();
        match byte {
            b'a'..=b'z' | b'0'..=b'9' => {}
            b'-' if !edge => {}
            _ if edge => return Some((offset, "a lower case letter or a digit")),
            _ => return Some((offset, "a lower case letter, a digit or '-'")),
        }
    }
    bytes.is_empty().then_some((0, "a lower case letter or a digit"))
}

macro_rules! label_name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// An RFC 1123 label: 1 to 63 of `a-z`, `0-9` and `-`, with a letter or digit at both ends. Ordered by
        /// bytes; cloning shares the text.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses a name.
            ///
            /// # Errors
            /// [`ParseNameError`] with the offset of the first byte that is not allowed there.
            pub fn new(value: impl AsRef<str>) -> Result<Self, ParseNameError> {
                let value = value.as_ref();
                match label_offence(value) {
                    None => Ok(Self(value.into())),
                    Some((offset, expected)) => {
                        Err(ParseNameError { what: $what, value: value.to_owned(), offset, expected })
                    }
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseNameError;

            fn from_str(value: &str) -> Result<Self, Self::Err> {
                Self::new(value)
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseNameError;

            fn try_from(value: String) -> Result<Self, Self::Error> {
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

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
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
                    "maxLength": MAX_LABEL,
                    "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
                })
            }
        }
    };
}

label_name! {
    /// The name of a member cluster, unique in its fleet.
    ClusterName, "cluster name"
}

label_name! {
    /// The name of a fleet.
    FleetName, "fleet name"
}

/// The name of an object in a namespace, printed as `namespace/name`; a cluster-scoped object has an empty
/// namespace and prints as `name`.
///
/// The parts are kept as the server spells them: which characters they may hold differs from kind to kind, and
/// the server has checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::exhaustive_structs, reason = "the pair is the whole idea")]
pub struct NamespacedName {
    /// Namespace; empty for cluster-scoped objects.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl NamespacedName {
    /// The object `name` in `namespace`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The cluster-scoped object `name`.
    pub fn cluster_scoped(name: impl Into<String>) -> Self {
        Self {
            namespace: String::new(),
            name: name.into(),
        }
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// How many characters the hash takes at the end of a [`bounded_name`].
const HASH_LEN: usize = 10;

/// No vowels and no look-alikes, as in the names the API server generates, so no words come out by accident.
const HASH_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A name of at most 63 characters for an object that stands for all of `parts`, in that order.
///
/// The readable part is the parts joined with `-`, in lower case, with every other character replaced by `-`, and
/// cut where there is no more room. A hash of the parts as given follows, so different parts give different names
/// even where the readable part is the same: names that differ only after the cut, `["a-b", "c"]` and
/// `["a", "b-c"]`, or only in a replaced character.
///
/// # Guarantees
/// The result is an RFC 1123 label and depends on `parts` only: not on the platform, the process or the version of
/// this crate.
///
/// # Caveats
/// The hash (47 bits of FNV-1a) is no protection against someone who searches for a collision: before an object
/// with such a name is overwritten, its owner must be checked.
///
/// ```
/// use kurator_core::names::bounded_name;
///
/// let short = bounded_name(["default", "web", "cluster-a"]);
/// assert!(short.starts_with("default-web-cluster-a-"));
///
/// let long = "x".repeat(100);
/// let a = bounded_name([long.as_str(), "a"]);
/// assert_eq!(a.len(), 63);
/// assert_ne!(a, bounded_name([long.as_str(), "b"]));
/// ```
pub fn bounded_name<I>(parts: I) -> String
where
    I: IntoIterator,
    I::Item: AsRef<str>,
{
    let room = MAX_LABEL - HASH_LEN - 1;
    let mut name = String::with_capacity(MAX_LABEL);
    let mut hash = Fnv1a::new();
    for (index, part) in parts.into_iter().enumerate() {
        let part = part.as_ref();
        hash.write(part.as_bytes());
        // Not a byte of any UTF-8 text, so the border between two parts cannot be imitated.
        hash.write(&[0xff]);
        let border = (index > 0).then_some('-');
        for char in border.into_iter().chain(part.chars()) {
            let char = char.to_ascii_lowercase();
            let char = if matches!(char, 'a'..='z' | '0'..='9') {
                char
            } else {
                '-'
            };
            if name.len() < room && !(char == '-' && name.is_empty()) {
                name.push(char);
            }
        }
    }
    name.truncate(name.trim_end_matches('-').len());
    if !name.is_empty() {
        name.push('-');
    }
    let mut rest = hash.finish();
    for _ in 0..HASH_LEN {
        let index = usize::try_from(rest % 27).unwrap_or_default();
        name.push(char::from(HASH_ALPHABET.get(index).copied().unwrap_or(b'b')));
        rest /= 27;
    }
    name
}

/// FNV-1a with 128 bits: stable across platforms and releases, unlike the hashers of the standard library.
#[derive(Debug)]
struct Fnv1a(u128);

impl Fnv1a {
    fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }

    fn finish(&self) -> u128 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_accepted_and_printed_as_given() {
        for name in ["a", "0", "cluster-a", "a--b", &"x".repeat(63)] {
            assert_eq!(ClusterName::new(name).unwrap().to_string(), name);
        }
    }

    #[test]
    fn a_refusal_names_the_offset_and_what_was_expected() {
        let long = "x".repeat(64);
        for (name, offset) in [
            ("", 0),
            ("-a", 0),
            ("a-", 1),
            ("aB", 1),
            ("a.b", 1),
            ("a\u{e9}b", 1),
            ("a b", 1),
            (&long, 63),
        ] {
            let error = FleetName::new(name).unwrap_err();
            assert_eq!((error.offset, error.what), (offset, "fleet name"), "{name:?}");
            assert!(error.to_string().contains("expected"), "{error}");
        }
    }

    #[test]
    fn deserialising_checks_the_name() {
        assert_eq!(serde_json::from_str::<ClusterName>("\"a\"").unwrap(), "a");
        let error = serde_json::from_str::<ClusterName>("\"A\"").unwrap_err();
        assert!(
            error.to_string().contains("invalid cluster name \"A\" at byte 0"),
            "{error}"
        );
    }

    #[test]
    fn a_bounded_name_is_a_label_whatever_the_parts() {
        let long = "x".repeat(200);
        for parts in [
            vec![],
            vec![""],
            vec!["", ""],
            vec!["---"],
            vec!["Kube.System", "\u{fc}ber"],
            vec![long.as_str()],
            vec![&long[..51], "-", "b"],
        ] {
            let name = bounded_name(&parts);
            assert!(ClusterName::new(&name).is_ok(), "{parts:?} gave {name}");
        }
    }

    #[test]
    fn bounded_names_of_different_parts_differ() {
        let (a, b) = ("x".repeat(100) + "a", "x".repeat(100) + "b");
        let mut names: Vec<_> = [
            vec![a.as_str()],
            vec![b.as_str()],
            vec!["a-b", "c"],
            vec!["a", "b-c"],
            vec!["a", "b", "c"],
            vec!["a.b", "c"],
            vec!["A-b", "c"],
            vec!["a-b", "c", ""],
        ]
        .iter()
        .map(bounded_name)
        .collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_bounded_name_never_changes_between_releases() {
        assert_eq!(bounded_name(["default", "web"]), "default-web-r22xlmmx74");
    }
}
