//! One registry, spoken to by any number of threads.
//!
//! Joins the parts: where the registry is, what opens it, and one authorised request. What is asked
//! for - manifests, blobs - stands in files of its own.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pod_abi::digest::Digest;
use ureq::Body;
use ureq::http::{HeaderName, HeaderValue, Method, Response, StatusCode, Uri};

use super::auth::{Auth, Refused};
use super::credentials::{self, Credentials};
use super::error::{Error, Place};
use super::exchange::exchange;
use super::host::{RegistryHost, Transport};
use super::retry::{Attempts, Patience};
use super::tls::Trust;
use super::wire::{Ask, Failure, Put, Wire};

/// How to speak to a registry.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Whether plain HTTP was asked for.
    pub transport: Transport,
    /// How often to try again, and how long to wait.
    pub patience: Patience,
    /// How long the registry may be silent before a connection counts as broken.
    pub stall: Duration,
    /// Files with credentials, the first that has some wins; those that do not exist are skipped.
    pub auth_files: Vec<PathBuf>,
    /// Directories of authorities: `DIR/HOST[:PORT]/*.crt`.
    pub certs_dirs: Vec<PathBuf>,
}

impl Default for ClientOptions {
    /// What this host's environment says, as podman and Docker read it.
    fn default() -> Self {
        Self {
            transport: Transport::Guarded,
            patience: Patience::default(),
            stall: Duration::from_secs(30),
            auth_files: credentials::files_of_environment(),
            certs_dirs: vec!["/etc/containers/certs.d".into(), "/etc/docker/certs.d".into()],
        }
    }
}

/// A registry, its connections and what it let us do so far. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// As the reference says it, for messages and credentials.
    host: String,
    /// `https://HOST[:PORT]`, as it is on the wire.
    base: String,
    patience: Patience,
    wire: Wire,
    auth: Auth,
}

/// What of the options is used as it is.
struct Settings {
    transport: Transport,
    patience: Patience,
    stall: Duration,
    trust: Trust,
}

/// What names a manifest within a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagOrDigest {
    /// A name that may move.
    Tag(String),
    /// The content itself.
    Digest(Digest),
}

impl Client {
    /// Prepares to speak to `host`; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`Error::Settings`] if a file of credentials or authorities is unusable.
    pub fn new(host: &RegistryHost, options: ClientOptions) -> Result<Self, Error> {
        let ClientOptions { transport, patience, stall, auth_files, certs_dirs } = options;
        let trust = Trust::load(&certs_dirs, host)?;
        let credentials = Credentials::load(&auth_files)?;
        Self::prepare(host, credentials, Settings { transport, patience, stall, trust })
    }

    /// Prepares to speak to `host` as one user; files of credentials are not read.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_password(
        host: &RegistryHost,
        options: ClientOptions,
        user: &str,
        password: &str,
    ) -> Result<Self, Error> {
        let ClientOptions { transport, patience, stall, certs_dirs, .. } = options;
        let trust = Trust::load(&certs_dirs, host)?;
        let credentials = Credentials::only(&host.to_string(), user, password);
        Self::prepare(host, credentials, Settings { transport, patience, stall, trust })
    }

    fn prepare(
        host: &RegistryHost,
        credentials: Credentials,
        settings: Settings,
    ) -> Result<Self, Error> {
        let Settings { transport, patience, stall, trust } = settings;
        let scheme = host.scheme(transport, trust.known_authority());
        let base = format!("{}://{}", scheme.as_str(), host.on_the_wire());
        let uri: Uri = base.parse().map_err(|_| Error::Invalid {
            place: Place { host: host.to_string(), object: "the address".to_owned() },
            why: format!("`{base}` is no address"),
        })?;
        let wire = Wire::new(&uri, scheme, transport, trust, stall);
        let host = host.to_string();
        let auth = Auth::new(host.clone(), credentials);
        Ok(Self(Arc::new(Inner { host, base, patience, wire, auth })))
    }

    /// Tells whether this registry is spoken to without TLS.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.0.base.starts_with("http://")
    }

    /// Begins to count attempts for one thing.
    pub(super) fn attempts(&self) -> Attempts {
        Attempts::new(self.0.patience)
    }

    /// Names something of this registry.
    pub(super) fn place(&self, object: String) -> Place {
        Place { host: self.0.host.clone(), object }
    }

    /// Makes the address `/v2/`.
    pub(super) fn root(&self, place: &Place) -> Result<Uri, Error> {
        let whole = format!("{}/v2/", self.0.base);
        let why = "its address is none".to_owned();
        whole.parse().map_err(|_| Error::Invalid { place: place.clone(), why })
    }

    /// Tells whether a challenge to no repository in particular has been answered.
    pub(super) fn has_answered(&self) -> bool {
        self.0.auth.remembered("").is_some()
    }

    /// Makes the address `/v2/REPO/KIND/NAME`.
    pub(super) fn uri(
        &self,
        place: &Place,
        repo: &str,
        kind: &str,
        name: &str,
    ) -> Result<Uri, Error> {
        let invalid =
            |why: &str| Error::Invalid { place: place.clone(), why: format!("its {why} is none") };
        if !is_repository(repo) {
            return Err(invalid("repository"));
        }
        if !is_name(name) {
            return Err(invalid("tag or digest"));
        }
        let whole = format!("{}/v2/{repo}/{kind}/{name}", self.0.base);
        whole.parse().map_err(|_| invalid("address"))
    }

    /// Makes the address where uploads to `repo` begin.
    pub(super) fn uploads(&self, place: &Place, repo: &str) -> Result<Uri, Error> {
        // The name of a blob that is not there yet is checked like any other.
        let whole = self.uri(place, repo, "blobs", "uploads")?;
        let why = "its address is none".to_owned();
        format!("{whole}/").parse().map_err(|_| Error::Invalid { place: place.clone(), why })
    }

    /// Asks for something in `repo`, with an answer to the registry's challenge if it has one.
    pub(super) fn ask(
        &self,
        request: &Wanted<'_>,
        attempts: &mut Attempts,
    ) -> Result<Response<Body>, Error> {
        let Wanted { repo, place, .. } = *request;
        let mut ask = Ask {
            method: request.method.clone(),
            uri: request.uri,
            headers: request.headers.clone(),
            authorization: self.0.auth.remembered(repo),
            body: request.body.map(<[u8]>::to_vec),
        };
        let response = exchange(&self.0.wire, &ask, place, attempts)?;
        if response.status() != StatusCode::UNAUTHORIZED || !self.0.wire.is_own(&response) {
            return Ok(response);
        }
        let refused = Refused { repo, place, header: ask.authorization.as_ref() };
        let headers = response.headers();
        let answer = self.0.auth.answer(&self.0.wire, &refused, headers, attempts)?;
        drop(response);
        ask.authorization = Some(answer);
        let response = exchange(&self.0.wire, &ask, place, attempts)?;
        let refused = matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        if refused && !self.0.auth.knows(repo) {
            // Many registries say the same of what does not exist.
            let why = format!(
                "it does not exist, or wants credentials and none for `{}` are known",
                self.0.host
            );
            return Err(Error::Denied { place: place.clone(), why });
        }
        Ok(response)
    }

    /// Sends a body to where this registry has said, once, with what opened `repo` the last time.
    pub(super) fn put(
        &self,
        repo: &str,
        uri: &Uri,
        size: u64,
        from: &mut dyn Read,
    ) -> Result<Response<Body>, Failure> {
        let authorization = self.0.auth.remembered(repo);
        self.0.wire.put(Put { uri, authorization, size, from })
    }

    /// Returns whether asking again may help after a connection broke with `error`.
    pub(super) fn is_transient(&self, error: &ureq::Error) -> bool {
        self.0.wire.is_transient(error)
    }
}

/// What is wanted of a repository.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) repo: &'a str,
    pub(super) place: &'a Place,
    pub(super) method: Method,
    pub(super) uri: &'a Uri,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// What is sent with it.
    pub(super) body: Option<&'a [u8]>,
}

/// References are checked where they are parsed; this keeps a mistake there from leaving `/v2/`.
fn is_repository(repo: &str) -> bool {
    let component = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte)
            })
            && part.bytes().any(|byte| byte.is_ascii_alphanumeric())
    };
    repo.len() <= 255 && repo.split('/').all(component)
}

fn is_name(name: &str) -> bool {
    (1..=160).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte))
        && !name.starts_with(['.', '-', ':'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_repository_or_tag_leaves_the_api() {
        for good in ["busybox", "library/busybox", "a/b-c/d__e.f"] {
            assert!(is_repository(good), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "..", "a/../b", "A", "a?b", "a b", "a%2e", "a:b"] {
            assert!(!is_repository(bad), "{bad}");
        }
        for bad in ["", "..", "a/b", "a?b", "a#b", "a%2f", ".a"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
