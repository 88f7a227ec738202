//! The credentials of an app: files in memory that is never swapped out, for its user alone.
//!
//! They are written before the app exists, into a file system no other app can reach; the mount is
//! read-only from then on, and locked with all others of the app's tree. Nothing of them touches a
//! disk, an environment or a log. What comes in is memory that stage0 has sealed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use pod_abi::credential::{CredentialName, MAX_CREDENTIAL_BYTES};
use pod_sys::MountFlags;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, chownat, fchown, openat};
use supervisor::{During, Failure};

use crate::mounts::{self, Depth, INERT};

/// What credentials hold, by name.
pub(crate) type Secrets = BTreeMap<CredentialName, OwnedFd>;

/// Makes a file system of the credentials `names`, which belongs to `owner`; detached.
///
/// It is ramfs: unlike tmpfs it has no swap on any kernel, and needs no bound, for its contents
/// have one. The umask of this process is 0.
pub(crate) fn mount(
    names: &[CredentialName],
    owner: (u32, u32),
    secrets: &Secrets,
) -> Result<OwnedFd, Failure> {
    let making = || "cannot make memory for credentials, fsmount(ramfs)";
    let (uid, gid) = (Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)));
    let directory = mounts::new("ramfs", &[("mode", "0500")], INERT).during(making)?;
    for name in names {
        let writing = || format!("cannot write credential `{name}`");
        let secret = secrets.get(name).ok_or_else(|| {
            let what = format!("credential `{name}` was not handed over");
            Failure::new(what).code("credential.missing")
        })?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&directory, name.as_str(), flags, Mode::from_raw_mode(0o400));
        let mut file = File::from(file.during(writing)?);
        file.write_all(&contents(secret).during(writing)?).during(writing)?;
        fchown(&file, uid, gid).during(writing)?;
    }
    chownat(&directory, "", uid, gid, AtFlags::EMPTY_PATH).during(making)?;
    mounts::restrict(&directory, MountFlags::RDONLY, Depth::One).during(making)?;
    Ok(directory)
}

/// Reads a secret from its beginning, whoever else has read it: helpers of other apps share it.
fn contents(secret: &OwnedFd) -> io::Result<Vec<u8>> {
    let secret = File::from(secret.try_clone()?);
    let length = secret.metadata()?.len();
    if length > MAX_CREDENTIAL_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    secret.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
