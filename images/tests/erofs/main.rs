//! EROFS images against those who know the format: Debian's tools, this host's kernel, and a small
//! reader of our own that shares no line with the writer.
//!
//! Trees have owners, devices and trusted attributes, so all but the reader's own tests need root.
//! What is mounted is mounted in a namespace of the test's own thread and gone with it.

#![expect(clippy::unwrap_used, reason = "a test")]

mod damage;
mod facts;
mod model;
mod mounted;
mod need;
mod reader;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use images::write_erofs;
use model::{Item, Model, Order};
use proptest::prelude::*;
use reader::Facts;
use tempfile::TempDir;

/// The name of every image here.
const UUID: [u8; 16] = *b"an image's name.";

/// Writes the tree `tree` as the image `to`.
fn write(tree: &Path, to: &Path) {
    let image = OpenOptions::new().write(true).create_new(true).open(to).unwrap();
    write_erofs(File::open(tree).unwrap(), &image, UUID).unwrap();
}

/// A tree and its image in a directory of their own.
struct Pair {
    home: TempDir,
}

impl Pair {
    fn of(model: &Model) -> Self {
        let home = tempfile::tempdir().unwrap();
        let pair = Self { home };
        model.build(&pair.tree(), Order::Forwards);
        write(&pair.tree(), &pair.image());
        pair
    }

    fn tree(&self) -> PathBuf {
        self.home.path().join("tree")
    }

    fn image(&self) -> PathBuf {
        self.home.path().join("image")
    }
}

/// Runs a checker of erofs-utils and returns what it said.
fn check(program: &str, args: &[&str], image: &Path) -> String {
    let output = Command::new(program).args(args).arg(image).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{program}: {}: {said}", output.status);
    said
}

/// Compares the content of `image` as the kernel shows it with `expected`.
fn kernel_shows(image: &Path, expected: &BTreeMap<Vec<u8>, Facts>) {
    let at = image.with_extension("mount");
    fs::create_dir(&at).unwrap();
    let seen = mounted::privately(|| {
        mounted::image(image, &at);
        facts::of(&at)
    });
    facts::agree(&seen, expected);
    fs::remove_dir(&at).unwrap();
}

#[test]
fn everything_a_layer_can_hold_is_the_same_to_the_kernel_the_tools_and_our_reader() {
    if !need::root() || !need::erofs() {
        return;
    }
    let pair = Pair::of(&Model::of_every_kind());
    let expected = facts::of(&pair.tree());
    kernel_shows(&pair.image(), &expected);
    let bytes = fs::read(pair.image()).unwrap();
    facts::agree(&reader::read(&bytes).unwrap(), &expected);
    if need::program("fsck.erofs") && need::program("dump.erofs") {
        check("fsck.erofs", &["--extract"], &pair.image());
        let said = check("dump.erofs", &["-s"], &pair.image());
        for line in ["616e2069-6d61-6765-2773-206e616d652e", "sb_csum", "mtime"] {
            assert!(said.contains(line), "{line}: {said}");
        }
    }
}

#[test]
fn a_tree_makes_the_same_bytes_wherever_and_in_whatever_order_it_was_made() {
    if !need::root() {
        return;
    }
    let model = Model::of_every_kind();
    let home = tempfile::tempdir().unwrap();
    let make = |name: &str, order| {
        let tree = home.path().join(name);
        model.build(&tree, order);
        let image = home.path().join(format!("{name}.erofs"));
        write(&tree, &image);
        fs::read(image).unwrap()
    };
    let one = make("one", Order::Forwards);
    assert_eq!(one.len() % 4096, 0);
    assert!(one == make("another", Order::Backwards));
}

#[test]
fn holes_stay_holes() {
    if !need::root() {
        return;
    }
    let mut model = Model::default();
    let long = 1 << 30;
    model
        .put("hole", Item::Sparse { size: long, data: vec![(5 << 20, b"in the middle".to_vec())] });
    model.put("end", Item::Sparse { size: long + 100, data: vec![(long + 10, b"end".to_vec())] });
    let pair = Pair::of(&model);
    let image = fs::metadata(pair.image()).unwrap();
    assert!(image.len() > 2 * long);
    assert!(image.blocks() * 512 < 1 << 20, "{} blocks", image.blocks());
    let file = File::open(pair.image()).unwrap();
    let mut bytes = [0; 13];
    // Behind superblock and inodes, a block each.
    file.read_exact_at(&mut bytes, (2 << 12) + long + (5 << 20)).unwrap();
    assert_eq!(&bytes, b"in the middle");
}

#[test]
fn a_tree_that_has_no_form_is_refused_with_the_path() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("tree")).unwrap();
    let file = File::create(home.path().join("tree/huge")).unwrap();
    // The longest file ext4 holds is just too long; where even that is too long, so is this.
    if file.set_len((1 << 44) - 4096).is_err() {
        need::record("a file system with files of 16 TiB");
        return;
    }
    let image = File::create(home.path().join("image")).unwrap();
    let error = write_erofs(File::open(home.path().join("tree")).unwrap(), &image, UUID);
    assert_eq!(error.unwrap_err().kind(), images::ErrorKind::Invalid);
}

#[test]
fn some_of_the_file_system_stays_free() {
    if !need::root() {
        return;
    }
    let room = 20 << 20;
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    fs::create_dir(at("tree")).unwrap();
    fs::create_dir(at("room")).unwrap();
    // Of a file system so small, a hundredth.
    for (size, fits) in [(room - (300 << 10), true), (room - (100 << 10), false)] {
        fs::write(at("tree/file"), vec![7; size]).unwrap();
        let written = mounted::privately(|| {
            mounted::memory(room as u64, &at("room"));
            let image = File::create(at("room/image")).unwrap();
            write_erofs(File::open(at("tree")).unwrap(), &image, UUID).map_err(|e| e.kind())
        });
        assert_eq!(written, if fits { Ok(()) } else { Err(images::ErrorKind::NoSpace) }, "{size}");
    }
}

#[test]
fn layers_as_images_make_the_same_view_as_layers_as_trees() {
    if !need::root() || !need::erofs() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    let [lower, upper] = Model::of_two_layers();
    for (name, model) in [("lower", &lower), ("upper", &upper)] {
        model.build(&at(name), Order::Forwards);
        write(&at(name), &at(&format!("{name}.erofs")));
        fs::create_dir(at(&format!("{name}.mount"))).unwrap();
    }
    fs::create_dir(at("view")).unwrap();
    let trees = mounted::privately(|| {
        mounted::overlay(&[&at("upper"), &at("lower")], &at("view"));
        facts::of(&at("view"))
    });
    let images = mounted::privately(|| {
        for name in ["lower", "upper"] {
            mounted::image(&at(&format!("{name}.erofs")), &at(&format!("{name}.mount")));
        }
        mounted::overlay(&[&at("upper.mount"), &at("lower.mount")], &at("view"));
        facts::of(&at("view"))
    });
    facts::agree(&images, &trees);
    let there = |path: &str| images.contains_key(path.as_bytes());
    assert!(there("kept/below") && there("opaque/new") && there("both/low") && there("both/top"));
    assert!(!there("gone") && !there("opaque/old") && !there("both/gone"));
    assert_eq!(images[&b"replaced"[..]].content, b"top");
}

#[test]
fn large_directories_are_whole() {
    if !need::root() || !need::erofs() {
        return;
    }
    let mut model = Model::default();
    for at in 0..3000 {
        model.put(&format!("wide/{at:x}-{}", "n".repeat(at % 200)), Item::file(at % 70));
    }
    let pair = Pair::of(&model);
    let expected = facts::of(&pair.tree());
    let bytes = fs::read(pair.image()).unwrap();
    facts::agree(&reader::read(&bytes).unwrap(), &expected);
    kernel_shows(&pair.image(), &expected);
    if need::program("fsck.erofs") {
        check("fsck.erofs", &["--extract"], &pair.image());
    }
}

/// Not for fsck.erofs, which calls itself for every directory until its stack ends.
#[test]
fn deep_directories_are_whole() {
    if !need::root() || !need::erofs() {
        return;
    }
    let mut model = Model::default();
    let mut deep = String::from("d");
    while deep.len() + 2 < 2000 {
        deep.push_str("/d");
        model.put(&deep, Item::Directory);
    }
    let pair = Pair::of(&model);
    let expected = facts::of(&pair.tree());
    let bytes = fs::read(pair.image()).unwrap();
    facts::agree(&reader::read(&bytes).unwrap(), &expected);
    kernel_shows(&pair.image(), &expected);
}

#[test]
fn an_empty_tree_is_an_image_too() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("tree")).unwrap();
    write(&home.path().join("tree"), &home.path().join("image"));
    let bytes = fs::read(home.path().join("image")).unwrap();
    assert_eq!(bytes.len(), 2 * 4096);
    assert_eq!(reader::read(&bytes).unwrap().len(), 1);
}

#[test]
fn two_write_at_once_from_one_tree() {
    let home = tempfile::tempdir().unwrap();
    let tree = home.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for at in 0..200 {
        fs::write(tree.join(at.to_string()), vec![7; at * 97]).unwrap();
    }
    let image = |name: &str| home.path().join(name);
    thread::scope(|scope| {
        scope.spawn(|| write(&tree, &image("a")));
        scope.spawn(|| write(&tree, &image("b")));
    });
    assert!(fs::read(image("a")).unwrap() == fs::read(image("b")).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_tree_comes_back_as_it_was(model in model::any_tree()) {
        if !need::root() || !need::erofs() {
            return Ok(());
        }
        let pair = Pair::of(&model);
        let expected = facts::of(&pair.tree());
        let bytes = fs::read(pair.image()).unwrap();
        facts::agree(&reader::read(&bytes).unwrap(), &expected);
        kernel_shows(&pair.image(), &expected);
        if need::program("fsck.erofs") {
            check("fsck.erofs", &["--extract"], &pair.image());
        }
    }
}

mod hostile {
    //! Reading what nobody wrote: the reader ends, and its memory is bounded by its input.

    use super::*;

    /// An image of a few things, made once.
    fn image() -> Vec<u8> {
        let home = tempfile::tempdir().unwrap();
        let tree = home.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/file"), vec![1; 5000]).unwrap();
        fs::write(tree.join("a/b/small"), "x").unwrap();
        symlink("file", tree.join("a/link")).unwrap();
        fs::hard_link(tree.join("a/file"), tree.join("again")).unwrap();
        write(&tree, &home.path().join("image"));
        fs::read(home.path().join("image")).unwrap()
    }

    #[test]
    fn what_is_damaged_is_sound_at_first() {
        let tree = reader::read(&damage::SOUND).unwrap();
        let names: Vec<_> = tree.keys().map(|path| str::from_utf8(path).unwrap()).collect();
        assert_eq!(names, ["", "again", "file", "link", "sub", "sub/small"]);
        assert_eq!(tree[&b"file"[..]].content, [7; 5000]);
        assert_eq!(tree[&b"link"[..]].content, b"file");
        let small = &tree[&b"sub/small"[..]];
        assert_eq!(
            (&small.content[..], &small.attributes[&b"user.a"[..]][..]),
            (&b"x"[..], &b"bc"[..])
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_damage_is_an_error_or_another_tree(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            thread_local! { static IMAGE: Vec<u8> = image(); }
            let mut bytes = IMAGE.with(Clone::clone);
            for (at, value) in damage {
                // Most of an image is content; what matters is at the beginning of its blocks.
                let at = at.index(bytes.len());
                let at = if value & 1 == 0 { at } else { at / 4096 * 4096 + at % 512 };
                bytes[at] = value;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            damage::read(&bytes);
        }

        #[test]
        fn no_changes_of_what_matters_do_harm(deeds in prop::collection::vec(any::<u8>(), 0..60)) {
            damage::body(&deeds);
        }

        #[test]
        fn noise_is_no_image(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
            damage::read(&bytes);
        }
    }
}
