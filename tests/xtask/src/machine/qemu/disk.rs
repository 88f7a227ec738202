//! The disk a machine of QEMU boots from: the root and what goes into it as one ext4 image, kept
//! by content in `target/machine/`.
//!
//! QEMU never writes to it: what a machine changes lies in a file of its own, which has no name and
//! ends with it. Whoever uses an image holds a lock on it, and only images nobody uses are removed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};

use harness::image::digest;
use nix::fcntl::{Flock, FlockArg};
use tempfile::{NamedTempFile, TempDir};

use crate::error::Error;
use crate::machine::root;

/// How large the file system is, most of it free. The image is sparse.
const SIZE: &str = "6G";
/// What images begin with, and what follows.
const NAME: (&str, &str) = ("disk-", ".ext4");
/// The unit of the program that runs what we ask for. udev would load what guests of our own need,
/// too, but at a time of its own; which of the two modules it is, the processor decides.
const UNIT: &str = "machine-agent.service";
const AGENT: &str = "[Unit]
Description=Runs what is asked for from outside
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target

[Service]
ExecStartPre=modprobe --all virtio_pci virtio_console
ExecStartPre=-modprobe --all --quiet kvm_amd kvm_intel
ExecStart=/usr/lib/pod-tests/agent
Restart=always
RestartSec=1
KillMode=process
OOMScoreAdjust=-1000
";

/// Units nobody needs here beside those that are masked in every machine.
const MASKED: [&str; 3] =
    ["modprobe@drm.service", "systemd-update-utmp-runlevel.service", "systemd-update-utmp.service"];
/// Where the programs lie that make units of `fstab`, partitions and scripts the root does not have:
/// a second of every boot.
const GENERATORS: &str = "usr/lib/systemd/system-generators";
/// As on any computer, it stays the same from boot to boot.
const MACHINE_ID: &str = "6d616368696e65206f6620706f642121\n";

/// The disk of one machine.
#[derive(Debug)]
pub(super) struct Disk {
    /// What the machine has written, in QEMU's own format.
    changes: File,
    /// The image beneath, which stays as long as this is held.
    _image: Flock<File>,
}

impl Disk {
    /// Returns where QEMU finds it, in the format `qcow2`, as long as this is held.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", process::id(), self.changes.as_raw_fd()))
    }

    /// Makes a fresh disk that begins as `root` with the tree `payload` laid over it.
    pub(super) fn of(root: &Path, payload: &Path) -> Result<Self, Error> {
        let failed = |error: io::Error| Error::of("cannot make the machine's disk", &error);
        let name = name(root, payload).map_err(failed)?;
        let path = root::directory().join(name);
        // Whoever removes old images may be faster than our lock.
        for _ in 0..3 {
            if !path.exists() {
                make(root, payload, &path)?;
            }
            if let Some(held) = hold(&path, FlockArg::LockShared) {
                remove_unused(&path);
                return Ok(Self { changes: changes(&path)?, _image: held });
            }
        }
        Err(Error::new(format!("`{}` goes away as often as it is made", path.display())))
    }
}

/// Makes an empty file of changes to `image`.
fn changes(image: &Path) -> Result<File, Error> {
    let failed = |error: io::Error| Error::of("cannot make the machine's disk", &error);
    let file = NamedTempFile::new_in(root::directory()).map_err(failed)?;
    let mut create = Command::new("qemu-img");
    create.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(image).arg(file.path());
    run(&mut create)?;
    // The name goes; what is open stays.
    Ok(file.into_file())
}

fn name(root: &Path, payload: &Path) -> io::Result<String> {
    // The name of the root is the digest of its recipe.
    let of_root = root.file_name().unwrap_or(root.as_os_str()).display();
    let mut inputs = format!("{SIZE}\n{AGENT}\n{MASKED:?}\n{MACHINE_ID}{of_root}\n").into_bytes();
    contents(payload, Path::new(""), &mut inputs)?;
    let digest = digest(&inputs);
    let short = digest.trim_start_matches("sha256:").get(..16).unwrap_or(&digest).to_owned();
    Ok(format!("{}{short}{}", NAME.0, NAME.1))
}

/// Adds to `inputs` what is in the tree, in an order that is always the same.
fn contents(top: &Path, tree: &Path, inputs: &mut Vec<u8>) -> io::Result<()> {
    let mut entries = fs::read_dir(top.join(tree))?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let metadata = entry.metadata()?;
        let inside = tree.join(entry.file_name());
        inputs.extend(format!("{}\0{:o}\0", inside.display(), metadata.mode()).bytes());
        if metadata.is_dir() {
            contents(top, &inside, inputs)?;
        } else if metadata.is_symlink() {
            inputs.extend(fs::read_link(&path)?.into_os_string().into_encoded_bytes());
        } else {
            let mut bytes = Vec::new();
            File::open(&path)?.read_to_end(&mut bytes)?;
            inputs.extend(digest(&bytes).into_bytes());
        }
        inputs.push(b'\n');
    }
    Ok(())
}

fn make(root: &Path, payload: &Path, path: &Path) -> Result<(), Error> {
    let failed = |error: io::Error| Error::of("cannot make the machine's disk", &error);
    let staging = TempDir::new_in(root::directory()).map_err(failed)?;
    let tree = staging.path().join("tree");
    // The root is not copied: its files get second names. Those of the payload take their place.
    run(Command::new("cp").args(["--archive", "--link", "-T"]).arg(root).arg(&tree))?;
    run(Command::new("cp")
        .args(["--archive", "--remove-destination", "-T"])
        .arg(payload)
        .arg(&tree))?;
    settle(root, &tree).map_err(failed)?;
    let image = staging.path().join("image");
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-m", "0", "-E", "lazy_itable_init=0", "-d"]);
    run(mke2fs.arg(&tree).arg(&image).arg(SIZE))?;
    fs::rename(&image, path).map_err(failed)
}

/// Adds what makes `tree` a machine that takes orders, and takes out what only costs it time.
fn settle(root: &Path, tree: &Path) -> io::Result<()> {
    let units = tree.join("etc/systemd/system");
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants)?;
    fs::write(units.join(UNIT), AGENT)?;
    symlink(Path::new("..").join(UNIT), wants.join(UNIT))?;
    for unit in MASKED {
        symlink("/dev/null", units.join(unit))?;
    }
    let masks = tree.join("etc/systemd/system-generators");
    fs::create_dir_all(&masks)?;
    for generator in fs::read_dir(root.join(GENERATORS))? {
        symlink("/dev/null", masks.join(generator?.file_name()))?;
    }
    // It shares its file with the root: another must take its place.
    let id = tree.join("etc/machine-id");
    fs::remove_file(&id)?;
    fs::write(&id, MACHINE_ID)
}

fn run(command: &mut Command) -> Result<(), Error> {
    let said = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Error::of(&format!("cannot run {:?}", command.get_program()), &error))?;
    if said.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    Err(Error::of(&format!("{:?} ended with {}", command.get_program(), said.status), &text.trim()))
}

/// Locks the image, unless it is not there any more or somebody holds it otherwise.
fn hold(path: &Path, how: FlockArg) -> Option<Flock<File>> {
    let held = Flock::lock(File::open(path).ok()?, how).ok()?;
    let same = held.metadata().ok()?.ino() == fs::metadata(path).ok()?.ino();
    same.then_some(held)
}

fn remove_unused(current: &Path) {
    for entry in fs::read_dir(root::directory()).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_image = name.starts_with(NAME.0) && name.ends_with(NAME.1);
        if !is_image || path == current {
            continue;
        }
        if let Some(_held) = hold(&path, FlockArg::LockExclusiveNonblock) {
            // Somebody else may have been faster.
            let _ = fs::remove_file(&path);
        }
    }
}
