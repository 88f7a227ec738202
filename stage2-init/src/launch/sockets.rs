//! Sockets of a service manager, as `sd_listen_fds(3)` finds them: descriptors from 3 on, and
//! variables that name them and the process they are for.
//!
//! That process is the one that executes the app's program, by the number it has for itself: only
//! the child knows it, after it was born into its pid namespace and put behind a reaper. Whether a
//! socket blocks is its own matter; nothing here touches it.

use std::ffi::{CString, NulError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use nix::unistd::getpid;
use pod_abi::credential::SocketName;
use pod_sys::place;
use rustix::io::fcntl_dupfd_cloexec;

/// The number of the first, `SD_LISTEN_FDS_START`.
const FIRST: RawFd = 3;

/// The variables of the protocol. The last is systemd 259's, which would not be true of the app.
const VARIABLES: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"];

/// What a process is handed beside its standard streams.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sockets<'a> {
    /// The name of each.
    pub names: &'a [SocketName],
    /// The sockets.
    pub descriptors: &'a [OwnedFd],
}

impl Sockets<'_> {
    /// Returns the first number behind them.
    pub(super) fn end(&self) -> RawFd {
        RawFd::try_from(self.descriptors.len()).map_or(RawFd::MAX, |count| FIRST + count)
    }

    /// Tells whether they bring a variable of this name.
    pub(super) fn explain(&self, variable: &str) -> bool {
        !self.descriptors.is_empty() && VARIABLES.contains(&variable)
    }

    /// Returns the variables that are known before the process is.
    pub(super) fn variables(&self) -> impl Iterator<Item = String> {
        let count = self.descriptors.len();
        let names: Vec<&str> = self.names.iter().map(SocketName::as_str).collect();
        let both = [format!("LISTEN_FDS={count}"), format!("LISTEN_FDNAMES={}", names.join(":"))];
        both.into_iter().filter(move |_| count > 0)
    }

    /// Returns the variable that says whose they are: the caller's.
    pub(super) fn owner(&self) -> Result<Option<CString>, NulError> {
        let own = || CString::new(format!("LISTEN_PID={}", getpid()));
        (!self.descriptors.is_empty()).then(own).transpose()
    }

    /// Copies a descriptor to where none of them will be placed; nothing if there are none.
    pub(super) fn beyond(&self, fd: BorrowedFd<'_>) -> Option<rustix::io::Result<OwnedFd>> {
        (!self.descriptors.is_empty()).then(|| fcntl_dupfd_cloexec(fd, self.end()))
    }

    /// Places them, whatever was there. All are out of the way before the first takes its number,
    /// which may be that of another.
    pub(super) fn place(&self) -> io::Result<()> {
        let aside = self.descriptors.iter().map(|fd| fcntl_dupfd_cloexec(fd, self.end()));
        let aside: Vec<OwnedFd> = aside.collect::<Result<_, _>>()?;
        aside.iter().zip(FIRST..).try_for_each(|(fd, at)| place(fd.as_fd(), at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_sockets_is_told_nothing_of_any() {
        let none = Sockets::default();
        assert_eq!(none.end(), FIRST);
        assert_eq!(none.variables().count(), 0);
        assert!(!none.explain("LISTEN_PID") && none.owner().unwrap().is_none());
    }

    #[test]
    fn sockets_are_counted_and_named() {
        let names = ["http", "http", "admin"].map(|name| SocketName::parse(name).unwrap());
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let descriptors = [null(), null(), null()];
        let three = Sockets { names: &names, descriptors: &descriptors };
        assert_eq!(three.end(), 6);
        let variables: Vec<String> = three.variables().collect();
        assert_eq!(variables, ["LISTEN_FDS=3", "LISTEN_FDNAMES=http:http:admin"]);
        assert!(three.explain("LISTEN_PIDFDID") && !three.explain("PATH"));
        let owner = three.owner().unwrap().unwrap();
        assert_eq!(owner.to_str().unwrap(), format!("LISTEN_PID={}", std::process::id()));
    }
}
