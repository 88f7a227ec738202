//! A site on the loopback, with or without TLS, that answers paths as told.
//!
//! One request a connection, on threads; dropping it ends them.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Where the certificates for tests lie.
pub(crate) const CERTIFICATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/certificates");

/// What is said at a path.
#[derive(Clone)]
pub(crate) enum Answer {
    /// This, with status 200.
    Body(Vec<u8>),
    /// A redirect to there.
    Redirect(String),
    /// This status, and nothing.
    Status(u16),
    /// Bytes without an end.
    Endless,
    /// Half of this, and then the connection breaks; all of it the next time.
    Broken(Vec<u8>),
}

/// A running site.
pub(crate) struct Site {
    host: String,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<HashMap<String, Answer>>,
    asked: Mutex<Vec<String>>,
    over: AtomicBool,
}

impl Site {
    /// Starts one without TLS, with nothing on it.
    pub(crate) fn plain() -> Self {
        Self::start(None)
    }

    /// Starts one with TLS, whose authority only [`CERTIFICATES`] knows.
    pub(crate) fn secure() -> Self {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let own = CertificateDer::from_pem_file(format!("{CERTIFICATES}/registry.cert")).unwrap();
        let key = PrivateKeyDer::from_pem_file(format!("{CERTIFICATES}/registry.key")).unwrap();
        Self::start(Some(Arc::new(builder.with_single_cert(vec![own], key).unwrap())))
    }

    fn start(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let acceptor = thread::spawn(move || {
            thread::scope(|scope| {
                for stream in listener.incoming() {
                    if theirs.over.load(Ordering::SeqCst) {
                        return;
                    }
                    let (stream, tls, shared) = (stream.unwrap(), tls.clone(), &theirs);
                    // A client that breaks off is part of the tests.
                    scope.spawn(move || drop(serve(stream, tls, shared)));
                }
            });
        });
        Self { host, shared, acceptor: Some(acceptor) }
    }

    /// Returns `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Says something at a path; elsewhere there is nothing.
    pub(crate) fn says(&self, path: &str, answer: Answer) {
        self.shared.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    /// Lists what was asked for, with queries.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(&self.host));
        let ended = self.acceptor.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))) || thread::panicking());
    }
}

fn serve(stream: TcpStream, tls: Option<Arc<ServerConfig>>, shared: &Shared) -> io::Result<()> {
    let Some(config) = tls else { return answer(stream, shared) };
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    answer(&mut stream, shared)?;
    stream.conn.send_close_notify();
    stream.flush()
}

fn answer(mut stream: impl Read + Write, shared: &Shared) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    assert!(!head.to_lowercase().contains("authorization"), "{head}");
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let path = target.split('?').next().unwrap_or_default().to_owned();
    shared.asked.lock().unwrap().push(target);
    let mut answers = shared.answers.lock().unwrap();
    let answer = answers.get(&path).cloned().unwrap_or(Answer::Status(404));
    if let Answer::Broken(bytes) = &answer {
        answers.insert(path, Answer::Body(bytes.clone()));
    }
    drop(answers);
    let say = |stream: &mut dyn Write, status: u16, more: &str, length: usize| {
        write!(
            stream,
            "HTTP/1.1 {status} Said\r\nConnection: close\r\n{more}Content-Length: {length}\r\n\r\n"
        )
    };
    match answer {
        Answer::Body(bytes) => {
            say(&mut stream, 200, "", bytes.len())?;
            stream.write_all(&bytes)?;
        }
        Answer::Broken(bytes) => {
            say(&mut stream, 200, "", bytes.len())?;
            stream.write_all(&bytes[..bytes.len() / 2])?;
        }
        Answer::Redirect(to) => say(&mut stream, 302, &format!("Location: {to}\r\n"), 0)?,
        Answer::Status(status) => say(&mut stream, status, "", 0)?,
        Answer::Endless => {
            write!(stream, "HTTP/1.1 200 Said\r\nConnection: close\r\n\r\n")?;
            while !shared.over.load(Ordering::SeqCst) {
                stream.write_all(&[b' '; 4096])?;
            }
        }
    }
    stream.flush()
}
