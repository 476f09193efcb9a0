//! What fuzz targets reach of this crate: whatever comes from a client or a monitor, read to an end, without a server.

use hyper::HeaderMap;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use tokio::net::UnixStream;

use crate::frames::{self, Keys};
use crate::hijack::{Client, Streams, join};
use crate::query::{Query, unescape};
use crate::{decode, filters, gowords, routes, version};

/// A path with its query, and what its `filters` say.
pub fn query(text: &str) {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    if let Ok(path) = unescape(path, false)
        && let Ok((_, rest)) = version::split(&path)
    {
        for method in ["GET", "POST", "DELETE"] {
            if let Some(found) = routes::find(method, rest) {
                assert!(found.params.iter().all(|param| !param.is_empty()));
            }
        }
    }
    if let Ok(query) = Query::parse(query) {
        let _ = (query.on("all"), query.number("limit"));
        if let Ok(pairs) = filters::parse(query.text("filters")) {
            assert!(pairs.len() <= text.len());
        }
    }
    let _ = filters::parse(Some(text));
}

/// A body of `containers/create`: good, or refused in words.
pub fn body(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let _ = decode::container(&headers, bytes);
    if let Err(error) = serde_json::from_slice::<serde_json::Value>(bytes) {
        // What serde takes for no JSON, the words take for none, too; serde alone minds surrogates and great numbers.
        let words = gowords::syntax(bytes);
        assert!(words.is_none_or(|words| !words.is_empty()), "{error}");
    }
}

/// What a monitor sends to a client that has taken its connection over, and what that client types.
pub fn hijack(bytes: &[u8]) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return;
    };
    runtime.block_on(async {
        let mut buffer = Vec::new();
        let mut stream = bytes;
        while let Ok(Some(_)) = frames::frame(&mut stream, &mut buffer).await {
            assert!(buffer.len() <= engine::link::FRAME_LIMIT + 8);
        }
        let _ = frames::message(&mut { bytes }).await;
        let (tty, bare) = (bytes.first().is_some_and(|b| b & 1 == 1), bytes.len() % 2 == 0);
        joined(bytes, tty, bare).await;
    });
    typed(bytes);
}

async fn joined(bytes: &[u8], tty: bool, bare: bool) {
    let (Ok((ours, mut theirs)), Ok(keys)) = (UnixStream::pair(), Keys::parse(None)) else {
        return;
    };
    let (writer, mut reader) = tokio::io::duplex(1 << 20);
    let client = Client {
        reader: Box::new(std::io::Cursor::new(bytes.to_vec())),
        writer: Box::new(writer),
        ready: Box::pin(async {}),
        gone: Box::pin(std::future::pending()),
    };
    let streams = Streams {
        stdin: true,
        stdout: true,
        stderr: true,
        tty,
        bare,
        keys,
    };
    let monitor = async {
        let (mut from, mut to) = theirs.split();
        let _ = tokio::io::AsyncWriteExt::write_all(&mut to, bytes).await;
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut to).await;
        let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    };
    let mut out = Vec::new();
    let client = async {
        join(client, ours, streams).await;
    };
    tokio::join!(monitor, client, async {
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut out).await;
    });
    assert!(out.len() <= bytes.len());
}

/// However the input is cut, the same goes on.
fn typed(bytes: &[u8]) {
    let (Ok(mut whole), Ok(mut cut)) = (Keys::parse(None), Keys::parse(None)) else {
        return;
    };
    let (all, detached) = whole.filter(bytes);
    let (mut pieces, mut ended) = (Vec::new(), false);
    for piece in bytes.chunks(3) {
        let (some, over) = cut.filter(piece);
        pieces.extend(some);
        ended = over;
        if ended {
            break;
        }
    }
    assert_eq!((all, detached), (pieces, ended));
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Keys::parse(Some(text));
    }
}
