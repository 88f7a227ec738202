//! The world of one test: a root, a run directory, a cgroup, a mount and a network namespace.
//!
//! Tests run side by side and must not see each other, and what one leaves behind must be found
//! and blamed on it. So every `pod` of a sandbox is born in namespaces and in a cgroup of its own,
//! with an environment made from nothing, and when the sandbox is dropped, [`leaks`] looks through
//! all of them.
//!
//! In a machine made for tests the sandbox is the whole machine, with `pod` as it is installed and
//! systemd above it. Tests run one after the other there, and [`system`](crate::system) looks for
//! what they leave.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::cgroup::Cgroup;
use crate::fixtures::{self, Fixture};
use crate::image::Image;
use crate::leaks::{self, Debris, World};
use crate::programs::Programs;
use crate::registry::Registry;
use crate::said::{self, PATIENCE, Running, Said};
use crate::system::System;
use crate::terminal::Terminal;

/// The world of one test.
#[derive(Debug)]
pub struct Sandbox {
    programs: Programs,
    directory: TempDir,
    walls: Walls,
    mounts: String,
    debris: Cell<Debris>,
    fetched: RefCell<BTreeSet<&'static str>>,
}

/// What is around a sandbox.
#[derive(Debug)]
enum Walls {
    /// Namespaces and a cgroup of its own.
    Own {
        cgroup: Option<Cgroup>,
        keeper: Child,
        /// Closed to end the keeper, which waits for just that.
        leash: Option<ChildStdin>,
    },
    /// Those of the machine, as it was at first.
    Machine(System),
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Sandbox {
    /// Makes a sandbox for the programs of this build.
    ///
    /// # Panics
    ///
    /// When it cannot be made, as without root.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Programs::of_this_build())
    }

    /// Makes a sandbox for `programs`.
    ///
    /// # Panics
    ///
    /// When it cannot be made, as without root.
    #[must_use]
    pub fn with(programs: Programs) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);

        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let parent = programs.target().join("sandboxes");
        fs::create_dir_all(&parent).expect("the target directory can be written");
        let directory = TempDir::new_in(&parent).expect("the target directory can be written");
        for name in ["root", "run", "tmp"] {
            fs::create_dir(directory.path().join(name)).expect("the sandbox is new");
        }
        let cgroup = crate::cgroup::own().map(|_| {
            let name = format!("pod-tests-{}-{number}", std::process::id());
            Cgroup::make(&name).expect("a cgroup can be made beneath our own")
        });
        let (keeper, leash) = keep(&programs);
        let walls = Walls::Own { cgroup, keeper, leash: Some(leash) };
        Self::within(walls, programs, directory)
    }

    /// Makes a sandbox of the whole machine, which must be one made for tests: stores, run
    /// directory and units are those a user has.
    ///
    /// # Panics
    ///
    /// When systemd is not process 1 of it.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let directory = TempDir::new_in("/var/tmp").expect("the machine's disk can be written");
        for (name, place) in [("root", "/var/lib/pod"), ("run", "/run/pod")] {
            symlink(place, directory.path().join(name)).expect("the sandbox is new");
        }
        fs::create_dir(directory.path().join("tmp")).expect("the sandbox is new");
        let walls = Walls::Machine(System::now());
        Self::within(walls, Programs::of_this_machine(), directory)
    }

    fn within(walls: Walls, programs: Programs, directory: TempDir) -> Self {
        let mut sandbox = Self {
            programs,
            directory,
            walls,
            mounts: String::new(),
            debris: Cell::new(Debris::None),
            fetched: RefCell::default(),
        };
        let mountinfo = sandbox.proc().join("mountinfo");
        sandbox.mounts = fs::read_to_string(mountinfo).expect("the keeper lives");
        sandbox
    }

    /// Returns the directory beneath `/proc` of a process in the sandbox's namespaces.
    fn proc(&self) -> PathBuf {
        match &self.walls {
            Walls::Own { keeper, .. } => Path::new("/proc").join(keeper.id().to_string()),
            Walls::Machine(_) => PathBuf::from("/proc/self"),
        }
    }

    /// Runs `pod` with `args` and waits for its end.
    pub fn pod<I, S>(&self, args: I) -> Said
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.call().args(args).run()
    }

    /// Prepares a call of `pod`.
    #[must_use]
    pub fn call(&self) -> Call<'_> {
        Call::of(self, &self.programs.path("pod"), "pod")
    }

    /// Prepares a call of `pod` as the leader of a session, to be started on a terminal.
    #[must_use]
    pub fn call_in_session(&self) -> Call<'_> {
        let pod = self.programs.path("pod");
        self.program("setsid").args(["--ctty".as_ref(), pod.as_os_str()])
    }

    /// Prepares a call of another program of the machine, inside the sandbox.
    #[must_use]
    pub fn program(&self, program: &str) -> Call<'_> {
        Call::of(self, Path::new(program), program)
    }

    /// Returns the reference of a shared fixture image, which is in the store.
    ///
    /// # Panics
    ///
    /// When it cannot be fetched.
    #[must_use]
    pub fn fixture(&self, fixture: Fixture) -> String {
        let reference = fixtures::reference(&self.programs, fixture);
        if !self.fetched.borrow().contains(fixture.name()) {
            self.pod(["fetch", &reference]).success();
            self.fetched.borrow_mut().insert(fixture.name());
        }
        reference
    }

    /// Writes an image into the sandbox and returns its reference.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    #[must_use]
    pub fn image(&self, tag: &str, image: &Image) -> String {
        let layout = self.path("layout");
        image.write(&layout, tag).expect("the sandbox can be written");
        format!("oci:{}:{tag}", layout.display())
    }

    /// Returns a path beneath the sandbox's own directory: `root`, `run` and `tmp` are there, and
    /// anything else a test puts there.
    ///
    /// # Panics
    ///
    /// When `name` leads elsewhere: joined to a directory, an absolute path is a file of the host.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        let beneath = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        let all_beneath = Path::new(name).components().all(beneath);
        assert!(all_beneath, "`{name}` does not lie beneath the sandbox");
        self.directory.path().join(name)
    }

    /// Returns the sandbox's cgroup, in which all its processes are.
    #[must_use]
    pub fn cgroup(&self) -> Option<&Cgroup> {
        match &self.walls {
            Walls::Own { cgroup, .. } => cgroup.as_ref(),
            Walls::Machine(_) => None,
        }
    }

    /// Returns the programs under test.
    #[must_use]
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Says that the test kills processes of ours: what they held may lie about until `pod gc`.
    pub fn expect_debris(&self) {
        self.debris.set(Debris::UntilGc);
    }

    /// Leaves everything as it is for the tests after the machine's reboot: nothing is looked for.
    pub fn leave_to_the_next_boot(mut self) {
        self.debris.set(Debris::OfNextBoot);
        // Its own directory is left, too: an app may look at it.
        self.directory.disable_cleanup(true);
    }

    /// Replaces what differs from run to run: the sandbox's path, that of the programs, ids, digests
    /// and times.
    #[must_use]
    pub fn tame(&self, text: &str) -> String {
        let fixtures = fixtures::directory(&self.programs).display().to_string();
        let text = text.replace(&self.directory.path().display().to_string(), "[SANDBOX]");
        let programs = format!("{}/", self.programs.directory().display());
        let text = text.replace(&programs, "[PROGRAMS]/");
        let fixtures = format!("{fixtures}/");
        let mut parts = text.split(&fixtures);
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            // The directory beneath is named by a digest.
            text.push_str("[FIXTURES]/");
            text.push_str(part.split_once('/').map_or(part, |(_, rest)| rest));
        }
        tame(&text)
    }

    /// Checks that nothing was left behind, as dropping does.
    #[must_use]
    pub fn leaks(&self) -> Vec<String> {
        let world = World {
            directory: self.directory.path(),
            cgroup: self.cgroup(),
            proc: &self.proc(),
            mounts: &self.mounts,
        };
        let of_system = || match &self.walls {
            Walls::Own { .. } => Vec::new(),
            Walls::Machine(system) => system.left_behind(),
        };
        let mut found = if self.debris.get() == Debris::None { of_system() } else { Vec::new() };
        found.extend(leaks::of(&world, self.debris.get(), &|args| self.pod(args)));
        found.extend(of_system());
        found.sort();
        found.dedup();
        found
    }

    /// Starts a registry in the sandbox's network, where nobody else listens. It belongs to the
    /// test, not to the sandbox's cgroup.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn registry(&self) -> Registry {
        let started = Registry::start_behind(self.network_prefix(), self.directory.path());
        started.expect("docker-registry runs")
    }

    /// Starts a registry as [`registry`](Self::registry) does that asks who one is.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn guarded_registry(&self, htpasswd: &str) -> Registry {
        let prefix = self.network_prefix();
        let started = Registry::start_guarded(prefix, self.directory.path(), htpasswd);
        started.expect("docker-registry runs")
    }

    /// Returns the words that run a program in the sandbox's network, but outside its cgroup.
    fn network_prefix(&self) -> Vec<OsString> {
        let Walls::Own { keeper, .. } = &self.walls else {
            return vec!["env".into()];
        };
        let sandbox = self.programs.path("sandbox").into_os_string();
        let words = ["enter".into(), keeper.id().to_string().into(), "-".into(), "/".into()];
        [sandbox].into_iter().chain(words).collect()
    }

    /// Returns the identity of the sandbox's namespace of `kind`, which is what pods must leave.
    ///
    /// # Panics
    ///
    /// When the kernel has no such kind.
    #[must_use]
    pub fn namespace(&self, kind: &str) -> String {
        let link = fs::read_link(self.proc().join("ns").join(kind));
        link.unwrap_or_else(|error| panic!("namespace `{kind}`: {error}")).display().to_string()
    }
}

/// Starts the process that holds the namespaces.
fn keep(programs: &Programs) -> (Child, ChildStdin) {
    let mut keeper = Command::new(programs.path("sandbox"))
        .arg("keep")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`sandbox` is built with the tests");
    let leash = keeper.stdin.take().expect("it was asked for");
    let mut said = [0; 6];
    let out = keeper.stdout.as_mut().expect("it was asked for");
    out.read_exact(&mut said).expect("namespaces can be made; the tests need root");
    (keeper, leash)
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let left = self.debris.get() == Debris::OfNextBoot;
        let leaks = if left || thread::panicking() { Vec::new() } else { self.leaks() };
        match &mut self.walls {
            Walls::Own { cgroup, keeper, leash } => {
                if let Some(cgroup) = cgroup.take() {
                    cgroup.kill();
                }
                drop(leash.take());
                let _ = keeper.wait();
            }
            // So that the next test finds what it expects; this one has failed already.
            Walls::Machine(system) if thread::panicking() || !leaks.is_empty() => {
                system.clean_up();
                let _ = leaks::collect(&|args| self.pod(args));
            }
            Walls::Machine(_) => {}
        }
        assert!(leaks.is_empty(), "left behind:\n  {}", leaks.join("\n  "));
    }
}

/// A call of a program inside a sandbox, being prepared.
#[derive(Debug)]
pub struct Call<'a> {
    sandbox: &'a Sandbox,
    command: Command,
    name: String,
    input: Option<Vec<u8>>,
    patience: Duration,
}

impl<'a> Call<'a> {
    fn of(sandbox: &'a Sandbox, program: &Path, name: &str) -> Self {
        let mut command = match &sandbox.walls {
            Walls::Own { cgroup, keeper, .. } => {
                let mut command = Command::new(sandbox.programs.path("sandbox"));
                let cgroup = cgroup.as_ref().map_or(Path::new("-"), Cgroup::path);
                command.arg("enter").arg(keeper.id().to_string()).arg(cgroup);
                command.arg(sandbox.directory.path()).arg(program).env_clear();
                command.env("POD_ROOT", sandbox.path("root"));
                command.env("POD_RUN_ROOT", sandbox.path("run"));
                command
            }
            Walls::Machine(_) => {
                let mut command = Command::new(program);
                command.current_dir(sandbox.directory.path()).env_clear();
                command
            }
        };
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("TMPDIR", sandbox.path("tmp"));
        // What the host says of registries is nobody's here; there is such a file if a test writes it.
        command.env("CONTAINERS_REGISTRIES_CONF", sandbox.path("registries.conf"));
        command.stdin(Stdio::null());
        let patience = PATIENCE * said::slowness();
        Self { sandbox, command, name: name.to_owned(), input: None, patience }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I, S>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        for arg in args {
            self.name = format!("{} {}", self.name, arg.as_ref().display());
            self.command.arg(arg);
        }
        self
    }

    /// Adds a variable to the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Gives it something to read.
    #[must_use]
    pub fn input(mut self, bytes: &[u8]) -> Self {
        self.command.stdin(Stdio::piped());
        self.input = Some(bytes.to_owned());
        self
    }

    /// Allows it another time than [`PATIENCE`].
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Starts it.
    #[must_use]
    pub fn start(mut self) -> Running {
        self.feed();
        Running::start(self.command, &self.name, self.patience)
    }

    /// Starts it with nobody who reads its standard output, until that is asked for.
    #[must_use]
    pub fn start_unread(mut self) -> Running {
        self.feed();
        Running::start_unread(self.command, &self.name, self.patience)
    }

    fn feed(&mut self) {
        if let Some(input) = self.input.take() {
            // What is read in tests fits into a pipe, so that nobody has to feed it.
            let (read, mut write) = std::io::pipe().expect("a pipe can be made");
            assert!(input.len() <= 65_536, "the input does not fit into a pipe");
            write.write_all(&input).expect("it fits into the pipe");
            self.command.stdin(read);
        }
    }

    /// Starts it on a terminal, which is that of its session.
    #[must_use]
    pub fn start_on(mut self, terminal: &Terminal) -> Running {
        self.command.stdin(terminal.end()).stdout(terminal.end()).stderr(terminal.end());
        Running::start_unheard(self.command, &self.name, self.patience)
    }

    /// Runs it to its end.
    pub fn run(self) -> Said {
        let sandbox = self.sandbox;
        let said = self.start().wait();
        Said { stdout: sandbox.tame(&said.stdout), stderr: sandbox.tame(&said.stderr), ..said }
    }
}

/// Replaces UUIDs, digests and times by words.
fn tame(text: &str) -> String {
    const FORMS: [(&str, &str); 3] = [
        ("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "[UUID]"),
        ("sha256:xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "[DIGEST]"),
        ("dddd-dd-ddTdd:dd:dd.dddddddddZ", "[TIME]"),
    ];
    let fits = |form: &str, rest: &str| {
        rest.len() >= form.len()
            && form.bytes().zip(rest.bytes()).all(|(form, byte)| match form {
                b'x' => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
                b'd' => byte.is_ascii_digit(),
                _ => form == byte,
            })
    };
    let mut tamed = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some((form, word)) = FORMS.iter().find(|(form, _)| fits(form, rest)) {
            tamed.push_str(word);
            rest = &rest[form.len()..];
        } else {
            tamed.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    tamed
}

#[cfg(test)]
mod tests {
    use super::tame;

    #[test]
    fn what_differs_from_run_to_run_is_replaced() {
        let line = "abababab-abab-4bab-abab-abababababab at 2026-11-22T12:05:06.000000000Z";
        assert_eq!(tame(line), "[UUID] at [TIME]");
        assert_eq!(tame(&format!("x sha256:{} y", "0".repeat(64))), "x [DIGEST] y");
        assert_eq!(tame("sha256:short"), "sha256:short");
    }
}
