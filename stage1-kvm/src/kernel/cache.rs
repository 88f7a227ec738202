//! Kernels that are ready, on disk. One is there whole, synced, or not at all.
//!
//! Whoever finds one takes it for what its directory is called: reading it would cost each start more
//! than anything else does. So nobody but its owner may write there ([`check`]), and whoever makes one
//! ready by hand looks into it ([`Trust::Content`]).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{process, thread};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::geteuid;
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
/// How long somebody else may take who makes a kernel ready: ten times what it takes where
/// instructions are emulated.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);
/// How often it is looked whether they have done, meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

/// How much of a kernel that is ready is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// That it is what its directory is called.
    Name,
    /// What is in it.
    Content,
}

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
    trust: Trust,
    announce: &dyn Fn(),
) -> Result<Prepared, Failure> {
    let _lock = lock(places, PATIENCE)?;
    // Of a preparation that was killed.
    let _ = fs::remove_dir_all(places.cache.join(NEW)); // making it anew tells
    let ready = find(places, source);
    if let Some(ready) = ready.filter(|ready| trust == Trust::Name || is_what_it_is_called(ready)) {
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
    let _lock = lock(places, PATIENCE)?;
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

/// Refuses a place that somebody else could write to: what lies there becomes every guest's kernel.
///
/// # Errors
///
/// `vm.kernel-storage`. A place that is not there yet is nobody's.
pub(super) fn check(places: &Places) -> Result<(), Failure> {
    let Ok(found) = fs::symlink_metadata(&places.cache) else { return Ok(()) };
    if found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o022 == 0 {
        return Ok(());
    }
    let cache = places.cache.display();
    Err(Failure::new(format!("somebody else could write kernels of guests to `{cache}`"))
        .code("vm.kernel-storage")
        .hint(format!("`rm -r {cache}` removes it; what belongs there is made anew")))
}

/// Waits until nobody else changes anything, for `patience` at most; until the lock is dropped nobody
/// else will. Who holds it stands in the file, for those who wait.
///
/// # Errors
///
/// `vm.kernel-busy`, if somebody else takes longer, and `vm.kernel-storage`.
pub(super) fn lock(places: &Places, patience: Duration) -> Result<File, Failure> {
    let path = places.cache.join(LOCK);
    let locking = || format!("cannot lock `{}`", path.display());
    let storage = |failure: Failure| failure.code("vm.kernel-storage");
    let opened = || {
        DirBuilder::new().recursive(true).mode(0o700).create(&places.cache)?;
        OpenOptions::new().create(true).append(true).mode(0o600).open(&path)
    };
    let mut file = opened().during(locking).map_err(storage)?;
    let deadline = Instant::now() + patience;
    let mut is_told = false;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {}
            Err(Errno::WOULDBLOCK) => {
                let (holder, seconds) = (holder(&path), patience.as_secs());
                let what = format!("{holder} has prepared a kernel for guests for {seconds} s");
                return Err(Failure::new(what)
                    .code("vm.kernel-busy")
                    .hint("let it go on if it stands still, or end it"));
            }
            Err(error) => return Err(error).during(locking).map_err(storage),
        }
        if !is_told {
            super::say(&format!(
                "waiting for {}, which prepares a kernel for guests",
                holder(&path)
            ));
            is_told = true;
        }
        thread::sleep(PAUSE);
    }
    // Whoever waits is told a little less if this fails.
    let _ = file.set_len(0).and_then(|()| write!(file, "{}", process::id()));
    Ok(file)
}

/// Says who holds the lock, for a person.
fn holder(lock: &Path) -> String {
    let text = fs::read_to_string(lock).unwrap_or_default();
    text.parse::<u32>().map_or_else(|_| "somebody".to_owned(), |pid| format!("process {pid}"))
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
    if has(directory, vmlinux, initramfs) {
        // The same bytes, made from files that are others now.
        return replace(directory, &directory.join(META), meta);
    }
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let new = cache.join(NEW);
    DirBuilder::new().mode(0o700).create(&new)?;
    for (name, bytes) in [(VMLINUX, vmlinux), (INITRAMFS, initramfs), (META, &document)] {
        write(&new.join(name), bytes)?;
    }
    File::open(&new)?.sync_all()?;
    fs::rename(&new, directory)?;
    File::open(cache)?.sync_all()
}

/// Tells whether both files are there, with this in them.
fn has(directory: &Path, vmlinux: &[u8], initramfs: &[u8]) -> bool {
    [(VMLINUX, vmlinux), (INITRAMFS, initramfs)]
        .into_iter()
        .all(|(name, bytes)| fs::read(directory.join(name)).is_ok_and(|found| found == bytes))
}

/// Tells whether what is in a directory is what it is called after.
fn is_what_it_is_called(ready: &Prepared) -> bool {
    let read = |name: &str| fs::read(ready.directory.join(name));
    let (Ok(vmlinux), Ok(initramfs)) = (read(VMLINUX), read(INITRAMFS)) else { return false };
    let called = ready.directory.file_name().unwrap_or_default();
    called.as_encoded_bytes() == format!("{PREFIX}{}", digest(&vmlinux, &initramfs)).as_bytes()
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
