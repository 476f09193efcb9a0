//! A web page over the API, on a loopback address of its own: for who has its token, and read-only unless asked.
//!
//! What the page asks are the API's own operations, through a scope like that of a scoped socket. Other pages of the same
//! browser do not get here: the token is needed for everything but the page itself, and who comes by another name than
//! that of loopback (a name of the attacker's that was made to lead here) or from another page is refused.

use std::net::IpAddr;

use errdefs::{Error, Kind};
use hyper::HeaderMap;
use hyper::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName, ORIGIN, REFERRER_POLICY,
    UPGRADE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use serde_json::json;

use crate::query::Query;
use crate::reply::Reply;
use crate::scope::Scope;

/// The page's files; nothing is loaded from elsewhere.
const FILES: &[(&str, &str, &str)] = &[
    ("/", "text/html; charset=utf-8", include_str!("page.html")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page.js")),
    (
        "/terminal.js",
        "text/javascript; charset=utf-8",
        include_str!("terminal.js"),
    ),
    ("/page.css", "text/css; charset=utf-8", include_str!("page.css")),
];
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// Who may see it, and do what.
pub struct Page {
    token: String,
    write: bool,
}

impl Page {
    /// `write`: it may also change things.
    pub fn new(token: String, write: bool) -> Self {
        Page { token, write }
    }

    /// What may be asked through it.
    pub fn scope(&self) -> Scope {
        Scope {
            name: "page".into(),
            read_only: !self.write,
            ..Default::default()
        }
    }

    /// Answers what is the page's own, and refuses who has no token; `None`: the API may answer.
    pub fn answer(&self, method: &str, path: &str, query: Option<&str>, headers: &HeaderMap) -> Option<Reply> {
        let refuse = |kind: Kind, words: &str| Some(Reply::error(&Error::new(kind, words)));
        let host = text(headers, HOST);
        if !is_loopback(host) {
            return refuse(Kind::Forbidden, "the page is here for loopback addresses alone");
        }
        let origin = text(headers, ORIGIN);
        if !origin.is_empty() && origin.strip_prefix("http://") != Some(host) {
            return refuse(Kind::Forbidden, "another page asks");
        }
        if let Some((_, kind, file)) = FILES.iter().find(|(name, ..)| *name == path && method == "GET") {
            return Some(of_file(kind, file));
        }
        if !self.knows(headers, query) {
            return refuse(
                Kind::Unauthorized,
                "the page's token is needed: it was told when the server began",
            );
        }
        match path {
            "/page.json" => Some(Reply::json(200, &json!({"write": self.write}))),
            _ => None,
        }
    }

    /// Browsers cannot give web sockets a header.
    fn knows(&self, headers: &HeaderMap, query: Option<&str>) -> bool {
        let header = text(headers, AUTHORIZATION).strip_prefix("Bearer ").map(String::from);
        let query = query
            .filter(|_| headers.contains_key(UPGRADE))
            .and_then(|q| Query::parse(q).ok());
        let told = header
            .or_else(|| query?.text("token").map(String::from))
            .unwrap_or_default();
        // Takes as long whatever is told.
        let differs = told
            .bytes()
            .zip(self.token.bytes())
            .fold(0, |all, (a, b)| all | (a ^ b));
        told.len() == self.token.len() && differs == 0
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> &str {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name == "localhost" || address.is_ok_and(|a| a.is_loopback())
}

fn of_file(kind: &str, file: &'static str) -> Reply {
    let mut reply = Reply::text(file).header(CONTENT_SECURITY_POLICY, POLICY);
    reply.headers.retain(|(name, _)| name != CONTENT_TYPE);
    reply
        .header(CONTENT_TYPE, kind)
        .header(X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(X_FRAME_OPTIONS, "DENY")
        .header(REFERRER_POLICY, "no-referrer")
        .header(CACHE_CONTROL, "no-store")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(page: &Page, path: &str, query: Option<&str>, headers: &[(&'static str, &str)]) -> Option<u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(HeaderName::from_static(name), value.parse().unwrap());
        }
        page.answer("GET", path, query, &map).map(|reply| reply.status)
    }

    #[test]
    fn nobody_gets_in_without_the_token_or_from_elsewhere() {
        let page = Page::new("secret".into(), false);
        let here = ("host", "127.0.0.1:8080");
        let token = ("authorization", "Bearer secret");
        assert_eq!(status(&page, "/", None, &[here]), Some(200));
        assert_eq!(status(&page, "/containers/json", None, &[here]), Some(401));
        assert_eq!(status(&page, "/containers/json", None, &[here, token]), None);
        for wrong in ["Bearer secre", "Bearer secretx", "Bearer Secret", "secret", ""] {
            assert_eq!(
                status(&page, "/info", None, &[here, ("authorization", wrong)]),
                Some(401),
                "{wrong}"
            );
        }
        for host in ["evil.example:8080", "127.0.0.1.evil.example", "10.0.0.1", ""] {
            assert_eq!(status(&page, "/", None, &[("host", host), token]), Some(403), "{host}");
        }
        let elsewhere = ("origin", "http://evil.example");
        assert_eq!(status(&page, "/info", None, &[here, token, elsewhere]), Some(403));
        assert_eq!(
            status(
                &page,
                "/info",
                None,
                &[here, token, ("origin", "http://127.0.0.1:8080")]
            ),
            None
        );
        assert_eq!(status(&page, "/info", Some("token=secret"), &[here]), Some(401));
        assert_eq!(
            status(&page, "/info", Some("token=secret"), &[here, ("upgrade", "websocket")]),
            None
        );
        assert_eq!(status(&page, "/info", None, &[("host", "[::1]:80"), token]), None);
    }
}
