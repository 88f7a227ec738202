//! A repository of a registry as a source.

use std::io::Read;
use std::path::Path;

use pod_abi::Digest;
use pod_abi::app::Verified;

use super::PullOptions;
use super::apart::Apart;
use super::mirrored::Mirrored;
use super::signatures;
use super::source::{Document, Source, remote_error};
use crate::document::Blob;
use crate::error::{Error, ErrorKind};
use crate::registries::{By, Place, Registries};
use crate::registry::{Client, ClientOptions, Patience, RegistryHost, TagOrDigest, Transport};
use crate::trust::Evidence;

/// What a registry is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'w> {
    /// The registry.
    pub(super) host: &'w str,
    /// The repository in it.
    pub(super) repository: &'w str,
    /// The tag, which counts where there is no digest.
    pub(super) tag: Option<&'w str>,
    /// See `tag`.
    pub(super) digest: Option<&'w Digest>,
}

/// A repository in one place.
#[derive(Debug)]
pub(super) struct Remote {
    client: Client,
    repository: String,
    which: TagOrDigest,
    /// The image's repository by its name, `HOST[:PORT]/PATH`, wherever it lies.
    name: String,
    transport: Transport,
    patience: Patience,
}

impl Remote {
    /// Prepares to ask; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] for what the host's `registries.conf` blocks, [`ErrorKind::Invalid`] for
    /// one that breaks a rule; those of preparing.
    pub(super) fn open(
        wanted: &Wanted<'_>,
        options: &PullOptions,
    ) -> Result<Box<dyn Source>, Error> {
        let name = format!("{}/{}", wanted.host, wanted.repository);
        let by = if wanted.digest.is_some() { By::Digest } else { By::Tag };
        let places =
            registries(options.registries.as_deref())?.places(&name, by).map_err(|source| {
                Error::caused(ErrorKind::Refused, "it may not be fetched from anywhere", source)
            })?;
        let places = places.iter().map(|place| Self::at(place, &name, wanted, options));
        let mut places = places.collect::<Result<Vec<_>, _>>()?;
        match (places.len(), places.pop()) {
            (1, Some(only)) => Ok(Box::new(only)),
            (_, last) => {
                places.extend(last);
                Ok(Box::new(Mirrored::new(places)))
            }
        }
    }

    fn at(
        place: &Place,
        name: &str,
        wanted: &Wanted<'_>,
        options: &PullOptions,
    ) -> Result<Self, Error> {
        let PullOptions { transport, patience, .. } = *options;
        let (client, repository) = client_at(place, transport, patience)?;
        let transport = transport_at(place, transport);
        let which = match (wanted.digest, wanted.tag) {
            (Some(digest), _) => TagOrDigest::Digest(digest.clone()),
            (None, tag) => TagOrDigest::Tag(tag.unwrap_or("latest").to_owned()),
        };
        let name = name.to_owned();
        Ok(Self { client, repository, which, name, transport, patience })
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

/// Reads what the administrator says of registries in `file` and beside it.
pub(crate) fn registries(file: Option<&Path>) -> Result<Registries, Error> {
    let Some(file) = file else { return Ok(Registries::default()) };
    Registries::load_with_drop_ins(file).map_err(|source| {
        Error::caused(ErrorKind::Invalid, "it cannot be known where images lie", source)
    })
}

/// Prepares to ask a repository where it really lies, and returns its name there; nothing is sent
/// yet.
pub(crate) fn client_at(
    place: &Place,
    transport: Transport,
    patience: Patience,
) -> Result<(Client, String), Error> {
    let Some((host, repository)) = place.repository.split_once('/') else {
        let sentence = format!("`{}` is no repository of a registry", place.repository);
        return Err(Error::invalid(sentence));
    };
    let client = client(host, transport_at(place, transport), patience)?;
    Ok((client, repository.to_owned()))
}

/// Plain HTTP will do where the administrator says so.
const fn transport_at(place: &Place, transport: Transport) -> Transport {
    if place.insecure { Transport::InsecureHttp } else { transport }
}

/// Prepares to ask the registry `host`; nothing is sent yet.
fn client(host: &str, transport: Transport, patience: Patience) -> Result<Client, Error> {
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

    fn signatures(&self, of: &Digest, evidence: &mut Evidence) -> Result<(), Error> {
        signatures::of((&self.client, &self.repository), of, evidence)
    }

    fn messages(&self, of: &Digest, apart: Option<&str>) -> Result<Vec<Vec<u8>>, Error> {
        let Some(base) = apart else { return Ok(Vec::new()) };
        let Self { name, transport, patience, .. } = self;
        Apart { base, repository: name, transport: *transport, patience: *patience }.messages(of)
    }

    fn verified(&self) -> Verified {
        match self.which {
            TagOrDigest::Tag(_) if self.client.is_plain() => Verified::DigestOverHttp,
            _ => Verified::Digest,
        }
    }
}
