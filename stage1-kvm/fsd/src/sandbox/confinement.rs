//! What the server may do: limits, rights, Landlock.

use std::io;
use std::os::fd::AsFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, Scope,
};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups,
};

use super::{During, Fault};

/// The most descriptors: each node of a guest is one, and each takes about two kilobytes of the
/// kernel's memory with the inode it keeps.
const MOST_DESCRIPTORS: u64 = 1 << 18;

/// What making files for anyone takes: any owner, whatever the permissions, set-group-id kept when
/// the guest says so, and acting as a guest's user.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID);

/// Raises the limit of descriptors as far as it goes, up to [`MOST_DESCRIPTORS`], leaves no core
/// dump to be written, and returns how many descriptors there may be.
pub(super) fn limits() -> Result<usize, Fault> {
    let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(MOST_DESCRIPTORS);
    let most = hard.min(MOST_DESCRIPTORS);
    set(Resource::Nofile, most)?;
    set(Resource::Core, 0)?;
    // As long as a guest's own limit: whatever the starter's is, no write of a guest's is to end
    // the server by SIGXFSZ.
    let files = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: files, maximum: files }).during("setrlimit()")?;
    Ok(usize::try_from(most).unwrap_or(usize::MAX))
}

fn set(resource: Resource, value: u64) -> Result<(), Fault> {
    let hard = getrlimit(resource).maximum.map_or(value, |hard| hard.min(value));
    let limit = Rlimit { current: Some(hard), maximum: Some(hard) };
    setrlimit(resource, limit).during("setrlimit()")
}

/// Gives up groups, the way to gain anything, files outside the share, and capabilities.
pub(super) fn give_up(root: impl AsFd) -> Result<(), Fault> {
    // With a group of ours, a file in a directory with set-group-id would keep that bit for a
    // caller who is not in the group (CVE-2022-0358).
    set_thread_groups(&[]).during("setgroups()")?;
    set_no_new_privs(true).during("prctl(PR_SET_NO_NEW_PRIVS)")?;
    landlock(root).map_err(io::Error::other).during("landlock_restrict_self()")?;
    drop_capabilities()
}

/// What a server does with files. Nothing is executed, and there are no devices.
fn file_rights() -> BitFlags<AccessFs> {
    let never = AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
    AccessFs::from_all(ABI::V6) & !never
}

fn landlock(root: impl AsFd) -> Result<(), landlock::RulesetError> {
    let abi = ABI::V6;
    Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .add_rule(PathBeneath::new(root, file_rights()))?
        .restrict_self()
        .map(drop)
}

fn drop_capabilities() -> Result<(), Fault> {
    for bit in 0..64 {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            // Behind the last capability the kernel knows.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno).during("prctl(PR_CAPBSET_DROP)"),
        }
    }
    clear_ambient_capability_set().during("prctl(PR_CAP_AMBIENT_CLEAR_ALL)")?;
    let kept = capabilities(None).during("capget()")?.permitted & KEPT;
    let sets =
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).during("capset()")
}
