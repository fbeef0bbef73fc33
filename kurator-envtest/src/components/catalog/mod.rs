mod kubernetes;
mod velero;

use std::{fmt, time::Duration};

use super::Error;

/// A set of programs that a kind of test needs.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Group {
    /// etcd, kube-apiserver, kube-controller-manager, kube-scheduler, and KWOK with its stage files.
    Kubernetes,
    /// The Velero server with its definitions, its plug-in for S3, and versitygw, an S3 server on a folder.
    Velero,
}

impl Group {
    /// Every group there is.
    pub const ALL: &'static [Self] = &[Self::Kubernetes, Self::Velero];

    /// Name of the group, as it appears in the cache and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Velero => "velero",
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
            Self::Kubernetes => kubernetes::MODULES,
            Self::Velero => velero::MODULES,
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
