//! Whom to believe: one HTTP agent a registry, with the system's authorities and those of Docker's `certs.d`
//! (`HOST[:PORT]/*.crt` authorities, `*.cert` with `*.key` our own).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Proxy};

/// Where distributions keep the authorities that they believe; without any, the library's own count.
const SYSTEM: &[&str] = &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// One agent a host; made when first asked for.
pub struct Agents {
    proxy: Option<Proxy>,
    certificates: Option<PathBuf>,
    patience: Duration,
    made: Mutex<HashMap<String, Agent>>,
}

impl Agents {
    pub fn new(proxy: Option<Proxy>, certificates: Option<PathBuf>, patience: Duration) -> Self {
        Agents {
            proxy,
            certificates,
            patience,
            made: Mutex::default(),
        }
    }

    /// For a host (with its port). `loose`: whoever it says it is, is believed.
    pub fn of(&self, host: &str, loose: bool) -> Agent {
        let mut made = self.made.lock().unwrap_or_else(|e| e.into_inner());
        made.entry(host.to_owned())
            .or_insert_with(|| self.make(host, loose))
            .clone()
    }

    fn make(&self, host: &str, loose: bool) -> Agent {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("berth/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_connect(Some(self.patience.min(Duration::from_secs(20))))
            .timeout_recv_response(Some(self.patience))
            .timeout_per_read(Some(self.patience))
            .proxy(self.proxy.clone())
            .tls_config(self.tls(host, loose))
            .build();
        Agent::with_parts(config, DefaultConnector::default(), Lookup::default())
    }

    fn tls(&self, host: &str, loose: bool) -> TlsConfig {
        let own = self.certificates.as_ref().map(|dir| dir.join(host));
        let own = own.as_deref().map(pems).unwrap_or_default();
        let mut config = TlsConfig::builder().disable_verification(loose);
        if !loose {
            let mut roots: Vec<Certificate<'static>> = SYSTEM
                .iter()
                .find_map(|p| certificates(Path::new(p)))
                .unwrap_or_default();
            let extra = own.iter().filter(|p| p.extension().is_some_and(|e| e == "crt"));
            let extra: Vec<_> = extra.filter_map(|p| certificates(p)).flatten().collect();
            if !roots.is_empty() || !extra.is_empty() {
                roots.extend(extra);
                config = config.root_certs(RootCerts::Specific(Arc::new(roots)));
            }
        }
        let ours = own.iter().find(|p| p.extension().is_some_and(|e| e == "cert"));
        let client = ours.and_then(|cert| {
            let key = PrivateKey::from_pem(&std::fs::read(cert.with_extension("key")).ok()?).ok()?;
            Some(ClientCert::new_with_certs(&certificates(cert)?, key))
        });
        config.client_cert(client).build()
    }
}

/// The system's resolver, whose failures are told apart from those of connections: it has tried for long enough itself.
#[derive(Debug, Default)]
struct Lookup(DefaultResolver);

impl Resolver for Lookup {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        self.0.resolve(uri, config, timeout).map_err(|error| match error {
            ureq::Error::Io(_) | ureq::Error::Timeout(_) => ureq::Error::HostNotFound,
            other => other,
        })
    }
}

fn pems(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|e| e.path()).collect();
    files.sort();
    files
}

/// The certificates of a file; `None` if there are none.
fn certificates(path: &Path) -> Option<Vec<Certificate<'static>>> {
    let text = std::fs::read(path).ok()?;
    let items = parse_pem(&text).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let list: Vec<_> = items.collect();
    (!list.is_empty()).then_some(list)
}
