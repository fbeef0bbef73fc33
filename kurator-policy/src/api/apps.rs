//! The same [`DistributionPolicy`](super::DistributionPolicy) under the group `apps.kurator.dev`, which manifests
//! in use also name. Spec and status are the very same types.

use std::borrow::Cow;

use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    CustomResourceExt, Resource,
    core::{
        ApiResource, NamespaceResourceScope,
        object::{HasSpec, HasStatus},
    },
};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct};

use super::{DistributionPolicySpec, DistributionPolicyStatus};

const GROUP: &str = "apps.kurator.dev";
const VERSION: &str = "v1alpha1";
const API_VERSION: &str = "apps.kurator.dev/v1alpha1";
const KIND: &str = "DistributionPolicy";
const PLURAL: &str = "distributionpolicies";

/// A distribution policy of the group `apps.kurator.dev`.
///
/// ```
/// use kube::Resource;
/// use kurator_policy::api::{DistributionPolicy, apps};
///
/// let policy = apps::DistributionPolicy::new("inference", Default::default());
/// assert_eq!(apps::DistributionPolicy::api_version(&()), "apps.kurator.dev/v1alpha1");
/// // One code path for both groups: convert and go on.
/// assert_eq!(DistributionPolicy::from(policy).metadata.name.as_deref(), Some("inference"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DistributionPolicy {
    /// Name, namespace, labels and the rest of the object's metadata.
    pub metadata: ObjectMeta,
    /// What is asked for.
    pub spec: DistributionPolicySpec,
    /// What became of it.
    #[serde(default)]
    pub status: Option<DistributionPolicyStatus>,
}

impl DistributionPolicy {
    /// A policy of this name without a namespace yet.
    #[must_use]
    pub fn new(name: &str, spec: DistributionPolicySpec) -> Self {
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        };
        Self {
            metadata,
            spec,
            status: None,
        }
    }
}

impl Serialize for DistributionPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct(KIND, 4 + usize::from(self.status.is_some()))?;
        object.serialize_field("apiVersion", API_VERSION)?;
        object.serialize_field("kind", KIND)?;
        object.serialize_field("metadata", &self.metadata)?;
        object.serialize_field("spec", &self.spec)?;
        if let Some(status) = &self.status {
            object.serialize_field("status", status)?;
        }
        object.end()
    }
}

impl Resource for DistributionPolicy {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        VERSION.into()
    }

    fn api_version((): &()) -> Cow<'_, str> {
        API_VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl HasSpec for DistributionPolicy {
    type Spec = DistributionPolicySpec;

    fn spec(&self) -> &Self::Spec {
        &self.spec
    }

    fn spec_mut(&mut self) -> &mut Self::Spec {
        &mut self.spec
    }
}

impl HasStatus for DistributionPolicy {
    type Status = DistributionPolicyStatus;

    fn status(&self) -> Option<&Self::Status> {
        self.status.as_ref()
    }

    fn status_mut(&mut self) -> &mut Option<Self::Status> {
        &mut self.status
    }
}

impl CustomResourceExt for DistributionPolicy {
    fn crd() -> CustomResourceDefinition {
        let mut crd = super::DistributionPolicy::crd();
        crd.metadata.name = Some(Self::crd_name().to_owned());
        crd.spec.group = GROUP.to_owned();
        // One short name for two groups would be ambiguous.
        crd.spec.names.short_names = None;
        crd
    }

    fn crd_name() -> &'static str {
        "distributionpolicies.apps.kurator.dev"
    }

    fn api_resource() -> ApiResource {
        ApiResource::erase::<Self>(&())
    }

    fn shortnames() -> &'static [&'static str] {
        &[]
    }
}

impl From<DistributionPolicy> for super::DistributionPolicy {
    fn from(policy: DistributionPolicy) -> Self {
        Self {
            metadata: policy.metadata,
            spec: policy.spec,
            status: policy.status,
        }
    }
}
