//! Fetching OpenPGP signatures that are kept apart from their images, one after the other until one
//! is not there: that is how whoever writes them numbers them.

use std::fs::File;
use std::io::{self, Read as _};

use pod_abi::Digest;

use super::source::remote_error;
use crate::error::{Error, ErrorKind};
use crate::registries::signature_url;
use crate::registry::{self, Patience, Transport};

/// The most signatures of one image that are looked at.
pub(super) const MAX_SIGNATURES: usize = 64;
/// The longest that is read, in bytes; one is a few hundred.
pub(super) const MAX_SIGNATURE: usize = 256 << 10;

/// Where signatures lie, and how to speak to whoever has them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Apart<'a> {
    /// The URL beneath which they lie.
    pub(super) base: &'a str,
    /// The repository, as `HOST[:PORT]/PATH`.
    pub(super) repository: &'a str,
    pub(super) transport: Transport,
    pub(super) patience: Patience,
}

impl Apart<'_> {
    /// Returns the signatures of a manifest or an index.
    ///
    /// # Errors
    ///
    /// Those of fetching; [`ErrorKind::Invalid`] for more, or longer ones, than are looked at.
    pub(super) fn messages(&self, of: &Digest) -> Result<Vec<Vec<u8>>, Error> {
        let mut messages = Vec::new();
        for number in 1..=MAX_SIGNATURES {
            let url = signature_url(self.base, self.repository, &of.to_string(), number);
            match self.message(&url)? {
                Some(message) => messages.push(message),
                None => return Ok(messages),
            }
        }
        Err(Error::invalid(format!("`{of}` has more than {MAX_SIGNATURES} signatures")))
    }

    fn message(&self, url: &str) -> Result<Option<Vec<u8>>, Error> {
        let limit = u64::try_from(MAX_SIGNATURE).unwrap_or(u64::MAX);
        let Some(path) = url.strip_prefix("file://") else {
            let fetched = registry::fetch_document(url, limit, self.transport, self.patience);
            return fetched.map_err(|source| remote_error("cannot fetch the signatures", source));
        };
        let unread = |error| Error::storage(format!("cannot read signature `{path}`"), error);
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(unread)?,
        };
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).map_err(unread)?;
        if bytes.len() > MAX_SIGNATURE {
            let sentence = format!("signature `{path}` is longer than {MAX_SIGNATURE} bytes");
            return Err(Error::new(ErrorKind::Invalid, sentence));
        }
        Ok(Some(bytes))
    }
}
