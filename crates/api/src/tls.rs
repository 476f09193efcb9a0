//! Who we are, and whom we let in, over TCP.

use std::path::PathBuf;
use std::sync::Arc;

use errdefs::{Error, Result, Step};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

/// Files in PEM.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The server's, with what leads to its authority.
    pub certificate: PathBuf,
    /// Of the server's certificate.
    pub key: PathBuf,
    /// Whose certificates clients have to show; nobody is asked for one unless given.
    pub authority: Option<PathBuf>,
}

/// Reads the files.
pub fn acceptor(tls: &Tls) -> Result<TlsAcceptor> {
    let certificates = certificates(&tls.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).step_with(|| format!("read the key {}", tls.key.display()))?;
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .step("set up TLS")?;
    let config = match &tls.authority {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in self::certificates(path)? {
                roots
                    .add(certificate)
                    .step_with(|| format!("use the authority {}", path.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            config.with_client_cert_verifier(verifier.build().step("set up TLS")?)
        }
        None => config.with_no_client_auth(),
    };
    let config = config
        .with_single_cert(certificates, key)
        .step("use the certificate and its key")?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &std::path::Path) -> Result<Vec<CertificateDer<'static>>> {
    let step = || format!("read the certificates in {}", path.display());
    let read = CertificateDer::pem_file_iter(path).step_with(step)?;
    let list = read.collect::<std::result::Result<Vec<_>, _>>().step_with(step)?;
    match list.is_empty() {
        true => Err(Error::invalid(format!("{} has no certificate", path.display()))),
        false => Ok(list),
    }
}
