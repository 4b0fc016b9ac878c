//! Certificates for tests: an authority, and the folders that it makes for nodes and servers, with qemu's file names.
//!
//! Refuses to keep a key: each run has its own.

use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use std::path::PathBuf;

/// An authority that signs certificates.
pub struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// One that nobody has heard of.
    ///
    /// # Panics
    /// If the system has no randomness.
    #[allow(clippy::new_without_default, reason = "each is another one")]
    pub fn new() -> Authority {
        let key = KeyPair::generate().expect("there is randomness");
        let mut params = CertificateParams::new(Vec::new()).expect("no name is a bad one");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("it is an authority");
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    /// A folder with this authority's certificate, and one signed by `signer` for `role` (`client` or `server`).
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn folder(&self, dir: PathBuf, role: &str, signer: Option<&Authority>) -> PathBuf {
        std::fs::create_dir(&dir).expect("a directory can be made");
        let put =
            |name: String, text: String| std::fs::write(dir.join(name), text).expect("it can be written");
        put("ca-cert.pem".into(), self.certificate.pem());
        if let Some(signer) = signer {
            let key = KeyPair::generate().expect("there is randomness");
            let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("it is a name");
            let certificate = params.signed_by(&key, &signer.issuer).expect("it is an authority");
            put(format!("{role}-cert.pem"), certificate.pem());
            put(format!("{role}-key.pem"), key.serialize_pem());
        }
        dir
    }
}
