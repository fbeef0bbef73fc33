//! Selectors match, and are refused, exactly when a real API server does the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::{
        core::v1::ConfigMap,
        networking::v1::{NetworkPolicy, NetworkPolicySpec},
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
};
use kube::{
    Api, Client,
    api::{ListParams, ObjectMeta, PostParams},
};
use kurator_core::selector::LabelMatcher;
use kurator_envtest::{Fleet, MemberSpec};
use proptest::{
    collection::{btree_map, vec},
    option,
    sample::select,
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};

const OBJECTS: usize = 50;
const SELECTORS: usize = 200;

fn draw<T: std::fmt::Debug>(runner: &mut TestRunner, count: usize, of: impl Strategy<Value = T>) -> Vec<T> {
    (0..count)
        .map(|_| of.new_tree(runner).unwrap().current())
        .collect()
}

fn keys() -> impl Strategy<Value = String> {
    select(vec!["tier", "region", "example.com/tier", "App.kubernetes_io"]).prop_map(str::to_owned)
}

fn values() -> impl Strategy<Value = String> {
    select(vec!["", "gold", "silver", "1.2_3-x"]).prop_map(str::to_owned)
}

fn requirements(
    key: impl Strategy<Value = String>,
    operator: impl Strategy<Value = &'static str>,
    value: impl Strategy<Value = String>,
) -> impl Strategy<Value = LabelSelectorRequirement> {
    (key, operator, option::of(vec(value, 0..4))).prop_map(|(key, operator, values)| {
        LabelSelectorRequirement {
            key,
            operator: operator.to_owned(),
            values,
        }
    })
}

fn well_formed() -> impl Strategy<Value = LabelSelector> {
    let expressions = requirements(
        keys(),
        select(vec!["In", "NotIn", "Exists", "DoesNotExist"]),
        values(),
    )
    .prop_map(|mut requirement| {
        requirement.values = match requirement.operator.as_str() {
            "In" | "NotIn" => Some(
                requirement
                    .values
                    .filter(|v| !v.is_empty())
                    .unwrap_or(vec!["gold".into()]),
            ),
            _ => None,
        };
        requirement
    });
    (btree_map(keys(), values(), 0..2), vec(expressions, 0..4)).prop_map(|(labels, expressions)| {
        LabelSelector {
            match_labels: Some(labels),
            match_expressions: Some(expressions),
        }
    })
}

fn doubtful() -> impl Strategy<Value = LabelSelector> {
    let text = || {
        proptest::prop_oneof![
            4 => keys(),
            1 => "[-a-zA-Z0-9_./]{0,6}",
            1 => "[a-z0-9]{62,64}",
            1 => "[a-z]{1,3}(\\.[-a-zA-Z]{0,3}){0,2}/[a-z_.-]{0,3}",
            1 => "[a-z]{252,254}/x",
            1 => ".{1,3}",
        ]
    };
    let operator = select(vec!["In", "NotIn", "Exists", "DoesNotExist", "Gt", "in", ""]);
    (
        btree_map(text(), text(), 0..2),
        vec(requirements(text(), operator, text()), 0..2),
    )
        .prop_map(|(labels, expressions)| LabelSelector {
            match_labels: Some(labels),
            match_expressions: Some(expressions),
        })
}

#[tokio::test]
async fn selectors_agree_with_a_real_api_server() {
    let fleet = Fleet::builder()
        .member(MemberSpec::new("hub"))
        .start()
        .await
        .unwrap();
    let client = fleet.member("hub").unwrap().client().unwrap();
    let mut runner = TestRunner::deterministic();
    matches_agree(client.clone(), &mut runner).await;
    refusals_agree(client, &mut runner).await;
}

async fn matches_agree(client: Client, runner: &mut TestRunner) {
    let api = Api::<ConfigMap>::default_namespaced(client);
    let mut objects = BTreeMap::new();
    for (index, labels) in draw(runner, OBJECTS, btree_map(keys(), values(), 0..4))
        .into_iter()
        .enumerate()
    {
        let name = format!("labelled-{index}");
        let metadata = ObjectMeta {
            name: Some(name.clone()),
            labels: Some(labels.clone()),
            ..ObjectMeta::default()
        };
        api.create(
            &PostParams::default(),
            &ConfigMap {
                metadata,
                ..ConfigMap::default()
            },
        )
        .await
        .unwrap();
        objects.insert(name, labels);
    }
    let mut sizes = BTreeSet::new();
    for selector in draw(runner, SELECTORS, well_formed()) {
        let matcher = LabelMatcher::compile(&selector).unwrap();
        let list = api
            .list(&ListParams::default().labels_from(matcher.selector().unwrap()))
            .await
            .unwrap();
        let theirs: BTreeSet<_> = list
            .items
            .into_iter()
            .filter_map(|item| item.metadata.name)
            .filter(|name| objects.contains_key(name))
            .collect();
        let ours: BTreeSet<_> = objects
            .iter()
            .filter(|(_, labels)| matcher.matches(labels))
            .map(|(name, _)| name.clone())
            .collect();
        assert_eq!(ours, theirs, "{matcher}");
        sizes.insert(ours.len());
    }
    assert!(sizes.len() > 10, "the draws say too little: {sizes:?}");
}

async fn refusals_agree(client: Client, runner: &mut TestRunner) {
    let api = Api::<NetworkPolicy>::default_namespaced(client);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let (mut accepted, mut refused) = (0, 0);
    for selector in draw(runner, SELECTORS, doubtful()) {
        let policy = NetworkPolicy {
            metadata: ObjectMeta {
                name: Some("doubtful".into()),
                ..ObjectMeta::default()
            },
            spec: Some(NetworkPolicySpec {
                pod_selector: Some(selector.clone()),
                ..NetworkPolicySpec::default()
            }),
        };
        match (
            LabelMatcher::compile(&selector),
            api.create(&dry_run, &policy).await,
        ) {
            (Ok(_), Ok(_)) => accepted += 1,
            (Err(_), Err(kube::Error::Api(status))) if status.code == 422 => refused += 1,
            (ours, theirs) => panic!("{selector:?}: we say {ours:?}, the server {theirs:?}"),
        }
    }
    assert!(
        accepted > 20 && refused > 20,
        "the draws say too little: {accepted} and {refused}"
    );
}
