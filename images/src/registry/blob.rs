//! Blobs: exactly as many bytes as announced, over as many connections as it takes.
//!
//! ```text
//! open(at) ── 200 at 0 ─▶ read ── breaks ─▶ pause ─▶ open(at) with `Range: bytes=AT-`
//!                                                     ├─ 206 with the exact range ─▶ read on
//!                                                     └─ 200, 416, another range ──▶ from 0, skip AT
//! ```
//!
//! Never: a digest; who reads has seen every byte and computes it.
//!
//! Source: RFC 9110 §14.

use std::fmt;
use std::io::{self, Read};

use pod_abi::digest::Digest;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
use ureq::{Body, BodyReader};

use super::client::{Client, Wanted};
use super::error::{Error, Place};
use super::exchange::{body, refusal, unreachable};
use super::retry::{Attempts, Exhausted};

/// What a connection must bring for the failures before it to be forgotten.
const WORTH_FORGIVING: u64 = 1 << 20;

/// The bytes of a blob, as many as announced, resumed where a connection breaks.
pub struct BlobReader {
    client: Client,
    repo: String,
    place: Place,
    uri: Uri,
    size: u64,
    at: u64,
    attempts: Attempts,
    since_failure: u64,
    ranges: Ranges,
    body: Option<BodyReader<'static>>,
}

/// Whether the registry is believed to answer ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ranges {
    Believed,
    Refuted,
}

impl fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobReader")
            .field("place", &self.place)
            .field("size", &self.size)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Opens the blob `digest` of `repo`, which has `size` bytes, from byte `offset` on.
    ///
    /// The reader ends after exactly `size - offset` bytes or fails. It does not check the digest:
    /// who resumes has hashed the first `offset` bytes, which the reader never saw. Its errors are
    /// found by [`Error::of_io`]. Nothing is asked of the registry if no byte is missing.
    ///
    /// # Errors
    ///
    /// Every [`Kind`](super::Kind); `Invalid` if the registry's blob has another size.
    pub fn blob(
        &self,
        repo: &str,
        digest: &Digest,
        size: u64,
        offset: u64,
    ) -> Result<BlobReader, Error> {
        let place = self.place(format!("blob `{digest}` of `{repo}`"));
        if offset > size {
            let why = format!("it has {size} bytes and byte {offset} was asked for");
            return Err(Error::Invalid { place, why });
        }
        let mut reader = BlobReader {
            client: self.clone(),
            repo: repo.to_owned(),
            uri: self.uri(&place, repo, "blobs", &digest.to_string())?,
            place,
            size,
            at: offset,
            attempts: self.attempts(),
            since_failure: 0,
            ranges: Ranges::Believed,
            body: None,
        };
        if reader.at < reader.size {
            reader.open()?;
        }
        Ok(reader)
    }
}

impl BlobReader {
    /// Connects for the bytes from `self.at` on.
    fn open(&mut self) -> Result<(), Error> {
        if self.at > 0 && self.ranges == Ranges::Believed && self.open_range()? {
            return Ok(());
        }
        let response = self.ask(vec![])?;
        if response.status() != StatusCode::OK {
            return Err(refusal(&self.place, response));
        }
        self.adopt_whole(response)
    }

    /// Asks for a range; false if the registry has its own idea of ranges.
    fn open_range(&mut self) -> Result<bool, Error> {
        let range = HeaderValue::from_str(&format!("bytes={}-", self.at))
            .expect("digits are valid in a header");
        let response = self.ask(vec![(RANGE, range)])?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if self.is_exact(response.headers()) => {
                self.body = Some(body(&self.place, response)?);
                Ok(true)
            }
            StatusCode::OK => self.adopt_whole(response).map(|()| true),
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                self.ranges = Ranges::Refuted;
                Ok(false)
            }
            _ => Err(refusal(&self.place, response)),
        }
    }

    fn ask(&mut self, headers: Vec<(HeaderName, HeaderValue)>) -> Result<Response<Body>, Error> {
        let Self { repo, place, uri, .. } = self;
        let wanted = Wanted { repo, place, method: Method::GET, uri, headers, body: None };
        self.client.ask(&wanted, &mut self.attempts)
    }

    /// Takes a response that begins with byte 0, and passes over what is already there.
    fn adopt_whole(&mut self, response: Response<Body>) -> Result<(), Error> {
        let announced = response.headers().get(CONTENT_LENGTH);
        if let Some(announced) = announced
            && announced.to_str().ok().and_then(|text| text.parse().ok()) != Some(self.size)
        {
            let why = format!("the registry's has not the {} bytes of its manifest", self.size);
            return Err(Error::Invalid { place: self.place.clone(), why });
        }
        let mut reader = body(&self.place, response)?;
        let skipped = io::copy(&mut (&mut reader).take(self.at), &mut io::sink());
        match skipped {
            Ok(skipped) if skipped == self.at => {
                self.body = Some(reader);
                Ok(())
            }
            Ok(_) => self.again(None).and_then(|()| self.open()),
            Err(error) => self.again(Some(error)).and_then(|()| self.open()),
        }
    }

    fn is_exact(&self, headers: &HeaderMap) -> bool {
        let said = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let exact = format!("bytes {}-{}/", self.at, self.size - 1);
        said.and_then(|said| said.strip_prefix(exact.as_str()))
            .is_some_and(|total| total == "*" || total.parse() == Ok(self.size))
    }

    /// Counts a failure and waits, or gives up.
    fn again(&mut self, error: Option<io::Error>) -> Result<(), Error> {
        self.body = None;
        if self.since_failure >= WORTH_FORGIVING {
            self.attempts.forgive();
        }
        self.since_failure = 0;
        let truncated = || Error::Truncated { place: self.place.clone(), wanted: self.size };
        let error = match error {
            None => truncated(),
            Some(error) if error.kind() == io::ErrorKind::UnexpectedEof => truncated(),
            Some(error) => {
                let error = ureq::Error::from(error);
                if !self.client.is_transient(&error) {
                    return Err(unreachable(&self.place, error));
                }
                unreachable(&self.place, error)
            }
        };
        self.attempts.pause(None).map_err(|Exhausted| error)
    }

    /// Looks whether the registry goes on after the last byte.
    fn finish(&mut self) -> Result<(), Error> {
        let Some(mut body) = self.body.take() else { return Ok(()) };
        match body.read(&mut [0]) {
            Ok(1..) => Err(Error::TooLarge { place: self.place.clone(), limit: self.size }),
            // The bytes are there; how the connection ends says nothing about them.
            Ok(0) | Err(_) => Ok(()),
        }
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let missing = usize::try_from(self.size - self.at).unwrap_or(usize::MAX);
        if missing == 0 {
            self.finish()?;
            return Ok(0);
        }
        let wanted = buffer.len().min(missing);
        loop {
            let Some(body) = &mut self.body else {
                self.open()?;
                continue;
            };
            match body.read(&mut buffer[..wanted]) {
                Ok(0) => self.again(None)?,
                Ok(read) => {
                    let bytes = u64::try_from(read).expect("a read is no longer than its buffer");
                    self.at += bytes;
                    self.since_failure += bytes;
                    return Ok(read);
                }
                Err(error) => self.again(Some(error))?,
            }
        }
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        Ok(self.read_some(buffer)?)
    }
}
