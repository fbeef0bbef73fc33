//! What builds, when, and what is left of it; with a `go` of our own that only notes what it was asked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{fs, path::PathBuf, process::Command, thread};

use kurator_envtest::components::{Components, Error, Group, Settings};
use tempfile::TempDir;

struct Rig {
    folder: TempDir,
}

impl Rig {
    fn new(build: &str) -> Self {
        let rig = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        fs::create_dir_all(rig.path("kwok/kustomize/stage/pod/fast")).unwrap();
        fs::write(
            rig.path("kwok/kustomize/stage/pod/fast/pod-ready.yaml"),
            "kind: Stage",
        )
        .unwrap();
        fs::write(rig.path("kwok/kustomize/stage/pod/fast/README.md"), "text").unwrap();
        rig.set_go("echo go1.26.0", build);
        rig
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn set_go(&self, env: &str, build: &str) {
        let root = self.folder.path().display();
        let script = format!(
            "#!/bin/sh\necho \"$@\" >>{root}/asked\ncase $1 in\nenv) {env} ;;\nlist) echo {root}/kwok ;;\n\
             build) mkdir -p \"$GOCACHE\"; while [ \"$1\" != -o ]; do shift; done; {build} ;;\nesac\n"
        );
        // Written by another process: while this one forks, what it writes is open and cannot be run.
        let written = Command::new("sh")
            .args(["-c", "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\""])
            .arg(self.path("go"))
            .arg(script)
            .status();
        assert!(written.unwrap().success());
    }

    fn settings(&self) -> Settings {
        Settings::new(self.path("cache")).with_go(self.path("go"))
    }

    fn ensure(&self) -> Result<Components, Error> {
        Components::ensure_in(&self.settings(), &[Group::Kubernetes], &mut |_| {})
    }

    fn builds(&self) -> usize {
        let asked = fs::read_to_string(self.path("asked")).unwrap_or_default();
        asked.lines().filter(|line| line.starts_with("build ")).count()
    }

    /// What is in the folder of the group but for the modules themselves.
    fn leftovers(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("cache/kubernetes")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter(|name| !name.starts_with("kubernetes-v") && !name.starts_with("kwok-v"))
            .collect()
    }
}

const BUILDS: &str = "echo program >\"$2\"";

#[test]
fn everything_is_built_once_and_found_ever_after() {
    let rig = Rig::new(BUILDS);
    let mut told = Vec::new();
    let components = Components::ensure_in(&rig.settings(), &[Group::Kubernetes], &mut |step| {
        told.push(step.to_string())
    })
    .unwrap();
    let names = components.binaries().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(
        names,
        [
            "etcd",
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kwok"
        ]
    );
    assert!(components.binaries().all(|(_, path)| path.is_file()));
    let stages = components.files("kwok-stages").unwrap();
    assert!(stages.join("pod/fast/pod-ready.yaml").is_file());
    assert!(!stages.join("pod/fast/README.md").exists());
    assert!(
        told.iter()
            .any(|line| line.contains("building kube-apiserver v1.37.2, once; about")),
        "{told:?}"
    );
    assert_eq!(rig.leftovers(), ["lock"]);
    assert_eq!(rig.builds(), 5);

    rig.ensure().unwrap();
    assert_eq!(rig.builds(), 5);
}

#[test]
fn velero_is_a_group_of_its_own_with_a_main_of_ours_and_a_plugin_alone_in_its_folder() {
    // Builds only where the main of ours is, if the package is the folder itself.
    let rig = Rig::new(
        "for last; do :; done; [ \"$last\" != . ] || [ -f main.go ] || exit 1; echo program >\"$2\"",
    );
    for version in ["v1", "v2alpha1"] {
        let folder = rig.path(&format!("kwok/config/crd/{version}/bases"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("backups.yaml"), "kind: CustomResourceDefinition").unwrap();
    }
    fs::write(rig.path("kwok/config/crd/v1/crds.go"), "package crds").unwrap();
    let components = Components::ensure_in(&rig.settings(), &[Group::Velero], &mut |_| {}).unwrap();
    let names = components.binaries().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names, ["velero", "velero-plugin-for-aws", "versitygw"]);
    let definitions = components.files("velero-crds").unwrap();
    assert!(definitions.join("v1/bases/backups.yaml").is_file());
    assert!(definitions.join("v2alpha1/bases/backups.yaml").is_file());
    assert!(!definitions.join("v1/crds.go").exists());
    let plugins = components
        .binary("velero-plugin-for-aws")
        .unwrap()
        .parent()
        .unwrap();
    assert_eq!(fs::read_dir(plugins).unwrap().count(), 1);
    assert!(!rig.path("cache/kubernetes").exists());
}

#[test]
fn those_who_start_together_build_once() {
    let rig = Rig::new(BUILDS);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| rig.ensure().unwrap());
        }
    });
    assert_eq!(rig.builds(), 5);
}

#[test]
fn without_go_and_without_a_cache_it_is_said_what_to_install() {
    let rig = Rig::new(BUILDS);
    let settings = rig.settings().with_go(rig.path("no-such-go"));
    let error = Components::ensure_in(&settings, &[Group::Kubernetes], &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::GoMissing { .. }), "{error}");
    assert!(error.to_string().contains("install Go 1.26"), "{error}");

    rig.ensure().unwrap();
    Components::ensure_in(&settings, &[Group::Kubernetes], &mut |_| {}).unwrap();
}

#[test]
fn a_go_that_is_too_old_is_named_with_the_way_out() {
    let rig = Rig::new(BUILDS);
    rig.set_go(
        "echo 'go.mod requires go >= 1.26.0 (running go 1.19; GOTOOLCHAIN=local)' >&2; exit 1",
        BUILDS,
    );
    let error = rig.ensure().unwrap_err();
    assert!(matches!(error, Error::GoTooOld { .. }), "{error}");
    assert!(error.to_string().contains("running go 1.19"), "{error}");
    assert!(error.to_string().contains("GOTOOLCHAIN=auto"), "{error}");
    assert_eq!(rig.builds(), 0);
}

#[test]
fn a_failed_build_shows_its_end_and_leaves_nothing_that_looks_complete() {
    let rig = Rig::new("echo program >\"$2\"; case $2 in *scheduler) echo no such package; exit 1 ;; esac");
    let error = rig.ensure().unwrap_err();
    let Error::Build {
        binary, log, tail, ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!((*binary, tail.trim()), ("kube-scheduler", "no such package"));
    assert!(log.is_file());
    rig.set_go("echo go1.26.0", BUILDS);
    rig.ensure().unwrap();
    assert_eq!(rig.leftovers(), ["lock"]);
}

#[test]
fn what_a_killed_build_left_is_cleared_and_what_someone_took_away_is_built_again() {
    let rig = Rig::new(BUILDS);
    let half = rig.path("cache/kubernetes/.building-1/out");
    fs::create_dir_all(&half).unwrap();
    fs::write(half.join("junk"), "half").unwrap();
    let components = rig.ensure().unwrap();
    let scheduler = components.binary("kube-scheduler").unwrap();
    assert!(!scheduler.with_file_name("junk").exists());

    fs::remove_file(scheduler).unwrap();
    rig.ensure().unwrap();
    assert!(scheduler.is_file());
    assert_eq!(rig.builds(), 9);
}

#[test]
fn kubebuilder_assets_replace_etcd_and_the_api_server_only() {
    let rig = Rig::new(BUILDS);
    let assets = rig.path("assets");
    fs::create_dir_all(&assets).unwrap();
    let settings = rig.settings().with_assets(&assets);
    let parts = ["etcd", "kube-apiserver"];
    let error = Components::ensure_binaries(&settings, &parts, &mut |_| {}).unwrap_err();
    assert!(
        matches!(&error, Error::AssetMissing { binary, .. } if binary == "etcd"),
        "{error}"
    );

    for name in ["etcd", "kube-apiserver", "kube-scheduler"] {
        fs::write(assets.join(name), "given").unwrap();
    }
    let components = Components::ensure_binaries(&settings, &parts, &mut |_| {}).unwrap();
    assert_eq!(components.binary("etcd").unwrap(), assets.join("etcd"));
    assert_eq!(rig.builds(), 0);

    let components = Components::ensure_in(&settings, &[Group::Kubernetes], &mut |_| {}).unwrap();
    assert_eq!(
        components.binary("kube-apiserver").unwrap(),
        assets.join("kube-apiserver")
    );
    assert!(
        components
            .binary("kube-scheduler")
            .unwrap()
            .starts_with(rig.path("cache"))
    );
}

#[test]
fn a_program_nobody_pinned_is_unknown() {
    let rig = Rig::new(BUILDS);
    let error = Components::ensure_binaries(&rig.settings(), &["dockerd"], &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::UnknownBinary { .. }), "{error}");
}
