use std::{
    env,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{
    Error,
    catalog::{Group, Module},
};

/// Programs that `KUBEBUILDER_ASSETS` may replace.
const ASSETS: [&str; 2] = ["etcd", "kube-apiserver"];

/// Where components are kept and what builds them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Root of the cache.
    pub cache: PathBuf,
    /// Folder of an `etcd` and a `kube-apiserver` to use in place of ours.
    pub assets: Option<PathBuf>,
    /// The Go command.
    pub go: PathBuf,
}

impl Settings {
    /// Keep components in `cache`, build with the `go` on the search path.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self {
            cache: cache.into(),
            assets: None,
            go: "go".into(),
        }
    }

    /// From `KURATOR_ENVTEST_CACHE`, `XDG_CACHE_HOME`, `HOME` and `KUBEBUILDER_ASSETS`; an empty variable
    /// counts as unset.
    ///
    /// # Errors
    /// [`Error::NoCacheFolder`] when none of the first three is set.
    pub fn from_env() -> Result<Self, Error> {
        let folder = |name| {
            env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let cache = folder("KURATOR_ENVTEST_CACHE")
            .or_else(|| folder("XDG_CACHE_HOME").map(|home| home.join("kurator-envtest")))
            .or_else(|| folder("HOME").map(|home| home.join(".cache/kurator-envtest")))
            .ok_or(Error::NoCacheFolder)?;
        Ok(Self {
            assets: folder("KUBEBUILDER_ASSETS"),
            ..Self::new(cache)
        })
    }

    /// Use the `etcd` and `kube-apiserver` of this folder.
    #[must_use]
    pub fn with_assets(mut self, folder: impl Into<PathBuf>) -> Self {
        self.assets = Some(folder.into());
        self
    }

    /// Build with this Go command.
    #[must_use]
    pub fn with_go(mut self, command: impl Into<PathBuf>) -> Self {
        self.go = command.into();
        self
    }

    pub(super) fn asset(&self, binary: &str) -> Result<Option<PathBuf>, Error> {
        let Some(folder) = self.assets.as_ref().filter(|_| ASSETS.contains(&binary)) else {
            return Ok(None);
        };
        let path = folder.join(binary);
        if path.is_file() {
            Ok(Some(path))
        } else {
            Err(Error::AssetMissing {
                binary: binary.into(),
                folder: folder.clone(),
            })
        }
    }

    pub(super) fn group_folder(&self, group: Group) -> PathBuf {
        self.cache.join(group.name())
    }

    pub(super) fn module_folder(&self, group: Group, module: &Module) -> PathBuf {
        self.group_folder(group).join(key(module))
    }
}

/// Names the result of a build: everything that decides its bytes is in it, but for the Go release.
fn key(module: &Module) -> String {
    let mut digest = Sha256::new();
    let mut add = |text: &str| {
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text);
    };
    for text in [env::consts::OS, env::consts::ARCH, module.go_mod, module.go_sum] {
        add(text);
    }
    for (path, text) in module.sources {
        add(path);
        add(text);
    }
    for binary in module.binaries {
        for text in [binary.name, binary.package, binary.ldflags] {
            add(text);
        }
        binary.flags.iter().for_each(|flag| add(flag));
    }
    for files in module.files {
        for text in [files.name, files.module, files.from, files.suffix] {
            add(text);
        }
    }
    let digest = digest
        .finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>();
    format!("{}-{}-{digest}", module.name, module.version)
}

/// The folder appears by a rename, so it is whole unless someone took files out of it.
pub(super) fn is_complete(folder: &Path, module: &Module) -> bool {
    module
        .binaries
        .iter()
        .all(|binary| folder.join(binary.name).is_file())
        && module.files.iter().all(|files| folder.join(files.name).is_dir())
}
