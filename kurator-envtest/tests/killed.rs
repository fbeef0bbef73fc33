//! However the process that holds a fleet ends, no process and no folder of the fleet stays.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use kurator_envtest::{Controllers, Fleet, MemberSpec, Nodes};
use rustix::process::{Pid, Signal, kill_process};

/// How the holder is ended, and how far its fleet is then.
enum End {
    Signal(Signal),
    Order(&'static str),
    WhileStarting(&'static str),
}

fn main() {
    if let Some(role) = env::args().skip_while(|argument| argument != "--hold").nth(1) {
        return hold(&role);
    }
    if !Path::new("/proc/self/cmdline").exists() {
        eprintln!("not run: this test reads /proc");
        return;
    }
    let ends = [
        ("SIGKILL", End::Signal(Signal::KILL)),
        ("SIGTERM", End::Signal(Signal::TERM)),
        ("SIGINT", End::Signal(Signal::INT)),
        ("a panic", End::Order("panic")),
        ("exit without drop", End::Order("exit")),
        ("a paused part and SIGKILL", End::Order("pause")),
        (
            "SIGKILL with only the watchdog there",
            End::WhileStarting("kurator-envtest-watchdog"),
        ),
        ("SIGKILL as soon as etcd is there", End::WhileStarting("etcd")),
        (
            "SIGKILL as soon as an API server is there",
            End::WhileStarting("kube-apiserver"),
        ),
    ];
    for (name, end) in ends {
        leaves_nothing(name, &end);
        println!("nothing is left after {name}");
    }
}

/// The process to be killed. Its temporary folder is its own, so that its processes can be told by it.
fn hold(role: &str) {
    let spec = MemberSpec::new("a")
        .with_controllers(Controllers::Stock)
        .with_scheduler();
    let fleet = Fleet::builder()
        .member(spec.with_nodes(Nodes::new(1)))
        .start_blocking()
        .unwrap();
    if role == "pause" {
        fleet
            .member("a")
            .unwrap()
            .pause(kurator_envtest::Part::Etcd)
            .unwrap();
    }
    println!("ready");
    std::io::stdout().flush().unwrap();
    match role {
        "panic" => panic!("on purpose, with a fleet on the stack"),
        "exit" => std::process::exit(3),
        _ => loop {
            thread::park();
        },
    }
}

fn leaves_nothing(name: &str, end: &End) {
    let temp = tempfile::tempdir().unwrap();
    let role = if let End::Order(order) = end {
        order
    } else {
        "wait"
    };
    // A shell ignores SIGINT for what it runs in the background, and whoever is started from there inherits that.
    let mut holder = Command::new("env")
        .arg("--default-signal=INT,TERM")
        .arg(env::current_exe().unwrap())
        .args(["--hold", role])
        .env("TMPDIR", temp.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    match end {
        End::Signal(signal) => {
            wait_for_ready(&mut holder);
            // etcd, three parts of Kubernetes, KWOK and the watchdog.
            assert_eq!(processes(temp.path()).len(), 6, "before {name}");
            kill_process(Pid::from_child(&holder), *signal).unwrap();
        }
        End::Order(order) => {
            wait_for_ready(&mut holder);
            if *order == "pause" {
                holder.kill().unwrap();
            }
        }
        End::WhileStarting(process) => {
            eventually(name, || {
                processes(temp.path()).iter().any(|line| line.contains(process))
            });
            holder.kill().unwrap();
        }
    }
    holder.wait().unwrap();
    eventually(name, || {
        processes(temp.path()).is_empty() && fs::read_dir(temp.path()).unwrap().next().is_none()
    });
}

fn wait_for_ready(holder: &mut Child) {
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line.trim(), "ready");
}

/// Command lines that name the folder. Zombies have none: they run no more and wait for init.
fn processes(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.unwrap().path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(folder))
        .collect()
}

/// There is nothing to watch: the processes are not our children.
fn eventually(name: &str, met: impl Fn() -> bool) {
    for _ in 0..6000 {
        if met() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("not within 30 s: {name}");
}
