//! One request until it is answered for good: which answers deserve another attempt.
//!
//! Again: broken connections, silence, 408, 425, 429, 500, 502-504, with `Retry-After` obeyed.
//! Everything else is the answer. What a final status means to the caller is decided here too, so
//! that manifests, blobs and tokens speak of the same failure in the same words.

use std::io::{self, Read};
use std::time::Duration;

use pod_abi::text::is_tame;

use serde::Deserialize;
use ureq::http::header::{CONTENT_ENCODING, RETRY_AFTER};
use ureq::http::{Response, StatusCode};
use ureq::{Body, BodyReader};

use super::error::{Error, Place};
use super::retry::{Attempts, Exhausted};
use super::wire::{Ask, Failure, Wire};

/// How much of an error's body is read: enough for every registry's words, and the connection may
/// be used again.
const MAX_ERROR_BODY: u64 = 64 << 10;

/// How much of a registry's own words reaches a message.
const MAX_WORDS: usize = 200;

/// Asks until there is an answer that asking again would not change.
pub(super) fn exchange(
    wire: &Wire,
    ask: &Ask<'_>,
    place: &Place,
    attempts: &mut Attempts,
) -> Result<Response<Body>, Error> {
    loop {
        match wire.send(ask) {
            Ok(response) if is_transient(response.status()) => {
                let after = retry_after(&response);
                let refusal = refusal(place, response);
                attempts.pause(after).map_err(|Exhausted| refusal)?;
            }
            Ok(response) => return Ok(response),
            Err(Failure::Transport(error)) => {
                let transient = wire.is_transient(&error);
                let error = unreachable(place, error);
                if !transient {
                    return Err(error);
                }
                attempts.pause(None).map_err(|Exhausted| error)?;
            }
            Err(Failure::PlainHttp(url)) => {
                return Err(Error::RefusedPlainHttp { place: place.clone(), url });
            }
            Err(Failure::Protocol(why)) => {
                return Err(Error::Invalid { place: place.clone(), why });
            }
            Err(Failure::Settings(error)) => return Err(error),
        }
    }
}

/// Turns a final status other than success into the error it means.
pub(super) fn refusal(place: &Place, response: Response<Body>) -> Error {
    let status = response.status();
    let words = words(response);
    let place = place.clone();
    match status {
        StatusCode::NOT_FOUND => Error::NotFound(place),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let why = if words.is_empty() { format!("status {}", status.as_u16()) } else { words };
            Error::Denied { place, why }
        }
        StatusCode::TOO_MANY_REQUESTS => Error::RateLimited(place),
        _ => Error::Status { place, status: status.as_u16(), words },
    }
}

/// Makes the error of a connection.
pub(super) fn unreachable(place: &Place, error: ureq::Error) -> Error {
    let place = place.clone();
    match error {
        // The library would only put `io:` in front.
        ureq::Error::Io(error) => Error::Unreachable { place, source: Box::new(error) },
        error => Error::Unreachable { place, source: Box::new(error) },
    }
}

/// Refuses a body in an encoding, which we never asked for and digests do not cover.
pub(super) fn body(place: &Place, response: Response<Body>) -> Result<BodyReader<'static>, Error> {
    let encoding = response.headers().get(CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        let why = "it comes in an encoding nobody asked for".to_owned();
        return Err(Error::Invalid { place: place.clone(), why });
    }
    // The library's own limit is for who forgets to set one; every caller here has its own.
    Ok(response.into_body().into_with_config().limit(u64::MAX).reader())
}

/// Why a body could not be read.
#[derive(Debug)]
pub(super) enum Unread {
    TooLarge,
    Broken(io::Error),
}

/// Reads a body of at most `limit` bytes.
pub(super) fn read_bounded(reader: impl Read, limit: u64) -> Result<Vec<u8>, Unread> {
    let mut bytes = Vec::new();
    reader.take(limit + 1).read_to_end(&mut bytes).map_err(Unread::Broken)?;
    let within = u64::try_from(bytes.len()).is_ok_and(|length| length <= limit);
    if within { Ok(bytes) } else { Err(Unread::TooLarge) }
}

pub(super) const fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502..=504)
}

fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The registry's own words for an error, made harmless for a terminal.
fn words(response: Response<Body>) -> String {
    #[derive(Deserialize)]
    struct Document {
        errors: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let bytes = read_bounded(response.into_body().into_reader(), MAX_ERROR_BODY);
    let document = bytes.ok().and_then(|bytes| serde_json::from_slice::<Document>(&bytes).ok());
    let Some(first) = document.and_then(|document| document.errors.into_iter().next()) else {
        return String::new();
    };
    let said = if first.message.is_empty() { first.code } else { first.message };
    said.chars().filter(|letter| is_tame(*letter)).take(MAX_WORDS).collect()
}
