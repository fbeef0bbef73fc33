//! Command lines of the parts.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    Controllers, Error, MemberSpec, Part, Velero, credentials::Credentials, nodes::SILENT, spec::Kwok,
};
use crate::components::Components;

/// Stage folders of KWOK that make nodes Ready and keep their leases.
const NODE_STAGES: [&str; 2] = ["node/fast", "node/heartbeat-with-lease"];

#[derive(Debug)]
pub(super) struct Layout<'a> {
    pub(super) spec: &'a MemberSpec,
    pub(super) folder: &'a Path,
    pub(super) credentials: &'a Credentials,
    pub(super) components: &'a Components,
    /// Where KWOK answers to `exec`, if it does.
    pub(super) exec_port: u16,
}

impl Layout<'_> {
    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// A kubeconfig of the control plane itself, past the link of the tests.
    pub(super) fn inner_kubeconfig(&self) -> PathBuf {
        self.folder.join("control-plane.kubeconfig")
    }

    pub(super) fn args(&self, part: Part, port: u16) -> Result<Vec<String>, Error> {
        let mut args = match part {
            Part::ApiServer => self.api_server(port),
            Part::ControllerManager => self.controller_manager(),
            Part::Etcd => self.etcd(),
            Part::Kwok => self.kwok()?,
            Part::Scheduler => self.scheduler(),
            Part::Velero => self.velero()?,
        };
        let gated = matches!(part, Part::ApiServer | Part::ControllerManager | Part::Scheduler);
        if gated && !self.spec.feature_gates.is_empty() {
            let gates = self
                .spec
                .feature_gates
                .iter()
                .map(|(gate, on)| format!("{gate}={on}"));
            args.push(format!("--feature-gates={}", gates.collect::<Vec<_>>().join(",")));
        }
        for flag in self.spec.flags.get(&part).into_iter().flatten() {
            args.retain(|ours| name_of(ours) != name_of(flag));
            args.push(flag.clone());
        }
        Ok(args)
    }

    /// What a part is told by its environment.
    pub(super) fn env(&self, part: Part) -> Vec<(String, String)> {
        if part != Part::Velero {
            return Vec::new();
        }
        let pairs = [
            ("AWS_SHARED_CREDENTIALS_FILE", self.path("velero-credentials")),
            ("KUBECONFIG", self.inner_kubeconfig().display().to_string()),
            ("TMPDIR", self.path("velero-tmp")),
            ("VELERO_NAMESPACE", Velero::NAMESPACE.to_owned()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).into()
    }

    fn velero(&self) -> Result<Vec<String>, Error> {
        let plugin = self
            .components
            .binary("velero-plugin-for-aws")
            .map_err(|source| Error::Components { source })?;
        let plugins = plugin.parent().unwrap_or(plugin);
        Ok(vec![
            "server".into(),
            format!("--namespace={}", Velero::NAMESPACE),
            format!("--plugin-dir={}", plugins.display()),
            "--metrics-address=127.0.0.1:0".into(),
            // None.
            "--profiler-address=".into(),
        ])
    }

    /// Unix sockets: no port to lose, and no other API server can get at the data.
    fn etcd(&self) -> Vec<String> {
        let client = format!("unix://{}", self.path("etcd.sock"));
        let peer = format!("unix://{}", self.path("peer.sock"));
        vec![
            "--name=member".into(),
            format!("--data-dir={}", self.path("etcd")),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=member={peer}"),
            "--unsafe-no-fsync".into(),
            "--log-level=warn".into(),
        ]
    }

    fn api_server(&self, port: u16) -> Vec<String> {
        let file = |name| self.credentials.file(name);
        let mut args = vec![
            format!("--etcd-servers=unix://{}", self.path("etcd.sock")),
            "--bind-address=127.0.0.1".into(),
            "--advertise-address=127.0.0.1".into(),
            // A loopback address is not allowed in the endpoints of the `kubernetes` Service.
            "--endpoint-reconciler-type=none".into(),
            format!("--secure-port={port}"),
            format!("--tls-cert-file={}", file("server.crt")),
            format!("--tls-private-key-file={}", file("server.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--cert-dir={}", self.path("certs")),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
            format!("--service-account-key-file={}", file("accounts.pub")),
            format!("--service-account-signing-key-file={}", file("accounts.key")),
            format!("--token-auth-file={}", file("tokens.csv")),
            "--authorization-mode=RBAC".into(),
            "--service-cluster-ip-range=10.0.0.0/16".into(),
            "--allow-privileged=true".into(),
            // Pods of tests name no service account, and none exists without the controller manager.
            "--disable-admission-plugins=ServiceAccount".into(),
        ];
        if !self.spec.runtime_config.is_empty() {
            args.push(format!("--runtime-config={}", self.spec.runtime_config.join(",")));
        }
        args
    }

    fn controller_manager(&self) -> Vec<String> {
        let mut args = vec![
            format!("--kubeconfig={}", self.inner_kubeconfig().display()),
            "--leader-elect=false".into(),
            "--use-service-account-credentials=false".into(),
            "--secure-port=0".into(),
            format!(
                "--service-account-private-key-file={}",
                self.credentials.file("accounts.key")
            ),
            format!("--root-ca-file={}", self.credentials.file("ca.crt")),
            format!("--cluster-signing-cert-file={}", self.credentials.file("ca.crt")),
            format!("--cluster-signing-key-file={}", self.credentials.file("ca.key")),
        ];
        if self.spec.controllers == Some(Controllers::Tuned) {
            args.extend(
                [
                    "--kube-api-qps=500",
                    "--kube-api-burst=1000",
                    "--concurrent-disruption-syncs=10",
                ]
                .map(String::from),
            );
        }
        args
    }

    fn scheduler(&self) -> Vec<String> {
        vec![
            format!("--kubeconfig={}", self.inner_kubeconfig().display()),
            "--leader-elect=false".into(),
            "--secure-port=0".into(),
        ]
    }

    fn kwok(&self) -> Result<Vec<String>, Error> {
        let config = self.folder.join("kwok.yaml");
        let kwok = self.spec.kwok.clone().unwrap_or_default();
        fs::write(&config, self.kwok_config(&kwok)?).map_err(Error::io("write", &config))?;
        let mut args = vec![
            format!("--kubeconfig={}", self.inner_kubeconfig().display()),
            format!("--config={}", config.display()),
            "--manage-all-nodes=false".into(),
            // The API server tells KWOK that a node is deleted when it no longer matches.
            format!("--manage-nodes-with-label-selector=!{SILENT}"),
            "--node-lease-duration-seconds=40".into(),
        ];
        if kwok.exec {
            args.push("--node-ip=127.0.0.1".into());
            args.push(format!("--node-port={}", self.exec_port));
        }
        Ok(args)
    }

    fn kwok_config(&self, kwok: &Kwok) -> Result<String, Error> {
        let stages = self
            .components
            .files("kwok-stages")
            .map_err(|source| Error::Components { source })?;
        let mut documents = Vec::new();
        for name in NODE_STAGES.into_iter().chain([kwok.pods.folder()]) {
            let folder = stages.join(name);
            let entries = fs::read_dir(&folder).map_err(Error::io("read", &folder))?;
            let mut paths = entries
                .filter_map(Result::ok)
                .map(|entry| entry.path())
                .collect::<Vec<_>>();
            paths.sort();
            for path in paths {
                let name = path
                    .file_stem()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                // A stage file bears the name of its stage; the other file of each folder is of kustomize.
                if path.is_file() && name != "kustomization" && !kwok.without.contains(&name) {
                    documents.push(fs::read_to_string(&path).map_err(Error::io("read", &path))?);
                }
            }
        }
        if kwok.exec {
            documents.push(format!(
                "apiVersion: kwok.x-k8s.io/v1alpha1\nkind: ClusterExec\nmetadata: {{name: envtest}}\n\
                 spec: {{execs: [{{local: {{workDir: {}}}}}]}}",
                self.path("exec")
            ));
        }
        documents.extend(kwok.config.iter().cloned());
        Ok(documents.join("\n---\n"))
    }
}

fn name_of(flag: &str) -> &str {
    flag.split_once('=').map_or(flag, |(name, _)| name)
}
