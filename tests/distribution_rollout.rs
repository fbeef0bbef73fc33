//! A change reaches one stage of clusters after the other, waits for approval, and goes back where it came from if it
//! is bad.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod storefront;

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret};
use kube::{Api, ResourceExt, api::ListParams};
use kurator::{
    fleet::api::AttachedCluster,
    policy::api::{
        ClusterDistribution, DistributionPolicy, DistributionPolicyStatus, OverridePolicy, RolloutOutcome,
    },
};
use kurator_envtest::{Controllers, MemberSpec, Nodes};
use serde_json::{Value, json};
use storefront::{Storefront, condition, create, deployments, edit, entry};

const CANARY: &str = "cluster-canary";
const EAST: &str = "cluster-east";
const WEST: &str = "cluster-west";

async fn three_members() -> Storefront {
    let member = |name| {
        MemberSpec::new(name)
            .with_controllers(Controllers::Tuned)
            .with_scheduler()
            .with_nodes(Nodes::new(1))
    };
    let mut fleet = Storefront::of([CANARY, EAST, WEST].map(member)).await;
    let api: Api<AttachedCluster> = Api::namespaced(fleet.hub.clone(), "default");
    let canary = json!({ "spec": { "labels": { "tier": "canary" } } });
    edit(&api, CANARY, canary).await;
    fleet.run();
    fleet
}

fn policy() -> Value {
    json!({
        "metadata": { "name": "web" },
        "spec": {
            "resourceSelectors": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "storefront" }],
            "rollout": {
                "stages": [
                    { "name": "canary", "labelSelector": { "matchLabels": { "tier": "canary" } } },
                    { "name": "rest", "maxConcurrency": 2, "approval": true },
                ],
                "progressDeadlineSeconds": 120,
            },
        },
    })
}

/// Changes the template on the hub.
async fn change(fleet: &Storefront, spec: Value) {
    let api: Api<Deployment> = Api::namespaced(fleet.hub.clone(), "default");
    edit(&api, "storefront", json!({ "spec": spec })).await;
}

/// A version of the program, in an environment variable.
fn version(version: &str) -> Value {
    let container = json!({
        "name": "web", "image": "registry.example/web:1", "env": [{ "name": "VERSION", "value": version }],
    });
    json!({ "template": { "spec": { "containers": [container], "nodeSelector": null } }, "progressDeadlineSeconds": 600 })
}

/// The version that a member has.
async fn version_in(fleet: &Storefront, member: &str) -> Option<String> {
    let found = deployments(fleet.member(member))
        .get_opt("storefront")
        .await
        .unwrap()?;
    let container = found.spec.template.spec?.containers.into_iter().next()?;
    container.env?.into_iter().next()?.value
}

async fn versions(fleet: &Storefront) -> [Option<String>; 3] {
    [
        version_in(fleet, CANARY).await,
        version_in(fleet, EAST).await,
        version_in(fleet, WEST).await,
    ]
}

fn all(version: &str) -> [Option<String>; 3] {
    [(); 3].map(|()| Some(version.to_owned()))
}

/// Waits until a rollout of another revision than `before` stands like this.
async fn stands(fleet: &Storefront, reason: &str, before: &str) -> DistributionPolicyStatus {
    fleet
        .status("web", reason, |it| {
            it.rollout
                .as_ref()
                .is_some_and(|rollout| rollout.reason == reason && rollout.revision != before)
        })
        .await
}

fn revision(status: &DistributionPolicyStatus) -> String {
    status.rollout.as_ref().unwrap().revision.clone()
}

fn outcome(status: &DistributionPolicyStatus, of: &str) -> Option<RolloutOutcome> {
    let rollout = status.rollout.as_ref()?;
    let past = rollout.revisions.iter().find(|past| past.revision == of)?;
    Some(past.outcome)
}

async fn approve(fleet: &Storefront, revision: &str) {
    let annotations = json!({ "policy.kurator.dev/approve": format!("{revision}/rest") });
    edit(
        &fleet.policy_api(),
        "web",
        json!({ "metadata": { "annotations": annotations } }),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_goes_in_stages_and_a_bad_one_goes_back_from_the_first() {
    let mut fleet = three_members().await;
    fleet.template(2).await;
    change(&fleet, version("1")).await;
    let _: DistributionPolicy = create(&fleet.policy_api(), policy()).await;

    // The first revision takes its way too.
    let status = stands(&fleet, "RolloutAwaitingApproval", "").await;
    let first = revision(&status);
    assert_eq!(versions(&fleet).await, [Some("1".to_owned()), None, None]);
    assert!(condition(&status, "RolledOut", "False").is_some_and(|(_, message)| message.contains("/rest")));
    approve(&fleet, &first).await;
    let status = stands(&fleet, "RolloutCompleted", "").await;
    assert_eq!(versions(&fleet).await, all("1"));
    assert_eq!(outcome(&status, &first), Some(RolloutOutcome::Good));
    assert!(condition(&status, "RolledOut", "True").is_some());

    // A good change waits for its own approval, also for a successor of whoever began with it.
    change(&fleet, version("2")).await;
    let status = stands(&fleet, "RolloutAwaitingApproval", &first).await;
    let second = revision(&status);
    fleet.crash().await;
    fleet.run();
    // What is scaled meanwhile is scaled everywhere, at the version that runs there.
    change(&fleet, json!({ "replicas": 3 })).await;
    for member in [CANARY, EAST, WEST] {
        fleet.replicas(member, "storefront", 3).await;
    }
    let old = [Some("2".to_owned()), Some("1".to_owned()), Some("1".to_owned())];
    assert_eq!(versions(&fleet).await, old);
    approve(&fleet, &second).await;
    stands(&fleet, "RolloutCompleted", &first).await;
    assert_eq!(versions(&fleet).await, all("2"));

    // One that never gets ready reaches the canary only, and leaves it.
    let mut bad = version("3");
    bad["template"]["spec"]["nodeSelector"] = json!({ "no": "node" });
    bad["progressDeadlineSeconds"] = json!(1);
    let generation = |member: &str| {
        let api = deployments(fleet.member(member));
        async move { api.get("storefront").await.unwrap().metadata.generation }
    };
    let before = [generation(EAST).await, generation(WEST).await];
    change(&fleet, bad).await;
    let status = stands(&fleet, "RolloutRolledBack", &second).await;
    let third = revision(&status);
    assert_eq!(outcome(&status, &third), Some(RolloutOutcome::Condemned));
    fleet
        .status("web", "every cluster is well again", |it| {
            it.clusters.iter().all(|entry| {
                entry.rollout.as_ref().is_some_and(|told| told.revision == second)
                    && entry.reason == "Applied"
            })
        })
        .await;
    assert_eq!(versions(&fleet).await, all("2"));
    assert_eq!(
        [generation(EAST).await, generation(WEST).await],
        before,
        "nobody else was touched"
    );
    fleet.event("RolloutRolledBack").await;

    // An override that a member refuses ends the same way.
    change(&fleet, version("4")).await;
    let overrides: Api<OverridePolicy> = Api::namespaced(fleet.hub.clone(), "default");
    let refused = json!({
        "metadata": { "name": "refused" },
        "spec": {
            "resourceSelectors": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "storefront" }],
            "overrideRules": [{ "overrides": [{ "path": "/spec/revisionHistoryLimit", "value": -1 }] }],
        },
    });
    let _: OverridePolicy = create(&overrides, refused).await;
    stands(&fleet, "RolloutRolledBack", &third).await;
    assert_eq!(versions(&fleet).await, all("2"));
    overrides
        .delete("refused", &kube::api::DeleteParams::default())
        .await
        .unwrap();
    let status = stands(&fleet, "RolloutAwaitingApproval", &third).await;
    approve(&fleet, &revision(&status)).await;
    stands(&fleet, "RolloutCompleted", &third).await;
    assert_eq!(versions(&fleet).await, all("4"));

    // The revisions belong to the policy, and what they hold is no secret that anybody reads by chance.
    let secrets: Api<Secret> = Api::namespaced(fleet.hub.clone(), "default");
    let of_type = ListParams::default().fields("type=policy.kurator.dev/revision");
    let kept = secrets.list(&of_type).await.unwrap().items;
    assert!(!kept.is_empty());
    assert!(
        kept.iter()
            .all(|secret| secret.owner_references().iter().all(|owner| owner.name == "web"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_stands_still_while_only_differences_are_reported_and_goes_on_from_there() {
    let mut fleet = three_members().await;
    fleet.template(2).await;
    change(&fleet, version("1")).await;
    let _: DistributionPolicy = create(&fleet.policy_api(), policy()).await;
    let first = revision(&stands(&fleet, "RolloutAwaitingApproval", "").await);
    approve(&fleet, &first).await;
    stands(&fleet, "RolloutCompleted", "").await;
    change(&fleet, version("2")).await;
    let second = revision(&stands(&fleet, "RolloutAwaitingApproval", &first).await);
    let midway = ["2", "1", "1"].map(|version| Some(version.to_owned()));
    assert_eq!(versions(&fleet).await, midway);

    // All that is missing is told at once, and no step is done, by a successor neither.
    let strategy = |strategy: Value| json!({ "spec": { "applyStrategy": strategy } });
    edit(&fleet.policy_api(), "web", strategy(json!("ReportDiff"))).await;
    let told = |it: &DistributionPolicyStatus| {
        let cause = |cluster| {
            entry(it, cluster)
                .and_then(|it| it.objects.first())
                .map(|it| &*it.reason)
        };
        [CANARY, EAST, WEST].map(cause) == [None, Some("WouldUpdate"), Some("WouldUpdate")]
    };
    let status = fleet.status("web", "what would change", told).await;
    assert_eq!(revision(&status), second);
    approve(&fleet, &second).await;
    fleet.crash().await;
    change(&fleet, json!({ "replicas": 3 })).await;
    fleet.run();
    let three = |it: &DistributionPolicyStatus| {
        let fields = |it: &ClusterDistribution| it.objects.iter().any(|it| it.fields == [".spec.replicas"]);
        entry(it, CANARY).is_some_and(fields)
    };
    let status = fleet.status("web", "the number of replicas differs", three).await;
    assert_eq!(revision(&status), second);
    assert_eq!(versions(&fleet).await, midway);

    // It goes on where it was, by the approval that was given meanwhile.
    edit(&fleet.policy_api(), "web", strategy(Value::Null)).await;
    let status = stands(&fleet, "RolloutCompleted", &first).await;
    assert_eq!(revision(&status), second);
    assert_eq!(versions(&fleet).await, all("2"));
}
