use serde_json::json;

use super::*;
use crate::driver::{Created, DriverError, ExistingResources, Phase, RestoreRequest};

fn cluster(name: &str) -> ClusterName {
    name.parse().unwrap()
}

fn fleet(names: &[&str]) -> InMemoryBackups {
    let fleet = InMemoryBackups::new("2026-11-23T03:00:00Z".parse().unwrap());
    for name in names {
        fleet.add_member(&cluster(name));
    }
    fleet
}

fn request(name: &str) -> BackupRequest {
    BackupRequest::new(name.parse().unwrap(), OwnerToken::bounded([name]))
}

fn steps(fleet: &InMemoryBackups, count: u32) {
    for _ in 0..count {
        fleet.advance(SignedDuration::from_secs(1));
    }
}

fn phase(fleet: &InMemoryBackups, on: &str, name: &str) -> Option<Phase> {
    let seen = fleet.backup(&cluster(on), &name.parse().unwrap()).unwrap();
    seen.map(|seen| seen.phase)
}

fn config_map(namespace: &str, name: &str, value: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "namespace": namespace, "name": name }, "data": { "value": value },
    })
}

#[test]
fn the_same_request_is_adopted_and_another_owner_is_refused() {
    let fleet = fleet(&["a"]);
    let a = cluster("a");
    fleet.lose_answers(&a, 1);
    assert!(
        fleet
            .create_backup(&a, &request("one"))
            .unwrap_err()
            .is_transient()
    );
    assert_eq!(
        fleet.create_backup(&a, &request("one")).unwrap(),
        Created::Adopted
    );
    let mut other = request("one");
    other.owner = OwnerToken::bounded(["two"]);
    assert!(matches!(
        fleet.create_backup(&a, &other),
        Err(DriverError::NameTaken { .. })
    ));
    assert_eq!(fleet.journal().len(), 1);
}

#[test]
fn members_on_one_store_see_each_other_and_cannot_use_a_name_twice() {
    let fleet = fleet(&["a"]);
    fleet.add_member_on(&cluster("b"), StoreAddress::new("memory", "fleet", "a"));
    fleet.create_backup(&cluster("a"), &request("one")).unwrap();
    steps(&fleet, 3);
    assert_eq!(phase(&fleet, "b", "one"), Some(Phase::Completed));
    fleet.create_backup(&cluster("b"), &request("one")).unwrap();
    assert_eq!(phase(&fleet, "b", "one"), Some(Phase::Failed));
}

#[test]
fn a_deleted_backup_leaves_every_server_and_a_restart_forgets_the_request() {
    let fleet = fleet(&["a"]);
    let a = cluster("a");
    fleet.create_backup(&a, &request("one")).unwrap();
    steps(&fleet, 3);
    let delete = |name: &str| {
        DeletionRequest::new(
            name.parse().unwrap(),
            OwnerToken::bounded(["x"]),
            "one".parse().unwrap(),
        )
    };
    fleet.request_deletion(&a, &delete("first")).unwrap();
    fleet.restart_server(&a);
    steps(&fleet, 2);
    assert_eq!(phase(&fleet, "a", "one"), Some(Phase::Deleting));
    fleet.request_deletion(&a, &delete("second")).unwrap();
    steps(&fleet, 1);
    assert!(fleet.deletion(&a, &"one".parse().unwrap()).unwrap().is_gone());
    assert!(
        fleet
            .stored(&StoreAddress::new("memory", "fleet", "a"))
            .is_empty()
    );
}

#[test]
fn a_forgotten_backup_starts_when_it_is_poked() {
    let fleet = fleet(&["a"]);
    let a = cluster("a");
    fleet.inject(&a, Fault::Forgotten);
    fleet.create_backup(&a, &request("one")).unwrap();
    steps(&fleet, 20);
    assert_eq!(phase(&fleet, "a", "one"), Some(Phase::ReadyToStart));
    fleet.poke(&a, &"one".parse().unwrap(), "1").unwrap();
    steps(&fleet, 3);
    assert_eq!(phase(&fleet, "a", "one"), Some(Phase::Completed));
}

#[test]
fn a_restore_gives_back_what_was_there_under_the_names_asked_for() {
    let fleet = fleet(&["a"]);
    let a = cluster("a");
    fleet.put_object(&a, config_map("shop", "prices", "1"));
    fleet.put_object(&a, config_map("other", "prices", "2"));
    let mut only_shop = request("one");
    only_shop.scope.included_namespaces = vec!["shop".to_owned()];
    fleet.create_backup(&a, &only_shop).unwrap();
    steps(&fleet, 3);
    fleet.put_object(&a, config_map("shop", "prices", "9"));
    let restore = |name: &str| {
        RestoreRequest::new(
            name.parse().unwrap(),
            OwnerToken::bounded([name]),
            "one".parse().unwrap(),
        )
    };
    let mut mapped = restore("mapped");
    mapped.namespace_mapping.insert("shop".into(), "scratch".into());
    fleet.create_restore(&a, &mapped).unwrap();
    fleet.create_restore(&a, &restore("skip")).unwrap();
    steps(&fleet, 2);
    let values = |fleet: &InMemoryBackups| -> Vec<String> {
        let objects = fleet.objects(&a);
        objects
            .iter()
            .map(|it| format!("{}={}", it["metadata"]["namespace"], it["data"]["value"]))
            .collect()
    };
    assert_eq!(
        values(&fleet),
        [r#""other"="2""#, r#""scratch"="1""#, r#""shop"="9""#]
    );
    let skipped = fleet.restore(&a, &"skip".parse().unwrap()).unwrap().unwrap();
    assert_eq!((skipped.phase, skipped.warnings), (Phase::Completed, 1));
    let mut update = restore("update");
    update.existing = ExistingResources::Update;
    fleet.create_restore(&a, &update).unwrap();
    steps(&fleet, 2);
    assert_eq!(values(&fleet)[2], r#""shop"="1""#);
}

#[test]
fn a_lease_ends_by_itself_on_a_member_that_is_cut_off() {
    let fleet = fleet(&["a"]);
    let a = cluster("a");
    let owner = OwnerToken::bounded(["run"]);
    let until = fleet.now() + SignedDuration::from_secs(2);
    fleet
        .quiesce(&a, &QuiesceRequest::new(owner.clone(), Vec::new(), until))
        .unwrap();
    fleet.set_reachable(&a, false);
    steps(&fleet, 1);
    assert_eq!(fleet.held_by(&a), BTreeSet::from([owner]));
    steps(&fleet, 1);
    assert!(fleet.held_by(&a).is_empty());
}
