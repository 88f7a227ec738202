//! The digest of a file as the kernel computes it for a sealed one, on any kernel.
//!
//! A tree of SHA-256 over blocks of 4096 bytes, without salt, and a descriptor around its root
//! (`Documentation/filesystems/fsverity.rst`, "Merkle tree" and "fs-verity descriptor"). `fsverity
//! digest` prints the same. Pure but for the reading; sealing itself is `pod_sys::seal_file`.

use std::io::{self, Read};
use std::os::fd::AsFd;

use pod_abi::Digest;
use sha2::{Digest as _, Sha256};

use crate::content::fill;

/// Bytes of a block, of data and of the tree.
const BLOCK: usize = 4096;
/// Its logarithm, as the descriptor has it.
const LOG_BLOCK: u8 = 12;
/// Bytes of a hash.
const HASH: usize = 32;
/// Bytes of the descriptor.
const DESCRIPTOR: usize = 256;
/// `FS_VERITY_HASH_ALG_SHA256`.
const SHA256: u8 = 1;
/// Bytes read at a time.
const AT_ONCE: usize = 64 * BLOCK;

/// Returns the digest of what `file` gives until it ends.
///
/// # Errors
///
/// That of reading.
pub(crate) fn digest(mut file: impl Read) -> io::Result<Digest> {
    let mut tree = Tree::default();
    let mut length: u64 = 0;
    let mut buffer = vec![0; AT_ONCE];
    loop {
        let filled = fill(&mut file, &mut buffer)?;
        for block in buffer[..filled].chunks(BLOCK) {
            tree.add(0, hash_block(block));
        }
        length = length.saturating_add(filled as u64);
        if filled < AT_ONCE {
            break;
        }
    }
    Ok(of_hash(Sha256::digest(descriptor(length, tree.root())).into()))
}

/// Returns the digest the kernel keeps for `file`, if it is sealed.
///
/// # Errors
///
/// That of asking it.
pub(crate) fn sealed_with(file: impl AsFd) -> io::Result<Option<Digest>> {
    Ok(pod_sys::seal_of(file.as_fd())?.map(of_hash))
}

fn of_hash(hash: [u8; HASH]) -> Digest {
    Digest::from_hash(&hash).expect("32 bytes are a digest")
}

/// Hashes a block, which ends in zeros if it is not whole.
fn hash_block(block: &[u8]) -> [u8; HASH] {
    let mut hasher = Sha256::new();
    hasher.update(block);
    hasher.update(&[0; BLOCK][block.len()..]);
    hasher.finalize().into()
}

/// The last, unfinished block of each level of the tree, the lowest first.
#[derive(Default)]
struct Tree {
    levels: Vec<Vec<u8>>,
}

impl Tree {
    /// Adds a digest to a level. A block is hashed when one more digest comes, as the last block
    /// of the last level is the root.
    fn add(&mut self, level: usize, digest: [u8; HASH]) {
        if level == self.levels.len() {
            self.levels.push(Vec::with_capacity(BLOCK));
        }
        if self.levels[level].len() == BLOCK {
            let full = hash_block(&self.levels[level]);
            self.levels[level].clear();
            self.add(level + 1, full);
        }
        self.levels[level].extend_from_slice(&digest);
    }

    /// Returns the digest on top: of zeros if there is no data at all.
    fn root(mut self) -> [u8; HASH] {
        let mut level = 0;
        while let Some(block) = self.levels.get(level) {
            if level + 1 == self.levels.len()
                && let Ok(only) = <[u8; HASH]>::try_from(block.as_slice())
            {
                return only;
            }
            let hashed = hash_block(block);
            self.add(level + 1, hashed);
            level += 1;
        }
        [0; HASH]
    }
}

/// `struct fsverity_descriptor`, without salt and signature.
fn descriptor(length: u64, root: [u8; HASH]) -> [u8; DESCRIPTOR] {
    let mut descriptor = [0; DESCRIPTOR];
    descriptor[..3].copy_from_slice(&[1, SHA256, LOG_BLOCK]);
    descriptor[8..16].copy_from_slice(&length.to_le_bytes());
    descriptor[16..16 + HASH].copy_from_slice(&root);
    descriptor
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn of(bytes: &[u8]) -> String {
        digest(bytes).unwrap().hex().to_owned()
    }

    /// Bytes whose blocks differ.
    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|at| u8::try_from((at / 7 + at / BLOCK * 31) % 251).unwrap()).collect()
    }

    #[test]
    fn it_is_what_the_tool_of_the_kernels_authors_computes() {
        // Around the edges of one, two and three levels: a block of the tree has 128 digests.
        let lengths = [0, 1, 4095, 4096, 4097, 8192, 128 << 12, (128 << 12) + 1, (129 << 12) + 5];
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        for length in lengths.into_iter().chain([(128 * 128) << 12, ((128 * 128) << 12) + 1]) {
            let bytes = bytes(length);
            std::fs::write(&path, &bytes).unwrap();
            let told = Command::new("fsverity").args(["digest", "--compact"]).arg(&path).output();
            let told = String::from_utf8(told.expect("the package `fsverity`").stdout).unwrap();
            assert_eq!(told.trim(), of(&bytes), "{length}");
        }
    }

    #[test]
    fn every_byte_counts_and_so_does_the_length() {
        let whole = bytes(3 * BLOCK + 17);
        let digest = of(&whole);
        for at in [0, BLOCK, whole.len() - 1] {
            let mut other = whole.clone();
            other[at] ^= 1;
            assert_ne!(of(&other), digest, "{at}");
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert_ne!(of(&longer), digest);
    }
}
