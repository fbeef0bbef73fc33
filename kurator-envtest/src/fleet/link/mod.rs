//! The network between a test and one API server.

mod carry;
mod fault;
mod serve;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
        mpsc,
    },
    thread,
};

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use self::fault::State;
pub use self::fault::{Cut, Delay, Loss};

/// A TCP forwarder before one API server, with faults to switch on and off. Clients and kubeconfigs of a
/// [`crate::Member`] go through it; the member's own parts do not.
///
/// Each method returns when the fault is in effect, for connections that are open as well as for new ones.
/// Delay and loss add up; [`Link::cut`] and [`Link::half_open`] replace each other; [`Link::heal`] ends all.
///
/// # Caveats
/// Loss and jitter draw from a generator seeded by the test and the number of the connection, but how a stream
/// falls into chunks is up to TCP: two runs see the same draws, not always the same bytes.
#[derive(Debug)]
pub struct Link {
    port: u16,
    upstream: Arc<AtomicU16>,
    commands: Option<UnboundedSender<Command>>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Command {
    change: Change,
    done: mpsc::Sender<()>,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Cut(Cut),
    Delay(Delay),
    HalfOpen,
    Heal,
    Lose(Loss),
}

impl Link {
    /// Listens now; where it forwards to is said later.
    pub(super) fn start() -> io::Result<Self> {
        let upstream = Arc::new(AtomicU16::new(0));
        let known = Arc::clone(&upstream);
        let (commands, received) = unbounded_channel();
        let (told, started) = mpsc::channel();
        // A thread with a runtime of its own: the link outlives the runtime of a single test, and stalls or
        // panics there do not become faults here.
        let thread = thread::Builder::new()
            .name("kurator-envtest-link".into())
            .spawn(move || {
                let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        let _ = told.send(Err(error));
                        return;
                    }
                };
                runtime.block_on(serve::run(known, received, told));
            })?;
        let port = started.recv().map_err(io::Error::other)??;
        Ok(Self {
            port,
            upstream,
            commands: Some(commands),
            thread: Some(thread),
        })
    }

    /// Forwards new connections to this port of loopback.
    pub(super) fn forward_to(&self, port: u16) {
        self.upstream.store(port, Ordering::Relaxed);
    }

    /// Where it listens, on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Breaks every connection, and lets no new one through.
    pub fn cut(&self, how: Cut) {
        self.send(Change::Cut(how));
    }

    /// Delays what passes, in each direction.
    pub fn delay(&self, delay: Delay) {
        self.send(Change::Delay(delay));
    }

    /// Keeps connections open, accepts new ones, swallows what comes and never answers: a peer that died
    /// without a word. A connection that lost bytes so is reset when the link heals.
    pub fn half_open(&self) {
        self.send(Change::HalfOpen);
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.send(Change::Heal);
    }

    /// Loses connections or parts of them, at random but reproducibly.
    pub fn lose(&self, loss: Loss) {
        self.send(Change::Lose(loss));
    }

    fn send(&self, change: Change) {
        let (done, finished) = mpsc::channel();
        let Some(commands) = &self.commands else { return };
        if commands.send(Command { change, done }).is_ok() {
            // An error means that the thread is gone, and with it every connection.
            let _ = finished.recv();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.commands.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl State {
    fn change(&mut self, change: Change) {
        match change {
            Change::Cut(how) => (self.cut, self.half_open) = (Some(how), false),
            Change::Delay(delay) => self.delay = Some(delay),
            Change::HalfOpen => (self.cut, self.half_open) = (None, true),
            Change::Heal => *self = Self::default(),
            Change::Lose(loss) => self.loss = Some(loss),
        }
    }
}
