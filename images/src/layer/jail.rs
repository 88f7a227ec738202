//! What the worker gives up before it reads the first byte of a layer.
//!
//! It runs as root, for only root can give files to any owner. What is left of that: one directory
//! tree (Landlock), the capabilities to make inodes of any kind for anyone in it, no network, no
//! way to gain anything back. Landlock is best effort, for kernels are built without it; all the
//! rest is demanded.

use std::io;
use std::os::fd::AsFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr, Scope,
};
use nix::sched::CloneFlags;
use rustix::io::Errno;
use rustix::process::{
    Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit, umask,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

use super::fault::Fault;

/// Address space: buffers of 8 MiB, a zstd window of 128 MiB, names of 128 MiB, and room for what
/// the allocator reserves for two threads.
const ADDRESS_SPACE: u64 = 1 << 30;

/// Descriptors: standard streams, root, and at most three more at a time.
const DESCRIPTORS: u64 = 64;

/// What writing a tree takes: any owner, any mode, whiteouts, file capabilities, set-group-id.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::FSETID);

/// Confines this process, which has one thread, to the directory `tree`.
///
/// 1. modes are to be as asked for (`umask(2)`);
/// 2. namespaces of its own, so that no network or IPC is left;
/// 3. limits;
/// 4. nothing executed can gain anything, which Landlock demands as well;
/// 5. Landlock;
/// 6. capabilities, bounding set first, for that takes one of them;
/// 7. death with the starter's thread; last, because giving up capabilities clears it.
///
/// # Errors
///
/// [`Fault::Confine`]; some steps have been taken and the process should end.
pub(super) fn enter(tree: impl AsFd) -> Result<(), Fault> {
    umask(rustix::fs::Mode::empty());
    let namespaces = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC;
    nix::sched::unshare(namespaces)
        .map_err(|errno| confine("unshare(CLONE_NEWNS|CLONE_NEWNET|CLONE_NEWIPC)")(errno.into()))?;
    limit(Resource::As, ADDRESS_SPACE)?;
    limit(Resource::Nofile, DESCRIPTORS)?;
    limit(Resource::Core, 0)?;
    set_no_new_privs(true).map_err(os("prctl(PR_SET_NO_NEW_PRIVS)"))?;
    landlock(tree).map_err(|error| confine("landlock_restrict_self")(io::Error::other(error)))?;
    drop_capabilities()?;
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(os("prctl(PR_SET_PDEATHSIG)"))
}

fn confine(call: &'static str) -> impl FnOnce(io::Error) -> Fault {
    move |source| Fault::Confine { call, source }
}

fn os(call: &'static str) -> impl FnOnce(Errno) -> Fault {
    move |errno| confine(call)(errno.into())
}

fn limit(resource: Resource, value: u64) -> Result<(), Fault> {
    let old = getrlimit(resource);
    let value = Some(old.maximum.map_or(value, |maximum| maximum.min(value)));
    setrlimit(resource, Rlimit { current: value, maximum: value }).map_err(os("setrlimit"))
}

fn landlock(tree: impl AsFd) -> Result<(), landlock::RulesetError> {
    let abi = ABI::V6;
    Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .add_rule(PathBeneath::new(tree, AccessFs::from_all(abi)))?
        .restrict_self()
        .map(drop)
}

fn drop_capabilities() -> Result<(), Fault> {
    for bit in 0..64 {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            // Behind the last capability the kernel knows.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(os("prctl(PR_CAPBSET_DROP)")(errno)),
        }
    }
    clear_ambient_capability_set().map_err(os("prctl(PR_CAP_AMBIENT_CLEAR_ALL)"))?;
    let held = capabilities(None).map_err(os("capget"))?;
    let kept = held.permitted & KEPT;
    let sets =
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(os("capset"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    #[test]
    fn landlock_leaves_the_tree_and_nothing_else() {
        let home = tempfile::TempDir::new().unwrap();
        let path = home.path().to_owned();
        fs::create_dir(path.join("a")).unwrap();
        fs::create_dir(path.join("b")).unwrap();
        fs::write(path.join("a/f"), "x").unwrap();
        let tree = File::open(&path).unwrap();
        // Landlock binds the thread that asks for it, and those it starts.
        let confined = std::thread::spawn(move || {
            landlock(&tree).unwrap();
            match File::open("/proc/self/status") {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                _ => return false,
            }
            assert!(fs::read_dir("/").is_err());
            assert!(fs::write("/dev/null", "x").is_err());
            assert!(std::process::Command::new("/bin/true").status().is_err());
            fs::hard_link(path.join("a/f"), path.join("b/f")).unwrap();
            fs::rename(path.join("a/f"), path.join("b/g")).unwrap();
            symlink("x", path.join("b/l")).unwrap();
            File::options().write(true).open(path.join("b/g")).unwrap().set_len(9).unwrap();
            true
        });
        if !confined.join().unwrap() {
            println!("skipped: this kernel has no Landlock");
        }
    }
}
