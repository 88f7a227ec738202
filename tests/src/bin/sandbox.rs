//! Makes the namespaces of a sandbox, and enters them: the part of the harness that must be a
//! process of its own, for namespaces belong to single-threaded programs.
//!
//! ```text
//! sandbox keep                              makes the namespaces, says `ready`, keeps them until
//!                                           its standard input ends
//! sandbox enter PID CGROUP DIR PROGRAM …    becomes PROGRAM in them, in CGROUP (`-`: where we
//!                                           are) and in DIR
//! ```

#![forbid(unsafe_code)]

use std::env;
use std::ffi::{CStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().skip(1).collect();
    let done = match args.as_slice() {
        [verb] if verb == "keep" => keep(),
        [verb, pid, cgroup, dir, program, rest @ ..] if verb == "enter" => {
            enter(pid, Path::new(cgroup), Path::new(dir), program, rest)
        }
        _ => Err(io::Error::other("usage: sandbox keep | enter PID CGROUP DIR PROGRAM [ARG…]")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "sandbox: {error}");
            ExitCode::FAILURE
        }
    }
}

fn keep() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&CStr>, c"/", None::<&CStr>, private, None::<&CStr>)?;
    // A netlink client of our own would be a page of code; busybox has one.
    let up = Command::new("busybox").args(["ip", "link", "set", "lo", "up"]).status()?;
    if !up.success() {
        return Err(io::Error::other("the loopback interface cannot be brought up"));
    }
    let mut out = io::stdout();
    out.write_all(b"ready\n")?;
    out.flush()?;
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}

fn enter(
    pid: &OsString,
    cgroup: &Path,
    dir: &Path,
    program: &OsString,
    args: &[OsString],
) -> io::Result<()> {
    if cgroup != Path::new("-") {
        fs::write(cgroup.join("cgroup.procs"), "0")?;
    }
    let namespaces = Path::new("/proc").join(pid).join("ns");
    let network = File::open(namespaces.join("net"))?;
    let mounts = File::open(namespaces.join("mnt"))?;
    setns(network, CloneFlags::CLONE_NEWNET)?;
    setns(mounts, CloneFlags::CLONE_NEWNS)?;
    env::set_current_dir(dir)?;
    Err(Command::new(program).args(args).exec())
}
