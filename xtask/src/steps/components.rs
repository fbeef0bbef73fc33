//! The programs of the test fleet are built beside whatever does not need them.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use kurator_envtest::components::{Components, Group};

use crate::run::Outcome;

/// What the build in the background has said so far, once it was started.
static BUILD: Mutex<Build> = Mutex::new(Build {
    news: None,
    ready: Vec::new(),
});

struct Build {
    news: Option<Receiver<News>>,
    ready: Vec<Group>,
}

enum News {
    /// A build needs time and has begun.
    Begun,
    /// Every program of a group is in the cache, or cannot be had.
    Ended(Group, Outcome),
}

/// Starts to build whatever is missing of these groups, in their order. Without Go, or with a wrong one, this
/// fails at once.
pub(crate) fn start_components(groups: Vec<Group>) -> Outcome {
    let (sender, receiver) = channel();
    let all = groups.len();
    thread::spawn(move || build(&groups, &sender));
    let mut build = BUILD.lock().unwrap_or_else(PoisonError::into_inner);
    while build.ready.len() < all {
        match receiver.recv() {
            Ok(News::Begun) => break,
            Ok(News::Ended(group, outcome)) => {
                outcome?;
                build.ready.push(group);
            }
            Err(_) => return Err(silent()),
        }
    }
    build.news = Some(receiver);
    Ok(())
}

/// Waits until [`start_components`] has built this group.
pub(crate) fn wait_for(wanted: Group) -> Outcome {
    let mut build = BUILD.lock().unwrap_or_else(PoisonError::into_inner);
    while !build.ready.contains(&wanted) {
        match build.news.as_ref().map(Receiver::recv) {
            Some(Ok(News::Begun)) => {}
            Some(Ok(News::Ended(group, outcome))) => {
                outcome?;
                build.ready.push(group);
            }
            Some(Err(_)) | None => return Err(silent()),
        }
    }
    Ok(())
}

fn silent() -> String {
    "the build of the components ended without an answer".to_owned()
}

/// `cargo xtask envtest`: builds them in the foreground and says where they are.
pub(crate) fn build_components(groups: &[Group]) -> Outcome {
    let components = Components::ensure(groups, &mut |step| println!("{step}")).map_err(explain)?;
    for (name, path) in components.binaries() {
        println!("{name}: {}", path.display());
    }
    Ok(())
}

/// Ends with the first group that fails. Nobody listens any more only when the task ended first.
fn build(groups: &[Group], news: &Sender<News>) {
    for group in groups {
        let mut begun = false;
        let built = Components::ensure(&[*group], &mut |step| {
            println!("    components: {step}");
            if !begun {
                begun = true;
                let _ = news.send(News::Begun);
            }
        });
        let outcome = built.map(|_| ()).map_err(explain);
        let failed = outcome.is_err();
        let _ = news.send(News::Ended(*group, outcome));
        if failed {
            return;
        }
    }
}

fn explain(error: kurator_envtest::components::Error) -> String {
    use std::error::Error as _;
    error
        .source()
        .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
