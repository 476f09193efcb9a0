//! What connections are made of, and what can be told of who is at the other end: whether it has read what was written to
//! it, whether it is still there.

use std::future::pending;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::unix::pipe;
use tokio::net::{TcpStream, UnixStream};

/// Who does not read for so long is written to all the same.
const PATIENCE: Duration = Duration::from_millis(100);
/// Of the bits that this waits for only "closed" ever comes: nobody here has urgent data.
const CLOSED: Interest = Interest::PRIORITY;

/// A connection.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// A look at its other end, also while somebody else has the connection.
    fn peer(&self) -> Peer;
}

/// Who is at the other end.
#[derive(Clone)]
pub enum Peer {
    /// Of a socket of the file system.
    Unix(Arc<UnixStream>),
    /// Of the network.
    Tcp(Arc<OwnedFd>),
    /// Somebody of whom nothing is known.
    Unknown,
}

impl Peer {
    /// Until it has read everything, as far as can be told.
    pub async fn has_read(self) {
        let Peer::Unix(stream) = self else { return };
        // What is read makes room, of which the kernel tells.
        let look = || match sys::net::unread(&*stream) {
            Ok(1..) => Err(ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        };
        let _ = tokio::time::timeout(PATIENCE, stream.async_io(Interest::WRITABLE, look)).await;
    }

    /// Until it is gone: both directions closed, so that nobody can read what is still written. For ever where that cannot be told.
    pub async fn gone(self) {
        if let Peer::Unix(stream) = &self
            && let Ok(own) = stream.as_fd().try_clone_to_owned()
            && let Ok(watch) = pipe::Sender::from_owned_fd_unchecked(own)
        {
            // Asked about what can be written alone, the kernel tells of the end of both directions, and not of that of the other's.
            let _ = watch.ready(CLOSED).await;
        } else {
            pending().await
        }
    }

    /// Until it has nothing more to say. Who waits for a stream's end is taken to be gone then where more cannot be told, as dockerd does.
    pub async fn hung_up(self) {
        if let Peer::Tcp(stream) = &self
            && let Ok(own) = stream.try_clone()
            && let Ok(watch) = pipe::Receiver::from_owned_fd_unchecked(own)
        {
            let _ = watch.ready(CLOSED).await;
        } else {
            self.gone().await
        }
    }
}

/// A unix socket that can be looked at while it is in use.
pub struct Shared(Arc<UnixStream>);

impl From<UnixStream> for Shared {
    fn from(stream: UnixStream) -> Self {
        Shared(Arc::new(stream))
    }
}

impl Shared {
    /// Tries until the kernel has a result.
    fn poll<T>(
        &self,
        mut ready: impl FnMut(&UnixStream) -> Poll<io::Result<()>>,
        mut act: impl FnMut(&UnixStream) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            ready!(ready(&self.0))?;
            match act(&self.0) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
        }
    }
}

impl AsyncRead for Shared {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll(|s| s.poll_read_ready(cx), |s| s.try_read_buf(buffer).map(drop))
    }
}

impl AsyncWrite for Shared {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(|s| s.poll_write_ready(cx), |s| s.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(|s| s.poll_write_ready(cx), |s| s.try_write_vectored(pieces))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = rustix::net::shutdown(&*self.0, rustix::net::Shutdown::Write);
        Poll::Ready(shut.map_err(io::Error::from))
    }
}

impl Stream for Shared {
    fn peer(&self) -> Peer {
        Peer::Unix(self.0.clone())
    }
}

impl Stream for TcpStream {
    fn peer(&self) -> Peer {
        let own = self.as_fd().try_clone_to_owned();
        own.map_or(Peer::Unknown, |own| Peer::Tcp(Arc::new(own)))
    }
}

impl Stream for tokio_rustls::server::TlsStream<TcpStream> {
    fn peer(&self) -> Peer {
        self.get_ref().0.peer()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn run<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(future)
    }

    #[test]
    fn what_is_written_and_read_arrives() {
        run(async {
            let (a, mut b) = UnixStream::pair().unwrap();
            let mut a = Shared::from(a);
            let peer = a.peer();
            a.write_all(b"abc").await.unwrap();
            let reading = async { b.read_exact(&mut [0; 3]).await.unwrap() };
            tokio::join!(peer.has_read(), reading);
            assert_eq!(sys::net::unread(&*a.0).unwrap(), 0);
            let large = vec![7; 1 << 20];
            let mut back = vec![0; 1 << 20];
            let (wrote, read) = tokio::join!(a.write_all(&large), b.read_exact(&mut back));
            assert!(wrote.is_ok() && read.is_ok() && back == large);
            b.write_all(b"x").await.unwrap();
            assert_eq!(a.read_u8().await.unwrap(), b'x');
            a.shutdown().await.unwrap();
            assert_eq!(b.read(&mut back).await.unwrap(), 0);
        });
    }

    #[test]
    fn who_half_closes_is_there_and_who_closes_is_gone() {
        run(async {
            let (a, mut b) = UnixStream::pair().unwrap();
            let a = Shared::from(a);
            b.write_all(b"more").await.unwrap();
            b.shutdown().await.unwrap();
            let still = tokio::time::timeout(Duration::from_millis(50), a.peer().gone());
            assert!(still.await.is_err(), "it still listens");
            drop(b);
            a.peer().gone().await;
            a.peer().hung_up().await;
        });
    }
}
