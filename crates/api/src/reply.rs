//! What a handler answers, and how that becomes HTTP.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use engine::models::ErrorResponse;
use errdefs::{Error, Kind};
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::mpsc::Receiver;

use crate::hijack::{Boxed, Takeover};
use crate::peer::Peer;

/// An answer.
pub struct Reply {
    /// HTTP's.
    pub status: u16,
    /// Besides those that every answer has.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// After the head.
    pub content: Content,
}

/// What follows the head.
pub enum Content {
    /// All of it is known.
    Whole(Bytes),
    /// It comes bit by bit; an error breaks the connection off.
    Stream(Receiver<Result<Bytes, Error>>),
    /// The connection itself.
    Takeover(Takeover),
}

impl Reply {
    /// A status alone.
    pub fn status(status: u16) -> Self {
        Reply {
            status,
            headers: Vec::new(),
            content: Content::Whole(Bytes::new()),
        }
    }

    /// 204.
    pub fn nothing() -> Self {
        Reply::status(204)
    }

    /// 200, or another status, with a body.
    pub fn json(status: u16, body: &impl Serialize) -> Self {
        let mut bytes = serde_json::to_vec(body).unwrap_or_default();
        bytes.push(b'\n');
        Reply {
            status,
            headers: vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))],
            content: Content::Whole(bytes.into()),
        }
    }

    /// 200 and plain words.
    pub fn text(text: impl Into<Bytes>) -> Self {
        Reply::plain(200, text)
    }

    /// A status and plain words.
    pub fn plain(status: u16, text: impl Into<Bytes>) -> Self {
        let kind = HeaderValue::from_static("text/plain; charset=utf-8");
        Reply {
            status,
            headers: vec![(CONTENT_TYPE, kind)],
            content: Content::Whole(text.into()),
        }
    }

    /// 200 and what comes.
    pub fn stream(kind: &'static str, stream: Receiver<Result<Bytes, Error>>) -> Self {
        Reply {
            status: 200,
            headers: vec![(CONTENT_TYPE, HeaderValue::from_static(kind))],
            content: Content::Stream(stream),
        }
    }

    /// The connection itself.
    pub fn takeover(takeover: Takeover) -> Self {
        Reply {
            status: 101,
            headers: Vec::new(),
            content: Content::Takeover(takeover),
        }
    }

    /// With one more header; a value that is none is left out.
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// Docker's form of an error.
    pub fn error(error: &Error) -> Self {
        if error.kind() == Kind::NotModified {
            return Reply::status(304);
        }
        let body = ErrorResponse { message: words(error) };
        Reply::json(error.kind().http_status(), &body)
    }

    /// For hyper. The caller has dealt with takeovers. A stream ends when its client is gone.
    pub fn into_response(self, client: Peer) -> Response<Outgoing> {
        let body = match self.content {
            Content::Whole(bytes) => Outgoing::Whole(Some(bytes)),
            Content::Stream(stream) => Outgoing::Stream(stream, Box::pin(client.hung_up())),
            Content::Takeover(_) => Outgoing::Whole(None),
        };
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().extend(self.headers);
        response
    }
}

/// An error's words; what can be done about it on a line of its own, as on the command line.
pub fn words(error: &Error) -> String {
    match error.find_hint() {
        Some(hint) => format!("{error}\nhint: {hint}"),
        None => error.to_string(),
    }
}

/// A body on its way out.
pub enum Outgoing {
    Whole(Option<Bytes>),
    /// What comes, and the client's end.
    Stream(Receiver<Result<Bytes, Error>>, Boxed<()>),
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.get_mut() {
            Outgoing::Whole(bytes) => Poll::Ready(bytes.take().filter(|b| !b.is_empty()).map(|b| Ok(Frame::data(b)))),
            Outgoing::Stream(stream, gone) => match stream.poll_recv(context) {
                Poll::Ready(next) => Poll::Ready(next.map(|piece| piece.map(Frame::data))),
                Poll::Pending => gone
                    .as_mut()
                    .poll(context)
                    .map(|()| Some(Err(Error::system("the client is gone")))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Outgoing::Whole(bytes) if bytes.as_ref().is_none_or(Bytes::is_empty))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outgoing::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Outgoing::Stream(..) => SizeHint::default(),
        }
    }
}
