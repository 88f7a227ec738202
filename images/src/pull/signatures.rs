//! Fetching the signatures that lie beside an image in its repository.
//!
//! Both places cosign has are looked at, every time: which of them a publisher used is nothing a
//! registry may decide. What is not there is no error. Neither is what is there and of no use, such
//! as an attestation: it vouches for nothing, and why is told if nothing else does.

use std::io::Read as _;

use pod_abi::Digest;

use super::source::{read_error, remote_error};
use crate::error::Error;
use crate::hash;
use crate::registry::{self, Client, TagOrDigest};
use crate::trust::{
    Evidence, attachments, bundle_of, bundled, bundles_among, referrers_tag_of, tag_of,
};

/// Adds the signatures of the manifest or index `of` in a repository to what there is to judge it
/// by.
///
/// # Errors
///
/// Those of fetching; [`ErrorKind::Invalid`] for what comes under another digest than its own.
pub(super) fn of(
    (client, repository): (&Client, &str),
    of: &Digest,
    evidence: &mut Evidence,
) -> Result<(), Error> {
    let place = Beside { client, repository };
    if let Some(manifest) = place.manifest(&TagOrDigest::Tag(tag_of(of)))? {
        for attachment in evidence.usable(attachments(&manifest)).unwrap_or_default() {
            let claim = place.blob(&attachment.claim, attachment.size)?;
            let signed = evidence.usable(attachment.with(claim));
            evidence.sigstore.extend(signed);
        }
    }
    let listed = client.referrers(repository, of).map_err(unfetched)?;
    let index = match listed {
        Some(index) => Some(index),
        None => place.manifest(&TagOrDigest::Tag(referrers_tag_of(of)))?,
    };
    let bundles = index.as_deref().map_or(Ok(Vec::new()), bundles_among);
    for digest in evidence.usable(bundles).unwrap_or_default() {
        let manifest = place.manifest(&TagOrDigest::Digest(digest))?;
        let Some(manifest) = manifest else { continue };
        let Some((digest, size)) = evidence.usable(bundle_of(&manifest)) else { continue };
        let signed = evidence.usable(bundled(&place.blob(&digest, size)?));
        evidence.sigstore.extend(signed.into_iter().flatten());
    }
    Ok(())
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
