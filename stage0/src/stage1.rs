//! Picks a stage1, checks that we understand each other, hands over descriptors, and execs.
//!
//! The table of what is handed over is [`pod_abi::stage`]. Nothing of a pod is touched before the
//! versions have met; after the `exec` there is no stage0 any more.

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use pod_abi::finding::Finding;
use pod_abi::stage::{
    LayerForm, MAX_FINDINGS, Order, Overhead, STAGE1_MANIFEST, Stage1Manifest, fd,
};
use pod_abi::version;
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::fcntl_dupfd_cloexec;

use crate::error::{CommandError, Context as _, Result};

/// The longest `stage1.json` read, in bytes.
const MAX_MANIFEST: u64 = 1 << 16;
/// Where a package puts them.
const PACKAGED: &str = "/usr/lib/pod/stage1";

/// A stage1 that understands us.
#[derive(Debug)]
pub(crate) struct Stage1 {
    /// Its name.
    pub(crate) name: String,
    program: PathBuf,
    /// What tells of the host, if something does.
    doctor: Option<PathBuf>,
    layers: LayerForm,
    /// What it takes itself of what a pod may use.
    pub(crate) overhead: Overhead,
}

/// What a stage1 is given.
#[derive(Clone, Debug)]
pub(crate) struct Handover<'h> {
    /// The pod's directory, whose lock we hold through this very descriptor.
    pub(crate) pod: BorrowedFd<'h>,
    /// What is to be run.
    pub(crate) order: &'h Order,
    /// The directory beneath which all layers lie.
    pub(crate) layers: BorrowedFd<'h>,
    /// The run directory.
    pub(crate) run: BorrowedFd<'h>,
    /// The locked lease of ids.
    pub(crate) ids: Option<BorrowedFd<'h>>,
    /// The sockets, then the credentials.
    pub(crate) row: Vec<BorrowedFd<'h>>,
}

/// Finds the stage1 called `word`, or at this absolute directory.
///
/// # Errors
///
/// `stage1.not-found`, `stage1.invalid`, or `stage1.version`.
pub(crate) fn find(word: &str) -> Result<Stage1> {
    let directories = candidates(word);
    let Some(directory) = directories.iter().find(|dir| dir.join(STAGE1_MANIFEST).exists()) else {
        let looked: Vec<String> =
            directories.iter().map(|dir| format!("`{}`", dir.display())).collect();
        let hint = match &looked[..] {
            [] => "a stage1 is given by its name, or by an absolute directory".to_owned(),
            looked => format!("it was looked for in {}", looked.join(", ")),
        };
        return Err(CommandError::new("stage1.not-found", format!("there is no stage1 `{word}`"))
            .hint(hint));
    };
    let path = directory.join(STAGE1_MANIFEST);
    let invalid =
        || CommandError::new("stage1.invalid", format!("`{}` is no stage1", path.display()));
    let mut text = String::with_capacity(1024);
    fs::File::open(&path)
        .and_then(|file| file.take(MAX_MANIFEST).read_to_string(&mut text))
        .context(|| format!("cannot read `{}`", path.display()))?;
    let manifest: Stage1Manifest =
        serde_json::from_str(&text).map_err(|error| invalid().because(&error))?;
    if !manifest.abi.contains(version::STAGE_ABI) {
        return Err(CommandError::new(
            "stage1.version",
            format!(
                "stage1 `{}` understands versions {} to {} of the stage ABI, this program speaks {}",
                manifest.name, manifest.abi.oldest, manifest.abi.newest, version::STAGE_ABI
            ),
        )
        .hint("install `pod` and its stage1 from one release"));
    }
    let beneath = |program: &String| {
        let path = Path::new(program);
        let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        if inside { Ok(directory.join(path)) } else { Err(invalid()) }
    };
    Ok(Stage1 {
        program: beneath(&manifest.entrypoints.run)?,
        doctor: manifest.entrypoints.doctor.as_ref().map(beneath).transpose()?,
        name: manifest.name,
        layers: manifest.layers,
        overhead: manifest.overhead,
    })
}

impl Stage1 {
    /// Tells whether it mounts layers itself, elsewhere than on this host.
    pub(crate) fn takes_images(&self) -> bool {
        self.layers == LayerForm::Images
    }

    /// Tells whether it can be given layers as images.
    pub(crate) fn can_take_images(&self) -> bool {
        self.layers != LayerForm::Trees
    }

    /// Asks it what its pods need of this host; nothing, if it has nothing to tell.
    ///
    /// # Errors
    ///
    /// `stage1.exec` if its program cannot be executed or fails, `stage1.invalid` if it tells what
    /// cannot be understood.
    pub(crate) fn findings(&self) -> Result<Vec<Finding>> {
        let Some(program) = &self.doctor else { return Ok(Vec::new()) };
        let tell = || format!("cannot ask `{}` what it needs", program.display());
        let mut command = Command::new(program);
        command.arg("doctor").env_clear().stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| CommandError::new("stage1.exec", tell()).because(&error))?;
        let mut text = Vec::new();
        if let Some(output) = child.stdout.take() {
            output.take(MAX_FINDINGS).read_to_end(&mut text).context(tell)?;
        }
        let status = child.wait().context(tell)?;
        if !status.success() {
            let why = format!("`{}` ended with {status}", program.display());
            return Err(CommandError::new("stage1.exec", why));
        }
        serde_json::from_slice(&text)
            .map_err(|error| CommandError::new("stage1.invalid", tell()).because(&error))
    }
}

fn candidates(word: &str) -> Vec<PathBuf> {
    if word.starts_with('/') {
        return vec![PathBuf::from(word)];
    }
    if word.contains('/') || word == ".." || word == "." {
        return Vec::new();
    }
    let mut directories = Vec::new();
    if let Ok(program) = env::current_exe()
        && let Some(home) = program.parent()
    {
        directories.push(home.join("stage1").join(word));
        if let Some(prefix) = home.parent() {
            directories.push(prefix.join("lib/pod/stage1").join(word));
        }
    }
    directories.push(Path::new(PACKAGED).join(word));
    directories.dedup();
    directories
}

/// Becomes the stage1. Returns only if that is not possible; then descriptors 3 to 8 of this
/// process, and from 16 on as many as the row has, are those of the table, whatever they were, and
/// nothing may be done through others.
pub(crate) fn hand_over(stage1: &Stage1, handover: &Handover<'_>) -> CommandError {
    match place_all(handover) {
        Ok(()) => {}
        Err(error) => return error,
    }
    let mut command = Command::new(&stage1.program);
    command.arg("run").env_clear();
    if let Some(socket) = env::var_os("NOTIFY_SOCKET") {
        command.env("NOTIFY_SOCKET", socket);
    }
    let error = command.exec();
    CommandError::new(
        "stage1.exec",
        format!("cannot execute stage1 `{}`", stage1.program.display()),
    )
    .because(&error)
}

/// Opens this very program, for a stage1 to become when the pod has ended.
fn open_self() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, "/proc/self/exe", flags, Mode::empty())
        .context(|| "cannot open `/proc/self/exe`".to_owned())
}

/// Places every descriptor of the table:
///
/// 1. all are copied above the table, so that placing one cannot overwrite another;
/// 2. whatever our caller has left open is marked to be closed, so that it does not live on in a
///    supervisor;
/// 3. each takes its number.
fn place_all(handover: &Handover<'_>) -> Result<()> {
    let order = sealed(handover.order)?;
    let program = open_self()?;
    let row = handover.row.iter().map(|fd| Some(*fd));
    let table = [
        (fd::POD, Some(handover.pod)),
        (fd::ORDER, Some(order.as_fd())),
        (fd::SELF, Some(program.as_fd())),
        (fd::LAYERS, Some(handover.layers)),
        (fd::RUN, Some(handover.run)),
        (fd::IDS, handover.ids),
    ];
    rustix::process::fchdir(handover.pod)
        .context(|| "cannot enter the pod's directory".to_owned())?;
    // A number above all of the table, where descriptors wait while they are placed.
    let above = i32::try_from(handover.row.len()).map_or(i32::MAX, |count| fd::FIRST + count);
    let mut copies = Vec::new();
    for (at, source) in table.into_iter().chain((fd::FIRST..).zip(row)) {
        if let Some(source) = source {
            let copy = fcntl_dupfd_cloexec(source, above)
                .context(|| format!("cannot copy descriptor {at} of the stage ABI"))?;
            copies.push((at, copy));
        }
    }
    // What is closed after a number has been placed might be that very number.
    drop((order, program));
    pod_sys::close_on_exec_from(3).context(|| "cannot mark descriptors".to_owned())?;
    for (at, copy) in &copies {
        pod_sys::place(copy.as_fd(), *at)
            .context(|| format!("cannot place descriptor {at} of the stage ABI"))?;
    }
    Ok(())
}

/// Writes the order into memory that nobody can change afterwards.
fn sealed(order: &Order) -> Result<OwnedFd> {
    let tell = || "cannot write the order".to_owned();
    let bytes =
        serde_json::to_vec(order).map_err(|error| CommandError::of("internal.json", &error))?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = fs::File::from(rustix::fs::memfd_create("order", flags).context(tell)?);
    file.write_all(&bytes).context(tell)?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).context(tell)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals).context(tell)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage1(manifest: &str) -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(STAGE1_MANIFEST), manifest).unwrap();
        let word = dir.path().to_str().unwrap().to_owned();
        (dir, word)
    }

    #[test]
    fn a_stage1_of_another_version_is_refused_before_anything_is_touched() {
        let manifest = |oldest, newest, run| {
            format!(
                r#"{{"name":"x","abi":{{"oldest":{oldest},"newest":{newest}}},"entrypoints":{{"run":"{run}"}}}}"#
            )
        };
        let code = |text: &str| {
            let (_dir, word) = stage1(text);
            find(&word).map_err(|error| error.code().to_owned()).map(|_| ()).err()
        };
        assert_eq!(code(&manifest(1, version::STAGE_ABI, "run")), None);
        assert_eq!(code(&manifest(98, 99, "run")).as_deref(), Some("stage1.version"));
        for run in ["../run", "/bin/sh", "a/../../b"] {
            assert_eq!(
                code(&manifest(1, version::STAGE_ABI, run)).as_deref(),
                Some("stage1.invalid"),
                "{run}"
            );
        }
        assert_eq!(code("{}").as_deref(), Some("stage1.invalid"));
    }

    #[test]
    fn a_stage1_that_is_nowhere_is_named_with_the_places_looked_at() {
        let error = find("nope").unwrap_err();
        assert_eq!(error.code(), "stage1.not-found");
        assert!(error.report().hints[0].contains(PACKAGED));
        assert_eq!(find("a/b").unwrap_err().code(), "stage1.not-found");
    }
}
