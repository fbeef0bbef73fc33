//! Clusters that left without being cleaned, and what happens when they return.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use kurator_core::clock::Clock;
use kurator_core::connect::SecretConnector;
use kurator_core::health::ClusterUid;
use kurator_core::kubeconfig::{KubeconfigPolicy, KubeconfigRef};
use kurator_core::membership::{HubMembership, Member};
use kurator_core::multicluster::{EngagedMember, Members, MembersOptions};
use kurator_core::names::{NamespacedName, bounded_name};

use super::clean::MemberCleaner;
use super::{FIELD_MANAGER_FLEET, FleetError};
use crate::api::AttachedCluster;
use crate::membership::{FleetMembership, Tombstone};

const LABEL: &str = "fleet.kurator.dev/tombstone";

/// How long after a pass that left something behind the next one comes.
const AGAIN: Duration = Duration::from_secs(2);

/// Writes down that a cluster left and how it is reached when it returns. Writing it twice changes nothing.
pub(super) async fn bury(
    hub: &Client,
    cluster: &AttachedCluster,
    tombstone: &Tombstone,
) -> Result<(), FleetError> {
    let namespace = cluster.namespace().unwrap_or_default();
    let name = bounded_name(["tombstone", tombstone.uid.as_str()]);
    let kubeconfig = &cluster.spec.kubeconfig;
    let data = [
        ("cluster", cluster.name_any()),
        ("uid", tombstone.uid.to_string()),
        ("since", tombstone.since.to_string()),
        ("secret", kubeconfig.name.clone()),
        ("key", kubeconfig.key.clone()),
    ];
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some([(LABEL.to_owned(), "true".to_owned())].into()),
            ..ObjectMeta::default()
        },
        data: Some(data.map(|(key, value)| (key.to_owned(), value)).into()),
        ..ConfigMap::default()
    };
    let params = PatchParams::apply(FIELD_MANAGER_FLEET).force();
    Api::<ConfigMap>::namespaced(hub.clone(), &namespace)
        .patch(&name, &params, &Patch::Apply(map))
        .await
        .map_err(|source| FleetError::hub("write the tombstone of", &cluster.name_any(), source))?;
    Ok(())
}

fn buried(map: &ConfigMap) -> Option<Member> {
    let data = map.data.as_ref()?;
    let secret = NamespacedName::new(map.namespace()?, data.get("secret")?.clone());
    let kubeconfig = KubeconfigRef::new(secret).with_key(data.get("key")?.clone());
    let uid = ClusterUid::new(data.get("uid")?.clone());
    Some(
        Member::new(map.name_any().parse().ok()?)
            .with_kubeconfig(kubeconfig)
            .with_uid(uid),
    )
}

/// Cleans what returns. A cluster that is in a fleet again is left to the fleet's policies.
pub(super) async fn run(
    hub: Client,
    namespace: String,
    fleets: Arc<FleetMembership>,
    cleaner: Arc<dyn MemberCleaner>,
    policy: KubeconfigPolicy,
    options: MembersOptions,
    clock: Arc<dyn Clock>,
) {
    let maps: Api<ConfigMap> = Api::namespaced(hub.clone(), &namespace);
    let config = watcher::Config::default().labels(&format!("{LABEL}=true"));
    let graves = Arc::new(HubMembership::watch(maps.clone(), config, buried));
    let connector = SecretConnector::new(hub, Arc::clone(&graves)).with_policy(policy);
    let returning = Members::start(graves, Arc::new(connector), None, None, options, &clock);
    let mut engaged = returning.engaged();
    loop {
        let now = Arc::clone(&engaged.borrow_and_update());
        for member in now.values() {
            match settle(member, &fleets, &*cleaner).await {
                Ok(true) => {
                    let removed = maps
                        .delete(member.name().as_str(), &DeleteParams::default())
                        .await;
                    tracing::info!(cluster = %member.name(), removed = removed.is_ok(), "a cluster that had left is clean");
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(cluster = %member.name(), %error, "cleaning goes on later"),
            }
        }
        let idle = now.is_empty();
        tokio::select! {
            changed = engaged.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN), if !idle => {}
        }
    }
}

async fn settle(
    member: &EngagedMember,
    fleets: &FleetMembership,
    cleaner: &dyn MemberCleaner,
) -> Result<bool, kube::Error> {
    match fleets.in_a_fleet(member.uid(), None) {
        None => Ok(false),
        Some(true) => Ok(true),
        Some(false) => Ok(cleaner.clean(&member.client()).await? == 0),
    }
}
