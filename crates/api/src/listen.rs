//! Sockets: opened, accepted from, taken away.

use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use errdefs::{Error, Result, Step};
use rustix::net::AddressFamily;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;

use crate::connection::Door;
use crate::peer::Shared;
use crate::{Address, Server, Tls, connection, tls};

/// How long a client may take to show who it is.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A listening socket.
pub enum Socket {
    /// With its name, if that is ours to take away.
    Unix(UnixListener, Option<PathBuf>),
    /// Encrypted, if it is to be.
    Tcp(TcpListener, Option<TlsAcceptor>),
}

impl Socket {
    /// Its name in the file system is no use any more.
    pub fn remove(&self) {
        if let Socket::Unix(_, Some(path)) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Opens one.
pub fn open(address: Address, group: Option<u32>, tls: Option<&Tls>) -> Result<Arc<Socket>> {
    match address {
        Address::Unix(path) => unix(&path, group).map(Arc::new),
        Address::Tcp(address) => tcp(address, tls).map(Arc::new),
        Address::Inherited(fd) => inherited(fd, tls).map(Arc::new),
    }
}

/// Nobody but the group may ever connect: the socket gets its name once its mode is right.
fn unix(path: &Path, group: Option<u32>) -> Result<Socket> {
    let step = || format!("listen at {}", path.display());
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).step_with(step)?;
    }
    refuse_taken(path)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let _ = std::fs::remove_file(&temporary);
    let listener = StdUnixListener::bind(&temporary).step_with(step)?;
    let named = || {
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o660))?;
        std::os::unix::fs::chown(&temporary, None, Some(group.unwrap_or(0)))?;
        std::fs::rename(&temporary, path)
    };
    named()
        .step_with(step)
        .inspect_err(|_| _ = std::fs::remove_file(&temporary))?;
    listener.set_nonblocking(true).step_with(step)?;
    Ok(Socket::Unix(
        UnixListener::from_std(listener).step_with(step)?,
        Some(path.to_owned()),
    ))
}

/// A socket that somebody listens at stays; what is no socket stays, too.
fn refuse_taken(path: &Path) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e).step_with(|| format!("look at {}", path.display())),
        Ok(meta) if !meta.file_type().is_socket() => {
            Err(Error::conflict(format!("{} is there and is no socket", path.display())))
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => Err(Error::conflict(format!("another server listens at {}", path.display()))),
            Err(_) => Ok(()),
        },
    }
}

/// Whoever speaks to us is root. So off loopback everybody has to show a certificate.
fn tcp(address: SocketAddr, tls: Option<&Tls>) -> Result<Socket> {
    let step = || format!("listen at {address}");
    check_reach(address, tls)?;
    let listener = std::net::TcpListener::bind(address).step_with(step)?;
    listener.set_nonblocking(true).step_with(step)?;
    let acceptor = tls.map(tls::acceptor).transpose()?;
    Ok(Socket::Tcp(TcpListener::from_std(listener).step_with(step)?, acceptor))
}

/// For the page: who reaches it from elsewhere goes through a tunnel, because it is spoken to in the plain.
pub fn page(address: SocketAddr) -> Result<Arc<Socket>> {
    if !address.ip().to_canonical().is_loopback() {
        let message = format!("refusing to serve the page at {address}: it is no address of loopback");
        return Err(Error::invalid(message).hint("from another machine: ssh -L PORT:127.0.0.1:PORT HOST"));
    }
    tcp(address, None).map(Arc::new)
}

fn check_reach(address: SocketAddr, tls: Option<&Tls>) -> Result<()> {
    if address.ip().to_canonical().is_loopback() || tls.is_some_and(|tls| tls.authority.is_some()) {
        return Ok(());
    }
    let message = format!("refusing to listen at {address} without TLS that verifies clients: they would be root here");
    Err(Error::invalid(message).hint("--tlsverify with --tlscacert, --tlscert and --tlskey; or an address of loopback"))
}

fn inherited(fd: std::os::fd::OwnedFd, tls: Option<&Tls>) -> Result<Socket> {
    let step = "use the socket that was passed";
    let address = rustix::net::getsockname(&fd).map_err(std::io::Error::from).step(step)?;
    match address.address_family() {
        AddressFamily::UNIX => {
            let listener = StdUnixListener::from(fd);
            listener.set_nonblocking(true).step(step)?;
            Ok(Socket::Unix(UnixListener::from_std(listener).step(step)?, None))
        }
        AddressFamily::INET | AddressFamily::INET6 => {
            let listener = std::net::TcpListener::from(fd);
            check_reach(listener.local_addr().step(step)?, tls)?;
            listener.set_nonblocking(true).step(step)?;
            let acceptor = tls.map(tls::acceptor).transpose()?;
            Ok(Socket::Tcp(TcpListener::from_std(listener).step(step)?, acceptor))
        }
        _ => Err(Error::invalid(
            "the socket that was passed is of no family that HTTP is spoken over",
        )),
    }
}

/// Accepts for ever.
pub async fn accept(socket: Arc<Socket>, server: Arc<Server>, door: Door) {
    loop {
        let accepted = match &*socket {
            Socket::Unix(listener, _) => listener.accept().await.map(|(stream, _)| {
                tokio::spawn(connection::serve(Shared::from(stream), server.clone(), door.clone()));
            }),
            Socket::Tcp(listener, acceptor) => listener.accept().await.map(|(stream, _)| {
                let _ = stream.set_nodelay(true);
                match acceptor.clone() {
                    Some(acceptor) => tokio::spawn(encrypted(stream, acceptor, server.clone())),
                    None => tokio::spawn(connection::serve(stream, server.clone(), door.clone())),
                };
            }),
        };
        // No descriptors left, mostly: others give some back.
        if let Err(error) = accepted {
            (server.log)(&format!("accept a connection: {error}"));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn encrypted(stream: tokio::net::TcpStream, acceptor: TlsAcceptor, server: Arc<Server>) {
    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => connection::serve(stream, server, Door::default()).await,
        Ok(Err(error)) => (server.log)(&format!("TLS handshake: {error}")),
        Err(_) => {}
    }
}

/// Returns when nobody has been connected for so long.
pub async fn until_idle(server: Arc<Server>, patience: Option<Duration>) {
    let Some(patience) = patience else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(patience.min(Duration::from_secs(1))).await;
        let (connected, last) = server.connections.now();
        if connected == 0 && last.elapsed() >= patience {
            return;
        }
    }
}

/// Who is connected at the moment.
pub struct Connections {
    count: AtomicUsize,
    since: Instant,
    last: Mutex<Option<Instant>>,
}

/// One of them, as long as it is kept.
pub struct Connected(Arc<Server>);

impl Connections {
    /// Nobody yet.
    pub fn new() -> Self {
        Connections {
            count: AtomicUsize::new(0),
            since: Instant::now(),
            last: Mutex::default(),
        }
    }

    /// Counts one more.
    pub fn add(server: &Arc<Server>) -> Connected {
        server.connections.count.fetch_add(1, Ordering::Relaxed);
        Connected(server.clone())
    }

    /// How many, and when the last one went.
    fn now(&self) -> (usize, Instant) {
        let last = *self.last.lock().unwrap_or_else(|e| e.into_inner());
        (self.count.load(Ordering::Relaxed), last.unwrap_or(self.since))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let connections = &self.0.connections;
        *connections.last.lock().unwrap_or_else(|e| e.into_inner()) = Some(Instant::now());
        connections.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// SIGTERM or SIGINT.
pub async fn until_told_to_end() -> Result<()> {
    let step = "wait for signals";
    let mut terminate = signal(SignalKind::terminate()).step(step)?;
    let mut interrupt = signal(SignalKind::interrupt()).step(step)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
