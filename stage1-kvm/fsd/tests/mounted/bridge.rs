//! A share that is mounted, in a mount namespace of the test's own.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use pod_abi::share::{FILE, MAX_MESSAGE, READ_ONLY};
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_string,
    fsmount, fsopen, open_tree,
};
use rustix::process::geteuid;
use tempfile::TempDir;

/// What a server is started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    ReadOnly,
    /// The share is the file `only` of the directory.
    File,
    /// With so few descriptors.
    Descriptors(u32),
    /// With files of so few blocks of 512 bytes.
    FileSize(u32),
}

/// Where a test looks.
pub(crate) struct Places {
    /// The share on the host.
    pub(crate) host: PathBuf,
    /// The same through the server, as a guest has it.
    pub(crate) guest: PathBuf,
    /// Beside the share: what nobody may reach through it.
    pub(crate) outside: PathBuf,
}

/// Runs `test` with a share that `prepare` has filled.
///
/// The mount is in a namespace of the thread's own, so nobody else sees it and it goes with the
/// thread. The server must have ended by itself, and well, when the stream is closed.
pub(crate) fn with_share(
    kind: Kind,
    prepare: impl FnOnce(&Path),
    test: impl FnOnce(&Places) + Send,
) {
    if !geteuid().is_root() {
        println!("skipped: mounting and confining the server needs root");
        return;
    }
    let Ok(device) = File::options().read(true).write(true).open("/dev/fuse") else {
        println!("skipped: this kernel has no `/dev/fuse`");
        return;
    };
    let home = TempDir::new().unwrap();
    let places = Places {
        host: home.path().join("host"),
        guest: home.path().join("guest"),
        outside: home.path().join("outside"),
    };
    for place in [&places.host, &places.guest, &places.outside] {
        fs::create_dir(place).unwrap();
    }
    prepare(&places.host);
    let (stream, other) = UnixStream::pair().unwrap();
    let places = &places;
    // The shell opens both mounts anew: they stay open until the server is done.
    let (mut server, _mounts) = start(kind, &places.host, other.into());
    let number = device.as_raw_fd();
    let (mounted, is_mounted) = mpsc::channel();
    thread::scope(|scope| {
        let tested = scope.spawn(move || {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let alone = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
            mount(None::<&str>, "/", None::<&str>, alone, None::<&str>).unwrap();
            let options = format!(
                "fd={number},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other"
            );
            let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
            mount(Some("share"), &places.guest, Some("fuse"), flags, Some(options.as_str()))
                .unwrap();
            mounted.send(()).unwrap();
            let unmounted = Unmount(&places.guest);
            test(places);
            drop(unmounted);
        });
        // Whatever goes wrong here, the device is closed, and nobody waits for a reply any more.
        if is_mounted.recv().is_ok() {
            carry(device, stream);
        }
        let tested = tested.join();
        let ended = server.wait().unwrap();
        assert!(ended.success(), "the server ended with {ended}");
        if let Err(panic) = tested {
            std::panic::resume_unwind(panic);
        }
    });
}

struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        // A file that a failed test still holds open is closed with its thread.
        umount2(self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

/// Starts the server with a clone of the mount that `share` is on, and a proc of its own, as
/// `stage1-kvm` does, but in the namespaces of the test. A shell places the descriptors.
fn start(kind: Kind, share: &Path, stream: OwnedFd) -> (Child, [OwnedFd; 2]) {
    let limit = match kind {
        Kind::Descriptors(limit) => format!("ulimit -n {limit}; "),
        Kind::FileSize(limit) => format!("ulimit -f {limit}; "),
        _ => String::new(),
    };
    let share = if kind == Kind::File { share.join("only") } else { share.to_owned() };
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, &share, clone).unwrap();
    let proc = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    fsconfig_set_string(&proc, "subset", "pid").unwrap();
    fsconfig_create(&proc).unwrap();
    let proc = fsmount(&proc, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap();
    let ours = |fd: &OwnedFd| format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd());
    let mut command = Command::new("sh");
    let placing = r#"exec "$@" 3<"$SHARE" 4<&0 5<"$PROC/self/fd" 0</dev/null"#;
    command.arg("-c").arg(format!("{limit}{placing}"));
    command.arg("sh").arg(env!("CARGO_BIN_EXE_fsd"));
    command.env("SHARE", ours(&tree)).env("PROC", ours(&proc));
    match kind {
        Kind::ReadOnly => command.arg(READ_ONLY),
        Kind::File => command.arg(FILE),
        _ => &mut command,
    };
    (command.stdin(Stdio::from(stream)).spawn().unwrap(), [tree, proc])
}

/// Carries requests and replies, one at a time, until the file system is unmounted.
fn carry(mut device: File, mut stream: UnixStream) {
    let mut message = vec![0; MAX_MESSAGE];
    // `ENODEV`: it is mounted no more.
    while let Ok(read) = device.read(&mut message) {
        let mut length = u32::try_from(read).unwrap().to_le_bytes();
        let asked = stream.write_all(&length).and_then(|()| stream.write_all(&message[..read]));
        // The server's end is told of by who waits for it.
        if asked.and_then(|()| stream.read_exact(&mut length)).is_err() {
            return;
        }
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap();
        stream.read_exact(&mut message[..length]).unwrap();
        if length != 0 {
            // `ENOENT`: whoever asked was interrupted and does not wait any more.
            let _ = device.write(&message[..length]);
        }
    }
}
