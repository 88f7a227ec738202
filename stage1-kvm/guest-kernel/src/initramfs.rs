//! The first file system of a guest; what is in it stands in the crate's first paragraphs.

use crate::closure::{Group, Modules};
use crate::cpio::Archive;
use crate::elf::{ET_DYN, ET_EXEC, Elf};
use crate::error::{Error, ErrorKind};

const PT_INTERP: u32 = 3;

/// The programs of a guest: static, for there is no library in it.
#[derive(Clone, Copy, Debug)]
pub struct Programs<'p> {
    /// PID 1 of the guest.
    pub guest: &'p [u8],
    /// PID 1 of the pod.
    pub stage2_init: &'p [u8],
}

/// Makes it. The same parts make the same bytes.
///
/// # Errors
///
/// [`ErrorKind::Unsupported`] and [`ErrorKind::Damaged`] for programs that cannot run in it.
pub fn initramfs(programs: Programs<'_>, modules: &Modules) -> Result<Vec<u8>, Error> {
    check(programs.guest).map_err(|error| error.of("program `guest`"))?;
    check(programs.stage2_init).map_err(|error| error.of("program `stage2-init`"))?;
    let mut archive = Archive::default();
    for path in ["dev", "lib", "lib/modules", "proc", "run", "sys", "tmp"] {
        archive.directory(path);
    }
    archive.device("dev/console", 0o600, (5, 1));
    archive.device("dev/null", 0o666, (1, 3));
    archive.file("init", 0o755, programs.guest);
    archive.file("stage2-init", 0o755, programs.stage2_init);
    archive.file("modules", 0o644, list(modules).as_bytes());
    for (name, bytes) in &modules.files {
        archive.file(&place(name), 0o644, bytes);
    }
    Ok(archive.finish())
}

/// Returns `/modules`.
fn list(modules: &Modules) -> String {
    let line = |(group, name): &(Group, String)| format!("{} {}\n", group.word(), place(name));
    modules.order.iter().map(line).collect()
}

/// Returns where module `name` lies, beneath the root.
fn place(name: &str) -> String {
    format!("lib/modules/{name}.ko")
}

fn check(program: &[u8]) -> Result<(), Error> {
    let elf = Elf::parse(program)?;
    if ![ET_EXEC, ET_DYN].contains(&elf.kind) {
        return Err(Error::new(ErrorKind::Unsupported, "it is no program"));
    }
    if elf.segments()?.iter().any(|segment| segment.kind == PT_INTERP) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "it is not static, and a guest has no libraries",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_listed_in_the_order_they_are_loaded() {
        let order = vec![
            (Group::Always, "virtio".to_owned()),
            (Group::Net, "failover".to_owned()),
            (Group::Fs, "fuse".to_owned()),
            (Group::Scratch, "ext4".to_owned()),
        ];
        let modules = Modules { order, ..Modules::default() };
        assert_eq!(
            list(&modules),
            "always lib/modules/virtio.ko\nnet lib/modules/failover.ko\n\
             fs lib/modules/fuse.ko\nscratch lib/modules/ext4.ko\n"
        );
    }
}
