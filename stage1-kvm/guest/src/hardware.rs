//! The virtual machine a guest runs in: vsock, virtio disks, virtio-fs.

use std::cell::RefCell;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, VsockAddr, connect, socket};
use pod_abi::guest::{Extent, port};
use pod_abi::time::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MountFlags, mount};
use rustix::time::{ClockId, clock_settime};
use supervisor::{During, Failure};

use crate::machine::{Group, Machine};
use crate::modules;
use crate::partitions::{Number, Partitions};

/// The host (`VMADDR_CID_HOST`, `vsock(7)`).
const HOST: u32 = 2;

/// How long the device of the streams may take to be there once its driver is loaded.
const SETTLING: Duration = Duration::from_secs(5);

/// The first pause before another look whether it is there, and the longest: each is twice the one
/// before.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// How long the host may take to take a stream. A monitor that is there takes it at once; one that
/// is not given a processor is waited for longer than the host waits for us.
const CONNECTING: Duration = Duration::from_secs(300);

/// How long the host may take to take what it is sent last.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where the kernel lists disks.
const DISKS: &str = "/sys/block";

/// The virtual machine.
#[derive(Debug, Default)]
pub struct Hardware {
    partitions: RefCell<Partitions>,
}

impl Machine for Hardware {
    fn connect(&self, port: u32) -> Result<OwnedFd, Failure> {
        let connecting = || format!("cannot connect to port {port} of the host");
        let deadline = Instant::now() + SETTLING;
        let mut pause = PAUSES.0;
        loop {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let stream = socket(AddressFamily::Vsock, SockType::Stream, flags, None);
            let stream = stream.during(|| "cannot make a stream, socket(AF_VSOCK)")?;
            pod_sys::set_vsock_connect_timeout(stream.as_fd(), CONNECTING)
                .during(|| "cannot set up a stream, setsockopt(AF_VSOCK)")?;
            match connect(stream.as_raw_fd(), &VsockAddr::new(HOST, port)) {
                Ok(()) | Err(Errno::EINPROGRESS) => return Ok(stream),
                Err(Errno::ENODEV | Errno::ENETUNREACH) if Instant::now() < deadline => {
                    // Nothing tells that a transport has come; without one nothing can be done.
                    let _ = poll(&mut [], Some(&timespec(pause)));
                    pause = (pause * 2).min(PAUSES.1);
                }
                Err(error) => return Err(error).during(connecting),
            }
        }
    }

    fn load(&self, group: Group) -> Result<(), Failure> {
        modules::load(group)
    }

    fn begin(&self, now: Timestamp, entropy: &[u8]) -> Result<(), Failure> {
        clock_settime(ClockId::Realtime, timespec(Duration::from_nanos(now.0)))
            .during(|| "cannot set the clock, clock_settime()")?;
        pod_sys::add_entropy(entropy).during(|| "cannot add entropy, ioctl(RNDADDENTROPY)")
    }

    fn image(&self, extent: Extent) -> Result<String, Failure> {
        let disk = disk(ReadOnly::Yes)?;
        let adding = || format!("cannot divide disk `/dev/{disk}`, ioctl(BLKPG)");
        let device = open(&disk)?;
        let mut partitions = self.partitions.borrow_mut();
        let release = |number| pod_sys::delete_partition(device.as_fd(), number).is_ok();
        let number = match partitions.number(extent, release) {
            Some(Number::There(number)) => number,
            Some(Number::New(number)) => {
                let Extent { offset, length } = extent;
                pod_sys::add_partition(device.as_fd(), number, offset, length).during(adding)?;
                partitions.note(extent, number);
                number
            }
            None => {
                return Err(Failure::new("the apps of a pod in a virtual machine have more layers than its disk can be divided into")
                    .code("stage1.not-given")
                    .hint("use `--stage1 ns`, or images of fewer layers"));
            }
        };
        Ok(format!("/dev/{disk}{number}"))
    }

    fn forget_image(&self, extent: Extent) {
        self.partitions.borrow_mut().forget(extent);
    }

    fn scratch(&self) -> Result<String, Failure> {
        Ok(format!("/dev/{}", disk(ReadOnly::No)?))
    }

    fn share(&self, tag: &str, place: &str, read_only: bool) -> Result<(), Failure> {
        let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
        if read_only {
            flags |= MountFlags::RDONLY;
        }
        mount(tag, place, "virtiofs", flags, None)
            .during(|| format!("cannot mount `{place}`, mount(virtiofs)"))
            .map_err(|failure| failure.code("volume.share"))
    }

    fn settle(&self) {
        // Whatever goes wrong here, there is nobody left to tell and nothing left to do.
        let Ok(stream) = self.connect(port::NOBODY) else { return };
        let _ = poll(&mut [PollFd::new(&stream, PollFlags::OUT)], Some(&timespec(PATIENCE)));
    }
}

/// Whether a disk can only be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadOnly {
    Yes,
    No,
}

/// Finds the name of the disk of images, which can only be read, or of the other one.
fn disk(read_only: ReadOnly) -> Result<String, Failure> {
    let (word, what) = match read_only {
        ReadOnly::Yes => ("1", "disk of images"),
        ReadOnly::No => ("0", "disk for writable layers"),
    };
    let looking = || format!("cannot read `{DISKS}`");
    for entry in fs::read_dir(DISKS).during(looking)? {
        let name = entry.during(looking)?.file_name().to_string_lossy().into_owned();
        let fits = |text: String| text.trim() == word;
        let said = fs::read_to_string(Path::new(DISKS).join(&name).join("ro"));
        if name.starts_with("vd") && said.is_ok_and(fits) {
            return Ok(name);
        }
    }
    Err(Failure::new(format!("the machine has no {what}")))
}

fn open(disk: &str) -> Result<OwnedFd, Failure> {
    let path = format!("/dev/{disk}");
    openat(CWD, path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .during(|| format!("cannot open `{path}`"))
}

/// What is longer than any clock counts is for ever.
fn timespec(duration: Duration) -> Timespec {
    Timespec::try_from(duration).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 })
}
