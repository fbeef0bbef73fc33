use std::{io, path::PathBuf, time::Duration};

use super::Part;
use crate::components;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a fleet, or a fault in it, did not come about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A request to a member failed.
    #[error("failed to {action} on member {member}")]
    Api {
        /// Name of the member.
        member: String,
        /// What was tried.
        action: String,
        /// The cause.
        #[source]
        source: Source,
    },
    /// Keys or certificates of a member cannot be made.
    #[error("failed to make the certificates of member {member}")]
    Certificate {
        /// Name of the member.
        member: String,
        /// The cause.
        #[source]
        source: Source,
    },
    /// The programs cannot be had.
    #[error("failed to get the programs of a member")]
    Components {
        /// The cause.
        #[source]
        source: components::Error,
    },
    /// Two members have one name.
    #[error("two members are called {member}: give each a name of its own")]
    DuplicateMember {
        /// The name.
        member: String,
    },
    /// A part ended although nobody stopped it.
    #[error("{part} of member {member} ended ({status}); its log {} ends:\n{tail}", .log.display())]
    Exited {
        /// Name of the member.
        member: String,
        /// Which of its processes.
        part: Part,
        /// How it ended.
        status: String,
        /// Its log file, removed with the fleet.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
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
    /// A manifest cannot be read.
    #[error("document {document} of the manifest cannot be read: {reason}")]
    Manifest {
        /// Its place in the text, from 1.
        document: usize,
        /// What is wrong.
        reason: String,
    },
    /// A name that cannot be part of a folder and a kubeconfig.
    #[error(
        "{member:?} cannot be the name of a member: use lower-case letters, digits and dashes, at most 63"
    )]
    MemberName {
        /// The name given.
        member: String,
    },
    /// No member of the fleet has Velero, so nothing was started that keeps objects.
    #[error("the fleet has no object store: give one of its members Velero in its MemberSpec")]
    NoObjectStore,
    /// The member was started without that part.
    #[error("member {member} has no {part}: ask for it in its MemberSpec")]
    NoSuchPart {
        /// Name of the member.
        member: String,
        /// The part asked for.
        part: Part,
    },
    /// The object store of the fleet cannot be started, signalled or reached.
    #[error("failed to {action} the object store of the fleet")]
    ObjectStore {
        /// What was tried.
        action: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The object store of the fleet ended although nobody stopped it.
    #[error("the object store of the fleet ended ({status}); its log {} ends:\n{tail}", .log.display())]
    ObjectStoreExited {
        /// How it ended.
        status: String,
        /// Its log file, removed with the fleet.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// A process cannot be started, signalled or waited for.
    #[error("failed to {action} {part} of member {member}")]
    Process {
        /// Name of the member.
        member: String,
        /// Which of its processes.
        part: Part,
        /// What was tried.
        action: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// No runtime, or no thread of it, to start the fleet on.
    #[error("failed to run the start of the fleet")]
    Runtime {
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The process that cleans up cannot be started.
    #[error("failed to start the watchdog that cleans up after the fleet (it needs /bin/sh)")]
    Watchdog {
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Something did not happen in time.
    #[error("gave up after {} s: {waited_for} on member {member}", .after.as_secs())]
    Timeout {
        /// Name of the member.
        member: String,
        /// What did not happen.
        waited_for: String,
        /// For how long it was waited.
        after: Duration,
    },
    /// The fleet has no such member.
    #[error("the fleet has no member called {member}")]
    UnknownMember {
        /// The name asked for.
        member: String,
    },
}

impl Error {
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    pub(super) fn api<E: Into<Source>>(member: &str, action: impl Into<String>) -> impl FnOnce(E) -> Self {
        let (member, action) = (member.to_owned(), action.into());
        move |source| Self::Api {
            member,
            action,
            source: source.into(),
        }
    }

    pub(super) fn store(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::ObjectStore { action, source }
    }

    pub(super) fn certificate<E: Into<Source>>(member: &str) -> impl Fn(E) -> Self {
        let member = member.to_owned();
        move |source| Self::Certificate {
            member: member.clone(),
            source: source.into(),
        }
    }
}
