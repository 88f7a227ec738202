//! Which mount beneath a volume of the host cannot be mapped to a pod's ids.
//!
//! The kernel maps a whole tree of mounts or none of it, and does not say which was in the way.
//! Asked only to say so; nothing here changes a mount that anybody sees.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};

use pod_sys::MountFlags;
use rustix::fs::{CWD, Mode, OFlags, openat, readlink};

use crate::mounts::{self, Depth};

/// The longest table of mounts read, in bytes: a hundred thousand mounts.
const MAX_TABLE: u64 = 16 << 20;

/// Returns the first mount strictly beneath `path` that cannot be mapped, as a message names it.
pub(crate) fn first_unmappable(path: &str, user_namespace: &OwnedFd) -> Option<String> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let place = openat(CWD, path, flags, Mode::empty()).ok()?;
    let link = format!("/proc/self/fd/{}", place.as_raw_fd());
    let real = readlink(link, Vec::new()).ok()?.into_string().ok()?;
    let mut table = String::new();
    File::open("/proc/self/mountinfo").ok()?.take(MAX_TABLE).read_to_string(&mut table).ok()?;
    table.lines().filter_map(|line| beneath(line, &real)).find_map(|(point, kind)| {
        let tree = mounts::clone(CWD, &point, Depth::One).ok()?;
        let mapped = mounts::make_own(&tree, MountFlags::NONE, Some(user_namespace), Depth::One);
        mapped.is_err().then(|| format!("`{point}` ({kind})"))
    })
}

/// Returns mount point and file system of a line of mountinfo, if the mount is beneath `path`.
fn beneath<'l>(line: &'l str, path: &str) -> Option<(String, &'l str)> {
    let (mount, file_system) = line.split_once(" - ")?;
    let point = plain(mount.split(' ').nth(4)?)?;
    let rest = point.strip_prefix(path.trim_end_matches('/'))?;
    let kind = file_system.split(' ').next()?;
    (rest.len() > 1 && rest.starts_with('/')).then_some((point, kind))
}

/// Undoes the escapes of mountinfo: blank, tab, newline and backslash as three octal digits.
fn plain(word: &str) -> Option<String> {
    let mut parts = word.split('\\');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(3)?;
        text.push(char::from(u8::from_str_radix(digits, 8).ok()?));
        text.push_str(rest);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_strictly_beneath_are_named() {
        let line = |point: &str| format!("36 35 98:0 / {point} rw,noatime - nfs4 server:/x rw");
        let found = |point: &str, path: &str| {
            beneath(&line(point), path).map(|(point, kind)| format!("{point} {kind}"))
        };
        assert_eq!(found("/srv/a", "/srv").as_deref(), Some("/srv/a nfs4"));
        assert_eq!(found("/srv", "/srv"), None);
        assert_eq!(found("/srvs/a", "/srv"), None);
        assert_eq!(found("/a", "/").as_deref(), Some("/a nfs4"));
        assert_eq!(found("/", "/"), None);
        assert_eq!(found("/srv/a\\040b", "/srv").as_deref(), Some("/srv/a b nfs4"));
        assert_eq!(found("/srv/a\\04", "/srv"), None);
    }
}
