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
    /// A link of your own before any other server on loopback, such as an object store.
    ///
    /// # Errors
    /// When no port or no thread can be had.
    pub fn before(port: u16) -> io::Result<Self> {
        let link = Self::start()?;
        link.forward_to(port);
        Ok(link)
    }

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

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read, Write},
        net::{Shutdown, SocketAddr, TcpListener, TcpStream},
        time::Duration,
    };

    use super::*;

    /// Sends back what it gets, until the end, to each connection.
    fn echo() -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || io::copy(&mut stream.try_clone().unwrap(), &mut stream));
            }
        });
        port
    }

    fn connect(link: &Link) -> TcpStream {
        TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], link.port()))).unwrap()
    }

    fn there_and_back(link: &Link, text: &[u8]) -> Vec<u8> {
        let mut stream = connect(link);
        let mut writer = stream.try_clone().unwrap();
        let mut back = Vec::new();
        thread::scope(|scope| {
            scope.spawn(move || {
                writer.write_all(text).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            stream.read_to_end(&mut back).unwrap();
        });
        back
    }

    fn text() -> Vec<u8> {
        (0..200_000_u32).flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn bytes_and_the_end_of_each_direction_pass_unchanged() {
        let link = Link::before(echo()).unwrap();
        assert_eq!(there_and_back(&link, &text()), text());
        assert_eq!(there_and_back(&link, b""), b"");
    }

    #[test]
    fn jitter_changes_neither_order_nor_content() {
        let link = Link::before(echo()).unwrap();
        link.delay(Delay::fixed(Duration::from_millis(1)).with_jitter(Duration::from_millis(9), 5));
        assert_eq!(there_and_back(&link, &text()), text());
    }

    #[test]
    fn a_link_that_refuses_keeps_its_port_and_listens_again() {
        let link = Link::before(echo()).unwrap();
        for _ in 0..20 {
            link.cut(Cut::Refuse);
            let address = SocketAddr::from(([127, 0, 0, 1], link.port()));
            assert_eq!(
                TcpStream::connect(address).unwrap_err().kind(),
                ErrorKind::ConnectionRefused
            );
            assert_eq!(
                TcpListener::bind(address).unwrap_err().kind(),
                ErrorKind::AddrInUse
            );
            link.heal();
            assert_eq!(there_and_back(&link, b"again"), b"again");
        }
    }

    #[test]
    fn a_peer_that_does_not_read_cannot_hold_up_a_cut() {
        let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let link = Link::before(silent.local_addr().unwrap().port()).unwrap();
        let mut stream = connect(&link);
        stream
            .set_write_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        let _unread = silent.accept().unwrap();
        // Until every buffer on the way is full.
        while stream.write(&[0; 65536]).is_ok() {}
        link.cut(Cut::Reset);
        stream.set_write_timeout(None).unwrap();
        let broken = stream.write(&[0]).unwrap_err().kind();
        assert!(
            matches!(broken, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
            "{broken}"
        );
    }

    #[test]
    fn a_link_before_a_dead_server_resets() {
        // Bound, so that nobody else listens there, but not listening.
        let dead = tokio::net::TcpSocket::new_v4().unwrap();
        dead.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let dead = (dead.local_addr().unwrap().port(), dead);
        let link = Link::before(dead.0).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], link.port()));
        let seen = TcpStream::connect(address).and_then(|mut stream| stream.read(&mut [0]));
        assert_eq!(seen.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}
