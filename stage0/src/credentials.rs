//! Secrets on their way to apps: found, read once, and sealed in memory.
//!
//! ```text
//!   the unit's own credential ─┐
//!   a file the user names ─────┼─▶ origin ─▶ read, bounded ─▶ sealed memory ─▶ stage1
//!   a store of the host ───────┘
//! ```
//!
//! Read at every start of a pod. Contents are in no document, environment, message or file of
//! ours; only names and paths are. Nothing is opened for reading that is no regular file: a FIFO
//! would wait for ever, and merely opening a device can do harm.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use pod_abi::AppName;
use pod_abi::app::AppSpec;
use pod_abi::credential::{CREDENTIALS_VARIABLE, Credential, CredentialName, MAX_CREDENTIAL_BYTES};
use rustix::fs::{
    CWD, FileType, MemfdFlags, Mode, OFlags, PROC_SUPER_MAGIC, SealFlags, fcntl_add_seals, fstat,
    fstatfs, memfd_create, open, openat,
};
use rustix::io::Errno;

use crate::error::{CommandError, Context as _, Result};

/// Where the host keeps credentials of services, in the order systemd looks (`systemd.exec(5)`):
/// those of the whole system, then the stores.
const STORES: [&str; 5] = [
    "/run/credentials/@system",
    "/etc/credstore",
    "/run/credstore",
    "/usr/local/lib/credstore",
    "/usr/lib/credstore",
];
/// The same for encrypted ones, which only systemd can read.
const ENCRYPTED_STORES: [&str; 5] = [
    "/run/credentials/@encrypted",
    "/etc/credstore.encrypted",
    "/run/credstore.encrypted",
    "/usr/local/lib/credstore.encrypted",
    "/usr/lib/credstore.encrypted",
];

/// Where a credential comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This file, as it is.
    File(PathBuf),
    /// This file, which a service manager must decrypt.
    Encrypted(PathBuf),
}

/// Finds where a credential comes from: what the unit of this process holds under its name, for
/// that is what its administrator has said last; else the file that was named; else the first
/// store that has one of that name. `None` if there is nowhere to take it from.
pub(crate) fn origin(credential: &Credential) -> Option<Origin> {
    let own = env::var_os(CREDENTIALS_VARIABLE);
    choose(credential, own, |path| path.symlink_metadata().is_ok())
}

/// As [`origin`]; `own` is the directory of the unit's credentials, `exists` looks.
fn choose(
    credential: &Credential,
    own: Option<OsString>,
    exists: impl Fn(&Path) -> bool,
) -> Option<Origin> {
    let name = credential.name.as_str();
    let own = own.map(PathBuf::from).filter(|own| own.is_absolute()).map(|own| own.join(name));
    if let Some(own) = own.filter(|own| exists(own)) {
        return Some(Origin::File(own));
    }
    if let Some(path) = &credential.path {
        return Some(Origin::File(path.into()));
    }
    let within = |stores: &[&str]| {
        stores.iter().map(|store| Path::new(store).join(name)).find(|path| exists(path))
    };
    within(&STORES).map(Origin::File).or_else(|| within(&ENCRYPTED_STORES).map(Origin::Encrypted))
}

/// Checks that the credentials of all apps can be had when a unit of ours is started for them.
///
/// # Errors
///
/// As [`gather`], but for those that are encrypted: systemd decrypts them for the unit.
pub(crate) fn check(apps: &[AppSpec]) -> Result<()> {
    read_all(apps, Decryption::ByTheUnit).map(drop)
}

/// Returns the names of those that only systemd can read, for a unit that is to be started.
pub(crate) fn encrypted(apps: &[AppSpec]) -> impl Iterator<Item = String> {
    let credentials = apps.iter().flat_map(|app| &app.credentials);
    let sealed = |one: &&Credential| matches!(origin(one), Some(Origin::Encrypted(_)));
    let names: BTreeSet<&CredentialName> =
        credentials.filter(sealed).map(|one| &one.name).collect();
    names.into_iter().map(ToString::to_string)
}

/// Reads the credentials of all apps, each once, into sealed memory.
///
/// # Errors
///
/// `credential.missing`, `credential.encrypted`, `credential.kind`, `credential.changes` or
/// `credential.size`, naming the credential and the first app that asks for it.
pub(crate) fn gather(apps: &[AppSpec]) -> Result<Vec<(CredentialName, OwnedFd)>> {
    read_all(apps, Decryption::Over)
}

/// When encrypted credentials are decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decryption {
    /// When the unit starts.
    ByTheUnit,
    /// It would have happened by now.
    Over,
}

fn read_all(apps: &[AppSpec], decryption: Decryption) -> Result<Vec<(CredentialName, OwnedFd)>> {
    let mut known: Vec<(CredentialName, OwnedFd)> = Vec::new();
    let mut room = MAX_CREDENTIAL_BYTES;
    for (app, credential) in
        apps.iter().flat_map(|app| app.credentials.iter().map(|credential| (&app.name, credential)))
    {
        if known.iter().any(|(name, _)| *name == credential.name) {
            continue;
        }
        let path = match origin(credential) {
            None => return Err(missing(credential, app)),
            Some(Origin::Encrypted(_)) if decryption == Decryption::ByTheUnit => continue,
            Some(Origin::Encrypted(path)) => return Err(still_encrypted(credential, app, &path)),
            Some(Origin::File(path)) => path,
        };
        let bytes = Reading { credential: &credential.name, app, path: &path }.read(room)?;
        room -= u64::try_from(bytes.len()).unwrap_or(room).min(room);
        known.push((credential.name.clone(), sealed(&bytes)?));
    }
    Ok(known)
}

fn missing(credential: &Credential, app: &AppName) -> CommandError {
    let name = &credential.name;
    CommandError::new(
        "credential.missing",
        format!("credential `{name}` of app `{app}` is nowhere to be found"),
    )
    .hint(format!("`--credential {name}=PATH` reads it from a file"))
    .hint(format!(
        "a unit holds it by `LoadCredential=`, all of this host by `/etc/credstore/{name}`"
    ))
}

fn still_encrypted(credential: &Credential, app: &AppName, path: &Path) -> CommandError {
    let name = &credential.name;
    let path = path.display();
    CommandError::new(
        "credential.encrypted",
        format!(
            "credential `{name}` of app `{app}` is encrypted in `{path}`, and only systemd reads it"
        ),
    )
    .hint(format!("run the pod in a unit with `LoadCredentialEncrypted={name}`"))
}

/// One credential that is read.
#[derive(Clone, Copy, Debug)]
struct Reading<'r> {
    credential: &'r CredentialName,
    app: &'r AppName,
    path: &'r Path,
}

impl Reading<'_> {
    fn of(&self, rest: &str) -> String {
        let Self { credential, app, path } = self;
        format!("credential `{credential}` of app `{app}`: `{}` {rest}", path.display())
    }

    fn refused(&self, code: &str, rest: &str) -> CommandError {
        CommandError::new(code, self.of(rest))
    }

    /// Reads the file, which holds at most `room` bytes and must not change meanwhile.
    ///
    /// It is looked at through a descriptor that opens nothing before it is opened for reading.
    fn read(&self, room: u64) -> Result<Vec<u8>> {
        let look = open(self.path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let look = match look {
            Err(error @ (Errno::NOENT | Errno::NOTDIR)) => {
                return Err(self.refused("credential.missing", "is not there").because(&error));
            }
            other => other.context(|| self.of("cannot be opened"))?,
        };
        let stat = fstat(&look).context(|| self.of("cannot be looked at"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            let refused = self.refused("credential.kind", "is no regular file");
            return Err(refused.hint("a credential is read whole, from a file"));
        }
        // What the kernel makes up on reading has no length, and reading may take from it.
        let kind = fstatfs(&look).context(|| self.of("cannot be looked at"))?.f_type;
        if kind == PROC_SUPER_MAGIC {
            return Err(self.refused("credential.kind", "is no file, but the kernel's own words"));
        }
        let length = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        if length > room {
            let sentence =
                format!("has {length} bytes, and {room} are left for the pod's credentials");
            let most = format!(
                "all credentials of a pod hold at most {MAX_CREDENTIAL_BYTES} bytes together"
            );
            return Err(self.refused("credential.size", &sentence).hint(most));
        }
        let again = format!("/proc/self/fd/{}", look.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(CWD, again, flags, Mode::empty());
        let file = File::from(file.context(|| self.of("cannot be opened"))?);
        let mut bytes = Vec::new();
        let read = file.take(length.saturating_add(1)).read_to_end(&mut bytes);
        read.context(|| self.of("cannot be read"))?;
        if u64::try_from(bytes.len()) != Ok(length) {
            let refused = self.refused("credential.changes", "changes while it is read");
            return Err(refused.hint("write a new file and rename it over the old one"));
        }
        Ok(bytes)
    }
}

/// Puts a secret into memory that nobody can change afterwards.
fn sealed(bytes: &[u8]) -> Result<OwnedFd> {
    let tell = || "cannot make memory for a credential".to_owned();
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create("credential", flags).context(tell)?);
    file.write_all(bytes).context(tell)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&file, seals).context(tell)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{FileExt as _, symlink};

    fn credential(name: &str, path: Option<&str>) -> Credential {
        let name = CredentialName::parse(name).unwrap();
        Credential { name, path: path.map(str::to_owned) }
    }

    fn read(path: &Path, room: u64) -> std::result::Result<Vec<u8>, String> {
        let (credential, app) =
            (CredentialName::parse("key").unwrap(), AppName::parse("web").unwrap());
        let reading = Reading { credential: &credential, app: &app, path };
        reading.read(room).map_err(|error| error.code().to_owned())
    }

    #[test]
    fn what_the_unit_holds_comes_before_a_file_and_a_file_before_the_stores() {
        let own = Some(OsString::from("/run/credentials/pod.service"));
        let all = |_: &Path| true;
        let file = |path: &str| Some(Origin::File(path.into()));
        let (named, plain) = (credential("a", Some("/srv/a")), credential("a", None));
        assert_eq!(choose(&named, own.clone(), all), file("/run/credentials/pod.service/a"));
        assert_eq!(choose(&named, None, all), file("/srv/a"));
        assert_eq!(choose(&named, None, |_| false), file("/srv/a"));
        assert_eq!(choose(&plain, None, all), file("/run/credentials/@system/a"));
        let stored = |path: &Path| path.starts_with("/usr/lib");
        assert_eq!(choose(&plain, own, stored), file("/usr/lib/credstore/a"));
        let only = |path: &Path| path == Path::new("/run/credstore.encrypted/a");
        let found = choose(&plain, None, only);
        assert_eq!(found, Some(Origin::Encrypted("/run/credstore.encrypted/a".into())));
        assert_eq!(choose(&plain, None, |_| false), None);
        // A relative directory is none that a service manager has made.
        assert_eq!(choose(&plain, Some("secrets".into()), |path| path.is_relative()), None);
    }

    #[test]
    fn a_regular_file_is_read_whole_and_nothing_else_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("key"), b"secret\0\n").unwrap();
        fs::write(at("empty"), b"").unwrap();
        rustix::fs::mkfifoat(CWD, at("fifo"), Mode::from_raw_mode(0o600)).unwrap();
        symlink(at("key"), at("link")).unwrap();
        let of = |code: &str| Err(code.to_owned());
        assert_eq!(read(&at("key"), 8), Ok(b"secret\0\n".to_vec()));
        assert_eq!(read(&at("link"), 8), Ok(b"secret\0\n".to_vec()));
        assert_eq!(read(&at("empty"), 0), Ok(Vec::new()));
        assert_eq!(read(&at("key"), 7), of("credential.size"));
        assert_eq!(read(&at("missing"), 8), of("credential.missing"));
        assert_eq!(read(&at("key/x"), 8), of("credential.missing"));
        for none in [&at("fifo"), dir.path(), Path::new("/dev/zero"), Path::new("/proc/kmsg")] {
            assert_eq!(read(none, 8), of("credential.kind"), "{}", none.display());
        }
    }

    #[test]
    fn a_file_whose_length_is_not_what_it_holds_is_refused() {
        // An attribute of the kernel says it has a page, and holds a few bytes.
        assert_eq!(
            read(Path::new("/sys/kernel/uevent_seqnum"), 1 << 20),
            Err("credential.changes".to_owned())
        );
    }

    #[test]
    fn sealed_memory_holds_what_was_read_and_is_not_written_again() {
        let memory = File::from(sealed(b"secret").unwrap());
        let mut bytes = [0; 7];
        let length = memory.read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes[..length], b"secret");
        assert!((&memory).write_all(b"x").is_err());
    }
}
