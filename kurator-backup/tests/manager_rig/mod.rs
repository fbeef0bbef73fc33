//! A hub with our definitions, members with real Velero servers on one store, and a manager over them.
#![allow(dead_code, reason = "each test takes what it needs")]

pub(crate) mod standstill;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use kurator_backup::{
    api::{
        self, BackupExecution, BackupExecutionSpec, BackupPolicy, ClusterExecution, ExecutionPhase,
        RestoreExecution,
    },
    controller::BackupManager,
    driver::{BackupDriver, ConsistencyBarrier, ResourceKind},
    velero::VeleroDriver,
};
use kurator_core::{
    connect::StaticConnector,
    membership::{Member as Registration, StaticMembership},
    names::ClusterName,
};
use kurator_envtest::{Account, Fleet, FleetBuilder, Member, MemberSpec, Velero};
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinHandle};

use self::standstill::{LEDGER, LeaseBarrier};
use crate::velero_rig::{backup_name, cluster};

/// The fleet of all members.
pub(crate) const FLEET: &str = "storefront";
/// The bucket of all members; each has a prefix of its own, its name.
pub(crate) const BUCKET: &str = "backups";

/// A member that writes below its name, and looks at the store whenever it starts.
pub(crate) fn member(name: &str) -> MemberSpec {
    let velero = Velero::on(BUCKET)
        .with_prefix(name)
        .with_sync_period(Duration::from_secs(1));
    MemberSpec::new(name).with_velero(velero)
}

/// A driver and a barrier over these members, whose clients come from here.
pub(crate) fn over(clients: BTreeMap<ClusterName, Client>) -> (VeleroDriver, LeaseBarrier) {
    let mut connector = StaticConnector::default();
    for (name, client) in &clients {
        connector = connector.with_client(name.clone(), client.clone());
    }
    let driver = VeleroDriver::new(Arc::new(connector)).allowing_plain_http();
    (driver, LeaseBarrier::new(clients))
}

pub(crate) fn membership(names: &[&str]) -> Arc<StaticMembership> {
    let membership = Arc::new(StaticMembership::default());
    for name in names {
        membership.join(Registration::new(cluster(name)));
    }
    let names = names.iter().map(|name| cluster(name)).collect::<Vec<_>>();
    membership.enrol(FLEET.parse().unwrap(), names);
    membership
}

/// What everything stands on.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) fleet: Fleet,
    pub(crate) names: Vec<&'static str>,
    /// What the controllers use on the hub: it may do what `deploy/rbac/backup.yaml` says.
    pub(crate) account: Account,
}

impl Ground {
    /// A hub and members of these names.
    pub(crate) async fn start(names: &[&'static str]) -> Self {
        Self::of(names.iter().map(|name| (*name, member(name)))).await
    }

    /// A hub and these members.
    pub(crate) async fn of(members: impl IntoIterator<Item = (&'static str, MemberSpec)>) -> Self {
        let hub = Fleet::builder()
            .patience(Duration::from_secs(300))
            .member(MemberSpec::new("hub"));
        let (names, members): (Vec<_>, Vec<_>) = members.into_iter().unzip();
        let fleet = members.into_iter().fold(hub, FleetBuilder::member);
        let fleet = fleet.start().await.unwrap();
        let hub = fleet.member("hub").unwrap();
        hub.install(&api::crds()).await.unwrap();
        let account = hub.account("kurator-system", "kurator-backup").await.unwrap();
        let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/rbac/backup.yaml");
        hub.apply(&std::fs::read_to_string(rules).unwrap()).await.unwrap();
        Self {
            account,
            names,
            fleet,
        }
    }

    pub(crate) fn hub(&self) -> &Member {
        self.fleet.member("hub").unwrap()
    }

    pub(crate) fn member(&self, name: &str) -> &Member {
        self.fleet.member(name).unwrap()
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.names.iter().map(|name| self.member(name))
    }

    /// Clients that go over the links of the members, and do not wait long for one that is down.
    pub(crate) fn clients(&self) -> BTreeMap<ClusterName, Client> {
        let client = |member: &Member| {
            let mut config = member.config();
            config.connect_timeout = Some(Duration::from_secs(3));
            config.read_timeout = Some(Duration::from_secs(20));
            (cluster(member.name()), Client::try_from(config).unwrap())
        };
        self.members().map(client).collect()
    }

    pub(crate) fn driver(&self) -> VeleroDriver {
        over(self.clients()).0
    }

    /// A manager that runs until what is returned is ended or dropped.
    pub(crate) fn manager(&self) -> Running {
        let (stop, stopped) = oneshot::channel::<()>();
        let (driver, barrier) = over(self.clients());
        let manager = BackupManager::new(
            self.account.client().unwrap(),
            membership(&self.names),
            Arc::new(driver.clone()),
            Arc::new(barrier),
        )
        .with_scratch(Arc::new(driver));
        let task = tokio::spawn(manager.run(async move { drop(stopped.await) }));
        Running { stop, task }
    }

    pub(crate) fn executions(&self) -> Api<BackupExecution> {
        Api::default_namespaced(self.hub().client().unwrap())
    }

    pub(crate) fn restores(&self) -> Api<RestoreExecution> {
        Api::default_namespaced(self.hub().client().unwrap())
    }

    pub(crate) async fn create(&self, name: &str, policy: Value) {
        let policy: BackupPolicy = serde_json::from_value(policy).unwrap();
        let execution = BackupExecution::new(name, BackupExecutionSpec::new(policy));
        self.executions()
            .create(&PostParams::default(), &execution)
            .await
            .unwrap();
    }

    /// Watches an execution until its status is as wanted.
    pub(crate) async fn until(
        &self,
        name: &str,
        met: impl Fn(&api::BackupExecutionStatus) -> bool + Send + Sync,
    ) -> BackupExecution {
        let reached =
            |found: Option<&BackupExecution>| found.and_then(|it| it.status.as_ref()).is_some_and(&met);
        let api = self.executions();
        match self.hub().wait_for(&api, name, reached).await {
            Ok(found) => found.unwrap(),
            Err(error) => panic!("{error}: {:#?}", api.get_status(name).await),
        }
    }

    /// The execution once it has ended and nobody is on record as held still by it.
    pub(crate) async fn ended(&self, name: &str) -> BackupExecution {
        self.until(name, |status| {
            status.phase.has_ended() && status.clusters.iter().all(|entry| entry.held_until.is_none())
        })
        .await
    }

    pub(crate) async fn completed(&self, name: &str) -> BackupExecution {
        let ended = self.ended(name).await;
        let status = ended.status.as_ref().unwrap();
        assert_eq!(status.phase, ExecutionPhase::Completed, "{status:#?}");
        ended
    }

    pub(crate) async fn delete(&self, name: &str) {
        let api = self.executions();
        api.delete(name, &DeleteParams::default()).await.unwrap();
        let gone = |found: Option<&BackupExecution>| found.is_none();
        match self.hub().wait_for(&api, name, gone).await {
            Ok(_) => {}
            Err(error) => panic!("{error}: {:#?}", api.get_status(name).await),
        }
    }

    /// Keys of what the store has of the backup of a member.
    pub(crate) fn stored(&self, entry: &ClusterExecution) -> Vec<String> {
        let store = self.fleet.object_store().unwrap();
        let (member, backup) = (&entry.cluster, entry.backup.as_ref().unwrap());
        store
            .objects(BUCKET, &format!("{member}/backups/{backup}/"))
            .unwrap()
    }

    /// Whoever holds a member still.
    pub(crate) async fn holders(&self) -> Vec<String> {
        let (_, barrier) = over(self.clients());
        let mut holders = Vec::new();
        for name in &self.names {
            let of_member = barrier.holders(&cluster(name)).await.unwrap();
            holders.extend(of_member.iter().map(|owner| format!("{name}: {owner}")));
        }
        holders
    }

    /// The entries of the ledger that are in the backup of each member, in the order of the members.
    pub(crate) async fn entries_in(&self, execution: &BackupExecution) -> Vec<BTreeSet<String>> {
        let (driver, maps) = (self.driver(), ResourceKind::new("v1", "ConfigMap"));
        let mut entries = Vec::new();
        for name in &self.names {
            let entry = entry(execution, name);
            let backup = backup_name(entry.backup.as_ref().unwrap().as_str());
            let contents = driver.contents(&cluster(name), &backup).await.unwrap();
            let maps = contents.get(&maps).into_iter().flatten();
            let of_ledger = maps.filter(|map| map.namespace == LEDGER && map.name.starts_with("entry-"));
            entries.push(of_ledger.map(|map| map.name.clone()).collect());
        }
        entries
    }
}

/// A manager at work.
#[derive(Debug)]
pub(crate) struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn end(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

/// What became of one member.
pub(crate) fn entry<'a>(execution: &'a BackupExecution, member: &str) -> &'a ClusterExecution {
    let entries = &execution.status.as_ref().unwrap().clusters;
    let found = entries.iter().find(|entry| entry.cluster.as_str() == member);
    found.unwrap_or_else(|| panic!("{member} is not in {entries:?}"))
}

pub(crate) fn reason<'a>(execution: &'a BackupExecution, type_: &str) -> &'a str {
    let conditions = &execution.status.as_ref().unwrap().conditions;
    let found = conditions.iter().find(|it| it.type_ == type_);
    found.map_or("", |condition| &condition.reason)
}

/// A policy for these namespaces of all members, which asks again soon.
pub(crate) fn policy(namespaces: &[&str]) -> Value {
    json!({
        "fleet": FLEET,
        "scope": { "includedNamespaces": namespaces },
        "limits": { "firstBackoff": "1s", "longestBackoff": "2s" },
    })
}

/// The same at one instant.
pub(crate) fn consistent(namespaces: &[&str]) -> Value {
    let mut policy = policy(namespaces);
    policy["consistency"] = json!("Fleet");
    policy["quiesce"] = json!({ "hooks": [{ "name": "ledger", "pre": [{ "command": ["hold"] }] }] });
    policy
}
