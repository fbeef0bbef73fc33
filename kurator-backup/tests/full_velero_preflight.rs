//! The pre-flight against the server's own verdict, on generated requests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod velero_rig;

use std::{collections::BTreeMap, fs, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{Patch, PatchParams};
use kurator_backup::{
    driver::{
        BackupDriver, BackupRequest, ExistingResources, LocationName, LocationState, MemberFacts, Phase,
        RestoreRequest,
    },
    velero::{VeleroDriver, preflight},
};
use kurator_envtest::{Fleet, Member, MemberSpec, Part, Velero};
use serde_json::json;
use velero_rig::{
    backup_ends, backup_name, cluster, driver, eventually, owner, request, restore_ends, restore_name, velero,
};

/// The same requests in each run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn one<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    /// Empty half of the time, so that one fault seldom hides another.
    fn some(&mut self, from: &[&str]) -> Vec<String> {
        let count = [0, 0, 0, 0, 1, 1, 2, 3][self.below(8)];
        (0..count).map(|_| self.one(from).to_owned()).collect()
    }

    fn chance(&mut self, in_ten: usize) -> bool {
        self.below(10) < in_ten
    }
}

const NAMESPACES: [&str; 26] = [
    "shop", "bank", "left-out", "*", "team-*", "a?", "[a-c]x", "default", "x", "Upper", "a_b", "-a", "a-",
    "{a,b}", "a,b", "a|b", "!a", "a**", "[]", "[a", "a]", "a.b", "", "shop*", "*-x", "[!a]b",
];
const RESOURCES: [&str; 9] = [
    "pods",
    "configmaps",
    "deployments.apps",
    "*",
    "nodes",
    "secrets",
    "no-such-kind",
    "events",
    "pods",
];
const NOWHERE: &str = "nowhere";

fn selector(draw: &mut Draw) -> LabelSelector {
    let value = draw.one(&["web", "db"]).to_owned();
    LabelSelector {
        match_labels: Some([("app".to_owned(), value)].into()),
        ..LabelSelector::default()
    }
}

/// What a request draws from: anything, or what goes together, so that about as many are taken as refused.
struct Lists {
    namespaces: [&'static [&'static str]; 2],
    resources: [&'static [&'static str]; 2],
}

const ANY: Lists = Lists {
    namespaces: [&NAMESPACES; 2],
    resources: [&RESOURCES; 2],
};
const FITTING: Lists = Lists {
    namespaces: [
        &["shop", "bank", "team-*", "a?", "[a-c]x", "shop*"],
        &["x", "tmp-*", "[x-z]", ""],
    ],
    resources: [
        &["pods", "configmaps", "deployments.apps"],
        &["secrets", "no-such-kind"],
    ],
};

fn backup(draw: &mut Draw, name: &str, locations: &[&str], snapshots: &[&str]) -> BackupRequest {
    let mut request = request(name, &[]);
    let fitting = draw.chance(7);
    let lists = if fitting { FITTING } else { ANY };
    let scope = &mut request.scope;
    scope.included_namespaces = draw.some(lists.namespaces[0]);
    scope.excluded_namespaces = draw.some(lists.namespaces[1]);
    let family = draw.below(10);
    if family < 5 {
        scope.included_resources = draw.some(lists.resources[0]);
        scope.excluded_resources = draw.some(lists.resources[1]);
        if draw.chance(3) {
            scope.include_cluster_resources = Some(draw.chance(5));
        }
    }
    if family >= 5 || (!fitting && draw.chance(1)) {
        scope.included_cluster_scoped_resources = draw.some(lists.resources[0]);
        scope.excluded_cluster_scoped_resources = draw.some(lists.resources[1]);
        scope.included_namespace_scoped_resources = draw.some(lists.resources[0]);
        scope.excluded_namespace_scoped_resources = draw.some(lists.resources[1]);
    }
    if draw.chance(2) {
        scope.label_selector = Some(selector(draw));
    } else if draw.chance(2) {
        scope.or_label_selectors = vec![selector(draw), selector(draw)];
    }
    if !fitting && draw.chance(2) {
        scope.or_label_selectors = vec![selector(draw)];
    }
    if draw.chance(3) {
        let locations = if fitting { &locations[..1] } else { locations };
        request.location = Some(LocationName::new(draw.one(locations)).unwrap());
    }
    if draw.chance(2) {
        let policies = ["good", "empty", "later", "two", "odd", "missing"];
        let policies = if fitting { &policies[..1] } else { &policies };
        request.resource_policy = Some(draw.one(policies).to_owned());
    }
    if !snapshots.is_empty() {
        request.snapshot_locations = if fitting {
            vec![snapshots[0].to_owned()]
        } else {
            draw.some(snapshots)
        };
    }
    request
}

const POLICIES: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: left-out, labels: {velero.io/exclude-from-backup: 'true'}}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: good, namespace: velero}, data: {p: \"version: v1\\nvolumePolicies:\\n- conditions: {storageClass: [gp3]}\\n  action: {type: skip}\\n\"}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: empty, namespace: velero}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: later, namespace: velero}, data: {p: 'version: v2'}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: two, namespace: velero}, data: {p: 'version: v1', q: 'version: v1'}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: odd, namespace: velero}, data: {p: \"version: v1\\nvolumePolicies:\\n- conditions: {colour: red}\\n  action: {type: skip}\\n\"}}
";

/// How often the pre-flight and the server agreed.
#[derive(Debug, Default)]
struct Score {
    asked: usize,
    refused: usize,
    agreed: usize,
    false_refusals: Vec<String>,
    missed: Vec<String>,
}

impl Score {
    fn count(&mut self, predicted: bool, refused: bool, what: impl FnOnce() -> String) {
        self.asked += 1;
        self.refused += usize::from(refused);
        match (predicted, refused) {
            (true, false) => self.false_refusals.push(what()),
            (false, true) => self.missed.push(what()),
            _ => self.agreed += 1,
        }
    }

    fn check(&self, what: &str) {
        println!(
            "{what}: {} asked, {} refused by the server, {} agreed ({:.2} %), {} false refusals, {} missed",
            self.asked,
            self.refused,
            self.agreed,
            100.0 * self.agreed as f64 / self.asked as f64,
            self.false_refusals.len(),
            self.missed.len()
        );
        assert!(self.false_refusals.is_empty(), "{:#?}", self.false_refusals);
        assert!(self.agreed * 100 >= self.asked * 99, "{:#?}", self.missed);
        // Neither side has it easy.
        assert!(
            self.refused * 5 > self.asked && self.refused * 5 < self.asked * 4,
            "{self:?}"
        );
    }
}

/// A refused backup does not wake the one that waits behind it: its server looks at its queue again a minute later. So
/// these are set at the head of the queue while the server is away, and poked.
async fn ask(
    driver: &VeleroDriver,
    east: &Member,
    facts: &MemberFacts,
    requests: &[BackupRequest],
    score: &mut Score,
) {
    let member = &cluster(east.name());
    east.kill(Part::Velero).unwrap();
    let backups = velero(east, "Backup");
    for request in requests {
        driver.create_backup(member, request).await.unwrap();
        let ready = Patch::Merge(json!({"status": {"phase": "ReadyToStart"}}));
        let name = request.name.as_str();
        backups
            .patch(name, &PatchParams::default(), &ready)
            .await
            .unwrap();
    }
    east.restart_velero().await.unwrap();
    for request in requests {
        driver.poke(member, &request.name, "now").await.unwrap();
    }
    eventually("every backup has ended", async || {
        let seen = driver.backups(member).await.unwrap();
        let ended = seen
            .iter()
            .filter(|seen| seen.phase.has_ended())
            .map(|seen| &seen.name);
        let ended = ended.collect::<std::collections::BTreeSet<_>>();
        requests.iter().all(|request| ended.contains(&request.name))
    })
    .await;
    let seen = driver.backups(member).await.unwrap();
    let seen = seen
        .into_iter()
        .map(|seen| (seen.name.clone(), seen))
        .collect::<BTreeMap<_, _>>();
    for request in requests {
        let verdict = &seen[&request.name];
        let objections = preflight::backup(request, facts);
        let refused = verdict.phase == Phase::FailedValidation;
        // What a valid request comes to here: its name is taken in the store.
        assert!(refused || verdict.phase == Phase::Failed, "{verdict:?}");
        score.count(!objections.is_empty(), refused, || {
            format!(
                "{request:?}\nserver: {:?}\npre-flight: {objections:?}",
                verdict.messages
            )
        });
    }
}

#[tokio::test]
async fn the_pre_flight_says_what_the_server_says_of_generated_requests() {
    // No sync, which would bring in what is put into the store by hand.
    let velero_spec = Velero::on("backups").with_sync_period(Duration::ZERO);
    let fleet = Fleet::builder()
        .member(MemberSpec::new("east").with_velero(velero_spec))
        .start()
        .await
        .unwrap();
    let (east, store) = (fleet.member("east").unwrap(), fleet.object_store().unwrap());
    let driver = driver(&fleet);
    let name = cluster("east");
    east.apply(POLICIES).await.unwrap();
    let default = velero(east, "BackupStorageLocation")
        .get("default")
        .await
        .unwrap();
    for (location, field, value) in [
        ("reading", "accessMode", json!("ReadOnly")),
        ("broken", "objectStorage", json!({"bucket": "no-such-bucket"})),
    ] {
        let mut spec = default.data["spec"].clone();
        spec["default"] = json!(false);
        spec[field] = value;
        let object = json!({
            "apiVersion": "velero.io/v1", "kind": "BackupStorageLocation",
            "metadata": {"name": location, "namespace": Velero::NAMESPACE}, "spec": spec,
        });
        east.apply(&object.to_string()).await.unwrap();
    }
    eventually("the server has looked at every location", async || {
        let facts = driver.facts(&name).await.unwrap();
        facts.locations.len() == 3
            && facts
                .locations
                .values()
                .all(|location| location.state != LocationState::Unknown)
    })
    .await;

    let locations = ["default", "reading", "broken", NOWHERE];
    let mut draw = Draw(0x5eed_0b5e_55ed_cafe);
    let mut score = Score::default();
    for (round, snapshots) in [(0, &[][..]), (1, &["aws-a", "aws-b", "csi", NOWHERE][..])] {
        if round == 1 {
            for (location, provider) in [("aws-a", "aws"), ("aws-b", "aws"), ("csi", "csi")] {
                let object = json!({
                    "apiVersion": "velero.io/v1", "kind": "VolumeSnapshotLocation",
                    "metadata": {"name": location, "namespace": Velero::NAMESPACE}, "spec": {"provider": provider},
                });
                east.apply(&object.to_string()).await.unwrap();
            }
        }
        let requests = (0..150)
            .map(|number| backup(&mut draw, &format!("r{round}-{number}"), &locations, snapshots))
            .collect::<Vec<_>>();
        for request in &requests {
            // A server fails a valid backup at once whose name is in the store.
            let file = store.file("backups", &format!("backups/{}/velero-backup.json", request.name));
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "{}").unwrap();
        }
        let facts = driver.facts(&name).await.unwrap();
        ask(&driver, east, &facts, &requests, &mut score).await;
    }
    score.check("backups");
}

fn restore(draw: &mut Draw, name: &str, backups: &[&str]) -> RestoreRequest {
    let backup = backup_name(draw.one(backups));
    let mut request = RestoreRequest::new(restore_name(name), owner(name), backup);
    let scope = &mut request.scope;
    scope.included_namespaces = draw.some(&NAMESPACES);
    scope.excluded_namespaces = draw.some(&NAMESPACES);
    scope.included_resources = draw.some(&RESOURCES);
    scope.excluded_resources = draw.some(&RESOURCES);
    if draw.chance(2) {
        scope.label_selector = Some(selector(draw));
    }
    if draw.chance(2) {
        scope.or_label_selectors = vec![selector(draw), selector(draw)];
    }
    if draw.chance(3) {
        request.existing = ExistingResources::Update;
    }
    if draw.chance(2) {
        let modifiers = ["version: v1", "version: v2", "colour: red", "text"];
        request.modifiers = Some(draw.one(&modifiers).to_owned());
    }
    request
}

#[tokio::test]
async fn the_pre_flight_says_what_the_server_says_of_generated_restores() {
    let fleet = Fleet::builder()
        .member(MemberSpec::new("east").with_velero(Velero::on("backups")))
        .start()
        .await
        .unwrap();
    let east = fleet.member("east").unwrap();
    let driver = driver(&fleet);
    let name = cluster("east");
    east.apply("{apiVersion: v1, kind: Namespace, metadata: {name: empty}}")
        .await
        .unwrap();
    driver
        .create_backup(&name, &request("seed", &["empty"]))
        .await
        .unwrap();
    assert_eq!(backup_ends(&driver, "east", "seed").await.phase, Phase::Completed);
    let facts = driver.facts(&name).await.unwrap();
    let mut draw = Draw(0x0bad_cafe_5eed_0001);
    let mut score = Score::default();
    for number in 0..100 {
        let request = restore(
            &mut draw,
            &format!("r{number}"),
            &["seed", "seed", "seed", "absent"],
        );
        let backup = driver.backup(&name, &request.backup).await.unwrap();
        let location = backup.and_then(|backup| backup.location);
        let mut objections = preflight::restore(&request, &facts, location.as_ref());
        objections.extend(preflight::modifiers(&request));
        driver.create_restore(&name, &request).await.unwrap();
        let verdict = restore_ends(&driver, "east", request.name.as_str()).await;
        let refused = verdict.phase == Phase::FailedValidation;
        score.count(!objections.is_empty(), refused, || {
            format!(
                "{request:?}\nserver: {:?}\npre-flight: {objections:?}",
                verdict.messages
            )
        });
    }
    score.check("restores");
}
