//! Docker Engine's HTTP API over the engine.
//!
//! ```text
//! socket -> connection (hyper) -> routes::find -> handler: decodes, calls the engine, encodes -> Reply
//!                |                                                         |
//!                +--- a Reply that takes the connection over: raw bytes both ways (attach, exec)
//! ```
//!
//! Architecture invariant: no daemon. Nothing that anybody relies on is kept here: who kills this process loses the
//! connections and nothing else. The engine is synchronous: its calls run on threads for blocking work, each with an
//! engine of its own; what waits or streams for long is polled and needs no thread.
#![forbid(unsafe_code)]

mod call;
mod connection;
mod decode;
mod engines;
mod filters;
mod frames;
#[cfg(fuzzing)]
pub mod fuzzing;
mod gowords;
mod handlers;
mod hijack;
mod listen;
mod openapi;
mod page;
mod peer;
mod pending;
mod process;
mod query;
mod reaper;
mod reply;
mod routes;
mod scope;
mod shape;
mod sockets;
mod stream;
mod tls;
mod version;
mod watch;
mod websocket;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::Roots;
use engine::image::registry;
use errdefs::{Result, Step};

use connection::Door;
pub use scope::Scope;
pub use tls::Tls;

/// Who is told one line about each request that changes something, and about connections that fail.
pub type Log = Arc<dyn Fn(&str) + Send + Sync>;

/// Where it listens.
#[derive(Debug)]
pub enum Address {
    /// A socket of the file system.
    Unix(PathBuf),
    /// Off loopback only with TLS that verifies clients.
    Tcp(SocketAddr),
    /// A socket that was opened by whoever started us (systemd's activation).
    Inherited(OwnedFd),
}

/// What `berth api` gives.
pub struct Settings {
    /// The engine's state.
    pub roots: Roots,
    /// At least one.
    pub addresses: Vec<Address>,
    /// The group whose members may use unix sockets; nobody but root unless given.
    pub group: Option<u32>,
    /// For TCP.
    pub tls: Option<Tls>,
    /// Ends when nobody has been connected for so long.
    pub idle_exit: Option<Duration>,
    /// How registries are spoken to; credentials come with each request.
    pub registry: registry::Options,
    /// The web page: where, its token, and whether it may change things.
    pub page: Option<(SocketAddr, String, bool)>,
    /// Receives the log's lines.
    pub log: Log,
    /// Called once all sockets listen.
    pub ready: Box<dyn FnOnce()>,
}

/// What all connections share.
struct Server {
    engines: engines::Engines,
    pending: pending::Pending,
    watcher: watch::Watcher,
    connections: listen::Connections,
    registry: registry::Options,
    log: Log,
}

/// Serves until SIGTERM or SIGINT.
pub fn serve(settings: Settings) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(256)
        .thread_stack_size(1 << 20)
        .thread_keep_alive(Duration::from_secs(5))
        .thread_name("berth-api")
        .enable_all()
        .build()
        .step("start the API's threads")?;
    runtime.block_on(run(settings))?;
    // Who still waits on a blocking thread waits for what may never come.
    runtime.shutdown_background();
    Ok(())
}

async fn run(settings: Settings) -> Result<()> {
    // Fails here, and not at the first request, when the state cannot be used.
    engine::Engine::open(settings.roots.clone())?;
    let server = Arc::new(Server {
        engines: engines::Engines::new(settings.roots),
        pending: pending::Pending::default(),
        watcher: watch::Watcher::default(),
        connections: listen::Connections::new(),
        registry: settings.registry,
        log: settings.log,
    });
    let mut sockets = Vec::new();
    for address in settings.addresses {
        sockets.push(listen::open(address, settings.group, settings.tls.as_ref())?);
    }
    tokio::spawn(reaper::run());
    for socket in &sockets {
        tokio::spawn(listen::accept(socket.clone(), server.clone(), Door::default()));
    }
    if let Some((address, token, write)) = settings.page {
        let page = Arc::new(page::Page::new(token, write));
        let door = Door {
            scope: Some(Arc::new(page.scope())),
            page: Some(page),
        };
        tokio::spawn(listen::accept(listen::page(address)?, server.clone(), door));
    }
    let mut scoped = sockets::Sockets::new(server.clone());
    (settings.ready)();
    tokio::select! {
        failed = scoped.follow() => failed?,
        told = listen::until_told_to_end() => told?,
        () = listen::until_idle(server, settings.idle_exit) => {}
    }
    sockets.iter().for_each(|socket| socket.remove());
    Ok(())
}
