#![cfg_attr(feature = "fleet", doc = include_str!("../README.md"))]
#![cfg_attr(
    not(feature = "fleet"),
    doc = "The programs of a test fleet; members need the feature `fleet`."
)]

pub mod components;
#[cfg(feature = "fleet")]
mod fleet;

#[cfg(feature = "fleet")]
pub use fleet::{
    Account, Controllers, Cut, Delay, Error, Fleet, FleetBuilder, Link, Loss, Member, MemberSpec, Nodes,
    ObjectStore, Part, Pods, Startup, Velero,
};
