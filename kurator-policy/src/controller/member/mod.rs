//! One worker for each member. Workers share nothing, so a member that hangs holds up nobody but itself.

mod autoscalers;
mod desk;
mod glance;
mod pass;
mod phase;
mod registry;
mod watches;
mod worker;

pub(super) use self::{
    desk::{Assignment, Desk, Wanted},
    registry::Desks,
    worker::Tools,
};
