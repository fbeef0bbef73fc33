//! What is run in a container, and what it answers.

use std::{sync::LazyLock, time::Duration};

use kurator_core::names::bounded_name;

use super::pods::Place;
use crate::driver::{BackupHook, ExecHook, OnHookError, OwnerToken};

/// The script without comments and indentation.
static SCRIPT: LazyLock<String> = LazyLock::new(|| {
    let lines = include_str!("lease.sh").lines().map(str::trim_start);
    let code = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    code.collect::<Vec<_>>().join("\n")
});
/// What runs in a container: a shell that reads what it is to do. So neither URLs nor audit logs hold commands.
pub(super) const SHELL: [&str; 2] = ["sh", "-s"];
/// How long a command may take whose hook does not say.
const DEFAULT_LIMIT: i64 = 30;

/// What a container is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// Whether it could hold still.
    Probe,
    /// Hold still for so many seconds, or longer than before.
    Hold(i64),
    /// Hold still longer, if it does.
    Renew(i64),
    /// Let go.
    Release,
}

/// What a container says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Ready,
    /// For so many seconds more.
    Held(i64),
    Taking,
    Releasing,
    Released,
    /// The lease has ended, by time or by release.
    Ended,
    /// There is no lease of this owner.
    Unknown,
    /// Whoever watched over the lease was killed.
    Dead,
    /// Another owner has it.
    Other(String),
    /// A program or place that is needed and missing.
    Lacks(String),
    Failed(Ended),
    Stuck(Ended),
    Garbled,
}

/// How a command of a container ended that should have gone well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// Its place among the commands of the container.
    command: usize,
    code: i32,
}

impl Answer {
    pub(super) fn read(output: &str) -> Self {
        let answer = output
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("kurator "));
        let words: Vec<&str> = answer.unwrap_or_default().split_whitespace().collect();
        let ended = |command: &str, code: &str| {
            let (command, code) = (command.parse().ok()?, code.parse().ok()?);
            Some(Ended { command, code })
        };
        let read = match words.as_slice() {
            ["ready"] => Some(Self::Ready),
            ["held", seconds] => seconds.parse().ok().map(Self::Held),
            ["taking"] => Some(Self::Taking),
            ["releasing"] => Some(Self::Releasing),
            ["released"] => Some(Self::Released),
            ["ended"] => Some(Self::Ended),
            ["none"] => Some(Self::Unknown),
            ["dead"] => Some(Self::Dead),
            ["other", owner] => Some(Self::Other((*owner).to_owned())),
            ["lacks", what] => Some(Self::Lacks((*what).to_owned())),
            ["failed", command, code] => ended(command, code).map(Self::Failed),
            ["stuck", command, code] => ended(command, code).map(Self::Stuck),
            _ => None,
        };
        read.unwrap_or(Self::Garbled)
    }
}

/// The commands of one container, in the order of the hooks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Commands<'a> {
    hooks: &'a [BackupHook],
    place: &'a Place,
}

impl<'a> Commands<'a> {
    pub(super) fn new(hooks: &'a [BackupHook], place: &'a Place) -> Self {
        Self { hooks, place }
    }

    fn all(self) -> impl Iterator<Item = (&'a BackupHook, bool, &'a ExecHook)> {
        let Self { hooks, place } = self;
        hooks
            .iter()
            .filter(|hook| place.hooks.contains(&hook.name))
            .flat_map(|hook| {
                let pre = hook.pre.iter().map(move |command| (hook, true, command));
                pre.chain(hook.post.iter().map(move |command| (hook, false, command)))
            })
            .filter(|(_, _, command)| match &command.container {
                Some(container) => *container == place.container,
                None => place.is_first,
            })
    }

    /// For the shell of the container to read. Words of hooks are quoted, and never part of the script. One block:
    /// a shell that does not get all of it does nothing.
    pub(super) fn script(self, cluster: &str, owner: &OwnerToken, folders: &str, verb: Verb) -> String {
        let place = self.place;
        let key = bounded_name([cluster, &place.namespace, &place.pod, &place.container]);
        let (verb, seconds) = match verb {
            Verb::Probe => ("probe", 0),
            Verb::Hold(seconds) => ("hold", seconds),
            Verb::Renew(seconds) => ("renew", seconds),
            Verb::Release => ("release", 0),
        };
        let mut script = String::from("{ set --");
        for word in [verb, &key, owner.as_str(), &seconds.to_string(), folders] {
            push_quoted(&mut script, word);
        }
        for (_, is_pre, command) in self.all() {
            push_quoted(&mut script, if is_pre { "pre" } else { "post" });
            push_quoted(
                &mut script,
                if command.on_error == OnHookError::Fail {
                    "1"
                } else {
                    "0"
                },
            );
            push_quoted(&mut script, &limit(command).to_string());
            push_quoted(&mut script, &command.command.len().to_string());
            for word in &command.command {
                push_quoted(&mut script, word);
            }
        }
        script.push('\n');
        script.push_str(&SCRIPT);
        script.push_str("\nexit\n}\n");
        script
    }

    /// For people, without the command: it may hold a secret.
    pub(super) fn say(self, ended: Ended) -> String {
        let how = match ended.code {
            124 => "did not end in time".to_owned(),
            127 => "was not found".to_owned(),
            code => format!("ended with {code}"),
        };
        match self.all().nth(ended.command) {
            Some((hook, is_pre, _)) => {
                let kind = if is_pre { "pre" } else { "post" };
                format!(
                    "a command of {kind} of hook {} {how} in {}",
                    hook.name, self.place
                )
            }
            None => format!("a command {how} in {}", self.place),
        }
    }
}

/// One word for a shell, whatever it contains.
fn push_quoted(script: &mut String, word: &str) {
    script.push_str(" '");
    script.push_str(&word.replace('\'', r"'\''"));
    script.push('\'');
}

/// In whole seconds, at least one.
fn limit(command: &ExecHook) -> i64 {
    let given = command.timeout.map(|timeout| {
        let timeout = Duration::from(timeout);
        i64::try_from(timeout.as_millis().div_ceil(1000)).unwrap_or(DEFAULT_LIMIT)
    });
    given.unwrap_or(DEFAULT_LIMIT).max(1)
}
