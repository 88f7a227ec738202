//! An image as one file: the store's own bytes in an archive that other tools read.
//!
//! What is written is an OCI layout; for `docker load` of any age a `manifest.json` lies beside it,
//! as Docker itself writes it. Documents and layers go out as they came in, each checked against
//! its digest on the way, so that whoever reads the archive gets the same image under the same
//! digest. The same image gives the same bytes: names in order, no times, no owners.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use pod_abi::Digest;
use serde::Serialize;
use serde_json::Value;
use tar::{Builder, EntryType, Header};

use super::blobs;
use super::handle::Store;
use super::lease::Lease;
use super::refs::RefRecord;
use crate::document::{FULL_NAME, MANIFEST, MAX_DOCUMENT, Manifest, REF_NAME, Top};
use crate::error::{Error, ErrorKind};
use crate::hash::Hasher;
use crate::image::ImageRecord;
use crate::reference::Reference;

/// The media type of an index.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What an image is written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExportFormat {
    /// An OCI layout in a tar file.
    #[default]
    OciArchive,
    /// The same with what every version of Docker looks for.
    DockerArchive,
}

/// One blob of an image.
struct Wanted {
    digest: Digest,
    size: u64,
}

impl Store {
    /// Writes the image `reference` means to `to`, and keeps it from gc while `lease` lives.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] without such an image, or without the compressed layers it came as;
    /// [`ErrorKind::Invalid`] if the store's content is damaged. What has been written is no archive
    /// then.
    pub fn export(
        &self,
        reference: &Reference,
        lease: &Lease,
        format: ExportFormat,
        to: &mut dyn Write,
    ) -> Result<ImageRecord, Error> {
        let stored = {
            let _lock = self.lock_shared()?;
            let stored = self.stored(reference)?;
            let manifest = self.manifest_of(&stored.record)?;
            lease.hold(stored.record.digests())?;
            lease.hold(manifest.layers.iter().map(|layer| &layer.digest))?;
            stored
        };
        let record = &stored.record;
        let bytes = self.read_blob(&record.manifest, MAX_DOCUMENT)?;
        let manifest = self.manifest_of(record)?;
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let mut wanted = BTreeMap::new();
        let own = [
            (record.manifest.clone(), size),
            (manifest.config.digest.clone(), manifest.config.size),
        ];
        let layers = manifest.layers.iter().map(|layer| (layer.digest.clone(), layer.size));
        for (digest, size) in own.into_iter().chain(layers) {
            wanted.insert(blobs::path(&digest), Wanted { digest, size });
        }
        let written = |source| Error::storage(format!("cannot write out `{reference}`"), source);
        let mut archive = Builder::new(to);
        let index = index(record, &bytes, size).map_err(|error| written(error.into()))?;
        let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
        member(&mut archive, "index.json", &index).map_err(written)?;
        if format == ExportFormat::DockerArchive {
            let list = docker_list(record, &manifest).map_err(|error| written(error.into()))?;
            member(&mut archive, "manifest.json", &list).map_err(written)?;
        }
        member(&mut archive, "oci-layout", layout).map_err(written)?;
        for (path, wanted) in &wanted {
            self.append(&mut archive, path, wanted)?;
        }
        archive.into_inner().and_then(Write::flush).map_err(written)?;
        Ok(stored.line())
    }

    fn manifest_of(&self, record: &RefRecord) -> Result<Manifest, Error> {
        let bytes = self.read_blob(&record.manifest, MAX_DOCUMENT)?;
        match Top::parse(&bytes, "") {
            Ok(Top::Manifest(manifest)) => Ok(manifest),
            Ok(Top::Index(_)) => {
                Err(Error::invalid(format!("`{}` is no manifest", record.manifest)))
            }
            Err(source) => {
                let sentence = format!("cannot read manifest `{}`", record.manifest);
                Err(Error::caused(ErrorKind::Invalid, sentence, source))
            }
        }
    }

    fn append<W: Write>(
        &self,
        archive: &mut Builder<W>,
        path: &str,
        wanted: &Wanted,
    ) -> Result<(), Error> {
        let Wanted { digest, size } = wanted;
        let Some(file) = self.open_blob(digest)? else {
            let sentence = format!("blob `{digest}` is not in the store any more");
            return Err(Error::new(ErrorKind::NotFound, sentence));
        };
        let hasher = Some(Hasher::new(digest.algorithm()));
        let mut checked = Checked { from: file.take(*size), digest, hasher };
        archive.append_data(&mut header(*size), path, &mut checked).map_err(|error| {
            match error.kind() {
                io::ErrorKind::InvalidData => {
                    Error::invalid(format!("blob `{digest}` in the store has other content"))
                }
                _ => Error::storage(format!("cannot write out blob `{digest}`"), error),
            }
        })
    }
}

/// A blob on its way out; its end is an error unless it was all of it.
struct Checked<'d, R> {
    from: R,
    digest: &'d Digest,
    /// `None` once the end was seen.
    hasher: Option<Hasher>,
}

impl<R: Read> Read for Checked<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(buffer)?;
        match &mut self.hasher {
            Some(hasher) if length > 0 => hasher.update(&buffer[..length]),
            hasher => {
                if hasher.take().is_some_and(|hasher| hasher.finish() != *self.digest) {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
        }
        Ok(length)
    }
}

fn header(size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn member<W: Write>(archive: &mut Builder<W>, path: &str, bytes: &[u8]) -> io::Result<()> {
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    archive.append_data(&mut header(size), path, bytes)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u32,
    media_type: &'a str,
    manifests: [Descriptor<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor<'a> {
    media_type: String,
    digest: &'a Digest,
    size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'a str, String>,
}

/// Writes `index.json`: the one manifest, and what it is called.
fn index(record: &RefRecord, manifest: &[u8], size: u64) -> serde_json::Result<Vec<u8>> {
    let said: Value = serde_json::from_slice(manifest)?;
    let media_type = said.get("mediaType").and_then(Value::as_str).unwrap_or(MANIFEST).to_owned();
    let mut annotations = BTreeMap::new();
    if let Ok(reference) = Reference::parse(&record.reference) {
        if let Some(tag) = reference.tag() {
            annotations.insert(REF_NAME, tag.to_owned());
        }
        if reference.is_nameable() {
            annotations.insert(FULL_NAME, reference.to_string());
        }
    }
    let descriptor = Descriptor { media_type, digest: &record.manifest, size, annotations };
    serde_json::to_vec(&Index { schema_version: 2, media_type: INDEX, manifests: [descriptor] })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerItem {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// Writes Docker's `manifest.json`.
fn docker_list(record: &RefRecord, manifest: &Manifest) -> serde_json::Result<Vec<u8>> {
    let nameable = Reference::parse(&record.reference).is_ok_and(|name| name.is_nameable());
    serde_json::to_vec(&[DockerItem {
        config: blobs::path(&manifest.config.digest),
        repo_tags: nameable.then(|| record.reference.clone()).into_iter().collect(),
        layers: manifest.layers.iter().map(|layer| blobs::path(&layer.digest)).collect(),
    }])
}
