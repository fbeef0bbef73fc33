//! Selectors, compiled once and matched many times.
//!
//! [`LabelMatcher`] follows `LabelSelectorAsSelector` of apimachinery, and [`FieldMatcher`] looks at where a member
//! cluster is.
//!
//! ```
//! use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
//! use kurator_core::selector::LabelMatcher;
//!
//! let selector: LabelSelector = serde_json::from_str(
//!     r#"{"matchLabels": {"tier": "gold"}, "matchExpressions": [{"key": "retired", "operator": "DoesNotExist"}]}"#,
//! )?;
//! let matcher = LabelMatcher::compile(&selector)?;
//! assert!(matcher.matches(&[("tier".to_owned(), "gold".to_owned())].into()));
//! assert_eq!(matcher.to_string(), "tier=gold,!retired");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod field;
mod label;

pub use field::{ClusterField, FieldMatcher};
pub use label::{LabelMatcher, SelectorError};
