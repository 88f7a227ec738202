//! Names of entries: bytes to a path that stays beneath its root.
//!
//! Cleaning is lexical, as every unpacker does it for an entry's own name: `..` goes up and stops
//! at the root. Symbolic links are the sink's affair.

/// The longest path, without its NUL (`PATH_MAX`).
pub(super) const MAX_PATH: usize = 4095;

/// The longest component (`NAME_MAX`).
const MAX_COMPONENT: usize = 255;

/// Removes empty and `.` components, applies `..`, clamped at the root; the result may be empty.
/// What is wrong is told as the rest of a sentence about the entry.
pub(crate) fn clean(name: &[u8]) -> Result<Vec<u8>, &'static str> {
    if name.len() > MAX_PATH {
        return Err("has a path longer than 4095 bytes");
    }
    if name.contains(&0) {
        return Err("has a NUL byte in its path");
    }
    if name.is_empty() {
        return Err("has no name");
    }
    let mut path = Vec::with_capacity(name.len());
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                let parent = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                path.truncate(parent);
            }
            _ if component.len() > MAX_COMPONENT => {
                return Err("has a path component longer than 255 bytes");
            }
            _ => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(component);
            }
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_and_clamped_at_the_root() {
        let cases: &[(&[u8], &[u8])] = &[
            (b"a", b"a"),
            (b"./a//b/", b"a/b"),
            (b"/etc/passwd", b"etc/passwd"),
            (b"../../etc", b"etc"),
            (b"a/../../b", b"b"),
            (b"a/b/../c", b"a/c"),
            (b"./", b""),
            (b"..", b""),
            (b"a/..", b""),
            (b"a/...", b"a/..."),
            (b"\xff\n", b"\xff\n"),
        ];
        for (name, path) in cases {
            assert_eq!(clean(name).as_deref(), Ok(*path), "{}", name.escape_ascii());
        }
    }

    #[test]
    fn names_no_file_system_takes_are_refused() {
        let long = [b'x'; 256];
        let deep = b"a/".repeat(2048);
        for bad in [&b""[..], b"a\0b", &long, &deep] {
            assert!(clean(bad).is_err());
        }
    }
}
