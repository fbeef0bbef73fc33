//! What servers would refuse, as runs ask for it.

use super::preflight;
use crate::{
    driver::{BackupRequest, MemberFacts},
    run::{Preflight, Refusal},
};

/// [`preflight::backup`] as the [`Preflight`] of runs.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct VeleroPreflight;

impl Preflight for VeleroPreflight {
    fn backup(&self, request: &BackupRequest, facts: &MemberFacts) -> Vec<Refusal> {
        let objections = preflight::backup(request, facts);
        objections.iter().map(Refusal::new).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::{BackupName, LocationAccess, LocationFacts, LocationName, OwnerToken, StoreAddress};

    #[test]
    fn a_run_hears_every_objection_of_the_pre_flight_with_its_token() {
        let mut facts = MemberFacts::default();
        let name = LocationName::new("default").unwrap();
        let mut location = LocationFacts::available(StoreAddress::new("aws", "backups", ""));
        location.access = LocationAccess::ReadOnly;
        facts.default_location = Some(name.clone());
        facts.locations.insert(name, location);
        let mut request =
            BackupRequest::new(BackupName::new("nightly").unwrap(), OwnerToken::bounded(["run"]));
        request.scope.included_namespaces = vec!["{a,b}".into()];
        let refusals = VeleroPreflight.backup(&request, &facts);
        let tokens = refusals.iter().map(|refusal| refusal.token).collect::<Vec<_>>();
        assert_eq!(tokens, ["StorageLocationReadOnly", "InvalidNamespacePattern"]);
    }
}
