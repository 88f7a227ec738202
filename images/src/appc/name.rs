//! Where an entry of an image's archive lies.
//!
//! There are two names at the top, `manifest` and `rootfs`, and nothing may lie elsewhere. Unlike
//! those of layers, names that go up are refused instead of clamped: no maker of images wrote them.

use crate::layer::clean;

/// What a name in the archive stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The directory both are in, which `tar -c .` writes.
    Top,
    /// The manifest.
    Manifest,
    /// The root of the image, or a path beneath, relative to it and clean.
    Rootfs(Vec<u8>),
}

impl Place {
    /// Finds out where `name` is; what is wrong is told as the rest of a sentence.
    pub(super) fn of(name: &[u8]) -> Result<Self, &'static str> {
        if name.starts_with(b"/") {
            return Err("has an absolute name");
        }
        if name.split(|byte| *byte == b'/').any(|component| component == b"..") {
            return Err("has a name that goes up");
        }
        let path = clean(name)?;
        match path.as_slice() {
            b"" => Ok(Self::Top),
            b"manifest" => Ok(Self::Manifest),
            b"rootfs" => Ok(Self::Rootfs(Vec::new())),
            _ => beneath(path.strip_prefix(b"rootfs/")),
        }
    }
}

fn beneath(path: Option<&[u8]>) -> Result<Place, &'static str> {
    let path = path.ok_or("lies outside of `rootfs`")?;
    // SECURITY: in a layer such a name removes what lies in the layers beneath.
    if path.split(|byte| *byte == b'/').any(|component| component.starts_with(b".wh.")) {
        return Err("has a name with `.wh.`, which means absence in layers");
    }
    Ok(Place::Rootfs(path.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_two_names_and_what_is_in_the_second() {
        for (name, place) in [
            ("./", Place::Top),
            ("./manifest", Place::Manifest),
            ("rootfs", Place::Rootfs(Vec::new())),
            ("./rootfs//", Place::Rootfs(Vec::new())),
            ("rootfs/a/./b/", Place::Rootfs(b"a/b".to_vec())),
            ("rootfs/manifest", Place::Rootfs(b"manifest".to_vec())),
        ] {
            assert_eq!(Place::of(name.as_bytes()), Ok(place), "{name}");
        }
    }

    #[test]
    fn nothing_lies_elsewhere() {
        for bad in [
            "",
            "/rootfs",
            "/manifest",
            "rootfs/..",
            "rootfs/../x",
            "rootfs/a/../b",
            "../rootfs/a",
            "rootfsx",
            "rootfs.d/a",
            "manifest/a",
            "etc/passwd",
            "rootfs/.wh.a",
            "rootfs/.wh..wh..opq",
            "rootfs/.wh.a/b",
        ] {
            assert!(Place::of(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Place::of(&[b"rootfs/", &[b'x'; 256][..]].concat()).is_err());
    }
}
