//! Kernels that are ready, on disk. One is there whole, synced, or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use supervisor::{During as _, Failure};

use super::recipe::{self, Made};
use super::stamp::{self, Stamp};
use super::{Places, Prepared, Source};

const LOCK: &str = "lock";
const CHOICE: &str = "choice.json";
const NEW: &str = "new";
const PREFIX: &str = "kernel-";
const VMLINUX: &str = "vmlinux";
const INITRAMFS: &str = "initramfs";
const META: &str = "meta.json";
/// The longest of our own documents that is read, in bytes.
const MAX_DOCUMENT: u64 = 1 << 20;

/// `meta.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Meta {
    /// [`guest_kernel::FORMAT`].
    format: u32,
    release: String,
    source: Source,
    /// All files it was made from.
    inputs: Vec<Stamp>,
}

impl Meta {
    /// Tells whether it would be made the same way today.
    fn holds(&self) -> bool {
        self.format == guest_kernel::FORMAT && self.inputs.iter().all(Stamp::holds)
    }

    fn is_of(&self, places: &Places, source: &Source) -> bool {
        let guest = places.programs.join("guest");
        self.source == *source && self.inputs.iter().any(|input| input.is_of(&guest))
    }
}

/// Returns the kernel of `source` if it is ready and would be made the same way today.
pub(super) fn find(places: &Places, source: &Source) -> Option<Prepared> {
    all(places).into_iter().find_map(|directory| {
        let meta = meta(&directory).filter(|meta| meta.is_of(places, source) && meta.holds())?;
        open(directory, meta.release)
    })
}

/// Opens what lies in `directory`; nothing, if somebody takes it away meanwhile.
fn open(directory: PathBuf, release: String) -> Option<Prepared> {
    let vmlinux = File::open(directory.join(VMLINUX)).ok()?;
    let initramfs = File::open(directory.join(INITRAMFS)).ok()?;
    Some(Prepared { release, vmlinux, initramfs, directory })
}

/// Makes the kernel of `source` ready, unless somebody else is about to, who is waited for; removes
/// those that nobody would be given any more. Calls `announce` before it takes its time.
///
/// # Errors
///
/// `vm.kernel-unusable`, `vm.kernel-storage`.
pub(super) fn prepare(
    places: &Places,
    source: &Source,
    announce: &dyn Fn(),
) -> Result<Prepared, Failure> {
    let _lock = lock(places)?;
    if let Some(ready) = find(places, source) {
        return Ok(ready);
    }
    announce();
    let Made { release, vmlinux, initramfs, inputs } = recipe::make(places, source)?;
    let directory = places.cache.join(format!("{PREFIX}{}", digest(&vmlinux, &initramfs)));
    let meta = Meta { format: guest_kernel::FORMAT, release, source: source.clone(), inputs };
    store(&places.cache, &directory, &meta, &vmlinux, &initramfs).map_err(|error| {
        let what = format!("cannot write a kernel to `{}`", directory.display());
        Failure::of(what, error).code("vm.kernel-storage")
    })?;
    sweep(places);
    open(directory.clone(), meta.release).ok_or_else(|| {
        let what = format!("`{}` is gone while it is made", directory.display());
        Failure::new(what).code("vm.kernel-storage")
    })
}

/// Returns what an administrator has chosen.
///
/// # Errors
///
/// `vm.kernel-storage`, if that cannot be read.
pub(super) fn choice(places: &Places) -> Result<Option<Source>, Failure> {
    let path = places.cache.join(CHOICE);
    let failed = |error: io::Error| {
        Failure::of(format!("cannot read `{}`", path.display()), error).code("vm.kernel-storage")
    };
    match stamp::read(&path, MAX_DOCUMENT) {
        Ok((bytes, _)) => serde_json::from_slice(&bytes).map_err(|e| failed(e.into())).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Keeps a choice, or forgets it.
///
/// # Errors
///
/// `vm.kernel-storage`.
pub(super) fn choose(places: &Places, chosen: Option<&Source>) -> Result<(), Failure> {
    let _lock = lock(places)?;
    let path = places.cache.join(CHOICE);
    let done = match chosen {
        Some(chosen) => replace(&places.cache, &path, chosen),
        None => match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    };
    done.during(|| format!("cannot change `{}`", path.display()))
        .map_err(|failure| failure.code("vm.kernel-storage"))
}

/// Waits until nobody else changes anything; until the lock is dropped nobody else will.
fn lock(places: &Places) -> Result<File, Failure> {
    let path = places.cache.join(LOCK);
    let locked = || {
        DirBuilder::new().recursive(true).mode(0o700).create(&places.cache)?;
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok::<_, io::Error>(file)
    };
    locked()
        .during(|| format!("cannot lock `{}`", path.display()))
        .map_err(|failure| failure.code("vm.kernel-storage"))
}

/// Returns the directories of all kernels that are there.
fn all(places: &Places) -> Vec<PathBuf> {
    let entries = fs::read_dir(&places.cache).into_iter().flatten().flatten();
    let paths =
        entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()));
    paths.map(|entry| entry.path()).collect()
}

fn meta(directory: &Path) -> Option<Meta> {
    let (bytes, _) = stamp::read(&directory.join(META), MAX_DOCUMENT).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Removes what nobody would be given any more: its files have changed, or are gone. Whoever uses
/// it has it open.
fn sweep(places: &Places) {
    for directory in all(places) {
        if !meta(&directory).is_some_and(|meta| meta.holds()) {
            let _ = fs::remove_dir_all(directory); // the next one tries again
        }
    }
}

fn digest(vmlinux: &[u8], initramfs: &[u8]) -> String {
    let mut hash = Sha256::new();
    for part in [vmlinux, initramfs] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn store(
    cache: &Path,
    directory: &Path,
    meta: &Meta,
    vmlinux: &[u8],
    initramfs: &[u8],
) -> io::Result<()> {
    let document = serde_json::to_vec(meta)?;
    if is_whole(directory, vmlinux, initramfs) {
        // The same bytes, made from files that are others now.
        return replace(directory, &directory.join(META), meta);
    }
    let new = cache.join(NEW);
    for old in [directory, &new] {
        match fs::remove_dir_all(old) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    DirBuilder::new().mode(0o700).create(&new)?;
    for (name, bytes) in [(VMLINUX, vmlinux), (INITRAMFS, initramfs), (META, &document)] {
        write(&new.join(name), bytes)?;
    }
    File::open(&new)?.sync_all()?;
    fs::rename(&new, directory)?;
    File::open(cache)?.sync_all()
}

/// Tells whether both files are there, as long as they are to be.
fn is_whole(directory: &Path, vmlinux: &[u8], initramfs: &[u8]) -> bool {
    [(VMLINUX, vmlinux), (INITRAMFS, initramfs)].into_iter().all(|(name, bytes)| {
        let found = directory.join(name).metadata();
        found.is_ok_and(|found| found.len() == bytes.len() as u64)
    })
}

/// Writes `document` to `path` in `directory`, at once.
fn replace(directory: &Path, path: &Path, document: &impl Serialize) -> io::Result<()> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => write(&new, &serde_json::to_vec(document)?)?,
    }
    fs::rename(&new, path)?;
    File::open(directory)?.sync_all()
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
