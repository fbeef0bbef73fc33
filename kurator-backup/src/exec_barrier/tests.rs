//! The script, run by the shells there are, with real processes.

use std::{
    ffi::OsString,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::{
    command::{Answer, Commands, SHELL, Verb},
    pods::{Place, places},
};
use crate::driver::{BackupHook, ExecHook, OnHookError, OwnerToken};

const FREEZE: &str = "echo pre >>log; touch frozen";
const THAW: &str = "echo post >>log; rm -f frozen";

/// A folder in which a shell does what it would do in a container.
struct Container {
    shell: Vec<OsString>,
    path: Option<OsString>,
    folder: tempfile::TempDir,
    hooks: Vec<BackupHook>,
}

impl Drop for Container {
    fn drop(&mut self) {
        self.kill_all();
    }
}

fn sh(script: &str) -> ExecHook {
    ExecHook::new(["sh", "-c", script])
}

fn hook(pre: impl IntoIterator<Item = ExecHook>, post: impl IntoIterator<Item = ExecHook>) -> BackupHook {
    BackupHook {
        name: "orders".to_owned(),
        pre: pre.into_iter().collect(),
        post: post.into_iter().collect(),
        ..BackupHook::default()
    }
}

fn place() -> Place {
    Place {
        namespace: "shop".to_owned(),
        pod: "db-0".to_owned(),
        container: "db".to_owned(),
        is_first: true,
        hooks: ["orders".to_owned()].into(),
    }
}

/// The same for every shell there is.
fn in_every_shell(hook: &BackupHook, test: impl Fn(&Container) + Sync) {
    let path = std::env::var_os("PATH").unwrap();
    let found = |name: &str| {
        std::env::split_paths(&path)
            .map(|it| it.join(name))
            .find(|it| it.exists())
    };
    let plain = ["sh", "dash", "bash", "mksh"].map(|name| found(name).map(|it| vec![it.into_os_string()]));
    let busybox = found("busybox").map(|it| vec![it.into_os_string(), "sh".into()]);
    thread::scope(|scope| {
        for shell in plain.into_iter().chain([busybox]).flatten() {
            let container = Container::new(shell, hook);
            scope.spawn(|| test(&{ container }));
        }
    });
}

impl Container {
    fn new(shell: Vec<OsString>, hook: &BackupHook) -> Self {
        Self {
            shell,
            path: None,
            folder: tempfile::tempdir().unwrap(),
            hooks: vec![hook.clone()],
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn call(&self, owner: &str, verb: Verb) -> Child {
        let place = place();
        let commands = Commands::new(&self.hooks, &place);
        let script = commands.script("east", &OwnerToken::read(owner), ".", verb);
        let mut command = Command::new(&self.shell[0]);
        command.args(&self.shell[1..]).args(&SHELL[1..]);
        if let Some(path) = &self.path {
            command.env("PATH", path);
        }
        command.current_dir(self.folder.path());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        child
    }

    fn ask(&self, owner: &str, verb: Verb) -> Answer {
        let output = self.call(owner, verb).wait_with_output().unwrap();
        Answer::read(&String::from_utf8(output.stdout).unwrap())
    }

    fn holds(&self, owner: &str, seconds: i64) {
        let answer = self.ask(owner, Verb::Hold(seconds));
        let held = matches!(answer, Answer::Held(left) if left <= seconds && left >= seconds - 3);
        assert!(held && self.is_frozen(), "{answer:?} in {:?}", self.shell);
    }

    fn is_frozen(&self) -> bool {
        self.path("frozen").exists()
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        log.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Processes of the container.
    fn processes(&self) -> Vec<Pid> {
        let folder = fs::canonicalize(self.folder.path()).unwrap();
        let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let here =
            entries.filter(|entry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == folder));
        here.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
            .collect()
    }

    fn kill_all(&self) {
        while !self.processes().is_empty() {
            for process in self.processes() {
                // It may have ended since.
                let _ = kill_process(process, Signal::KILL);
            }
        }
    }
}

/// Looks until it is so: nothing tells of what happens in a container.
fn eventually(what: &str, met: impl Fn() -> bool) {
    for _ in 0..1500 {
        if met() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("not in time: {what}");
}

#[test]
fn a_container_holds_still_until_it_is_released_and_each_command_runs_once() {
    in_every_shell(&hook([sh(FREEZE)], [sh(THAW)]), |container| {
        assert_eq!(container.ask("a", Verb::Probe), Answer::Ready);
        container.holds("a", 60);
        container.holds("a", 60);
        assert!(matches!(
            container.ask("a", Verb::Renew(90)),
            Answer::Held(88..=90)
        ));
        assert_eq!(container.ask("a", Verb::Release), Answer::Released);
        assert!(!container.is_frozen());
        assert_eq!(container.ask("a", Verb::Release), Answer::Released);
        assert_eq!(container.log(), "pre post");
        eventually("its watch ends", || container.processes().is_empty());
    });
}

#[test]
fn words_of_a_command_arrive_as_they_are_and_are_never_read_by_the_shell_that_watches() {
    let odd = [
        "a b",
        "it's",
        "$(touch stolen)",
        "`touch stolen`",
        "\"",
        "line\nline",
        "*",
        "",
        "; touch stolen;",
        "\\",
    ];
    let print = |file: &str| {
        let words = ["sh", "-c", "printf '%s|' \"$@\" >\"$0\"", file];
        ExecHook::new(words.into_iter().chain(odd))
    };
    in_every_shell(&hook([print("pre-words")], [print("post-words")]), |container| {
        assert!(matches!(container.ask("a", Verb::Hold(60)), Answer::Held(_)));
        assert_eq!(container.ask("a", Verb::Release), Answer::Released);
        let expected = odd.map(|word| format!("{word}|")).concat();
        for file in ["pre-words", "post-words"] {
            assert_eq!(fs::read_to_string(container.path(file)).unwrap(), expected);
        }
        assert!(!container.path("stolen").exists());
    });
}

#[test]
fn a_lease_ends_by_itself_and_is_never_taken_again() {
    in_every_shell(&hook([sh(FREEZE)], [sh(THAW)]), |container| {
        container.holds("a", 3);
        eventually("it lets go by itself", || !container.is_frozen());
        eventually("its watch ends", || container.processes().is_empty());
        assert_eq!(container.ask("a", Verb::Hold(60)), Answer::Ended);
        assert_eq!(container.ask("a", Verb::Renew(60)), Answer::Ended);
        assert_eq!(container.log(), "pre post");
    });
}

#[test]
fn whoever_asked_may_be_killed_in_the_middle() {
    let slow = "touch frozen; until [ -e go-on ]; do sleep 0.1; done";
    in_every_shell(&hook([sh(slow)], [sh(THAW)]), |container| {
        let mut caller = container.call("a", Verb::Hold(3));
        eventually("it freezes", || container.is_frozen());
        caller.kill().unwrap();
        caller.wait().unwrap();
        // Nobody asks, and `pre` never ends.
        eventually("it lets go by itself", || !container.is_frozen());
        eventually("nothing is left of it", || container.processes().is_empty());
        assert_eq!(container.ask("a", Verb::Hold(60)), Answer::Ended);

        // The next one comes back after its death, and finds what it had begun.
        let mut caller = container.call("b", Verb::Hold(60));
        eventually("it freezes", || container.is_frozen());
        caller.kill().unwrap();
        caller.wait().unwrap();
        assert_eq!(container.ask("b", Verb::Hold(60)), Answer::Taking);
        fs::write(container.path("go-on"), "").unwrap();
        container.holds("b", 60);
        assert_eq!(container.ask("b", Verb::Release), Answer::Released);
        assert!(!container.is_frozen());
    });
}

#[test]
fn a_lease_that_is_renewed_outlives_its_first_end() {
    let hook = hook([sh(FREEZE)], [sh(THAW)]);
    in_every_shell(&hook, |container| {
        container.holds("a", 4);
        assert!(matches!(
            container.ask("a", Verb::Renew(60)),
            Answer::Held(58..=60)
        ));
        let other = Container::new(container.shell.clone(), &hook);
        other.holds("b", 5);
        eventually("the other lets go", || !other.is_frozen());
        assert!(container.is_frozen());
        // A shorter one does not end it earlier.
        assert!(matches!(container.ask("a", Verb::Renew(1)), Answer::Held(40..)));
        assert_eq!(container.ask("a", Verb::Release), Answer::Released);
    });
}

#[test]
fn only_what_is_held_is_renewed() {
    in_every_shell(&hook([sh(FREEZE)], [sh(THAW)]), |container| {
        assert_eq!(container.ask("a", Verb::Renew(60)), Answer::Unknown);
        assert_eq!(container.log(), "");
    });
}

#[test]
fn a_second_owner_is_refused_until_the_first_has_let_go() {
    in_every_shell(&hook([sh(FREEZE)], [sh(THAW)]), |container| {
        container.holds("a", 60);
        let other = Answer::Other("a".to_owned());
        for verb in [Verb::Probe, Verb::Hold(60), Verb::Renew(60)] {
            assert_eq!(container.ask("b", verb), other);
        }
        assert_eq!(container.ask("b", Verb::Release), Answer::Released);
        assert!(container.is_frozen(), "b has nothing to release");
        assert_eq!(container.ask("a", Verb::Release), Answer::Released);
        container.holds("c", 60);
        assert_eq!(container.ask("c", Verb::Release), Answer::Released);
        assert_eq!(container.log(), "pre post pre post");
    });
}

#[test]
fn a_release_that_overtakes_its_hold_wins() {
    in_every_shell(&hook([sh(FREEZE)], [sh(THAW)]), |container| {
        assert_eq!(container.ask("a", Verb::Release), Answer::Released);
        assert_eq!(container.ask("a", Verb::Hold(60)), Answer::Ended);
        assert_eq!(container.log(), "");
    });
}

#[test]
fn callers_that_ask_at_once_freeze_once() {
    in_every_shell(&hook([sh(FREEZE)], [sh(THAW)]), |container| {
        let calls = [(); 4].map(|()| container.call("a", Verb::Hold(60)));
        for call in calls {
            let output = call.wait_with_output().unwrap();
            let answer = Answer::read(&String::from_utf8(output.stdout).unwrap());
            assert!(matches!(answer, Answer::Held(_)), "{answer:?}");
        }
        let calls = [(); 4].map(|()| container.call("a", Verb::Release));
        for call in calls {
            let output = call.wait_with_output().unwrap();
            assert_eq!(
                String::from_utf8(output.stdout).unwrap().trim(),
                "kurator released"
            );
        }
        assert_eq!(container.log(), "pre post");
    });
}

#[test]
fn a_pre_that_fails_is_undone_and_says_which_it_was() {
    let mut may_fail = sh("exit 7");
    may_fail.on_error = OnHookError::Continue;
    let hook = hook([may_fail, sh(FREEZE), sh("exit 3"), sh("touch late")], [sh(THAW)]);
    in_every_shell(&hook, |container| {
        let Answer::Failed(ended) = container.ask("a", Verb::Hold(60)) else {
            panic!("it failed");
        };
        let said = Commands::new(&container.hooks, &place()).say(ended);
        assert_eq!(
            said,
            "a command of pre of hook orders ended with 3 in container db of pod shop/db-0"
        );
        eventually("what was done is undone", || container.processes().is_empty());
        assert!(!container.is_frozen() && !container.path("late").exists());
        assert_eq!(container.log(), "pre post");
        assert!(matches!(container.ask("a", Verb::Hold(60)), Answer::Failed(_)));
        assert_eq!(container.ask("a", Verb::Release), Answer::Released);
    });
}

#[test]
fn a_command_that_takes_too_long_is_killed_with_what_it_started() {
    let mut slow = sh("touch frozen; sleep 600 & sleep 600");
    slow.timeout = Some(Duration::from_secs(1).into());
    in_every_shell(&hook([slow], [sh(THAW)]), |container| {
        let Answer::Failed(ended) = container.ask("a", Verb::Hold(60)) else {
            panic!("it failed");
        };
        let said = Commands::new(&container.hooks, &place()).say(ended);
        assert!(said.contains("did not end in time"), "{said}");
        eventually("nothing is left of it", || container.processes().is_empty());
        assert!(!container.is_frozen());
    });
}

#[test]
fn a_post_that_fails_is_repeated_and_said_and_works_once_it_can() {
    let post = "echo post >>log; [ -e cured ] && rm -f frozen";
    in_every_shell(&hook([sh(FREEZE)], [sh(post)]), |container| {
        container.holds("a", 60);
        eventually("it says that it is stuck", || {
            matches!(container.ask("a", Verb::Release), Answer::Stuck(_))
        });
        assert!(container.is_frozen() && container.log().matches("post").count() >= 5);
        fs::write(container.path("cured"), "").unwrap();
        assert_eq!(container.ask("a", Verb::Release), Answer::Released);
        assert!(!container.is_frozen());
    });
}

#[test]
fn a_watch_that_was_killed_is_noticed_and_its_work_done() {
    in_every_shell(&hook([sh(FREEZE)], [sh(THAW)]), |container| {
        container.holds("a", 60);
        container.kill_all();
        assert_eq!(container.ask("a", Verb::Renew(60)), Answer::Dead);
        assert_eq!(container.ask("a", Verb::Release), Answer::Released);
        assert!(!container.is_frozen());

        // Nobody comes back for it: the next owner lets go of what it left.
        container.holds("b", 60);
        container.kill_all();
        assert_eq!(container.ask("c", Verb::Probe), Answer::Ready);
        container.holds("c", 60);
        assert_eq!(container.log(), "pre post pre post pre");
        assert_eq!(container.ask("b", Verb::Release), Answer::Released);
        assert!(container.is_frozen(), "c holds it");
        assert_eq!(container.ask("c", Verb::Release), Answer::Released);
        assert!(!container.is_frozen());
    });
}

#[test]
fn what_a_container_lacks_shows_before_anything_is_frozen() {
    let hook = hook(
        [ExecHook::new(["touch", "frozen"])],
        [ExecHook::new(["rm", "-f", "frozen"])],
    );
    let tools = tempfile::tempdir().unwrap();
    let link = |name: &str| {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap())
            .map(|it| it.join(name))
            .find(|it| it.exists());
        std::os::unix::fs::symlink(found.unwrap(), tools.path().join(name)).unwrap();
    };
    let sh = fs::canonicalize("/bin/sh").unwrap().into_os_string();
    let mut container = Container::new(vec![sh], &hook);
    container.path = Some(tools.path().into());
    for (missing, name) in [("sleep", "sleep"), ("mkdir", "mkdir"), ("mv", "mv"), ("rm", "rm")] {
        let lacks = Answer::Lacks(missing.to_owned());
        assert_eq!(container.ask("a", Verb::Probe), lacks);
        assert_eq!(container.ask("a", Verb::Hold(60)), lacks);
        link(name);
    }
    link("touch");
    assert_eq!(container.ask("a", Verb::Probe), Answer::Ready);
    // No `setsid` is needed.
    container.holds("a", 60);
    assert_eq!(container.ask("a", Verb::Release), Answer::Released);
    assert!(!container.is_frozen());
}

#[test]
fn a_script_that_does_not_arrive_whole_does_nothing() {
    let hooks = [hook([sh(FREEZE)], [sh(THAW)])];
    let place = place();
    let script = Commands::new(&hooks, &place).script("east", &OwnerToken::read("a"), ".", Verb::Hold(9));
    let folder = tempfile::tempdir().unwrap();
    for share in 1..20 {
        let mut command = Command::new("/bin/sh");
        command.arg("-s").current_dir(folder.path());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let part = &script.as_bytes()[..(script.len() - 3) * share / 19];
        child.stdin.take().unwrap().write_all(part).unwrap();
        child.wait().unwrap();
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn what_owners_leave_behind_does_not_pile_up() {
    in_every_shell(&hook([], []), |container| {
        let state = |container: &Container| {
            let mut folders = fs::read_dir(container.folder.path()).unwrap();
            let folder = folders.next().unwrap().unwrap().path();
            fs::read_dir(folder).unwrap().count()
        };
        for owner in ["a", "b", "c", "d"] {
            assert!(matches!(container.ask(owner, Verb::Hold(60)), Answer::Held(_)));
            assert_eq!(container.ask(owner, Verb::Release), Answer::Released);
        }
        // Who was last, its mark and the one before.
        assert_eq!(state(container), 3);
    });
}

#[test]
fn hooks_are_for_the_running_containers_of_running_pods() {
    let pod = |value: serde_json::Value| serde_json::from_value::<Pod>(value).unwrap();
    let containers = json!([{ "name": "db" }, { "name": "sidecar" }]);
    let running = pod(json!({
        "metadata": { "name": "db-0", "namespace": "shop" },
        "spec": { "containers": containers },
        "status": { "phase": "Running", "containerStatuses": [
            { "name": "db", "ready": true, "restartCount": 0, "image": "", "imageID": "", "state": { "running": {} } },
            { "name": "sidecar", "ready": false, "restartCount": 9, "image": "", "imageID": "",
              "state": { "waiting": { "reason": "CrashLoopBackOff" } } }] },
    }));
    let mut ending = running.clone();
    ending.metadata.name = Some("db-1".to_owned());
    ending.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-11-23T03:00:00Z")).unwrap());
    let mut pending = running.clone();
    pending.status.as_mut().unwrap().phase = Some("Pending".to_owned());
    let mut elsewhere = running.clone();
    elsewhere.metadata.namespace = Some("spared".to_owned());
    let mut in_sidecar = sh("true");
    in_sidecar.container = Some("sidecar".to_owned());
    let mut first = hook([sh("true"), in_sidecar], [sh("true")]);
    first.excluded_namespaces = vec!["spared".to_owned()];
    let mut second = hook([sh("true")], []);
    second.name = "more".to_owned();

    let pods = vec![running.clone(), ending, pending, elsewhere];
    let found = places(&[(&first, pods), (&second, vec![running.clone()])]).unwrap();
    assert_eq!(
        found,
        [Place {
            hooks: ["orders".to_owned(), "more".to_owned()].into(),
            ..place()
        }]
    );

    let mut missing = sh("true");
    missing.container = Some("web".to_owned());
    let error = places(&[(&hook([missing], []), vec![running])]).unwrap_err();
    assert_eq!(
        (error.container.as_str(), error.pod.as_str()),
        ("web", "shop/db-0")
    );
}

#[test]
fn the_script_keeps_its_comments_to_itself() {
    let hooks = [hook([sh("true")], [])];
    let place = place();
    let script = Commands::new(&hooks, &place).script("east", &OwnerToken::read("a"), ".", Verb::Probe);
    assert!(
        !script
            .lines()
            .any(|line| line.starts_with('#') || line.starts_with(' '))
    );
    assert!(Path::new("/bin/sh").exists());
}
