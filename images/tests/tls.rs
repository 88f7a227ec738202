//! Whom the registry client believes, against a real TLS server.
//!
//! The server ends TLS in front of a `fault-registry`; its certificate is signed by an authority
//! that no host knows, so that only `certs.d` can vouch for it.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::error::Error as _;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fault_registry::{Fault, Registry};
use images::registry::{Client, ClientOptions, Kind, Patience, RegistryHost, TagOrDigest};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/certificates");
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Whether the server wants to see a certificate of the client.
#[derive(Clone, Copy)]
enum ClientCertificate {
    Unasked,
    Demanded,
}

fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(format!("{DIR}/{name}")).unwrap()
}

fn config(demand: ClientCertificate) -> Arc<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match demand {
        ClientCertificate::Unasked => builder.with_no_client_auth(),
        ClientCertificate::Demanded => {
            let mut roots = RootCertStore::empty();
            roots.add(certificate("authority.crt")).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        }
    };
    let key = PrivateKeyDer::from_pem_file(format!("{DIR}/registry.key")).unwrap();
    Arc::new(builder.with_single_cert(vec![certificate("registry.cert")], key).unwrap())
}

/// A TLS server that passes one request a connection on to a registry, and ends when dropped.
struct TlsServer {
    host: String,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TlsServer {
    fn start(registry: &Registry, demand: ClientCertificate) -> Self {
        Self::start_at("127.0.0.1", registry, demand)
    }

    fn start_at(address: &str, registry: &Registry, demand: ClientCertificate) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (config, behind) = (config(demand), registry.host());
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                // A client that breaks off is part of the tests.
                let _ = pass_on(StreamOwned::new(connection, stream.unwrap()), &behind);
            }
        });
        Self { host, over, thread: Some(thread) }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(&self.host));
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))) || thread::panicking());
    }
}

fn pass_on(mut tls: StreamOwned<ServerConnection, TcpStream>, behind: &str) -> io::Result<()> {
    let request = head(&mut tls)?;
    let mut registry = TcpStream::connect(behind)?;
    registry.write_all(request.as_bytes())?;
    let answer = head(&mut registry)?;
    let length = answer.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.and_then(|length| length.parse().ok()).unwrap_or(0)];
    registry.read_exact(&mut body)?;
    let answer = answer.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    tls.write_all(answer.as_bytes())?;
    tls.write_all(&body)?;
    tls.conn.send_close_notify();
    tls.flush()
}

/// Reads up to the empty line.
fn head(stream: &mut impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        bytes.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Makes a client for `host` that believes what `files` say.
fn client(host: &str, files: &[&str]) -> Client {
    let dir = tempfile::tempdir().unwrap();
    let certs = dir.path().join(host);
    fs::create_dir(&certs).unwrap();
    for file in files {
        fs::copy(format!("{DIR}/{file}"), certs.join(file)).unwrap();
    }
    let options = ClientOptions {
        patience: Patience { base: Duration::from_millis(1), ..Patience::default() },
        stall: Duration::from_secs(5),
        auth_files: Vec::new(),
        certs_dirs: vec![dir.path().to_owned()],
        ..ClientOptions::default()
    };
    Client::new(&RegistryHost::parse(host).unwrap(), options).unwrap()
}

fn tag() -> TagOrDigest {
    TagOrDigest::Tag("1".into())
}

fn registry() -> Registry {
    let registry = Registry::start();
    registry.add_manifest("team/app", "1", MANIFEST, "{}");
    registry
}

#[test]
fn an_authority_in_certs_d_vouches_for_its_registry_even_on_the_loopback() {
    let registry = registry();
    let server = TlsServer::start(&registry, ClientCertificate::Unasked);
    let client = client(&server.host, &["authority.crt"]);
    assert_eq!(client.manifest("team/app", &tag()).unwrap().bytes, b"{}");
}

#[test]
fn a_certificate_nobody_vouches_for_is_refused_without_a_retry() {
    let registry = registry();
    let server = TlsServer::start(&registry, ClientCertificate::Unasked);
    let elsewhere = RegistryHost::parse(&server.host).unwrap();
    let dir = tempfile::tempdir().unwrap();
    // The plain registry sends us to the TLS server, for which no authority is known.
    let to = format!("https://{elsewhere}/v2/team/app/manifests/1");
    registry.script("/manifests/", [Fault::Redirect(to)]);
    let options = ClientOptions {
        auth_files: Vec::new(),
        certs_dirs: vec![dir.path().to_owned()],
        ..ClientOptions::default()
    };
    let host = RegistryHost::parse(&registry.host()).unwrap();
    let error = Client::new(&host, options).unwrap().manifest("team/app", &tag()).unwrap_err();
    // A host without any authority says so.
    if error.kind() != Kind::Settings {
        assert_eq!(error.kind(), Kind::Unreachable, "{error}");
        assert!(error.source().unwrap().to_string().contains("UnknownIssuer"), "{error:?}");
    }
    assert_eq!(registry.requests().len(), 1);
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let registry = registry();
    let server = TlsServer::start_at("127.0.0.2", &registry, ClientCertificate::Unasked);
    let error = client(&server.host, &["authority.crt"]).manifest("team/app", &tag()).unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable);
    let cause = error.source().unwrap().to_string();
    assert!(cause.contains("certificate") && cause.contains("127.0.0.2"), "{cause}");
    assert_eq!(registry.requests().len(), 0);
}

#[test]
fn our_own_certificate_is_shown_where_it_is_demanded() {
    let registry = registry();
    let server = TlsServer::start(&registry, ClientCertificate::Demanded);
    let known = client(&server.host, &["authority.crt", "client.cert", "client.key"]);
    assert!(known.manifest("team/app", &tag()).is_ok());
    let unknown = client(&server.host, &["authority.crt"]);
    assert_eq!(unknown.manifest("team/app", &tag()).unwrap_err().kind(), Kind::Unreachable);
    assert_eq!(registry.requests().len(), 1);
}

#[test]
fn tls_never_leads_to_plain_http() {
    let registry = registry();
    let server = TlsServer::start(&registry, ClientCertificate::Unasked);
    let to = format!("http://{}/v2/team/app/manifests/1", registry.host());
    registry.script("/manifests/", [Fault::Redirect(to)]);
    let client = client(&server.host, &["authority.crt"]);
    let error = client.manifest("team/app", &tag()).unwrap_err();
    assert_eq!(error.kind(), Kind::RefusedPlainHttp);
    assert_eq!(registry.requests().len(), 1);
}

#[test]
fn a_spoilt_file_of_certs_d_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let certs = dir.path().join("r.org");
    fs::create_dir(&certs).unwrap();
    let host = RegistryHost::parse("r.org").unwrap();
    let options = || ClientOptions {
        auth_files: Vec::new(),
        certs_dirs: vec![dir.path().to_owned()],
        ..ClientOptions::default()
    };
    for (name, text) in [("a.crt", "nothing"), ("b.cert", "nothing")] {
        fs::write(certs.join(name), text).unwrap();
        let error = Client::new(&host, options()).unwrap_err();
        assert_eq!(error.kind(), Kind::Settings);
        assert!(error.to_string().contains(name), "{error}");
        fs::remove_file(certs.join(name)).unwrap();
    }
    fs::copy(Path::new(DIR).join("client.cert"), certs.join("c.cert")).unwrap();
    let error = Client::new(&host, options()).unwrap_err();
    assert!(error.to_string().contains("c.key"), "a key must stand beside: {error}");
}
