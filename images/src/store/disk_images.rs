//! Layers as files: an EROFS image beside a layer's tree, made when somebody first wants it.
//!
//! Few pods do, so no pull waits for one. It grows in `tmp/`, locked, reaches the disk and then its
//! name; whoever wants the same one meanwhile waits. What a killed process leaves of it gc takes,
//! and the next who makes one. It goes when its layer goes.
//!
//! Beside it stands what it was when it was made ([`Record`]). Whoever asks for an image that is
//! still that gets it, or a new one, made of a tree that was compared with what it came as.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::{io, thread};

use pod_abi::Digest;
use rustix::fs::{AtFlags, FlockOperation};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::files;
use super::handle::Store;
use super::staging::TREE;
use crate::erofs;
use crate::error::{Error, ErrorKind};
use crate::progress::{Event, Progress};
use crate::verity;

/// The image in a layer's directory.
pub(super) const IMAGE: &str = "layer.erofs";
/// What the image was when it was made, in a layer's directory.
const RECORD: &str = "image.json";
/// The version of that document.
const RECORD_VERSION: u32 = 1;
/// The longest such document, in bytes.
const MAX_RECORD: usize = 4096;
/// How the names of images begin that are being made, in `tmp/`.
pub(super) const GROWING: &str = "image-";

/// `image.json`: what an image was when it was made.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Record {
    version: u32,
    /// Of its bytes, as [`verity`] computes it.
    digest: Digest,
    /// Whether the tree had been compared with what it came as.
    compared: bool,
}

/// Has something against the tree in a layer's directory, or has not.
type Compare<'c> = dyn Fn(&str) -> Result<(), Error> + 'c;

/// The image somebody wants.
struct Making<'m> {
    store: &'m Store,
    /// The layer's directory.
    name: &'m str,
    layer: &'m Digest,
    sealed: bool,
    compare: Option<&'m Compare<'m>>,
}

/// An image on its way, which goes unless it has its name.
struct Growing<'s> {
    store: &'s Store,
    path: String,
}

impl Drop for Growing<'_> {
    fn drop(&mut self) {
        // It has its name by now, or is residue that gc takes.
        let _ = rustix::fs::unlinkat(self.store.dir(), &self.path, AtFlags::empty());
    }
}

impl Store {
    /// Returns where EROFS images of `layers` lie beneath [`Store::layers_dir`], lowest first, and
    /// makes those that are missing. Each is a multiple of 4096 bytes long and never changes;
    /// the same layer makes the same bytes anywhere. Whoever calls sees to it that the layers are
    /// kept meanwhile.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if a layer is missing,
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if one holds what no image can, or the
    /// error of the file system; images that were finished stay.
    pub fn layer_images(
        &self,
        layers: &[Digest],
        progress: &dyn Progress,
    ) -> Result<Vec<String>, Error> {
        let made = self.demanded_images(layers, false, None, progress)?;
        Ok(made.into_iter().map(|(path, _)| path).collect())
    }

    /// Does what [`layer_images`](Self::layer_images) does; with `compare`, each image is still
    /// what it was when it was made of a tree that `compare`, called with the directory of the
    /// layer, had nothing against. Returns the digests, too, of images of which that is so. With
    /// `sealed` the kernel checks each of their bytes as it is read.
    ///
    /// # Errors
    ///
    /// Those of [`layer_images`](Self::layer_images) and of `compare`, and [`ErrorKind::Unsupported`]
    /// if the file system of the store seals no files.
    pub(crate) fn demanded_images(
        &self,
        layers: &[Digest],
        sealed: bool,
        compare: Option<&Compare<'_>>,
        progress: &dyn Progress,
    ) -> Result<Vec<(String, Option<Digest>)>, Error> {
        let names = self.layer_names(layers)?;
        let images = names.into_iter().zip(layers).map(|(name, layer)| {
            let digest =
                Making { store: self, name: &name, layer, sealed, compare }.have_it(progress)?;
            Ok((format!("{name}/{IMAGE}"), digest))
        });
        images.collect()
    }

    /// Returns how many bytes the image of the layer in the directory `name` takes on the disk.
    pub(super) fn image_bytes(&self, name: &str) -> u64 {
        let path = format!("layers/{name}/{IMAGE}");
        let stat = rustix::fs::statat(self.dir(), path, AtFlags::SYMLINK_NOFOLLOW);
        // `st_blocks` counts 512 bytes (stat(2)).
        stat.map_or(0, |stat| u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512))
    }

    /// Reads what the image of the layer in the directory `name` was when it was made.
    fn image_record(&self, name: &str) -> Option<Record> {
        let path = format!("layers/{name}/{RECORD}");
        let bytes = files::read(self.dir(), &path, MAX_RECORD).ok()?;
        let record: Record = serde_json::from_slice(&bytes).ok()?;
        (record.version == RECORD_VERSION).then_some(record)
    }

    /// Tells whether the image of the layer in the directory `name` is not what it was when it was
    /// made. One without a record is not judged.
    pub(crate) fn image_change(&self, name: &str) -> io::Result<Option<String>> {
        let Some(record) = self.image_record(name) else { return Ok(None) };
        let file = match files::open(self.dir(), &format!("layers/{name}/{IMAGE}")) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let found = verity::digest(file)?;
        Ok((found != record.digest).then(|| format!("its image is `{found}` by now")))
    }

    /// Tells what is wrong with the image of the layer in the directory `name`, if it has one.
    pub(super) fn image_problem(&self, name: &str) -> Option<String> {
        let file = match files::open(self.dir(), &format!("layers/{name}/{IMAGE}")) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return Some(format!("its image cannot be opened: {error}")),
        };
        erofs::problem(&file)
            .unwrap_or_else(|error| Some(format!("its image cannot be read: {error}")))
    }
}

impl Making<'_> {
    /// Finds the image, or makes it.
    fn have_it(&self, progress: &dyn Progress) -> Result<Option<Digest>, Error> {
        if let Some(found) = self.find()? {
            return Ok(found);
        }
        let directory = files::open_dir(self.store.dir(), &self.path("")).map_err(self.failed())?;
        // Two would only do the same; the second waits, and finds it made.
        wait_for_lock(&directory).map_err(self.failed())?;
        if let Some(found) = self.find()? {
            return Ok(found);
        }
        self.store.sweep_abandoned_images();
        if self.sealed {
            self.check_sealing()?;
        }
        if let Some(compare) = self.compare {
            compare(self.name)?;
        }
        let digest = self.make(&directory, progress)?;
        if self.sealed {
            self.seal(&digest)?;
        }
        progress.event(Event::ImageDone { layer: self.layer.clone() });
        Ok(self.compare.map(|_| digest))
    }

    /// Finds an image that will do, and its digest if that was asked for.
    fn find(&self) -> Result<Option<Option<Digest>>, Error> {
        let file = match files::open(self.store.dir(), &self.path(IMAGE)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed()(error)),
        };
        if self.compare.is_none() {
            return Ok(Some(None));
        }
        let Some(record) = self.store.image_record(self.name).filter(|record| record.compared)
        else {
            return Ok(None);
        };
        let found = match verity::sealed_with(&file).map_err(self.failed())? {
            Some(sealed) => Some(sealed),
            None if self.sealed => None,
            None => Some(verity::digest(&file).map_err(self.failed())?),
        };
        Ok((found.as_ref() == Some(&record.digest)).then_some(found))
    }

    /// Makes the image, and returns its digest. Its record comes before it: one that tells of
    /// other bytes than there are has the image made once more.
    fn make(&self, directory: &OwnedFd, progress: &dyn Progress) -> Result<Digest, Error> {
        let store = self.store;
        let growing = Growing { store, path: files::unique(&format!("tmp/{GROWING}")) };
        let file = files::write_new(store.dir(), &growing.path, b"").map_err(self.failed())?;
        let tree = files::open_dir(directory, TREE).map_err(self.failed())?;
        let refused = |fault| erofs::refused(self.sentence(), fault);
        let image = erofs::Image::of(tree.as_fd()).map_err(refused)?;
        let layer = || self.layer.clone();
        progress.event(Event::ImageStarted { layer: layer(), size: image.length() });
        let mut tell = |done| progress.event(Event::ImageBytes { layer: layer(), done });
        image.write(&file, uuid(self.name), &mut tell).map_err(refused)?;
        let digest = self.synced(&file, &growing.path).map_err(self.failed())?;
        let record = Record { version: RECORD_VERSION, digest, compared: self.compare.is_some() };
        let text = serde_json::to_vec(&record).map_err(self.failed())?;
        let aside = files::unique(&format!("tmp/{GROWING}"));
        files::replace(store.dir(), &aside, &self.path(RECORD), &self.path(""), &text)
            .map_err(self.failed())?;
        rustix::fs::renameat(store.dir(), &growing.path, directory, IMAGE)
            .and_then(|()| rustix::fs::fsync(directory))
            .map_err(self.failed())?;
        Ok(record.digest)
    }

    /// Brings what was written to the disk, and computes its digest meanwhile.
    fn synced(&self, file: &File, path: &str) -> io::Result<Digest> {
        let written = files::open(self.store.dir(), path)?;
        thread::scope(|scope| {
            let syncing = scope.spawn(|| file.sync_all());
            let digest = verity::digest(written)?;
            syncing.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))?;
            Ok(digest)
        })
    }

    /// Seals the image, of which nobody has a writable descriptor any more.
    fn seal(&self, digest: &Digest) -> Result<(), Error> {
        let image = files::open(self.store.dir(), &self.path(IMAGE)).map_err(self.failed())?;
        pod_sys::seal_file(image.as_fd()).map_err(self.failed())?;
        image.sync_all().map_err(self.failed())?;
        match verity::sealed_with(&image).map_err(self.failed())? {
            Some(sealed) if sealed == *digest => Ok(()),
            _ => Err(Error::new(
                ErrorKind::Damaged,
                format!("the disk image of layer `{}` changed while it was made", self.layer),
            )),
        }
    }

    /// Refuses what the file system cannot do before anything takes long.
    fn check_sealing(&self) -> Result<(), Error> {
        let trial = Growing { store: self.store, path: files::unique(&format!("tmp/{GROWING}")) };
        drop(files::write_new(self.store.dir(), &trial.path, b"").map_err(self.failed())?);
        let file = files::open(self.store.dir(), &trial.path).map_err(self.failed())?;
        let sentence = "the file system of the store seals no files (fs-verity)";
        pod_sys::seal_file(file.as_fd())
            .map_err(|error| Error::caused(ErrorKind::Unsupported, sentence, error))
    }

    fn path(&self, file: &str) -> String {
        format!("layers/{}/{file}", self.name)
    }

    fn sentence(&self) -> String {
        format!("cannot make the disk image of layer `{}`", self.layer)
    }

    fn failed<E: Into<io::Error>>(&self) -> impl Fn(E) -> Error {
        move |source| Error::storage(self.sentence(), source)
    }
}

fn wait_for_lock(directory: &OwnedFd) -> Result<(), Errno> {
    loop {
        match rustix::fs::flock(directory, FlockOperation::LockExclusive) {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

/// Makes the name of an image's file system of its layer's: the first digits of the digest, as a
/// UUID of version 8 (RFC 9562 §5.8).
fn uuid(name: &str) -> [u8; 16] {
    let digits = name.trim_start_matches("c-");
    let mut uuid = [0; 16];
    for (byte, at) in uuid.iter_mut().zip((0..).step_by(2)) {
        let digits = digits.get(at..at + 2).unwrap_or("0");
        *byte = u8::from_str_radix(digits, 16).unwrap_or(0);
    }
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;
    use std::{slice, thread};

    use pod_abi::digest::Algorithm;

    use super::super::gc::GcOptions;
    use super::super::layers::{LayerMeta, LayerSize};
    use super::*;
    use crate::error::ErrorKind;
    use crate::hash;
    use crate::progress::Silent;

    /// A store with a layer of one file.
    fn store() -> (tempfile::TempDir, Store, Digest) {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let layer = hash::of(Algorithm::Sha256, b"a layer");
        let staging = store.staging().unwrap();
        let size = LayerSize { bytes: 5000, entries: 1, skipped_devices: 0 };
        let meta = LayerMeta::new(&layer, &layer, size);
        staging.describe(&meta).unwrap();
        staging.commit(&meta.name()).unwrap();
        let file = directory(root.path(), &layer).join("tree/file");
        fs::write(file, vec![7; 5000]).unwrap();
        (root, store, layer)
    }

    fn directory(root: &Path, layer: &Digest) -> PathBuf {
        root.join("images/layers").join(layer.hex())
    }

    /// Remembers what it is told.
    #[derive(Default)]
    struct Heard(Mutex<Vec<Event>>);

    impl Progress for Heard {
        fn event(&self, event: Event) {
            self.0.lock().unwrap().push(event);
        }
    }

    #[test]
    fn an_image_is_made_once_and_told() {
        let (root, store, layer) = store();
        let heard = Heard::default();
        let twice = [layer.clone(), layer.clone()];
        let names = store.layer_images(&twice[..1], &heard).unwrap();
        assert_eq!(names, [format!("{}/layer.erofs", layer.hex())]);
        let image = root.path().join("images/layers").join(&names[0]);
        let size = fs::metadata(&image).unwrap().len();
        let begin = Event::ImageStarted { layer: layer.clone(), size };
        assert_eq!(*heard.0.lock().unwrap(), [begin, Event::ImageDone { layer: layer.clone() }]);
        let made = fs::metadata(&image).unwrap().modified().unwrap();
        store.layer_images(&[layer], &heard).unwrap();
        assert_eq!(fs::metadata(&image).unwrap().modified().unwrap(), made);
        assert_eq!(heard.0.lock().unwrap().len(), 2);
        assert_eq!(fs::read_dir(root.path().join("images/tmp")).unwrap().count(), 0);
    }

    #[test]
    fn a_missing_layer_has_no_image() {
        let (_root, store, _) = store();
        let other = hash::of(Algorithm::Sha256, b"another");
        let error = store.layer_images(&[other], &Silent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(store.layer_images(&[], &Silent).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn many_at_once_make_one() {
        let (root, store, layer) = store();
        let heard = Heard::default();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let store = Store::open(root.path()).unwrap();
                    store.layer_images(slice::from_ref(&layer), &heard).unwrap();
                });
            }
        });
        assert_eq!(heard.0.lock().unwrap().len(), 2, "one has begun and ended");
        assert!(store.fsck().unwrap().findings.is_empty());
    }

    #[test]
    fn what_a_killed_maker_leaves_goes_and_so_does_an_image_with_its_layer() {
        let (root, store, layer) = store();
        let left = root.path().join("images/tmp/image-1-2-3");
        fs::write(&left, "half").unwrap();
        store.layer_images(slice::from_ref(&layer), &Silent).unwrap();
        assert!(!left.exists());
        fs::write(&left, "half").unwrap();
        let report = store.gc(|| Ok([].into()), &GcOptions::default()).unwrap();
        assert_eq!((report.layers.len(), report.residue.len()), (1, 1));
        assert!(report.bytes > 5000 + 4096, "{}", report.bytes);
        assert!(!left.exists() && !directory(root.path(), &layer).exists());
    }

    #[test]
    fn a_damaged_image_is_found() {
        let (root, store, layer) = store();
        store.layer_images(slice::from_ref(&layer), &Silent).unwrap();
        assert!(store.fsck().unwrap().findings.is_empty());
        let image = directory(root.path(), &layer).join(IMAGE);
        let whole = fs::read(&image).unwrap();
        let mut damaged = whole.clone();
        damaged[1030] ^= 1;
        for bytes in [&whole[..whole.len() - 4096], &whole[..9], &damaged] {
            fs::write(&image, bytes).unwrap();
            let findings = store.fsck().unwrap().findings;
            assert_eq!(findings.len(), 1);
            assert_eq!(findings[0].object, format!("layers/{}", layer.hex()));
        }
    }

    #[test]
    fn an_image_that_changed_is_made_anew_of_a_tree_that_was_compared() {
        let (root, store, layer) = store();
        let layers = slice::from_ref(&layer);
        let image = directory(root.path(), &layer).join(IMAGE);
        let compared = Mutex::new(0);
        let compare = |_: &str| {
            *compared.lock().unwrap() += 1;
            Ok(())
        };
        let ask = || store.demanded_images(layers, false, Some(&compare), &Silent).unwrap();
        // One nobody has compared is not good enough.
        store.layer_images(layers, &Silent).unwrap();
        let made = ask();
        assert_eq!((ask(), *compared.lock().unwrap()), (made.clone(), 1));
        let whole = fs::read(&image).unwrap();
        let digest = made[0].1.clone().unwrap();
        assert_eq!(digest, verity::digest(whole.as_slice()).unwrap());

        let mut damaged = whole.clone();
        *damaged.last_mut().unwrap() ^= 1;
        fs::write(&image, &damaged).unwrap();
        let told = store.image_change(layer.hex()).unwrap().unwrap();
        assert!(told.starts_with("its image is `sha256:"), "{told}");
        assert_eq!((ask(), *compared.lock().unwrap()), (made, 2));
        assert_eq!(fs::read(&image).unwrap(), whole);
        assert_eq!(store.image_change(layer.hex()).unwrap(), None);
        assert_eq!(fs::read_dir(root.path().join("images/tmp")).unwrap().count(), 0);
    }

    #[test]
    fn what_is_compared_and_found_wrong_is_never_made_an_image_of() {
        let (root, store, layer) = store();
        let compare = |_: &str| Err(Error::new(ErrorKind::Damaged, "it is another"));
        let error = store.demanded_images(slice::from_ref(&layer), false, Some(&compare), &Silent);
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Damaged);
        assert!(!directory(root.path(), &layer).join(IMAGE).exists());
    }

    #[test]
    fn an_image_is_sealed_or_refused() {
        let (root, store, layer) = store();
        let compare = |_: &str| Ok(());
        let made = store.demanded_images(slice::from_ref(&layer), true, Some(&compare), &Silent);
        let image = directory(root.path(), &layer).join(IMAGE);
        match made {
            Ok(made) => {
                let sealed = verity::sealed_with(File::open(&image).unwrap()).unwrap();
                assert_eq!(sealed, made[0].1);
                fs::write(&image, b"x").unwrap_err();
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
                assert!(!image.exists(), "nothing is begun that cannot be finished");
            }
        }
        assert_eq!(fs::read_dir(root.path().join("images/tmp")).unwrap().count(), 0);
    }

    #[test]
    fn a_layer_s_digits_are_the_name_of_its_file_system() {
        let digits = "00112233445566778899aabbccddeeff0123";
        let expected = 0x0011_2233_4455_8677_8899_aabb_ccdd_eeff_u128.to_be_bytes();
        assert_eq!(uuid(digits), expected);
        assert_eq!(uuid(&format!("c-{digits}")), expected);
        uuid("odd");
    }
}
