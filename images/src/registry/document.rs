//! A document of any server: a signature that is kept apart from its image, or an image that lies at
//! no registry.
//!
//! Never: credentials. A registry's are for the registry; whoever keeps files for everybody asks
//! nobody who they are.

use std::io::{self, Read};

use ureq::http::{Method, StatusCode, Uri};
use ureq::{Body, http::Response};

use super::client::ClientOptions;
use super::error::{Error, Place};
use super::exchange::{Unread, body, exchange, read_bounded, refusal, unreachable};
use super::host::{RegistryHost, Scheme, Transport};
use super::retry::{Attempts, Exhausted, Patience};
use super::tls::Trust;
use super::wire::{Ask, Wire};

/// How much of a long document is read at once.
const CHUNK: usize = 256 << 10;

/// What takes a long document.
pub(crate) trait Sink {
    /// Forgets what has come so far: it comes again from its beginning.
    fn restart(&mut self) -> io::Result<()>;

    /// Takes what comes next.
    fn take(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// Why a long document did not come in.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// It could not be had.
    Remote(Error),
    /// Whatever takes it could not.
    Sink(io::Error),
}

/// Fetches what is at `url`, of at most `limit` bytes; `None` if nothing is.
///
/// # Errors
///
/// Every [`Kind`](super::Kind) but `NotFound` and `Denied`.
pub(crate) fn fetch(
    url: &str,
    limit: u64,
    transport: Transport,
    patience: Patience,
) -> Result<Option<Vec<u8>>, Error> {
    let options = ClientOptions { transport, patience, ..ClientOptions::default() };
    match read(url, limit, &options) {
        Err(Error::NotFound(_)) => Ok(None),
        read => read.map(Some),
    }
}

/// Fetches what is at `url`, of at most `limit` bytes; files of credentials are not read.
///
/// # Errors
///
/// Every [`Kind`](super::Kind).
pub(crate) fn read(url: &str, limit: u64, options: &ClientOptions) -> Result<Vec<u8>, Error> {
    let asked = Asked::of(url, options)?;
    let response = asked.open(&mut Attempts::new(options.patience))?;
    match read_bounded(body(&asked.place, response)?, limit) {
        Ok(bytes) => Ok(bytes),
        Err(Unread::TooLarge) => Err(asked.too_large(limit)),
        Err(Unread::Broken(error)) => Err(unreachable(&asked.place, ureq::Error::from(error))),
    }
}

/// Fetches what is at `url`, of at most `limit` bytes, into `sink`: from its beginning again, where a
/// connection breaks. Files of credentials are not read.
///
/// # Errors
///
/// [`NotTaken`]; the sink has taken what it has.
pub(crate) fn copy(
    url: &str,
    limit: u64,
    options: &ClientOptions,
    sink: &mut dyn Sink,
) -> Result<(), NotTaken> {
    let asked = Asked::of(url, options).map_err(NotTaken::Remote)?;
    let mut attempts = Attempts::new(options.patience);
    loop {
        let response = asked.open(&mut attempts).map_err(NotTaken::Remote)?;
        let body = body(&asked.place, response).map_err(NotTaken::Remote)?;
        sink.restart().map_err(NotTaken::Sink)?;
        let error = match pour(body, limit, sink)? {
            Poured::All => return Ok(()),
            Poured::TooMuch => return Err(NotTaken::Remote(asked.too_large(limit))),
            Poured::Broken(error) => ureq::Error::from(error),
        };
        let transient = asked.wire.is_transient(&error);
        let error = unreachable(&asked.place, error);
        if !transient {
            return Err(NotTaken::Remote(error));
        }
        attempts.pause(None).map_err(|Exhausted| NotTaken::Remote(error))?;
    }
}

/// How a body ended.
enum Poured {
    All,
    TooMuch,
    Broken(io::Error),
}

fn pour(mut body: impl Read, limit: u64, sink: &mut dyn Sink) -> Result<Poured, NotTaken> {
    let mut buffer = vec![0; CHUNK];
    let mut left = limit;
    loop {
        let length = match body.read(&mut buffer) {
            Ok(0) => return Ok(Poured::All),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Ok(Poured::Broken(error)),
        };
        match left.checked_sub(u64::try_from(length).unwrap_or(u64::MAX)) {
            Some(rest) => left = rest,
            None => return Ok(Poured::TooMuch),
        }
        sink.take(&buffer[..length]).map_err(NotTaken::Sink)?;
    }
}

/// An address, and the connections to it.
struct Asked {
    uri: Uri,
    place: Place,
    wire: Wire,
}

impl Asked {
    fn of(url: &str, options: &ClientOptions) -> Result<Self, Error> {
        let place = Place { host: String::new(), object: format!("`{url}`") };
        let invalid =
            || Error::Invalid { place: place.clone(), why: "it is no address".to_owned() };
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let authority = uri.authority().ok_or_else(invalid)?;
        let host = RegistryHost::parse(authority.as_str()).map_err(|_| invalid())?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            _ => Scheme::Https,
        };
        let trust = Trust::load(&options.certs_dirs, &host)?;
        let wire = Wire::new(&uri, scheme, options.transport, trust, options.stall);
        Ok(Self { uri, place, wire })
    }

    /// Asks, until there is an answer with a body.
    fn open(&self, attempts: &mut Attempts) -> Result<Response<Body>, Error> {
        let ask = Ask {
            method: Method::GET,
            uri: &self.uri,
            headers: Vec::new(),
            authorization: None,
            body: None,
        };
        let response = exchange(&self.wire, &ask, &self.place, attempts)?;
        if response.status() == StatusCode::OK {
            Ok(response)
        } else {
            Err(refusal(&self.place, response))
        }
    }

    fn too_large(&self, limit: u64) -> Error {
        Error::TooLarge { place: self.place.clone(), limit }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;
    use std::thread;

    use super::super::error::Kind;
    use super::*;

    /// Answers `answers`, one connection each, and returns where.
    fn server(answers: Vec<String>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = [0; 4096];
                let length = stream.read(&mut asked).unwrap();
                let asked = String::from_utf8_lossy(&asked[..length]).to_lowercase();
                assert!(!asked.contains("authorization"), "{asked}");
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        format!("http://{address}/sigs/app@sha256=aa/signature-1")
    }

    #[test]
    fn what_is_not_there_is_no_error_and_what_is_too_long_is_one() {
        let answer = |head: &str, body: &str| {
            let length = body.len();
            format!(
                "HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
        };
        let url = server(vec![
            answer("200 OK", "signature"),
            answer("404 Not Found", ""),
            answer("200 OK", "signature"),
            answer("403 Forbidden", ""),
        ]);
        let ask = |limit| fetch(&url, limit, Transport::Guarded, Patience::default());
        assert_eq!(ask(9).unwrap(), Some(b"signature".to_vec()));
        assert_eq!(ask(9).unwrap(), None);
        assert_eq!(ask(8).unwrap_err().kind(), Kind::TooLarge);
        assert_eq!(ask(9).unwrap_err().kind(), Kind::Denied);
        let plain = fetch("http://r.example/x", 9, Transport::Guarded, Patience::default());
        assert_eq!(plain.unwrap_err().kind(), Kind::RefusedPlainHttp);
        assert!(fetch("https:///x", 9, Transport::Guarded, Patience::default()).is_err());
    }
}
