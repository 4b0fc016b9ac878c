//! TLS: the right certificate gets in, no certificate and a wrong one do not, and nothing is said in the clear.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use farmem_link::nbd::proto::*;
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use support::{Client, Daemon, PATIENCE, file_of, go, has, pattern, run};
use zerocopy::IntoBytes;

/// An authority that signs certificates.
struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, name: &str) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

/// A node with TLS on a TCP port, and the address of that.
fn start(authority: &Authority, dir: &Path, demands_certificates: bool) -> (Daemon, String) {
    let (certificate, key) = authority.sign("localhost");
    let cert = file_of(dir, "cert.pem", certificate.pem().as_bytes());
    let key = file_of(dir, "key.pem", key.serialize_pem().as_bytes());
    let ca = file_of(dir, "ca-cert.pem", authority.certificate.pem().as_bytes());
    let mut args = vec!["--size", "8mb", "--nbd", "127.0.0.1:0", "--tls-cert", &cert, "--tls-key", &key];
    if demands_certificates {
        args.extend(["--tls-ca", &ca]);
    }
    let node = Daemon::start(&args);
    let address = node.tcp_address();
    (node, address)
}

fn plain(address: &str) -> Client<TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut client = Client { stream };
    client.greet();
    client
}

/// Goes on in TLS, with a certificate or none.
fn secure(
    mut client: Client<TcpStream>,
    authority: &Authority,
    ours: Option<(Certificate, KeyPair)>,
) -> Client<StreamOwned<ClientConnection, TcpStream>> {
    assert_eq!(client.option(Opt::STARTTLS, &[]), vec![(OptReply::ACK, vec![])]);
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots);
    let config = match ours {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            config.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let name = ServerName::try_from("localhost").unwrap();
    let tls = ClientConnection::new(Arc::new(config), name).unwrap();
    Client { stream: StreamOwned::new(tls, client.stream) }
}

#[test]
fn with_the_right_certificate_everything_works_as_without_tls() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let (_node, address) = start(&authority, dir.path(), true);
    let mut client = secure(plain(&address), &authority, Some(authority.sign("client")));
    assert_eq!(client.option(Opt::STARTTLS, &[])[0].0, OptReply::ERR_INVALID, "it runs already");
    assert_eq!(client.option(Opt::GO, &go("", &[])).last().unwrap().0, OptReply::ACK);
    let bytes = pattern(3 << 20, 5);
    assert_eq!(client.write(1000, &bytes), Errno::NONE);
    assert!(client.bytes(1000, 3 << 20) == bytes);
    assert_eq!(client.ask(Command::TRIM, 0, 8 << 20), Errno::NONE);
    assert!(client.bytes(0, 8 << 20).iter().all(|&byte| byte == 0));
}

#[test]
fn without_a_certificate_or_with_a_wrong_one_nobody_gets_in() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let (node, address) = start(&authority, dir.path(), true);
    let stranger = Authority::new();
    for ours in [None, Some(stranger.sign("client"))] {
        let mut client = secure(plain(&address), &authority, ours);
        let request = [OptionHeader::new(Opt::GO, 6).as_bytes(), &go("", &[])].concat();
        // Whether it can still be sent depends on how soon the alert comes; an answer never does.
        let _ = std::io::Write::write_all(&mut client.stream, &request);
        let answer = std::io::Read::read(&mut client.stream, &mut [0; 64]);
        assert!(answer.is_err(), "{answer:?}");
        node.wait_for("ended: ");
    }
}

#[test]
fn nothing_but_tls_is_answered_over_tcp() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let (node, address) = start(&authority, dir.path(), false);
    let mut client = plain(&address);
    for (option, data) in [(Opt::LIST, vec![]), (Opt::GO, go("", &[])), (Opt::STRUCTURED_REPLY, vec![])] {
        assert_eq!(client.option(option, &data)[0].0, OptReply::ERR_TLS_REQD, "{option:?}");
    }
    let mut client = secure(client, &authority, None);
    assert_eq!(client.option(Opt::GO, &go("", &[])).last().unwrap().0, OptReply::ACK);
    assert_eq!(client.bytes(0, 16), [0; 16], "without --tls-ca no certificate is needed");

    let mut by_name = plain(&address);
    by_name.send(OptionHeader::new(Opt::EXPORT_NAME, 0).as_bytes());
    assert!(std::io::Read::read(&mut by_name.stream, &mut [0; 1]).is_ok_and(|len| len == 0));
    assert_eq!(node.client("", false).bytes(0, 16), [0; 16], "a Unix socket has its permissions");
}

#[test]
fn other_peoples_tls_agrees() {
    if !has("nbdinfo", "libnbd-bin") {
        return;
    }
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let (_node, address) = start(&authority, dir.path(), true);
    let (certificate, key) = authority.sign("client");
    file_of(dir.path(), "client-cert.pem", certificate.pem().as_bytes());
    file_of(dir.path(), "client-key.pem", key.serialize_pem().as_bytes());
    let port = address.rsplit(':').next().unwrap();
    let uri = format!("nbds://localhost:{port}/?tls-certificates={}", dir.path().display());
    assert!(run("nbdinfo", &[&uri]).contains("with TLS"));
}
