//! What must be known to undo an attachment, on disk, and who may work on it now.
//!
//! ```text
//! DIRECTORY/                       ours alone: nobody else's garbage collection looks here
//!   lock                           shared: attaching, detaching. exclusive: garbage collection
//!   attachments/CONTAINER/
//!     lock                         exclusive: anything done to the container
//!     NETWORK@INTERFACE.json       what was asked for, and what came of it so far
//! ```
//!
//! A record is written before the first plugin runs and after every one that succeeds, so that a
//! kill at any moment leaves what DEL needs. It is renamed into place but not synced: what it undoes
//! is in the kernel and in files of plugins, which outlive no power cut more surely.
//!
//! Both locks are files whose content is what a plugin reads that works under them; see `exec`.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Network;
use crate::error::{Error, ErrorKind};
use crate::invocation::Args;
use crate::json::Object;
use crate::name::{Attachment, ContainerId};
use crate::version::Version;

/// What the first key of a record says.
const KIND: &str = "pod.cni.attachment/1";
/// The largest record, in bytes: a configuration and a result, with room.
const MAX_RECORD: u64 = 4 << 20;
/// How long to wait before a lock is tried again.
const PAUSE: Duration = Duration::from_millis(10);

/// What was asked for, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) network: Network,
    pub(crate) version: Version,
    pub(crate) args: Args,
    pub(crate) runtime_config: BTreeMap<String, Value>,
    /// How many plugins of the chain have succeeded.
    pub(crate) done: usize,
    /// The result of the last plugin that succeeded.
    pub(crate) result: Option<Value>,
}

/// A record as it is written.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    kind: String,
    network: Object,
    args: String,
    runtime_config: BTreeMap<String, Value>,
    done: usize,
    result: Option<Value>,
}

impl Record {
    /// Tells whether every plugin has succeeded.
    pub(crate) fn is_made(&self) -> bool {
        self.done >= self.network.plugins().len()
    }

    fn write(&self) -> Vec<u8> {
        let written = Written {
            kind: KIND.to_owned(),
            network: self.network.to_list(self.version),
            args: self.args.to_string(),
            runtime_config: self.runtime_config.clone(),
            done: self.done,
            result: self.result.clone(),
        };
        serde_json::to_vec(&written).expect("a record is JSON, maps with keys of text, and texts")
    }

    /// Reads a record; the error is why it cannot be one.
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let object = Object::parse(bytes).map_err(|error| error.to_string())?;
        let written: Written = object.read_whole().map_err(|error| error.to_string())?;
        if written.kind != KIND {
            return Err("it is no record of an attachment".to_owned());
        }
        let network = Network::parse(written.network.to_string().as_bytes())
            .map_err(|error| error.to_string())?;
        let [version] = network.versions() else {
            return Err("it has several versions".to_owned());
        };
        let version = *version;
        let args = Args::parse(&written.args).map_err(|error| error.to_string())?;
        let Written { runtime_config, done, result, .. } = written;
        Ok(Self { network, version, args, runtime_config, done, result })
    }
}

/// All records of a directory.
#[derive(Debug)]
pub(crate) struct Records {
    directory: PathBuf,
    /// How long somebody else may hold a lock.
    patience: Duration,
}

impl Records {
    /// Makes the directory if it is not there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Storage`].
    pub(crate) fn open(directory: PathBuf, patience: Duration) -> Result<Self, Error> {
        let attachments = directory.join("attachments");
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&attachments);
        made.map_err(|source| storage("make", &attachments, source))?;
        Ok(Self { directory, patience })
    }

    /// Keeps garbage collection away.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] if it is at work for longer than we have patience; [`ErrorKind::Storage`].
    pub(crate) fn share(&self) -> Result<Lock, Error> {
        self.wait(&self.directory.join("lock"), FlockOperation::NonBlockingLockShared)
    }

    /// Keeps everybody away.
    ///
    /// # Errors
    ///
    /// As [`Self::share`].
    pub(crate) fn exclude(&self) -> Result<Lock, Error> {
        self.wait(&self.directory.join("lock"), FlockOperation::NonBlockingLockExclusive)
    }

    /// Takes a container, and makes room for its records.
    ///
    /// # Errors
    ///
    /// As [`Self::share`].
    pub(crate) fn container(&self, id: &ContainerId) -> Result<Container, Error> {
        let directory = self.of(id);
        let deadline = Instant::now() + self.patience;
        loop {
            match Container::take(&directory)? {
                Taken::Ours(container) => return Ok(container),
                Taken::Busy if Instant::now() >= deadline => {
                    return Err(busy(&directory.join("lock"), self.patience));
                }
                Taken::Busy => thread::sleep(PAUSE),
                Taken::Vanished => {}
            }
        }
    }

    /// Takes a container if nobody works on it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Storage`].
    pub(crate) fn idle_container(&self, id: &ContainerId) -> Result<Option<Container>, Error> {
        match Container::take(&self.of(id))? {
            Taken::Ours(container) => Ok(Some(container)),
            Taken::Busy | Taken::Vanished => Ok(None),
        }
    }

    /// Lists containers that have records, or had until a kill, sorted.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Storage`].
    pub(crate) fn containers(&self) -> Result<Vec<ContainerId>, Error> {
        let names = names(&self.directory.join("attachments"))?;
        Ok(names.iter().filter_map(|name| ContainerId::parse(name).ok()).collect())
    }

    /// Lists the attachments of a container that there are records of, sorted; whether they can be
    /// read is another matter.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Storage`].
    pub(crate) fn of_container(&self, id: &ContainerId) -> Result<Vec<Attachment>, Error> {
        let names = names(&self.of(id))?;
        Ok(names.iter().filter_map(|name| attachment(id, name)).collect())
    }

    /// Reads the record of an attachment, whoever works on it: it is replaced as a whole.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Damaged`] if it cannot be read.
    pub(crate) fn read(&self, attachment: &Attachment) -> Result<Option<Record>, Error> {
        read(&self.of(&attachment.container).join(file_name(attachment)))
    }

    fn of(&self, id: &ContainerId) -> PathBuf {
        self.directory.join("attachments").join(id.as_str())
    }

    fn wait(&self, path: &Path, operation: FlockOperation) -> Result<Lock, Error> {
        let file = open_lock(path).map_err(|source| storage("open", path, source))?;
        let deadline = Instant::now() + self.patience;
        // Not `LOCK_EX` that waits: whoever waits so cannot be ended where signals are blocked.
        while !try_lock(&file, operation).map_err(|source| storage("lock", path, source))? {
            if Instant::now() >= deadline {
                return Err(busy(path, self.patience));
            }
            thread::sleep(PAUSE);
        }
        Ok(Lock(file))
    }
}

/// A lock that is held; it is given back when this is dropped, whoever has inherited the file.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// Returns the file, as the standard input of plugins.
    pub(crate) fn input(&self) -> &File {
        &self.0
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A daemon a plugin started may hold the same description; only this gives the lock back.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// A container nobody else works on. Its directory is removed when this is dropped with no record
/// left in it.
#[derive(Debug)]
pub(crate) struct Container {
    directory: PathBuf,
    lock: Lock,
}

enum Taken {
    Ours(Container),
    Busy,
    /// The directory was removed between making and locking it.
    Vanished,
}

impl Container {
    fn take(directory: &Path) -> Result<Taken, Error> {
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(storage("make", directory, error));
            }
            _ => {}
        }
        let path = directory.join("lock");
        let file = match open_lock(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Taken::Vanished),
            Err(error) => return Err(storage("open", &path, error)),
        };
        let locked = try_lock(&file, FlockOperation::NonBlockingLockExclusive);
        if !locked.map_err(|source| storage("lock", &path, source))? {
            return Ok(Taken::Busy);
        }
        let lock = Lock(file);
        if !is_still(&lock.0, &path).map_err(|source| storage("look at", &path, source))? {
            return Ok(Taken::Vanished);
        }
        Ok(Taken::Ours(Self { directory: directory.to_owned(), lock }))
    }

    /// Returns the file plugins read from while they work on this container.
    pub(crate) fn input(&self) -> &File {
        self.lock.input()
    }

    /// Reads a record; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Damaged`] if it cannot be read, whatever the reason.
    pub(crate) fn read(&self, attachment: &Attachment) -> Result<Option<Record>, Error> {
        read(&self.directory.join(file_name(attachment)))
    }

    /// Writes a record, in one step.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Storage`]; what was there stays.
    pub(crate) fn write(&self, attachment: &Attachment, record: &Record) -> Result<(), Error> {
        let path = self.directory.join(file_name(attachment));
        let aside = path.with_extension("new");
        let written = fs::write(&aside, record.write()).and_then(|()| fs::rename(&aside, &path));
        written.map_err(|source| storage("write", &path, source))
    }

    /// Removes a record, if there is one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Storage`].
    pub(crate) fn forget(&self, attachment: &Attachment) -> Result<(), Error> {
        let path = self.directory.join(file_name(attachment));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(storage("remove", &path, error))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let Ok(names) = names(&self.directory) else { return };
        if names.iter().any(|name| is_record(name)) {
            return;
        }
        // The lock goes last: until then nobody else comes in. Whoever waits for it notices.
        for name in names.iter().filter(|name| *name != "lock") {
            let _ = fs::remove_file(self.directory.join(name)); // of a write that was killed
        }
        let _ = fs::remove_file(self.directory.join("lock"));
        let _ = fs::remove_dir(&self.directory); // somebody may have begun anew in it
    }
}

/// Neither part can hold what separates them: a network's name has no `@`.
fn file_name(attachment: &Attachment) -> String {
    format!("{}@{}.json", attachment.network, attachment.if_name)
}

fn attachment(container: &ContainerId, file_name: &str) -> Option<Attachment> {
    let (network, if_name) = file_name.strip_suffix(".json")?.split_once('@')?;
    let (network, if_name) = (network.parse().ok()?, if_name.parse().ok()?);
    Some(Attachment { container: container.clone(), network, if_name })
}

fn is_record(file_name: &str) -> bool {
    file_name.ends_with(".json")
}

fn read(path: &Path) -> Result<Option<Record>, Error> {
    let damaged = |why: String| {
        let sentence = format!("the record `{}` cannot be read", path.display());
        Error::new(ErrorKind::Damaged, sentence).because(why)
    };
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(MAX_RECORD).read_to_end(&mut bytes)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(damaged(error.to_string())),
        Ok(_) => {}
    }
    Record::read(&bytes).map(Some).map_err(damaged)
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn try_lock(file: &File, operation: FlockOperation) -> io::Result<bool> {
    match flock(file, operation) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Tells whether `path` still is `file`: whoever held the lock before may have removed it.
fn is_still(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Lists the names in a directory, sorted; one that is not there has none.
fn names(directory: &Path) -> Result<Vec<String>, Error> {
    let list = || -> io::Result<Vec<String>> {
        let entries: Result<Vec<_>, _> = fs::read_dir(directory)?.collect();
        Ok(entries?.iter().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    };
    match list() {
        Ok(mut names) => {
            names.sort();
            Ok(names)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(storage("list", directory, error)),
    }
}

fn storage(verb: &str, path: &Path, source: io::Error) -> Error {
    Error::new(ErrorKind::Storage, format!("cannot {verb} `{}`", path.display())).because(source)
}

fn busy(lock: &Path, patience: Duration) -> Error {
    let seconds = patience.as_secs_f64();
    let sentence = format!("`{}` has been locked for {seconds} s", lock.display());
    Error::new(ErrorKind::Busy, sentence)
        .hint(format!("`fuser -v {}` shows who works on it", lock.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::slice;

    fn at(container: &str) -> Attachment {
        let container = container.parse().unwrap();
        Attachment {
            container,
            network: "a.b-c".parse().unwrap(),
            if_name: "e@0.json".parse().unwrap(),
        }
    }

    fn record() -> Record {
        let list = br#"{"cniVersion":"0.4.0","name":"a.b-c","plugins":[
            {"type":"bridge","big":123456789012345678901,"capabilities":{"ips":true}}]}"#;
        Record {
            network: Network::parse(list).unwrap(),
            version: Version::V0_4_0,
            args: Args::parse("A=1;B=2").unwrap(),
            runtime_config: [("ips".to_owned(), json!(["10.0.0.1"]))].into(),
            done: 1,
            result: Some(json!({"cniVersion": "0.4.0", "x": [1]})),
        }
    }

    fn records(directory: &tempfile::TempDir) -> Records {
        Records::open(directory.path().join("net"), Duration::from_millis(50)).unwrap()
    }

    #[test]
    fn a_record_comes_back_as_it_was_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let records = records(&directory);
        let attachment = at("pod-1");
        let container = records.container(&attachment.container).unwrap();
        assert_eq!(container.read(&attachment).unwrap(), None);
        container.write(&attachment, &record()).unwrap();
        drop(container);
        let id = slice::from_ref(&attachment.container);
        assert_eq!(records.containers().unwrap(), id);
        assert_eq!(records.of_container(&id[0]).unwrap(), slice::from_ref(&attachment));
        let container = records.container(&attachment.container).unwrap();
        let read = container.read(&attachment).unwrap().unwrap();
        assert_eq!(read.write(), record().write());
        assert!(String::from_utf8(read.write()).unwrap().contains(":123456789012345678901"));
        fs::write(container.directory.join("x@y.new"), "killed").unwrap();
        container.forget(&attachment).unwrap();
        container.forget(&attachment).unwrap();
        drop(container);
        assert!(records.containers().unwrap().is_empty());
        assert_eq!(fs::read_dir(directory.path().join("net/attachments")).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_record_is_told_apart_from_none() {
        let directory = tempfile::tempdir().unwrap();
        let records = records(&directory);
        let attachment = at("pod-1");
        let container = records.container(&attachment.container).unwrap();
        let path = container.directory.join(file_name(&attachment));
        let whole = record().write();
        let deep = "[".repeat(100_000);
        for bytes in [&b""[..], b"{}", b"\0\0\0", &whole[..whole.len() / 2], deep.as_bytes()] {
            fs::write(&path, bytes).unwrap();
            let error = container.read(&attachment).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged);
        }
    }

    #[test]
    fn a_container_is_worked_on_by_one_alone() {
        let directory = tempfile::tempdir().unwrap();
        let records = records(&directory);
        let id = "pod-1".parse().unwrap();
        let held = records.container(&id).unwrap();
        let inherited = held.input().try_clone().unwrap();
        assert_eq!(records.container(&id).unwrap_err().kind(), ErrorKind::Busy);
        assert!(records.idle_container(&id).unwrap().is_none());
        assert!(records.idle_container(&"pod-2".parse().unwrap()).unwrap().is_some());
        drop(held);
        assert!(records.container(&id).is_ok(), "what a daemon inherited does not count");
        drop(inherited);
    }

    #[test]
    fn who_waits_for_a_container_that_goes_begins_anew() {
        let directory = tempfile::tempdir().unwrap();
        let records = Records::open(directory.path().join("net"), Duration::from_secs(20)).unwrap();
        let id: ContainerId = "pod-1".parse().unwrap();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let container = records.container(&id).unwrap();
                        let path = container.directory.join("x@y.json");
                        assert!(File::create_new(&path).is_ok(), "nobody else is in there");
                        fs::remove_file(&path).unwrap();
                    }
                });
            }
        });
        assert!(records.containers().unwrap().is_empty());
    }

    #[test]
    fn garbage_is_collected_alone() {
        let directory = tempfile::tempdir().unwrap();
        let records = records(&directory);
        let (one, two) = (records.share().unwrap(), records.share().unwrap());
        assert_eq!(records.exclude().unwrap_err().kind(), ErrorKind::Busy);
        drop((one, two));
        let alone = records.exclude().unwrap();
        assert_eq!(records.share().unwrap_err().kind(), ErrorKind::Busy);
        drop(alone);
        assert!(records.share().is_ok());
    }
}
