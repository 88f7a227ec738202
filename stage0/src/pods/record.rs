//! Reading and writing the records in a pod's directory.
//!
//! What is read is bounded and may come from a newer or a broken writer; what is written is
//! written once, under its final name, before the pod moves to where others may look.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::BorrowedFd;

use pod_abi::app::AppSpec;
use pod_abi::check::check_version;
use pod_abi::manifest::{AppList, PodLimits, PodManifest};
use pod_abi::status::PodStatus;
use pod_abi::{AppName, Report, layout};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;
use serde::de::DeserializeOwned;

use super::Pod;
use crate::error::{CommandError, Context as _, Result};

/// The longest record read, in bytes: 64 apps of a frame's length each would not fit, and no
/// honest pod comes near it.
const MAX_RECORD: u64 = 16 << 20;
/// What a new status is called until it takes the old one's place.
const STATUS_TEMPORARY: &str = "status.json.reaped";

impl Pod {
    /// Reads the sandbox's manifest; its list of apps and its limits are those in force.
    ///
    /// # Errors
    ///
    /// `pod.corrupt` if it is missing or not understood.
    pub(crate) fn manifest(&self) -> Result<PodManifest> {
        if let Some(known) = self.manifest.get() {
            return Ok(PodManifest::clone(known));
        }
        let mut manifest: PodManifest =
            self.read(layout::MANIFEST)?.ok_or_else(|| self.corrupt(layout::MANIFEST))?;
        if check_version(manifest.version).is_err() || manifest.uuid != self.id {
            return Err(self.corrupt(layout::MANIFEST));
        }
        if let Some(list) = self.read::<AppList>(layout::APP_LIST)? {
            if check_version(list.version).is_err() {
                return Err(self.corrupt(layout::APP_LIST));
            }
            manifest.sandbox.apps = list.apps;
        }
        if let Some(limits) = self.read::<PodLimits>(layout::LIMITS)? {
            if check_version(limits.version).is_err() || !limits.resources.is_sound() {
                return Err(self.corrupt(layout::LIMITS));
            }
            manifest.sandbox.resources = limits.resources;
        }
        Ok(PodManifest::clone(self.manifest.get_or_init(|| Box::new(manifest))))
    }

    /// Reads what is recorded of its latest run; `None` if it has never run.
    ///
    /// # Errors
    ///
    /// `pod.corrupt` if the record is not understood.
    pub(crate) fn status(&self) -> Result<Option<PodStatus>> {
        self.read(layout::STATUS)
    }

    /// Replaces what is recorded of its latest run. Only for who holds its lock.
    ///
    /// # Errors
    ///
    /// `storage`; the old record is still there, whole.
    pub(crate) fn replace_status(&self, status: &PodStatus) -> Result<()> {
        let tell = || format!("cannot replace `{}` of pod `{}`", layout::STATUS, self.id);
        let bytes = serde_json::to_vec(status)
            .map_err(|error| CommandError::of("internal.json", &error))?;
        let _ = unlinkat(self.dir(), STATUS_TEMPORARY, AtFlags::empty()); // there is none, mostly
        write_file(self.dir(), STATUS_TEMPORARY, &bytes)?;
        renameat(self.dir(), STATUS_TEMPORARY, self.dir(), layout::STATUS).context(tell)
    }

    /// Reads why its latest start failed before there was a supervisor to record it, if that was so.
    pub(crate) fn start_error(&self) -> Option<Report> {
        // Who cannot read the reason has lost it, and nothing else.
        self.read::<Report>(layout::START_ERROR).ok().flatten().map(Report::tamed)
    }

    /// Records why a start failed.
    pub(crate) fn record_start_error(&self, report: &Report) {
        self.forget_start_error();
        if let Ok(bytes) = serde_json::to_vec(report) {
            // Whoever waits is told of a start without a word, if this fails.
            let _ = write_file(self.dir(), layout::START_ERROR, &bytes);
        }
    }

    /// Forgets why an earlier start failed.
    pub(crate) fn forget_start_error(&self) {
        let _ = unlinkat(self.dir(), layout::START_ERROR, AtFlags::empty()); // there is none, mostly
    }

    /// Reads the newest generation of each app, in the manifest's order.
    ///
    /// # Errors
    ///
    /// `pod.corrupt` if one is missing or not understood.
    pub(crate) fn apps(&self, manifest: &PodManifest) -> Result<Vec<AppSpec>> {
        manifest.sandbox.apps.iter().map(|name| self.app(name)).collect()
    }

    /// Reads what it was made from: its manifest and its apps as they were first written. `None` if
    /// an app of those is gone by now.
    ///
    /// # Errors
    ///
    /// `pod.corrupt` if something is not understood.
    pub(crate) fn original(&self) -> Result<Option<(PodManifest, Vec<AppSpec>)>> {
        let Some(manifest) = self.read::<PodManifest>(layout::MANIFEST)? else { return Ok(None) };
        let first = |name| self.read::<AppSpec>(&layout::app_spec(name, 0));
        let apps: Vec<Option<AppSpec>> =
            manifest.sandbox.apps.iter().map(first).collect::<Result<_>>()?;
        let apps: Option<Vec<AppSpec>> = apps.into_iter().collect();
        Ok(apps.map(|apps| (manifest, apps)))
    }

    /// Reads the newest generation of one app.
    ///
    /// # Errors
    ///
    /// `pod.corrupt` if it is missing or not understood.
    pub(crate) fn app(&self, name: &AppName) -> Result<AppSpec> {
        // Generation 0 is nearly always the only one, but that takes a look at the directory.
        let generation = self.newest(name).ok_or_else(|| self.corrupt(&layout::app(name)))?;
        let path = layout::app_spec(name, generation);
        self.read(&path)?.ok_or_else(|| self.corrupt(&path))
    }

    /// Returns the number of the newest generation of an app.
    pub(super) fn newest(&self, name: &AppName) -> Option<u32> {
        let dir = self.open(&layout::app(name), super::DIRECTORY).ok()?;
        let entries = Dir::new(dir).ok()?;
        let files =
            entries.filter_map(|entry| layout::generation(entry.ok()?.file_name().to_str().ok()?));
        files.max()
    }

    /// Reads the digests this pod keeps in the image store.
    ///
    /// # Errors
    ///
    /// `storage` if there are some and they cannot be read.
    pub(crate) fn pins(&self) -> Result<Vec<pod_abi::Digest>> {
        let Some(bytes) = self.read_bytes(layout::PINS)? else { return Ok(Vec::new()) };
        let text = String::from_utf8_lossy(&bytes);
        let parse =
            |line: &str| pod_abi::Digest::parse(line).map_err(|_| self.corrupt(layout::PINS));
        text.lines().map(parse).collect()
    }

    fn read<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        let Some(bytes) = self.read_bytes(path)? else { return Ok(None) };
        let read = serde_json::from_slice(&bytes);
        read.map(Some).map_err(|error| self.corrupt(path).because(&error))
    }

    fn read_bytes(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let fd = match self.open(path, OFlags::RDONLY | OFlags::NOFOLLOW) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => {
                return Err(error).context(|| format!("cannot open `{path}` of pod `{}`", self.id));
            }
        };
        // Room for nearly every record, so that one read takes it.
        let mut bytes = Vec::with_capacity(4096);
        File::from(fd)
            .take(MAX_RECORD)
            .read_to_end(&mut bytes)
            .context(|| format!("cannot read `{path}` of pod `{}`", self.id))?;
        Ok(Some(bytes))
    }

    fn corrupt(&self, path: &str) -> CommandError {
        CommandError::new("pod.corrupt", format!("pod `{}` has no usable `{path}`", self.id))
            .hint(format!("`pod rm {}` removes it", self.id))
    }
}

/// Writes a new file beneath `dir`.
///
/// # Errors
///
/// `storage`; a part of the file may be there.
pub(crate) fn write_file(dir: BorrowedFd<'_>, path: &str, bytes: &[u8]) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(dir, path, flags, Mode::from_raw_mode(0o600))
        .context(|| format!("cannot make file `{path}`"))?;
    File::from(fd).write_all(bytes).context(|| format!("cannot write file `{path}`"))
}

/// Returns the directory of an app's logs, beneath its pod's.
pub(crate) fn log_directory(app: &AppName) -> String {
    format!("{}/{}", layout::app(app), layout::LOG)
}
