//! The ways to fail: data only; `answer` and `serve` perform them.

use std::time::Duration;

/// What one request meets instead of a good answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// None: this request is answered well.
    None,
    /// This status, these headers and this body.
    Status(u16, Vec<(String, String)>, String),
    /// A redirect with status 307 to this address.
    Redirect(String),
    /// The good headers, this many bytes of the body, then an orderly close.
    CutAfter(usize),
    /// The good headers, this many bytes of the body, then a reset.
    ResetAfter(usize),
    /// A reset without a word.
    ResetBefore,
    /// This many bytes of the body, then silence for this long or until the registry is dropped,
    /// then a close.
    StallAfter(usize, Duration),
    /// Status 200 and the whole body although a range was asked for.
    IgnoreRange,
    /// This `Content-Range`, or none, on an otherwise good 206.
    ContentRange(Option<String>),
    /// This `Content-Length`; the body is sent as it is.
    Length(u64),
    /// No length but chunks, and these bytes after the good ones.
    ChunkedPlus(Vec<u8>),
    /// The first byte of the body is another one.
    Corrupt,
    /// This header instead of the good one, or instead of none.
    Header(String, String),
    /// The good answer without this header.
    Without(String),
}

impl Fault {
    /// A bare status.
    #[must_use]
    pub const fn status(code: u16) -> Self {
        Self::Status(code, Vec::new(), String::new())
    }

    /// A status with `Retry-After`.
    #[must_use]
    pub fn retry_after(code: u16, seconds: u64) -> Self {
        Self::Status(code, vec![("Retry-After".into(), seconds.to_string())], String::new())
    }
}
