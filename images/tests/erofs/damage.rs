//! A small image and what can be done to it, for the tests here and for `tests/fuzz`.
//!
//! ```text
//!   block 0      block 1                                           blocks 2, 3
//!   superblock │ root ─ its entries │ link ─ target │ sub … │ …  │ content of `file`
//! ```

use std::sync::LazyLock;

use crate::reader::{self, MAX_CONTENT, MAX_NAMES};

/// Where the superblock lies, and how many bytes of it matter.
const SUPERBLOCK: (usize, usize) = (1024, 128);
/// The same of inodes, entries and attributes.
const METADATA: (usize, usize) = (4096, SLOTS * SLOT);
const SLOT: usize = 32;
const SLOTS: usize = 17;

/// Reads the sound image changed as the deeds say, or the deeds themselves as an image.
///
/// ```text
///   0…191:   place: 2, byte │ place: 2, byte │ …       changes of what matters
///   192…223: place: 2 │ place: 2, byte │ …             the same, and the end cut off
///   224…255: bytes …                                   as they are
/// ```
///
/// # Panics
///
/// If something is not as it must be.
pub(crate) fn body(deeds: &[u8]) {
    let Some((&which, mut rest)) = deeds.split_first() else { return };
    if which >= 224 {
        return read(rest);
    }
    let number = |bytes: &[u8; 2]| usize::from(u16::from_le_bytes(*bytes));
    let mut image = SOUND.clone();
    let mut end = image.len();
    if let (192.., Some((cut, changes))) = (which, rest.split_first_chunk::<2>()) {
        end = number(cut) % end;
        rest = changes;
    }
    while let Some((&[low, high, byte], changes)) = rest.split_first_chunk::<3>() {
        let place = number(&[low, high]) % (SUPERBLOCK.1 + METADATA.1);
        let place = match place.checked_sub(SUPERBLOCK.1) {
            None => SUPERBLOCK.0 + place,
            Some(place) => METADATA.0 + place,
        };
        image[place] = byte;
        rest = changes;
    }
    read(&image[..end]);
}

/// Reads an image; what is read makes sense and stays in its bounds.
pub(crate) fn read(image: &[u8]) {
    let Ok(tree) = reader::read(image) else { return };
    let content: u64 = tree.values().map(|facts| facts.content.len() as u64).sum();
    assert!(tree.len() <= MAX_NAMES + 1 && content <= MAX_CONTENT);
    for (path, facts) in &tree {
        let first = tree.get(&facts.same_as).expect("a path of the same inode");
        assert!(facts.same_as <= *path && first == facts, "two names have one inode");
        let mut names = path.split(|byte| *byte == b'/');
        assert!(path.is_empty() || names.all(|name| ![&b""[..], b".", b".."].contains(&name)));
        let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        assert!(tree[&path[..slash]].mode >> 12 == 0o04, "what is above is a directory");
    }
}

/// An image of a file with two names, a link, and a directory with a file that has an attribute.
pub(crate) static SOUND: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut image = vec![0; 4 * 4096];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(1024, &0xe0f5_e1e2_u32.to_le_bytes());
    put(1036, &[12, 0, ROOT, 0, 5]);
    put(1060, &[4, 0, 0, 0, 1]);
    let entries = |names: &[(&str, u8, u8)]| {
        let mut at = 12 * names.len();
        let (mut table, mut text) = (Vec::new(), Vec::new());
        for (name, number, kind) in names {
            table.extend([*number, 0, 0, 0, 0, 0, 0, 0]);
            table.extend(u16::try_from(at).unwrap_or(0).to_le_bytes());
            table.extend([*kind, 0]);
            text.extend(name.as_bytes());
            at += name.len();
        }
        [table, text].concat()
    };
    let (file, directory, link) = (1, 2, 7);
    let root = entries(&[
        (".", ROOT, directory),
        ("..", ROOT, directory),
        ("again", FILE, file),
        ("file", FILE, file),
        ("link", LINK, link),
        ("sub", SUB, directory),
    ]);
    let sub = entries(&[(".", SUB, directory), ("..", ROOT, directory), ("small", SMALL, file)]);
    let mut inode = |number: u8, mode: u16, length: usize, behind: &[u8]| {
        // What has nothing behind it lies in blocks, from the second on.
        let (format, place) = if behind.is_empty() { (0, 2) } else { (4, 0) };
        let [low, high] = mode.to_le_bytes();
        let [size, more, ..] = length.to_le_bytes();
        let head = [format, 0, 0, 0, low, high, 2, 0, size, more, 0, 0, 0, 0, 0, 0, place];
        let at = METADATA.0 + usize::from(number) * SLOT;
        put(at, &head);
        put(at + 32, behind);
    };
    inode(ROOT, 0o040_755, root.len(), &root);
    inode(FILE, 0o100_644, 5000, b"");
    inode(LINK, 0o120_777, 4, b"file");
    inode(SUB, 0o040_755, sub.len(), &sub);
    // The long form, with an attribute between it and its content.
    let attribute = [&[0; 12][..], &[1, 1, 2, 0], b"abc\0"].concat();
    let small = [&[0; 32][..], &attribute, b"x"].concat();
    inode(SMALL, 0o100_600, 1, &small);
    put(METADATA.0 + usize::from(SMALL) * SLOT, &[5, 0, 3]);
    put(2 * 4096, &[7; 5000]);
    image
});

/// Numbers of inodes: a slot each, and as many as what is behind it takes.
const ROOT: u8 = 1;
const FILE: u8 = 6;
const LINK: u8 = 7;
const SUB: u8 = 9;
const SMALL: u8 = 13;
