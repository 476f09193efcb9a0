//! Scoped sockets are opened and closed as they are written down and taken away.

use std::collections::HashMap;
use std::sync::Arc;

use errdefs::{Result, Step};
use rustix::fs::inotify;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use crate::connection::Door;
use crate::listen::{self, Socket};
use crate::scope::{self, Scope};
use crate::{Address, Server};

/// The sockets that are open.
type Open = HashMap<String, (Arc<Socket>, JoinHandle<()>)>;

/// Keeps what is open and what is written down the same, until it is dropped.
pub struct Sockets {
    server: Arc<Server>,
    open: Open,
}

impl Sockets {
    /// Opens what there is.
    pub fn new(server: Arc<Server>) -> Self {
        let mut sockets = Sockets {
            server,
            open: Open::new(),
        };
        sockets.look();
        sockets
    }

    /// Looks again whenever the list changes; for ever.
    pub async fn follow(&mut self) -> Result<()> {
        let step = "watch the list of sockets";
        let what = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::DELETE | inotify::WatchFlags::CLOSE_WRITE;
        let watch = engine::watch::directory(&Scope::watched(&self.server.engines.roots)?, what, step)?;
        let wakings = pipe::Receiver::from_owned_fd_unchecked(watch).step(step)?;
        loop {
            self.look();
            wakings.readable().await.step(step)?;
            while wakings.try_read(&mut [0; 4096]).is_ok() {}
        }
    }

    fn look(&mut self) {
        let roots = &self.server.engines.roots;
        let list = match Scope::list(roots) {
            Ok(list) => list,
            Err(error) => return (self.server.log)(&error.to_string()),
        };
        self.open.retain(|name, (socket, accepting)| {
            let kept = list.iter().any(|scope| scope.name == *name);
            if !kept {
                accepting.abort();
                socket.remove();
            }
            kept
        });
        for scope in list {
            if self.open.contains_key(&scope.name) {
                continue;
            }
            let path = scope.place(roots).join("api.sock");
            match listen::open(Address::Unix(path), scope.group, None) {
                Ok(socket) => {
                    let name = scope.name.clone();
                    let door = Door {
                        scope: Some(Arc::new(scope)),
                        page: None,
                    };
                    let accepting = tokio::spawn(listen::accept(socket.clone(), self.server.clone(), door));
                    self.open.insert(name, (socket, accepting));
                }
                Err(error) => (self.server.log)(&error.to_string()),
            }
        }
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        let roots = &self.server.engines.roots;
        for (name, (socket, accepting)) in &self.open {
            accepting.abort();
            socket.remove();
            let _ = std::fs::remove_dir(scope::directory(roots).join(name));
        }
        let _ = std::fs::remove_dir(scope::directory(roots));
    }
}
