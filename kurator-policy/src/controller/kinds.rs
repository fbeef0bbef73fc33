//! From an apiVersion and a kind to the resource an API server has for it.

use kube::{
    Client,
    core::GroupVersionKind,
    discovery::{ApiResource, Scope, pinned_kind},
};

use crate::propagate::ObjectKind;

/// A kind as one API server serves it.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) resource: ApiResource,
    pub(super) namespaced: bool,
}

/// Why a kind is not known.
#[derive(Debug)]
pub(super) enum Unknown {
    /// The server says that it has no such kind.
    NotServed,
    /// The server does not answer, or refuses.
    Unanswered(kube::Error),
}

impl Served {
    pub(super) async fn find(client: &Client, kind: &ObjectKind) -> Result<Self, Unknown> {
        let (group, version) = kind.group_version();
        let gvk = GroupVersionKind::gvk(group, version, &kind.kind);
        match pinned_kind(client, &gvk).await {
            Ok((resource, capabilities)) => Ok(Self {
                resource,
                namespaced: capabilities.scope == Scope::Namespaced,
            }),
            Err(kube::Error::Discovery(_)) => Err(Unknown::NotServed),
            Err(kube::Error::Api(status)) if status.code == 404 => Err(Unknown::NotServed),
            Err(error) => Err(Unknown::Unanswered(error)),
        }
    }
}
