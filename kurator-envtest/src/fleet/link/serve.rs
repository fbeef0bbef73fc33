use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
        mpsc::Sender,
    },
};

use tokio::{
    net::{TcpListener, TcpSocket},
    sync::{mpsc::UnboundedReceiver, watch},
    task::JoinSet,
};

use super::{
    Command,
    carry::carry,
    fault::{Cut, State},
};

const BACKLOG: u32 = 1024;

/// Keeps its port while it does not listen: bound too, but never listening, so that nobody else gets it.
struct Port {
    address: SocketAddr,
    _holder: TcpSocket,
}

impl Port {
    fn take() -> io::Result<Self> {
        let holder = TcpSocket::new_v4()?;
        holder.set_reuseport(true)?;
        holder.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        Ok(Self {
            address: holder.local_addr()?,
            _holder: holder,
        })
    }

    fn listen(&self) -> io::Result<TcpListener> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseport(true)?;
        // Connections of an earlier listener may still linger on the port.
        socket.set_reuseaddr(true)?;
        socket.bind(self.address)?;
        socket.listen(BACKLOG)
    }
}

pub(super) async fn run(
    upstream: Arc<AtomicU16>,
    mut commands: UnboundedReceiver<Command>,
    told: Sender<io::Result<u16>>,
) {
    let opened = Port::take().and_then(|port| port.listen().map(|listener| (port, listener)));
    let (port, mut listener) = match opened {
        Ok((port, listener)) => (port, Some(listener)),
        Err(error) => {
            let _ = told.send(Err(error));
            return;
        }
    };
    if told.send(Ok(port.address.port())).is_err() {
        return;
    }
    let mut connections = JoinSet::new();
    let mut count = 0;
    let state = watch::Sender::new(State::default());
    loop {
        tokio::select! {
            biased;
            command = commands.recv() => {
                let Some(command) = command else { return };
                state.send_modify(|state| state.change(command.change));
                let now = *state.borrow();
                if now.cut == Some(Cut::Refuse) {
                    listener = None;
                } else if listener.is_none() {
                    listener = port.listen().ok();
                }
                if now.cut.is_some() {
                    // They see the change and reset; the fault is in effect when the last is gone.
                    while connections.join_next().await.is_some() {}
                }
                let _ = command.done.send(());
            }
            Some(accepted) = accept(listener.as_ref()) => {
                if let Ok((stream, _)) = accepted {
                    let port = upstream.load(Ordering::Relaxed);
                    let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                    connections.spawn(carry(stream, upstream, state.subscribe(), count));
                    count += 1;
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> Option<io::Result<(tokio::net::TcpStream, SocketAddr)>> {
    match listener {
        Some(listener) => Some(listener.accept().await),
        // Disables the branch until the loop comes round with another state.
        None => None,
    }
}
