use kurator_core::{
    membership::{Membership, MembershipError},
    names::FleetName,
};

use crate::run::{RunReason, SeenMembers};

/// Who is in the fleet, or why nobody can say.
pub(super) async fn members(
    membership: &dyn Membership,
    fleet: &FleetName,
) -> Result<SeenMembers, RunReason> {
    match membership.members(Some(fleet)).await {
        Ok(members) => Ok(members
            .into_iter()
            .map(|member| (member.name, member.labels))
            .collect()),
        Err(error @ MembershipError::FleetNotFound { .. }) => Err(RunReason::FleetNotFound {
            message: error.to_string(),
        }),
        Err(error) => Err(RunReason::MembershipUnavailable {
            message: error.to_string(),
        }),
    }
}
