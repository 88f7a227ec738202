//! Trees to make images of: described first, then made, forwards or backwards.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps};

/// In which order siblings are made, which is what a directory's own order depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Forwards,
    Backwards,
}

/// What is at a path.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Directory,
    File(Vec<u8>),
    /// Nothing but these pieces.
    Sparse {
        size: u64,
        data: Vec<(u64, Vec<u8>)>,
    },
    Link(String),
    /// A further name of the file at this path, if that is one.
    Name(String),
    Device {
        kind: FileType,
        major: u32,
        minor: u32,
    },
}

/// What else is said of it.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    mode: u32,
    owner: (u32, u32),
    time: (i64, i64),
    attributes: Vec<(String, Vec<u8>)>,
}

impl Default for Said {
    fn default() -> Self {
        Self { mode: 0o755, owner: (0, 0), time: (1_700_000_000, 0), attributes: Vec::new() }
    }
}

/// A tree to be made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    /// By path. What lies beneath something that is no directory is left out.
    items: BTreeMap<String, (Item, Said)>,
    root: Said,
}

/// A whiteout of overlayfs.
const WHITEOUT: Item = Item::Device { kind: FileType::CharacterDevice, major: 0, minor: 0 };

impl Item {
    pub(crate) fn file(size: usize) -> Self {
        // Content by which pieces that are out of place are noticed.
        Self::File((0..size).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect())
    }
}

/// An access control list with user 1000 in it, as bytes of `system.posix_acl_access`.
fn acl() -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0];
    let none = u32::MAX;
    for (tag, bits, id) in [(1, 7, none), (2, 5, 1000), (4, 5, none), (16, 5, none), (32, 0, none)]
    {
        bytes.extend(u16::to_le_bytes(tag));
        bytes.extend(u16::to_le_bytes(bits));
        bytes.extend(u32::to_le_bytes(id));
    }
    bytes
}

impl Model {
    /// Puts `item` at `path`, and directories above it.
    pub(crate) fn put(&mut self, path: &str, item: Item) -> &mut Said {
        let ends: Vec<usize> = path.match_indices('/').map(|(at, _)| at).collect();
        for end in ends {
            let directory = || (Item::Directory, Said::default());
            self.items.entry(path[..end].to_owned()).or_insert_with(directory);
        }
        &mut self.items.entry(path.to_owned()).insert_entry((item, Said::default())).into_mut().1
    }

    /// One of everything, with the borders of every number.
    pub(crate) fn of_every_kind() -> Self {
        let mut model = Self::default();
        for size in [0, 1, 31, 32, 2000, 4000, 4032, 4095, 4096, 4097, 8191, 8192, 12_300, 100_000]
        {
            model.put(&format!("sizes/{size}"), Item::file(size));
        }
        let long = "n".repeat(255);
        model.put(&long, Item::file(3));
        for odd in ["!before the dots", "-", "+", "..more", ".a", "\u{e9}", "a b", "new\nline"] {
            model.put(&format!("odd/{odd}"), Item::file(1));
        }
        model.put("link", Item::Link("sizes/1".into()));
        model.put("links/long", Item::Link("l".repeat(4095)));
        model.put("links/half", Item::Link("h".repeat(2500)));
        model.put("links/dangling", Item::Link("/nowhere".into()));
        model.put("hard/one", Item::Name("sizes/100000".into()));
        model.put("hard/two", Item::Name("sizes/100000".into()));
        model.put("hard/link", Item::Name("link".into()));
        for (name, kind, major, minor) in [
            ("null", FileType::CharacterDevice, 1, 3),
            ("disk", FileType::BlockDevice, 259, 0xf_1234),
            ("high", FileType::CharacterDevice, 0xfff, 0xf_ffff),
            ("pipe", FileType::Fifo, 0, 0),
            ("socket", FileType::Socket, 0, 0),
        ] {
            model.put(&format!("devices/{name}"), Item::Device { kind, major, minor });
        }
        model.put("gone", WHITEOUT);
        let opaque = ("trusted.overlay.opaque".to_owned(), b"y".to_vec());
        model.put("opaque", Item::Directory).attributes.push(opaque);
        for (name, mode) in
            [("setuid", 0o4755), ("setgid", 0o2750), ("none", 0), ("sticky", 0o1777)]
        {
            model.put(&format!("modes/{name}"), Item::file(1)).mode = mode;
        }
        for (name, owner) in
            [("low", (65_535, 65_535)), ("high", (65_536, 1)), ("most", (0, u32::MAX - 1))]
        {
            model.put(&format!("owners/{name}"), Item::file(1)).owner = owner;
        }
        let times = [("before", (-1, 999_999_999)), ("far", (1 << 33, 1)), ("zero", (0, 0))];
        for (name, time) in times {
            model.put(&format!("times/{name}"), Item::file(1)).time = time;
        }
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].to_vec();
        let file = model.put("attributes/capable", Item::file(10));
        file.attributes.push(("security.capability".into(), capability));
        let file = model.put("attributes/listed", Item::file(4096));
        file.attributes = vec![
            ("user.note".into(), b"some words".to_vec()),
            ("user.empty".into(), Vec::new()),
            ("system.posix_acl_access".into(), acl()),
        ];
        let directory = model.put("attributes/default", Item::Directory);
        directory.attributes.push(("system.posix_acl_default".into(), acl()));
        let file = model.put("attributes/long", Item::file(4000));
        file.attributes.push(("user.long".into(), vec![b'v'; 3500]));
        model.put("sparse", Item::Sparse { size: 3 << 20, data: vec![(1 << 20, vec![9; 5000])] });
        model.root = Said { mode: 0o1711, owner: (7, 8), time: (5, 6), attributes: Vec::new() };
        model
    }

    /// A layer, and one above that hides some of it.
    pub(crate) fn of_two_layers() -> [Self; 2] {
        let (mut lower, mut upper) = (Self::default(), Self::default());
        for path in
            ["gone", "opaque/old", "both/low", "both/gone", "kept/below", "replaced", "tree/a"]
        {
            lower.put(path, Item::File(b"low".to_vec()));
        }
        lower.put("kept/again", Item::Name("kept/below".into()));
        for path in ["opaque/new", "both/top", "replaced", "new/one"] {
            upper.put(path, Item::File(b"top".to_vec()));
        }
        upper.put("gone", WHITEOUT);
        upper.put("both/gone", WHITEOUT);
        upper.put("tree", Item::Link("new".into()));
        let opaque = ("trusted.overlay.opaque".to_owned(), b"y".to_vec());
        upper.put("opaque", Item::Directory).attributes.push(opaque);
        [lower, upper]
    }

    /// Makes it at `root`, which must not be there.
    pub(crate) fn build(&self, root: &Path, order: Order) {
        fs::create_dir(root).unwrap();
        let mut items: Vec<(&String, &(Item, Said))> = self.items.iter().collect();
        for (path, (item, _)) in &items {
            if matches!(item, Item::Directory) && self.has_way_to(path) {
                fs::create_dir(at(root, path)).unwrap();
            }
        }
        if order == Order::Backwards {
            items.reverse();
        }
        for (path, (item, _)) in &items {
            if self.has_way_to(path) {
                make(item, &at(root, path));
            }
        }
        for (path, (item, _)) in &items {
            if let Item::Name(target) = item
                && self.has_way_to(path)
                && matches!(self.items.get(target), Some((Item::File(_) | Item::Link(_), _)))
                && self.has_way_to(target)
            {
                fs::hard_link(at(root, target), at(root, path)).unwrap();
            }
        }
        // From the leaves up, for what is put into a directory changes its time.
        for (path, (item, said)) in self.items.iter().rev() {
            if self.has_way_to(path) && !matches!(item, Item::Name(_)) {
                apply(said, item, &at(root, path));
            }
        }
        apply(&self.root, &Item::Directory, root);
    }

    /// Tells whether everything above a path is a directory.
    fn has_way_to(&self, path: &str) -> bool {
        path.match_indices('/')
            .all(|(end, _)| matches!(self.items.get(&path[..end]), Some((Item::Directory, _))))
    }
}

fn at(root: &Path, path: &str) -> PathBuf {
    root.join(OsStr::from_bytes(path.as_bytes()))
}

fn make(item: &Item, at: &Path) {
    match item {
        Item::Directory | Item::Name(_) => {}
        Item::File(content) => fs::write(at, content).unwrap(),
        Item::Sparse { size, data } => {
            let file = File::create(at).unwrap();
            file.set_len(*size).unwrap();
            for (offset, piece) in data {
                file.write_all_at(piece, *offset).unwrap();
            }
        }
        Item::Link(target) => symlink(target, at).unwrap(),
        Item::Device { kind, major, minor } => {
            let path = CString::new(at.as_os_str().as_bytes()).unwrap();
            let device = rustix::fs::makedev(*major, *minor);
            rustix::fs::mknodat(CWD, &path, *kind, Mode::from(0o600), device).unwrap();
        }
    }
}

fn apply(said: &Said, item: &Item, at: &Path) {
    lchown(at, Some(said.owner.0), Some(said.owner.1)).unwrap();
    if !matches!(item, Item::Link(_)) {
        fs::set_permissions(at, fs::Permissions::from_mode(said.mode)).unwrap();
    }
    for (name, value) in &said.attributes {
        xattr::set(at, name, value).unwrap();
    }
    let time = Timespec { tv_sec: said.time.0, tv_nsec: said.time.1 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, at, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Any tree of up to forty things.
pub(crate) fn any_tree() -> impl Strategy<Value = Model> {
    let name = prop_oneof![
        4 => "[a-d]",
        2 => "[!-.0-~][ -.0-~]{0,12}".prop_filter("a name", |name| name != "." && name != ".."),
        1 => (250_usize..=255).prop_map(|length| "x".repeat(length)),
    ];
    let path = prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"));
    let item = prop_oneof![
        3 => Just(Item::Directory),
        4 => size().prop_map(Item::file),
        1 => (1_u64..3_000_000, 0_u64..3_000_000, 0_usize..9000).prop_map(|(size, at, length)| {
            let data = vec![(at.min(size), vec![5; length])];
            Item::Sparse { size, data }
        }),
        1 => (1_usize..4095).prop_map(|length| Item::Link("t".repeat(length))),
        1 => "[a-d](/[a-d])?".prop_map(Item::Name),
        1 => (0_u32..4096, 0_u32..1 << 20).prop_map(|(major, minor)| Item::Device {
            kind: FileType::CharacterDevice, major, minor
        }),
        1 => Just(WHITEOUT),
    ];
    let attribute = |kind: &Item| {
        let plain = matches!(kind, Item::Directory | Item::File(_) | Item::Sparse { .. });
        let most = if plain { 3 } else { 0 };
        let name = "(user|trusted)\\.[a-c]{1,40}";
        prop::collection::btree_map(name, prop::collection::vec(any::<u8>(), 0..900), 0..=most)
    };
    let said = move |item: Item| {
        let owner = prop_oneof![Just((0, 0)), (0_u32..70_000, 0_u32..70_000)];
        let time = prop_oneof![2 => Just((1000, 0)), 1 => (-9_i64..1 << 33, 0_i64..1_000_000_000)];
        (Just(item.clone()), 0_u32..0o10000, owner, time, attribute(&item)).prop_map(
            |(item, mode, owner, time, attributes)| {
                (item, Said { mode, owner, time, attributes: attributes.into_iter().collect() })
            },
        )
    };
    let items = prop::collection::vec((path, item.prop_flat_map(said)), 0..40);
    items.prop_map(|items| {
        let mut model = Model::default();
        for (path, (item, said)) in items {
            *model.put(&path, item) = said;
        }
        model
    })
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![0_usize..200, 1900_usize..2200, 4000_usize..4200, 8000_usize..8400, 0_usize..40_000]
}
