use std::{fmt, path::PathBuf, time::Duration};

/// What a build is doing; printed by `Display` as one line.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Progress {
    /// Another process builds the same group; its result will be used.
    Waiting {
        /// Name of the group.
        group: &'static str,
    },
    /// A build starts.
    Building {
        /// Name of the program.
        binary: &'static str,
        /// Its version.
        version: &'static str,
        /// Roughly how long it takes on two cores without any cache.
        estimate: Duration,
    },
    /// A build goes on; told about once a minute.
    StillBuilding {
        /// Name of the program.
        binary: &'static str,
        /// Time since its build started.
        elapsed: Duration,
        /// As in [`Progress::Building`].
        estimate: Duration,
    },
    /// A build ended well.
    Built {
        /// Name of the program.
        binary: &'static str,
        /// How long it took.
        elapsed: Duration,
    },
    /// All programs of a module are in the cache now.
    Cached {
        /// Name of the module.
        module: &'static str,
        /// Where they are.
        folder: PathBuf,
    },
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting { group } => write!(f, "waiting for another process that builds the {group} group"),
            Self::Building {
                binary,
                version,
                estimate,
            } => {
                write!(
                    f,
                    "building {binary} {version}, once; about {} on two cores without a cache",
                    Rough(*estimate)
                )
            }
            Self::StillBuilding {
                binary,
                elapsed,
                estimate,
            } => {
                write!(
                    f,
                    "building {binary}: {} of about {}",
                    Rough(*elapsed),
                    Rough(*estimate)
                )
            }
            Self::Built { binary, elapsed } => write!(f, "built {binary} in {}", Rough(*elapsed)),
            Self::Cached { module, folder } => write!(f, "{module} is kept in {}", folder.display()),
        }
    }
}

/// Minutes and seconds, for people.
struct Rough(Duration);

impl fmt::Display for Rough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.as_secs() / 60, self.0.as_secs() % 60) {
            (0, seconds) => write!(f, "{seconds} s"),
            (minutes, 0) => write!(f, "{minutes} min"),
            (minutes, seconds) => write!(f, "{minutes} min {seconds} s"),
        }
    }
}
