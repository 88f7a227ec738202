//! Volumes of the host: opened once, each behind a mount of its own, for a server that knows no
//! path.
//!
//! The mount is a detached clone: what is read-only is so for the kernel of the host, whatever the
//! server is made to do, and nothing that is mounted on the host later appears in it.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pod_abi::VolumeName;
use pod_abi::share::fd;
use pod_sys::{MountAttr, MountFlags, Propagation, Recursive, mount_setattr};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use supervisor::{During, Failure};

use crate::child::{Cage, Child, Ids};
use crate::plan::{Refusal, Sharing};

/// A volume of the host that was opened.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) volume: VolumeName,
    pub(crate) read_only: bool,
    pub(crate) is_file: bool,
    tree: OwnedFd,
}

/// A server of a volume.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) volume: VolumeName,
    pub(crate) child: Child,
}

/// Returns the tag of the device of share `number`.
pub(crate) fn tag(number: usize) -> String {
    format!("share{number}")
}

/// Opens a volume of the host.
///
/// # Errors
///
/// `volume.host` if it is not there, `stage1.not-given` for what cannot be shared.
pub(crate) fn open(sharing: &Sharing) -> Result<Share, Failure> {
    let Sharing { volume, path, without_submounts, read_only } = sharing;
    let opening = || format!("cannot open `{path}` for volume `{volume}`");
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = openat(CWD, path, flags, Mode::empty())
        .map_err(|error| Failure::of(opening(), error).code("volume.host"))?;
    let is_file = match FileType::from_raw_mode(fstat(&found).during(opening)?.st_mode) {
        FileType::Directory => false,
        FileType::RegularFile => true,
        _ => return Err(Refusal::SpecialVolume.failure(&format!("volume `{volume}`"))),
    };
    let mut clone = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let depth = if *without_submounts { Recursive::No } else { Recursive::Yes };
    if depth == Recursive::Yes {
        clone |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = open_tree(&found, "", clone).during(|| format!("{}, open_tree()", opening()))?;
    let writing = if *read_only { MountFlags::RDONLY } else { MountFlags::NONE };
    let attr = MountAttr {
        set: MountFlags::NOSUID | MountFlags::NODEV | writing,
        propagation: Some(Propagation::Private),
        ..MountAttr::default()
    };
    mount_setattr(tree.as_fd(), &attr, depth)
        .during(|| format!("{}, mount_setattr()", opening()))?;
    Ok(Share { volume: volume.clone(), read_only: *read_only, is_file, tree })
}

impl Share {
    /// Starts its server, and returns that and the monitor's end of the stream to it.
    pub(crate) fn serve(
        &self,
        program: BorrowedFd<'_>,
        cgroup: Option<BorrowedFd<'_>>,
    ) -> Result<(Server, OwnedFd), Failure> {
        let (stream, its) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .during(|| "cannot make a stream to a server of a volume, socketpair()")?;
        let words: [(bool, &CStr); 2] =
            [(self.read_only, c"--read-only"), (self.is_file, c"--file")];
        let arguments: Vec<_> =
            words.into_iter().filter_map(|(said, word)| said.then_some(word)).collect();
        let child = Child::start(&Cage {
            name: "fsd",
            program,
            arguments: &arguments,
            descriptors: vec![(fd::SHARE, self.tree.as_fd()), (fd::STREAM, its.as_fd())],
            own_descriptors: Some(fd::OWN),
            ids: Ids::All,
            cgroup,
        })?;
        Ok((Server { volume: self.volume.clone(), child }, stream))
    }
}
