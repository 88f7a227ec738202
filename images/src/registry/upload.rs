//! Giving a registry what it does not have: blobs in one piece, then the manifest that needs them.
//!
//! ```text
//! HEAD blobs/D ─ 200 ─▶ there already
//!      └ 404 ─▶ POST blobs/uploads/ ─ 202, `Location` ─▶ PUT LOCATION?digest=D, the bytes ─ 201 ─▶ there
//!                    └ 201: taken over from another repository of the registry
//! ```
//!
//! An upload that breaks is begun anew, from its first byte: what registries say of sessions and
//! ranges differs too much. Who gives a blob hands out its bytes as often as it takes.
//!
//! SECURITY: a `Location` may lead anywhere; the rule about plain HTTP holds there, and credentials
//! of the registry do not go along to others.
//!
//! Source: distribution-spec 1.1, "Push".

use std::fmt;
use std::io::{self, Read};

use pod_abi::digest::Digest;
use ureq::Body;
use ureq::http::header::CONTENT_TYPE;
use ureq::http::{HeaderValue, Method, Response, StatusCode, Uri};

use super::client::{Client, TagOrDigest, Wanted};
use super::error::{Error, Place};
use super::exchange::{is_transient, refusal, unreachable};
use super::manifest::{digest, manifest_name, said_digest};
use super::retry::{Attempts, Exhausted};
use super::wire::{Failure, location};

/// A blob to be given.
pub struct Upload<'u> {
    /// What it is.
    pub digest: &'u Digest,
    /// How many bytes it has.
    pub size: u64,
    /// Another repository of the same registry that may have it.
    pub mount_from: Option<&'u str>,
    /// Opens it at its first byte. Errors are told as they are, and no reason to try again.
    pub open: &'u mut dyn FnMut() -> io::Result<Box<dyn Read + 'u>>,
}

impl fmt::Debug for Upload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("digest", &self.digest)
            .field("size", &self.size)
            .field("mount_from", &self.mount_from)
            .finish_non_exhaustive()
    }
}

/// How a blob came to be in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// It was there.
    WasThere,
    /// The registry had it in another repository.
    Mounted,
    /// It was sent.
    Sent,
}

/// Why a blob was not given.
#[derive(Debug)]
pub enum NotGiven {
    /// The registry, or the way to it.
    Remote(Error),
    /// It could not be read here.
    Local(io::Error),
}

impl From<Error> for NotGiven {
    fn from(error: Error) -> Self {
        Self::Remote(error)
    }
}

/// What came of one attempt.
enum Tried {
    Given(Given),
    /// It broke, and another attempt may not.
    Again(Error),
}

impl Client {
    /// Gives `repo` a blob, unless it has it.
    ///
    /// # Errors
    ///
    /// Of the registry every [`Kind`](super::Kind); the reader's own. The registry forgets what it
    /// has of a blob that did not come whole.
    pub fn give_blob(&self, repo: &str, upload: &mut Upload<'_>) -> Result<Given, NotGiven> {
        let place = self.place(format!("blob `{}` of `{repo}`", upload.digest));
        if self.has_blob(repo, upload, &place)? {
            return Ok(Given::WasThere);
        }
        let mut attempts = self.attempts();
        loop {
            match self.try_to_give(repo, upload, &place, &mut attempts)? {
                Tried::Given(given) => return Ok(given),
                Tried::Again(error) => attempts.pause(None).map_err(|Exhausted| error)?,
            }
        }
    }

    /// Gives `repo` a manifest, which `tag` means from then on; its blobs are there.
    ///
    /// # Errors
    ///
    /// Every [`Kind`](super::Kind); `Invalid` if the registry calls it something else.
    pub fn give_manifest(
        &self,
        repo: &str,
        which: &TagOrDigest,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let place = self.place(manifest_name(repo, which));
        let name = match which {
            TagOrDigest::Tag(tag) => tag.clone(),
            TagOrDigest::Digest(digest) => digest.to_string(),
        };
        let uri = self.uri(&place, repo, "manifests", &name)?;
        let why = "its media type is none".to_owned();
        let media_type = HeaderValue::from_str(media_type)
            .map_err(|_| Error::Invalid { place: place.clone(), why })?;
        let headers = vec![(CONTENT_TYPE, media_type)];
        let (place, body) = (&place, Some(bytes));
        let wanted = Wanted { repo, place, method: Method::PUT, uri: &uri, headers, body };
        let response = self.ask(&wanted, &mut self.attempts())?;
        if !response.status().is_success() {
            return Err(refusal(place, response));
        }
        match said_digest(place, response.headers())? {
            Some(said) if digest(said.algorithm(), bytes) != said => {
                let why = format!("the registry calls it `{said}`");
                Err(Error::Invalid { place: place.clone(), why })
            }
            _ => Ok(()),
        }
    }

    fn has_blob(&self, repo: &str, upload: &Upload<'_>, place: &Place) -> Result<bool, Error> {
        let uri = self.uri(place, repo, "blobs", &upload.digest.to_string())?;
        let (method, headers) = (Method::HEAD, Vec::new());
        let wanted = Wanted { repo, place, method, uri: &uri, headers, body: None };
        let response = self.ask(&wanted, &mut self.attempts())?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(refusal(place, response)),
        }
    }

    fn try_to_give(
        &self,
        repo: &str,
        upload: &mut Upload<'_>,
        place: &Place,
        attempts: &mut Attempts,
    ) -> Result<Tried, NotGiven> {
        let session = match self.begin(repo, upload, place, attempts)? {
            Begun::Mounted => return Ok(Tried::Given(Given::Mounted)),
            Begun::Session(session) => session,
        };
        let mut from = (upload.open)().map_err(NotGiven::Local)?;
        let mut from = Watched { from: &mut *from, failed: None };
        let answer = self.put(repo, &session, upload.size, &mut from);
        if let Some(error) = from.failed {
            return Err(NotGiven::Local(error));
        }
        let response = match answer {
            Ok(response) => response,
            Err(Failure::Transport(error)) => {
                let transient = self.is_transient(&error);
                let error = unreachable(place, error);
                return if transient { Ok(Tried::Again(error)) } else { Err(error.into()) };
            }
            Err(Failure::PlainHttp(url)) => {
                return Err(Error::RefusedPlainHttp { place: place.clone(), url }.into());
            }
            Err(Failure::Protocol(why)) => {
                return Err(Error::Invalid { place: place.clone(), why }.into());
            }
            Err(Failure::Settings(error)) => return Err(error.into()),
        };
        let status = response.status();
        if status.is_success() {
            return Ok(Tried::Given(Given::Sent));
        }
        // A token may have ended while the bytes went; beginning anew asks for another.
        let again = is_transient(status) || status == StatusCode::UNAUTHORIZED;
        let error = refusal(place, response);
        if again { Ok(Tried::Again(error)) } else { Err(error.into()) }
    }

    /// Begins an upload, or has the blob taken over from another repository.
    fn begin(
        &self,
        repo: &str,
        upload: &Upload<'_>,
        place: &Place,
        attempts: &mut Attempts,
    ) -> Result<Begun, Error> {
        let mut uri = self.uploads(place, repo)?;
        if let Some(other) = upload.mount_from {
            uri = with_query(&uri, &format!("mount={}&from={other}", upload.digest), place)?;
        }
        let (method, headers, body) = (Method::POST, Vec::new(), Some(&[][..]));
        let wanted = Wanted { repo, place, method, uri: &uri, headers, body };
        let response = self.ask(&wanted, attempts)?;
        match response.status() {
            StatusCode::CREATED if upload.mount_from.is_some() => Ok(Begun::Mounted),
            StatusCode::ACCEPTED => session(&uri, &response, upload.digest, place),
            _ => Err(refusal(place, response)),
        }
    }
}

/// How an upload has begun.
enum Begun {
    Mounted,
    /// Where the bytes go.
    Session(Uri),
}

fn session(
    asked: &Uri,
    response: &Response<Body>,
    digest: &Digest,
    place: &Place,
) -> Result<Begun, Error> {
    let invalid = |why: String| Error::Invalid { place: place.clone(), why };
    let found = location(asked, response).map_err(|failure| invalid(failure.to_string()))?;
    with_query(&found, &format!("digest={digest}"), place).map(Begun::Session)
}

/// Adds to the query of an address.
fn with_query(uri: &Uri, more: &str, place: &Place) -> Result<Uri, Error> {
    let joint = if uri.query().is_some() { '&' } else { '?' };
    format!("{uri}{joint}{more}").parse().map_err(|_| Error::Invalid {
        place: place.clone(),
        why: "it is to be sent to what is no address".to_owned(),
    })
}

/// Keeps the error of a reader, which the HTTP library would take for the connection's.
struct Watched<'r> {
    from: &'r mut dyn Read,
    failed: Option<io::Error>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.from.read(buffer).inspect_err(|error| {
            let same = error.raw_os_error().map(io::Error::from_raw_os_error);
            self.failed = Some(same.unwrap_or_else(|| error.kind().into()));
        })
    }
}
