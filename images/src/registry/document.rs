//! A small document of any server, such as a signature that is kept apart from its image.
//!
//! Never: credentials. A registry's are for the registry; whoever keeps signatures for everybody asks
//! nobody who they are.

use ureq::http::{Method, StatusCode, Uri};

use super::client::ClientOptions;
use super::error::{Error, Place};
use super::exchange::{Unread, body, exchange, read_bounded, refusal, unreachable};
use super::host::{RegistryHost, Scheme, Transport};
use super::retry::{Attempts, Patience};
use super::tls::Trust;
use super::wire::{Ask, Wire};

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
    let uri: Option<Uri> = url.parse().ok();
    let authority = uri.as_ref().and_then(Uri::authority).map(ToString::to_string);
    let host = authority.unwrap_or_default();
    let place = Place { host: host.clone(), object: format!("`{url}`") };
    let invalid = || Error::Invalid { place: place.clone(), why: "it is no address".to_owned() };
    let uri = uri.ok_or_else(invalid)?;
    let host = RegistryHost::parse(&host).map_err(|_| invalid())?;
    let scheme = match uri.scheme_str() {
        Some("http") => Scheme::Http,
        _ => Scheme::Https,
    };
    let options = ClientOptions::default();
    let trust = Trust::load(&options.certs_dirs, &host)?;
    let wire = Wire::new(&uri, scheme, transport, trust, options.stall);
    let ask = Ask {
        method: Method::GET,
        uri: &uri,
        headers: Vec::new(),
        authorization: None,
        body: None,
    };
    let response = exchange(&wire, &ask, &place, &mut Attempts::new(patience))?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Ok(None),
        _ => return Err(refusal(&place, response)),
    }
    match read_bounded(body(&place, response)?, limit) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Unread::TooLarge) => Err(Error::TooLarge { place, limit }),
        Err(Unread::Broken(error)) => Err(unreachable(&place, ureq::Error::from(error))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
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
