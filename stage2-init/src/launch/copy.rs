//! Copying files between an archive and an app, from inside.
//!
//! A process in the app as any other, with the rights of the app's root and behind its filter; it
//! executes nothing of the app, so no library or program of it can have a hand in what is copied
//! (CVE-2019-14271), and where links of the app lead, it can go no further than the app itself
//! (CVE-2018-15664). All it holds of PID 1 is where to tell what went wrong.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use archive::{Links, Owned, Owner, Privileges, Source, Top, Unpacking, pack, unpack};
use pod_abi::control::Direction;
use pod_abi::exit::OURS;
use pod_abi::path::PodPath;
use pod_sys::{forsake_all_but, open_in_root};
use rustix::fs::{FileType, OFlags, fstat};

use super::failure::{At, Failure, Phase};
use super::masks::open_root;

/// How much is read and written at once.
const CHUNK: usize = 256 << 10;

/// Copies, tells through `report` what went wrong, and ends.
pub(super) fn go(direction: Direction, path: &PodPath, report: BorrowedFd<'_>) -> ! {
    let then: fn(OwnedFd, &[u8]) -> u8 = match direction {
        Direction::Out => |report, path| told(&report, out(path)),
        Direction::OutFollowed => |report, path| told(&report, out_followed(path)),
        Direction::In => |report, path| told(&report, into(path)),
    };
    forsake_all_but(report, then, path.relative().as_bytes())
}

fn told(report: &OwnedFd, done: Result<(), Failure>) -> u8 {
    match done {
        Ok(()) => 0,
        Err(failure) => {
            let _ = rustix::io::write(report, &failure.encode()); // PID 1 reads it, or is gone
            OURS
        }
    }
}

fn out(path: &[u8]) -> Result<(), Failure> {
    let path = String::from_utf8_lossy(path);
    let (parent, name) = path.rsplit_once('/').unwrap_or((".", &path));
    if name == "." {
        return out_followed(path.as_bytes());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let parent = beneath_root(parent, flags).at(Phase::Copy, &format!("`/{path}`"))?;
    let name = OsStr::new(name);
    written(|archive| pack(Source::Named(parent.as_fd(), name), name, Owner::Kept, archive))
}

fn out_followed(path: &[u8]) -> Result<(), Failure> {
    let path = String::from_utf8_lossy(path);
    let named = format!("`/{}`", path.trim_start_matches('.'));
    let about = beneath_root(&path, OFlags::PATH).and_then(|found| Ok(fstat(found)?));
    let kind = FileType::from_raw_mode(about.at(Phase::Copy, &named)?.st_mode);
    if !matches!(kind, FileType::RegularFile | FileType::Directory) {
        let object = format!("{named}, which is a device, a socket or a pipe,");
        return Err(Failure::without_cause(Phase::Copy, object));
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let found = beneath_root(&path, flags).at(Phase::Copy, &named)?;
    let name = path.rsplit('/').next().filter(|name| *name != ".").unwrap_or_default();
    written(|archive| pack(Source::Open(found.as_fd()), OsStr::new(name), Owner::Kept, archive))
}

fn into(path: &[u8]) -> Result<(), Failure> {
    let path = String::from_utf8_lossy(path);
    let named = format!("`/{}`", path.trim_start_matches('.'));
    let directory = beneath_root(&path, OFlags::PATH | OFlags::DIRECTORY);
    let directory = directory.at(Phase::Copy, &format!("into {named}"))?;
    let mut archive = BufReader::with_capacity(CHUNK, stream(io::stdin().as_fd())?);
    let how = Unpacking {
        top: Top::Kept,
        links: Links::Followed,
        owner: Owned::AsPacked,
        privileges: Privileges::Kept,
    };
    unpack(&mut archive, directory.as_fd(), &how).map_err(|error| failed(&error))?;
    // An archive may be filled up behind its end: whoever sends that is not to meet a broken pipe.
    io::copy(&mut archive, &mut io::sink()).map(drop).at(Phase::Copy, "what follows the archive")
}

fn beneath_root(path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(open_in_root(open_root()?, path, flags)?)
}

fn written(
    pack: impl FnOnce(&mut BufWriter<File>) -> Result<(), archive::Error>,
) -> Result<(), Failure> {
    let mut archive = BufWriter::with_capacity(CHUNK, stream(io::stdout().as_fd())?);
    pack(&mut archive).map_err(|error| failed(&error))?;
    archive.flush().at(Phase::Copy, "an archive nobody takes")
}

fn stream(of: BorrowedFd<'_>) -> Result<File, Failure> {
    of.try_clone_to_owned().map(File::from).at(Phase::Copy, "a stream")
}

fn failed(error: &archive::Error) -> Failure {
    match error.cause() {
        Some(cause) => Failure::new(Phase::Copy, cause, error.to_string()),
        None => Failure::without_cause(Phase::Copy, error.to_string()),
    }
}
