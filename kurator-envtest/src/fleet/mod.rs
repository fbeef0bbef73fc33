//! Real members, started and steered by a test.

mod account;
mod apply;
mod builder;
mod control_plane;
mod credentials;
mod error;
mod link;
mod member;
mod nodes;
mod part;
mod running;
mod spec;
mod start;
mod store;
mod supervisor;
mod velero;
mod wait;

pub use self::{
    account::Account,
    builder::FleetBuilder,
    error::Error,
    link::{Cut, Delay, Link, Loss},
    member::{Member, Startup},
    nodes::Nodes,
    part::Part,
    running::Fleet,
    spec::{Controllers, MemberSpec, Pods},
    store::ObjectStore,
    velero::Velero,
};
