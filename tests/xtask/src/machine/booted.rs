//! systemd as process 1 in plain namespaces of this host: boots in a second or two and runs at
//! native speed, but with the host's kernel and without controllers of cgroup v2.
//!
//! The machine itself is kept by another process, `keeper`; here it is started, entered by
//! `nsenter`, and let go.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::error::Error;
use crate::machine::keeper::Parts;
use crate::machine::root;
use crate::machine::tier::{Machine, Reboot, Streams};

/// The verb of `xtask` that keeps a machine.
pub(crate) const KEEP: &str = "keep-booted";

/// How long a machine may take to go down, where it does, and to come up.
const UP: Duration = Duration::from_secs(150);
/// How often to look whether a command with a limit has ended.
const LOOK: Duration = Duration::from_millis(50);

/// Runs the rest in the machine whose process 1 is `$1`, as a person who just logged in. What comes
/// in is in a cgroup of the host; it is taken into one of the machine, and then systemd gives it a
/// scope: it must not look like a service's.
const ENTER: &str = r#"target=$1
shift
exec nsenter --target "$target" --all --root --wd -- \
    env -i HOME=/root USER=root LOGNAME=root SHELL=/bin/bash LANG=C.UTF-8 TERM="${TERM:-dumb}" \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    sh -c 'echo 0 >/sys/fs/cgroup/cgroup.procs && exec "$@"' sh \
    systemd-run --quiet --scope --collect --slice=user.slice -- env -u INVOCATION_ID "$@"
"#;

/// A machine that has booted.
#[derive(Debug)]
pub(crate) struct Booted {
    keeper: Child,
    /// Closed to end the machine.
    leash: Option<ChildStdin>,
    /// The lines the keeper says, until it is silent.
    says: Receiver<String>,
    console: PathBuf,
    init: String,
}

impl Booted {
    /// Boots a machine of `root` with the tree `payload` laid over it.
    pub(crate) fn boot(root: &Path, payload: &Path) -> Result<Self, Error> {
        let failed = |error: io::Error| Error::of("cannot start the keeper of a machine", &error);
        fs::create_dir_all(root::directory()).map_err(failed)?;
        // The keeper removes it.
        let place = TempDir::new_in(root::directory()).map_err(failed)?.keep();
        let mut keeper = Command::new("unshare")
            .args(["--mount", "--propagation=private", "--"])
            .arg(env::current_exe().map_err(failed)?)
            .args(["machine", KEEP])
            .args([root, payload, &place])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // What ends us by a key ends the machine by its leash, in order.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let output = keeper.stdout.take();
        let says = listen(output.ok_or_else(|| Error::new("the keeper is not heard"))?);
        let leash = keeper.stdin.take();
        let console = Parts::console(&place);
        let mut booted = Self { keeper, leash, says, console, init: String::new() };
        booted.come_up()?;
        Ok(booted)
    }

    /// Waits until it has booted.
    fn come_up(&mut self) -> Result<(), Error> {
        let line = match self.says.recv_timeout(UP) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                let seconds = UP.as_secs();
                return Err(Error::new(format!("the machine has not booted in {seconds} s")));
            }
            Err(RecvTimeoutError::Disconnected) => "down".to_owned(),
        };
        let init = line.strip_prefix("up ");
        let init =
            init.ok_or_else(|| Error::new("the machine did not boot; its console is above"))?;
        init.clone_into(&mut self.init);
        Ok(())
    }
}

impl Machine for Booted {
    fn run(
        &mut self,
        words: &[&str],
        streams: Streams,
        limit: Option<Duration>,
    ) -> Result<u8, Error> {
        let mut command = Command::new("sh");
        command.args(["-c", ENTER, "sh"]).arg(&self.init);
        match streams {
            Streams::Ours if is_at_a_terminal() => {
                // A terminal of the machine's own, since ours has no name in there.
                let line = shell_words(words);
                command.args(["script", "--quiet", "--return", "--command", &line, "/dev/null"]);
            }
            Streams::Ours => {
                command.args(words);
            }
            Streams::Into { output, errors } => {
                command.args(words).stdin(Stdio::null()).stdout(output).stderr(errors);
            }
        }
        let failed = |error: io::Error| Error::of("cannot enter the machine", &error);
        let mut child = command.spawn().map_err(failed)?;
        drop(command);
        let ended = wait(&mut child, limit).map_err(failed)?;
        let ended = ended.ok_or_else(|| {
            let first = words.first().copied().unwrap_or_default();
            let seconds = limit.unwrap_or_default().as_secs();
            Error::new(format!("`{first} …` has not ended in {seconds} s"))
        })?;
        Ok(exit_code(ended))
    }

    fn reboot(&mut self, how: Reboot) -> Result<(), Error> {
        if how == Reboot::Cut {
            return Err(Error::new("the kernel of this machine is the host's, which stays up"));
        }
        let null = || File::options().write(true).open("/dev/null").map(OwnedFd::from);
        let nowhere = |error: io::Error| Error::of("cannot open `/dev/null`", &error);
        let output = null().map_err(nowhere)?;
        let errors = null().map_err(nowhere)?;
        let streams = Streams::Into { output, errors };
        // The command is killed by what it asked for.
        self.run(how.command(), streams, None)?;
        self.come_up()
    }

    fn console(&self) -> &Path {
        &self.console
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        drop(self.leash.take());
        // It ends by itself, and has said what it could not do.
        let _ = self.keeper.wait();
    }
}

/// Hands on what is said, line by line.
fn listen(output: ChildStdout) -> Receiver<String> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        // Who does not listen any more has let the machine go.
        lines.map(|line| tell.send(line)).take_while(Result::is_ok).for_each(drop);
    });
    told
}

fn is_at_a_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal() && io::stderr().is_terminal()
}

/// Writes words as one line that a shell reads as these words.
fn shell_words(words: &[&str]) -> String {
    let quoted = words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''")));
    quoted.collect::<Vec<_>>().join(" ")
}

fn exit_code(ended: ExitStatus) -> u8 {
    let code = ended.code().or(ended.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// Waits for the end of `child`, and kills it after `limit`.
fn wait(child: &mut Child, limit: Option<Duration>) -> io::Result<Option<ExitStatus>> {
    let Some(limit) = limit else { return child.wait().map(Some) };
    let end = Instant::now() + limit;
    loop {
        if let Some(ended) = child.try_wait()? {
            return Ok(Some(ended));
        }
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(shell_words(&["echo", "it's", "a b"]), r"'echo' 'it'\''s' 'a b'");
    }
}
