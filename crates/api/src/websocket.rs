//! Web sockets: the same raw streams, for browsers.

use bytes::Bytes;
use errdefs::{Error, Result};
use hyper::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use crate::hijack::{Boxed, Client};

/// Bytes between the socket and what is behind it.
const BUFFER: usize = 16 << 10;
/// A client's message may be so large.
const MESSAGE_LIMIT: usize = 1 << 20;

/// The answer to a client's handshake (RFC 6455, 4.2).
pub fn head(headers: &HeaderMap) -> Result<Bytes> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let key = text("sec-websocket-key");
    if !text("upgrade").eq_ignore_ascii_case("websocket") || key.is_empty() || text("sec-websocket-version") != "13" {
        return Err(Error::invalid("a web socket's handshake was expected"));
    }
    let accept = derive_accept_key(key.as_bytes());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    Ok(head.into())
}

/// Speaks the protocol to the client, and plain bytes to what is behind it.
pub async fn serve(client: Client, behind: impl FnOnce(Client) -> Boxed<()>) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_LIMIT))
        .max_frame_size(Some(MESSAGE_LIMIT));
    client.ready.await;
    let io = tokio::io::join(client.reader, client.writer);
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let (ours, theirs) = duplex(BUFFER);
    let (reader, writer) = split(theirs);
    let inner = Client {
        reader: Box::new(reader),
        writer: Box::new(writer),
        ready: Box::pin(std::future::ready(())),
        gone: client.gone,
    };
    tokio::join!(behind(inner), translate(socket, ours));
}

async fn translate<S>(mut socket: WebSocketStream<S>, ours: DuplexStream)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    use futures_util::{SinkExt, StreamExt};
    let (mut output, mut input) = split(ours);
    let mut buffer = vec![0; BUFFER];
    loop {
        tokio::select! {
            read = output.read(&mut buffer) => {
                let Ok(read @ 1..) = read else { break };
                let message = Message::Binary(Bytes::copy_from_slice(&buffer[..read]));
                if socket.send(message).await.is_err() {
                    return;
                }
            }
            message = socket.next() => {
                // What a process that has ended does not take is lost; what it wrote is still to come.
                let _ = match message {
                    Some(Ok(Message::Binary(bytes))) => input.write_all(&bytes).await,
                    Some(Ok(Message::Text(text))) => input.write_all(text.as_bytes()).await,
                    Some(Ok(Message::Close(_))) | Some(Err(_)) | None => return,
                    Some(Ok(_)) => Ok(()),
                };
            }
        }
    }
    let _ = socket.close(None).await;
}
