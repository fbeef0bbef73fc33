//! A weight: a whole number, never negative.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// How much a cluster counts in a division, against the other clusters' weights.
///
/// Any `u64`; an API server stores at most 9223372036854775807. A negative number, a fraction or a number that does
/// not fit is refused when it is read:
///
/// ```
/// use kurator_policy::api::Weight;
///
/// assert_eq!(serde_json::from_str::<Weight>("90").ok(), Some(Weight::new(90)));
/// let refused = serde_json::from_str::<Weight>("-1").err().map(|e| e.to_string()).unwrap_or_default();
/// assert!(refused.contains("a weight, a whole number of 0 or more"), "{refused}");
/// assert!(serde_json::from_str::<Weight>("18446744073709551616").is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Weight(u64);

impl Weight {
    /// A weight of `value`.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for Weight {
    fn from(value: u64) -> Self {
        Self(value)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WeightVisitor;

        impl Visitor<'_> for WeightVisitor {
            type Value = Weight;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a weight, a whole number of 0 or more")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Weight, E> {
                Ok(Weight(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Weight, E> {
                u64::try_from(value)
                    .map(Weight)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
            }
        }

        deserializer.deserialize_u64(WeightVisitor)
    }
}

impl JsonSchema for Weight {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Weight")
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "format": "int64", "minimum": 0 })
    }
}
