//! Whose objects the server-side applier touches, and what it says of those it does not, held against a real API
//! server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod ground;

use std::time::Duration;

use ground::{Ground, fleet, outcomes, removed};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
};
use kurator_core::apply::{
    Applier, ApplyFailure, ApplyOptions, ConflictResolution, KindRef, ObjectOutcome, ObjectSet, Owner,
    PruneScope, Pruning, Refusal, Removal,
};
use serde_json::{Value, json};

#[tokio::test]
async fn an_object_of_somebody_else_is_not_taken_over_unless_told_to() {
    let ground = Ground::new();
    ground.create_namespace().await;
    let theirs = ground.write("helm", true, ground.config_map("a", "theirs")).await;
    let report = ground.apply([ground.config_map("a", "ours")]).await;
    let refused = Refusal::OwnedByOther {
        manager: "helm".to_owned(),
    };
    assert_eq!(
        report.outcome(&ground.key("", "ConfigMap", "a")),
        Some(&ObjectOutcome::Refused { refusal: refused })
    );
    let live = ground.get("v1", "ConfigMap", "a").await.unwrap();
    assert_eq!(live.resource_version(), theirs.resource_version());

    let ground = ground.overwriting();
    assert_eq!(
        outcomes(&ground.apply([ground.config_map("a", "ours")]).await),
        [("a", "Updated")]
    );
    assert_eq!(
        ground.get("v1", "ConfigMap", "a").await.unwrap().data["data"]["key"],
        "ours"
    );
    assert_eq!(
        outcomes(&ground.apply([ground.config_map("a", "ours")]).await),
        [("a", "Unchanged")]
    );
}

#[tokio::test]
async fn among_many_new_objects_those_of_somebody_else_are_left_alone() {
    let ground = Ground::new();
    let wanted = || (0..20).map(|it| ground.config_map(&format!("a{it:02}"), "ours"));
    ground.create_namespace().await;
    let theirs = ground
        .write("helm", true, ground.config_map("a07", "theirs"))
        .await;
    let report = ground.apply(wanted()).await;
    for (name, reason) in outcomes(&report) {
        assert_eq!(
            reason,
            if name == "a07" { "OwnedByOther" } else { "Created" },
            "{name}"
        );
    }
    let live = ground.get("v1", "ConfigMap", "a07").await.unwrap();
    assert_eq!(live.resource_version(), theirs.resource_version());
    let report = ground.apply(wanted()).await;
    for (name, reason) in outcomes(&report) {
        assert_eq!(
            reason,
            if name == "a07" {
                "OwnedByOther"
            } else {
                "Unchanged"
            },
            "{name}"
        );
    }

    // A namespace that is missing is made on the way.
    let ground = Ground::new();
    let report = ground
        .apply((0..20).map(|it| ground.config_map(&format!("a{it:02}"), "ours")))
        .await;
    assert_eq!(report.objects.len(), 20);
    assert!(
        outcomes(&report).iter().all(|(_, reason)| *reason == "Created"),
        "{report}"
    );
}

#[tokio::test]
async fn an_object_of_another_owner_is_refused_even_when_overwriting() {
    let ground = Ground::new().overwriting();
    ground.place([ground.config_map("a", "first")]).await;
    let object = serde_json::from_value(ground.config_map("a", "second")).unwrap();
    let other = Owner::new("hub", "another", "Policy another").unwrap();
    let set = ObjectSet::new(other, [object]).unwrap();
    let report = ground
        .applier
        .apply(&ground.cluster, &set, &ground.options)
        .await
        .unwrap();
    let refusal = Refusal::ClaimedByOther {
        owner: ground.owner().name().to_owned(),
        hub: "hub".to_owned(),
    };
    assert_eq!(
        report.outcome(&ground.key("", "ConfigMap", "a")),
        Some(&ObjectOutcome::Refused { refusal })
    );
    assert_eq!(
        ground.get("v1", "ConfigMap", "a").await.unwrap().data["data"]["key"],
        "first"
    );
}

#[tokio::test]
async fn an_owner_made_anew_under_its_name_gets_its_objects_back_when_overwriting() {
    let ground = Ground::new();
    ground.place([ground.config_map("a", "1")]).await;
    let anew = Owner::new("hub", "made-anew", ground.owner().name()).unwrap();
    let object = || serde_json::from_value(ground.config_map("a", "1")).unwrap();
    let set = ObjectSet::new(anew.clone(), [object()]).unwrap();
    let report = ground
        .applier
        .apply(&ground.cluster, &set, &ground.options)
        .await
        .unwrap();
    assert_eq!(outcomes(&report), [("a", "ClaimedByOther")]);
    let options = ground
        .options
        .clone()
        .with_conflict_resolution(ConflictResolution::Overwrite);
    let report = ground
        .applier
        .apply(&ground.cluster, &set, &options)
        .await
        .unwrap();
    assert_eq!(outcomes(&report), [("a", "Updated")]);
    let live = ground.get("v1", "ConfigMap", "a").await.unwrap();
    assert!(anew.labelled(&live.metadata));
}

#[tokio::test]
async fn a_field_that_another_manager_applied_is_a_conflict_with_its_name_and_path() {
    let ground = Ground::new();
    ground.place([ground.deployment(2)]).await;
    let theirs = ground
        .write(
            "autoscaler",
            true,
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "web"}, "spec": {"replicas": 9},
            }),
        )
        .await;
    let report = ground.apply([ground.deployment(2)]).await;
    match report.outcome(&ground.key("apps", "Deployment", "web")) {
        Some(ObjectOutcome::Conflict { conflicts }) => {
            assert_eq!(conflicts.len(), 1);
            assert_eq!(
                (conflicts[0].manager.as_str(), conflicts[0].field.as_str()),
                ("autoscaler", ".spec.replicas")
            );
        }
        other => panic!("{other:?}"),
    }
    let live = ground.get("apps/v1", "Deployment", "web").await.unwrap();
    assert_eq!(live.resource_version(), theirs.resource_version());

    let ground = ground.overwriting();
    assert_eq!(
        outcomes(&ground.apply([ground.deployment(2)]).await),
        [("web", "Updated")]
    );
    assert_eq!(
        ground.get("apps/v1", "Deployment", "web").await.unwrap().data["spec"]["replicas"],
        2
    );
}

#[tokio::test]
async fn nothing_is_pruned_until_everything_wanted_is_in_place() {
    let ground = Ground::new();
    ground
        .place([ground.config_map("a", "1"), ground.config_map("b", "1")])
        .await;
    ground.write("helm", true, ground.config_map("c", "theirs")).await;

    let wanted = || [ground.config_map("a", "2"), ground.config_map("c", "1")];
    let report = ground.apply(wanted()).await;
    assert_eq!(outcomes(&report), [("a", "Updated"), ("c", "OwnedByOther")]);
    assert_eq!(report.pruning, Pruning::SetIncomplete);
    assert!(ground.get("v1", "ConfigMap", "b").await.is_some());

    ground
        .api("v1", "ConfigMap")
        .delete("c", &Default::default())
        .await
        .unwrap();
    let report = ground.apply(wanted()).await;
    assert_eq!(outcomes(&report), [("a", "Unchanged"), ("c", "Created")]);
    assert_eq!(removed(&report), ["b"]);
    assert!(ground.get("v1", "ConfigMap", "b").await.is_none());
}

#[tokio::test]
async fn only_what_was_placed_is_withdrawn() {
    let ground = Ground::new();
    ground
        .place([ground.config_map("a", "1"), ground.deployment(1)])
        .await;
    // Copied labels, as the endpoint controllers do: not ours.
    let mut copy = ground.config_map("copy", "1");
    copy["metadata"]["labels"] = serde_json::to_value(ground.owner().labels()).unwrap();
    let copy = serde_json::from_value(copy).unwrap();
    ground
        .api("v1", "ConfigMap")
        .create(&Default::default(), &copy)
        .await
        .unwrap();
    ground.write("helm", true, ground.config_map("theirs", "1")).await;

    let empty = ObjectSet::empty(ground.owner());
    let narrow = ground
        .options
        .clone()
        .with_prune(PruneScope::Kinds([KindRef::new("v1", "ConfigMap")].into()));
    let report = ground
        .applier
        .apply(&ground.cluster, &empty, &narrow)
        .await
        .unwrap();
    assert_eq!(removed(&report), ["a"]);
    let report = ground
        .applier
        .apply(&ground.cluster, &empty, &ground.options)
        .await
        .unwrap();
    assert_eq!(removed(&report), ["web"]);
    let wide = ground.options.clone().with_prune(PruneScope::EveryKind);
    let report = ground
        .applier
        .apply(&ground.cluster, &empty, &wide)
        .await
        .unwrap();
    assert_eq!(removed(&report), Vec::<&str>::new());
    for name in ["copy", "theirs"] {
        assert!(ground.get("v1", "ConfigMap", name).await.is_some(), "{name}");
    }
}

#[tokio::test]
async fn what_is_being_deleted_is_reported_and_not_applied_to() {
    let ground = Ground::new();
    ground.place([ground.config_map("a", "1")]).await;
    let finalizer = |finalizers: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "finalizers": finalizers}});
    ground
        .write("somebody", false, finalizer(json!(["example.com/wait"])))
        .await;
    let empty = ObjectSet::empty(ground.owner());
    let options = ground
        .options
        .clone()
        .with_prune(PruneScope::Kinds([KindRef::new("v1", "ConfigMap")].into()));
    for _ in 0..2 {
        let report = ground
            .applier
            .apply(&ground.cluster, &empty, &options)
            .await
            .unwrap();
        match &report.pruning {
            Pruning::Done { removals } => assert_eq!(removals[0].removal, Removal::Deleting),
            other => panic!("{other:?}"),
        }
        assert!(!report.is_complete());
    }
    let report = ground.apply([ground.config_map("a", "1")]).await;
    assert_eq!(outcomes(&report), [("a", "BeingDeleted")]);
    ground.write("somebody", false, finalizer(json!(null))).await;
    assert_eq!(
        outcomes(&ground.apply([ground.config_map("a", "1")]).await),
        [("a", "Created")]
    );
}

#[tokio::test]
async fn a_namespace_is_created_only_when_it_is_missing_and_wanted() {
    let mut ground = Ground::new();
    ground.options = ground.options.clone().without_namespace_creation();
    let report = ground.apply([ground.config_map("a", "1")]).await;
    assert_eq!(outcomes(&report), [("a", "NamespaceMissing")]);
    ground.options = ApplyOptions::default();
    assert_eq!(
        outcomes(&ground.apply([ground.config_map("a", "1")]).await),
        [("a", "Created")]
    );

    // Without a controller manager it stays on its way out.
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Namespace"));
    let namespaces: Api<DynamicObject> = Api::all_with(ground.client.clone(), &resource);
    namespaces
        .delete(&ground.namespace, &Default::default())
        .await
        .unwrap();
    let report = ground
        .apply([ground.config_map("a", "1"), ground.config_map("b", "1")])
        .await;
    assert_eq!(
        outcomes(&report),
        [("a", "Unchanged"), ("b", "NamespaceTerminating")]
    );
}

#[tokio::test]
async fn what_the_server_refuses_has_a_reason_each_and_the_rest_goes_on() {
    let ground = Ground::new();
    ground
        .place([ground.config_map("good", "1"), ground.deployment(1)])
        .await;
    let mut moved = ground.deployment(1);
    moved["spec"]["selector"]["matchLabels"]["tier"] = "x".into();
    moved["spec"]["template"]["metadata"]["labels"]["tier"] = "x".into();
    let mut large = ground.deployment(1);
    large["metadata"]["name"] = "large".into();
    large["spec"]["template"]["spec"]["containers"][0]["env"] =
        json!([{"name": "A", "value": "x".repeat(2_000_000)}]);
    let mut misspelt = ground.deployment(1);
    misspelt["metadata"]["name"] = "misspelt".into();
    misspelt["spec"]["replica"] = 2.into();
    let report = ground
        .apply([
            json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": ground.namespace}}),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "nowhere"}}),
            ground.config_map("good", "2"),
            ground.config_map("heavy", &"x".repeat(1_100_000)),
            ground.config_map("huge", &"x".repeat(3_200_000)),
            large,
            misspelt,
            moved,
        ])
        .await;
    let mut found = outcomes(&report);
    found.sort_unstable();
    assert_eq!(
        found,
        [
            ("good", "Updated"),
            ("heavy", "TooLarge"),
            ("huge", "TooLarge"),
            ("large", "TooLarge"),
            ("misspelt", "Invalid"),
            ("nowhere", "Invalid"),
            ("w", "KindMissing"),
            ("web", "FieldImmutable"),
        ]
    );
    assert_eq!(report.pruning, Pruning::SetIncomplete);
}

#[tokio::test]
async fn a_custom_resource_with_a_field_that_its_schema_does_not_have_is_refused() {
    let ground = Ground::new();
    let spec = json!({"type": "object", "properties": {"size": {"type": "integer"}}});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "gadgets.example.dev"},
        "spec": {
            "group": "example.dev", "scope": "Namespaced",
            "names": {"plural": "gadgets", "kind": "Gadget"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
            }],
        },
    });
    let definition = serde_json::from_value(definition).unwrap();
    let member = fleet().member("member").unwrap();
    member.install(&[definition]).await.unwrap();
    let gadget = |field: &str| {
        json!({
            "apiVersion": "example.dev/v1", "kind": "Gadget",
            "metadata": {"name": field, "namespace": ground.namespace}, "spec": {field: 2},
        })
    };
    let report = ground.apply([gadget("size"), gadget("sice")]).await;
    let mut found = outcomes(&report);
    found.sort_unstable();
    assert_eq!(found, [("sice", "Invalid"), ("size", "Created")]);
}

#[tokio::test]
async fn a_used_up_quota_is_named() {
    let ground = Ground::new();
    ground.create_namespace().await;
    let mut quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "none"}, "spec": {"hard": {"count/configmaps": "0"}},
    });
    ground.write("admin", true, quota.clone()).await;
    // The controller manager would fill this in.
    quota["status"] = json!({"hard": {"count/configmaps": "0"}, "used": {"count/configmaps": "0"}});
    let params = PatchParams::default();
    let api = ground.api("v1", "ResourceQuota");
    api.patch_status("none", &params, &Patch::Merge(&quota))
        .await
        .unwrap();
    assert_eq!(until(&ground, "QuotaExceeded").await, "QuotaExceeded");
}

#[tokio::test]
async fn a_refusal_by_an_admission_policy_is_named() {
    let ground = Ground::new();
    ground.create_namespace().await;
    let name = ground.namespace.clone();
    for object in [
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"],
                }]},
                "validations": [{"expression": "false", "message": "not today"}],
            },
        }),
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {
                "policyName": name, "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}},
            },
        }),
    ] {
        let kind = GroupVersionKind::gvk(
            "admissionregistration.k8s.io",
            "v1",
            object["kind"].as_str().unwrap(),
        );
        let mut resource = ApiResource::from_gvk(&kind);
        if kind.kind.ends_with("Policy") {
            resource.plural = "validatingadmissionpolicies".to_owned();
        }
        let api: Api<DynamicObject> = Api::all_with(ground.client.clone(), &resource);
        api.create(&Default::default(), &serde_json::from_value(object).unwrap())
            .await
            .unwrap();
    }
    assert_eq!(until(&ground, "AdmissionDenied").await, "AdmissionDenied");
}

/// The server takes a moment to act on quotas and policies: new objects, until one is answered so.
async fn until(ground: &Ground, reason: &'static str) -> &'static str {
    let mut last = "";
    for attempt in 0..300 {
        let report = ground
            .apply([ground.config_map(&format!("a-{attempt}"), "1")])
            .await;
        last = report.objects[0].outcome.reason();
        if last == reason {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    last
}

#[tokio::test]
async fn without_rights_the_kind_is_forbidden_and_nothing_is_pruned() {
    let mut config = fleet().member("member").unwrap().config();
    config.auth_info.impersonate = Some("nobody".to_owned());
    let ground = Ground::over(Client::try_from(config).unwrap());
    let report = ground.apply([ground.config_map("a", "1")]).await;
    assert_eq!(outcomes(&report), [("a", "Forbidden")]);
    let empty = ObjectSet::empty(ground.owner());
    let options = ground.options.clone().with_prune(PruneScope::EveryKind);
    let report = ground
        .applier
        .apply(&ground.cluster, &empty, &options)
        .await
        .unwrap();
    assert!(
        matches!(
            report.pruning,
            Pruning::ScopeUnknown {
                failure: ApplyFailure::Forbidden { .. }
            }
        ),
        "{report}"
    );
}

/// The rights that the documentation of the applier asks for, and no others.
#[tokio::test]
async fn the_documented_rights_are_enough() {
    let admin = Ground::new();
    let name = admin.namespace.clone();
    let user = format!("user-{name}");
    for object in [
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name},
            "rules": [
                {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "get", "create", "patch", "delete"]},
                {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["create"]},
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }),
    ] {
        let kind = GroupVersionKind::gvk(
            "rbac.authorization.k8s.io",
            "v1",
            object["kind"].as_str().unwrap(),
        );
        let api: Api<DynamicObject> = Api::all_with(admin.client.clone(), &ApiResource::from_gvk(&kind));
        api.create(&Default::default(), &serde_json::from_value(object).unwrap())
            .await
            .unwrap();
    }
    let mut config = fleet().member("member").unwrap().config();
    config.auth_info.impersonate = Some(user);
    let limited = Client::try_from(config).unwrap();
    let ground = Ground {
        namespace: name,
        ..Ground::over(limited)
    };
    // The authoriser takes a moment to see the binding.
    until(&ground, "Created").await;
    ground
        .place([ground.config_map("a", "1"), ground.config_map("b", "1")])
        .await;
    ground.place([ground.config_map("a", "2")]).await;
    let nothing = ground
        .options
        .clone()
        .with_prune(PruneScope::Kinds([KindRef::new("v1", "ConfigMap")].into()));
    let empty = ObjectSet::empty(ground.owner());
    let report = ground
        .applier
        .apply(&ground.cluster, &empty, &nothing)
        .await
        .unwrap();
    assert_eq!(removed(&report), ["a"]);
}
