//! Limits, groups, capabilities, files.

use std::io;
use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr, Scope,
};
use nix::sys::signal::{SigSet, Signal};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups,
};

use super::{During, Fault};

/// The newest rights of Landlock that are known here; older kernels have fewer.
const LANDLOCK: ABI = ABI::V6;

/// Which files are left.
#[derive(Clone, Copy, Debug)]
pub enum Files<'f> {
    /// Those that are open.
    Open,
    /// Also all beneath a directory, but for executing and devices.
    Beneath(BorrowedFd<'f>),
}

/// Gives up groups, the way to gain anything by executing, files, the network, signals to others,
/// and all capabilities but `kept`. For the calling thread and those it starts from now on.
///
/// # Errors
///
/// [`Fault`]; some steps have been taken, and the process should end.
pub fn give_up(files: Files<'_>, kept: CapabilitySet) -> Result<(), Fault> {
    match set_thread_groups(&[]) {
        // Where ids are mapped one by one there are none to give up.
        Ok(()) | Err(Errno::PERM) => {}
        Err(errno) => return Err(errno).during("setgroups()"),
    }
    set_no_new_privs(true).during("prctl(PR_SET_NO_NEW_PRIVS)")?;
    landlock(files).map_err(io::Error::other).during("landlock_restrict_self()")?;
    drop_capabilities(kept)
}

/// Lets no core dump be written: it would have what the guest has said, or has read.
///
/// # Errors
///
/// [`Fault`].
pub fn limit_core_dumps() -> Result<(), Fault> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).during("setrlimit(RLIMIT_CORE)")
}

/// Lets files become as long as the hard limit says, and a write beyond it fail instead of ending
/// the process: the limit is that of whoever called `pod`, where to write a guest says.
///
/// For the calling thread and those it starts from now on.
///
/// # Errors
///
/// [`Fault`].
pub fn outlive_file_sizes() -> Result<(), Fault> {
    let maximum = getrlimit(Resource::Fsize).maximum;
    let both = Rlimit { current: maximum, maximum };
    setrlimit(Resource::Fsize, both).during("setrlimit(RLIMIT_FSIZE)")?;
    let blocked = SigSet::from(Signal::SIGXFSZ).thread_block();
    blocked.map_err(io::Error::from).during("pthread_sigmask()")
}

/// Raises the limit of open descriptors as far as it goes, up to `most`, and returns it.
///
/// # Errors
///
/// [`Fault`].
pub fn raise_descriptors(most: u64) -> Result<usize, Fault> {
    let limit = getrlimit(Resource::Nofile).maximum.map_or(most, |hard| hard.min(most));
    let both = Rlimit { current: Some(limit), maximum: Some(limit) };
    setrlimit(Resource::Nofile, both).during("setrlimit(RLIMIT_NOFILE)")?;
    Ok(usize::try_from(limit).unwrap_or(usize::MAX))
}

fn landlock(files: Files<'_>) -> Result<(), landlock::RulesetError> {
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?;
    let ruleset = match files {
        Files::Open => ruleset,
        Files::Beneath(directory) => {
            let never =
                AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
            let rights = AccessFs::from_all(LANDLOCK) & !never;
            ruleset.add_rule(PathBeneath::new(directory, rights))?
        }
    };
    ruleset.restrict_self().map(drop)
}

fn drop_capabilities(kept: CapabilitySet) -> Result<(), Fault> {
    for bit in 0..64 {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            // Behind the last capability the kernel knows; or there is no right to, and then there
            // is no capability to be had either.
            Err(Errno::INVAL | Errno::PERM) => break,
            Err(errno) => return Err(errno).during("prctl(PR_CAPBSET_DROP)"),
        }
    }
    clear_ambient_capability_set().during("prctl(PR_CAP_AMBIENT_CLEAR_ALL)")?;
    let kept = capabilities(None).during("capget()")?.permitted & kept;
    let sets =
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).during("capset()")
}
