//! HTTP to one registry: schemes, proxies, redirects, credentials, patience.

use std::collections::HashSet;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use errdefs::{Error, Kind, Result, Step};
use ureq::http::{Response, Uri};
use ureq::{Agent, Body, Proxy, SendBody};

use super::Options;
use super::auth::Auth;
use super::tls::Agents;
use crate::Reference;

const REDIRECTS: usize = 5;
/// How often a request is tried that the registry did not get, or could not answer.
const ATTEMPTS: u32 = 4;
/// Who asks for a longer pause is told to the user instead.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

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
    agents: Agents,
    auth: Auth,
    options: Options,
    /// Registries that may be plain, and turned out to speak TLS.
    tls: Mutex<HashSet<String>>,
}

impl Http {
    pub fn new(options: Options) -> Result<Self> {
        let auth = Auth::new(options.docker_config.clone(), options.credentials.clone());
        Ok(Http {
            inner: Arc::new(Inner {
                agents: Agents::new(proxy(&options)?, options.certificates.clone(), patience(&options)),
                auth,
                options,
                tls: Mutex::default(),
            }),
        })
    }

    /// How long a registry may be silent.
    pub fn patience(&self) -> Duration {
        patience(&self.inner.options)
    }

    /// The same image at the registry's mirrors, in the order of the settings.
    pub fn mirrors(&self, reference: &Reference) -> Vec<Reference> {
        let of = |(registry, _): &&(String, String)| registry == "*" || *registry == reference.registry;
        let mirror = |(_, place): &(String, String)| {
            let (registry, prefix) = place.split_once('/').unwrap_or((place, ""));
            let prefix = prefix.trim_end_matches('/');
            let repository = match prefix.is_empty() {
                true => reference.repository.clone(),
                false => format!("{prefix}/{}", reference.repository),
            };
            Reference {
                registry: registry.into(),
                repository,
                ..reference.clone()
            }
        };
        self.inner.options.mirrors.iter().filter(of).map(mirror).collect()
    }

    /// For a registry's own name, or another host that it sends us to.
    fn agent(&self, registry: &str) -> Agent {
        self.inner.agents.of(registry, self.loose(registry))
    }

    pub fn has_credentials(&self, registry: &str) -> bool {
        self.inner.auth.has_credentials(registry)
    }

    /// `path` is below the repository. With `follow`, redirects to other hosts are followed (blobs often are elsewhere).
    pub fn get(&self, reference: &Reference, path: &str, headers: &[(&str, &str)], follow: bool) -> Result<Answer> {
        let url = self.url(reference, path);
        let agent = self.agent(&reference.registry);
        let send = |url: &str, authorization: Option<&str>| {
            let mut request = agent.get(url);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            if let Some(value) = authorization {
                request = request.header("Authorization", value);
            }
            // Documents are small; how long a blob takes is for its reader to judge.
            let whole = (!follow).then(|| self.patience() * 10);
            request.config().timeout_recv_body(whole).build().call()
        };
        let answer = self.patiently(reference, &url, "pull", send)?;
        if follow {
            self.follow(answer, &url, headers)
        } else {
            Ok(answer)
        }
    }

    /// Of the registry itself; `path` begins with a slash.
    pub fn ask(&self, registry: &Reference, path: &str) -> Result<Answer> {
        let base = self.url(registry, "");
        let host = match registry.registry.as_str() {
            // Docker's own has its search elsewhere.
            "docker.io" if path.starts_with("/v1/") => "https://index.docker.io",
            _ => origin(&base),
        };
        let (url, agent) = (format!("{host}{path}"), self.agent(&registry.registry));
        let actions = if path.contains("_catalog") {
            "registry:catalog:*"
        } else {
            ""
        };
        self.patiently(registry, &url, actions, |url, authorization| {
            let request = agent.get(url);
            match authorization {
                Some(value) => request.header("Authorization", value).call(),
                None => request.call(),
            }
        })
    }

    /// A file that is no registry's, from wherever it is.
    pub fn download(&self, url: &str) -> Result<Answer> {
        let agent = self.agent(host_of(url));
        let inner = agent
            .get(url)
            .call()
            .step_with(|| format!("get {url}"))
            .map_err(|e| e.kind_is(Kind::Unavailable))?;
        self.follow(Answer { inner }, url, &[])
    }

    /// What the registry says to these credentials: status and body.
    pub fn try_credentials(&self, registry: &Reference, user: &str, secret: &str) -> Result<(u16, Vec<u8>)> {
        self.inner.auth.assume(&registry.registry, user, secret);
        let mut answer = match self.ask(registry, "/v2/") {
            Err(e) if e.kind() == Kind::Unauthorized => return Ok((401, Vec::new())),
            other => other?,
        };
        let body = crate::verify::read_bounded(answer.body(), 64 * 1024, "the registry's answer").unwrap_or_default();
        Ok((answer.status(), body))
    }

    pub fn head(&self, reference: &Reference, path: &str) -> Result<Answer> {
        let (url, agent) = (self.url(reference, path), self.agent(&reference.registry));
        self.patiently(reference, &url, "pull,push", |url, authorization| {
            let request = agent.head(url);
            match authorization {
                Some(value) => request.header("Authorization", value).call(),
                None => request.call(),
            }
        })
    }

    pub fn post(&self, reference: &Reference, path: &str) -> Result<Answer> {
        let (url, agent) = (self.url(reference, path), self.agent(&reference.registry));
        self.patiently(reference, &url, "pull,push", |url, authorization| {
            let request = agent.post(url).header("Content-Length", "0");
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
        let url = self.place(reference, place);
        let mut request = self
            .agent(host_of(&url))
            .put(&url)
            .header("Content-Type", kind)
            .header("Content-Length", size.to_string());
        if let Some(value) = self.own_authorization(reference, &url) {
            request = request.header("Authorization", value);
        }
        let mut content = content;
        let answer = request
            .send(SendBody::from_reader(&mut content))
            .map_err(|e| failed(reference, &e))?;
        Ok(Answer { inner: answer })
    }

    /// Content to an upload that has begun; where it goes on. `range`: which bytes these are; else all that come.
    pub fn patch(
        &self,
        reference: &Reference,
        place: &str,
        content: &mut (dyn Read + Send),
        range: Option<std::ops::Range<u64>>,
    ) -> Result<Answer> {
        let url = self.place(reference, place);
        let mut request = self
            .agent(host_of(&url))
            .patch(&url)
            .header("Content-Type", "application/octet-stream");
        if let Some(range) = range {
            request = request
                .header("Content-Range", format!("{}-{}", range.start, range.end - 1))
                .header("Content-Length", (range.end - range.start).to_string());
        }
        if let Some(value) = self.own_authorization(reference, &url) {
            request = request.header("Authorization", value);
        }
        let mut content = content;
        let answer = request.send(SendBody::from_reader(&mut content));
        Ok(Answer {
            inner: answer.map_err(|e| failed(reference, &e))?,
        })
    }

    /// How far an upload is.
    pub fn progress(&self, reference: &Reference, place: &str) -> Result<Answer> {
        let url = self.place(reference, place);
        let agent = self.agent(host_of(&url));
        let answer = match self.own_authorization(reference, &url) {
            Some(value) => agent.get(&url).header("Authorization", value).call(),
            None => agent.get(&url).call(),
        };
        Ok(Answer {
            inner: answer.map_err(|e| failed(reference, &e))?,
        })
    }

    /// Where an upload is: a whole URL, or one from the registry's root, or from the repository.
    fn place(&self, reference: &Reference, place: &str) -> String {
        let base = self.url(reference, "");
        match place {
            absolute if absolute.contains("://") => absolute.to_owned(),
            rooted if rooted.starts_with('/') => format!("{}{rooted}", origin(&base)),
            relative => format!("{base}{relative}"),
        }
    }

    /// Only the registry itself gets the credentials: uploads may go elsewhere.
    fn own_authorization(&self, reference: &Reference, url: &str) -> Option<String> {
        let own = origin(url) == origin(&self.url(reference, ""));
        let auth = &self.inner.auth;
        own.then(|| auth.cached(&reference.registry, &reference.repository, "pull,push"))?
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
        let mut url = std::borrow::Cow::Borrowed(url);
        loop {
            let authorization = auth.cached(&reference.registry, &reference.repository, actions);
            let last = attempt >= ATTEMPTS;
            match send(&url, authorization.as_deref()) {
                // It may be spoken to in the plain, but wants TLS.
                answer if self.may_be_tls(reference, &url, &answer) => {
                    self.inner
                        .tls
                        .lock()
                        .unwrap_or_else(|e| e.into_inner())
                        .insert(reference.registry.clone());
                    url = url.replacen("http://", "https://", 1).into();
                    continue;
                }
                Ok(answer) if answer.status() == 401 && !asked => {
                    asked = true;
                    let challenge = answer
                        .headers()
                        .get("WWW-Authenticate")
                        .and_then(|h| h.to_str().ok())
                        .unwrap_or_default();
                    if !auth.answer(
                        &|host| self.agent(host),
                        challenge,
                        reference,
                        actions,
                        self.plain(&reference.registry),
                    )? {
                        return Ok(Answer { inner: answer });
                    }
                    continue;
                }
                Ok(answer) if answer.status() == 429 && !last => match asked_pause(&answer) {
                    Some(asked) if asked <= LONGEST_PAUSE => pause = pause.max(asked),
                    Some(_) => return Ok(Answer { inner: answer }),
                    None => {}
                },
                Ok(answer) if answer.status().as_u16() >= 500 && !last => {}
                Ok(answer) => return Ok(Answer { inner: answer }),
                Err(e) if last || !passing(&e) => return Err(failed(reference, &e)),
                Err(_) => {}
            }
            attempt += 1;
            std::thread::sleep(pause);
            pause *= 2;
        }
    }

    /// Whether an answer to a plain request is that of a registry that wants TLS, which is then spoken from now on.
    fn may_be_tls(
        &self,
        reference: &Reference,
        url: &str,
        answer: &std::result::Result<Response<Body>, ureq::Error>,
    ) -> bool {
        let refused = match answer {
            // A registry's own refusal is JSON.
            Ok(answer) => answer.status() == 400 && !answer.headers().contains_key("Docker-Distribution-Api-Version"),
            Err(ureq::Error::Io(e)) => e.kind() != std::io::ErrorKind::ConnectionRefused,
            Err(ureq::Error::Protocol(_)) => true,
            Err(_) => false,
        };
        refused && url.starts_with("http://") && self.plain(&reference.registry)
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
            let mut request = self.agent(host_of(&next)).get(&next);
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
        let tls = self.inner.tls.lock().unwrap_or_else(|e| e.into_inner());
        self.loose(registry) && !tls.contains(registry)
    }

    /// Whether a registry may be spoken to without TLS, or by whoever says that it is the one.
    fn loose(&self, registry: &str) -> bool {
        let host = registry
            .strip_prefix('[')
            .and_then(|r| r.split(']').next())
            .unwrap_or_else(|| registry.split(':').next().unwrap_or_default());
        let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback());
        loopback || self.inner.options.insecure.iter().any(|i| i == registry)
    }
}

fn patience(options: &Options) -> Duration {
    options.patience.unwrap_or(Duration::from_secs(60))
}

/// How long a registry asks us to wait (`Retry-After`, in seconds).
fn asked_pause(answer: &Response<Body>) -> Option<Duration> {
    let text = answer.headers().get("Retry-After")?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// Host and port.
pub fn host_of(url: &str) -> &str {
    let origin = origin(url);
    origin.find("://").map_or(origin, |i| &origin[i + 3..])
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
    let why = match error {
        ureq::Error::HostNotFound => "its name cannot be looked up".to_owned(),
        error => error.to_string(),
    };
    let message = format!("talk to the registry {}: {why}", reference.registry);
    let hint = match error {
        ureq::Error::HostNotFound => "is the registry's name right, and does name resolution work?",
        ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
            "nothing listens there: is the registry running, and the port right?"
        }
        // An authority's own certificate, given to a server: Go takes it, the rules for certificates (RFC 5280) do not.
        e if e.to_string().contains("CaUsedAsEndEntity") => {
            "its certificate is one for an authority: make one for a server (openssl req -x509 -addext basicConstraints=CA:FALSE ...)"
        }
        e if matches!(e, ureq::Error::Tls(_) | ureq::Error::Rustls(_)) || e.to_string().contains("certificate") => {
            "if its authority is your own, put that into /etc/docker/certs.d/HOST:PORT/ca.crt; if it has no TLS, list it in \
             BERTH_INSECURE_REGISTRIES"
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
