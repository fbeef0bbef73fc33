//! The two API groups under which a distribution policy may stand.

use kube::{CustomResourceExt, discovery::ApiResource};

use crate::api::{DistributionPolicy, apps};

/// An API group with distribution policies. Manifests in use have both; a policy means the same in either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the two groups of the custom resource definitions"
)]
pub enum PolicyGroup {
    /// `policy.kurator.dev`.
    Policy,
    /// `apps.kurator.dev`.
    Apps,
}

impl PolicyGroup {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Policy, Self::Apps];

    /// The group's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy.kurator.dev",
            Self::Apps => "apps.kurator.dev",
        }
    }

    /// Its distribution policies, as an API server serves them.
    #[must_use]
    pub fn resource(self) -> ApiResource {
        match self {
            Self::Policy => DistributionPolicy::api_resource(),
            Self::Apps => apps::DistributionPolicy::api_resource(),
        }
    }
}
