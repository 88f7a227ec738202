//! Checking the store: every object is what its name says, and every name leads to objects.
//!
//! Runs beside everything else and changes nothing. What vanishes meanwhile was somebody's to
//! delete and is no finding. Residue in `tmp/` and `trash/` is counted, not found: it is no damage.

use std::io::{self, Read};

use pod_abi::Digest;
use rustix::fs::FileType;
use serde::Serialize;

use super::handle::Store;
use super::layers::{LayerMeta, META_VERSION};
use super::refs::StoredRef;
use super::staging::TREE;
use super::{blobs, files};
use crate::document::{Config, MAX_DOCUMENT, Top};
use crate::error::Error;
use crate::hash::Hasher;

/// What a check saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FsckReport {
    /// Everything that is wrong; empty if the store is sound.
    pub findings: Vec<Finding>,
    /// How many names were checked.
    pub refs: usize,
    /// How many blobs were hashed.
    pub blobs: usize,
    /// How many layers were looked at.
    pub layers: usize,
    /// How many of them were compared with what they came as, file by file.
    pub trees: usize,
    /// How many were to be, but what they came as is not in the store.
    pub unchecked: usize,
    /// How many things wait for gc in `tmp/` and `trash/`.
    pub residue: usize,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What it is about, as a path beneath the store.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Store {
    /// Checks names, hashes all blobs, and looks at what is known of each layer.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage) if the store cannot be listed; whatever
    /// is wrong with a single object is a finding.
    pub fn fsck(&self) -> Result<FsckReport, Error> {
        let mut report = FsckReport::default();
        for name in self.names("refs")? {
            report.refs += 1;
            self.check_ref(&format!("refs/{name}"), &mut report)?;
        }
        for algorithm in ["sha256", "sha512"] {
            for name in self.names(&format!("blobs/{algorithm}"))? {
                report.blobs += 1;
                self.check_blob(algorithm, &name, &mut report);
            }
        }
        for name in self.names("layers")? {
            report.layers += 1;
            self.check_layer(&name, &mut report);
        }
        report.residue = self.names("tmp")?.len() + self.names("trash")?.len();
        Ok(report)
    }

    fn names(&self, dir: &str) -> Result<Vec<String>, Error> {
        files::list(self.dir(), dir).map_err(|source| self.failed(&format!("list `{dir}`"), source))
    }

    /// Checks one name under the shared lock, so that gc cannot take away what it names meanwhile.
    fn check_ref(&self, path: &str, report: &mut FsckReport) -> Result<(), Error> {
        let _lock = self.lock_shared()?;
        let stored = match self.ref_at(path) {
            Ok(Some(stored)) => stored,
            Ok(None) => return Ok(()),
            Err(error) => {
                report.add(path, error.to_string());
                return Ok(());
            }
        };
        if stored.record.path() != path {
            report.add(path, format!("it is the record of `{}`", stored.record.reference));
        }
        if let Err(problem) = self.check_content(&stored) {
            report.add(path, problem);
        }
        let layers = self.find_layers(&stored.record.layers)?;
        for (layer, found) in stored.record.layers.iter().zip(layers) {
            if found.is_none() {
                let name = &stored.record.reference;
                report.add(path, format!("layer `{layer}` of `{name}` is missing"));
            }
        }
        Ok(())
    }

    /// Checks that the documents a name leads to agree with its record.
    fn check_content(&self, stored: &StoredRef) -> Result<(), String> {
        let record = &stored.record;
        let read = |digest: &Digest| {
            self.read_blob(digest, MAX_DOCUMENT).map_err(|error| error.to_string())
        };
        let manifest = match Top::parse(&read(&record.manifest)?, "") {
            Ok(Top::Manifest(manifest)) => manifest,
            Ok(Top::Index(_)) => return Err(format!("`{}` is no manifest", record.manifest)),
            Err(error) => return Err(format!("manifest `{}`: {error}", record.manifest)),
        };
        let config = Config::parse(&read(&record.config)?, manifest.layers.len())
            .map_err(|error| format!("configuration `{}`: {error}", record.config))?;
        if manifest.config.digest != record.config || config.layers != record.layers {
            return Err("it does not agree with its manifest and configuration".to_owned());
        }
        Ok(())
    }

    /// Tells whether the blob `digest` is there and what its name says.
    pub(crate) fn is_sound(&self, digest: &Digest) -> Result<bool, Error> {
        let Some(file) = self.open_blob(digest)? else { return Ok(false) };
        let found = hash(digest, file);
        let found = found.map_err(|e| self.failed(&format!("read blob `{digest}`"), e))?;
        Ok(found == *digest)
    }

    fn check_blob(&self, algorithm: &str, name: &str, report: &mut FsckReport) {
        let path = format!("blobs/{algorithm}/{name}");
        let Ok(digest) = Digest::parse(&format!("{algorithm}:{name}")) else {
            return report.add(&path, "its name is no digest");
        };
        match files::open(self.dir(), &blobs::path(&digest)).and_then(|file| hash(&digest, file)) {
            Ok(found) if found == digest => {}
            Ok(found) => report.add(&path, format!("its content is `{found}`")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => report.add(&path, format!("it cannot be read: {error}")),
        }
    }

    fn check_layer(&self, name: &str, report: &mut FsckReport) {
        let path = format!("layers/{name}");
        let problem = match self.layer_meta(name) {
            Ok(meta) => self.layer_problem(name, &meta),
            Err(error) => Some(format!("it has no readable description: {error}")),
        };
        if let Some(problem) = problem
            && files::exists(self.dir(), &path).unwrap_or(true)
        {
            report.add(&path, problem);
        }
    }

    fn layer_problem(&self, name: &str, meta: &LayerMeta) -> Option<String> {
        if meta.version != META_VERSION {
            return Some(format!("its description has version {}", meta.version));
        }
        if meta.name() != name {
            return Some(format!("it is layer `{}`", meta.name()));
        }
        let tree = format!("layers/{name}/{TREE}");
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        match rustix::fs::statat(self.dir(), &tree, flags) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => self.image_problem(name),
            Ok(_) => Some("its tree is no directory".to_owned()),
            Err(error) => Some(format!("its tree cannot be found: {error}")),
        }
    }
}

impl FsckReport {
    pub(crate) fn add(&mut self, object: &str, problem: impl Into<String>) {
        self.findings.push(Finding { object: object.to_owned(), problem: problem.into() });
    }
}

fn hash(digest: &Digest, mut file: impl Read) -> io::Result<Digest> {
    let mut hasher = Hasher::new(digest.algorithm());
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            length => hasher.update(&buffer[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use pod_abi::digest::Algorithm;

    use super::*;

    #[test]
    fn damage_is_named_and_soundness_is_silent() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let digest = crate::hash::of(Algorithm::Sha256, b"good");
        store.write_blob(&digest, b"good").unwrap();
        let report = store.fsck().unwrap();
        assert_eq!((report.findings.len(), report.blobs), (0, 1));

        let images = root.path().join("images");
        std::fs::write(images.join(blobs::path(&digest)), "").unwrap();
        std::fs::write(images.join("blobs/sha256/odd"), "").unwrap();
        std::fs::write(images.join("refs/odd.json"), "{").unwrap();
        std::fs::create_dir(images.join("layers/odd")).unwrap();
        let report = store.fsck().unwrap();
        let objects: Vec<&str> = report.findings.iter().map(|f| f.object.as_str()).collect();
        let blob = blobs::path(&digest);
        assert_eq!(objects, ["refs/odd.json", &blob, "blobs/sha256/odd", "layers/odd"]);
    }
}
