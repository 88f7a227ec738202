//! A repository of a registry as a source.

use std::io::Read;

use pod_abi::Digest;
use pod_abi::app::Verified;

use super::PullOptions;
use super::signatures;
use super::source::{Document, Source, remote_error};
use crate::document::Blob;
use crate::error::{Error, ErrorKind};
use crate::registry::{Client, ClientOptions, Patience, RegistryHost, TagOrDigest, Transport};
use crate::trust::Signed;

#[derive(Debug)]
pub(super) struct Remote {
    client: Client,
    repository: String,
    which: TagOrDigest,
}

impl Remote {
    /// Prepares to ask; nothing is sent yet. A digest decides, the tag beside it is only a label.
    pub(super) fn open(
        host: &str,
        repository: &str,
        tag: Option<&str>,
        digest: &Option<Digest>,
        options: &PullOptions,
    ) -> Result<Self, Error> {
        let client = client(host, options.transport, options.patience)?;
        let which = match (digest, tag) {
            (Some(digest), _) => TagOrDigest::Digest(digest.clone()),
            (None, tag) => TagOrDigest::Tag(tag.unwrap_or("latest").to_owned()),
        };
        Ok(Self { client, repository: repository.to_owned(), which })
    }

    fn fetch(&self, which: &TagOrDigest) -> Result<Document, Error> {
        let fetched = self
            .client
            .manifest(&self.repository, which)
            .map_err(|source| remote_error("cannot fetch the manifest", source))?;
        let (digest, bytes, media_type) = (fetched.digest, fetched.bytes, fetched.media_type);
        Ok(Document { digest, bytes, media_type })
    }
}

/// Prepares to ask the registry `host`; nothing is sent yet.
pub(crate) fn client(
    host: &str,
    transport: Transport,
    patience: Patience,
) -> Result<Client, Error> {
    let sentence = || format!("cannot ask registry `{host}`");
    let name = RegistryHost::parse(host)
        .map_err(|source| Error::caused(ErrorKind::Invalid, sentence(), source))?;
    let settings = ClientOptions { transport, patience, ..ClientOptions::default() };
    Client::new(&name, settings).map_err(|source| remote_error(sentence(), source))
}

impl Source for Remote {
    fn top(&self) -> Result<Document, Error> {
        self.fetch(&self.which)
    }

    fn digest(&self) -> Result<Option<Digest>, Error> {
        self.client
            .digest_of(&self.repository, &self.which)
            .map_err(|source| remote_error("cannot ask for the manifest", source))
    }

    fn document(&self, digest: &Digest) -> Result<Document, Error> {
        self.fetch(&TagOrDigest::Digest(digest.clone()))
    }

    fn blob(&self, blob: &Blob, offset: u64) -> Result<Box<dyn Read + '_>, Error> {
        let reader = self.client.blob(&self.repository, &blob.digest, blob.size, offset).map_err(
            |source| remote_error(format!("cannot fetch blob `{}`", blob.digest), source),
        )?;
        Ok(Box::new(reader))
    }

    fn signatures(&self, of: &Digest) -> Result<Vec<Signed>, Error> {
        signatures::of(&self.client, &self.repository, of)
    }

    fn verified(&self) -> Verified {
        match self.which {
            TagOrDigest::Tag(_) if self.client.is_plain() => Verified::DigestOverHttp,
            _ => Verified::Digest,
        }
    }
}
