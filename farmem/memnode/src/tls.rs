//! TLS of a node: who we are, and who may come.
//!
//! Refuses to trust the system's authorities: a memory node is no web site. Without `--tls-ca` whoever reaches the
//! port may use the memory, and TLS only hides what travels.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The node's certificate, and those between it and its authority.
    pub cert: PathBuf,
    /// The node's private key.
    pub key: PathBuf,
    /// Who signs the clients' certificates; with it every client must have one.
    pub ca: Option<PathBuf>,
}

impl TlsFiles {
    /// Reads them.
    ///
    /// # Errors
    /// What is wrong with which, in one line.
    pub fn load(&self) -> io::Result<Arc<ServerConfig>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(wrong)?;
        let config = match &self.ca {
            None => config.with_no_client_auth(),
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(ca)? {
                    roots.add(certificate).map_err(|error| unreadable(ca, error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                config.with_client_cert_verifier(verifier.map_err(|error| unreadable(ca, error))?)
            }
        };
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| unreadable(&self.key, error))?;
        let config = config.with_single_cert(certificates(&self.cert)?, key);
        config.map(Arc::new).map_err(|error| unreadable(&self.cert, error))
    }
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match all.map_err(|error| unreadable(path, error))? {
        none if none.is_empty() => Err(unreadable(path, "it holds no certificate")),
        some => Ok(some),
    }
}

fn unreadable(path: &Path, error: impl Display) -> io::Error {
    wrong(format!("{}: {error}", path.display()))
}

fn wrong(why: impl Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why.to_string())
}
