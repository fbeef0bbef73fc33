//! The programs of the test fleet are built beside whatever does not need them.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use kurator_envtest::components::{Components, Group};

use crate::run::Outcome;

/// The end of the build that runs in the background, once it was started.
static BUILD: Mutex<Option<Receiver<News>>> = Mutex::new(None);

enum News {
    /// The build needs time and has begun.
    Begun,
    Ended(Outcome),
}

/// Starts to build whatever is missing. Without Go, or with a wrong one, this fails at once.
pub(crate) fn start_components() -> Outcome {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let ended = ensure(&sender);
        // Nobody listens any more only when the task ended first.
        let _ = sender.send(News::Ended(ended));
    });
    match receiver.recv() {
        Ok(News::Begun) => *BUILD.lock().unwrap_or_else(PoisonError::into_inner) = Some(receiver),
        Ok(News::Ended(outcome)) => outcome?,
        Err(_) => return Err("the build of the components ended without an answer".to_owned()),
    }
    Ok(())
}

/// Waits for the build that [`start_components`] began.
pub(crate) fn wait_for_components() -> Outcome {
    let receiver = BUILD.lock().unwrap_or_else(PoisonError::into_inner).take();
    for news in receiver.iter().flatten() {
        if let News::Ended(outcome) = news {
            return outcome;
        }
    }
    Ok(())
}

/// `cargo xtask envtest`: builds them in the foreground and says where they are.
pub(crate) fn build_components() -> Outcome {
    let components =
        Components::ensure(&[Group::Kubernetes], &mut |step| println!("{step}")).map_err(explain)?;
    for (name, path) in components.binaries() {
        println!("{name}: {}", path.display());
    }
    Ok(())
}

fn ensure(news: &Sender<News>) -> Outcome {
    let mut begun = false;
    Components::ensure(&[Group::Kubernetes], &mut |step| {
        println!("    components: {step}");
        if !begun {
            begun = true;
            let _ = news.send(News::Begun);
        }
    })
    .map(|_| ())
    .map_err(explain)
}

fn explain(error: kurator_envtest::components::Error) -> String {
    use std::error::Error as _;
    error
        .source()
        .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
