//! TLS of a link to a node: who the node must be, and who we are.
//!
//! ```text
//!   ?tls-certificates=DIR    ca-cert.pem                          who may sign the node's certificate
//!                            client-cert.pem, client-key.pem      ours, where both are there
//! ```
//!
//! The names of the files are those of qemu and nbdkit. Refuses to trust the system's authorities: a memory node is
//! no web site.

use super::uri::NbdUri;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::fmt::Display;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The client's half of TLS with a node.
///
/// # Errors
/// What is wrong with the certificates, in one line.
pub(super) fn client(uri: &NbdUri) -> io::Result<ClientConnection> {
    let dir = uri.tls_certificates.as_deref();
    let dir = dir.ok_or_else(|| wrong("nbds: needs ?tls-certificates=DIR with ca-cert.pem"))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&dir.join("ca-cert.pem"))? {
        roots.add(certificate).map_err(|error| wrong(format!("ca-cert.pem: {error}")))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(wrong)?.with_root_certificates(roots);
    let (ours, key) = (dir.join("client-cert.pem"), dir.join("client-key.pem"));
    let config = if ours.exists() && key.exists() {
        let key_der = PrivateKeyDer::from_pem_file(&key).map_err(|error| unreadable(&key, error))?;
        config.with_client_auth_cert(certificates(&ours)?, key_der).map_err(wrong)?
    } else {
        config.with_no_client_auth()
    };
    let name = ServerName::try_from(uri.hostname().to_owned()).map_err(wrong)?;
    ClientConnection::new(Arc::new(config), name).map_err(wrong)
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_file_iter(path).and_then(|all| all.collect::<Result<Vec<_>, _>>());
    let all = all.map_err(|error| unreadable(path, error))?;
    if all.is_empty() { Err(unreadable(path, "it holds no certificate")) } else { Ok(all) }
}

fn unreadable(path: &Path, error: impl Display) -> io::Error {
    wrong(format!("{}: {error}", path.display()))
}

fn wrong(why: impl Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why.to_string())
}
