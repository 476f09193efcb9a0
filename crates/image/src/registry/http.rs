//! HTTP to one registry: schemes, proxies, redirects, credentials, patience.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use errdefs::{Error, Kind, Result, Step};
use ureq::http::{Response, Uri};
use ureq::{Agent, Body, Proxy, SendBody};

use super::Options;
use super::auth::Auth;
use crate::Reference;

const REDIRECTS: usize = 5;
/// How often a request is tried that the registry did not get, or could not answer.
const ATTEMPTS: u32 = 4;

/// A registry's answer.
pub struct Answer {
    inner: Response<Body>,
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.inner.status().as_u16()
    }

    pub fn header(&self, name: &str) -> Option<String> {
        self.inner.headers().get(name)?.to_str().ok().map(String::from)
    }

    /// Whatever its length; the reader of it has the limit.
    pub fn body(&mut self) -> impl Read + '_ {
        self.inner.body_mut().with_config().limit(u64::MAX).reader()
    }

    pub fn into_body(self) -> Box<dyn Read + Send> {
        Box::new(self.inner.into_body().into_with_config().limit(u64::MAX).reader())
    }
}

/// Cheap to copy.
#[derive(Clone)]
pub struct Http {
    inner: Arc<Inner>,
}

struct Inner {
    agent: Agent,
    auth: Auth,
    options: Options,
}

impl Http {
    pub fn new(options: Options) -> Result<Self> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("berth/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .proxy(proxy(&options)?)
            .build();
        let auth = Auth::new(options.docker_config.clone(), options.credentials.clone());
        Ok(Http {
            inner: Arc::new(Inner {
                agent: config.new_agent(),
                auth,
                options,
            }),
        })
    }

    pub fn has_credentials(&self, registry: &str) -> bool {
        self.inner.auth.has_credentials(registry)
    }

    /// `path` is below the repository. With `follow`, redirects to other hosts are followed (blobs often are elsewhere).
    pub fn get(&self, reference: &Reference, path: &str, headers: &[(&str, &str)], follow: bool) -> Result<Answer> {
        let url = self.url(reference, path);
        let send = |url: &str, authorization: Option<&str>| {
            let mut request = self.inner.agent.get(url);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            if let Some(value) = authorization {
                request = request.header("Authorization", value);
            }
            request.call()
        };
        let answer = self.patiently(reference, &url, "pull", send)?;
        if follow {
            self.follow(answer, &url, headers)
        } else {
            Ok(answer)
        }
    }

    pub fn head(&self, reference: &Reference, path: &str) -> Result<Answer> {
        let url = self.url(reference, path);
        self.patiently(reference, &url, "pull,push", |url, authorization| {
            let request = self.inner.agent.head(url);
            match authorization {
                Some(value) => request.header("Authorization", value).call(),
                None => request.call(),
            }
        })
    }

    pub fn post(&self, reference: &Reference, path: &str) -> Result<Answer> {
        let url = self.url(reference, path);
        self.patiently(reference, &url, "pull,push", |url, authorization| {
            let request = self.inner.agent.post(url).header("Content-Length", "0");
            match authorization {
                Some(value) => request.header("Authorization", value).send_empty(),
                None => request.send_empty(),
            }
        })
    }

    /// Not repeated: content can be sent once. `place` may be a whole URL (an upload's).
    pub fn put(
        &self,
        reference: &Reference,
        place: &str,
        kind: &str,
        size: u64,
        content: &mut (dyn Read + Send),
    ) -> Result<Answer> {
        let base = self.url(reference, "");
        let url = match place {
            absolute if absolute.contains("://") => absolute.to_owned(),
            rooted if rooted.starts_with('/') => format!("{}{rooted}", origin(&base)),
            relative => format!("{base}{relative}"),
        };
        let mut request = self
            .inner
            .agent
            .put(&url)
            .header("Content-Type", kind)
            .header("Content-Length", size.to_string());
        // Only the registry itself gets the credentials: uploads may go elsewhere.
        if origin(&url) == origin(&base)
            && let Some(value) = self
                .inner
                .auth
                .cached(&reference.registry, &reference.repository, "pull,push")
        {
            request = request.header("Authorization", value);
        }
        let mut content = content;
        let answer = request
            .send(SendBody::from_reader(&mut content))
            .map_err(|e| failed(reference, &e))?;
        Ok(Answer { inner: answer })
    }

    /// Sends, with credentials once the registry asks for them, and again when it stumbles.
    fn patiently(
        &self,
        reference: &Reference,
        url: &str,
        actions: &str,
        send: impl Fn(&str, Option<&str>) -> std::result::Result<Response<Body>, ureq::Error>,
    ) -> Result<Answer> {
        let auth = &self.inner.auth;
        let mut pause = Duration::from_millis(200);
        let mut asked = false;
        let mut attempt = 1;
        loop {
            let authorization = auth.cached(&reference.registry, &reference.repository, actions);
            let last = attempt >= ATTEMPTS;
            match send(url, authorization.as_deref()) {
                Ok(answer) if answer.status() == 401 && !asked => {
                    asked = true;
                    let challenge = answer
                        .headers()
                        .get("WWW-Authenticate")
                        .and_then(|h| h.to_str().ok())
                        .unwrap_or_default();
                    if !auth.answer(
                        &self.inner.agent,
                        challenge,
                        reference,
                        actions,
                        self.plain(&reference.registry),
                    )? {
                        return Ok(Answer { inner: answer });
                    }
                    continue;
                }
                Ok(answer) if (answer.status().as_u16() >= 500 || answer.status() == 429) && !last => {}
                Ok(answer) => return Ok(Answer { inner: answer }),
                Err(e) if last || !passing(&e) => return Err(failed(reference, &e)),
                Err(_) => {}
            }
            attempt += 1;
            std::thread::sleep(pause);
            pause *= 2;
        }
    }

    /// To wherever the blob is: without credentials, and never from TLS to plain HTTP.
    fn follow(&self, mut answer: Answer, from: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        let mut at = from.to_owned();
        for _ in 0..REDIRECTS {
            if !matches!(answer.status(), 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let place = answer
                .header("Location")
                .ok_or_else(|| Error::system("the registry sends us elsewhere, but not where"))?;
            let next = match place.contains("://") {
                true => place,
                false => format!("{}{place}", origin(&at)),
            };
            if at.starts_with("https://") && !next.starts_with("https://") {
                return Err(Error::new(
                    Kind::Forbidden,
                    format!("the registry sends us from TLS to plain HTTP ({})", origin(&next)),
                ));
            }
            let mut request = self.inner.agent.get(&next);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let inner = request
                .call()
                .step_with(|| format!("get a blob from {}", origin(&next)))
                .map_err(|e| e.kind_is(Kind::Unavailable))?;
            answer = Answer { inner };
            at = next;
        }
        Err(Error::system("the registry sends us around in circles"))
    }

    fn url(&self, reference: &Reference, path: &str) -> String {
        let host = if reference.registry == "docker.io" {
            "registry-1.docker.io"
        } else {
            &reference.registry
        };
        let scheme = if self.plain(&reference.registry) {
            "http"
        } else {
            "https"
        };
        format!("{scheme}://{host}/v2/{}/{path}", reference.repository)
    }

    /// Whether a registry is spoken to without TLS.
    fn plain(&self, registry: &str) -> bool {
        let host = registry
            .strip_prefix('[')
            .and_then(|r| r.split(']').next())
            .unwrap_or_else(|| registry.split(':').next().unwrap_or_default());
        let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback());
        loopback || self.inner.options.insecure.iter().any(|i| i == registry)
    }
}

/// Scheme, host and port.
pub fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |i| i + 3);
    url[start..].find(['/', '?']).map_or(url, |end| &url[..start + end])
}

/// Worth another attempt: the connection, not what was said.
fn passing(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Io(e) if e.kind() != std::io::ErrorKind::ConnectionRefused)
        || matches!(error, ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed)
}

fn failed(reference: &Reference, error: &ureq::Error) -> Error {
    let message = format!("talk to the registry {}: {error}", reference.registry);
    let hint = match error {
        ureq::Error::HostNotFound => "is the registry's name right, and does name resolution work?",
        ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
            "nothing listens there: is the registry running, and the port right?"
        }
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
            "if the registry has no TLS, list it in insecure-registries of daemon.json or pass BERTH_INSECURE_REGISTRIES"
        }
        _ => "is the network up?",
    };
    Error::new(Kind::Unavailable, message).hint(hint)
}

/// `https_proxy`, unless `no_proxy` covers everything; the library handles the rest per host.
fn proxy(options: &Options) -> Result<Option<Proxy>> {
    let find = |name: &str| {
        options
            .proxy_env
            .iter()
            .find(|(n, v)| n.eq_ignore_ascii_case(name) && !v.is_empty())
            .map(|(_, v)| v.as_str())
    };
    let Some(url) = find("https_proxy")
        .or_else(|| find("http_proxy"))
        .or_else(|| find("all_proxy"))
    else {
        return Ok(None);
    };
    let uri: Uri = url.parse().step_with(|| format!("read the proxy's address {url}"))?;
    let mut builder = Proxy::builder(match uri.scheme_str() {
        Some("https") => ureq::ProxyProtocol::Https,
        _ => ureq::ProxyProtocol::Http,
    });
    builder = builder.host(uri.host().unwrap_or_default());
    if let Some(port) = uri.port_u16() {
        builder = builder.port(port);
    }
    if let Some((user, password)) = uri
        .authority()
        .and_then(|a| a.as_str().split_once('@'))
        .and_then(|(c, _)| c.split_once(':'))
    {
        builder = builder.username(user).password(password);
    }
    for host in ["localhost", "127.0.0.1", "::1"]
        .into_iter()
        .chain(find("no_proxy").into_iter().flat_map(|l| l.split(',')).map(str::trim))
    {
        if !host.is_empty() {
            builder = builder.no_proxy(host);
        }
    }
    builder.build().map(Some).step("use the proxy")
}
