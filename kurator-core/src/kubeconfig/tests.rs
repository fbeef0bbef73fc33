use std::{collections::BTreeMap, error::Error};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::config::Config;
use secrecy::{ExposeSecret, SecretString};

use super::{KubeconfigError, KubeconfigPolicy, KubeconfigRef, KubeconfigSource, kubeconfig_text, parse};
use crate::names::{ClusterName, NamespacedName};

const CANARY: &str = "c4n4ry";

/// `cluster` and `user` are the indented lines below `server` and below `user:`.
fn kubeconfig(server: &str, cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
         clusters:\n- name: edge\n  cluster:\n    server: {server}\n{cluster}\
         users:\n- name: robot\n  user:\n{user}\
         contexts:\n- name: here\n  context: {{cluster: edge, user: robot, namespace: apps}}\n"
    )
}

fn parse_with(text: &str, policy: &KubeconfigPolicy) -> Result<Config, KubeconfigError> {
    let cluster = ClusterName::new("cluster-a").unwrap();
    let place = NamespacedName::new("fleet", "cluster-a-kubeconfig").into();
    let source = KubeconfigSource {
        cluster: &cluster,
        place: &place,
    };
    parse(source, &SecretString::from(text), policy)
}

fn refusal(cluster: &str, user: &str) -> KubeconfigError {
    let text = kubeconfig("https://10.0.0.1:6443", cluster, user);
    parse_with(&text, &KubeconfigPolicy::default()).expect_err("the default policy refuses this")
}

fn all_text_of(error: &KubeconfigError) -> String {
    let mut text = format!("{error} {error:?} {}", error.reason());
    let mut source = error.source();
    while let Some(inner) = source {
        text += &format!(" {inner} {inner:?}");
        source = inner.source();
    }
    text
}

#[test]
fn inline_credentials_over_tls_are_accepted() {
    let text = kubeconfig("https://10.0.0.1:6443", "", &format!("    token: {CANARY}\n"));
    let config = parse_with(&text, &KubeconfigPolicy::default()).unwrap();
    assert_eq!(config.cluster_url.to_string(), "https://10.0.0.1:6443/");
    assert_eq!(config.default_namespace, "apps");
    assert_eq!(config.auth_info.token.as_ref().unwrap().expose_secret(), CANARY);
    assert!(config.proxy_url.is_none());
}

#[test]
fn a_program_to_run_is_refused_until_its_very_command_is_allowed() {
    let user = format!(
        "    exec: {{apiVersion: client.authentication.k8s.io/v1, command: aws, args: [{CANARY}]}}\n"
    );
    assert!(matches!(
        refusal("", &user),
        KubeconfigError::ExecRefused {
            field: "users[].user.exec",
            ..
        }
    ));

    let text = kubeconfig("https://10.0.0.1:6443", "", &user);
    let other = KubeconfigPolicy::default().with_exec_command("gcloud");
    assert!(matches!(
        parse_with(&text, &other),
        Err(KubeconfigError::ExecRefused { .. })
    ));
    let allowed = KubeconfigPolicy::default().with_exec_command("aws");
    assert_eq!(
        parse_with(&text, &allowed)
            .unwrap()
            .auth_info
            .exec
            .unwrap()
            .command
            .unwrap(),
        "aws"
    );
}

#[test]
fn an_auth_provider_is_refused() {
    let user = format!("    auth-provider: {{name: gcp, config: {{cmd-path: /bin/{CANARY}}}}}\n");
    let error = refusal("", &user);
    assert!(
        matches!(error, KubeconfigError::AuthProviderRefused { .. }),
        "{error}"
    );
}

#[test]
fn every_field_that_names_a_file_is_refused() {
    let path = format!("/etc/{CANARY}");
    for (cluster, user, expected) in [
        (
            format!("    certificate-authority: {path}\n"),
            String::new(),
            "clusters[].cluster.certificate-authority",
        ),
        (
            String::new(),
            format!("    client-certificate: {path}\n"),
            "users[].user.client-certificate",
        ),
        (
            String::new(),
            format!("    client-key: {path}\n"),
            "users[].user.client-key",
        ),
        (
            String::new(),
            format!("    tokenFile: {path}\n    token: inline-too\n"),
            "users[].user.tokenFile",
        ),
    ] {
        let user = if user.is_empty() {
            "    token: t\n".to_owned()
        } else {
            user
        };
        match refusal(&cluster, &user) {
            KubeconfigError::FilePathRefused { field, .. } => assert_eq!(field, expected),
            other => panic!("{expected}: {other}"),
        }
    }
}

#[test]
fn a_proxy_is_the_hosts_choice() {
    let cluster = "    proxy-url: http://proxy.example:3128\n";
    assert!(matches!(
        refusal(cluster, "    token: t\n"),
        KubeconfigError::ProxyRefused { .. }
    ));

    let text = kubeconfig("https://10.0.0.1:6443", "", "    token: t\n");
    let policy = KubeconfigPolicy::default().with_proxy("http://user:c4n4ry@gate.example:8080");
    let config = parse_with(&text, &policy).unwrap();
    assert_eq!(config.proxy_url.unwrap().host(), Some("gate.example"));
    assert!(!format!("{policy:?}").contains(CANARY));
}

#[test]
fn plain_http_unverified_tls_and_credentials_in_the_url_are_refused() {
    let token = "    token: t\n";
    let insecure = "    insecure-skip-tls-verify: true\n";
    assert!(matches!(
        refusal(insecure, token),
        KubeconfigError::InsecureTlsRefused { .. }
    ));

    let parse_server =
        |server: &str| parse_with(&kubeconfig(server, "", token), &KubeconfigPolicy::default()).unwrap_err();
    assert!(matches!(
        parse_server("http://10.0.0.1:8080"),
        KubeconfigError::PlainHttpRefused { .. }
    ));
    assert!(matches!(
        parse_server("unix:///run/x"),
        KubeconfigError::Invalid { .. }
    ));
    assert!(matches!(
        parse_server("10.0.0.1:6443"),
        KubeconfigError::Invalid { .. }
    ));
    assert!(matches!(
        parse_server(&format!("https://admin:{CANARY}@10.0.0.1")),
        KubeconfigError::CredentialsInUrl { .. }
    ));
}

#[test]
fn entries_the_context_does_not_use_are_dropped_unread() {
    let mut text = kubeconfig("https://10.0.0.1:6443", "", "    token: t\n");
    text = text.replace(
        "users:\n",
        "users:\n- name: other\n  user: {exec: {command: /bin/sh}}\n",
    );
    let config = parse_with(&text, &KubeconfigPolicy::default()).unwrap();
    assert!(config.auth_info.exec.is_none());
}

#[test]
fn what_is_missing_is_named() {
    for (cut, field) in [
        ("current-context: here\n", "current-context"),
        ("    server: https://10.0.0.1:6443\n", "clusters[].cluster.server"),
    ] {
        let text = kubeconfig(
            "https://10.0.0.1:6443",
            "    tls-server-name: x\n",
            "    token: t\n",
        )
        .replace(cut, "");
        match parse_with(&text, &KubeconfigPolicy::default()) {
            Err(KubeconfigError::Missing { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{field}: {other:?}"),
        }
    }
    let text =
        kubeconfig("https://10.0.0.1:6443", "", "    token: t\n").replace("user: robot", "user: nobody");
    assert!(matches!(
        parse_with(&text, &KubeconfigPolicy::default()),
        Err(KubeconfigError::Missing {
            field: "users[] of the context",
            ..
        })
    ));
}

/// Parsers quote the text they choke on, and kube's errors print paths: nothing of either may come through.
#[test]
fn no_error_repeats_a_value_of_the_file() {
    let token = format!("    token: {CANARY}\n");
    let texts = [
        format!("{CANARY}: [unclosed"),
        format!("clusters: {CANARY}"),
        format!("users:\n- name: a\n  user: {{token: [{CANARY}]}}\n"),
        kubeconfig(&format!("https://{CANARY} bad"), "", &token),
        kubeconfig(
            "https://10.0.0.1",
            &format!("    certificate-authority-data: {CANARY}!\n"),
            &token,
        ),
        kubeconfig(
            "https://10.0.0.1",
            &format!("    certificate-authority: /{CANARY}\n"),
            &token,
        ),
        kubeconfig(
            "https://10.0.0.1",
            &format!("    proxy-url: http://{CANARY}\n"),
            &token,
        ),
        kubeconfig(
            "https://10.0.0.1",
            "",
            &format!("    exec: {{command: {CANARY}}}\n"),
        ),
        kubeconfig("https://10.0.0.1", "", &token)
            .replace("here", CANARY)
            .replacen(CANARY, "x", 1),
    ];
    for text in texts {
        let error = parse_with(&text, &KubeconfigPolicy::default()).expect_err(&text);
        let shown = all_text_of(&error);
        assert!(!shown.contains(CANARY), "{shown}");
        assert!(
            shown.contains("cluster-a") && shown.contains("fleet/cluster-a-kubeconfig"),
            "{shown}"
        );
    }
    let policy = KubeconfigPolicy::default().with_proxy(format!("http://{CANARY} bad"));
    let error = parse_with(&kubeconfig("https://10.0.0.1", "", &token), &policy).unwrap_err();
    assert!(!all_text_of(&error).contains(CANARY));
}

#[test]
fn the_debug_form_of_the_configuration_hides_the_credentials() {
    let user = format!(
        "    token: {CANARY}\n    password: {CANARY}\n    client-key-data: {CANARY}\n    username: u\n"
    );
    let config = parse_with(
        &kubeconfig("https://10.0.0.1", "", &user),
        &KubeconfigPolicy::default(),
    )
    .unwrap();
    assert!(!format!("{config:?}").contains(CANARY));
}

#[test]
fn the_key_is_the_named_one_or_one_of_the_usual_two() {
    let cluster = ClusterName::new("cluster-a").unwrap();
    let secret = |key: &str, bytes: &[u8]| Secret {
        data: Some(BTreeMap::from([(key.to_owned(), ByteString(bytes.to_vec()))])),
        ..Secret::default()
    };
    let at = KubeconfigRef::new(NamespacedName::new("fleet", "a"));
    for key in ["value", "kubeconfig"] {
        assert_eq!(
            kubeconfig_text(&cluster, &at, &secret(key, b"k"))
                .unwrap()
                .expose_secret(),
            "k"
        );
    }
    assert!(matches!(
        kubeconfig_text(&cluster, &at, &secret("config", b"k")),
        Err(KubeconfigError::KeyMissing { looked_for, .. }) if looked_for == ["value", "kubeconfig"]
    ));
    let named = at.clone().with_key("config");
    assert!(kubeconfig_text(&cluster, &named, &secret("config", b"k")).is_ok());
    assert!(matches!(
        kubeconfig_text(&cluster, &named, &secret("value", b"k")),
        Err(KubeconfigError::KeyMissing { looked_for, .. }) if looked_for == ["config"]
    ));
    assert!(matches!(
        kubeconfig_text(&cluster, &at, &secret("value", &[0xff, 0xfe])),
        Err(KubeconfigError::Invalid { .. })
    ));
}
