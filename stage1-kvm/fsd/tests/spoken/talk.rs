//! Requests as a kernel writes them, and replies as it reads them.

use fsd::wire::opcode;

/// A request of user 1000, with the right length in front.
pub(crate) fn request(code: u32, node: u64, body: &[u8]) -> Vec<u8> {
    request_of(1000, code, node, body)
}

/// A request of any user.
pub(crate) fn request_of(user: u32, code: u32, node: u64, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(40 + body.len()).unwrap();
    let mut bytes = Vec::new();
    bytes.extend(length.to_le_bytes());
    bytes.extend(code.to_le_bytes());
    bytes.extend(77_u64.to_le_bytes());
    bytes.extend(node.to_le_bytes());
    bytes.extend(user.to_le_bytes());
    bytes.extend(user.to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes
}

/// Numbers of 32 bits, then bytes.
pub(crate) fn words(numbers: &[u32], rest: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    bytes.extend(rest);
    bytes
}

/// A reply: its error, 0 if there is none, and its body.
pub(crate) struct Told<'r> {
    pub(crate) error: i32,
    pub(crate) body: &'r [u8],
}

impl<'r> Told<'r> {
    /// Reads a reply; it must be one to [`request`].
    pub(crate) fn parse(reply: &'r [u8]) -> Self {
        let number = |at: usize| u32::from_le_bytes(reply[at..at + 4].try_into().unwrap());
        assert_eq!(usize::try_from(number(0)).unwrap(), reply.len());
        assert_eq!(number(8), 77);
        Self { error: -number(4).cast_signed(), body: &reply[16..] }
    }

    pub(crate) fn number(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.body[at..at + 8].try_into().unwrap())
    }
}

/// Asks for one of everything that takes a system call of its own.
///
/// `ask` sends a request and returns what was replied. What the file system beneath cannot do may
/// fail: it has been asked.
pub(crate) fn ask_everything(mut ask: impl FnMut(&[u8]) -> Vec<u8>) {
    const READ_WRITE: u32 = 2;
    const APPEND: u32 = 0o2000;
    const DIRECTORY: u64 = 1;
    let mut done = |code, node, body: &[u8]| {
        let reply = ask(&request(code, node, body));
        let told = Told::parse(&reply);
        (told.error, told.body.to_vec())
    };
    let number = |body: &[u8], at: usize| u64::from_le_bytes(body[at..at + 8].try_into().unwrap());
    done(opcode::INIT, 0, &words(&[7, 40, 65536, u32::MAX], &[]));
    let (error, entry) = done(opcode::LOOKUP, DIRECTORY, b"file\0");
    assert_eq!(error, 0);
    let file = number(&entry, 0);
    let (error, created) = done(
        opcode::CREATE,
        DIRECTORY,
        &words(&[READ_WRITE | 0o100, 0o100_644, 0o22, 0], b"new\0"),
    );
    assert_eq!(error, 0);
    let (node, handle) = (number(&created, 0), number(&created, 128));
    let on = |handle: u64| handle.to_le_bytes().to_vec();
    let write = |handle: u64| {
        let mut body = on(handle);
        body.extend(words(&[0, 0, 4, 0, 0, 0, 0, 0], b"data"));
        body
    };
    assert_eq!(done(opcode::WRITE, node, &write(handle)).0, 0);
    let (_, opened) = done(opcode::OPEN, node, &words(&[READ_WRITE | APPEND, 0], &[]));
    assert_eq!(done(opcode::WRITE, node, &write(number(&opened, 0))).0, 0);
    let mut read = on(handle);
    read.extend(words(&[0, 0, 4096, 0, 0, 0, 0, 0], &[]));
    assert_eq!(done(opcode::READ, node, &read).1, b"datadata");
    for sync in [0, 1] {
        let mut body = on(handle);
        body.extend(words(&[sync, 0], &[]));
        assert_eq!(done(opcode::FSYNC, node, &body).0, 0);
    }
    let mut room = on(handle);
    room.extend(words(&[0, 0, 4096, 0, 0, 0], &[]));
    done(opcode::FALLOCATE, node, &room);
    let mut hole = on(handle);
    hole.extend(words(&[0, 0, 4, 0], &[]));
    done(opcode::LSEEK, node, &hole);
    done(opcode::RELEASE, node, &on(handle));
    // The mode, the owner, the length, the times.
    for valid in [1, 2, 8, 32] {
        let mut body = words(&[valid, 0], &[0; 80]);
        body[68..72].copy_from_slice(&0o600_u32.to_le_bytes());
        assert_eq!(done(opcode::SETATTR, file, &body).0, 0);
    }
    done(opcode::SETXATTR, file, &words(&[1, 0], b"user.x\0v"));
    done(opcode::GETXATTR, file, &words(&[0, 0], b"user.x\0"));
    done(opcode::LISTXATTR, file, &words(&[0, 0], &[]));
    done(opcode::REMOVEXATTR, file, b"user.x\0");
    assert_eq!(done(opcode::MKDIR, DIRECTORY, &words(&[0o755, 0o22], b"d\0")).0, 0);
    assert_eq!(done(opcode::MKNOD, DIRECTORY, &words(&[0o10_644, 0, 0o22, 0], b"p\0")).0, 0);
    let (error, link) = done(opcode::SYMLINK, DIRECTORY, b"l\0target\0");
    assert_eq!(error, 0);
    assert_eq!(done(opcode::READLINK, number(&link, 0), &[]).1, b"target");
    let mut second = on(file);
    second.extend(b"second\0");
    assert_eq!(done(opcode::LINK, DIRECTORY, &second).0, 0);
    let mut moved = on(DIRECTORY);
    moved.extend(words(&[0, 0], b"second\0third\0"));
    assert_eq!(done(opcode::RENAME2, DIRECTORY, &moved).0, 0);
    assert_eq!(done(opcode::UNLINK, DIRECTORY, b"third\0").0, 0);
    assert_eq!(done(opcode::RMDIR, DIRECTORY, b"d\0").0, 0);
    assert_eq!(done(opcode::STATFS, DIRECTORY, &[]).0, 0);
    let (_, opened) = done(opcode::OPENDIR, DIRECTORY, &words(&[0, 0], &[]));
    let mut list = on(number(&opened, 0));
    list.extend(words(&[0, 0, 4096, 0, 0, 0, 0, 0], &[]));
    assert_eq!(done(opcode::READDIRPLUS, DIRECTORY, &list).0, 0);
    let mut forgotten = words(&[1, 0], &[]);
    forgotten.extend(on(node));
    forgotten.extend(1_u64.to_le_bytes());
    assert!(ask(&request(opcode::BATCH_FORGET, 0, &forgotten)).is_empty());
}
