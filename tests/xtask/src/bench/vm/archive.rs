//! The guest that is measured: an initramfs in which init is `echo` of busybox.
//!
//! A `cpio` archive of the form `newc` (`Documentation/driver-api/early-userspace/buffer-format.rst`
//! of Linux).

/// What init writes first, at the serial port: nothing that a driver writes there before.
pub(super) const BYTE: u8 = b'~';
/// What the kernel's command line has beside what is always there.
pub(super) const ARGUMENTS: &str = "rdinit=/bin/echo -- ~~~~";

/// Makes the archive around a static busybox.
pub(super) fn of(busybox: &[u8]) -> Vec<u8> {
    const DIRECTORY: u32 = 0o040_755;
    const PROGRAM: u32 = 0o100_755;
    const LINK: u32 = 0o120_777;
    const CHARACTERS: u32 = 0o020_600;
    /// Where what init says goes to: major and minor number of the console.
    const CONSOLE: (u32, u32) = (5, 1);

    let mut archive = Vec::new();
    let mut add = |name: &str, mode: u32, device: (u32, u32), content: &[u8]| {
        let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        let fields = [1, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0]
            .map(|field| format!("{field:08x}"));
        archive.extend(b"070701");
        archive.extend(fields.concat().bytes());
        archive.extend(name.bytes().chain([0]));
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend(content);
        archive.resize(archive.len().next_multiple_of(4), 0);
    };
    add("bin", DIRECTORY, (0, 0), b"");
    add("dev", DIRECTORY, (0, 0), b"");
    add("dev/console", CHARACTERS, CONSOLE, b"");
    add("bin/busybox", PROGRAM, (0, 0), busybox);
    add("bin/echo", LINK, (0, 0), b"busybox");
    add("TRAILER!!!", 0, (0, 0), b"");
    archive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_it_is_aligned() {
        let archive = of(b"12345");
        assert_eq!(archive.len() % 4, 0);
        let at = archive.windows(5).position(|window| window == b"12345");
        assert_eq!(at.map(|at| at % 4), Some(0));
        assert!(archive.starts_with(b"070701"));
    }
}
