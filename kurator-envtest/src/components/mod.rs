//! The programs that members run: found in a cache, or built from Go modules this crate pins.
//!
//! A [`Group`] is a set of programs that a kind of test needs. [`Components::ensure`] returns their paths and
//! builds what is missing with `go build` from the modules under `components/` of this crate (`go.mod` and
//! `go.sum` are compiled in, so it works from anywhere). No container, no download of a prebuilt binary.
//!
//! # Where they are kept
//! In `$KURATOR_ENVTEST_CACHE`, else `$XDG_CACHE_HOME/kurator-envtest`, else `$HOME/.cache/kurator-envtest`, in
//! one folder a module whose name holds its version and a digest of all that decides the bytes: a new version
//! never overwrites an old one. A build happens beside that folder and is renamed into place, under a file
//! lock: a killed build leaves nothing that looks complete, and processes that start together build once.
//!
//! `KUBEBUILDER_ASSETS`, when set, names a folder with the `etcd` and `kube-apiserver` to use instead.
//!
//! # Needs
//! Go (see [`Error::GoMissing`]) and a module proxy, on first use only. The Go build cache of these builds is a
//! folder of ours and is removed afterwards: it would be several GB. The module cache stays the user's.
//!
//! ```no_run
//! use kurator_envtest::components::{Components, Group};
//!
//! let components = Components::ensure(&[Group::Kubernetes], &mut |step| eprintln!("{step}"))?;
//! println!("{}", components.binary("kube-apiserver")?.display());
//! # Ok::<(), kurator_envtest::components::Error>(())
//! ```

mod build;
mod cache;
mod catalog;
mod error;
mod progress;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

pub use self::{cache::Settings, catalog::Group, error::Error, progress::Progress};

/// Paths of programs and data files that are ready to use.
#[derive(Clone, Debug, Default)]
pub struct Components {
    binaries: BTreeMap<&'static str, PathBuf>,
    folders: BTreeMap<&'static str, PathBuf>,
}

impl Components {
    /// Every program of `groups`, built now if the cache has none. `progress` is told what happens and how
    /// long it may take.
    ///
    /// # Errors
    /// [`Error`]: no cache folder can be named, Go is missing or too old, or a build failed.
    pub fn ensure(groups: &[Group], progress: &mut dyn FnMut(Progress)) -> Result<Self, Error> {
        Self::ensure_in(&Settings::from_env()?, groups, progress)
    }

    /// [`Components::ensure`] with explicit settings in place of the environment.
    ///
    /// # Errors
    /// As [`Components::ensure`].
    pub fn ensure_in(
        settings: &Settings,
        groups: &[Group],
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self, Error> {
        let names = groups
            .iter()
            .flat_map(|group| group.modules())
            .flat_map(|module| module.binaries)
            .map(|binary| binary.name)
            .collect::<BTreeSet<_>>();
        Self::ensure_binaries(settings, &names.into_iter().collect::<Vec<_>>(), progress)
    }

    /// Only the named programs, with whatever else their module holds. Members without a controller manager
    /// and with `KUBEBUILDER_ASSETS` set need nothing built.
    ///
    /// # Errors
    /// As [`Components::ensure`], and [`Error::UnknownBinary`].
    pub fn ensure_binaries(
        settings: &Settings,
        names: &[&str],
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self, Error> {
        let mut found = Self::default();
        for name in names {
            let (group, module, binary) = catalog::find(name)?;
            if found.binaries.contains_key(binary.name) {
                continue;
            }
            if let Some(path) = settings.asset(binary.name)? {
                found.binaries.insert(binary.name, path);
                continue;
            }
            let folder = build::ensure_module(settings, group, module, progress)?;
            for built in module.binaries {
                if settings.asset(built.name)?.is_none() {
                    found.binaries.insert(built.name, folder.join(built.name));
                }
            }
            for files in module.files {
                found.folders.insert(files.name, folder.join(files.name));
            }
        }
        Ok(found)
    }

    /// Path of a program, by the name of its binary.
    ///
    /// # Errors
    /// [`Error::UnknownBinary`] when it was not asked for.
    pub fn binary(&self, name: &str) -> Result<&Path, Error> {
        self.binaries
            .get(name)
            .map(PathBuf::as_path)
            .ok_or_else(|| Error::UnknownBinary { name: name.into() })
    }

    /// Folder of data files that came with a program, such as `kwok-stages`.
    ///
    /// # Errors
    /// [`Error::UnknownFiles`] when no program asked for brings them.
    pub fn files(&self, name: &str) -> Result<&Path, Error> {
        self.folders
            .get(name)
            .map(PathBuf::as_path)
            .ok_or_else(|| Error::UnknownFiles { name: name.into() })
    }

    /// All programs found, by name.
    pub fn binaries(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        self.binaries.iter().map(|(name, path)| (*name, path.as_path()))
    }
}
