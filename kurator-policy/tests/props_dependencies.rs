//! What holds for the dependencies of every set of policies, and for every contest over an object.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};

use kurator_core::names::ClusterName;
use kurator_policy::propagate::{
    BuiltinKinds, Change, Claimant, Dependencies, Known, ObjectKey, PolicyKey, Template, Use, changes,
    check_dependencies, claims_held, dependencies,
};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A policy with one workload, what it refers to, and where it goes.
type Drawn = (BTreeSet<u8>, BTreeSet<u8>, Option<u8>, bool, BTreeSet<u8>);

fn policies() -> impl Strategy<Value = Vec<Drawn>> {
    let one = (
        btree_set(0..5_u8, 0..4),
        btree_set(0..5_u8, 0..3),
        prop::option::of(0..4_u8),
        any::<bool>(),
        btree_set(0..4_u8, 0..4),
    );
    vec(one, 0..6)
}

fn policy(n: usize) -> PolicyKey {
    PolicyKey::new("policy.kurator.dev", "ns", format!("p{n}"))
}

fn template(n: usize, (maps, secrets, account, custom, _): &Drawn) -> Template {
    let maps: Vec<Value> = maps
        .iter()
        .map(|m| json!({ "configMapRef": { "name": format!("m{m}") } }))
        .collect();
    let volumes: Vec<Value> = secrets
        .iter()
        .map(|s| json!({ "secret": { "secretName": format!("s{s}"), "optional": s % 2 == 0 } }))
        .collect();
    let (api_version, kind) = if *custom {
        ("e.com/v1", "Engine")
    } else {
        ("apps/v1", "Deployment")
    };
    let mut object = json!({
        "apiVersion": api_version, "kind": kind, "metadata": { "name": format!("w{n}"), "namespace": "ns" },
        "spec": { "template": { "spec": { "containers": [{ "name": "c", "envFrom": maps }], "volumes": volumes } } },
    });
    if let Some(account) = account {
        object["spec"]["template"]["spec"]["serviceAccountName"] = json!(format!("a{account}"));
    }
    Template::of(&object, &BuiltinKinds).unwrap()
}

/// The last of each kind is missing; one secret is a token; service accounts pull images with a secret.
fn hub() -> Vec<Value> {
    let named = |kind: &str, name: String| json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": name, "namespace": "ns" } });
    let mut objects: Vec<Value> = (0..4).map(|n| named("ConfigMap", format!("m{n}"))).collect();
    objects.extend((0..4).map(|n| named("Secret", format!("s{n}"))));
    objects[5]["type"] = json!("kubernetes.io/service-account-token");
    for n in 0..3 {
        let mut account = named("ServiceAccount", format!("a{n}"));
        account["imagePullSecrets"] = json!([{ "name": format!("s{}", n + 1) }]);
        objects.push(account);
    }
    objects.push(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": "engines.e.com" },
        "spec": { "group": "e.com", "names": { "kind": "Engine" }, "versions": [{ "name": "v1" }] },
    }));
    objects
}

fn clusters(drawn: &Drawn) -> impl Iterator<Item = ClusterName> {
    drawn.4.iter().map(|n| format!("c{n}").parse().unwrap())
}

struct Case {
    keys: Vec<PolicyKey>,
    templates: Vec<Template>,
    drawn: Vec<Drawn>,
}

impl Case {
    fn new(drawn: Vec<Drawn>) -> Self {
        Self {
            keys: (0..drawn.len()).map(policy).collect(),
            templates: drawn
                .iter()
                .enumerate()
                .map(|(n, drawn)| template(n, drawn))
                .collect(),
            drawn,
        }
    }

    fn uses(&self, without: Option<usize>) -> Vec<Use<'_>> {
        let all = self.keys.iter().zip(&self.templates).zip(&self.drawn).enumerate();
        all.filter(|(n, _)| Some(*n) != without)
            .map(|(_, ((key, template), drawn))| Use::new(key, template, clusters(drawn)))
            .collect()
    }
}

fn present(planned: &Dependencies) -> BTreeSet<(ClusterName, ObjectKey)> {
    planned
        .members
        .iter()
        .flat_map(|(cluster, objects)| {
            objects
                .keys()
                .map(move |object| (cluster.clone(), object.clone()))
        })
        .collect()
}

proptest! {
    #[test]
    fn members_have_what_is_named_there_and_nothing_else(drawn in policies()) {
        let case = Case::new(drawn);
        let objects = hub();
        let mut known = Known::default();
        objects.iter().for_each(|object| known.add(object));
        let planned = dependencies(&case.uses(None), &known);
        prop_assert_eq!(check_dependencies(&case.uses(None), &known, &planned), vec![], "{}", planned);
        let mut turned = case.uses(None);
        turned.reverse();
        prop_assert_eq!(&dependencies(&turned, &known), &planned);
        for missing in &planned.missing {
            prop_assert!(missing.to_string().contains("refers to"));
        }
        // A custom kind brings its definition along.
        for used in case.uses(None).iter().filter(|used| used.template.key.kind.kind == "Engine") {
            for cluster in &used.clusters {
                let definition = |key: &&ObjectKey| key.kind.kind == "CustomResourceDefinition";
                prop_assert!(planned.members[cluster].keys().any(|key| definition(&key)));
            }
        }
    }

    #[test]
    fn the_last_user_takes_what_only_it_needed(drawn in policies(), pick in any::<prop::sample::Index>()) {
        prop_assume!(!drawn.is_empty());
        let case = Case::new(drawn);
        let objects = hub();
        let mut known = Known::default();
        objects.iter().for_each(|object| known.add(object));
        let gone = pick.index(case.keys.len());
        let before = dependencies(&case.uses(None), &known);
        let after = dependencies(&case.uses(Some(gone)), &known);
        let mut there = present(&before);
        for change in changes(&before, &after) {
            match change {
                Change::Add { cluster, object, .. } => {
                    prop_assert!(there.insert((cluster, object)));
                }
                Change::Remove { cluster, object } => {
                    // Nobody but the one that is gone needed it.
                    let users = &before.members[&cluster][&object];
                    prop_assert!(users.iter().all(|by| by.policy == case.keys[gone]));
                    prop_assert!(there.remove(&(cluster, object)));
                }
                Change::Share { cluster, object, by } => {
                    prop_assert!(!by.is_empty() && there.contains(&(cluster, object)));
                }
                _ => {}
            }
        }
        prop_assert_eq!(there, present(&after));
    }

    #[test]
    fn whoever_has_an_object_keeps_it_unless_a_higher_priority_asks_for_it(
        rivals in vec((-2..3_i32, any::<bool>(), 0..3_u8, 0..3_u8), 1..6), holder in prop::option::of(0..6_usize), created in 0..4_u8,
    ) {
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "web", "namespace": "ns", "labels": { "app": "web" },
                "creationTimestamp": format!("2026-01-0{}T00:00:00Z", created + 1),
            },
        });
        let web = Template::of(&object, &BuiltinKinds).unwrap();
        let claimants: Vec<Claimant> = rivals
            .iter()
            .enumerate()
            .map(|(n, &(priority, preempts, precision, day))| {
                let more = match precision {
                    0 => json!({}),
                    1 => json!({ "labelSelector": { "matchLabels": { "app": "web" } } }),
                    _ => json!({ "name": "web" }),
                };
                let mut selector = more;
                selector["apiVersion"] = json!("apps/v1");
                selector["kind"] = json!("Deployment");
                let created = format!("2026-01-0{}T12:00:00Z", day + 1).parse().unwrap();
                let claimant = Claimant::new(policy(n), created, &[serde_json::from_value(selector).unwrap()]).unwrap();
                let claimant = claimant.with_priority(priority);
                if preempts { claimant.with_preemption() } else { claimant }
            })
            .collect();
        let held: BTreeMap<ObjectKey, PolicyKey> =
            holder.map(|n| (web.key.clone(), policy(n))).into_iter().collect();
        let claim = claims_held(&claimants, [&web], &held).remove(&web.key).unwrap();
        let mut turned = claimants.clone();
        turned.reverse();
        let again = claims_held(&turned, [&web], &held);
        prop_assert_eq!(Some(&claim), again.get(&web.key));
        // Everybody is the holder or waits.
        let all: BTreeSet<&PolicyKey> = claim.rivals.iter().chain([&claim.holder]).collect();
        prop_assert_eq!(all.len(), claimants.len());
        prop_assert_eq!(claim.rivals.len() + 1, claimants.len());
        let by_name = |key: &PolicyKey| claimants.iter().find(|claimant| claimant.policy == *key);
        if let Some(incumbent) = held.get(&web.key).and_then(by_name) {
            let winner = by_name(&claim.holder).unwrap();
            if winner.policy != incumbent.policy {
                prop_assert!(winner.preempts && winner.priority > incumbent.priority);
                prop_assert_eq!(claim.taken_from.as_ref(), Some(&incumbent.policy));
            } else {
                prop_assert!(claimants.iter().all(|other| !other.preempts || other.priority <= incumbent.priority));
                prop_assert_eq!(&claim.taken_from, &None);
            }
            // What was decided stays decided.
            let after = BTreeMap::from([(web.key.clone(), claim.holder.clone())]);
            let again = claims_held(&claimants, [&web], &after).remove(&web.key).unwrap();
            prop_assert_eq!(again.holder, claim.holder);
        }
    }
}
