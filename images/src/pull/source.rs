//! Where an image comes from, as far as a pull cares.

use std::io::{self, Read};

use pod_abi::Digest;
use pod_abi::app::Verified;

use crate::document::Blob;
use crate::error::{Error, ErrorKind};
use crate::registry;
use crate::trust::Evidence;

/// A document as it came; its bytes have the digest.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) digest: Digest,
    pub(super) bytes: Vec<u8>,
    /// What it was served as; empty if nobody said.
    pub(super) media_type: String,
}

/// A registry's repository, a layout or an archive on disk.
pub(super) trait Source: Sync {
    /// Returns what the name leads to.
    fn top(&self) -> Result<Document, Error>;

    /// Returns the digest of what the name leads to, without fetching it; `None` if the source
    /// does not say.
    fn digest(&self) -> Result<Option<Digest>, Error>;

    /// Returns a document named by another one.
    fn document(&self, digest: &Digest) -> Result<Document, Error>;

    /// Opens a blob from byte `offset` on. Its digest is for the reader to check, and so is that it
    /// has no more bytes than it should.
    fn blob(&self, blob: &Blob, offset: u64) -> Result<Box<dyn Read + '_>, Error>;

    /// What vouches for the first digest.
    fn verified(&self) -> Verified;

    /// Adds the signatures of a manifest or an index that lie beside it, as cosign puts them, to
    /// what there is to judge it by.
    fn signatures(&self, of: &Digest, evidence: &mut Evidence) -> Result<(), Error> {
        let _ = (of, evidence);
        Ok(())
    }

    /// Returns the messages of OpenPGP about a manifest or an index; `apart` is the URL beneath
    /// which they lie if the image does not have them with it.
    fn messages(&self, of: &Digest, apart: Option<&str>) -> Result<Vec<Vec<u8>>, Error> {
        let _ = (of, apart);
        Ok(Vec::new())
    }
}

/// Wraps what a registry says.
pub(crate) fn remote_error(sentence: impl Into<String>, source: registry::Error) -> Error {
    use registry::Kind;
    let kind = match source.kind() {
        Kind::NotFound => ErrorKind::NotFound,
        Kind::Denied => ErrorKind::Denied,
        // What ended early was good until then: worth being resumed.
        Kind::Unreachable | Kind::RateLimited | Kind::Truncated => ErrorKind::Unreachable,
        Kind::RefusedPlainHttp => ErrorKind::Refused,
        Kind::Settings => ErrorKind::Storage,
        _ => ErrorKind::Invalid,
    };
    Error::caused(kind, sentence, source)
}

/// Wraps what reading a blob says: a registry's own error, or the file system's.
pub(super) fn read_error(sentence: impl Into<String>, source: io::Error) -> Error {
    match source.downcast::<registry::Error>() {
        Ok(remote) => remote_error(sentence, remote),
        Err(local) => Error::storage(sentence, local),
    }
}
