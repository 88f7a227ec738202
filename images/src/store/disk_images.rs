//! Layers as files: an EROFS image beside a layer's tree, made when somebody first wants it.
//!
//! Only virtual machines do, so no pull waits for one. It grows in `tmp/`, locked, reaches the disk
//! and then its name; whoever wants the same one meanwhile waits. What a killed process leaves of
//! it gc takes, and the next who makes one. It goes when its layer goes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use pod_abi::Digest;
use rustix::fs::{AtFlags, FlockOperation};
use rustix::io::Errno;

use super::files;
use super::handle::Store;
use super::staging::TREE;
use crate::erofs;
use crate::error::Error;
use crate::progress::{Event, Progress};

/// The image in a layer's directory.
pub(super) const IMAGE: &str = "layer.erofs";
/// How the names of images begin that are being made, in `tmp/`.
pub(super) const GROWING: &str = "image-";

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
        let names = self.layer_names(layers)?;
        for (name, layer) in names.iter().zip(layers) {
            self.make_image(name, layer, progress)?;
        }
        Ok(names.into_iter().map(|name| format!("{name}/{IMAGE}")).collect())
    }

    /// Makes the image of the layer in the directory `name`, unless it is there.
    fn make_image(&self, name: &str, layer: &Digest, progress: &dyn Progress) -> Result<(), Error> {
        let sentence = || format!("cannot make the disk image of layer `{layer}`");
        let failed = |source| Error::storage(sentence(), source);
        let path = format!("layers/{name}/{IMAGE}");
        if files::exists(self.dir(), &path).map_err(failed)? {
            return Ok(());
        }
        let directory = files::open_dir(self.dir(), &format!("layers/{name}")).map_err(failed)?;
        // Two would only do the same; the second waits, and finds it made.
        wait_for_lock(&directory).map_err(|errno| failed(errno.into()))?;
        if files::exists(self.dir(), &path).map_err(failed)? {
            return Ok(());
        }
        self.sweep_abandoned_images();
        let growing = Growing { store: self, path: files::unique(&format!("tmp/{GROWING}")) };
        let file = files::write_new(self.dir(), &growing.path, b"").map_err(failed)?;
        let tree = files::open_dir(&directory, TREE).map_err(failed)?;
        let refused = |fault| erofs::refused(sentence(), fault);
        let image = erofs::Image::of(tree.as_fd()).map_err(refused)?;
        progress.event(Event::ImageStarted { layer: layer.clone(), size: image.length() });
        let mut tell = |done| progress.event(Event::ImageBytes { layer: layer.clone(), done });
        image.write(&file, uuid(name), &mut tell).map_err(refused)?;
        file.sync_all().map_err(failed)?;
        rustix::fs::renameat(self.dir(), &growing.path, &directory, IMAGE)
            .and_then(|()| rustix::fs::fsync(&directory))
            .map_err(|errno| failed(errno.into()))?;
        progress.event(Event::ImageDone { layer: layer.clone() });
        Ok(())
    }

    /// Returns how many bytes the image of the layer in the directory `name` takes on the disk.
    pub(super) fn image_bytes(&self, name: &str) -> u64 {
        let path = format!("layers/{name}/{IMAGE}");
        let stat = rustix::fs::statat(self.dir(), path, AtFlags::SYMLINK_NOFOLLOW);
        // `st_blocks` counts 512 bytes (stat(2)).
        stat.map_or(0, |stat| u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512))
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
    use std::thread;

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
                    store.layer_images(std::slice::from_ref(&layer), &heard).unwrap();
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
        store.layer_images(std::slice::from_ref(&layer), &Silent).unwrap();
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
        store.layer_images(std::slice::from_ref(&layer), &Silent).unwrap();
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
    fn a_layer_s_digits_are_the_name_of_its_file_system() {
        let digits = "00112233445566778899aabbccddeeff0123";
        let expected = 0x0011_2233_4455_8677_8899_aabb_ccdd_eeff_u128.to_be_bytes();
        assert_eq!(uuid(digits), expected);
        assert_eq!(uuid(&format!("c-{digits}")), expected);
        uuid("odd");
    }
}
