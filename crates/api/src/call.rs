//! One request on its way to a handler.

use std::sync::Arc;

use bytes::Bytes;
use engine::Engine;
use errdefs::{Error, Kind, Result, Step};
use hyper::HeaderMap;
use hyper::body::Incoming;

use crate::Server;
use crate::query::{Query, integer};
use crate::reply::Reply;
use crate::version::Version;

/// Everything of a request that a handler may want.
pub struct Call {
    /// What all connections share.
    pub server: Arc<Server>,
    /// Of the API, as the client speaks it.
    pub version: Version,
    /// What stands in the path's places, percent-encoding taken off.
    pub params: Vec<String>,
    /// After the question mark.
    pub query: Query,
    /// HTTP's.
    pub headers: HeaderMap,
    /// All of the body, for handlers that want it so.
    pub body: Bytes,
    /// The body as it comes, for the others.
    pub incoming: Option<Incoming>,
    /// Those that everything has to have, through a socket whose scope has labels.
    pub labels: Vec<String>,
    /// Whether the client asked for an upgrade of the connection, and to what.
    pub upgrade: Option<String>,
}

impl Call {
    /// What stands in the path's first place: mostly a name.
    pub fn name(&self) -> &str {
        self.params.first().map_or("", String::as_str)
    }

    /// The `filters` parameter.
    pub fn filters(&self) -> Result<Vec<(String, String)>> {
        let mut filters = crate::filters::parse(self.query.text("filters"))?;
        filters.extend(self.labels.iter().map(|label| ("label".to_owned(), label.clone())));
        Ok(filters)
    }

    /// `1700000000.5`, or a time of RFC 3339, in nanoseconds.
    pub fn time(&self, name: &str) -> Result<Option<i64>> {
        let Some(text) = self.query.text(name).filter(|t| name != "until" || *t != "0") else {
            return Ok(None);
        };
        if let Ok(time) = text.parse::<jiff::Timestamp>() {
            return Ok(Some(time.as_nanosecond() as i64));
        }
        let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
        let seconds = integer("ParseInt", seconds)?;
        let nanoseconds = match fraction {
            "" => 0,
            fraction => integer(
                "ParseInt",
                &format!("{fraction:0<9}").chars().take(9).collect::<String>(),
            )?,
        };
        let whole = seconds.checked_mul(1_000_000_000);
        let time = whole.and_then(|s| s.checked_add(nanoseconds));
        let bad = || Error::invalid(format!("strconv.ParseInt: parsing {text:?}: value out of range"));
        time.map(Some).ok_or_else(bad)
    }

    /// Whether the client speaks at least this version.
    pub fn since(&self, minor: u32) -> bool {
        self.version >= Version(1, minor)
    }
}

/// Calls the engine on a thread for blocking work.
pub async fn blocking<T, F>(server: &Arc<Server>, call: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce(&Engine) -> Result<T> + Send + 'static,
{
    let server = server.clone();
    let done = tokio::task::spawn_blocking(move || server.engines.with(call)).await;
    done.step("do what was asked")?
}

/// A handler that is one call of the engine.
pub async fn simple(call: Call, handler: fn(&Engine, &Call) -> Result<Reply>) -> Result<Reply> {
    blocking(&call.server.clone(), move |engine| handler(engine, &call)).await
}

/// What the engine does not do yet.
pub fn not_yet(what: &str) -> Error {
    Error::new(Kind::NotImplemented, format!("{what}: not supported yet"))
}
