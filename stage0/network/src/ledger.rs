//! What is kept on disk: who has which addresses and ports.
//!
//! ```text
//! STATE/            0700
//!   lock            held while the ledger is read and written, for a moment
//!   table.lock      shared by whoever adds to our table of rules, exclusive for whoever writes it anew
//!   default.json    the subnets (`subnet`)
//!   ledger.json     the attachments; replaced whole, never written in place
//! ```
//!
//! An entry is written before anything is done to the host and taken out after everything is undone.
//! It counts only while its pod lives, so what a kill leaves is void, and is thrown out by the next
//! who wants what it claims, or by `collect`. A ledger that cannot be read, after a power cut, is one
//! whose pods have all ended: it is set aside.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use pod_abi::network::Publication;

use crate::attachment::{Network, Owner};
use crate::error::{Context, Error, ErrorKind, Result};

/// The version of the file.
const VERSION: u32 = 1;

/// One attachment: what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Whose.
    #[serde(flatten)]
    pub owner: Owner,
    /// In which network.
    pub network: Network,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
    /// Its ports of the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Publication>,
}

/// Which numbers of a subnet come next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Turn {
    /// Where the search goes on.
    pub(crate) next: u32,
    /// The numbers given back last, the latest at the end.
    pub(crate) freed: VecDeque<u32>,
}

/// All there is to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    version: u32,
    pub(crate) turns: BTreeMap<Network, Turn>,
    pub(crate) entries: Vec<Entry>,
}

impl Ledger {
    /// Returns the entry of an owner.
    pub(crate) fn of(&self, owner: &Owner) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.owner == *owner)
    }
}

/// What every version of the file has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// The directory of it all.
#[derive(Clone, Debug)]
pub(crate) struct State(PathBuf);

/// A held lock; it is given back with its file.
#[derive(Debug)]
pub(crate) struct Held(#[expect(dead_code, reason = "its lock is what matters")] File);

impl State {
    /// Opens the directory, making it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .context(ErrorKind::Storage, || {
                format!("cannot make the directory `{}`", path.display())
            })?;
        Ok(Self(path.to_owned()))
    }

    /// Waits for the ledger and reads it. Whoever changes it writes it with [`Self::write`] before
    /// the lock goes.
    pub(crate) fn lock(&self) -> Result<(Held, Ledger)> {
        let held = self.hold("lock", FlockOperation::LockExclusive)?;
        let ledger = self.read()?;
        Ok((held, ledger))
    }

    /// Reads the ledger as it is at this moment.
    pub(crate) fn read(&self) -> Result<Ledger> {
        let Some(text) = self.text("ledger.json")? else { return Ok(Ledger::default()) };
        let version = serde_json::from_str::<Versioned>(&text).map(|document| document.version);
        if let Some(version) = version.ok().filter(|version| *version != VERSION) {
            let message = format!("`ledger.json` has version {version}, which is not known here");
            return Err(Error::new(ErrorKind::Storage, message)
                .hint("another version of `pod` has written it: use that one"));
        }
        if let Ok(ledger) = serde_json::from_str(&text) {
            return Ok(ledger);
        }
        let (from, to) = (self.0.join("ledger.json"), self.0.join("ledger.json.unreadable"));
        fs::rename(from, to).context(ErrorKind::Storage, || {
            "cannot set aside the unreadable `ledger.json`".to_owned()
        })?;
        Ok(Ledger::default())
    }

    /// Replaces the ledger.
    ///
    /// Nothing is synced: after a power cut no pod lives, and an older ledger or none says the same.
    pub(crate) fn write(&self, _: &Held, ledger: &mut Ledger) -> Result<()> {
        ledger.version = VERSION;
        let text = serde_json::to_string(ledger)
            .map_err(io::Error::from)
            .context(ErrorKind::Storage, || "cannot write down who has which address".to_owned())?;
        self.replace("ledger.json", &text, false)
    }

    /// Joins those who add to and take from our table of rules.
    pub(crate) fn join_table(&self) -> Result<Held> {
        self.hold("table.lock", FlockOperation::LockShared)
    }

    /// Waits until nobody else touches our table of rules.
    pub(crate) fn own_table(&self) -> Result<Held> {
        self.hold("table.lock", FlockOperation::LockExclusive)
    }

    /// Reads a file; `None` if it is not there.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>> {
        let mut text = String::new();
        let read =
            File::open(self.0.join(name)).and_then(|mut file| file.read_to_string(&mut text));
        match read {
            Ok(_) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context(ErrorKind::Storage, || self.told("read", name)),
        }
    }

    /// Replaces a file so that it lasts.
    pub(crate) fn keep(&self, _: &Held, name: &str, text: &str) -> Result<()> {
        self.replace(name, text, true)
    }

    fn replace(&self, name: &str, text: &str, lasting: bool) -> Result<()> {
        let temporary = self.0.join(format!("{name}.new"));
        let write = || {
            let mut file = File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(text.as_bytes())?;
            if lasting {
                file.sync_all()?;
            }
            fs::rename(&temporary, self.0.join(name))?;
            if lasting {
                File::open(&self.0)?.sync_all()?;
            }
            Ok::<(), io::Error>(())
        };
        write().context(ErrorKind::Storage, || self.told("write", name))
    }

    fn hold(&self, name: &str, how: FlockOperation) -> Result<Held> {
        let told = || self.told("lock", name);
        let options = || {
            File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(self.0.join(name))
        };
        let file = options().context(ErrorKind::Storage, told)?;
        loop {
            match flock(&file, how) {
                Ok(()) => return Ok(Held(file)),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context(ErrorKind::Storage, told),
            }
        }
    }

    fn told(&self, verb: &str, name: &str) -> String {
        format!("cannot {verb} `{}`", self.0.join(name).display())
    }
}
