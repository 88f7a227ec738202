//! Names in archives: relative, of plain components, or refused.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The longest name, the kernel's `PATH_MAX`, and the deepest.
const MAX_NAME: usize = 4095;
const MAX_DEPTH: usize = 256;

/// Reads a name: empty components and `.` are dropped, so that the empty path is the top itself.
///
/// # Errors
///
/// [`Error::Refused`] for `..`, NUL bytes, and what is too long or too deep. A leading slash is
/// dropped, as every tar does.
pub(crate) fn read(name: &[u8]) -> Result<PathBuf, Error> {
    let path = Path::new(OsStr::from_bytes(name));
    if name.len() > MAX_NAME || name.contains(&0) {
        return Err(Error::refused(path, "whose name is too long or holds a NUL byte"));
    }
    let mut clean = PathBuf::new();
    let parts = name.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    for (depth, part) in parts.enumerate() {
        if part == b".." || part.len() > 255 || depth >= MAX_DEPTH {
            return Err(Error::refused(path, "whose name leads out of the archive or too deep"));
        }
        clean.push(OsStr::from_bytes(part));
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Component;

    use proptest::prelude::*;

    #[test]
    fn a_name_is_plain_components_or_refused() {
        let clean = |name: &[u8]| read(name).ok().map(|path| path.display().to_string());
        assert_eq!(clean(b"./a//b/"), Some("a/b".to_owned()));
        assert_eq!(clean(b"/etc/passwd"), Some("etc/passwd".to_owned()));
        assert_eq!(clean(b"."), Some(String::new()));
        for bad in [&b"../a"[..], b"a/../b", b"a\0b", &[b'a'; 300], &b"a/".repeat(300)] {
            assert_eq!(clean(bad), None);
        }
    }

    proptest! {
        #[test]
        fn no_name_leads_anywhere_else(name in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(path) = read(&name) {
                let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
                prop_assert!(path.components().all(plain));
            }
        }
    }
}
