//! The object on the member that says who holds what still, for whoever comes after us.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{ResourceExt, api::ObjectMeta};
use kurator_core::names::bounded_name;

use super::pods::Place;
use crate::driver::OwnerToken;

/// On every such Lease.
pub(super) const LABEL: &str = "backup.kurator.dev/barrier";
/// The containers, as JSON.
const PLACES: &str = "backup.kurator.dev/held-still";
/// What nobody took away is taken away this long after its end.
pub(super) const KEPT_FOR: SignedDuration = SignedDuration::from_hours(1);

pub(super) fn name(owner: &OwnerToken) -> String {
    bounded_name(["barrier", owner.as_str()])
}

pub(super) fn spec(owner: &OwnerToken, now: Timestamp, until: Timestamp) -> LeaseSpec {
    let seconds = until.duration_since(now).as_secs().max(1);
    LeaseSpec {
        holder_identity: Some(owner.as_str().to_owned()),
        renew_time: Some(MicroTime(now)),
        lease_duration_seconds: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
        ..LeaseSpec::default()
    }
}

pub(super) fn lease(owner: &OwnerToken, places: &[Place], now: Timestamp, until: Timestamp) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(name(owner)),
            labels: Some([(LABEL.to_owned(), "exec".to_owned())].into()),
            annotations: Some(annotations(places)),
            ..ObjectMeta::default()
        },
        spec: Some(spec(owner, now, until)),
    }
}

pub(super) fn annotations(places: &[Place]) -> BTreeMap<String, String> {
    let places = serde_json::to_string(places).unwrap_or_default();
    [(PLACES.to_owned(), places)].into()
}

/// `None` for what nobody can read.
pub(super) fn places(lease: &Lease) -> Option<Vec<Place>> {
    serde_json::from_str(lease.annotations().get(PLACES)?).ok()
}

pub(super) fn owner(lease: &Lease) -> Option<OwnerToken> {
    let spec = lease.spec.as_ref()?;
    spec.holder_identity.clone().map(OwnerToken::read)
}

pub(super) fn end(lease: &Lease) -> Timestamp {
    let spec = lease.spec.as_ref();
    let renewed = spec.and_then(|spec| spec.renew_time.as_ref());
    let seconds = spec
        .and_then(|spec| spec.lease_duration_seconds)
        .unwrap_or_default();
    let lasts = SignedDuration::from_secs(seconds.into());
    renewed.map_or(Timestamp::MIN, |at| at.0.saturating_add(lasts).unwrap_or(at.0))
}
