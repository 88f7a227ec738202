//! Where everything of a tree goes: pure, from sizes alone.
//!
//! Inodes follow each other as the tree's nodes do. The last part of a content that does not fill
//! a block goes behind its inode if there is room in the block, and into the next block if it is
//! small enough that little is lost by that; else it fills a block of its own. Whole blocks lie
//! behind all inodes, in the same order.

use std::collections::BTreeMap;

use super::fault::Fault;
use super::format::{self, BLOCK, Content, METADATA, ROOT, SLOT, Time};
use super::scan::{Kind, Node, Tree};

/// Up to here it pays to leave the rest of a block empty so that an inode and the last part of its
/// content are in one block; beyond, more is lost than a block of its own costs.
const WORTH_A_NEW_BLOCK: u64 = BLOCK / 2;

/// Where a node goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Bytes from the beginning of the metadata.
    pub(super) at: u64,
    /// The first of its blocks in the image; 0 if it has none.
    pub(super) block: u32,
    pub(super) content: Content,
    pub(super) compact: bool,
}

impl Place {
    /// Returns the number of the inode.
    pub(super) const fn inode(&self) -> u64 {
        self.at / SLOT
    }
}

/// Where all nodes go.
#[derive(Debug)]
pub(super) struct Layout {
    /// As many as the tree has nodes.
    pub(super) places: Vec<Place>,
    /// The time of compact inodes.
    pub(super) epoch: Time,
    /// All blocks of the image.
    pub(super) blocks: u32,
}

impl Layout {
    /// Gives every node of `tree` its place.
    pub(super) fn of(tree: &Tree) -> Result<Self, Fault> {
        let epoch = commonest(tree);
        let mut places = Vec::with_capacity(tree.nodes.len());
        let mut at = u64::from(ROOT) * SLOT;
        // Counted from the first block behind the metadata, whose number is not known yet.
        let mut blocks = 0_u64;
        for node in &tree.nodes {
            let size = tree.size(node);
            let compact = is_compact(tree, node) && node.time == epoch;
            let head = format::inode_size(compact) + tree.attributes[node.attributes].len() as u64;
            let spot = Spot::of(at, head, size % BLOCK, &node.kind);
            let whole = match spot.content {
                Content::Plain => size.div_ceil(BLOCK),
                Content::Inline => size / BLOCK,
            };
            let block = u32::try_from(blocks).map_err(|_| Fault::TooLarge)?;
            let content = spot.content;
            places.push(Place { at: spot.at, block, content, compact });
            at = spot.end.next_multiple_of(SLOT);
            blocks = blocks.checked_add(whole).ok_or(Fault::TooLarge)?;
        }
        let first = u64::from(METADATA) + at.div_ceil(BLOCK);
        let total = first.checked_add(blocks).ok_or(Fault::TooLarge)?;
        let total = u32::try_from(total).map_err(|_| Fault::TooLarge)?;
        for (node, place) in tree.nodes.iter().zip(&mut places) {
            let has_blocks = match place.content {
                Content::Plain => tree.size(node) > 0,
                Content::Inline => tree.size(node) >= BLOCK,
            };
            // Below the total, which fits.
            let shift = u32::try_from(first).map_err(|_| Fault::TooLarge)?;
            place.block = if has_blocks { place.block + shift } else { 0 };
        }
        Ok(Self { places, epoch, blocks: total })
    }
}

/// Where one inode goes.
struct Spot {
    at: u64,
    content: Content,
    /// Behind its last byte.
    end: u64,
}

impl Spot {
    /// Finds a place at or behind `at` for an inode that has `head` bytes with its attributes and
    /// whose content has `tail` bytes behind the last whole block.
    fn of(at: u64, head: u64, tail: u64, kind: &Kind) -> Self {
        let room = BLOCK - at % BLOCK;
        let next = at + room;
        let need = head + tail;
        // A link is read at once only if it lies with its inode.
        let worth = matches!(kind, Kind::Link(_)) || need <= WORTH_A_NEW_BLOCK;
        if tail > 0 && need <= room {
            Self { at, content: Content::Inline, end: at + need }
        } else if tail > 0 && need <= BLOCK && worth {
            Self { at: next, content: Content::Inline, end: next + need }
        } else {
            // No border runs through an inode, unless its attributes are longer than a block.
            let at = if head > room { next } else { at };
            Self { at, content: Content::Plain, end: at + head }
        }
    }
}

/// Tells whether a node fits a compact inode, its time aside.
fn is_compact(tree: &Tree, node: &Node) -> bool {
    format::fits_compact(tree.size(node), node.links, node.owner, node.group)
}

/// Returns the time most inodes have that could be compact, the earliest if there are several.
fn commonest(tree: &Tree) -> Time {
    let mut counts: BTreeMap<Time, u32> = BTreeMap::new();
    for node in tree.nodes.iter().filter(|node| node.time.seconds >= 0) {
        if is_compact(tree, node) {
            *counts.entry(node.time).or_default() += 1;
        }
    }
    let most = counts.iter().rev().max_by_key(|(_, count)| **count);
    most.map(|(time, _)| *time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(kind: Kind, seconds: i64, owner: u32) -> Node {
        let time = Time { seconds, nanoseconds: 0 };
        Node { kind, mode: 0, owner, group: 0, time, links: 1, attributes: 0 }
    }

    fn tree(sizes: &[u64]) -> Tree {
        let file = |size: &u64| node(Kind::File { size: *size }, 1, 0);
        Tree {
            nodes: sizes.iter().map(file).collect(),
            directories: Vec::new(),
            attributes: vec![[].into()],
        }
    }

    #[test]
    fn tails_go_where_they_cost_least() {
        let layout = Layout::of(&tree(&[0, 100, 4096, 8200, 3000, 3000, 1500, 2500])).unwrap();
        let seen: Vec<(u64, u32, Content)> =
            layout.places.iter().map(|place| (place.at, place.block, place.content)).collect();
        use Content::{Inline, Plain};
        assert_eq!(
            seen,
            [
                (32, 0, Plain),
                (64, 0, Inline),
                (224, 3, Plain),
                (256, 4, Inline),
                (320, 0, Inline),
                (3360, 6, Plain),
                (4096, 0, Inline),
                (5632, 0, Inline),
            ]
        );
        assert_eq!(layout.blocks, 1 + 2 + 4);
    }

    #[test]
    fn no_inode_and_no_tail_crosses_a_border() {
        let sizes: Vec<u64> = (0..5000).map(|at| at * 37 % 9000).collect();
        let mut tree = tree(&sizes);
        for (at, node) in tree.nodes.iter_mut().enumerate() {
            node.owner = if at % 3 == 0 { 1 << 20 } else { 0 };
        }
        let layout = Layout::of(&tree).unwrap();
        let (mut end, mut next) = (32, layout.places.iter().map(|p| p.block).find(|b| *b > 0));
        for (place, size) in layout.places.iter().zip(&sizes) {
            assert!(place.at >= end && place.at % SLOT == 0);
            let inline = place.content == Content::Inline;
            let tail = if inline { size % BLOCK } else { 0 };
            end = place.at + format::inode_size(place.compact) + tail;
            assert_eq!(place.at / BLOCK, (end - 1) / BLOCK);
            let whole = if inline { size / BLOCK } else { size.div_ceil(BLOCK) };
            if whole > 0 {
                assert_eq!(Some(place.block), next);
                next = Some(place.block + u32::try_from(whole).unwrap());
            }
        }
        assert_eq!(Some(layout.blocks), next);
    }

    #[test]
    fn the_commonest_time_makes_compact_inodes() {
        let mut tree = tree(&[0, 0, 0, 0]);
        tree.nodes.push(node(Kind::File { size: 1 << 32 }, 2, 0));
        tree.nodes[0].time.seconds = 9;
        tree.nodes[1].time.seconds = 2;
        tree.nodes[2].owner = 70_000;
        tree.nodes[3].time.seconds = 2;
        let layout = Layout::of(&tree).unwrap();
        assert_eq!(layout.epoch.seconds, 2);
        let compact: Vec<bool> = layout.places.iter().map(|place| place.compact).collect();
        assert_eq!(compact, [false, true, false, true, false]);
    }

    #[test]
    fn what_is_larger_than_an_image_is_refused() {
        assert!(Layout::of(&tree(&[1 << 43])).is_ok());
        for sizes in [&[1 << 44, 1][..], &[u64::MAX], &[u64::MAX; 3]] {
            assert!(matches!(Layout::of(&tree(sizes)), Err(Fault::TooLarge)));
        }
    }
}
