//! Owns the processes of a fleet, and sees to it that none outlives it, however the test ends.
//!
//! A watchdog (a few lines of `sh`) makes the folder of the fleet, reads the process groups to kill from a pipe
//! and acts when the pipe closes: on drop, on panic, on any signal, on SIGKILL of the test process. A part is
//! started through `sh` too, which writes its own process id into that pipe before it becomes the part: from
//! the fork on, either the pipe is still held open or the watchdog knows the process. Nothing can fall between.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufRead, BufReader, Write},
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// PIPE is ignored too: whoever was to hear `ready` may have been killed since the folder was made.
const WATCHDOG: &str = r#"
trap '' HUP INT TERM QUIT PIPE
mkdir -m 700 "$1" || exit 1
echo ready
groups=
while read -r change group; do
    case $change in
        +) groups="$groups $group" ;;
        -) kept=
           for known in $groups; do [ "$known" = "$group" ] || kept="$kept $known"; done
           groups=$kept ;;
    esac
done
for group in $groups; do kill -KILL "-$group" 2>/dev/null; done
tries=0
while [ -e "$1" ] && [ $tries -lt 100 ]; do
    rm -rf "$1" 2>/dev/null
    tries=$((tries + 1))
    [ -e "$1" ] && sleep 0.05
done
[ ! -e "$1" ]
"#;

/// Standard input is the watchdog's pipe until the part takes over.
const LAUNCH: &str = r#"echo "+ $$" >&0 && exec "$@" </dev/null"#;

#[derive(Debug)]
pub(super) struct Supervisor {
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    watchdog: Child,
    pipe: Option<File>,
    children: BTreeMap<u32, Child>,
    paused: BTreeSet<u32>,
}

/// A running or ended process of the supervisor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct ProcessId(u32);

pub(super) struct Launch<'a> {
    pub(super) program: &'a Path,
    pub(super) args: &'a [String],
    pub(super) env: &'a [(String, String)],
    pub(super) folder: &'a Path,
    pub(super) log: &'a Path,
}

impl Supervisor {
    /// Makes `folder`, which must not exist yet.
    pub(super) fn start(folder: &Path) -> io::Result<Self> {
        let mut watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "kurator-envtest-watchdog"])
            .arg(folder)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let pipe = watchdog
            .stdin
            .take()
            .map(|pipe: ChildStdin| File::from(OwnedFd::from(pipe)));
        let mut line = String::new();
        if let Some(output) = watchdog.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        if line.trim() != "ready" {
            drop(pipe);
            watchdog.wait()?;
            return Err(io::Error::other(format!(
                "cannot make the folder {}",
                folder.display()
            )));
        }
        let state = State {
            watchdog,
            pipe,
            children: BTreeMap::new(),
            paused: BTreeSet::new(),
        };
        Ok(Self {
            folder: folder.into(),
            state: Mutex::new(state),
        })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn spawn(&self, launch: &Launch<'_>) -> io::Result<ProcessId> {
        let log = File::options().create(true).append(true).open(launch.log)?;
        let mut state = self.state();
        let pipe = state.pipe.as_ref().ok_or_else(stopped)?.try_clone()?;
        let child = Command::new("sh")
            .args(["-c", LAUNCH, "kurator-envtest-launch"])
            .arg(launch.program)
            .args(launch.args)
            .current_dir(launch.folder)
            // No part may read a configuration of the user.
            .env("HOME", launch.folder)
            .env_remove("KUBECONFIG")
            .envs(launch.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::from(OwnedFd::from(pipe)))
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        let id = child.id();
        state.children.insert(id, child);
        Ok(ProcessId(id))
    }

    /// How the process ended by itself; `None` while it runs, is paused, or when it was killed on purpose.
    pub(super) fn exit_status(&self, id: ProcessId) -> io::Result<Option<ExitStatus>> {
        match self.state().children.get_mut(&id.0) {
            Some(child) => child.try_wait(),
            None => Ok(None),
        }
    }

    /// Stops the process group, and returns when it has really stopped: the signal alone returns before.
    pub(super) fn pause(&self, id: ProcessId) -> io::Result<()> {
        let mut state = self.state();
        let state = &mut *state;
        let child = state.children.get_mut(&id.0).ok_or_else(stopped)?;
        if !state.paused.insert(id.0) {
            return Ok(());
        }
        let process = Pid::from_child(child);
        kill_process_group(process, Signal::STOP)?;
        // Not told about exits, so that the status stays for `Child`.
        while waitid(
            WaitId::Pid(process),
            WaitIdOptions::STOPPED | WaitIdOptions::NOHANG,
        )?
        .is_none()
        {
            if child.try_wait()?.is_some() {
                return Err(stopped());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    pub(super) fn resume(&self, id: ProcessId) -> io::Result<()> {
        let mut state = self.state();
        let child = state.children.get(&id.0).ok_or_else(stopped)?;
        kill_process_group(Pid::from_child(child), Signal::CONT)?;
        state.paused.remove(&id.0);
        Ok(())
    }

    /// Kills the process and all it started, and waits until it is gone.
    pub(super) fn kill(&self, id: ProcessId) -> io::Result<()> {
        let mut state = self.state();
        let Some(mut child) = state.children.remove(&id.0) else {
            return Ok(());
        };
        if child.try_wait()?.is_none() {
            kill_process_group(Pid::from_child(&child), Signal::KILL)?;
        }
        // Told before the id can be given to another process.
        if let Some(pipe) = state.pipe.as_mut() {
            writeln!(pipe, "- {}", id.0)?;
        }
        child.wait()?;
        Ok(())
    }
}

fn stopped() -> io::Error {
    io::Error::other("the process is stopped")
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let mut state = self.state();
        // The watchdog kills; our children keep their ids as zombies until it is done.
        state.pipe.take();
        let _ = state.watchdog.wait();
        for (_, mut child) in std::mem::take(&mut state.children) {
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_watchdog_whose_starter_died_before_it_heard_of_the_folder_removes_the_folder() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("fleet");
        let (nobody_reads, ready) = io::pipe().unwrap();
        drop(nobody_reads);

        let ended = Command::new("sh")
            .args(["-c", WATCHDOG, "kurator-envtest-watchdog"])
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(ready)
            .stderr(Stdio::null())
            .status()
            .unwrap();

        assert!(ended.success(), "{ended}");
        assert!(!folder.exists());
    }
}
