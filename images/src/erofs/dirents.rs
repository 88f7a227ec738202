//! The content of a directory: entries by name, in blocks that each can be read alone.
//!
//! ```text
//! block: entry … entry name … name 0…      the first entry's `nameoff` tells how many there are
//! ```
//!
//! Sorted by bytes over all blocks, `.` and `..` among them, for kernels look names up by bisection
//! (`fs/erofs/namei.c`). An entry is never parted from its name.

use std::ops::Range;

use super::format::{self, BLOCK, BLOCK_BYTES, ENTRY};
use super::scan::Entry;

/// Returns which entries stand in which block, in order.
pub(super) fn blocks(entries: &[Entry]) -> Vec<Range<usize>> {
    let mut blocks = Vec::new();
    let (mut begin, mut used) = (0, 0);
    for (at, entry) in entries.iter().enumerate() {
        let need = ENTRY + entry.name.len();
        if used + need > BLOCK_BYTES {
            blocks.push(begin..at);
            (begin, used) = (at, 0);
        }
        used += need;
    }
    blocks.push(begin..entries.len());
    blocks
}

/// Returns the size of a directory: all blocks but the last are full.
pub(super) fn size(entries: &[Entry]) -> u64 {
    let (mut full, mut used) = (0, 0);
    for entry in entries {
        let need = (ENTRY + entry.name.len()) as u64;
        if used + need > BLOCK {
            (full, used) = (full + 1, 0);
        }
        used += need;
    }
    full * BLOCK + used
}

/// Appends one block's `entries` to `out`, unpadded. `inode` tells an entry's number and mode.
pub(super) fn put(out: &mut Vec<u8>, entries: &[Entry], inode: impl Fn(&Entry) -> (u64, u16)) {
    let mut name_at = entries.len() * ENTRY;
    for entry in entries {
        let (number, mode) = inode(entry);
        // Below a block's size, as `blocks` has seen to.
        let at = u16::try_from(name_at).unwrap_or(u16::MAX);
        out.extend(format::entry(number, at, mode));
        name_at += entry.name.len();
    }
    for entry in entries {
        out.extend(entry.name.iter());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(count: usize, length: usize) -> Vec<Entry> {
        let name = |at| format!("{at:0length$}").into_bytes().into();
        (0..count).map(|at| Entry { name: name(at), node: 0, first: true }).collect()
    }

    #[test]
    fn blocks_are_as_full_as_they_can_be_and_sizes_agree() {
        for (count, length) in [(1, 1), (2, 255), (16, 244), (17, 244), (1000, 9), (341, 12)] {
            let entries = entries(count, length);
            let blocks = blocks(&entries);
            let mut bytes = Vec::new();
            for (at, block) in blocks.iter().enumerate() {
                bytes.resize(at * BLOCK_BYTES, 0);
                put(&mut bytes, &entries[block.clone()], |_| (1, 0));
                assert!(bytes.len() <= (at + 1) * BLOCK_BYTES);
            }
            assert_eq!(bytes.len() as u64, size(&entries), "{count} of {length}");
            assert_eq!(blocks.iter().map(ExactSizeIterator::len).sum::<usize>(), count);
        }
        assert_eq!(size(&entries(16, 244)), BLOCK);
        assert_eq!(blocks(&entries(17, 244)), [0..16, 16..17]);
    }

    #[test]
    fn an_entry_has_the_bytes_of_the_kernel_s_structure() {
        let mut bytes = Vec::new();
        put(&mut bytes, &entries(1, 3), |_| (0x102, 0o040_755));
        assert_eq!(bytes, [2, 1, 0, 0, 0, 0, 0, 0, 12, 0, 2, 0, b'0', b'0', b'0']);
    }
}
