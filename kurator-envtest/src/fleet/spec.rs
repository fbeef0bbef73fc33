use std::collections::BTreeMap;

use super::{Error, Nodes, Part, Velero};

/// How fast the controller manager of a member works.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Controllers {
    /// As Kubernetes ships it: 20 requests a second, one worker for disruption budgets.
    #[default]
    Stock,
    /// `--kube-api-qps=500 --kube-api-burst=1000 --concurrent-disruption-syncs=10`, as large providers set it.
    Tuned,
}

/// How KWOK plays the life of pods.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Pods {
    /// Ready as soon as they are bound, gone as soon as they are deleted.
    #[default]
    Fast,
    /// Through all steps of a container's life, each after about a second; annotations such as
    /// `pod-delete.stage.kwok.x-k8s.io/delay` change the delay of a step.
    General,
}

impl Pods {
    /// Its folder among the stages of KWOK.
    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::Fast => "pod/fast",
            Self::General => "pod/general",
        }
    }
}

/// What a member consists of. Alone it is etcd and an API server.
///
/// ```
/// use kurator_envtest::{Controllers, MemberSpec, Nodes};
///
/// let spec = MemberSpec::new("east")
///     .with_controllers(Controllers::Stock)
///     .with_scheduler()
///     .with_nodes(Nodes::new(3).with_capacity("nvidia.com/gpu", "4").with_zones(["a", "b", "c"]));
/// assert_eq!(spec.name(), "east");
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct MemberSpec {
    pub(super) name: String,
    pub(super) controllers: Option<Controllers>,
    pub(super) scheduler: bool,
    pub(super) kwok: Option<Kwok>,
    pub(super) feature_gates: BTreeMap<String, bool>,
    pub(super) runtime_config: Vec<String>,
    pub(super) flags: BTreeMap<Part, Vec<String>>,
    pub(super) port: Option<u16>,
    pub(super) velero: Option<Velero>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Kwok {
    /// Whether pods of its nodes execute commands.
    pub(super) exec: bool,
    pub(super) nodes: Vec<Nodes>,
    pub(super) config: Vec<String>,
    pub(super) without: Vec<String>,
    pub(super) pods: Pods,
}

impl MemberSpec {
    /// A member with etcd and an API server. The name must be a DNS label.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            controllers: None,
            scheduler: false,
            kwok: None,
            feature_gates: BTreeMap::new(),
            runtime_config: Vec::new(),
            flags: BTreeMap::new(),
            port: None,
            velero: None,
        }
    }

    /// Name of the member.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Run kube-controller-manager.
    pub fn with_controllers(mut self, controllers: Controllers) -> Self {
        self.controllers = Some(controllers);
        self
    }

    /// Run kube-scheduler.
    pub fn with_scheduler(mut self) -> Self {
        self.scheduler = true;
        self
    }

    /// Run KWOK, which plays the kubelet of every node there is or will be.
    pub fn with_kwok(mut self) -> Self {
        self.kwok.get_or_insert_default();
        self
    }

    /// Run KWOK and start with these nodes, Ready. May be called again for nodes of another kind.
    pub fn with_nodes(mut self, nodes: Nodes) -> Self {
        self.kwok.get_or_insert_default().nodes.push(nodes);
        self
    }

    /// Run KWOK with a further document of its configuration, such as a `Stage`.
    pub fn with_kwok_config(mut self, yaml: impl Into<String>) -> Self {
        self.kwok.get_or_insert_default().config.push(yaml.into());
        self
    }

    /// Run KWOK so that `exec` into a pod runs the command, as a process on this machine in the folder
    /// [`crate::Member::exec_folder`], which all pods of the member share. Hooks of Velero run so.
    pub fn with_exec(mut self) -> Self {
        self.kwok.get_or_insert_default().exec = true;
        self
    }

    /// Run a Velero server. The member is complete when its storage location is Available. The object store it
    /// needs is one for the fleet: [`crate::Fleet::object_store`].
    pub fn with_velero(mut self, velero: Velero) -> Self {
        self.velero = Some(velero);
        self
    }

    /// Run KWOK with this life of pods.
    pub fn with_pods(mut self, pods: Pods) -> Self {
        self.kwok.get_or_insert_default().pods = pods;
        self
    }

    /// Run KWOK without one of its stages, by name. Pods of Jobs run until they are deleted without
    /// `pod-complete`; pods stay Terminating without `pod-delete`.
    pub fn without_stage(mut self, name: impl Into<String>) -> Self {
        self.kwok.get_or_insert_default().without.push(name.into());
        self
    }

    /// Switch a feature gate in API server, controller manager and scheduler.
    pub fn with_feature_gate(mut self, gate: impl Into<String>, enabled: bool) -> Self {
        self.feature_gates.insert(gate.into(), enabled);
        self
    }

    /// Serve an API that is off by default, such as `scheduling.k8s.io/v1alpha1=true`.
    pub fn with_runtime_config(mut self, api: impl Into<String>) -> Self {
        self.runtime_config.push(api.into());
        self
    }

    /// A further flag of a part, such as `--max-requests-inflight=20`. It replaces ours of the same name.
    pub fn with_flag(mut self, part: Part, flag: impl Into<String>) -> Self {
        self.flags.entry(part).or_default().push(flag.into());
        self
    }

    /// Port the API server tries first, on loopback. When it is taken another one is used, as without this.
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = Part> {
        [
            Some(Part::Etcd),
            Some(Part::ApiServer),
            self.controllers.map(|_| Part::ControllerManager),
            self.scheduler.then_some(Part::Scheduler),
            self.kwok.as_ref().map(|_| Part::Kwok),
            self.velero.as_ref().map(|_| Part::Velero),
        ]
        .into_iter()
        .flatten()
    }

    /// Names of all programs it needs, beyond those of its parts too.
    pub(super) fn programs(&self) -> impl Iterator<Item = &'static str> {
        let beside = self
            .velero
            .as_ref()
            .map(|_| ["velero-plugin-for-aws", "versitygw"]);
        let parts = self.parts().map(Part::name);
        parts.chain(beside.into_iter().flatten())
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let name = self.name.as_str();
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=63).contains(&name.len())
            && name.bytes().all(inner)
            && !name.starts_with('-')
            && !name.ends_with('-')
        {
            Ok(())
        } else {
            Err(Error::MemberName { member: name.into() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_leave_its_folder_is_refused() {
        for name in ["", "..", "a/b", "A", "-a", "a-", "a b"] {
            assert!(MemberSpec::new(name).check().is_err(), "{name}");
        }
        MemberSpec::new("eu-west-1").check().unwrap();
    }
}
