//! What a kernel of guests is made from: reads the files, notes what each was, has
//! [`guest_kernel`] put them together.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use guest_kernel::{Error, ModuleSource, Programs};
use supervisor::{During as _, Failure};

use super::stamp::{self, Stamp};
use super::{Places, Source, found};

/// The longest program of a guest, in bytes; one that is built for debugging has tens of millions.
const MAX_PROGRAM: u64 = 128 << 20;
/// The longest list of a kernel, in bytes: its configuration, or what is built into it.
const MAX_LIST: u64 = 4 << 20;
/// The most files and directories that are looked at beneath a directory of modules; Debian's
/// largest kernel has some 4,500.
const MAX_ENTRIES: usize = 50_000;
/// Where modules lie beneath their directory: what was put there later goes first.
const SHELVES: [&str; 3] = ["updates", "extra", "kernel"];

/// A kernel of guests that is made, and what of.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) release: String,
    pub(super) vmlinux: Vec<u8>,
    pub(super) initramfs: Vec<u8>,
    pub(super) inputs: Vec<Stamp>,
}

/// Makes one.
///
/// # Errors
///
/// `vm.kernel-unusable`, with what is wrong.
pub(super) fn make(places: &Places, source: &Source) -> Result<Made, Failure> {
    let mut inputs = Vec::new();
    let mut read = |path: &Path, most: u64| {
        let (bytes, stamp) = stamp::read(path, most)
            .during(|| format!("cannot read `{}`", path.display()))
            .map_err(|failure| failure.code("vm.kernel-unusable"))?;
        inputs.push(stamp);
        Ok::<_, Failure>(bytes)
    };
    let unusable = |error: Error| {
        let what = format!("kernel `{}` cannot be a guest's", source.kernel.display());
        let failure = Failure::of(what, error).code("vm.kernel-unusable");
        failure.hint(found::another(places))
    };

    let file = read(&source.kernel, guest_kernel::MAX_KERNEL)?;
    let kernel = guest_kernel::kernel(&file).map_err(unusable)?;
    drop(file);
    let guest = read(&places.programs.join("guest"), MAX_PROGRAM)?;
    let stage2_init = read(&places.programs.join("stage2-init"), MAX_PROGRAM)?;
    if let Some(path) = config(places, source, &kernel.release) {
        let text = read(&path, MAX_LIST)?;
        guest_kernel::check_config(&String::from_utf8_lossy(&text)).map_err(unusable)?;
    }
    let shelf = Shelf::open(&source.modules, &mut read)?;
    let modules = guest_kernel::modules(&shelf, &kernel.release).map_err(unusable)?;
    let programs = Programs { guest: &guest, stage2_init: &stage2_init };
    let initramfs = guest_kernel::initramfs(programs, &modules).map_err(unusable)?;
    inputs.extend(shelf.read.into_inner());
    Ok(Made { release: kernel.release, vmlinux: kernel.elf, initramfs, inputs })
}

/// Returns where the configuration of the kernel is written down, if it is.
fn config(places: &Places, source: &Source, release: &str) -> Option<PathBuf> {
    let beside = source.kernel.parent().map(|dir| dir.join(format!("config-{release}")));
    let candidates = [
        beside,
        Some(places.boot.join(format!("config-{release}"))),
        Some(source.modules.join("config")),
    ];
    candidates.into_iter().flatten().find(|path| path.is_file())
}

/// The modules of a kernel.
#[derive(Debug)]
struct Shelf {
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
    /// Aliases of those that are built in, if they are written down.
    aliases: Option<BTreeMap<String, Vec<String>>>,
    /// The files that were read.
    read: RefCell<Vec<Stamp>>,
}

impl Shelf {
    fn open(
        directory: &Path,
        read: &mut impl FnMut(&Path, u64) -> Result<Vec<u8>, Failure>,
    ) -> Result<Self, Failure> {
        let mut optional = |name: &str| {
            let path = directory.join(name);
            match path.is_file() {
                true => read(&path, MAX_LIST).map(Some),
                false => Ok(None),
            }
        };
        let builtin = optional("modules.builtin")?.unwrap_or_default();
        let builtin = String::from_utf8_lossy(&builtin);
        let builtin = builtin
            .lines()
            .filter_map(|line| guest_kernel::module_file(line.rsplit('/').next()?))
            .collect();
        let aliases = optional("modules.builtin.modinfo")?.map(|text| aliases(&text));
        Ok(Self { files: files(directory)?, builtin, aliases, read: RefCell::default() })
    }
}

impl ModuleSource for Shelf {
    fn file(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(path) = self.files.get(name) else { return Ok(None) };
        let (bytes, stamp) = stamp::read(path, guest_kernel::MAX_MODULE).map_err(|error| {
            Error::unreadable(format!("cannot read `{}`: {error}", path.display()))
        })?;
        self.read.borrow_mut().push(stamp);
        Ok(Some(bytes))
    }

    fn is_builtin(&self, name: &str) -> bool {
        self.builtin.contains(name)
    }

    fn builtin_aliases(&self, name: &str) -> Option<Vec<String>> {
        self.aliases.as_ref().map(|all| all.get(name).cloned().unwrap_or_default())
    }
}

/// Reads `modules.builtin.modinfo`: `MODULE.KEY=VALUE` and a NUL, again and again.
fn aliases(text: &[u8]) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.split(|byte| *byte == 0) {
        let Ok(line) = str::from_utf8(line) else { continue };
        if let Some((module, alias)) = line.split_once(".alias=") {
            all.entry(module.to_owned()).or_default().push(alias.to_owned());
        }
    }
    all
}

/// Finds the files of all modules beneath `directory`. No link is followed: those of a build tree
/// lead far away.
fn files(directory: &Path) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let mut files = BTreeMap::new();
    let mut looked_at = 0;
    for shelf in SHELVES {
        let mut left = vec![directory.join(shelf)];
        while let Some(directory) = left.pop() {
            // Not every kernel has every shelf, or any.
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                looked_at += 1;
                if looked_at > MAX_ENTRIES {
                    return Err(too_many(&directory));
                }
                let Ok(kind) = entry.file_type() else { continue };
                let name = entry.file_name();
                if kind.is_dir() {
                    left.push(entry.path());
                } else if let Some(name) = guest_kernel::module_file(&name.to_string_lossy()) {
                    files.entry(name).or_insert_with(|| entry.path());
                }
            }
        }
    }
    Ok(files)
}

fn too_many(directory: &Path) -> Failure {
    Failure::new(format!(
        "there are more than {MAX_ENTRIES} files of modules up to `{}`",
        directory.display()
    ))
    .code("vm.kernel-unusable")
}
