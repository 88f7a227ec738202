//! The first file system of a guest; what is in it stands in the crate's first paragraphs.

use crate::closure::{Group, Modules};
use crate::cpio::Archive;
use crate::elf::{ET_DYN, ET_EXEC, Elf, without_sections};
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
    let guest = loaded(programs.guest).map_err(|error| error.of("program `guest`"))?;
    let stage2_init =
        loaded(programs.stage2_init).map_err(|error| error.of("program `stage2-init`"))?;
    let mut archive = Archive::default();
    for path in ["dev", "lib", "lib/modules", "proc", "run", "sys", "tmp"] {
        archive.directory(path);
    }
    archive.device("dev/console", 0o600, (5, 1));
    archive.device("dev/null", 0o666, (1, 3));
    archive.file("init", 0o755, &guest);
    archive.file("stage2-init", 0o755, &stage2_init);
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

/// Checks a program, and returns it without what is never loaded: its table of sections, symbols,
/// and what a debugger wants lie behind all that is, and would be in a guest's memory at boot.
fn loaded(program: &[u8]) -> Result<Vec<u8>, Error> {
    let elf = Elf::parse(program)?;
    if ![ET_EXEC, ET_DYN].contains(&elf.kind) {
        return Err(Error::new(ErrorKind::Unsupported, "it is no program"));
    }
    let segments = elf.segments()?;
    if segments.iter().any(|segment| segment.kind == PT_INTERP) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "it is not static, and a guest has no libraries",
        ));
    }
    let mut end = elf.end_of_headers()?;
    for segment in &segments {
        let content = elf.content(segment);
        content.ok_or_else(|| Error::damaged("a segment ends behind the file"))?;
        end = end.max(segment.offset + segment.file_size);
    }
    let end = usize::try_from(end).unwrap_or(program.len());
    Ok(without_sections(&program[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_what_is_loaded_of_it() {
        // A header, a segment of eight bytes behind its own, and much behind that.
        let mut program = vec![0; 64 + 56 + 8 + 1000];
        program[..6].copy_from_slice(b"\x7fELF\x02\x01");
        program[16..20].copy_from_slice(&[2, 0, 62, 0]);
        program[32] = 64; // e_phoff
        program[40] = 200; // e_shoff
        program[54..62].copy_from_slice(&[56, 0, 1, 0, 64, 0, 9, 0]);
        program[64] = 1; // PT_LOAD
        program[64 + 32] = 128; // p_filesz
        let short = loaded(&program).unwrap();
        assert_eq!(short.len(), 128);
        assert_eq!((short[40], short[60]), (0, 0), "no section is left");
        assert_eq!(loaded(&short).unwrap(), short);
        program[64] = 3; // PT_INTERP
        assert!(loaded(&program).unwrap_err().to_string().contains("not static"));
        program[64 + 39] = 255; // p_filesz
        assert!(loaded(&program).is_err());
    }

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
