use async_trait::async_trait;
use tokio::sync::watch;

use super::{InMemoryFleet, MemoryError};
use crate::{
    apply::{Applier, ApplyError, ApplyFailure, ApplyOptions, ApplyReport, ObjectSet},
    connect::ConnectError,
    membership::{Member, Membership, MembershipError},
    names::{ClusterName, FleetName},
};

/// Grows when a member joins or leaves.
#[derive(Debug)]
pub(super) struct Revision(watch::Sender<u64>);

impl Default for Revision {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Revision {
    pub(super) fn advance(&self) {
        self.0.send_modify(|revision| *revision += 1);
    }
}

#[async_trait]
impl Applier for InMemoryFleet {
    async fn apply(
        &self,
        cluster: &ClusterName,
        desired: &ObjectSet,
        options: &ApplyOptions,
    ) -> Result<ApplyReport, ApplyError> {
        self.place(cluster, desired, options)
            .map_err(|error| match error {
                MemoryError::UnknownMember { cluster } => {
                    let source = Box::new(ConnectError::UnknownCluster {
                        cluster: cluster.clone(),
                    });
                    ApplyError::Connect { cluster, source }
                }
                error => {
                    let source = Box::new(ApplyFailure::Unreachable {
                        message: error.to_string(),
                    });
                    ApplyError::Unreadable {
                        cluster: cluster.clone(),
                        source,
                    }
                }
            })
    }
}

/// Every fleet has every member.
#[async_trait]
impl Membership for InMemoryFleet {
    async fn members(&self, _: Option<&FleetName>) -> Result<Vec<Member>, MembershipError> {
        Ok(self
            .members()
            .iter()
            .map(|member| Member::new(member.name().clone()))
            .collect())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.revision.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::Owner;

    #[tokio::test]
    async fn it_is_a_membership_that_can_be_watched() {
        let fleet = InMemoryFleet::new(["b".parse().unwrap()]);
        let mut changes = fleet.changes();
        fleet.join("a".parse().unwrap());
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        let names: Vec<_> = Membership::members(&fleet, None)
            .await
            .unwrap()
            .into_iter()
            .map(|it| it.name)
            .collect();
        assert_eq!(names, ["a", "b"]);
        fleet.leave(&"a".parse().unwrap());
        assert!(changes.has_changed().unwrap());
        assert_eq!(
            fleet.member(&"a".parse().unwrap()).unwrap_err().to_string(),
            "a is not a member; join it first"
        );
    }

    #[tokio::test]
    async fn a_member_that_does_not_answer_has_the_reason_a_real_one_has() {
        let name: ClusterName = "a".parse().unwrap();
        let fleet = InMemoryFleet::new([name.clone()]);
        fleet.member(&name).unwrap().set_reachable(false);
        let set = ObjectSet::empty(Owner::new("hub", "uid", "").unwrap());
        let error = fleet
            .apply(&name, &set, &ApplyOptions::default())
            .await
            .unwrap_err();
        assert_eq!(error.reason(), "MemberUnreachable");
        let error = fleet
            .apply(&"b".parse().unwrap(), &set, &ApplyOptions::default())
            .await
            .unwrap_err();
        assert_eq!(error.reason(), "UnknownCluster");
    }
}
