//! One request and its answer, redirects followed.
//!
//! Redirects are followed here and not by the HTTP library, because four rules hold at every step:
//! plain HTTP only where it was allowed for the registry itself, and never behind TLS, no
//! `Authorization` to an origin it was not made for (and none again afterwards), and a small number of
//! steps.
//!
//! Never: a retry, a look at a status beyond redirects.

use std::fmt;
use std::io::Read;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use ureq::http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, ResponseExt, SendBody};

use super::error::Error;
use super::host::{Scheme, Transport, is_loopback};
use super::tls::Trust;

/// Hub and clouds take one or two steps; a loop takes them all.
const MAX_REDIRECTS: usize = 5;

/// How long name, TCP and TLS may take together; long enough for a lost SYN or two.
const CONNECT: Duration = Duration::from_secs(15);

/// What to ask for.
#[derive(Clone, Debug)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) uri: &'a Uri,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) authorization: Option<HeaderValue>,
    /// What to send with it; a redirect is not followed then.
    pub(super) body: Option<Vec<u8>>,
}

/// A body to send.
pub(super) struct Put<'a> {
    pub(super) uri: &'a Uri,
    pub(super) authorization: Option<HeaderValue>,
    pub(super) size: u64,
    pub(super) from: &'a mut dyn Read,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("`{0}` is plain HTTP")]
    PlainHttp(String),
    #[error("{0}")]
    Protocol(String),
    #[error(transparent)]
    Settings(Error),
    #[error(transparent)]
    Transport(ureq::Error),
}

/// The connections for one registry and the places it sends us to.
pub(super) struct Wire {
    base: Uri,
    plain: Agent,
    secure: OnceLock<Agent>,
    trust: Trust,
    stall: Duration,
    plain_http: PlainHttp,
    proxy: Proxy,
    answered: AtomicBool,
}

/// Where plain HTTP may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PlainHttp {
    Nowhere,
    Loopback,
    Anywhere,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proxy {
    Never,
    AsEnvironmentSays,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("trust", &self.trust).finish_non_exhaustive()
    }
}

impl Wire {
    /// Prepares connections for the registry at `base`.
    pub(super) fn new(
        base: &Uri,
        scheme: Scheme,
        transport: Transport,
        trust: Trust,
        stall: Duration,
    ) -> Self {
        let plain_http = match (scheme, transport) {
            (Scheme::Https, _) => PlainHttp::Nowhere,
            (Scheme::Http, Transport::Guarded) => PlainHttp::Loopback,
            (Scheme::Http, Transport::InsecureHttp) => PlainHttp::Anywhere,
        };
        let local = is_loopback(base.host().unwrap_or_default());
        let proxy = if local { Proxy::Never } else { Proxy::AsEnvironmentSays };
        // This agent meets `http` only, so that it needs no authority.
        let nobody = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[])).build();
        let plain = agent(stall, proxy, nobody);
        let answered = AtomicBool::new(false);
        let (base, secure) = (base.clone(), OnceLock::new());
        Self { base, plain, secure, trust, stall, plain_http, proxy, answered }
    }

    /// Returns whether the registry itself said this, and not a place it redirected us to.
    ///
    /// SECURITY: only the registry may ask for credentials; a challenge from elsewhere could name
    /// a realm that collects them.
    pub(super) fn is_own(&self, response: &Response<Body>) -> bool {
        origin(response.get_uri()) == origin(&self.base)
    }

    /// Returns whether `uri` may be asked at all.
    fn permits(&self, uri: &Uri) -> bool {
        match uri.scheme_str() {
            Some("https") => true,
            Some("http") => match self.plain_http {
                PlainHttp::Nowhere => false,
                PlainHttp::Loopback => is_loopback(uri.host().unwrap_or_default()),
                PlainHttp::Anywhere => true,
            },
            _ => false,
        }
    }

    /// Sends `ask` and follows where the answer leads.
    pub(super) fn send(&self, ask: &Ask<'_>) -> Result<Response<Body>, Failure> {
        let mut uri = ask.uri.clone();
        let mut authorization = ask.authorization.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.step(ask, &uri, authorization.as_ref())?;
            self.answered.store(true, Ordering::Relaxed);
            let followed = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308)
                && ask.body.is_none();
            if !followed {
                return Ok(response);
            }
            let next = location(&uri, &response)?;
            // What TLS has vouched for so far, nobody would from there on.
            if uri.scheme_str() == Some("https") && next.scheme_str() == Some("http") {
                return Err(Failure::PlainHttp(without_secrets(&next)));
            }
            if origin(&next) != origin(&uri) {
                authorization = None;
            }
            uri = next;
        }
        Err(Failure::Protocol(format!("it redirects more than {MAX_REDIRECTS} times")))
    }

    fn step(
        &self,
        ask: &Ask<'_>,
        uri: &Uri,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response<Body>, Failure> {
        if !self.permits(uri) {
            return Err(Failure::PlainHttp(without_secrets(uri)));
        }
        let mut builder = Request::builder().method(ask.method.clone()).uri(uri.clone());
        for (name, value) in &ask.headers {
            builder = builder.header(name, value);
        }
        if let Some(value) = authorization {
            builder = builder.header(AUTHORIZATION, value);
        }
        let broken = |error| Failure::Transport(ureq::Error::Http(error));
        let agent = self.agent_for(uri)?;
        match &ask.body {
            None => agent.run(builder.body(()).map_err(broken)?),
            Some(bytes) => agent.run(builder.body(bytes.as_slice()).map_err(broken)?),
        }
        .map_err(Failure::Transport)
    }

    /// Sends `size` bytes of `from` with PUT to where the registry has said, once. An authorization
    /// goes along only where the registry itself is; a redirect is not followed.
    pub(super) fn put(&self, put: Put<'_>) -> Result<Response<Body>, Failure> {
        let Put { uri, authorization, size, from } = put;
        if !self.permits(uri) {
            return Err(Failure::PlainHttp(without_secrets(uri)));
        }
        let mut builder = Request::builder().method(Method::PUT).uri(uri.clone());
        builder = builder.header(CONTENT_TYPE, "application/octet-stream");
        builder = builder.header(CONTENT_LENGTH, size);
        if let Some(value) = authorization.filter(|_| origin(uri) == origin(&self.base)) {
            builder = builder.header(AUTHORIZATION, value);
        }
        let broken = |error| Failure::Transport(ureq::Error::Http(error));
        let request = builder.body(SendBody::from_reader(from)).map_err(broken)?;
        self.agent_for(uri)?.run(request).map_err(Failure::Transport)
    }

    fn agent_for(&self, uri: &Uri) -> Result<&Agent, Failure> {
        if uri.scheme_str() != Some("https") {
            return Ok(&self.plain);
        }
        if let Some(agent) = self.secure.get() {
            return Ok(agent);
        }
        let tls = self.trust.config().map_err(Failure::Settings)?;
        Ok(self.secure.get_or_init(|| agent(self.stall, self.proxy, tls)))
    }

    /// Returns whether asking again may help.
    ///
    /// A name that does not resolve and a refused connection are answers, until the registry has
    /// once been reached: then it is restarting.
    pub(super) fn is_transient(&self, error: &ureq::Error) -> bool {
        use std::io::ErrorKind;
        match error {
            ureq::Error::HostNotFound => self.answered.load(Ordering::Relaxed),
            ureq::Error::Io(error) => match error.kind() {
                ErrorKind::InvalidData | ErrorKind::InvalidInput => false,
                ErrorKind::ConnectionRefused => self.answered.load(Ordering::Relaxed),
                _ => true,
            },
            ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed => true,
            _ => false,
        }
    }
}

fn agent(stall: Duration, proxy: Proxy, tls: TlsConfig) -> Agent {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("pod/", env!("CARGO_PKG_VERSION")))
        // Digests are of the bytes as stored; an encoding underway would change them.
        .accept_encoding("identity")
        .max_idle_connections_per_host(8)
        .timeout_connect(Some(CONNECT))
        .timeout_per_read(Some(stall))
        .timeout_per_write(Some(stall))
        .timeout_recv_response(Some(stall.saturating_mul(2)))
        .tls_config(tls);
    if proxy == Proxy::Never {
        config = config.proxy(None);
    }
    config.build().new_agent()
}

/// Scheme, host and port: what an `Authorization` is made for.
fn origin(uri: &Uri) -> (String, String, u16) {
    let scheme = uri.scheme_str().unwrap_or_default().to_ascii_lowercase();
    let default = if scheme == "https" { 443 } else { 80 };
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    (scheme, host, uri.port_u16().unwrap_or(default))
}

pub(super) fn location(base: &Uri, response: &Response<Body>) -> Result<Uri, Failure> {
    let odd = |word: &str| {
        Failure::Protocol(format!(
            "it redirects to `{}`",
            word.chars().take(120).collect::<String>()
        ))
    };
    let word = response
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| Failure::Protocol("it redirects to nowhere".to_owned()))?;
    resolve(base, word).ok_or_else(|| odd(word))
}

/// Resolves a `Location` against the address it came from (RFC 3986 §5.2, fragments dropped).
fn resolve(base: &Uri, word: &str) -> Option<Uri> {
    let word = word.split('#').next().unwrap_or_default();
    let scheme = base.scheme_str()?;
    let authority = base.authority()?;
    let has_scheme = word.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
    });
    let absolute = if has_scheme {
        word.to_owned()
    } else if word.starts_with("//") {
        format!("{scheme}:{word}")
    } else if word.starts_with('/') {
        format!("{scheme}://{authority}{word}")
    } else {
        let path = base.path();
        let directory = &path[..=path.rfind('/')?];
        format!("{scheme}://{authority}{directory}{word}")
    };
    let uri: Uri = absolute.parse().ok()?;
    uri.host().filter(|host| !host.is_empty())?;
    uri.scheme()?;
    Some(uri)
}

/// What of an address may be shown: queries of redirects are signed, authorities hold passwords.
fn without_secrets(uri: &Uri) -> String {
    let port = uri.port_u16().map_or_else(String::new, |port| format!(":{port}"));
    let scheme = uri.scheme_str().unwrap_or_default();
    format!("{scheme}://{}{port}{}", uri.host().unwrap_or_default(), uri.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_resolved_against_where_they_came_from() {
        let base: Uri = "https://r.org:5000/v2/a/blobs/x?y=z".parse().unwrap();
        for (word, whole) in [
            ("https://cdn.org/b?sig=1", Some("https://cdn.org/b?sig=1")),
            ("http://cdn.org/b", Some("http://cdn.org/b")),
            ("//cdn.org/b", Some("https://cdn.org/b")),
            ("/v2/b", Some("https://r.org:5000/v2/b")),
            ("b?u=http://x", Some("https://r.org:5000/v2/a/blobs/b?u=http://x")),
            ("/b?u=http://x", Some("https://r.org:5000/b?u=http://x")),
            ("https://cdn.org/b#part", Some("https://cdn.org/b")),
            ("https://", None),
        ] {
            let resolved = resolve(&base, word).map(|uri| uri.to_string());
            assert_eq!(resolved.as_deref(), whole, "{word}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let origin = |text: &str| origin(&text.parse().unwrap());
        assert_eq!(origin("https://A.org/x"), origin("https://a.org:443/y"));
        assert_ne!(origin("https://a.org/"), origin("http://a.org/"));
        assert_ne!(origin("https://a.org/"), origin("https://a.org:444/"));
        assert_ne!(origin("https://a.org/"), origin("https://b.a.org/"));
    }
}
