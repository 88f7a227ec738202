//! An image as one file: the store's own bytes in an archive that other tools read.
//!
//! What is written is an OCI layout; for `docker load` of any age a `manifest.json` lies beside it,
//! as Docker itself writes it. Documents and layers go out as they came in, each checked against
//! its digest on the way, so that whoever reads the archive gets the same image under the same
//! digest. The same image gives the same bytes: names in order, no times, no owners.

use std::collections::BTreeMap;
use std::io::{self, Write};

use pod_abi::Digest;
use serde::Serialize;
use tar::{Builder, EntryType, Header};

use super::blobs;
use super::handle::Store;
use super::lease::Lease;
use super::outgoing::{Outgoing, unsent};
use crate::document::{Blob, FULL_NAME, REF_NAME};
use crate::error::Error;
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

impl Store {
    /// Writes the image `reference` means to `to`, and keeps it from gc while `lease` lives.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) without such an image, or without the
    /// compressed layers it came as; [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if the
    /// store's content is damaged. What has been written is no archive then.
    pub fn export(
        &self,
        reference: &Reference,
        lease: &Lease,
        format: ExportFormat,
        to: &mut dyn Write,
    ) -> Result<ImageRecord, Error> {
        let image = self.outgoing(reference, lease)?;
        let size = u64::try_from(image.bytes.len()).unwrap_or(u64::MAX);
        let itself = Blob { digest: image.digest().clone(), size };
        let blobs = image.manifest.layers.iter().chain([&image.manifest.config, &itself]);
        // Layers may be the same; in the archive each has its place once.
        let blobs: BTreeMap<String, &Blob> =
            blobs.map(|blob| (blobs::path(&blob.digest), blob)).collect();
        let written = |source| Error::storage(format!("cannot write out `{reference}`"), source);
        let mut archive = Builder::new(to);
        let index = index(&image, size).map_err(|error| written(error.into()))?;
        let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
        member(&mut archive, "index.json", &index).map_err(written)?;
        if format == ExportFormat::DockerArchive {
            let list = docker_list(&image).map_err(|error| written(error.into()))?;
            member(&mut archive, "manifest.json", &list).map_err(written)?;
        }
        member(&mut archive, "oci-layout", layout).map_err(written)?;
        for (path, blob) in &blobs {
            let mut checked = self.outgoing_blob(blob)?;
            archive
                .append_data(&mut header(blob.size), path, &mut checked)
                .map_err(|error| unsent(&blob.digest, error))?;
        }
        archive.into_inner().and_then(Write::flush).map_err(written)?;
        Ok(image.line)
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
fn index(image: &Outgoing, size: u64) -> serde_json::Result<Vec<u8>> {
    let media_type = image.media_type.clone();
    let mut annotations = BTreeMap::new();
    if let Ok(reference) = Reference::parse(&image.record.reference) {
        if let Some(tag) = reference.tag() {
            annotations.insert(REF_NAME, tag.to_owned());
        }
        if reference.is_nameable() {
            annotations.insert(FULL_NAME, reference.to_string());
        }
    }
    let descriptor = Descriptor { media_type, digest: image.digest(), size, annotations };
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
fn docker_list(image: &Outgoing) -> serde_json::Result<Vec<u8>> {
    let Outgoing { record, manifest, .. } = image;
    let nameable = Reference::parse(&record.reference).is_ok_and(|name| name.is_nameable());
    serde_json::to_vec(&[DockerItem {
        config: blobs::path(&manifest.config.digest),
        repo_tags: nameable.then(|| record.reference.clone()).into_iter().collect(),
        layers: manifest.layers.iter().map(|layer| blobs::path(&layer.digest)).collect(),
    }])
}
