//! Why a program that is there cannot be executed, in words a person can act upon.
//!
//! The kernel says "no such file" of a program whose interpreter is missing, and "exec format
//! error" of everything it does not know. What is read here belongs to the app, and is read by the
//! process that failed: with the app's rights, beneath its root, behind its filter. Files are
//! opened without waiting and only if they are regular ones, and a bounded part of them is read.

use std::ffi::{CStr, OsStr};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access};

use pod_abi::text;

use super::elf::{Bytes, Elf, machine_name};
use super::failure::{Failure, Phase};

/// How much of a script the kernel looks at (`BINPRM_BUF_SIZE`).
const SCRIPT_HEAD: usize = 256;

/// How many interpreters of interpreters the kernel follows.
const MAX_INTERPRETERS: usize = 5;

/// The longest name that is repeated in an error.
const MAX_NAME: usize = 200;

/// What was found out: the kind of trouble, and what is to be said of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    phase: Phase,
    clause: String,
}

impl Finding {
    fn new(phase: Phase, clause: impl Into<String>) -> Self {
        Self { phase, clause: clause.into() }
    }

    fn unexecutable(clause: impl Into<String>) -> Self {
        Self::new(Phase::NotExecutable, clause)
    }
}

/// Returns the path of a candidate.
pub(super) fn path(candidate: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(candidate.to_bytes()))
}

/// Says why `candidate`, for which `execve` gave `errno`, cannot be executed.
pub(super) fn of(candidate: &CStr, errno: Errno) -> Failure {
    let name = shown(&candidate.to_string_lossy());
    let error = io::Error::from(errno);
    match find(path(candidate), errno) {
        Some(Finding { phase, clause }) => {
            Failure::new(phase, &error, format!("`{name}`, {clause},"))
        }
        None => Failure::new(Phase::NotExecutable, &error, format!("`{name}`")),
    }
}

/// Makes a name from an image fit to be repeated.
pub(super) fn shown(name: &str) -> String {
    text::tame(name, MAX_NAME)
}

fn find(program: &Path, errno: Errno) -> Option<Finding> {
    if let Some(target) = dangling(program) {
        let clause = format!("which is a link to `{}`, and that does not exist", shown(&target));
        return Some(Finding::new(Phase::NotFound, clause));
    }
    let about = match fs::metadata(program) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Some(Finding::unexecutable("which lies in a directory its user may not enter"));
        }
        about => about.ok()?,
    };
    if about.is_dir() {
        return Some(Finding::unexecutable("which is a directory"));
    }
    if !about.is_file() {
        return Some(Finding::unexecutable("which is no regular file"));
    }
    match errno {
        Errno::EACCES => permission(program, &about)
            .or_else(|| open(program).and_then(|file| interpreters(&file, errno))),
        Errno::ETXTBSY => Some(Finding::unexecutable("which is being written")),
        Errno::E2BIG => Some(Finding::unexecutable("with so long arguments and environment")),
        Errno::ENOEXEC if about.len() == 0 => Some(Finding::unexecutable("which is empty")),
        _ => open(program).and_then(|file| content(&file, errno)),
    }
}

/// Returns where a link leads that leads nowhere.
fn dangling(program: &Path) -> Option<String> {
    let target = fs::read_link(program).ok()?;
    let missing =
        matches!(fs::metadata(program), Err(error) if error.kind() == io::ErrorKind::NotFound);
    missing.then(|| target.to_string_lossy().into_owned())
}

fn permission(program: &Path, about: &Metadata) -> Option<Finding> {
    let mode = about.mode() & 0o7777;
    let parent = program.parent().unwrap_or(Path::new("."));
    if statvfs(parent).is_ok_and(|about| about.flags().contains(FsFlags::ST_NOEXEC)) {
        return Some(Finding::unexecutable("which lies on a file system mounted `noexec`"));
    }
    if mode & 0o111 == 0 {
        let clause = format!("which nobody may execute (mode {mode:04o})");
        return Some(Finding::new(Phase::NotPermitted, clause));
    }
    if access(program, AccessFlags::X_OK).is_err() {
        let (uid, gid) = (about.uid(), about.gid());
        let clause = format!("which its user may not execute (mode {mode:04o}, owner {uid}:{gid})");
        return Some(Finding::unexecutable(clause));
    }
    None
}

/// Opens a regular file, and waits for nobody.
pub(super) fn open(path: &Path) -> Option<File> {
    let nonblock = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let flags = i32::try_from(nonblock.bits()).ok()?;
    // A pipe or a device is not opened at all: opening may be a deed.
    fs::metadata(path).ok().filter(Metadata::is_file)?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    file.metadata().is_ok_and(|about| about.is_file()).then_some(file)
}

/// The number of this machine in ELF files, `EM_X86_64`.
const THIS_MACHINE: u16 = 62;

/// Says what is wrong with the content of a program.
fn content<B: Bytes + ?Sized>(file: &B, errno: Errno) -> Option<Finding> {
    if errno == Errno::ENOENT || errno == Errno::ENOTDIR {
        return interpreters(file, errno);
    }
    if errno != Errno::ENOEXEC {
        return None;
    }
    let head = file.at(0, SCRIPT_HEAD);
    Some(match Elf::read(file) {
        Some(elf) if elf.machine != THIS_MACHINE => {
            let (its, ours) = (machine_name(elf.machine), machine_name(THIS_MACHINE));
            Finding::new(Phase::WrongMachine, format!("which is for {its}, on a machine of {ours}"))
        }
        Some(_) => Finding::unexecutable("which is an ELF file, but no program or a damaged one"),
        None if head.starts_with(b"#!") => Finding::unexecutable(
            "a script whose first line names no interpreter, or one beyond 255 characters",
        ),
        None if head.starts_with(b"MZ") => Finding::unexecutable("which is a program of Windows"),
        None if head.starts_with(b"\xcf\xfa\xed\xfe") || head.starts_with(b"\xca\xfe\xba\xbe") => {
            Finding::unexecutable("which is a program of macOS")
        }
        None => Finding::unexecutable(
            "which is neither an ELF program nor a script that begins with `#!`",
        ),
    })
}

/// Follows a program's interpreters to the one that is at fault.
fn interpreters<B: Bytes + ?Sized>(file: &B, errno: Errno) -> Option<Finding> {
    let mut name = interpreter(file)?;
    for _ in 0..MAX_INTERPRETERS {
        let path = Path::new(&name);
        match fs::metadata(path) {
            Err(_) => return Some(missing(&name)),
            Ok(about) if about.is_dir() => {
                let clause = format!("whose interpreter `{}` is a directory", shown(&name));
                return Some(Finding::new(Phase::NoInterpreter, clause));
            }
            Ok(about) if errno == Errno::EACCES => {
                if let Some(finding) = permission(path, &about) {
                    let clause =
                        format!("whose interpreter is `{}`, {}", shown(&name), finding.clause);
                    return Some(Finding::new(finding.phase, clause));
                }
            }
            Ok(_) => {}
        }
        name = interpreter(&open(path)?)?;
    }
    None
}

fn missing(name: &str) -> Finding {
    let clause = match name.strip_suffix('\r') {
        Some(plain) => format!(
            "whose interpreter is `{}` and a carriage return, for its lines end as on Windows",
            shown(plain)
        ),
        None if name.is_empty() => "whose first line names no interpreter".to_owned(),
        None => format!("whose interpreter `{}` does not exist", shown(name)),
    };
    let phase = if name.ends_with('\r') { Phase::WindowsLines } else { Phase::NoInterpreter };
    Finding::new(phase, clause)
}

/// Returns the interpreter a script or a program names.
fn interpreter<B: Bytes + ?Sized>(file: &B) -> Option<String> {
    let head = file.at(0, SCRIPT_HEAD);
    let Some(script) = head.strip_prefix(b"#!") else { return Elf::read(file)?.interpreter() };
    let line = script.split(|byte| *byte == b'\n').next().unwrap_or_default();
    // The kernel takes blanks and tabs for separators, and nothing else: a carriage return is part
    // of the name.
    let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let begin = line.iter().position(|byte| !blank(byte)).unwrap_or(line.len());
    let word = line[begin..].split(blank).next().unwrap_or_default();
    Some(String::from_utf8_lossy(word).into_owned())
}

#[cfg(test)]
mod tests {
    use super::super::elf::tests::written;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_script_names_its_interpreter() {
        let named = |text: &[u8]| interpreter(text).unwrap_or_default();
        assert_eq!(named(b"#! /bin/sh -e\nx"), "/bin/sh");
        assert_eq!(named(b"#!\t/bin/sh\t-e"), "/bin/sh");
        assert_eq!(named(b"#!/bin/sh\r\necho\r\n"), "/bin/sh\r");
        assert_eq!(named(b"#!"), "");
        assert_eq!(interpreter(&b"hello"[..]), None);
    }

    fn clause(bytes: &[u8], errno: Errno) -> String {
        content(bytes, errno).map(|finding| finding.clause).unwrap_or_default()
    }

    #[test]
    fn what_is_at_fault_is_named() {
        let elf = |machine, interpreter| written(machine, interpreter, &[]);
        for (bytes, errno, words) in [
            (elf(183, "/x"), Errno::ENOEXEC, "for aarch64, on a machine of x86_64"),
            (elf(62, "/no/ld.so"), Errno::ENOENT, "interpreter `/no/ld.so` does not exist"),
            (elf(62, "/x"), Errno::ENOEXEC, "damaged"),
            (b"#!/no/sh -e\n".to_vec(), Errno::ENOENT, "interpreter `/no/sh` does not exist"),
            (b"#!/bin/sh\r\n".to_vec(), Errno::ENOENT, "lines end as on Windows"),
            (b"#!\n".to_vec(), Errno::ENOEXEC, "names no interpreter"),
            (b"MZ\x90".to_vec(), Errno::ENOEXEC, "Windows"),
            (b"text\n".to_vec(), Errno::ENOEXEC, "neither an ELF program nor a script"),
            (b"#!/\n".to_vec(), Errno::EACCES, ""),
        ] {
            let said = clause(&bytes, errno);
            assert!(said.contains(words), "{said:?} lacks {words:?}");
        }
        assert_eq!(clause(b"text", Errno::ENOMEM), "");
    }

    proptest! {
        #[test]
        fn no_content_makes_the_diagnosis_fail(
            bytes in proptest::collection::vec(any::<u8>(), 0..300), script: bool,
        ) {
            let bytes = if script { [&b"#!/no/"[..], &bytes].concat() } else { bytes };
            for errno in [Errno::ENOENT, Errno::ENOEXEC, Errno::EACCES, Errno::EIO] {
                let said = clause(&bytes, errno);
                prop_assert!(!said.contains(char::is_control));
                prop_assert!(said.chars().count() < 400);
            }
        }
    }
}
