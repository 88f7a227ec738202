//! Ranges of user ids for pods: which are free, and who holds which.
//!
//! A lease is a locked file `RUN-ROOT/userns/BASE`; the lock goes to the pod's supervisor by
//! descriptor and dies with it, so a file that nobody has locked is no lease, whoever left it.
//! Ranges that `/etc/subuid` or `/etc/subgid` promise to others than the user `pod` are left out.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pod_abi::stage::IdRange;
use pod_abi::{PodId, layout};
use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, flock, fstat, mkdirat, openat, statat, unlinkat,
};
use rustix::io::Errno;

use crate::error::{CommandError, Context as _, Result};

/// The first and the last id that may be given out: systemd's range for containers
/// (`UIDS-GIDS.md`), which no other allocator of a distribution uses.
const FIRST: u32 = 524_288;
const LAST: u32 = 1_879_048_191;
/// Ids in a range: what images expect a system to have.
const COUNT: u32 = 65_536;
/// How many ranges there are.
const RANGES: u32 = (LAST - FIRST + 1) / COUNT;

/// A leased range.
#[derive(Debug)]
pub(crate) struct Lease {
    /// The ids.
    pub(crate) range: IdRange,
    /// The locked file.
    pub(crate) file: OwnedFd,
}

/// Ids promised to somebody, both ends included.
type Span = (u32, u32);

/// Leases a range that nobody holds, beginning the search where `seed` points so that stores
/// which do not know each other rarely meet.
///
/// `subordinate` is the text of `/etc/subuid` and `/etc/subgid` together.
///
/// # Errors
///
/// `ids.exhausted`, or `storage`.
pub(crate) fn lease(run_root: BorrowedFd<'_>, seed: &PodId, subordinate: &str) -> Result<Lease> {
    match mkdirat(run_root, layout::USERNS_LEASES, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => {
            return Err(error).context(|| "cannot make the directory of id leases".to_owned());
        }
    }
    let promised = promised_to_others(subordinate);
    for base in bases(seed).filter(|base| is_free(&promised, *base)) {
        if let Some(file) = try_lock(run_root, base)? {
            return Ok(Lease { range: IdRange { base, count: COUNT }, file });
        }
    }
    Err(exhausted())
}

/// Returns the range that a lease for `seed` would try first: what a copy of the pod that is not
/// run by us may well have.
///
/// # Errors
///
/// `ids.exhausted` if all ranges are promised to others.
pub(crate) fn first_choice(seed: &PodId, subordinate: &str) -> Result<IdRange> {
    let promised = promised_to_others(subordinate);
    let base = bases(seed).find(|base| is_free(&promised, *base));
    base.map(|base| IdRange { base, count: COUNT }).ok_or_else(exhausted)
}

/// Returns the first ids of all ranges, in the order in which `seed` tries them.
fn bases(seed: &PodId) -> impl Iterator<Item = u32> {
    let start = u32::from_str_radix(seed.short(), 16).unwrap_or(0) % RANGES;
    (0..RANGES).map(move |step| FIRST + (start + step) % RANGES * COUNT)
}

fn is_free(promised: &[Span], base: u32) -> bool {
    !promised.iter().any(|(first, last)| *first < base + COUNT && *last >= base)
}

fn exhausted() -> CommandError {
    CommandError::new("ids.exhausted", "all ranges of user ids are in use")
        .hint("`--userns host` runs without one")
}

/// Locks the file of a range, making it; `None` if somebody holds it.
fn try_lock(run_root: BorrowedFd<'_>, base: u32) -> Result<Option<OwnedFd>> {
    let path = format!("{}/{base}", layout::USERNS_LEASES);
    let tell = || format!("cannot lease `{path}`");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(run_root, &path, flags, Mode::from_raw_mode(0o600)).context(tell)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error).context(tell),
    }
    // Whoever released the range between our open and our lock has unlinked this file.
    Ok(is_file_at(run_root, &path, file.as_fd()).then_some(file))
}

fn is_file_at(run_root: BorrowedFd<'_>, path: &str, file: BorrowedFd<'_>) -> bool {
    match (statat(run_root, path, AtFlags::SYMLINK_NOFOLLOW), fstat(file)) {
        (Ok(named), Ok(held)) => (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino),
        _ => false,
    }
}

/// Gives a range back whose locked file we have inherited or just locked.
pub(crate) fn release(run_root: BorrowedFd<'_>, base: u32, file: BorrowedFd<'_>) {
    let path = format!("{}/{base}", layout::USERNS_LEASES);
    if is_file_at(run_root, &path, file) {
        let _ = unlinkat(run_root, &path, AtFlags::empty()); // an unlocked file is no lease
    }
}

/// Gives a range back whose lock this process is known to hold.
pub(crate) fn discard(run_root: BorrowedFd<'_>, base: u32) {
    let path = format!("{}/{base}", layout::USERNS_LEASES);
    let _ = unlinkat(run_root, &path, AtFlags::empty()); // an unlocked file is no lease
}

/// Removes the file of a range if nobody holds it.
///
/// # Errors
///
/// `storage`.
pub(crate) fn release_if_free(run_root: BorrowedFd<'_>, base: u32) -> Result<()> {
    let path = format!("{}/{base}", layout::USERNS_LEASES);
    if statat(run_root, &path, AtFlags::SYMLINK_NOFOLLOW).is_ok()
        && let Some(file) = try_lock(run_root, base)?
    {
        release(run_root, base, file.as_fd());
    }
    Ok(())
}

/// Removes all files that nobody has locked. Returns how many.
///
/// # Errors
///
/// `storage`.
pub(crate) fn sweep(run_root: BorrowedFd<'_>) -> Result<usize> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = match openat(run_root, layout::USERNS_LEASES, flags, Mode::empty()) {
        Ok(dir) => dir,
        Err(Errno::NOENT) => return Ok(0),
        Err(error) => {
            return Err(error).context(|| "cannot open the directory of id leases".to_owned());
        }
    };
    let entries = rustix::fs::Dir::new(dir)
        .context(|| "cannot list the directory of id leases".to_owned())?;
    let mut swept = 0;
    for entry in entries.filter_map(std::result::Result::ok) {
        let base = entry.file_name().to_str().ok().and_then(|name| name.parse::<u32>().ok());
        if let Some(base) = base
            && let Some(file) = try_lock(run_root, base)?
        {
            release(run_root, base, file.as_fd());
            swept += 1;
        }
    }
    Ok(swept)
}

/// Reads what `subuid(5)` and `subgid(5)` promise to others than the user `pod`.
fn promised_to_others(text: &str) -> Vec<Span> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next().filter(|owner| !owner.is_empty() && *owner != "pod")?;
            let first: u32 = fields.next()?.parse().ok()?;
            let count: u32 = fields.next()?.parse().ok()?;
            (count > 0 && !owner.starts_with('#')).then(|| (first, first.saturating_add(count - 1)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed(start: &str) -> PodId {
        PodId::parse(&format!("{start}-0000-4000-8000-000000000000")).unwrap()
    }

    fn run_root() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        let fd = std::fs::File::open(dir.path()).unwrap().into();
        (dir, fd)
    }

    #[test]
    fn no_range_is_leased_twice() {
        let (_dir, root) = run_root();
        let first = lease(root.as_fd(), &seed("00000000"), "").unwrap();
        let second = lease(root.as_fd(), &seed("00000000"), "").unwrap();
        assert_eq!(first.range, IdRange { base: FIRST, count: COUNT });
        assert_eq!(second.range.base, FIRST + COUNT);
        release(root.as_fd(), FIRST, first.file.as_fd());
        drop(first);
        let third = lease(root.as_fd(), &seed("00000000"), "").unwrap();
        assert_eq!(third.range.base, FIRST);
    }

    #[test]
    fn ranges_promised_to_others_are_left_out() {
        let (_dir, root) = run_root();
        let text = "alice:524288:65536\n\n#bob:589824:65536\npod:589824:65536\nbroken:x:1\n";
        let lease = lease(root.as_fd(), &seed("00000000"), text).unwrap();
        assert_eq!(lease.range.base, FIRST + COUNT);
        assert_eq!(promised_to_others(text), [(524_288, 589_823)]);
    }

    #[test]
    fn every_seed_leads_into_the_range() {
        let (_dir, root) = run_root();
        let lease = lease(root.as_fd(), &seed("ffffffff"), "").unwrap();
        assert!(lease.range.base >= FIRST && lease.range.base <= LAST - COUNT + 1);
        assert_eq!((lease.range.base - FIRST) % COUNT, 0);
    }

    #[test]
    fn a_file_nobody_has_locked_is_swept_and_a_lease_is_not() {
        let (dir, root) = run_root();
        let kept = lease(root.as_fd(), &seed("00000000"), "").unwrap();
        std::fs::write(dir.path().join("userns/655360"), "").unwrap();
        assert_eq!(sweep(root.as_fd()).unwrap(), 1);
        assert!(dir.path().join(format!("userns/{}", kept.range.base)).exists());
    }
}
