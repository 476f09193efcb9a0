//! Sockets: opened, accepted from, taken away.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use errdefs::{Error, Result, Step};
use rustix::net::AddressFamily;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};

use crate::{Address, Server, connection};

/// A listening socket.
pub enum Socket {
    /// With its name, if that is ours to take away.
    Unix(UnixListener, Option<PathBuf>),
    Tcp(TcpListener),
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
pub fn open(address: Address, group: Option<u32>) -> Result<Arc<Socket>> {
    match address {
        Address::Unix(path) => unix(&path, group).map(Arc::new),
        Address::Inherited(fd) => inherited(fd).map(Arc::new),
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

fn inherited(fd: std::os::fd::OwnedFd) -> Result<Socket> {
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
            listener.set_nonblocking(true).step(step)?;
            Ok(Socket::Tcp(TcpListener::from_std(listener).step(step)?))
        }
        _ => Err(Error::invalid(
            "the socket that was passed is of no family that HTTP is spoken over",
        )),
    }
}

/// Accepts for ever.
pub async fn accept(socket: Arc<Socket>, server: Arc<Server>) {
    loop {
        let accepted = match &*socket {
            Socket::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
            Socket::Tcp(listener) => listener.accept().await.map(|(stream, _)| Accepted::Tcp(stream)),
        };
        match accepted {
            Ok(Accepted::Unix(stream)) => {
                tokio::spawn(connection::serve(stream, server.clone()));
            }
            Ok(Accepted::Tcp(stream)) => {
                let _ = stream.set_nodelay(true);
                tokio::spawn(connection::serve(stream, server.clone()));
            }
            // No descriptors left, mostly: others give some back.
            Err(error) => {
                (server.log)(&format!("accept a connection: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

enum Accepted {
    Unix(UnixStream),
    Tcp(tokio::net::TcpStream),
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
