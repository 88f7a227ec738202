//! Fetching the signatures that lie beside an image in its repository.
//!
//! Both places cosign has are looked at, every time: which of them a publisher used is nothing a
//! registry may decide. What is not there is no error; what is there and is none is.

use std::io::Read as _;

use pod_abi::Digest;

use super::source::{read_error, remote_error};
use crate::error::{Error, ErrorKind};
use crate::hash;
use crate::registry::{self, Client, TagOrDigest};
use crate::trust::{
    Signed, TrustError, attachments, bundle_of, bundled, bundles_among, referrers_tag_of, tag_of,
};

/// Returns the signatures of the manifest or index `of` in `repository`.
///
/// # Errors
///
/// Those of fetching; [`ErrorKind::Invalid`] for signatures that are none.
pub(super) fn of(client: &Client, repository: &str, of: &Digest) -> Result<Vec<Signed>, Error> {
    let place = Beside { client, repository };
    let mut signed = Vec::new();
    if let Some(manifest) = place.manifest(&TagOrDigest::Tag(tag_of(of)))? {
        for attachment in attachments(&manifest).map_err(unreadable)? {
            let claim = place.blob(&attachment.claim, attachment.size)?;
            signed.push(attachment.with(claim).map_err(unreadable)?);
        }
    }
    let listed = client.referrers(repository, of).map_err(unfetched)?;
    let index = match listed {
        Some(index) => Some(index),
        None => place.manifest(&TagOrDigest::Tag(referrers_tag_of(of)))?,
    };
    for digest in index.as_deref().map_or(Ok(Vec::new()), bundles_among).map_err(unreadable)? {
        let manifest = place.manifest(&TagOrDigest::Digest(digest))?;
        let Some(manifest) = manifest else { continue };
        let (digest, size) = bundle_of(&manifest).map_err(unreadable)?;
        signed.extend(bundled(&place.blob(&digest, size)?).map_err(unreadable)?);
    }
    Ok(signed)
}

/// A repository in which signatures lie.
struct Beside<'c> {
    client: &'c Client,
    repository: &'c str,
}

impl Beside<'_> {
    /// Fetches a manifest, if it is there.
    fn manifest(&self, which: &TagOrDigest) -> Result<Option<Vec<u8>>, Error> {
        match self.client.manifest(self.repository, which) {
            Ok(fetched) => Ok(Some(fetched.bytes)),
            Err(error) if error.kind() == registry::Kind::NotFound => Ok(None),
            Err(error) => Err(unfetched(error)),
        }
    }

    /// Fetches a blob whole; its size was bounded by whoever read the document that names it.
    fn blob(&self, digest: &Digest, size: u64) -> Result<Vec<u8>, Error> {
        let reader = self.client.blob(self.repository, digest, size, 0).map_err(unfetched)?;
        let mut bytes = Vec::new();
        reader
            .take(size + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| read_error(format!("cannot read signature `{digest}`"), source))?;
        if hash::of(digest.algorithm(), &bytes) != *digest {
            let sentence = format!("what came for signature `{digest}` has another digest");
            return Err(Error::invalid(sentence));
        }
        Ok(bytes)
    }
}

fn unfetched(source: registry::Error) -> Error {
    remote_error("cannot fetch the signatures", source)
}

fn unreadable(source: TrustError) -> Error {
    Error::caused(ErrorKind::Invalid, "cannot use the signatures", source)
}
