//! The revisions of policies, each kept on the hub as a Secret beside its policy: a revision holds whole manifests, and
//! nobody knows what is confidential in them. They go with the policy, which owns them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    sync::{Arc, Mutex, PoisonError},
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams, Preconditions},
};
use kurator_core::names::bounded_name;

use super::{ControllerError, PolicyGroup, content::Content, policy::Policy};
use crate::api::DistributionPolicyStatus;

/// The type of the Secrets that hold revisions.
const TYPE: &str = "policy.kurator.dev/revision";
const DATA: &str = "content.json.gz";

/// No revision is larger when unpacked: whatever is may not have been written by us.
const LARGEST: u64 = 64 << 20;

pub(super) struct Revisions {
    hub: Client,
    known: Mutex<BTreeMap<String, BTreeMap<String, Arc<Content>>>>,
}

/// The revisions of one policy, by name. One that is missing was lost.
pub(super) type Kept = BTreeMap<String, Arc<Content>>;

impl Revisions {
    pub(super) fn new(hub: Client) -> Self {
        Self {
            hub,
            known: Mutex::default(),
        }
    }

    /// Reads what the status of a policy lists, as far as it is there.
    pub(super) async fn load(
        &self,
        policy: &Policy,
        previous: Option<&DistributionPolicyStatus>,
    ) -> Result<Kept, ControllerError> {
        let rollout = previous.and_then(|status| status.rollout.as_ref());
        let listed = rollout.into_iter().flat_map(|rollout| &rollout.revisions);
        let mut kept = Kept::new();
        for entry in listed {
            if let Some(content) = self.known(policy, &entry.revision) {
                kept.insert(entry.revision.clone(), content);
                continue;
            }
            let secret = self.api(policy).get_opt(&name(policy, &entry.revision)).await;
            let secret = secret.map_err(|source| refused("read a revision", policy, source))?;
            let ours = secret.filter(|secret| is_of(secret, policy));
            if let Some(content) = ours.and_then(|secret| unpack(&secret)) {
                let content = Arc::new(content);
                self.remember(policy, &entry.revision, &content);
                kept.insert(entry.revision.clone(), content);
            }
        }
        Ok(kept)
    }

    /// Keeps a revision, unless that is so already.
    pub(super) async fn store(
        &self,
        policy: &Policy,
        revision: &str,
        content: &Arc<Content>,
    ) -> Result<(), ControllerError> {
        if self.known(policy, revision).is_some() {
            return Ok(());
        }
        let problem = |source| refused("keep a revision", policy, source);
        let secret = pack(policy, revision, content).map_err(|source| ControllerError::Object {
            policy: policy.key.clone(),
            source,
        })?;
        let (api, name) = (self.api(policy), name(policy, revision));
        match api.get_opt(&name).await.map_err(problem)? {
            // Of a predecessor that died before the status named it.
            Some(there) if is_of(&there, policy) => {}
            Some(there) => {
                // Of a policy that had the name before: it is about to go, and ours would go with it.
                let params = DeleteParams {
                    preconditions: Some(Preconditions {
                        uid: there.metadata.uid,
                        resource_version: None,
                    }),
                    ..DeleteParams::default()
                };
                api.delete(&name, &params).await.map_err(problem)?;
                api.create(&PostParams::default(), &secret)
                    .await
                    .map_err(problem)?;
            }
            None => {
                api.create(&PostParams::default(), &secret)
                    .await
                    .map_err(problem)?;
            }
        }
        self.remember(policy, revision, content);
        Ok(())
    }

    /// Removes revisions that nobody needs any more.
    pub(super) async fn drop(&self, policy: &Policy, revisions: &[String]) -> Result<(), ControllerError> {
        for revision in revisions {
            let name = name(policy, revision);
            match self.api(policy).delete(&name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(answer)) if answer.code == 404 => {}
                Err(source) => return Err(refused("remove a revision", policy, source)),
            }
        }
        let gone: BTreeSet<&String> = revisions.iter().collect();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_policy) = known.get_mut(&policy.uid) {
            of_policy.retain(|revision, _| !gone.contains(revision));
        }
        Ok(())
    }

    /// Forgets what is in memory of a policy.
    pub(super) fn forget(&self, uid: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(uid);
    }

    fn known(&self, policy: &Policy, revision: &str) -> Option<Arc<Content>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&policy.uid)?.get(revision).cloned()
    }

    fn remember(&self, policy: &Policy, revision: &str, content: &Arc<Content>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let of_policy = known.entry(policy.uid.clone()).or_default();
        of_policy.insert(revision.to_owned(), Arc::clone(content));
    }

    fn api(&self, policy: &Policy) -> Api<Secret> {
        Api::namespaced(self.hub.clone(), &policy.key.name.namespace)
    }
}

fn name(policy: &Policy, revision: &str) -> String {
    bounded_name([policy.key.owner().as_str(), revision])
}

fn is_of(secret: &Secret, policy: &Policy) -> bool {
    let owners = secret.metadata.owner_references.iter().flatten();
    owners.into_iter().any(|owner| owner.uid == policy.uid)
}

fn pack(policy: &Policy, revision: &str, content: &Content) -> Result<Secret, serde_json::Error> {
    let json = serde_json::to_vec(content)?;
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(&json).map_err(serde_json::Error::io)?;
    let bytes = packed.finish().map_err(serde_json::Error::io)?;
    let group = PolicyGroup::ALL
        .into_iter()
        .find(|group| group.as_str() == policy.key.group);
    let owner = group.map(|group| {
        let resource = group.resource();
        OwnerReference {
            api_version: resource.api_version,
            kind: resource.kind,
            name: policy.key.name.name.clone(),
            uid: policy.uid.clone(),
            controller: Some(true),
            block_owner_deletion: None,
        }
    });
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(name(policy, revision)),
            namespace: Some(policy.key.name.namespace.clone()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        type_: Some(TYPE.to_owned()),
        immutable: Some(true),
        data: Some(BTreeMap::from([(DATA.to_owned(), ByteString(bytes))])),
        ..Secret::default()
    })
}

fn unpack(secret: &Secret) -> Option<Content> {
    let packed = secret.data.as_ref()?.get(DATA)?;
    let mut json = Vec::new();
    GzDecoder::new(packed.0.as_slice())
        .take(LARGEST)
        .read_to_end(&mut json)
        .ok()?;
    serde_json::from_slice(&json).ok()
}

fn refused(action: &'static str, policy: &Policy, source: kube::Error) -> ControllerError {
    ControllerError::Hub {
        action,
        policy: policy.key.clone(),
        source: Box::new(source),
    }
}
