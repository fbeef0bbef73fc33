//! What the answers of containers come to.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::{
    call::Called,
    command::{Answer, Commands},
    pods::Place,
};
use crate::driver::{BackupHook, QuiesceRequest, QuiesceState};

/// Why a container is not held, or not let go.
#[derive(Debug)]
pub(super) enum Problem {
    /// It has no say any more: its pod is gone.
    Gone,
    /// Not yet.
    Later,
    /// It may be so or not.
    Silent(Option<kube::Error>),
    Forbidden(kube::Error),
    No(String),
}

/// What keeps a container from being let go; `None` if it is.
pub(super) fn released(hooks: &[BackupHook], place: &Place, called: Called) -> Option<Problem> {
    match called {
        Called::Gone | Called::Answer(Answer::Released) => None,
        // It may be starting again, or its node may be at a loss.
        Called::NothingRuns => Some(Problem::Later),
        Called::Answer(Answer::Stuck(ended)) => Some(Problem::No(Commands::new(hooks, place).say(ended))),
        Called::Answer(Answer::Lacks(what)) => Some(Problem::No(format!("{place} lacks {what}"))),
        Called::Answer(_) => Some(Problem::Later),
        Called::Silent(error) => Some(Problem::Silent(error)),
        Called::Forbidden(error) => Some(Problem::Forbidden(error)),
    }
}

/// What keeps a container from being held; `None` for [`Answer::Held`] and [`Answer::Ready`].
pub(super) fn not_held(request: &QuiesceRequest, place: &Place, called: Called) -> Option<Problem> {
    let answer = match called {
        Called::Answer(answer) => answer,
        Called::Gone => return Some(Problem::Gone),
        Called::NothingRuns => {
            let message = format!("nothing can be run in {place}: it is not up, or has no shell (sh)");
            return Some(Problem::No(message));
        }
        Called::Silent(error) => return Some(Problem::Silent(error)),
        Called::Forbidden(error) => return Some(Problem::Forbidden(error)),
    };
    let say = |ended| Commands::new(&request.hooks, place).say(ended);
    Some(match answer {
        Answer::Ready | Answer::Held(_) => return None,
        Answer::Taking => Problem::Later,
        Answer::Other(owner) => Problem::No(format!(
            "{place} is held still for {owner}; ask again when it is released"
        )),
        Answer::Lacks(what) => Problem::No(format!(
            "{place} lacks {what}, without which it could not let go by itself; add it, or leave the pod out"
        )),
        Answer::Failed(ended) => Problem::No(say(ended)),
        Answer::Stuck(ended) => Problem::No(format!("{}; it may not have been let go", say(ended))),
        Answer::Dead => Problem::No(format!("whoever watched over {place} was killed")),
        Answer::Ended | Answer::Released | Answer::Releasing => {
            Problem::No(format!("the lease on {place} has ended, and is not taken again"))
        }
        Answer::Unknown => Problem::No(format!("there is no lease on {place} to renew")),
        Answer::Garbled => Problem::No(format!("the shell of {place} makes no sense")),
    })
}

/// Why nobody can be asked for this.
pub(super) fn unfit(request: &QuiesceRequest) -> Option<String> {
    let owner = request.owner.as_str();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if owner.is_empty() || owner.len() > 63 || !owner.bytes().all(plain) {
        return Some(format!(
            "{owner:?} is no owner token: at most 63 letters, digits, -, _ and ."
        ));
    }
    let words = request.hooks.iter().flat_map(|hook| {
        hook.pre
            .iter()
            .chain(&hook.post)
            .map(move |command| (hook, command))
    });
    words
        .filter(|(_, command)| {
            command.command.first().is_none_or(String::is_empty)
                || command.command.iter().any(|word| word.contains('\0'))
        })
        .map(|(hook, _)| format!("hook {} has an empty command, or one with a NUL in it", hook.name))
        .next()
}

/// What all containers together say.
#[derive(Debug, Default)]
pub(super) struct Tally {
    wanted: BTreeSet<(String, String)>,
    waiting: BTreeSet<(String, String)>,
    lasts: Option<i64>,
    pub(super) failure: Option<String>,
}

impl Tally {
    fn pod(place: &Place) -> (String, String) {
        (place.namespace.clone(), place.pod.clone())
    }

    pub(super) fn hold(&mut self, place: &Place, seconds: i64) {
        self.wanted.insert(Self::pod(place));
        self.lasts = Some(self.lasts.map_or(seconds, |lasts| lasts.min(seconds)));
    }

    pub(super) fn wait(&mut self, place: &Place) {
        self.wanted.insert(Self::pod(place));
        self.waiting.insert(Self::pod(place));
    }

    /// The first by name, so that the same trouble reads the same.
    pub(super) fn failed(&mut self, message: String) {
        let first = self
            .failure
            .take()
            .map_or(message.clone(), |other| other.min(message));
        self.failure = Some(first);
    }

    /// `asked_at` is before the containers counted what is left, so they hold at least as long. They count whole
    /// seconds, of which the last may be over.
    pub(super) fn state(&self, asked_at: Timestamp, until: Timestamp) -> QuiesceState {
        let count = |pods: &BTreeSet<_>| u32::try_from(pods.len()).unwrap_or(u32::MAX);
        let (wanted, waiting) = (count(&self.wanted), count(&self.waiting));
        if waiting > 0 {
            return QuiesceState::Pending {
                held: wanted - waiting,
                wanted,
            };
        }
        let until = match self.lasts {
            None => until,
            Some(seconds) => {
                let lasts = SignedDuration::from_secs(seconds.saturating_sub(1).max(0));
                asked_at.saturating_add(lasts).unwrap_or(until)
            }
        };
        QuiesceState::Held { pods: wanted, until }
    }
}
