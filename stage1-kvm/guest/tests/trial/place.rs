//! Where a guest is tried: namespaces of its own with a root in memory, in which `/trial` is this
//! program, `/stage2-init` lies beside it, and `/host` is the directory of the trial.

use std::env;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use guest::machine::{Group, Machine};
use guest::{Ending, serve};
use netlink::{LinkId, Mac, Prefix, Socket, Veth, VethEnd};
use pod_abi::guest::Extent;
use pod_abi::time::Timestamp;
use pod_sys::{CloneFlags, Exit, Forked, clone3, wait_pidfd};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive,
    mount_change, unmount,
};
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::process::{Signal, pivot_root, set_parent_process_death_signal};
use supervisor::{During, Failure};

/// Makes the place, and becomes the guest in it.
pub(crate) fn enter() -> ExitCode {
    // The guest goes with this process, and that with the trials.
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let flags = CloneFlags::NEWNS
        | CloneFlags::NEWPID
        | CloneFlags::NEWUTS
        | CloneFlags::NEWIPC
        | CloneFlags::NEWNET;
    match clone3(flags, None).unwrap() {
        Forked::Parent { pidfd, .. } => match wait_pidfd(pidfd.as_fd()).unwrap().exit {
            Exit::Code(code) => ExitCode::from(code),
            Exit::Signal(signal) => ExitCode::from(128 + signal),
        },
        Forked::Child => {
            set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
            let root = make_root();
            env::set_current_dir(&root).unwrap();
            pivot_root(".", ".").unwrap();
            unmount(".", UnmountFlags::DETACH).unwrap();
            env::set_current_dir("/").unwrap();
            panic!("{}", Command::new("/trial").env("GUEST", "inside").exec())
        }
    }
}

fn make_root() -> PathBuf {
    let place = PathBuf::from(env::var_os("PLACE").unwrap());
    let root = place.join("root");
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).unwrap();
    fs::create_dir(&root).unwrap();
    mount("tmpfs", &root, "tmpfs", MountFlags::empty(), None).unwrap();
    fs::copy(env::current_exe().unwrap(), root.join("trial")).unwrap();
    fs::copy(env::var_os("STAGE2_INIT").unwrap(), root.join("stage2-init")).unwrap();
    for name in ["proc", "sys", "dev", "host"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    mount_bind_recursive("/dev", root.join("dev")).unwrap();
    mount_bind_recursive("/sys", root.join("sys")).unwrap();
    mount_bind(&place, root.join("host")).unwrap();
    mount("proc", root.join("proc"), "proc", MountFlags::empty(), None).unwrap();
    root
}

/// Is the guest: 0 if its pod is over, 3 if its host has gone, 4 if it has failed.
pub(crate) fn serve_here() -> u8 {
    match serve(&Trial) {
        Ok(Ending::Over) => 0,
        Ok(Ending::Abandoned) => 3,
        Err(failure) => {
            let report = failure.report();
            let text = format!("{}: {:?}\n", report.message, report.causes);
            fs::write("/host/failure", text).unwrap();
            4
        }
    }
}

/// See [`serve_here`].
pub(crate) fn serve_guest() -> ExitCode {
    ExitCode::from(serve_here())
}

/// The hardware address of the interface that the machine has.
pub(crate) const NIC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const WORLD: Mac = Mac([2, 0, 0, 0, 0, 2]);

struct Trial;

impl Machine for Trial {
    fn connect(&self, port: u32) -> Result<OwnedFd, Failure> {
        let stream = UnixStream::connect(Path::new("/host").join(port.to_string()))
            .during(|| format!("cannot connect to {port}"))?;
        stream.set_nonblocking(true).during(|| "fcntl()")?;
        // As much as a monitor takes of a stream that nobody reads, and not what a host has.
        set_socket_send_buffer_size(&stream, 64 << 10).during(|| "setsockopt()")?;
        Ok(stream.into())
    }

    /// The interfaces of a machine appear with their driver. Here they are a pair of links: one is
    /// the machine's, the other the world's.
    fn load(&self, group: Group) -> Result<(), Failure> {
        if group == Group::Network {
            let own = netlink::namespace::own().unwrap();
            let end = |name: &str, mac| VethEnd { name: name.to_owned(), mac };
            let pair = Veth { near: end("world", WORLD), far: end("virtio", NIC), mtu: None };
            let mut socket = Socket::open().unwrap();
            let made = socket
                .perform(&[netlink::add_veth(&pair, own.as_fd()), netlink::by_name("world")])
                .unwrap();
            let world = made.iter().find_map(netlink::Link::read).unwrap().index;
            let address = |text| netlink::add_address(world, Prefix::parse(text).unwrap());
            let route = |text| netlink::Route {
                to: Prefix::parse(text).unwrap(),
                link: Some(world),
                via: None,
            };
            socket
                .perform(&[
                    netlink::set_up(&LinkId::Index(world)),
                    netlink::set_up(&"lo".into()),
                    address("10.11.0.1/32"),
                    address("fd11::1/128"),
                    address("192.0.2.7/32"),
                    netlink::add_route(&route("10.11.0.0/24")),
                    netlink::add_route(&route("fd11::/64")),
                ])
                .unwrap();
        }
        Ok(())
    }

    fn begin(&self, _: Timestamp, entropy: &[u8]) -> Result<(), Failure> {
        assert_eq!(entropy.len(), 64);
        Ok(())
    }

    fn image(&self, extent: Extent) -> Result<String, Failure> {
        Ok(format!("/host/image-{}", extent.offset))
    }

    fn forget_image(&self, extent: Extent) {
        fs::write(format!("/host/forgotten-{}", extent.offset), "").unwrap();
    }

    fn scratch(&self) -> Result<String, Failure> {
        Err(Failure::new("there is none"))
    }

    fn share(&self, tag: &str, place: &str, _: bool) -> Result<(), Failure> {
        mount_bind(format!("/host/{tag}"), place).during(|| "mount()")
    }

    fn settle(&self) {}
}
