#![doc = include_str!("../README.md")]

pub mod components;
#[cfg(feature = "fleet")]
mod fleet;

#[cfg(feature = "fleet")]
pub use fleet::{Controllers, Error, Fleet, FleetBuilder, Member, MemberSpec, Nodes, Part, Startup};
