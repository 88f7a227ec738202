//! An archive as the kernel unpacks it into its first file system
//! (`Documentation/driver-api/early-userspace/buffer-format.rst`, "newc").
//!
//! The same entries make the same bytes: there is no time in it, no owner but root, and no number
//! but its place.

const MAGIC: &str = "070701";
const TRAILER: &str = "TRAILER!!!";

/// The kinds of entries, `st_mode` of `stat(2)`.
const DIRECTORY: u32 = 0o040_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const FILE: u32 = 0o100_000;

/// An archive that grows.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a directory; those above it come first.
    pub(crate) fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[]);
    }

    /// Adds a node of a character device.
    pub(crate) fn device(&mut self, path: &str, permissions: u32, device: (u32, u32)) {
        self.entry(path, CHARACTER_DEVICE | permissions, device, &[]);
    }

    /// Adds a file.
    pub(crate) fn file(&mut self, path: &str, permissions: u32, content: &[u8]) {
        self.entry(path, FILE | permissions, (0, 0), content);
    }

    /// Returns the archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry(TRAILER, 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        // Both are far below 4 GiB: what is archived was bounded when it was read.
        let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let name = u32::try_from(path.len()).unwrap_or(u32::MAX) + 1;
        let links = 1;
        let fields = [self.entries, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name, 0];
        self.bytes.extend_from_slice(MAGIC.as_bytes());
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_the_bytes_the_kernel_reads() {
        let mut archive = Archive::default();
        archive.device("null", 0o666, (1, 3));
        archive.file("a", 0o644, b"hello");
        let text = String::from_utf8(archive.finish()).unwrap();
        // number, mode, user, group, links, time, size, device, node, length of the name, sum
        let null = "070701\
            00000001000021b60000000000000000000000010000000000000000\
            000000000000000000000001000000030000000500000000null\0\0";
        let a = "070701\
            00000002000081a40000000000000000000000010000000000000005\
            000000000000000000000000000000000000000200000000a\0hello\0\0\0";
        let rest = text.strip_prefix(null).unwrap_or_else(|| panic!("{text}"));
        let rest = rest.strip_prefix(a).unwrap_or_else(|| panic!("{rest}"));
        assert!(rest.ends_with("TRAILER!!!\0\0\0\0"));
    }
}
