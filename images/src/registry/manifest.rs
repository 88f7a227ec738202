//! Manifests and indexes: fetched whole, their digests computed and compared here.
//!
//! What a document says, and whether it may be believed, is not looked at.

use std::io;

use pod_abi::digest::{Algorithm, Digest};
use sha2::{Digest as _, Sha256, Sha512};
use ureq::Body;
use ureq::http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use ureq::http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::client::{Client, TagOrDigest, Wanted};
use super::error::{Error, Place};
use super::exchange::{Unread, body, read_bounded, refusal, unreachable};
use super::retry::{Attempts, Exhausted};

/// What every registry takes and no honest manifest exceeds (OCI distribution-spec, "Pushing
/// Manifests").
pub const MAX_MANIFEST: u64 = 4 << 20;

/// The documents we read, all of them, because some registries convert what is not accepted.
const DOCUMENTS: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";

/// What lists of referrers are.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A manifest as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The bytes, verbatim.
    pub bytes: Vec<u8>,
    /// `Content-Type` without parameters; empty if there was none.
    pub media_type: String,
    /// The digest of `bytes`, computed here.
    pub digest: Digest,
}

impl Client {
    /// Fetches the manifest or index `which` of `repo` and checks its digest.
    ///
    /// # Errors
    ///
    /// Every [`Kind`](super::Kind); `Invalid` if the bytes are not those that were asked for, or not
    /// those that the registry says they are.
    pub fn manifest(&self, repo: &str, which: &TagOrDigest) -> Result<Fetched, Error> {
        let place = self.place(manifest_name(repo, which));
        let mut attempts = self.attempts();
        let response = loop {
            let response = self.ask_manifest(Method::GET, repo, which, &place, &mut attempts)?;
            if response.status() != StatusCode::OK {
                return Err(refusal(&place, response));
            }
            let headers = response.headers().clone();
            if announced(&headers).is_some_and(|length| length > MAX_MANIFEST) {
                return Err(Error::TooLarge { place, limit: MAX_MANIFEST });
            }
            match read_bounded(body(&place, response)?, MAX_MANIFEST) {
                Ok(bytes) => break (headers, bytes),
                Err(Unread::TooLarge) => {
                    return Err(Error::TooLarge { place, limit: MAX_MANIFEST });
                }
                Err(Unread::Broken(error)) => {
                    let error = broken(&place, &headers, error);
                    attempts.pause(None).map_err(|Exhausted| error)?;
                }
            }
        };
        let (headers, bytes) = response;
        let digest = checked(&place, which, &headers, &bytes)?;
        Ok(Fetched { media_type: media_type(&headers), digest, bytes })
    }

    /// Fetches the index of what refers to the manifest `of`, such as its signatures; `None` if this
    /// registry keeps no such lists (distribution-spec 1.1, "Listing Referrers").
    ///
    /// # Errors
    ///
    /// As [`Self::manifest`].
    pub fn referrers(&self, repo: &str, of: &Digest) -> Result<Option<Vec<u8>>, Error> {
        let place = self.place(format!("referrers of `{repo}@{of}`"));
        let uri = self.uri(&place, repo, "referrers", &of.to_string())?;
        let headers = vec![(ACCEPT, HeaderValue::from_static(INDEX))];
        let wanted =
            Wanted { repo, place: &place, method: Method::GET, uri: &uri, headers, body: None };
        let response = self.ask(&wanted, &mut self.attempts())?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(refusal(&place, response)),
        }
        match read_bounded(body(&place, response)?, MAX_MANIFEST) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Unread::TooLarge) => Err(Error::TooLarge { place, limit: MAX_MANIFEST }),
            Err(Unread::Broken(error)) => Err(unreachable(&place, ureq::Error::from(error))),
        }
    }

    /// Asks what `which` names at the moment, without fetching it; `None` if the registry has it
    /// but does not say.
    ///
    /// # Errors
    ///
    /// As [`Self::manifest`].
    pub fn digest_of(&self, repo: &str, which: &TagOrDigest) -> Result<Option<Digest>, Error> {
        let place = self.place(manifest_name(repo, which));
        let mut attempts = self.attempts();
        let response = self.ask_manifest(Method::HEAD, repo, which, &place, &mut attempts)?;
        if response.status() != StatusCode::OK {
            return Err(refusal(&place, response));
        }
        said_digest(&place, response.headers())
    }

    fn ask_manifest(
        &self,
        method: Method,
        repo: &str,
        which: &TagOrDigest,
        place: &Place,
        attempts: &mut Attempts,
    ) -> Result<Response<Body>, Error> {
        let name = match which {
            TagOrDigest::Tag(tag) => tag.clone(),
            TagOrDigest::Digest(digest) => digest.to_string(),
        };
        let uri = self.uri(place, repo, "manifests", &name)?;
        let headers = vec![(ACCEPT, HeaderValue::from_static(DOCUMENTS))];
        self.ask(&Wanted { repo, place, method, uri: &uri, headers, body: None }, attempts)
    }
}

/// Compares the bytes with the digest asked for and the one the registry says.
fn checked(
    place: &Place,
    which: &TagOrDigest,
    headers: &HeaderMap,
    bytes: &[u8],
) -> Result<Digest, Error> {
    let said = said_digest(place, headers)?;
    let asked = match which {
        TagOrDigest::Digest(digest) => Some(digest),
        TagOrDigest::Tag(_) => None,
    };
    for wanted in asked.into_iter().chain(&said) {
        let computed = digest(wanted.algorithm(), bytes);
        if computed != *wanted {
            let why = format!("its digest is `{computed}` and not `{wanted}`");
            return Err(Error::Invalid { place: place.clone(), why });
        }
    }
    Ok(asked.cloned().unwrap_or_else(|| digest(Algorithm::Sha256, bytes)))
}

pub(super) fn digest(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    match algorithm {
        Algorithm::Sha256 => Digest::from_hash(&Sha256::digest(bytes)),
        Algorithm::Sha512 => Digest::from_hash(&Sha512::digest(bytes)),
    }
    .expect("a hash has the length of its function")
}

pub(super) fn said_digest(place: &Place, headers: &HeaderMap) -> Result<Option<Digest>, Error> {
    let Some(header) = headers.get("docker-content-digest") else { return Ok(None) };
    let word = header.to_str().unwrap_or_default();
    let parsed = Digest::parse(word).map(Some);
    parsed.map_err(|error| Error::Invalid { place: place.clone(), why: error.to_string() })
}

fn media_type(headers: &HeaderMap) -> String {
    let whole = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    whole.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn broken(place: &Place, headers: &HeaderMap, error: io::Error) -> Error {
    match (error.kind(), announced(headers)) {
        (io::ErrorKind::UnexpectedEof, Some(wanted)) => {
            Error::Truncated { place: place.clone(), wanted }
        }
        _ => unreachable(place, ureq::Error::from(error)),
    }
}

pub(super) fn manifest_name(repo: &str, which: &TagOrDigest) -> String {
    match which {
        TagOrDigest::Tag(tag) => format!("manifest `{repo}:{tag}`"),
        TagOrDigest::Digest(digest) => format!("manifest `{repo}@{digest}`"),
    }
}
