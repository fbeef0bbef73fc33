//! Quantities in JSON, in schemas, and as `k8s_openapi` spells them.

use std::{borrow::Cow, fmt};

use k8s_openapi::apimachinery::pkg::api::resource;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{ParseQuantityError, Quantity};

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A string or a number, as the API server takes it.
impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

struct Visitor;

impl Visitor {
    fn parse<E: de::Error>(text: &str) -> Result<Quantity, E> {
        text.parse().map_err(E::custom)
    }
}

impl de::Visitor<'_> for Visitor {
    type Value = Quantity;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a quantity such as \"250m\" or \"1.5Gi\", or a number")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
        Self::parse(text.trim())
    }

    fn visit_i64<E: de::Error>(self, units: i64) -> Result<Quantity, E> {
        Ok(Quantity::from_units(units))
    }

    fn visit_u64<E: de::Error>(self, units: u64) -> Result<Quantity, E> {
        Self::parse(&units.to_string())
    }

    fn visit_i128<E: de::Error>(self, units: i128) -> Result<Quantity, E> {
        Self::parse(&units.to_string())
    }

    fn visit_u128<E: de::Error>(self, units: u128) -> Result<Quantity, E> {
        Self::parse(&units.to_string())
    }

    /// The shortest decimal that names this float: what was written, for anything of up to 15 significant digits.
    fn visit_f64<E: de::Error>(self, units: f64) -> Result<Quantity, E> {
        Self::parse(&units.to_string())
    }
}

impl From<Quantity> for resource::Quantity {
    fn from(quantity: Quantity) -> Self {
        Self(quantity.to_string())
    }
}

impl TryFrom<&resource::Quantity> for Quantity {
    type Error = ParseQuantityError;

    fn try_from(quantity: &resource::Quantity) -> Result<Self, Self::Error> {
        quantity.0.trim().parse()
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = resource::Quantity::json_schema(generator);
        schema.insert(
            "description".to_owned(),
            "A Kubernetes quantity, for example 250m or 1.5Gi.".into(),
        );
        schema
    }
}
