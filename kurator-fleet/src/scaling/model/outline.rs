//! The few facts about a pod that a plan asks for again and again.

use super::pod::PodRecord;

/// In a table of their own, two to a cache line: a plan goes over thousands of pods several times, in no order.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(32))]
pub(crate) struct Outline {
    pub(crate) place: Option<u32>,
    pub(crate) group: u32,
    pub(crate) constraint: u32,
    pub(crate) peers: u32,
    pub(crate) requests: u32,
    pub(crate) holds_room: bool,
    pub(crate) terminating: bool,
    pub(crate) has_claims: bool,
    pub(crate) has_ports: bool,
}

impl Outline {
    pub(super) fn of(pod: &PodRecord, has_ports: bool) -> Self {
        Self {
            place: pod.place,
            group: pod.group,
            constraint: pod.constraint,
            peers: pod.peers,
            requests: pod.requests,
            holds_room: pod.holds_room(),
            terminating: pod.terminating,
            has_claims: !pod.claims.is_empty(),
            has_ports,
        }
    }
}
