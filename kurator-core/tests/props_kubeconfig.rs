//! However a kubeconfig is broken, nothing of it comes out of the refusal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::error::Error;

use kurator_core::{
    kubeconfig::{KubeconfigPolicy, KubeconfigSource, parse},
    names::{ClusterName, NamespacedName},
};
use proptest::prelude::*;
use secrecy::SecretString;

const CANARY: &str = "c4n4ry";

/// A kubeconfig whose every value that may be secret is the canary.
fn kubeconfig() -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters:\n- name: k\n  cluster:\n    server: https://10.0.0.1:6443\n\
         \x20   certificate-authority-data: {CANARY}\n    tls-server-name: {CANARY}\n\
         users:\n- name: u\n  user:\n    token: {CANARY}\n    username: {CANARY}\n    password: {CANARY}\n\
         \x20   client-key-data: {CANARY}\n    client-certificate-data: {CANARY}\n\
         contexts:\n- name: c\n  context:\n    cluster: k\n    user: u\n    namespace: {CANARY}\n"
    )
}

/// What a hand or a disk does to a file.
#[derive(Clone, Debug)]
enum Damage {
    Cut(usize),
    DropLine(usize),
    Insert(usize, &'static str),
    TwiceLine(usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let text = prop::sample::select(vec![
        "[",
        "{",
        "'",
        "\"",
        ":",
        "- ",
        "\t",
        "&a ",
        "*a ",
        "!!int ",
        "\u{0}",
        "---\n",
        "exec: ",
        "tokenFile: ",
        "http:",
    ]);
    prop_oneof![
        any::<usize>().prop_map(Damage::Cut),
        any::<usize>().prop_map(Damage::DropLine),
        (any::<usize>(), text).prop_map(|(at, text)| Damage::Insert(at, text)),
        any::<usize>().prop_map(Damage::TwiceLine),
    ]
}

fn apply(text: &str, damage: &Damage) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let line = |at: usize| at % lines.len().max(1);
    match *damage {
        Damage::Cut(at) => text.chars().take(at % (text.len() + 1)).collect(),
        Damage::Insert(at, inserted) => {
            let at = at % (text.chars().count() + 1);
            text.chars()
                .take(at)
                .chain(inserted.chars())
                .chain(text.chars().skip(at))
                .collect()
        }
        Damage::DropLine(at) => {
            let kept = lines.iter().enumerate().filter(|(index, _)| *index != line(at));
            kept.map(|(_, line)| format!("{line}\n")).collect()
        }
        Damage::TwiceLine(at) => lines
            .iter()
            .enumerate()
            .map(|(index, text)| format!("{text}\n").repeat(if index == line(at) { 2 } else { 1 }))
            .collect(),
    }
}

proptest! {
    #[test]
    fn no_refusal_repeats_a_value(damages in prop::collection::vec(damage(), 1..5), files in any::<bool>()) {
        let text = damages.iter().fold(kubeconfig(), |text, damage| apply(&text, damage));
        let cluster: ClusterName = "cluster-a".parse().unwrap();
        let place = NamespacedName::new("fleet", "kubeconfig").into();
        let policy = KubeconfigPolicy::default();
        let policy = if files { policy.with_file_paths() } else { policy };
        let source = KubeconfigSource { cluster: &cluster, place: &place };
        let shown = match parse(source, &SecretString::from(text.as_str()), &policy) {
            Err(error) => {
                let mut shown = format!("{error} {error:?}");
                let mut inner: Option<&dyn Error> = error.source();
                while let Some(error) = inner {
                    shown += &format!("{error} {error:?}");
                    inner = error.source();
                }
                shown
            }
            // Names of users, namespaces and servers are no credentials; the rest is.
            Ok(config) => format!("{:?} {:?} {:?}", config.auth_info.token, config.auth_info.password, config.auth_info.client_key_data),
        };
        prop_assert!(!shown.contains(CANARY), "{shown}\n{text}");
    }
}
