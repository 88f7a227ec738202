//! Kernel modules: what the initramfs brings, in the order that was settled when it was made.
//!
//! `/modules` has a line for each, `GROUP PATH`, such as `always lib/modules/virtio_mmio.ko`, beneath
//! the root; a module stands behind all that it needs. What is loaded is removed, for an initramfs is
//! memory.

use std::fs::{self, File};
use std::path::Path;

use nix::kmod::{ModuleInitFlags, finit_module};
use supervisor::{During, Failure};

use crate::machine::Group;

/// Where the list lies.
const LIST: &str = "/modules";

/// The longest list read, in bytes.
const MAX_LIST: u64 = 64 << 10;

impl Group {
    /// Returns the word for it in the list.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Shares => "fs",
            Self::Network => "net",
            Self::Scratch => "scratch",
        }
    }
}

/// Loads the modules of a group that are not loaded yet.
///
/// # Errors
///
/// Which could not be loaded. A kernel that has all of it built in has no list.
pub(crate) fn load(group: Group) -> Result<(), Failure> {
    let list = match fs::metadata(LIST) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Ok(found) if found.len() <= MAX_LIST => {
            fs::read_to_string(LIST).during(|| format!("cannot read `{LIST}`"))?
        }
        Ok(_) => return Err(Failure::new(format!("`{LIST}` is too long"))),
        Err(error) => return Err(error).during(|| format!("cannot look at `{LIST}`")),
    };
    of_group(&list, group).try_for_each(load_one)
}

fn of_group(list: &str, group: Group) -> impl Iterator<Item = &str> {
    let words = list.lines().filter_map(|line| line.split_once(' '));
    words.filter(move |(word, _)| *word == group.as_str()).map(|(_, name)| name.trim())
}

fn load_one(path: &str) -> Result<(), Failure> {
    let loading = || format!("cannot load kernel module `{path}`, finit_module()");
    let path = Path::new("/").join(path);
    let module = match File::open(&path) {
        Ok(module) => module,
        // It belongs to another group, too, and was loaded with that.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && is_loaded(&path) => {
            return Ok(());
        }
        Err(error) => return Err(error).during(loading),
    };
    match finit_module(&module, c"", ModuleInitFlags::empty()) {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
        Err(error) => return Err(error).during(loading),
    }
    // If it stays, it costs memory and nothing else.
    let _ = fs::remove_file(&path);
    Ok(())
}

/// Whether the kernel has the module of a file, which it calls by its own rule.
fn is_loaded(file: &Path) -> bool {
    let name = file.file_stem().unwrap_or_default().to_string_lossy().replace('-', "_");
    Path::new("/sys/module").join(name).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modules_of_a_group_come_in_the_order_of_the_list() {
        let list = "always lib/virtio.ko\nfs lib/fuse.ko\n\nalways lib/erofs.ko\nnonsense\n";
        assert_eq!(
            of_group(list, Group::Always).collect::<Vec<_>>(),
            ["lib/virtio.ko", "lib/erofs.ko"]
        );
        assert_eq!(of_group(list, Group::Network).count(), 0);
    }
}
