//! What a command line takes from whoever typed it: variables of the environment, and files.
//!
//! It comes to [`crate::request`] as an argument, so that reading a line stays pure and its tests
//! need no environment. Nothing here interprets what it reads.

use std::env;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use pod_abi::isolators::{BlockDevice, Capabilities, Capability, SeccompProfile};
use rustix::fs::{FileType, major, minor};
use rustix::thread::capabilities;

use crate::error::{CommandError, Context as _, Result};
use crate::seccomp_profile;

/// The longest file a flag takes, in bytes: a thousand variables of a kilobyte.
const MAX_FILE: u64 = 1 << 20;

/// Where the words of a line that name something of the caller lead.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'c> {
    /// Looks up a variable of the environment.
    pub(crate) variable: &'c dyn Fn(&str) -> Option<String>,
    /// Reads a file of text.
    pub(crate) file: &'c dyn Fn(&Path) -> Result<String>,
    /// Tells which capabilities the caller holds.
    pub(crate) held: &'c dyn Fn() -> Capabilities,
    /// Reads a seccomp profile for an app with these capabilities.
    pub(crate) profile: &'c dyn Fn(&Path, &Capabilities) -> Result<SeccompProfile>,
    /// Tells the numbers of a block device whose rates can be limited.
    pub(crate) disk: &'c dyn Fn(&Path) -> Result<BlockDevice>,
}

impl Caller<'static> {
    /// Returns the caller of this process.
    pub(crate) fn of_this_process() -> Self {
        Self { variable: &variable, file: &file, held: &held, profile: &profile, disk: &disk }
    }
}

impl fmt::Debug for Caller<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Caller")
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

fn held() -> Capabilities {
    let bits = capabilities(None).map_or(0, |sets| sets.permitted.bits());
    let known = Capability::ALL.iter().copied();
    Capabilities(known.filter(|capability| bits & capability.bit() != 0).collect())
}

fn file(path: &Path) -> Result<String> {
    let tell = || format!("cannot read `{}`", path.display());
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .context(tell)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge)).context(tell);
    }
    String::from_utf8(bytes).map_err(|_| {
        CommandError::usage(format!("`{}` is no text: it is not valid UTF-8", path.display()))
    })
}

fn profile(path: &Path, capabilities: &Capabilities) -> Result<SeccompProfile> {
    seccomp_profile::read(path, &file(path)?, capabilities)
}

/// The kernel limits whole disks only: of a partition it says that there is no such device.
fn disk(path: &Path) -> Result<BlockDevice> {
    let tell = || format!("cannot look at device `{}`", path.display());
    let found = rustix::fs::stat(path).context(tell)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::BlockDevice {
        return Err(CommandError::usage(format!("`{}` is no block device", path.display()))
            .hint("`lsblk` lists them"));
    }
    let device = BlockDevice { major: major(found.st_rdev), minor: minor(found.st_rdev) };
    let known = format!("/sys/dev/block/{}:{}", device.major, device.minor);
    if Path::new(&known).join("partition").exists() {
        let error = CommandError::usage(format!(
            "`{}` is a partition, and only whole disks can be limited",
            path.display()
        ));
        // Such as `../../devices/…/sda/sda1`.
        let disk = fs::read_link(&known).ok();
        let disk = disk.as_deref().and_then(Path::parent).and_then(Path::file_name);
        return Err(match disk {
            Some(disk) => error.hint(format!("its disk is `/dev/{}`", disk.display())),
            None => error,
        });
    }
    Ok(device)
}
