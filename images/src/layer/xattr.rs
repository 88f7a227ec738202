//! Which extended attributes of an image reach a tree.
//!
//! An allow-list: `trusted.*` and `user.overlay.*` would steer overlayfs, `security.selinux` and
//! the like the host. What is not allowed is left out, as other engines do; what is allowed but
//! malformed is refused, for it would take effect in another way than written.

use super::entry::{Kind, Xattr};

/// Removes what may not be set on an entry of `kind`. An error is the rest of a sentence.
pub(super) fn allow(kind: &Kind, xattrs: &mut Vec<Xattr>) -> Result<(), &'static str> {
    let file = matches!(kind, Kind::File { .. });
    let directory = matches!(kind, Kind::Directory);
    let mut fault = None;
    xattrs.retain(|Xattr { name, value }| match name.as_slice() {
        b"security.capability" => {
            if file && !is_capability(value) {
                fault = Some("has a malformed `security.capability`");
            }
            file
        }
        b"system.posix_acl_access" | b"system.posix_acl_default" => {
            let wanted = directory || (file && name.ends_with(b"access"));
            if wanted && !is_acl(value) {
                fault = Some("has a malformed access control list");
            }
            wanted
        }
        name => {
            (file || directory)
                && name.len() > b"user.".len()
                && name.starts_with(b"user.")
                && !name.starts_with(b"user.overlay.")
                && !name.contains(&0)
        }
    });
    fault.map_or(Ok(()), Err)
}

/// Checks `struct vfs_cap_data` of linux/capability.h: revision, flag, and the size they demand.
fn is_capability(value: &[u8]) -> bool {
    let Some(magic) = value.first_chunk::<4>() else { return false };
    let magic = u32::from_le_bytes(*magic);
    let size = match magic >> 24 {
        1 => 12,
        2 => 20,
        3 => 24,
        _ => return false,
    };
    magic & 0x00ff_fffe == 0 && value.len() == size
}

/// Checks the frame of `struct posix_acl_xattr_header` and its entries; the kernel checks these.
fn is_acl(value: &[u8]) -> bool {
    value.first_chunk::<4>() == Some(&[2, 0, 0, 0]) && value.len() % 8 == 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(kind: &Kind, name: &str, value: &[u8]) -> Result<bool, ()> {
        let mut xattrs = vec![Xattr { name: name.into(), value: value.to_vec() }];
        allow(kind, &mut xattrs).map(|()| !xattrs.is_empty()).map_err(|_| ())
    }

    #[test]
    fn only_listed_attributes_are_kept() {
        let file = Kind::File { size: 0 };
        for name in ["user.note", "user.overlayed"] {
            assert_eq!(kept(&file, name, b"x"), Ok(true), "{name}");
            assert_eq!(kept(&Kind::Directory, name, b"x"), Ok(true), "{name}");
            assert_eq!(kept(&Kind::Fifo, name, b"x"), Ok(false), "{name}");
        }
        for name in [
            "user.",
            "user.overlay.opaque",
            "user.overlay.redirect",
            "trusted.overlay.opaque",
            "trusted.x",
            "security.selinux",
            "security.ima",
            "security.apparmor",
            "system.nfs4_acl",
            "btrfs.compression",
        ] {
            assert_eq!(kept(&file, name, b"x"), Ok(false), "{name}");
        }
    }

    #[test]
    fn file_capabilities_have_one_of_three_layouts() {
        let file = Kind::File { size: 0 };
        let capability = |magic: u32, size: usize| {
            let mut value = magic.to_le_bytes().to_vec();
            value.resize(size, 0x0a);
            value
        };
        for (magic, size, good) in [
            (0x0200_0001, 20, true),
            (0x0200_0000, 20, true),
            (0x0100_0000, 12, true),
            (0x0300_0001, 24, true),
            (0x0200_0001, 24, false),
            (0x0300_0001, 20, false),
            (0x0400_0000, 24, false),
            (0x0200_0002, 20, false),
            (0x0200_0001, 3, false),
        ] {
            let got = kept(&file, "security.capability", &capability(magic, size));
            assert_eq!(got, if good { Ok(true) } else { Err(()) }, "{magic:#x} {size}");
        }
        assert_eq!(kept(&Kind::Directory, "security.capability", b""), Ok(false));
    }
}
