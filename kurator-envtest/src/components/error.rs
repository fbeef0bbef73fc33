use std::{io, path::PathBuf};

/// Why components cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `KUBEBUILDER_ASSETS` is set but its folder lacks a program.
    #[error("KUBEBUILDER_ASSETS={} holds no {binary}: put it there, or unset the variable", .folder.display())]
    AssetMissing {
        /// Name of the program.
        binary: String,
        /// Value of the variable.
        folder: PathBuf,
    },
    /// `go build` failed.
    #[error("failed to build {binary} ({status}); full log in {}; it ends:\n{tail}", .log.display())]
    Build {
        /// Name of the program.
        binary: &'static str,
        /// How the command ended.
        status: String,
        /// Its complete output.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// There is no Go on the search path.
    #[error(
        "{binary} is not in the cache {} and there is no Go to build it with: install Go {needs} or newer (https://go.dev/dl) and have `go` on PATH, or set KURATOR_ENVTEST_CACHE to a filled cache",
        .cache.display()
    )]
    GoMissing {
        /// The first program that is needed.
        binary: &'static str,
        /// Where it was looked for.
        cache: PathBuf,
        /// The oldest Go that will do.
        needs: &'static str,
    },
    /// The Go that was found cannot build the module.
    #[error(
        "{binary} needs Go {needs} or newer and this one will not do ({found}): install a newer Go, or let it fetch one with GOTOOLCHAIN=auto (it is `local` in some distributions)"
    )]
    GoTooOld {
        /// The first program that is needed.
        binary: &'static str,
        /// What Go said.
        found: String,
        /// The oldest Go that will do.
        needs: &'static str,
    },
    /// A file operation failed.
    #[error("failed to {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// No environment variable says where a cache may be.
    #[error("no folder for the cache: set KURATOR_ENVTEST_CACHE, XDG_CACHE_HOME or HOME")]
    NoCacheFolder,
    /// No group has such a program, or it was not asked for.
    #[error("no component is called {name}")]
    UnknownBinary {
        /// The name asked for.
        name: String,
    },
    /// No program that was asked for brings such files.
    #[error("no component brings files called {name}")]
    UnknownFiles {
        /// The name asked for.
        name: String,
    },
}

impl Error {
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
