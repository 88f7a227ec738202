//! `cargo xtask demo`: a pod of two real apps from a real registry, shown command by command.
//!
//! Everything happens beneath one temporary directory with roots of its own, so that the demo
//! neither sees nor harms pods that are there. Whatever happens in between, the pod is stopped and
//! the registry ended; at the end the machine is compared with what it was before.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use harness::fixtures::{self, Fixture};
use harness::programs::Programs;
use harness::registry::Registry;
use tempfile::TempDir;

use crate::build::{self, Profile};
use crate::error::Error;
use crate::leftovers::Machine;
use crate::{packages, say};

/// The pod that is shown.
const POD: &str = "demo";
/// What its first app does: serves a page.
const WEB: &str = "echo serving on port 8080; exec httpd -f -p 8080 -h /var/www";
/// What its second app does: asks the first one, as apps of a pod share their network.
const WORKER: &str = r#"
ask() { exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && tail -n 1 <&3; }
until page=$(ask 2>/dev/null); do sleep 0.1; done
echo "web says: $page"
trap 'echo asked to stop; exit 0' TERM
echo waiting
while :; do sleep 1 & wait; done
"#;

/// Runs the demo.
pub(crate) fn run() -> Result<(), Error> {
    packages::need(packages::FIXTURES)?;
    say::heading("Build");
    say::note("the command `pod`, its stage1 and the init of every pod");
    let programs = build::programs(Profile::Debug)?;
    let before = Machine::now();
    let shown = show(&programs);
    let left = before.left_behind();
    shown?;

    say::heading("What is left on this machine");
    if left.is_empty() {
        say::plain("no mount, no cgroup, no process, no interface, no file: nothing");
        say::plain("");
        return Ok(());
    }
    left.iter().for_each(|line| say::plain(line));
    Err(Error::new("the demo left something behind"))
}

/// Where the demo happens.
#[derive(Debug)]
struct Stage<'a> {
    programs: &'a Programs,
    directory: TempDir,
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        // Nothing to do where all went well; otherwise nobody else will.
        let quiet = |args: &[&str]| {
            let _ = self.pod(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
        };
        quiet(&["stop", "-t", "0", POD]);
        quiet(&["gc"]);
    }
}

impl Stage<'_> {
    fn pod(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.programs.path("pod"));
        command.args(args).env("POD_ROOT", self.path("root")).env("POD_RUN_ROOT", self.path("run"));
        command.stdin(Stdio::null());
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Shows a command, runs it on the caller's streams, and expects it to succeed.
    fn shown(&self, args: &[&str]) -> Result<(), Error> {
        say::command(&typed(args));
        let status =
            self.pod(args).status().map_err(|error| Error::of("cannot run `pod`", &error))?;
        if status.success() {
            Ok(())
        } else {
            Err(Error::new(format!("`{}` ended with {status}", typed(args))))
        }
    }

    /// Follows the pod's logs until they hold `word`.
    fn logs_until(&self, word: &str) -> Result<(), Error> {
        use std::io::{BufRead, BufReader};

        let args = ["logs", "-f", POD];
        say::command(&typed(&args));
        let mut follow = self.pod(&args);
        let mut follow = follow
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Error::of("cannot run `pod`", &error))?;
        let out = follow.stdout.take().map(BufReader::new);
        let lines = out.into_iter().flat_map(BufRead::lines).map_while(Result::ok);
        let mut found = false;
        for line in lines {
            say::plain(&line);
            found = line.contains(word);
            if found {
                break;
            }
        }
        let _ = follow.kill();
        let _ = follow.wait();
        if found { Ok(()) } else { Err(Error::new(format!("the logs never said `{word}`"))) }
    }
}

/// Writes a command as a person would type it.
fn typed(args: &[&str]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=,".contains(c);
    let quoted = args.iter().map(|arg| {
        if !arg.is_empty() && arg.chars().all(plain) {
            (*arg).to_owned()
        } else {
            format!("'{}'", arg.replace('\'', "'\\''"))
        }
    });
    format!("pod {}", quoted.collect::<Vec<_>>().join(" "))
}

fn show(programs: &Programs) -> Result<(), Error> {
    let place = |error| Error::of("cannot make a directory for the demo", &error);
    let directory = TempDir::new_in(programs.target()).map_err(place)?;
    let stage = Stage { programs, directory };

    say::heading("Two images and a registry");
    say::note("busybox-static as a small image, Debian by mmdebstrap as a larger one;");
    say::note("docker-registry on loopback, pushed to by skopeo: none of it ours");
    let registry = Registry::start(stage.directory.path())
        .map_err(|error| Error::of("cannot start a registry", &error))?;
    let mut references = Vec::new();
    for fixture in [Fixture::Busybox, Fixture::Debian] {
        let name = fixture.name();
        let failed = |error| Error::of(&format!("cannot push `{name}`"), &error);
        let layout = fixtures::layout(programs, fixture).map_err(failed)?;
        references.push(registry.push(&layout, name, &format!("{name}:latest")).map_err(failed)?);
        say::fact(name, &references[references.len() - 1]);
    }
    let [busybox, debian] = references.as_slice() else { unreachable!("two were pushed") };

    say::heading("Fetch");
    say::note("every byte is checked against its digest before it can be run");
    stage.shown(&["fetch", busybox])?;
    stage.shown(&["fetch", debian])?;
    stage.shown(&["image", "ls"])?;
    pod_of_two(&stage, busybox, debian)
}

fn pod_of_two(stage: &Stage<'_>, busybox: &str, debian: &str) -> Result<(), Error> {
    say::heading("Run a pod of two apps");
    say::note("they share network, IPC and hostname; each has its own root and processes");
    let line = ["run", "-d", "--name", POD, busybox, "--name", "web", "sh", "-c", WEB];
    let line = [&line[..], &["---", debian, "--name", "worker", "bash", "-c", WORKER]].concat();
    stage.shown(&line)?;
    stage.shown(&["ps"])?;
    stage.logs_until("waiting")?;

    say::heading("Look into it");
    stage.shown(&["status", POD])?;
    stage.shown(&["exec", "--app", "web", POD, "ps"])?;
    stage.shown(&["exec", "--app", "worker", POD, "grep", "PRETTY", "/etc/os-release"])?;
    say::note("root of the pod is nobody on the host:");
    stage.shown(&["exec", "--app", "worker", POD, "cat", "/proc/self/uid_map"])?;

    say::heading("Stop it");
    stage.shown(&["stop", POD])?;
    stage.shown(&["logs", "--tail", "1", POD, "worker"])?;
    stage.shown(&["ps", "-a"])?;
    stage.shown(&["gc"])?;
    stage.shown(&["ps", "-a"])
}

#[cfg(test)]
mod tests {
    use super::typed;

    #[test]
    fn a_command_is_shown_so_that_a_shell_reads_the_same_words() {
        assert_eq!(typed(&["run", "a:1", "it's $x"]), r"pod run a:1 'it'\''s $x'");
    }
}
