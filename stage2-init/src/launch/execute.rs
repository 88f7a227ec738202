//! The last step: `execve`, and, should it fail, finding out why.
//!
//! What is read here belongs to the app, and is read with the app's rights, behind its filter. The
//! kernel says "no such file" of a program whose interpreter is missing; a person wants to know
//! which.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::execve;

use super::failure::{Failure, Phase};
use super::prepared::Prepared;

/// Becomes the app's program; returns only if no candidate can be executed.
///
/// A candidate that is missing or may not be executed gives way to the next, and the first that
/// was denied is blamed in the end; any other trouble ends the search, as in `execvp(3)`.
pub(super) fn execute(what: &Prepared<'_>) -> Failure {
    let mut denied = None;
    for candidate in &what.candidates {
        let Err(errno) = execve(candidate, &what.arguments, &what.environment);
        match errno {
            Errno::ENOENT | Errno::ENOTDIR if !exists(candidate) => {}
            Errno::EACCES => {
                denied.get_or_insert(candidate);
            }
            _ => return diagnose(candidate, errno),
        }
    }
    match denied {
        Some(candidate) => diagnose(candidate, Errno::EACCES),
        None => {
            let error = io::Error::from(Errno::ENOENT);
            Failure::new(Phase::NotFound, &error, quoted(what.program))
        }
    }
}

fn quoted(name: &str) -> String {
    format!("`{name}`")
}

fn path(candidate: &CStr) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(candidate.to_bytes()))
}

fn exists(candidate: &CStr) -> bool {
    path(candidate).symlink_metadata().is_ok()
}

/// Says why a program that is there cannot be executed.
fn diagnose(candidate: &CString, errno: Errno) -> Failure {
    let name = candidate.to_string_lossy();
    let error = io::Error::from(errno);
    let mut head = [0; 4096];
    let read = if path(candidate).is_file() {
        File::open(path(candidate)).and_then(|mut file| file.read(&mut head)).unwrap_or(0)
    } else {
        0
    };
    match inspect(&head[..read]) {
        Finding::Machine(machine) => {
            let object = format!("`{name}`, which is for another machine (ELF machine {machine})");
            Failure::new(Phase::WrongMachine, &error, object)
        }
        Finding::Interpreter(interpreter) if errno == Errno::ENOENT => {
            let object = format!("`{name}`, whose interpreter `{interpreter}` does not exist,");
            Failure::new(Phase::NoInterpreter, &error, object)
        }
        _ => Failure::new(Phase::NotExecutable, &error, quoted(&name)),
    }
}

/// What the first bytes of a program tell.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    /// Made for the ELF machine of this number.
    Machine(u16),
    /// Wants to be read by this program.
    Interpreter(String),
    /// Nothing.
    Nothing,
}

/// `EM_X86_64`.
const THIS_MACHINE: u16 = 62;
/// `PT_INTERP`.
const INTERPRETER: u32 = 3;

fn inspect(head: &[u8]) -> Finding {
    if let Some(script) = head.strip_prefix(b"#!") {
        let line = script.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let word = line.trim_ascii().split(|byte| byte.is_ascii_whitespace()).next();
        let word = String::from_utf8_lossy(word.unwrap_or_default()).into_owned();
        return Finding::Interpreter(word.chars().take(200).collect());
    }
    if !head.starts_with(b"\x7fELF") {
        return Finding::Nothing;
    }
    match number::<2>(head, 18) {
        Some(machine) if machine != u64::from(THIS_MACHINE) => {
            Finding::Machine(u16::try_from(machine).unwrap_or(0))
        }
        _ => elf_interpreter(head).map_or(Finding::Nothing, Finding::Interpreter),
    }
}

/// Returns the interpreter an ELF64 file names, if it lies within `head`.
fn elf_interpreter(head: &[u8]) -> Option<String> {
    let table = usize::try_from(number::<8>(head, 32)?).ok()?;
    let size = usize::try_from(number::<2>(head, 54)?).ok()?;
    let count = usize::try_from(number::<2>(head, 56)?).ok()?;
    let entries = (0..count.min(64)).map_while(|index| table.checked_add(index * size));
    let mut wanted = entries.filter(|at| number::<4>(head, *at) == Some(INTERPRETER.into()));
    let entry = wanted.next()?;
    let from = usize::try_from(number::<8>(head, entry.checked_add(8)?)?).ok()?;
    let name = head.get(from..)?.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(name).chars().take(200).collect())
}

/// Reads a little-endian number of `N` bytes.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(N)?)?;
    Some(field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_names_its_interpreter() {
        let found = |text: &[u8]| inspect(text);
        assert_eq!(found(b"#! /bin/sh -e\nx"), Finding::Interpreter("/bin/sh".to_owned()));
        assert_eq!(found(b"#!"), Finding::Interpreter(String::new()));
        assert_eq!(found(b"hello"), Finding::Nothing);
        assert_eq!(found(b""), Finding::Nothing);
    }

    fn elf(machine: u16) -> Vec<u8> {
        let mut elf = vec![0; 64 + 56];
        elf[..4].copy_from_slice(b"\x7fELF");
        elf[18..20].copy_from_slice(&machine.to_le_bytes());
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = 1;
        elf[64] = 3;
        elf[72] = 120;
        elf.extend_from_slice(b"/lib/ld.so\0");
        elf
    }

    #[test]
    fn an_elf_file_names_its_machine_and_its_interpreter() {
        assert_eq!(inspect(&elf(62)), Finding::Interpreter("/lib/ld.so".to_owned()));
        assert_eq!(inspect(&elf(183)), Finding::Machine(183));
    }

    #[test]
    fn no_bytes_make_the_inspection_fail() {
        let elf = elf(62);
        for end in 0..elf.len() {
            inspect(&elf[..end]);
        }
        for at in 4..elf.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut bent = elf.clone();
                bent[at] = byte;
                inspect(&bent);
            }
        }
    }
}
