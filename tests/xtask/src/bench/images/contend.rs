//! The ways from a registry to a root that `bench images` compares.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Image;
use super::taken::{Taken, measured};
use crate::bench::measure::words;
use crate::error::Error;

/// How long a daemon may take until it listens.
const PATIENCE: Duration = Duration::from_secs(20);
/// Clock ticks a second, in which the kernel counts for everybody.
const TICKS: f64 = 100.0;

/// One way.
pub(super) struct Contender {
    pub(super) name: &'static str,
    /// Whether it is somebody else's.
    pub(super) is_peer: bool,
    line: Vec<String>,
    /// What must run beside; its socket is `ctr/socket`.
    daemon: Option<Vec<String>>,
}

impl Contender {
    /// Measures it once, in the empty directory `stores`.
    pub(super) fn measure(&self, stores: &Path) -> Result<Taken, Error> {
        let Some(line) = &self.daemon else { return measured(&self.line, stores) };
        let daemon = Daemon::start(line, stores)?;
        let before = daemon.cpu();
        let mut taken = measured(&self.line, stores)?;
        taken.cpu += daemon.cpu() - before;
        Ok(taken)
    }
}

/// Returns the ways; the first is the floor.
pub(super) fn contenders(image: &Image, programs: &Path) -> Vec<Contender> {
    let Image { host, repository } = image;
    let reference = format!("{host}/{repository}:1");
    let program = |name: &str| programs.join(name).display().to_string();
    let ours =
        |name, line: &[&str]| Contender { name, is_peer: false, line: words(line), daemon: None };
    let peer = |name, line: &[&str]| Contender { is_peer: true, ..ours(name, line) };
    let skopeo_umoci = format!(
        "skopeo copy -q --insecure-policy --src-tls-verify=false docker://{reference} oci:l:x && \
         umoci unpack --image l:x bundle"
    );
    let containerd = [
        "containerd",
        "--address=ctr/socket",
        "--root=ctr/root",
        "--state=ctr/state",
        "--log-level=error",
    ];
    vec![
        ours("the floor", &[&program("examples/read-through"), host, repository, "1"]),
        ours("pod", &[&program("pod"), "--root=root", "--run-root=run", "fetch", "-q", &reference]),
        peer("skopeo, umoci", &["sh", "-ec", &skopeo_umoci]),
        peer(
            "podman",
            &[
                "podman",
                "--root=podman",
                "--runroot=podman-run",
                "--storage-driver=overlay",
                "pull",
                "-q",
                "--tls-verify=false",
                &reference,
            ],
        ),
        Contender {
            daemon: Some(words(&containerd)),
            ..peer(
                "ctr",
                &["ctr", "-a", "ctr/socket", "images", "pull", "--plain-http", &reference],
            )
        },
    ]
}

/// A daemon that a contender needs, ended with it.
struct Daemon(Child);

impl Daemon {
    /// Starts one and waits until its socket is there.
    fn start(line: &[String], stores: &Path) -> Result<Self, Error> {
        let failed = |error: &dyn fmt::Display| Error::of("cannot start a daemon", error);
        let (program, arguments) = line.split_first().ok_or_else(|| Error::new("no program"))?;
        let place = stores.join("ctr");
        fs::create_dir(&place).map_err(|error| failed(&error))?;
        let child = Command::new(program)
            .args(arguments)
            .current_dir(stores)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed(&error))?;
        let daemon = Self(child);
        let until = Instant::now() + PATIENCE;
        while !place.join("socket").exists() {
            if Instant::now() > until {
                return Err(Error::new("the daemon does not listen"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(daemon)
    }

    /// Returns the seconds of processor time it has taken, with all it has waited for.
    fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        fields.skip(11).take(4).filter_map(|word| word.parse::<f64>().ok()).sum::<f64>() / TICKS
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}
