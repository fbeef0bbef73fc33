//! What every [`BackupDriver`](crate::driver::BackupDriver) must do, as a suite that the author of one runs.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use jiff::SignedDuration;
//! use kurator_backup::{driver::memory::InMemoryBackups, testing::{DriverGround, Violation, check_driver}};
//! use serde_json::json;
//!
//! let fleet = InMemoryBackups::new("2026-11-23T03:00:00Z".parse()?);
//! let (here, away) = ("here".parse()?, "away".parse()?);
//! fleet.add_member(&here);
//! fleet.add_member(&away);
//! fleet.set_reachable(&away, false);
//! fleet.put_object(&here, json!({
//!     "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "namespace": "shop", "name": "prices" },
//! }));
//!
//! let clock = fleet.clone();
//! let ground = DriverGround::new(&fleet, &here, "suite-1").with_unreachable(&away);
//! let laws = check_driver(&ground, async || clock.advance(SignedDuration::from_secs(1))).await?;
//! assert_eq!(laws.len(), 9);
//! # Ok(())
//! # }
//! ```

mod laws;

pub use self::laws::{DriverGround, Violation, check_driver};
