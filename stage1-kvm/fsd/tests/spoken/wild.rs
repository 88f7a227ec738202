//! Messages no kernel would send.

use std::ffi::CStr;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use fsd::reply::Reply;
use fsd::request::{Header, Name, Operation};
use fsd::server::answer;
use fsd::share::{Access, Share};
use fsd::wire::opcode;
use pod_abi::share::{MAX_DATA, MAX_MESSAGE};
use proptest::prelude::*;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::talk::{Told, ask_everything, request, request_of, words};

/// A share in a directory, beside something that is none of its business.
struct Served {
    home: TempDir,
    share: Share,
    reply: Reply,
}

impl Served {
    fn new(access: Access, limit: usize) -> Self {
        let home = TempDir::new().unwrap();
        let directory = home.path().join("share");
        fs::create_dir(&directory).unwrap();
        fs::write(home.path().join("secret"), "secret").unwrap();
        fs::write(directory.join("file"), "x").unwrap();
        symlink("../secret", directory.join("out")).unwrap();
        let root = OwnedFd::from(File::open(&directory).unwrap());
        let own = openat(CWD, "/proc/self/fd", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let share = Share::new(root, own.unwrap(), access, limit).unwrap();
        Self { home, share, reply: Reply::new() }
    }

    fn ask(&mut self, request: &[u8]) -> &[u8] {
        let frame = answer(&mut self.share, request, &mut self.reply);
        let (length, reply) = frame.split_first_chunk().unwrap();
        assert_eq!(usize::try_from(u32::from_le_bytes(*length)).unwrap(), reply.len());
        assert!(reply.len() <= MAX_MESSAGE);
        reply
    }

    fn error(&mut self, code: u32, node: u64, body: &[u8]) -> i32 {
        Told::parse(self.ask(&request_of(0, code, node, body))).error
    }

    fn outside_is_untouched(&self) -> bool {
        let names = fs::read_dir(self.home.path()).unwrap().count();
        names == 2 && fs::read(self.home.path().join("secret")).unwrap() == b"secret"
    }
}

#[test]
fn everything_can_be_asked_without_a_sandbox_too() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: acting for users of a guest needs root");
        return;
    }
    let mut served = Served::new(Access::ReadWrite, 256);
    let mode = fs::Permissions::from_mode(0o777);
    fs::set_permissions(served.home.path().join("share"), mode).unwrap();
    ask_everything(|request| served.ask(request).to_vec());
}

#[test]
fn what_has_no_header_has_no_reply() {
    let mut served = Served::new(Access::ReadWrite, 256);
    let whole = request(opcode::GETATTR, 1, &[0; 16]);
    assert!(served.ask(&[]).is_empty());
    assert!(served.ask(&whole[..39]).is_empty());
    // Another length than its own.
    assert!(served.ask(&whole[..whole.len() - 1]).is_empty());
    assert!(served.ask(&request(opcode::FORGET, 1, &[0; 8])).is_empty());
    assert!(served.ask(&request(opcode::FORGET, 99, &[255; 8])).is_empty());
    assert!(served.ask(&request(opcode::INTERRUPT, 0, &[0; 8])).is_empty());
    assert_eq!(Told::parse(served.ask(&whole)).error, 0);
}

#[test]
fn what_is_not_served_says_so() {
    let mut served = Served::new(Access::ReadWrite, 256);
    // Locks, `bmap`, `ioctl`, `poll`, the mappings of DAX, and numbers nobody has given.
    for code in [0, 7, 19, 31, 32, 33, 37, 39, 40, 47, 48, 49, 50, 4096, u32::MAX] {
        assert_eq!(served.error(code, 1, &[0; 64]), Errno::NOSYS.raw_os_error(), "{code}");
    }
}

#[test]
fn no_name_leads_anywhere_else() {
    let mut served = Served::new(Access::ReadWrite, 256);
    let long = [&[b'x'; 256][..], b"\0"].concat();
    let names: [(&[u8], Errno); 8] = [
        (b"..\0", Errno::INVAL),
        (b".\0", Errno::INVAL),
        (b"\0", Errno::INVAL),
        (b"", Errno::INVAL),
        (b"no end", Errno::INVAL),
        (b"../secret\0", Errno::INVAL),
        (b"/\0", Errno::INVAL),
        (&long, Errno::NAMETOOLONG),
    ];
    for (name, errno) in names {
        let about: [(u32, Vec<u8>); 7] = [
            (opcode::LOOKUP, name.to_vec()),
            (opcode::UNLINK, name.to_vec()),
            (opcode::RMDIR, name.to_vec()),
            (opcode::MKDIR, words(&[0o755, 0], name)),
            (opcode::MKNOD, words(&[0o100_644, 0, 0, 0], name)),
            (opcode::CREATE, words(&[0o102, 0o644, 0, 0], name)),
            (opcode::SYMLINK, [name, b"target\0"].concat()),
        ];
        for (code, body) in about {
            // Without an end the next text is the name's: a link of that name is made, in the share.
            if code == opcode::SYMLINK && !name.ends_with(b"\0") {
                continue;
            }
            assert_eq!(served.error(code, 1, &body), errno.raw_os_error(), "{code} {name:?}");
        }
    }
    // A link is a node; nothing beneath it is.
    let found = served.ask(&request(opcode::LOOKUP, 1, b"out\0")).to_vec();
    let link = Told::parse(&found).number(0);
    assert_eq!(served.error(opcode::LOOKUP, link, b"x\0"), Errno::NOTDIR.raw_os_error());
    let opened = served.error(opcode::OPEN, link, &words(&[0, 0], &[]));
    assert_eq!(opened, Errno::LOOP.raw_os_error());
    assert!(served.outside_is_untouched());
}

#[test]
fn numbers_nobody_was_given_are_refused() {
    let mut served = Served::new(Access::ReadWrite, 256);
    for node in [0, 2, 99, u64::MAX] {
        assert_eq!(served.error(opcode::GETATTR, node, &[0; 16]), Errno::STALE.raw_os_error());
        let body = words(&[0, 0], &[]);
        assert_eq!(served.error(opcode::OPEN, node, &body), Errno::STALE.raw_os_error());
    }
    for handle in [0, 1, u32::MAX] {
        let body = words(&[handle, 0, 0, 0, 16, 0, 0, 0, 0, 0], &[]);
        for code in [opcode::READ, opcode::READDIR, opcode::READDIRPLUS] {
            assert_eq!(served.error(code, 1, &body), Errno::BADF.raw_os_error());
        }
    }
    // A length that is not there, and one no reply may have.
    let body = words(&[1, 0, 0, 0, u32::MAX, 0, 0, 0, 0, 0], b"x");
    assert_eq!(served.error(opcode::WRITE, 1, &body), Errno::INVAL.raw_os_error());
    let found = served.ask(&request(opcode::LOOKUP, 1, b"file\0")).to_vec();
    let file = Told::parse(&found).number(0);
    let opened = served.ask(&request_of(0, opcode::OPEN, file, &words(&[0, 0], &[]))).to_vec();
    let handle = Told::parse(&opened).body[..8].to_vec();
    let read = [&handle[..], &words(&[0, 0, u32::MAX, 0, 0, 0, 0, 0], &[])].concat();
    assert_eq!(Told::parse(served.ask(&request(opcode::READ, file, &read))).body, b"x");
    assert!(served.ask(&request(opcode::READ, file, &read)).len() <= MAX_DATA);
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![0..8_u32, Just(4096), Just(0o100_644), any::<u32>()];
    const NAMES: [&[u8]; 7] = [b"file\0", b"new\0", b"..\0", b"a/b\0", b"\0", b"no end", b"out\0"];
    let name = prop::sample::select(NAMES.to_vec());
    (prop::collection::vec(word, 0..12), prop::collection::vec(name, 0..3))
        .prop_map(|(numbers, names)| words(&numbers, &names.concat()))
}

proptest! {
    #[test]
    fn parsing_never_fails_but_by_saying_so(
        code in 0..60_u32,
        body in prop_oneof![bodies(), prop::collection::vec(any::<u8>(), 0..200)],
    ) {
        if let Ok(Operation::Lookup(name) | Operation::Unlink(name)) = Operation::parse(code, &body) {
            let text = name.as_c_str().to_bytes();
            prop_assert!(!text.is_empty() && text.len() <= 255 && !text.contains(&b'/'));
            prop_assert!(text != b"." && text != b"..");
        }
        let _ = Header::parse(&body);
        if let Ok(text) = CStr::from_bytes_until_nul(&body) {
            let _ = Name::try_from(text);
        }
    }

    #[test]
    fn no_row_of_requests_leaves_the_share_or_the_bounds(
        asked in prop::collection::vec((0..52_u32, 0..5_u64, bodies()), 1..40),
    ) {
        let mut served = Served::new(Access::ReadWrite, 64);
        for (code, node, body) in asked {
            // Room on the disk of who runs this test is not the guest's to reserve.
            if code == opcode::FALLOCATE {
                continue;
            }
            let reply = served.ask(&request_of(0, code, node, &body));
            if !reply.is_empty() {
                prop_assert!((0..4096).contains(&Told::parse(reply).error));
            }
            let (nodes, handles) = served.share.counts();
            prop_assert!(nodes + handles <= 64);
        }
        prop_assert!(served.outside_is_untouched());
    }

    #[test]
    fn nothing_of_a_read_only_share_changes(
        asked in prop::collection::vec((0..52_u32, 0..5_u64, bodies()), 1..40),
    ) {
        let mut served = Served::new(Access::ReadOnly, 64);
        for (code, node, body) in asked {
            served.ask(&request_of(0, code, node, &body));
        }
        let share = served.home.path().join("share");
        prop_assert_eq!(fs::read_dir(&share).unwrap().count(), 2);
        prop_assert_eq!(fs::read(share.join("file")).unwrap(), b"x");
    }
}
