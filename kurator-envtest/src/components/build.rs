use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{
    Error, Progress, Settings,
    cache::is_complete,
    catalog::{Binary, Files, Group, Module},
};

const GO_NEEDS: &str = "1.26";
/// What the name of a folder begins with in which a build is under way.
const WORK: &str = ".building-";
const POLL: Duration = Duration::from_millis(100);
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Folder of the module's programs, built if it is not there.
pub(super) fn ensure_module(
    settings: &Settings,
    group: Group,
    module: &'static Module,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, Error> {
    let folder = settings.module_folder(group, module);
    if is_complete(&folder, module) {
        return Ok(folder);
    }
    let home = settings.group_folder(group);
    fs::create_dir_all(&home).map_err(Error::io("create", &home))?;
    let _lock = lock(&home.join("lock"), group, progress)?;
    if is_complete(&folder, module) {
        return Ok(folder);
    }
    // A killed build may have left its folder, and even a compiler that still writes there: ours is another.
    clear(&home)?;
    let work = home.join(format!("{WORK}{}", process::id()));
    let go_cache = home.join(".go-build");
    let build = Build {
        settings,
        module,
        source: work.join("source"),
        temporary: work.join("temporary"),
        out: work.join("out"),
        go_cache,
    };
    build.run(&home.join(format!("{}-build.log", module.name)), progress)?;
    remove(&folder)?;
    fs::rename(&build.out, &folder).map_err(Error::io("rename into", &folder))?;
    remove(&work)?;
    remove(&build.go_cache)?;
    progress(Progress::Cached {
        module: module.name,
        folder: folder.clone(),
    });
    Ok(folder)
}

/// Held while the file is open; the system gives it back when the process dies.
fn lock(path: &Path, group: Group, progress: &mut dyn FnMut(Progress)) -> Result<File, Error> {
    let file = File::create(path).map_err(Error::io("create", path))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => progress(Progress::Waiting { group: group.name() }),
        Err(TryLockError::Error(source)) => return Err(Error::io("lock", path)(source)),
    }
    file.lock().map_err(Error::io("lock", path))?;
    Ok(file)
}

fn clear(home: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(home).map_err(Error::io("read", home))? {
        let entry = entry.map_err(Error::io("read", home))?;
        if entry.file_name().to_string_lossy().starts_with(WORK) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn remove(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", folder)(error)),
        _ => Ok(()),
    }
}

struct Build<'a> {
    settings: &'a Settings,
    module: &'static Module,
    source: PathBuf,
    temporary: PathBuf,
    out: PathBuf,
    go_cache: PathBuf,
}

impl Build<'_> {
    fn run(&self, log: &Path, progress: &mut dyn FnMut(Progress)) -> Result<(), Error> {
        for folder in [&self.source, &self.temporary, &self.out] {
            fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        let texts = [("go.mod", self.module.go_mod), ("go.sum", self.module.go_sum)];
        for (name, text) in texts.iter().chain(self.module.sources) {
            let path = self.source.join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
            }
            fs::write(&path, text).map_err(Error::io("write", &path))?;
        }
        self.check_go()?;
        for binary in self.module.binaries {
            self.build(binary, log, progress)?;
        }
        for files in self.module.files {
            self.copy(files)?;
        }
        match fs::remove_file(log) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", log)(error)),
            _ => Ok(()),
        }
    }

    fn go(&self) -> Command {
        let mut go = Command::new(&self.settings.go);
        go.current_dir(&self.source)
            .env("GOCACHE", &self.go_cache)
            .env("GOTMPDIR", &self.temporary)
            // Settings of the user that would change what is built.
            .env("GOFLAGS", "")
            .env("GOWORK", "off")
            .env("CGO_ENABLED", "0")
            .stdin(Stdio::null());
        go
    }

    fn first_binary(&self) -> &'static str {
        self.module
            .binaries
            .first()
            .map_or(self.module.name, |binary| binary.name)
    }

    /// In the module's folder, so that Go itself says whether it will do.
    fn check_go(&self) -> Result<(), Error> {
        match self.go().args(["env", "GOVERSION"]).output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(Error::GoTooOld {
                binary: self.first_binary(),
                found: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
                needs: GO_NEEDS,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::GoMissing {
                binary: self.first_binary(),
                cache: self.settings.cache.clone(),
                needs: GO_NEEDS,
            }),
            Err(error) => Err(Error::io("run", &self.settings.go)(error)),
        }
    }

    fn build(
        &self,
        binary: &'static Binary,
        log: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Error> {
        let estimate = Duration::from_secs(binary.seconds);
        progress(Progress::Building {
            binary: binary.name,
            version: binary.version,
            estimate,
        });
        let output = File::create(log).map_err(Error::io("create", log))?;
        let also = output.try_clone().map_err(Error::io("open", log))?;
        let started = now();
        let mut child = self
            .go()
            .args([
                "build",
                "-trimpath",
                "-buildvcs=false",
                "-mod=readonly",
                "-ldflags",
            ])
            .arg(format!("-s -w {}", binary.ldflags).trim())
            .args(binary.flags)
            .arg("-o")
            .arg(self.out.join(binary.name))
            .arg(binary.package)
            .stdout(output)
            .stderr(also)
            .spawn()
            .map_err(Error::io("run", &self.settings.go))?;
        let mut told = Duration::ZERO;
        let status = loop {
            if let Some(status) = child
                .try_wait()
                .map_err(Error::io("wait for", &self.settings.go))?
            {
                break status;
            }
            thread::sleep(POLL);
            let elapsed = started.elapsed();
            if elapsed - told >= TELL_EVERY {
                told = elapsed;
                progress(Progress::StillBuilding {
                    binary: binary.name,
                    elapsed,
                    estimate,
                });
            }
        };
        if !status.success() {
            return Err(Error::Build {
                binary: binary.name,
                status: status.to_string(),
                log: log.into(),
                tail: tail(log, 2000).map_err(Error::io("read", log))?,
            });
        }
        progress(Progress::Built {
            binary: binary.name,
            elapsed: started.elapsed(),
        });
        Ok(())
    }

    fn copy(&self, files: &Files) -> Result<(), Error> {
        let output = self
            .go()
            .args(["list", "-m", "-mod=readonly", "-f", "{{.Dir}}", files.module])
            .output()
            .map_err(Error::io("run", &self.settings.go))?;
        if !output.status.success() {
            return Err(Error::Build {
                binary: files.name,
                status: output.status.to_string(),
                log: self.source.clone(),
                tail: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        let root = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()).join(files.from);
        copy_tree(&root, &self.out.join(files.name), files.suffix)
    }
}

fn copy_tree(from: &Path, to: &Path, suffix: &str) -> Result<(), Error> {
    fs::create_dir_all(to).map_err(Error::io("create", to))?;
    for entry in fs::read_dir(from).map_err(Error::io("read", from))? {
        let entry = entry.map_err(Error::io("read", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_tree(&source, &target, suffix)?;
        } else if source.to_string_lossy().ends_with(suffix) {
            // Written, not copied: files of the module cache are read-only, and the cache must be removable.
            let text = fs::read(&source).map_err(Error::io("read", &source))?;
            fs::write(&target, text).map_err(Error::io("write", &target))?;
        }
    }
    Ok(())
}

/// The last `limit` bytes or fewer, from the start of a line.
fn tail(path: &Path, limit: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    match text.split_once('\n') {
        Some((_, rest)) if length > limit => Ok(rest.to_owned()),
        _ => Ok(text.into_owned()),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "measures a build for its progress lines"
)]
fn now() -> Instant {
    Instant::now()
}
