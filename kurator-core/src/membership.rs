//! Which clusters a fleet has: asked by everything that spans members, answered by whoever registers them.
//!
//! A [`Membership`] tells three things apart that must never be mixed up: a fleet without members
//! (an empty list), a fleet nobody knows ([`MembershipError::FleetNotFound`]), and not knowing right now
//! ([`MembershipError::Unavailable`]). Only the first is a reason to remove anything from anywhere.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use kurator_core::membership::{Member, Membership, StaticMembership};
//!
//! let membership = StaticMembership::default();
//! let mut changes = membership.changes();
//! membership.join(Member::new("cluster-a".parse()?));
//! membership.enrol("storefront".parse()?, ["cluster-a".parse()?]);
//!
//! assert!(changes.has_changed()?);
//! let members = membership.members(Some(&"storefront".parse()?)).await?;
//! assert_eq!(members[0].name, "cluster-a");
//! # Ok(())
//! # }
//! ```

mod contexts;
mod hub;
mod merged;
mod providers;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

pub use self::{
    contexts::KubeconfigContexts,
    hub::{HubMembership, HubMirror},
    merged::MergedChanges,
    providers::Providers,
};
use crate::{
    health::ClusterUid,
    kubeconfig::KubeconfigRef,
    names::{ClusterName, FleetName},
    observe::{ClusterView, Taint},
};

/// One member cluster as its registration describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// Name, unique among all members.
    pub name: ClusterName,
    /// Labels of the registration: what selectors over clusters match.
    pub labels: BTreeMap<String, String>,
    /// Where the kubeconfig is; `None` for members that are reached in another way.
    pub kubeconfig: Option<KubeconfigRef>,
    /// Which cluster it is, once that is on record: another one is refused.
    pub uid: Option<ClusterUid>,
    /// Since when it is on record as ready, if it is. Whoever looks after it from now on gives it the whole grace to
    /// answer before saying anything else.
    pub ready_since: Option<Timestamp>,
    /// Who runs the machines, such as `aws`.
    pub provider: Option<String>,
    /// The provider's region.
    pub region: Option<String>,
    /// The zones it spans.
    pub zones: BTreeSet<String>,
    /// Its taints, sorted: what keeps workloads away, or makes them leave.
    pub taints: Vec<Taint>,
}

impl Member {
    /// A member without labels or kubeconfig.
    pub fn new(name: ClusterName) -> Self {
        Self {
            name,
            labels: BTreeMap::new(),
            kubeconfig: None,
            uid: None,
            ready_since: None,
            provider: None,
            region: None,
            zones: BTreeSet::new(),
            taints: Vec::new(),
        }
    }

    /// What planners can know of the member from its registration alone: name, labels, provider, region, zones and
    /// taints.
    #[must_use]
    pub fn view(&self) -> ClusterView {
        let mut view = ClusterView::new(self.name.clone());
        view.labels.clone_from(&self.labels);
        view.provider.clone_from(&self.provider);
        view.region.clone_from(&self.region);
        view.zones.clone_from(&self.zones);
        view.taints.clone_from(&self.taints);
        view
    }

    /// Adds a taint.
    #[must_use]
    pub fn with_taint(mut self, taint: Taint) -> Self {
        self.taints.push(taint);
        self.taints.sort_unstable();
        self
    }

    /// Sets which cluster it is.
    #[must_use]
    pub fn with_uid(mut self, uid: ClusterUid) -> Self {
        self.uid = Some(uid);
        self
    }

    /// Sets where the kubeconfig is.
    #[must_use]
    pub fn with_kubeconfig(mut self, kubeconfig: KubeconfigRef) -> Self {
        self.kubeconfig = Some(kubeconfig);
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn with_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }
}

/// Why there is no answer about members.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MembershipError {
    /// There is no such fleet. Not the same as a fleet without members.
    #[error("fleet {fleet} is not known; register it or correct the name")]
    FleetNotFound {
        /// The fleet.
        fleet: FleetName,
    },
    /// Whoever keeps the members cannot be asked right now.
    #[error("members cannot be read right now; what is in place stays")]
    Unavailable {
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl MembershipError {
    /// The reason as conditions, Events and metric labels carry it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::FleetNotFound { .. } => "FleetNotFound",
            Self::Unavailable { .. } => "MembershipUnavailable",
        }
    }
}

/// Who is in the fleet.
///
/// # Guarantees an implementation gives
/// Members come sorted by name, each once. An `Ok` is complete: a registration that exists but cannot be read
/// right now makes an [`MembershipError::Unavailable`], not a shorter list.
#[async_trait]
pub trait Membership: fmt::Debug + Send + Sync + 'static {
    /// The members of `fleet`, or of all fleets and of none for `None`.
    ///
    /// # Errors
    /// [`MembershipError`]; callers keep what is in place.
    async fn members(&self, fleet: Option<&FleetName>) -> Result<Vec<Member>, MembershipError>;

    /// One member by its name; `None` if it is certain that there is none.
    ///
    /// # Errors
    /// [`MembershipError::Unavailable`].
    async fn member(&self, name: &ClusterName) -> Result<Option<Member>, MembershipError> {
        Ok(self
            .members(None)
            .await?
            .into_iter()
            .find(|member| member.name == *name))
    }

    /// A counter that grows whenever an answer may have changed. Several changes in a row may show as one.
    fn changes(&self) -> watch::Receiver<u64>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Membership + ?Sized> Membership for Arc<T> {
    async fn members(&self, fleet: Option<&FleetName>) -> Result<Vec<Member>, MembershipError> {
        (**self).members(fleet).await
    }

    async fn member(&self, name: &ClusterName) -> Result<Option<Member>, MembershipError> {
        (**self).member(name).await
    }

    fn changes(&self) -> watch::Receiver<u64> {
        (**self).changes()
    }
}

/// Members kept in memory: for hosts that know their clusters from elsewhere, and for tests.
#[derive(Debug)]
pub struct StaticMembership {
    state: watch::Sender<u64>,
    content: std::sync::Mutex<Content>,
}

#[derive(Debug, Default)]
struct Content {
    members: BTreeMap<ClusterName, Member>,
    fleets: BTreeMap<FleetName, BTreeSet<ClusterName>>,
}

impl Default for StaticMembership {
    fn default() -> Self {
        Self {
            state: watch::Sender::new(0),
            content: std::sync::Mutex::default(),
        }
    }
}

impl StaticMembership {
    /// Registers a member, or replaces the registration of that name.
    pub fn join(&self, member: Member) {
        self.change(|content| {
            content
                .members
                .insert(member.name.clone(), member.clone())
                .as_ref()
                != Some(&member)
        });
    }

    /// Removes a registration. The name stays in the fleets that list it and is skipped there.
    pub fn leave(&self, name: &ClusterName) {
        self.change(|content| content.members.remove(name).is_some());
    }

    /// Makes `fleet` the fleet of exactly these clusters. Names without a registration are skipped until one joins.
    pub fn enrol(&self, fleet: FleetName, clusters: impl IntoIterator<Item = ClusterName>) {
        let clusters: BTreeSet<_> = clusters.into_iter().collect();
        self.change(|content| content.fleets.insert(fleet, clusters.clone()) != Some(clusters));
    }

    fn change(&self, change: impl FnOnce(&mut Content) -> bool) {
        if change(&mut self.lock()) {
            self.state.send_modify(|revision| *revision += 1);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Content> {
        self.content
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl FromIterator<Member> for StaticMembership {
    fn from_iter<I: IntoIterator<Item = Member>>(members: I) -> Self {
        let membership = Self::default();
        members.into_iter().for_each(|member| membership.join(member));
        membership
    }
}

#[async_trait]
impl Membership for StaticMembership {
    async fn members(&self, fleet: Option<&FleetName>) -> Result<Vec<Member>, MembershipError> {
        let content = self.lock();
        match fleet {
            None => Ok(content.members.values().cloned().collect()),
            Some(fleet) => {
                let names = content
                    .fleets
                    .get(fleet)
                    .ok_or_else(|| MembershipError::FleetNotFound { fleet: fleet.clone() })?;
                Ok(names
                    .iter()
                    .filter_map(|name| content.members.get(name).cloned())
                    .collect())
            }
        }
    }

    async fn member(&self, name: &ClusterName) -> Result<Option<Member>, MembershipError> {
        Ok(self.lock().members.get(name).cloned())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.state.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> ClusterName {
        name.parse().unwrap()
    }

    #[tokio::test]
    async fn an_unknown_fleet_is_an_error_and_an_empty_one_is_not() {
        let membership = StaticMembership::default();
        membership.enrol("empty".parse().unwrap(), []);
        assert_eq!(
            membership.members(Some(&"empty".parse().unwrap())).await.unwrap(),
            []
        );
        let error = membership
            .members(Some(&"other".parse().unwrap()))
            .await
            .unwrap_err();
        assert_eq!(error.reason(), "FleetNotFound");
    }

    #[tokio::test]
    async fn members_come_sorted_and_those_not_registered_are_skipped() {
        let membership: StaticMembership = ["b", "a"].map(|it| Member::new(name(it))).into_iter().collect();
        membership.enrol("f".parse().unwrap(), ["b", "c", "a"].map(name));
        let names = async || -> Vec<String> {
            let members = membership.members(Some(&"f".parse().unwrap())).await.unwrap();
            members.iter().map(|member| member.name.to_string()).collect()
        };
        assert_eq!(names().await, ["a", "b"]);
        membership.join(Member::new(name("c")));
        assert_eq!(names().await, ["a", "b", "c"]);
        assert_eq!(membership.member(&name("d")).await.unwrap(), None);
    }

    #[tokio::test]
    async fn only_a_real_change_is_announced() {
        let membership = StaticMembership::default();
        let mut changes = membership.changes();
        membership.join(Member::new(name("a")));
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        membership.join(Member::new(name("a")));
        membership.leave(&name("b"));
        assert!(!changes.has_changed().unwrap());
        membership.leave(&name("a"));
        assert!(changes.has_changed().unwrap());
    }
}
