//! One connection: requests come, a row of the table is found, its handler answers.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use errdefs::{Error, Result};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderName, HeaderValue, LOCATION, UPGRADE, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Server;
use crate::call::Call;
use crate::hijack::{Boxed, Client, Takeover};
use crate::listen::Connections;
use crate::page::Page;
use crate::peer::Stream;
use crate::query::{Query, unescape};
use crate::reply::{Content, Outgoing, Reply, words};
use crate::routes::{self, BodyKind, Found, Route, Run};
use crate::scope::Scope;
use crate::{stream, version};

/// How long a head may take to come, and a connection stay idle: as long as dockerd's.
const HEAD_PATIENCE: Duration = Duration::from_secs(300);
/// A head may be so large.
const HEAD_LIMIT: usize = 256 << 10;
/// A body that is read as a whole may be so large.
const BODY_LIMIT: usize = 8 << 20;

/// Where a handler leaves that it takes the connection over.
type Slot = Arc<Mutex<Option<Takeover>>>;

/// Through which socket a connection comes.
#[derive(Clone, Default)]
pub struct Door {
    /// What may be asked; everything unless given.
    pub scope: Option<Arc<Scope>>,
    /// It is the page's.
    pub page: Option<Arc<Page>>,
}

/// Serves it to its end.
pub async fn serve<I>(io: I, server: Arc<Server>, door: Door)
where
    I: Stream,
{
    let _connected = Connections::add(&server);
    let slot: Slot = Slot::default();
    let shared = slot.clone();
    let peer = io.peer();
    let other = peer.clone();
    let service = service_fn(move |request: Request<Incoming>| -> Boxed<Result<Response<Outgoing>>> {
        let (server, slot, door, peer) = (server.clone(), shared.clone(), door.clone(), other.clone());
        Box::pin(async move {
            let reply = answer(request, &server, door).await;
            match reply.content {
                Content::Takeover(takeover) => {
                    *slot.lock().unwrap_or_else(|e| e.into_inner()) = Some(takeover);
                    // The loop below sees it and never polls us again.
                    std::future::pending().await
                }
                _ => Ok(reply.into_response(peer)),
            }
        })
    });
    let mut builder = http1::Builder::new();
    builder
        .half_close(true)
        .title_case_headers(true)
        .max_buf_size(HEAD_LIMIT);
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE);
    let mut connection = builder.serve_connection(TokioIo::new(io), service);
    let taken = poll_fn(|context| {
        let done = connection.poll_without_shutdown(context);
        match slot.lock().unwrap_or_else(|e| e.into_inner()).take() {
            Some(takeover) => Poll::Ready(Some(takeover)),
            None => done.map(|_| None),
        }
    });
    let taken = taken.await;
    let parts = connection.into_parts();
    let mut io = parts.io.into_inner();
    let Some(takeover) = taken else {
        let _ = io.shutdown().await;
        return;
    };
    if io.write_all(&takeover.head).await.is_err() || io.flush().await.is_err() {
        return;
    }
    let (reader, writer) = tokio::io::split(io);
    let client = Client {
        reader: Box::new(std::io::Cursor::new(parts.read_buf).chain(reader)),
        writer: Box::new(writer),
        // Some read the head with a buffer of their own: what would come with it would be lost to them who then read the
        // bare socket. dockerd is too slow to know of that.
        ready: Box::pin(peer.clone().has_read()),
        gone: Box::pin(peer.gone()),
    };
    (takeover.run)(client).await;
}

/// Everything between a request and its answer.
async fn answer(request: Request<Incoming>, server: &Arc<Server>, door: Door) -> Reply {
    if let Some(page) = &door.page {
        let (method, uri) = (request.method().as_str(), request.uri());
        if let Some(reply) = page.answer(method, uri.path(), uri.query(), request.headers()) {
            return reply;
        }
    }
    let path = match unescape(request.uri().path(), false) {
        Ok(path) => path,
        // Go's server says so before anybody reads the path.
        Err(_) => return Reply::plain(400, "400 Bad Request"),
    };
    if let Some(clean) = cleaned(&path) {
        let query = request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
        return Reply::status(301).header(LOCATION, &format!("{}{query}", escaped(&clean)));
    }
    let (call_version, rest) = match version::split(&path) {
        Ok(split) => split,
        Err(error) => return with_headers(unspoken(&error)),
    };
    let rest = rest.to_owned();
    if request.method() == hyper::Method::OPTIONS {
        return with_headers(Reply::status(200));
    }
    let Some(Found { route, params }) = routes::find(request.method().as_str(), &rest) else {
        return Reply::error(&Error::not_found("page not found"));
    };
    let changes = route.changes();
    let asked = Asked {
        route,
        params,
        version: call_version,
        scope: door.scope,
    };
    let result = handle(request, server, asked).await;
    let reply = match result {
        Ok(reply) => {
            if changes {
                (server.log)(&format!("{} {rest}: {}", route.method, reply.status));
            }
            crate::shape::answer(route.name, call_version, reply)
        }
        Err(error) => {
            if changes {
                let words = words(&error).replace('\n', " ");
                (server.log)(&format!(
                    "{} {rest}: {}: {words}",
                    route.method,
                    error.kind().http_status()
                ));
            }
            Reply::error(&error)
        }
    };
    with_headers(reply)
}

/// Versions before the oldest had errors as plain text, and so have their clients.
fn unspoken(error: &Error) -> Reply {
    let words = words(error);
    match words.contains("too old") {
        true => Reply::plain(400, words).header(X_CONTENT_TYPE_OPTIONS, "nosniff"),
        false => Reply::error(error),
    }
}

/// What a request asks for, as its path says.
struct Asked {
    route: &'static Route,
    params: Vec<String>,
    version: version::Version,
    scope: Option<Arc<Scope>>,
}

async fn handle(request: Request<Incoming>, server: &Arc<Server>, asked: Asked) -> Result<Reply> {
    let query = Query::parse(request.uri().query().unwrap_or_default())?;
    let (head, incoming) = request.into_parts();
    let (body, incoming) = match asked.route.body {
        BodyKind::Whole => (stream::collect(incoming, BODY_LIMIT).await?, None),
        BodyKind::Stream => (Default::default(), Some(incoming)),
    };
    let mut call = Call {
        server: server.clone(),
        version: asked.version,
        params: asked.params,
        query,
        upgrade: upgrade(&head.headers),
        headers: head.headers,
        body,
        incoming,
        labels: asked.scope.as_ref().map(|s| s.labels.clone()).unwrap_or_default(),
    };
    if let Some(scope) = asked.scope {
        let admitted = crate::call::blocking(server, move |engine| {
            let admitted = scope.admit(engine, asked.route, &call);
            Ok((call, admitted))
        });
        let admitted = admitted.await?;
        call = admitted.0;
        admitted.1?;
    }
    match asked.route.run {
        Run::Engine(handler) => crate::call::simple(call, handler).await,
        Run::Async(handler) => handler(call).await,
    }
}

/// What the client wants the connection to become.
fn upgrade(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    let wanted = text(CONNECTION)?.to_ascii_lowercase();
    wanted.split(',').any(|w| w.trim() == "upgrade").then_some(())?;
    text(UPGRADE).map(String::from)
}

/// A path that has `//`, `.` or `..` in it, without them, as Go's server redirects it.
fn cleaned(path: &str) -> Option<String> {
    let odd = |part: &str| part.is_empty() || part == "." || part == "..";
    if path == "/" || !path.split('/').skip(1).any(odd) {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    let end = if path.ends_with('/') && !parts.is_empty() {
        "/"
    } else {
        ""
    };
    let clean = format!("/{}{end}", parts.join("/"));
    (clean != path).then_some(clean)
}

/// A path as it stands in a URL.
fn escaped(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@!*'()".contains(&b);
    let mut text = String::new();
    for byte in path.bytes() {
        match plain(byte) {
            true => text.push(byte as char),
            false => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// What every answer of the API says about the server.
pub fn server_headers() -> [(&'static str, String); 4] {
    [
        ("Api-Version", version::NEWEST.to_string()),
        ("Docker-Experimental", "false".into()),
        ("Ostype", "linux".into()),
        ("Server", format!("Berth/{} (linux)", env!("CARGO_PKG_VERSION"))),
    ]
}

fn with_headers(mut reply: Reply) -> Reply {
    for (name, value) in server_headers() {
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            reply = reply.header(name, &value);
        }
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_gos_server_does() {
        assert_eq!(cleaned("/v1.51//info").as_deref(), Some("/v1.51/info"));
        assert_eq!(cleaned("/containers/../../etc/passwd").as_deref(), Some("/etc/passwd"));
        assert_eq!(cleaned("/a/./b/").as_deref(), Some("/a/b/"));
        assert_eq!((cleaned("/info"), cleaned("/")), (None, None));
        assert_eq!(escaped("/a b/%?\r\n"), "/a%20b/%25%3F%0D%0A");
    }
}
