//! The images that tests share, written once and kept by content under `target/fixtures/`.
//!
//! | name | holds | for |
//! |---|---|---|
//! | `busybox` | busybox with its applets, users | the demo |
//! | `app` | the same and the probe | nearly everything |
//! | `scratch` | the probe alone | images without a shell, `/etc` or `/tmp` |
//! | `debian` | a minimal Debian by `mmdebstrap` | the demo, large images |
//!
//! The directory above holds the digest of everything that went in, so that no stale image is ever
//! used; a layout appears by rename, so that test programs may race.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

use crate::image::{Image, Layer, digest};
use crate::programs::Programs;

/// A shared image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fixture {
    /// busybox and a few users.
    Busybox,
    /// busybox, a few users and the probe.
    App,
    /// The probe alone.
    Scratch,
    /// A minimal Debian of about 150 MB.
    Debian,
}

/// Raised when the recipe below changes, since the recipe is no input of the digest.
const RECIPE: u32 = 1;

/// The applets that get a link in `/bin`.
const APPLETS: &[&str] = &[
    "ash", "cat", "chmod", "chown", "cp", "date", "dd", "df", "echo", "env", "expr", "false",
    "find", "grep", "head", "hostname", "httpd", "id", "ifconfig", "kill", "ln", "ls", "mkdir",
    "mknod", "mount", "mv", "nc", "nslookup", "od", "ping", "printf", "ps", "pwd", "readlink",
    "rm", "rmdir", "seq", "sh", "sleep", "sort", "stat", "tail", "tee", "test", "touch", "tr",
    "true", "umount", "uname", "wc", "wget", "which", "yes",
];

impl Fixture {
    /// Returns its name, which is also its tag.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Busybox => "busybox",
            Self::App => "app",
            Self::Scratch => "scratch",
            Self::Debian => "debian",
        }
    }
}

/// Returns the directory all fixtures lie in.
#[must_use]
pub fn directory(programs: &Programs) -> PathBuf {
    if programs.are_installed() { IN_MACHINE.into() } else { programs.target().join("fixtures") }
}

/// Where the fixtures lie in a machine: made outside, as digest and name say here, too.
pub const IN_MACHINE: &str = "/fixtures";

/// Returns the reference of `fixture`, which is made if it is not there yet.
///
/// # Panics
///
/// When it cannot be made.
#[must_use]
pub fn reference(programs: &Programs, fixture: Fixture) -> String {
    let layout = layout(programs, fixture)
        .unwrap_or_else(|error| panic!("cannot make fixture `{}`: {error}", fixture.name()));
    format!("oci:{}:{}", layout.display(), fixture.name())
}

/// Returns the layout of `fixture`, which is made if it is not there yet.
///
/// # Errors
///
/// What the file system says, or `mmdebstrap`; nothing is left then.
pub fn layout(programs: &Programs, fixture: Fixture) -> io::Result<PathBuf> {
    if programs.are_installed() {
        let digests = fs::read_dir(directory(programs))?.flatten().map(|entry| entry.path());
        let place = digests.map(|parent| parent.join(fixture.name())).find(|place| place.is_dir());
        return place.ok_or_else(|| io::Error::other("it is not in this machine"));
    }
    let busybox = || fs::read("/bin/busybox");
    let probe = || fs::read(programs.path("probe"));
    match fixture {
        Fixture::Busybox => small(programs, fixture, Some(&busybox()?), None),
        Fixture::App => small(programs, fixture, Some(&busybox()?), Some(&probe()?)),
        Fixture::Scratch => small(programs, fixture, None, Some(&probe()?)),
        Fixture::Debian => debian(programs),
    }
}

/// Makes an image of a layer for each of the programs that are given.
fn small(
    programs: &Programs,
    fixture: Fixture,
    busybox: Option<&[u8]>,
    probe: Option<&[u8]>,
) -> io::Result<PathBuf> {
    let inputs = [busybox.unwrap_or_default(), probe.unwrap_or_default()].concat();
    cached(programs, fixture, &digest(&inputs), |layout| {
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let mut image = Image::new().set("Env", json!([path]));
        if let Some(busybox) = busybox {
            image = image.layer(userland(busybox)).set("Cmd", json!(["sh"]));
        }
        if let Some(probe) = probe {
            image = image.layer(Layer::new().file("probe", 0o755, probe));
        }
        image.write(layout, fixture.name()).map(drop)
    })
}

fn userland(busybox: &[u8]) -> Layer {
    let passwd = "root:x:0:0:root:/root:/bin/sh\n\
                  web:x:1000:1000:web:/home/web:/bin/sh\n\
                  nobody:x:65534:65534:nobody:/:/bin/false\n";
    let group = "root:x:0:\nweb:x:1000:\nextra:x:2000:web\nnogroup:x:65534:\n";
    let mut layer = Layer::new()
        .dir("bin/", 0o755)
        .dir("etc/", 0o755)
        .dir("home/", 0o755)
        .dir("root/", 0o700)
        .dir("tmp/", 0o1777)
        .dir("usr/", 0o755)
        .dir("usr/bin/", 0o755)
        .dir("var/", 0o755)
        .dir("var/www/", 0o755)
        .file("etc/passwd", 0o644, passwd.as_bytes())
        .file("etc/group", 0o644, group.as_bytes())
        .file("etc/shadow", 0o600, b"root:*::0:::::\n")
        .file("var/www/index.html", 0o644, b"hello from a pod\n")
        .file("bin/busybox", 0o755, busybox);
    for applet in APPLETS {
        layer = layer.symlink(&format!("bin/{applet}"), "busybox");
    }
    layer
}

/// Makes a minimal Debian; by its recipe only, for what the mirror holds cannot be known before.
fn debian(programs: &Programs) -> io::Result<PathBuf> {
    const SUITE: &str = "bookworm";
    cached(programs, Fixture::Debian, &digest(SUITE.as_bytes()), |layout| {
        let tar = layout.join("root.tar");
        let mut command = Command::new("mmdebstrap");
        command.args(["--quiet", "--variant=minbase", SUITE]).arg(&tar);
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
        if !status.success() {
            return Err(io::Error::other(format!("mmdebstrap ended with {status}")));
        }
        let layer = Layer::from_tar(&fs::read(&tar)?);
        fs::remove_file(tar)?;
        let image = Image::new().layer(layer).set("Cmd", json!(["bash"]));
        image.write(layout, Fixture::Debian.name()).map(drop)
    })
}

/// Returns the directory of `fixture` made of `inputs`; `make` writes it if it is not there.
fn cached(
    programs: &Programs,
    fixture: Fixture,
    inputs: &str,
    make: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<PathBuf> {
    let directory = directory(programs);
    let short = inputs.trim_start_matches("sha256:").get(..16).unwrap_or(inputs);
    let parent = directory.join(format!("{RECIPE}-{short}"));
    let place = parent.join(fixture.name());
    if place.is_dir() {
        return Ok(place);
    }
    fs::create_dir_all(&parent)?;
    let staging = TempDir::new_in(&directory)?;
    let layout = staging.path().join("layout");
    fs::create_dir(&layout)?;
    make(&layout)?;
    match fs::rename(&layout, &place) {
        Err(_) if place.is_dir() => Ok(place),
        renamed => renamed.map(|()| place),
    }
}
