//! Doing something inside a network namespace, and staying in one's own.
//!
//! A namespace belongs to a thread. So a thread is made for each visit and ends with it; a process
//! that never entered cannot forget to come back. Only a process that must have one thread goes
//! itself ([`visit`]). Sockets opened inside stay of that namespace, and so does whatever is written
//! beneath `/proc/sys/net`, which the kernel resolves by the thread that opens it.

use std::fs::{self, File};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::panic;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use crate::error::{Context, Error, ErrorKind, Result};

/// Runs `visit` inside a network namespace and returns what it returned.
///
/// # Errors
///
/// [`ErrorKind::Namespace`] if it cannot be entered, and what `visit` fails with.
pub fn within<T: Send>(
    netns: BorrowedFd<'_>,
    visit: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    let enter_and_visit = || {
        setns(netns, CloneFlags::CLONE_NEWNET).map_err(|errno| cannot_enter(errno.into()))?;
        visit()
    };
    thread::scope(|scope| {
        let visitor = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, enter_and_visit)
            .map_err(cannot_enter)?;
        visitor.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked))
    })
}

/// Runs `deeds` with the calling thread itself inside a network namespace, and comes back whatever
/// they return: for a process that must not have a second thread, not even for a moment.
///
/// # Errors
///
/// [`ErrorKind::Namespace`] if it cannot be entered, or not be left: then the caller is in it still,
/// and had better end.
pub fn visit<T>(netns: BorrowedFd<'_>, deeds: impl FnOnce() -> T) -> Result<T> {
    let home = own()?;
    setns(netns, CloneFlags::CLONE_NEWNET).map_err(|errno| cannot_enter(errno.into()))?;
    let done = deeds();
    go_home(&home)?;
    Ok(done)
}

fn go_home(home: &OwnedFd) -> Result<()> {
    setns(home, CloneFlags::CLONE_NEWNET).context(ErrorKind::Namespace, || {
        "cannot leave a network namespace, setns(CLONE_NEWNET)".to_owned()
    })
}

/// Opens the network namespace of the calling thread.
///
/// # Errors
///
/// [`ErrorKind::Namespace`], if there is no `/proc`.
pub fn own() -> Result<OwnedFd> {
    File::open("/proc/thread-self/ns/net").map(OwnedFd::from).context(ErrorKind::Namespace, || {
        "cannot open this thread's network namespace, `/proc/thread-self/ns/net`".to_owned()
    })
}

/// Makes a network namespace with nothing but a loopback link that is down, and stays in one's own:
/// for a process that must not have a second thread.
///
/// # Errors
///
/// [`ErrorKind::Namespace`].
pub fn make() -> Result<OwnedFd> {
    let home = own()?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| {
        Error::new(ErrorKind::Namespace, "cannot make a network namespace, unshare(CLONE_NEWNET)")
            .hint("networks are made by root; `sysctl user.max_net_namespaces` tells how many")
            .because(errno)
    })?;
    let made = own();
    go_home(&home)?;
    made
}

fn cannot_enter(error: io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => "networks are made by root",
        _ => "the namespace must be one of networks: look at the descriptor or path given",
    };
    Error::new(ErrorKind::Namespace, "cannot enter the network namespace, setns(CLONE_NEWNET)")
        .hint(hint)
        .because(error)
}

/// A setting beneath `/proc/sys/net`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The path below `/proc/sys/net`, such as `ipv4/ip_forward`.
    pub name: String,
    /// What to write.
    pub value: &'static str,
}

impl Setting {
    /// Makes a setting.
    #[must_use]
    pub fn new(name: impl Into<String>, value: &'static str) -> Self {
        Self { name: name.into(), value }
    }
}

/// Reads a setting of the calling thread's namespace; `None` if the kernel does not have it.
///
/// # Errors
///
/// [`ErrorKind::Kernel`] if it is there and cannot be read.
pub fn read_setting(name: &str) -> Result<Option<String>> {
    match fs::read_to_string(format!("/proc/sys/net/{name}")) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context(ErrorKind::Kernel, || format!("cannot read `net/{name}`")),
    }
}

/// Writes settings of the calling thread's namespace, in order.
///
/// # Errors
///
/// [`ErrorKind::Kernel`] for the first that cannot be written; those before it are.
pub fn write_settings(settings: &[Setting]) -> Result<()> {
    for Setting { name, value } in settings {
        fs::write(format!("/proc/sys/net/{name}"), value).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => "the running kernel lacks it",
                _ => "`/proc/sys` must be writable: containers often mount it read-only",
            };
            let message = format!("cannot set `net/{name}` to `{value}`");
            Error::new(ErrorKind::Kernel, message).hint(hint).because(error)
        })?;
    }
    Ok(())
}

/// Tells whether the calling thread's namespace gives new links IPv6.
///
/// # Errors
///
/// [`ErrorKind::Kernel`] if the kernel does not say.
pub fn has_ipv6() -> Result<bool> {
    Ok(read_setting("ipv6/conf/default/disable_ipv6")?.as_deref() == Some("0"))
}
