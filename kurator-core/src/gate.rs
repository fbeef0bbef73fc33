//! Whether a step may be taken now, in somebody else's opinion: a backup first, a change freeze, a person's word.
//!
//! ```
//! use kurator_core::gate::{Gate, Passage};
//! use kurator_core::names::ClusterName;
//!
//! #[derive(Debug)]
//! struct Freeze;
//!
//! #[async_trait::async_trait]
//! impl Gate for Freeze {
//!     async fn ask(&self, _: &ClusterName, what: &str) -> Passage {
//!         Passage::closed(format!("no change before the holidays are over: {what}"))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let passage = Freeze.ask(&"east".parse()?, "remove 3 nodes").await;
//! assert!(!passage.is_open());
//! # Ok(())
//! # }
//! ```

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::names::ClusterName;

/// What a gate answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Passage {
    /// Not now.
    Closed {
        /// Why, and what would open it.
        message: String,
        /// When to ask again; the asker's choice if it is left out.
        until: Option<Timestamp>,
    },
    /// Go on.
    Open,
}

impl Passage {
    /// Closed for that reason.
    pub fn closed(message: impl Into<String>) -> Self {
        Self::Closed {
            message: message.into(),
            until: None,
        }
    }

    /// Whether to go on.
    pub fn is_open(&self) -> bool {
        *self == Self::Open
    }
}

/// Is asked before something happens to a member, and again each time it would begin.
///
/// It answers what is so now and does not wait for it to change.
#[async_trait]
pub trait Gate: fmt::Debug + Send + Sync + 'static {
    /// Whether `what`, a sentence such as `remove 3 nodes`, may be done on the cluster now.
    async fn ask(&self, cluster: &ClusterName, what: &str) -> Passage;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Gate + ?Sized> Gate for Arc<T> {
    async fn ask(&self, cluster: &ClusterName, what: &str) -> Passage {
        (**self).ask(cluster, what).await
    }
}

/// Always open.
#[async_trait]
impl Gate for () {
    async fn ask(&self, _: &ClusterName, _: &str) -> Passage {
        Passage::Open
    }
}
