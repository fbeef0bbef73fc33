#![doc = include_str!("../README.md")]

pub mod components;
#[cfg(feature = "fleet")]
mod fleet;

#[cfg(feature = "fleet")]
pub use fleet::{
    Account, Controllers, Cut, Delay, Error, Fleet, FleetBuilder, Link, Loss, Member, MemberSpec, Nodes,
    Part, Startup,
};
