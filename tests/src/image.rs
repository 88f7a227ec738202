//! A small writer of OCI image layouts, for whole images and for broken ones.
//!
//! Deliberately not the product's own code: what reads images must be tested against bytes that
//! somebody else wrote. Every step can be replaced by the caller, so that a test can write a layer
//! that lies or an index that points nowhere. Only the `tar` crate's builder is used, and its
//! headers filled in by hand where it would refuse what a hostile archive holds.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

/// Media types of what is written.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Returns `sha256:…` of `bytes`.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A layer that is being written: a tar archive.
#[derive(Debug, Default)]
pub struct Layer {
    tar: Vec<u8>,
}

impl Layer {
    /// Starts an empty layer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a whole archive, as some other program wrote it.
    #[must_use]
    pub fn from_tar(tar: &[u8]) -> Self {
        let end = tar.len() - tar.iter().rev().take_while(|byte| **byte == 0).count();
        let whole = end.div_ceil(512) * 512;
        Self { tar: tar[..whole.min(tar.len())].to_vec() }
    }

    /// Adds a directory.
    #[must_use]
    pub fn dir(self, path: &str, mode: u32) -> Self {
        self.entry(EntryType::Directory, path, mode, b"", None)
    }

    /// Adds a file.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, content: &[u8]) -> Self {
        self.entry(EntryType::Regular, path, mode, content, None)
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, 0o777, b"", Some(target))
    }

    /// Adds a hard link.
    #[must_use]
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path, 0o644, b"", Some(target))
    }

    /// Adds a PAX header for the next entry, whose records hold any bytes.
    #[must_use]
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let body: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.entry(EntryType::XHeader, "PaxHeaders/x", 0o644, &body, None)
    }

    /// Adds any entry, names unchecked: what they may not be is for the reader to find.
    #[must_use]
    pub fn entry(
        mut self,
        kind: EntryType,
        path: &str,
        mode: u32,
        content: &[u8],
        target: Option<&str>,
    ) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(u64::try_from(content.len()).expect("usize fits into u64"));
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path.as_bytes());
        if let Some(target) = target {
            old.linkname[..target.len()].copy_from_slice(target.as_bytes());
        }
        header.set_cksum();
        self.tar.extend_from_slice(header.as_bytes());
        self.tar.extend_from_slice(content);
        self.tar.resize(self.tar.len().div_ceil(512) * 512, 0);
        self
    }

    /// Ends the archive.
    #[must_use]
    pub fn tar(mut self) -> Vec<u8> {
        self.tar.resize(self.tar.len() + 1024, 0);
        self.tar
    }
}

/// Writes one PAX record, which begins with its own length.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let mut length = rest.len() + 1;
    while length < rest.len() + length.to_string().len() {
        length += 1;
    }
    [length.to_string().as_bytes(), &rest].concat()
}

/// An image that is being described.
#[derive(Clone, Debug)]
pub struct Image {
    layers: Vec<Vec<u8>>,
    settings: BTreeMap<String, Value>,
    architecture: String,
}

impl Default for Image {
    fn default() -> Self {
        Self { layers: Vec::new(), settings: BTreeMap::new(), architecture: "amd64".to_owned() }
    }
}

impl Image {
    /// Starts an image without layers for linux/amd64.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a layer on top.
    #[must_use]
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer.tar());
        self
    }

    /// Sets a field of the configuration's `config`, such as `Cmd`, `Env`, `User`.
    #[must_use]
    pub fn set(mut self, field: &str, value: Value) -> Self {
        self.settings.insert(field.to_owned(), value);
        self
    }

    /// Sets another architecture than `amd64`.
    #[must_use]
    pub fn architecture(mut self, word: &str) -> Self {
        word.clone_into(&mut self.architecture);
        self
    }

    /// Writes the image as a layout into `directory` under `tag`, beside what other tags are
    /// there.
    ///
    /// # Errors
    ///
    /// Whatever the file system says; the layout is then incomplete.
    pub fn write(&self, directory: &Path, tag: &str) -> io::Result<Written> {
        let mut descriptors = Vec::new();
        let mut diff_ids = Vec::new();
        for tar in &self.layers {
            diff_ids.push(digest(tar));
            descriptors.push(put(directory, LAYER, &gzip(tar)?)?);
        }
        let config = json!({
            "architecture": self.architecture,
            "os": "linux",
            "config": self.settings,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = put(directory, CONFIG, config.to_string().as_bytes())?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": descriptors,
        });
        let mut manifest = put(directory, MANIFEST, manifest.to_string().as_bytes())?;
        manifest["platform"] = json!({ "architecture": self.architecture, "os": "linux" });
        let text = |value: &Value| value["digest"].as_str().unwrap_or_default().to_owned();
        let written = Written {
            manifest: text(&manifest),
            config: text(&config),
            layers: descriptors.iter().map(text).collect(),
        };
        manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        add_to_index(directory, manifest)?;
        Ok(written)
    }
}

/// The digests of what was written for one image.
#[derive(Clone, Debug)]
pub struct Written {
    /// Of the manifest.
    pub manifest: String,
    /// Of the configuration.
    pub config: String,
    /// Of the compressed layers, lowest first.
    pub layers: Vec<String>,
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Writes a blob and returns its descriptor.
fn put(directory: &Path, media_type: &str, bytes: &[u8]) -> io::Result<Value> {
    let digest = digest(bytes);
    let path = blob(directory, &digest);
    fs::create_dir_all(path.parent().expect("a blob lies beneath its algorithm"))?;
    fs::write(path, bytes)?;
    Ok(json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() }))
}

/// Returns where the layout in `directory` keeps the blob `digest`.
#[must_use]
pub fn blob(directory: &Path, digest: &str) -> std::path::PathBuf {
    directory.join("blobs").join(digest.replace(':', "/"))
}

fn add_to_index(directory: &Path, manifest: Value) -> io::Result<()> {
    let path = directory.join("index.json");
    let mut index = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)?,
        Err(_) => json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] }),
    };
    if let Some(manifests) = index["manifests"].as_array_mut() {
        let name = manifest["annotations"].clone();
        manifests.retain(|other| other["annotations"] != name);
        manifests.push(manifest);
    }
    fs::write(path, index.to_string())?;
    fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read_by_another_reader() {
        let tar = Layer::new().dir("a/", 0o755).file("a/b", 0o644, b"hello").tar();
        let mut archive = tar::Archive::new(tar.as_slice());
        let paths: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(paths, ["a/", "a/b"]);
    }

    #[test]
    fn a_layout_holds_every_tag_once() {
        let directory = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let layer = Layer::new().file("x", 0o644, b"x");
            Image::new().layer(layer).write(directory.path(), "one").unwrap();
        }
        let index = fs::read(directory.path().join("index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    }
}
