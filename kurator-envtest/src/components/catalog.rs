use std::{fmt, time::Duration};

use super::Error;

/// A set of programs that a kind of test needs.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Group {
    /// etcd, kube-apiserver, kube-controller-manager, kube-scheduler, and KWOK with its stage files.
    Kubernetes,
}

impl Group {
    /// Every group there is.
    pub const ALL: &'static [Self] = &[Self::Kubernetes];

    /// Name of the group, as it appears in the cache and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
        }
    }

    /// Roughly how long a build without any cache takes on two cores.
    pub fn estimate(self) -> Duration {
        self.modules()
            .iter()
            .flat_map(|module| module.binaries)
            .map(|binary| Duration::from_secs(binary.seconds))
            .sum()
    }

    pub(super) fn modules(self) -> &'static [Module] {
        match self {
            Self::Kubernetes => KUBERNETES,
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One Go module of ours that pins programs of the same dependency set.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    pub(super) go_mod: &'static str,
    pub(super) go_sum: &'static str,
    /// Go sources of ours beside `go.mod`, for programs that need a main of their own: (path, text).
    pub(super) sources: &'static [(&'static str, &'static str)],
    pub(super) binaries: &'static [Binary],
    pub(super) files: &'static [Files],
}

#[derive(Debug)]
pub(super) struct Binary {
    pub(super) name: &'static str,
    pub(super) package: &'static str,
    pub(super) version: &'static str,
    /// Further arguments of `go build`; they may override the common ones.
    pub(super) flags: &'static [&'static str],
    /// Appended to `-s -w`.
    pub(super) ldflags: &'static str,
    /// Rough, for progress lines. Measured, with downloads, on two cores: 7 min 21 s for all of the control plane
    /// and 2 min for KWOK; how the first divides depends on what its programs share.
    pub(super) seconds: u64,
}

/// Data files copied out of a dependency: `from` is a folder of `module`, `name` the folder in the cache.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) name: &'static str,
    pub(super) module: &'static str,
    pub(super) from: &'static str,
    /// Only files that end so.
    pub(super) suffix: &'static str,
}

/// Without these the programs call themselves v0.0.0, and clients that look at the version go wrong.
const KUBERNETES_LDFLAGS: &str = "-X k8s.io/component-base/version.gitVersion=v1.37.2 \
     -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37";

const KUBERNETES: &[Module] = &[
    Module {
        name: "kubernetes",
        version: "v1.37.2",
        go_mod: include_str!("../../components/kubernetes/go.mod"),
        go_sum: include_str!("../../components/kubernetes/go.sum"),
        sources: &[],
        binaries: &[
            Binary {
                name: "etcd",
                package: "go.etcd.io/etcd/server/v3",
                version: "v3.7.3",
                flags: &[],
                ldflags: "",
                seconds: 60,
            },
            Binary {
                name: "kube-apiserver",
                package: "k8s.io/kubernetes/cmd/kube-apiserver",
                version: "v1.37.2",
                flags: &[],
                ldflags: KUBERNETES_LDFLAGS,
                seconds: 300,
            },
            Binary {
                name: "kube-controller-manager",
                package: "k8s.io/kubernetes/cmd/kube-controller-manager",
                version: "v1.37.2",
                flags: &[],
                ldflags: KUBERNETES_LDFLAGS,
                seconds: 100,
            },
            Binary {
                name: "kube-scheduler",
                package: "k8s.io/kubernetes/cmd/kube-scheduler",
                version: "v1.37.2",
                flags: &[],
                ldflags: KUBERNETES_LDFLAGS,
                seconds: 10,
            },
        ],
        files: &[],
    },
    Module {
        name: "kwok",
        version: "v0.8.0",
        go_mod: include_str!("../../components/kwok/go.mod"),
        go_sum: include_str!("../../components/kwok/go.sum"),
        sources: &[],
        binaries: &[Binary {
            name: "kwok",
            package: "sigs.k8s.io/kwok/cmd/kwok",
            version: "v0.8.0",
            flags: &[],
            ldflags: "",
            seconds: 120,
        }],
        files: &[Files {
            name: "kwok-stages",
            module: "sigs.k8s.io/kwok",
            from: "kustomize/stage",
            suffix: ".yaml",
        }],
    },
];

pub(super) fn find(name: &str) -> Result<(Group, &'static Module, &'static Binary), Error> {
    Group::ALL
        .iter()
        .flat_map(|group| group.modules().iter().map(move |module| (*group, module)))
        .find_map(|(group, module)| {
            let binary = module.binaries.iter().find(|binary| binary.name == name)?;
            Some((group, module, binary))
        })
        .ok_or_else(|| Error::UnknownBinary { name: name.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pinned_version_is_the_one_in_its_go_mod() {
        for module in Group::ALL.iter().flat_map(|group| group.modules()) {
            assert!(module.go_mod.contains(module.version), "{}", module.name);
            for binary in module.binaries {
                assert!(module.go_mod.contains(binary.version), "{}", binary.name);
            }
        }
    }

    #[test]
    fn no_two_groups_claim_the_same_binary() {
        let mut names = Group::ALL
            .iter()
            .flat_map(|group| group.modules())
            .flat_map(|module| module.binaries)
            .map(|binary| binary.name)
            .collect::<Vec<_>>();
        names.sort_unstable();
        let total = names.len();
        names.dedup();
        assert_eq!(names.len(), total);
    }
}
