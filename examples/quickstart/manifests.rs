//! The manifests of the example, as a user keeps them in files.

use std::error::Error;

use kurator::policy::api::{DistributionPolicy, OverridePolicy};
use serde::Deserialize;
use serde_json::Value;

/// A storefront Deployment as it stands on the hub.
pub(crate) fn storefront() -> Result<Value, Box<dyn Error>> {
    Ok(serde_saphyr::from_str(include_str!("../data/storefront.yaml"))?)
}

/// The two policies of `examples/manifests/distribution.yaml`, one YAML document each.
pub(crate) fn policies() -> Result<(DistributionPolicy, OverridePolicy), Box<dyn Error>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(include_str!("../manifests/distribution.yaml"))?;
    Ok((
        one("DistributionPolicy", &documents)?,
        one("OverridePolicy", &documents)?,
    ))
}

fn one<T: for<'de> Deserialize<'de>>(kind: &str, documents: &[Value]) -> Result<T, Box<dyn Error>> {
    let document = documents
        .iter()
        .find(|document| document["kind"] == kind)
        .ok_or_else(|| format!("distribution.yaml holds no {kind}"))?;
    Ok(serde_json::from_value(document.clone())?)
}
