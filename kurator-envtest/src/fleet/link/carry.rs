use std::{collections::VecDeque, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    time::{Instant, sleep_until},
};

use super::fault::{Draws, State};

/// Chunks under way in one direction before its reader must wait.
const UNDER_WAY: usize = 256;
const CHUNK: usize = 16 * 1024;

/// The connection has no way to end well.
struct Broken;

/// Carries one connection until it ends or a fault ends it.
pub(super) async fn carry(
    mut client: TcpStream,
    upstream: SocketAddr,
    state: watch::Receiver<State>,
    number: u64,
) {
    let ended = match connect(upstream, state.clone(), number).await {
        Ok(mut server) => {
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let ended = {
                let (from_client, to_client) = client.split();
                let (from_server, to_server) = server.split();
                let up = Pump::new(from_client, to_server, state.clone(), number, 0);
                let down = Pump::new(from_server, to_client, state, number, 1);
                futures::try_join!(up.run(), down.run())
            };
            if ended.is_err() {
                let _ = server.set_zero_linger();
            }
            ended.map(|_| ())
        }
        Err(broken) => Err(broken),
    };
    if ended.is_err() {
        // So that closing it resets it.
        let _ = client.set_zero_linger();
    }
}

async fn connect(
    upstream: SocketAddr,
    mut state: watch::Receiver<State>,
    number: u64,
) -> Result<TcpStream, Broken> {
    let now = *state.borrow_and_update();
    if now.cut.is_some() {
        return Err(Broken);
    }
    if let Some(loss) = now.loss
        && Draws::new(loss.seed, number, 2).happens(loss.connections)
    {
        if loss.resets {
            return Err(Broken);
        }
        return stall(&mut state).await;
    }
    tokio::select! {
        biased;
        cut = state.wait_for(|state| state.cut.is_some()) => {
            let _ = cut;
            Err(Broken)
        }
        server = TcpStream::connect(upstream) => server.map_err(|_| Broken),
    }
}

/// Open and silent until a cut or a heal breaks it.
async fn stall<T>(state: &mut watch::Receiver<State>) -> Result<T, Broken> {
    loop {
        let now = *state.borrow_and_update();
        if now.cut.is_some() || (now.loss.is_none() && !now.half_open) {
            return Err(Broken);
        }
        state.changed().await.map_err(|_| Broken)?;
    }
}

/// One direction of a connection.
struct Pump<'a> {
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    state: watch::Receiver<State>,
    number: u64,
    direction: u64,
    under_way: VecDeque<(Instant, Vec<u8>)>,
    latest: Option<Instant>,
}

impl<'a> Pump<'a> {
    fn new(
        from: ReadHalf<'a>,
        to: WriteHalf<'a>,
        state: watch::Receiver<State>,
        number: u64,
        direction: u64,
    ) -> Self {
        Self {
            from,
            to,
            state,
            number,
            direction,
            under_way: VecDeque::new(),
            latest: None,
        }
    }

    async fn run(mut self) -> Result<(), Broken> {
        let mut now = *self.state.borrow_and_update();
        let seeded = |seed| Draws::new(seed, self.number, self.direction);
        let mut jitter = seeded(now.delay.map_or(0, |delay| delay.seed));
        let mut losses = seeded(now.loss.map_or(0, |loss| loss.seed));
        let mut buffer = vec![0; CHUNK];
        let mut open = true;
        let mut swallowed = false;
        while open || !self.under_way.is_empty() {
            if now.cut.is_some() || (swallowed && !now.half_open) {
                return Err(Broken);
            }
            let due = self
                .under_way
                .front()
                .map(|(due, _)| *due)
                .filter(|_| !now.half_open);
            tokio::select! {
                biased;
                changed = self.state.changed() => {
                    changed.map_err(|_| Broken)?;
                    let before = now;
                    now = *self.state.borrow_and_update();
                    if now.delay != before.delay {
                        jitter = Draws::new(now.delay.map_or(0, |delay| delay.seed), self.number, self.direction);
                    }
                    if now.loss != before.loss {
                        losses = Draws::new(now.loss.map_or(0, |loss| loss.seed), self.number, self.direction);
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    if let Some((_, chunk)) = self.under_way.pop_front() {
                        self.write(&chunk).await?;
                    }
                }
                read = self.from.read(&mut buffer), if open && self.under_way.len() < UNDER_WAY => {
                    let length = read.map_err(|_| Broken)?;
                    let chunk = buffer.get(..length).unwrap_or_default();
                    if length == 0 {
                        open = false;
                    } else if now.half_open {
                        swallowed = true;
                    } else {
                        if let Some(loss) = now.loss && losses.happens(loss.chunks) {
                            if loss.resets {
                                return Err(Broken);
                            }
                            return stall(&mut self.state).await;
                        }
                        let delay = now.delay.map_or_else(Default::default, |delay| {
                            delay.base + jitter.up_to(delay.jitter)
                        });
                        let due = Instant::now() + delay;
                        let due = self.latest.map_or(due, |latest| latest.max(due));
                        self.latest = Some(due);
                        self.under_way.push_back((due, chunk.to_vec()));
                    }
                }
            }
        }
        // In a half-open link not even the end of the stream arrives.
        while now.half_open {
            self.state.changed().await.map_err(|_| Broken)?;
            now = *self.state.borrow_and_update();
            if now.cut.is_some() || swallowed {
                return Err(Broken);
            }
        }
        self.to.shutdown().await.map_err(|_| Broken)
    }

    /// A peer that does not read must not hold up a cut.
    async fn write(&mut self, chunk: &[u8]) -> Result<(), Broken> {
        let mut rest = chunk;
        while !rest.is_empty() {
            tokio::select! {
                biased;
                cut = self.state.wait_for(|state| state.cut.is_some()) => {
                    let _ = cut;
                    return Err(Broken);
                }
                written = self.to.write(rest) => {
                    let written = written.map_err(|_| Broken)?;
                    rest = rest.get(written..).unwrap_or_default();
                }
            }
        }
        Ok(())
    }
}
