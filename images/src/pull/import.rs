//! Importing: a file becomes images of the store.
//!
//! An archive of images is taken image by image, as a pull takes them. Any other archive is the
//! root of one image of one layer, whose manifest and configuration are made here: the same bytes
//! and the same settings give the same digest. The root's headers are read by the worker only.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use pod_abi::app::Verified;
use pod_abi::digest::Algorithm;
use rustix::fs::{AtFlags, FileType};

use super::aci::Found;
use super::docker::{self, DockerArchive};
use super::files::Files;
use super::layer::{Job, Ready, unpack_error};
use super::layers;
use super::layout::Layout;
use super::source::Source;
use super::trusted::{self, Seen};
use super::{Fetch, PullOptions};
use crate::appc::AppcName;
use crate::archive::{self, Archive};
use crate::document::{Blob, Index, MAX_DOCUMENT, Top, write_config, write_manifest};
use crate::error::{Error, ErrorKind};
use crate::hash::{self, Hasher};
use crate::image::{Image, ImageSettings};
use crate::layer::{LayerFacts, Limits, Unpack};
use crate::progress::{Event, Progress};
use crate::reference::Reference;
use crate::store::{ImageParts, Incoming, Lease, RefRecord, Staging, Store};
use crate::trust::FileKind;

/// How much is read at once.
const CHUNK: usize = 256 << 10;

/// What becomes of a file that is imported.
#[derive(Clone, Copy)]
pub struct Import<'i> {
    /// What the file is called, for messages and for images without a name of their own.
    pub path: &'i Path,
    /// What the image is to be called; by default what it says, or else what the file is called.
    pub reference: Option<&'i Reference>,
    /// What it must be, if it was looked for by its name: this image of appc, and no other one.
    pub asked: Option<&'i AppcName>,
    /// What a root is to run; an archive of images has its own.
    pub settings: Option<&'i ImageSettings>,
    /// What vouches for the file; a signature of it is checked by whoever opened it.
    pub verified: Verified,
    /// How to unpack it, and for which platform.
    pub options: &'i PullOptions,
    /// What keeps it from gc.
    pub lease: &'i Lease,
    /// Who is told.
    pub progress: &'i dyn Progress,
}

impl fmt::Debug for Import<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Import").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What a file turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportedFrom {
    /// An OCI layout in an archive.
    OciArchive,
    /// What `docker save` writes.
    DockerArchive,
    /// An App Container Image, as rkt ran them.
    Aci,
    /// An archive of a root.
    Root,
}

/// What came of an import.
#[derive(Clone, Debug)]
pub struct Imported {
    /// What the file was.
    pub from: ImportedFrom,
    /// Every name the file gave, with its image.
    pub images: Vec<Image>,
}

impl Store {
    /// Takes the images of `file` into the store, or the root it is an archive of.
    ///
    /// # Errors
    ///
    /// Whatever stopped it, by [`ErrorKind`]; [`ErrorKind::Refused`] if a name or settings are given
    /// that what is in the file has no use for. Images that came before the error stay.
    pub fn import(&self, mut file: File, import: &Import<'_>) -> Result<Imported, Error> {
        let failed =
            |error: Error| error.within(format!("cannot import `{}`", import.path.display()));
        let again = || {
            let file = file.try_clone();
            file.map_err(|source| Error::storage("cannot read the file twice", source))
        };
        // A root may have what no archive of images has: then it is a root. What was asked for as an
        // image of appc is nothing else.
        let kind = match import.asked {
            Some(_) => Err(None),
            None => kind(Archive::read(again()?, import.path)),
        };
        let (from, images) = match kind {
            Ok(from @ ImportedFrom::DockerArchive) => (from, self.import_docker(&again, import)),
            Ok(from) => (from, self.import_layout(&again, import)),
            Err(why) => {
                let is_named = import.asked.is_some()
                    || import.path.extension().is_some_and(|suffix| suffix == "aci");
                match self.import_aci(&mut file, import).map_err(failed)? {
                    Found::Image(image) => {
                        return Ok(Imported { from: ImportedFrom::Aci, images: vec![*image] });
                    }
                    Found::None(why) if is_named => {
                        return Err(failed(Error::caused(
                            ErrorKind::Invalid,
                            "it is no image of appc",
                            why,
                        )));
                    }
                    Found::None(_) => {}
                }
                let rewound = io::Seek::rewind(&mut file);
                rewound.map_err(|source| Error::storage("cannot read the file twice", source))?;
                let image = self.import_root(&mut file, import, why);
                (ImportedFrom::Root, image.map(|image| vec![image]))
            }
        };
        Ok(Imported { from, images: images.map_err(failed)? })
    }

    fn import_layout(
        &self,
        again: &dyn Fn() -> Result<File, Error>,
        import: &Import<'_>,
    ) -> Result<Vec<Image>, Error> {
        refuse_settings(import)?;
        let files = Files::Archive(Archive::read(again()?, import.path)?);
        let index = match Top::parse(&files.read("index.json", MAX_DOCUMENT)?, "") {
            Ok(Top::Index(index)) => index,
            Ok(Top::Manifest(_)) => return Err(Error::invalid("its `index.json` is no index")),
            Err(source) => {
                let sentence = "cannot read its `index.json`";
                return Err(Error::caused(ErrorKind::Invalid, sentence, source));
            }
        };
        let names = layout_names(&index, import)?;
        let taken = names.into_iter().map(|(tag, reference)| {
            let files = Files::Archive(Archive::read(again()?, import.path)?);
            let layout = Layout::open(files, tag.as_deref(), None)?;
            self.take_one((&reference, FileKind::OciArchive), &layout, import)
        });
        taken.collect()
    }

    fn import_docker(
        &self,
        again: &dyn Fn() -> Result<File, Error>,
        import: &Import<'_>,
    ) -> Result<Vec<Image>, Error> {
        refuse_settings(import)?;
        let items = docker::items(&Archive::read(again()?, import.path)?)?;
        if import.reference.is_some() && items.len() != 1 {
            return Err(several(items.len()));
        }
        let mut images = Vec::new();
        for (at, item) in items.iter().enumerate() {
            let tags = item.repo_tags.iter().flatten();
            let mut names: BTreeSet<Reference> = match import.reference {
                Some(reference) => BTreeSet::from([reference.clone()]),
                None => tags.filter_map(|tag| nameable(tag)).collect(),
            };
            if names.is_empty() {
                let tag = (items.len() > 1).then(|| at.to_string());
                names.insert(named_after(import.path, tag.as_deref()));
            }
            for reference in names {
                let source = DockerArchive::of(Archive::read(again()?, import.path)?, item)?;
                let named = (&reference, FileKind::DockerArchive);
                images.push(self.take_one(named, &source, import)?);
            }
        }
        Ok(images)
    }

    fn take_one(
        &self,
        (reference, kind): (&Reference, FileKind),
        source: &dyn Source,
        import: &Import<'_>,
    ) -> Result<Image, Error> {
        let Import { options, lease, progress, .. } = *import;
        progress.event(Event::Resolving { reference: reference.to_string() });
        let mut seen = vec![Seen::of_file(kind, import.path)];
        // A name that the file gives itself counts only where it would have come in by that name.
        if import.reference.is_none() {
            seen.push(Seen::of(reference));
        }
        self.take(reference, &seen, source, &Fetch { options, lease, progress })
    }

    /// Refuses a root, or an image of rkt, that the policy does not let in; `own` is the name that
    /// stands in the file, if that is what it will be called.
    pub(super) fn let_in(import: &Import<'_>, own: Option<&Reference>) -> Result<(), Error> {
        // By its name it was judged where it was discovered.
        if import.asked.is_some() {
            return Ok(());
        }
        let policies = &import.options.policies;
        if import.verified != Verified::Signature {
            let seen = Seen::of_file(FileKind::Root, import.path);
            trusted::let_in(policies, &seen, import.verified)?;
        }
        own.map_or(Ok(()), |own| trusted::let_in(policies, &Seen::of(own), import.verified))
    }

    /// Takes a root into the store. `why` is what is wrong with it as an archive of images.
    fn import_root(
        &self,
        root: &mut File,
        import: &Import<'_>,
        why: Option<Error>,
    ) -> Result<Image, Error> {
        Self::let_in(import, None)?;
        let own = named_after(import.path, None);
        let reference = import.reference.unwrap_or(&own);
        import.progress.event(Event::Resolving { reference: reference.to_string() });
        let mut incoming = self.incoming()?;
        let taken = self.unpack_root(root, &mut incoming, import).and_then(|taken| {
            refuse_nothing(&taken.blob)?;
            refuse_images(&taken, why).map(|()| taken)
        });
        let taken = match taken {
            Ok(taken) => taken,
            Err(error) => {
                self.drop_incoming(&incoming);
                return Err(error);
            }
        };
        let Taken { blob, head, staging, facts } = taken;
        let settings = import.settings.cloned().unwrap_or_default();
        let platform = &import.options.platform;
        let diff_ids = [facts.diff_id.clone()];
        let config = document(write_config(platform, &settings, &diff_ids));
        let manifest = document(write_manifest(&config.0, &[(blob.clone(), head)]));
        let parts = ImageParts {
            manifest: manifest.0.digest.clone(),
            index: None,
            config: config.0.digest.clone(),
            layers: diff_ids.to_vec(),
            size: blob.size,
            verified: import.verified,
        };
        let held = [&parts.manifest, &parts.config, &blob.digest, &facts.diff_id];
        self.hold(import.lease, held)?;
        for (Blob { digest, .. }, bytes) in [&config, &manifest] {
            self.write_blob(digest, bytes)?;
        }
        let job = Job { blob: blob.clone(), diff_id: facts.diff_id.clone() };
        let part = Some(incoming.named(blob.digest));
        layers::settle(self, import.progress, Ready { job, staging, part, facts })?;
        let record = RefRecord::now(reference, platform, &parts);
        self.write_ref(&record)?;
        import.progress.event(Event::Done { digest: parts.manifest });
        self.image(reference, record)
    }

    /// Copies a root into `incoming` while a worker unpacks it.
    fn unpack_root(
        &self,
        root: &mut File,
        incoming: &mut Incoming,
        import: &Import<'_>,
    ) -> Result<Taken<'_>, Error> {
        let failed = |source| Error::storage("cannot copy it into the store", source);
        let staging = self.staging()?;
        let mut unpack = Unpack::start(&import.options.worker, staging.tree(), &Limits::default())
            .map_err(|source| unpack_error("the root", source))?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let (mut size, mut head) = (0, Vec::new());
        let mut buffer = vec![0; CHUNK];
        let mut gave_up = false;
        while !gave_up {
            let length = match root.read(&mut buffer).map_err(failed)? {
                0 => break,
                length => length,
            };
            let bytes = &buffer[..length];
            if head.is_empty() {
                head = bytes[..length.min(6)].to_vec();
            }
            size += u64::try_from(length).unwrap_or(u64::MAX);
            hasher.update(bytes);
            incoming.write_all(bytes).map_err(failed)?;
            gave_up = match unpack.write_all(bytes) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => true,
                written => written.map(|()| false).map_err(failed)?,
            };
        }
        let facts = unpack.finish().map_err(|source| unpack_error("the root", source))?;
        if gave_up {
            return Err(Error::new(ErrorKind::Storage, "the worker stopped before the end"));
        }
        Ok(Taken { blob: Blob { digest: hasher.finish(), size }, head, staging, facts })
    }
}

/// A root that has been unpacked.
struct Taken<'s> {
    blob: Blob,
    head: Vec<u8>,
    staging: Staging<'s>,
    facts: LayerFacts,
}

fn document(bytes: Vec<u8>) -> (Blob, Vec<u8>) {
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    (Blob { digest: hash::of(Algorithm::Sha256, &bytes), size }, bytes)
}

/// Tells which kind of archive of images this is. If it is none, and so may be a root, the error
/// says why, where there is more to say than that.
fn kind(archive: Result<Archive, Error>) -> Result<ImportedFrom, Option<Error>> {
    let archive = archive.map_err(Some)?;
    if archive.has("oci-layout") && archive.has("index.json") {
        return Ok(ImportedFrom::OciArchive);
    }
    if !archive.has("manifest.json") {
        return Err(None);
    }
    // It is Docker's list, or some file of a root.
    match docker::items(&archive).map_err(Some)?.is_empty() {
        false => Ok(ImportedFrom::DockerArchive),
        true => Err(None),
    }
}

/// Refuses a file without a single byte: most likely what should have written it has failed. An
/// archive without entries has bytes.
fn refuse_nothing(blob: &Blob) -> Result<(), Error> {
    match blob.size {
        0 => Err(Error::new(ErrorKind::Refused, "it is empty, not even an archive of nothing")),
        _ => Ok(()),
    }
}

/// Refuses an archive of images that is compressed or damaged: it unpacks like a root, but is none.
fn refuse_images(taken: &Taken<'_>, why: Option<Error>) -> Result<(), Error> {
    let has = |name: &str| {
        rustix::fs::statat(taken.staging.tree(), name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    };
    let layout = has("oci-layout") && has("index.json");
    let docker = has("manifest.json") && has("repositories");
    if !layout && !docker {
        return Ok(());
    }
    match (archive::packer(&taken.head), why) {
        (None, Some(why)) => Err(why),
        _ => {
            let sentence = "it is no root but a compressed archive of images: unpack it first, as \
                            with `gunzip`";
            Err(Error::new(ErrorKind::Refused, sentence))
        }
    }
}

fn refuse_settings(import: &Import<'_>) -> Result<(), Error> {
    if import.verified == Verified::Signature {
        let sentence = "it is an archive of images: a policy tells whose signatures those need";
        return Err(Error::new(ErrorKind::Refused, sentence));
    }
    if import.settings.is_none() {
        return Ok(());
    }
    let sentence = "it is an archive of images, which have settings of their own";
    Err(Error::new(ErrorKind::Refused, sentence))
}

fn several(count: usize) -> Error {
    let sentence = format!("it holds {count} images, which one name cannot mean");
    Error::new(ErrorKind::Refused, sentence)
}

/// Lists the tags of a layout with what each image is to be called.
fn layout_names(
    index: &Index,
    import: &Import<'_>,
) -> Result<Vec<(Option<String>, Reference)>, Error> {
    let tags: BTreeSet<Option<String>> = index.images().map(|entry| entry.name.clone()).collect();
    if import.reference.is_some() && tags.len() != 1 {
        return Err(several(tags.len()));
    }
    let name = |tag: &Option<String>| {
        let full = index
            .images()
            .filter(|entry| entry.name == *tag)
            .find_map(|entry| nameable(entry.full_name.as_deref()?));
        let whole = || tag.as_deref().filter(|tag| tag.contains('/')).and_then(nameable);
        full.or_else(whole).unwrap_or_else(|| named_after(import.path, tag.as_deref()))
    };
    let named = tags.iter().map(|tag| {
        let reference = import.reference.cloned().unwrap_or_else(|| name(tag));
        (tag.clone(), reference)
    });
    Ok(named.collect())
}

/// Returns what an archive calls an image, if it is a name an image can have here.
fn nameable(word: &str) -> Option<Reference> {
    Reference::parse(word).ok().filter(Reference::is_nameable)
}

fn named_after(path: &Path, tag: Option<&str>) -> Reference {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("image");
    Reference::local(name.split('.').next().unwrap_or(name), tag)
}
