//! Clusters that left without being cleaned, and what happens when they return.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams};
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use kurator_core::connect::SecretConnector;
use kurator_core::health::ClusterUid;
use kurator_core::kubeconfig::{KubeconfigPolicy, KubeconfigRef};
use kurator_core::membership::{HubMembership, Member, Membership};
use kurator_core::multicluster::{Members, MembersOptions};
use kurator_core::names::{NamespacedName, bounded_name};

use super::context::Context;
use super::{FIELD_MANAGER_FLEET, FleetError};
use crate::membership::Tombstone;

const LABEL: &str = "fleet.kurator.dev/tombstone";

/// How long after a pass that left something behind the next one comes.
const AGAIN: Duration = Duration::from_secs(2);

/// What was removed without its clusters being cleaned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removed {
    /// The registration: once the cluster is registered again, what is to be on it is for the policies to say.
    Cluster,
    /// A fleet, while its clusters stay registered: only another fleet keeps what is on them.
    Fleet,
}

impl Removed {
    const KEY: &str = "removed";

    const fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Fleet => "Fleet",
        }
    }
}

/// Writes down that a cluster left and how it is reached when it returns. Writing it twice changes nothing.
pub(super) async fn bury(
    context: &Context,
    cluster: &str,
    kubeconfig: &KubeconfigRef,
    tombstone: &Tombstone,
    removed: Removed,
) -> Result<(), FleetError> {
    let name = bounded_name(["tombstone", tombstone.uid.as_str()]);
    let data = [
        ("cluster", cluster.to_owned()),
        ("uid", tombstone.uid.to_string()),
        ("since", tombstone.since.to_string()),
        ("secret", kubeconfig.secret.name.clone()),
        ("key", kubeconfig.key.clone().unwrap_or_default()),
        (Removed::KEY, removed.as_str().to_owned()),
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
    Api::<ConfigMap>::namespaced(context.hub.clone(), &context.namespace)
        .patch(&name, &params, &Patch::Apply(map))
        .await
        .map_err(|source| FleetError::hub("write the tombstone of", cluster, source))?;
    Ok(())
}

fn buried(map: &ConfigMap) -> Option<Member> {
    let data = map.data.as_ref()?;
    let secret = NamespacedName::new(map.namespace()?, data.get("secret")?.clone());
    let mut kubeconfig = KubeconfigRef::new(secret);
    kubeconfig.key = data.get("key").filter(|key| !key.is_empty()).cloned();
    let uid = ClusterUid::new(data.get("uid")?.clone());
    let removed = data.get(Removed::KEY).cloned().unwrap_or_default();
    Some(
        Member::new(map.name_any().parse().ok()?)
            .with_kubeconfig(kubeconfig)
            .with_uid(uid)
            .with_label(Removed::KEY, removed),
    )
}

/// Cleans what returns, unless by then it is a member again: see [`Removed`].
pub(super) async fn run(context: Arc<Context>, policy: KubeconfigPolicy, options: MembersOptions) {
    let maps: Api<ConfigMap> = Api::namespaced(context.hub.clone(), &context.namespace);
    let config = watcher::Config::default().labels(&format!("{LABEL}=true"));
    let graves = Arc::new(HubMembership::watch(maps.clone(), config, buried));
    let connector = SecretConnector::new(context.hub.clone(), Arc::clone(&graves)).with_policy(policy);
    let (dug, connector) = (Arc::clone(&graves), Arc::new(connector));
    let returning = Members::start(dug, connector, None, None, options, &context.clock);
    let (mut engaged, mut registered, mut buried) =
        (returning.engaged(), context.fleets.changes(), graves.changes());
    loop {
        engaged.mark_unchanged();
        registered.mark_unchanged();
        buried.mark_unchanged();
        let mut cleaning = false;
        for grave in graves.members(None).await.unwrap_or_default() {
            match settle(&grave, &returning, &context).await {
                Ok(Settled::Done) => {
                    let removed = maps.delete(grave.name.as_str(), &DeleteParams::default()).await;
                    tracing::info!(tombstone = %grave.name, removed = removed.is_ok(), "a cluster that had left is settled");
                }
                Ok(Settled::Cleaning) => cleaning = true,
                Ok(Settled::Away) => {}
                Err(error) => {
                    cleaning = true;
                    tracing::warn!(tombstone = %grave.name, %error, "cleaning goes on later");
                }
            }
        }
        tokio::select! {
            changed = engaged.changed() => if changed.is_err() { return },
            changed = registered.changed() => if changed.is_err() { return },
            changed = buried.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN), if cleaning => {}
        }
    }
}

enum Settled {
    /// Nothing is left to do.
    Done,
    /// Something is still there.
    Cleaning,
    /// It does not answer, or nobody can say whether it is a member.
    Away,
}

async fn settle(grave: &Member, returning: &Members, context: &Context) -> Result<Settled, kube::Error> {
    let of_a_fleet = grave
        .labels
        .get(Removed::KEY)
        .is_some_and(|removed| removed == Removed::Fleet.as_str());
    let member_again = grave.uid.as_ref().and_then(|uid| match of_a_fleet {
        true => context.fleets.in_a_fleet(uid, None),
        false => context.fleets.is_registered(uid),
    });
    match (member_again, returning.get(&grave.name)) {
        (Some(true), _) => Ok(Settled::Done),
        (Some(false), Some(engaged)) => match context.cleaner.clean(&engaged.client()).await? {
            0 => Ok(Settled::Done),
            _ => Ok(Settled::Cleaning),
        },
        _ => Ok(Settled::Away),
    }
}
