//! Hosts for tests: network namespaces that the test makes itself, so that no link, route, rule or
//! setting of the real host is ever touched.
//!
//! A namespace belongs to a thread. [`on_a_host`] gives a test a thread whose namespace is a host of
//! its own; processes and threads started there are on that host too.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "test code outside of `#[test]`")]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use netlink::namespace;
use netlink::{self, Socket};
use nix::sched::{CloneFlags, unshare};

/// How long anything may take before the test says it does not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// How long a connection that must fail is tried: it would be there in a thousandth of it.
pub(crate) const SHORTLY: Duration = Duration::from_millis(300);

/// Runs a test on a host of its own; says so and returns if this user cannot have one.
pub(crate) fn on_a_host(test: impl FnOnce() + Send) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: network namespaces take root");
        return;
    }
    thread::scope(|scope| {
        let host = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("root makes network namespaces");
            start_loopback();
            test();
        });
        if let Err(panicked) = host.join() {
            std::panic::resume_unwind(panicked);
        }
    });
}

fn start_loopback() {
    Socket::open().unwrap().perform(&[netlink::set_up(&"lo".into())]).unwrap();
}

/// A network namespace other than the host's.
#[derive(Debug)]
pub(crate) struct Netns(OwnedFd);

impl Netns {
    /// Makes one with nothing but a loopback link that is up.
    pub(crate) fn new() -> Self {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            start_loopback();
            OwnedFd::from(File::open("/proc/thread-self/ns/net").unwrap())
        });
        Self(made.join().unwrap())
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Runs something inside.
    pub(crate) fn within<T: Send>(&self, visit: impl FnOnce() -> T + Send) -> T {
        namespace::within(self.fd(), || Ok(visit())).unwrap()
    }
}

/// Asks the kernel, in the namespace of the calling thread.
pub(crate) fn ask(batch: &[netlink::Request]) {
    Socket::open().unwrap().perform(batch).unwrap();
}

/// The names of all links of the calling thread's namespace.
pub(crate) fn link_names() -> Vec<String> {
    let answers = Socket::open().unwrap().perform(&[netlink::list_links()]).unwrap();
    answers.iter().filter_map(netlink::Link::read).map(|link| link.name).collect()
}

/// Runs a program on the host of the calling thread and returns what it said.
pub(crate) fn run(program: &str, args: &[&str]) -> Output {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let output = Command::new(program).args(args).env("PATH", path).output();
    output.unwrap_or_else(|error| panic!("cannot run `{program}`: {error}"))
}

/// Runs a program that must succeed, and returns its standard output.
pub(crate) fn said(program: &str, args: &[&str]) -> String {
    let output = run(program, args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{program} {}`: {error}", args.join(" "));
    String::from_utf8(output.stdout).unwrap()
}

/// A server that tells every client who the client seems to be; it ends with the test.
pub(crate) fn serve(address: SocketAddr) {
    let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let peer = stream.peer_addr().unwrap().ip();
            let _ = write!(stream, "{peer}"); // a client that has gone is the client's failure
        }
    });
}

/// The same over UDP.
pub(crate) fn serve_udp(address: SocketAddr) {
    let socket = UdpSocket::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(peer.ip().to_string().as_bytes(), peer); // as above
        }
    });
}

/// Who a server says we are; `None` if it cannot be reached.
pub(crate) fn seen_by(server: SocketAddr) -> Option<IpAddr> {
    let mut stream = TcpStream::connect_timeout(&server, SHORTLY).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.parse().ok()
}

/// The same over UDP.
pub(crate) fn seen_by_udp(server: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0)).unwrap();
    socket.set_read_timeout(Some(SHORTLY)).unwrap();
    socket.send_to(b"?", server).ok()?;
    let mut buffer = [0; 64];
    let (length, _) = socket.recv_from(&mut buffer).ok()?;
    std::str::from_utf8(&buffer[..length]).ok()?.parse().ok()
}

/// A directory for what the network keeps on disk.
pub(crate) fn state_directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    (directory, path)
}

/// Who a server says we are when we speak from this address; `None` if it does not answer.
pub(crate) fn heard_from(own: IpAddr, server: SocketAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((own, 0)).unwrap();
    socket.set_read_timeout(Some(SHORTLY)).unwrap();
    socket.send_to(b"?", server).ok()?;
    let mut buffer = [0; 64];
    let (length, _) = socket.recv_from(&mut buffer).ok()?;
    std::str::from_utf8(&buffer[..length]).ok()?.parse().ok()
}

/// Waits until something that happens by itself has happened.
pub(crate) fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the kernel has noticed that a link is connected; what is sent before is lost.
pub(crate) fn until_running(socket: &mut Socket, name: &str) {
    until(&format!("`{name}` is connected"), || {
        let answers = socket.perform(&[netlink::by_name(name)]).unwrap();
        answers.iter().find_map(netlink::Link::read).is_some_and(|link| link.running)
    });
}

/// A network beyond the host of the calling thread: one more namespace on a link of its own, which
/// knows the way to everything behind the host, and serves at port 80.
#[derive(Debug)]
pub(crate) struct World {
    netns: Netns,
    /// Its own addresses.
    pub(crate) servers: [IpAddr; 2],
    /// The host's on that link.
    pub(crate) host_addresses: [IpAddr; 2],
}

impl World {
    pub(crate) fn beyond_this_host() -> Self {
        let netns = Netns::new();
        let end = |name: &str, last| netlink::VethEnd {
            name: name.to_owned(),
            mac: netlink::Mac([2, 0, 0, 0, 0, last]),
        };
        let veth = netlink::Veth { near: end("uplink", 1), far: end("uplink", 2), mtu: None };
        ask(&[netlink::add_veth(&veth, netns.fd())]);
        for (namespace, last) in [(None, 1), (Some(&netns), 2)] {
            let configure = || {
                said("ip", &["address", "add", &format!("192.0.2.{last}/24"), "dev", "uplink"]);
                let v6 = format!("2001:db8::{last}/64");
                said("ip", &["address", "add", &v6, "dev", "uplink", "nodad"]);
                said("ip", &["link", "set", "uplink", "up"]);
            };
            namespace.map_or_else(configure, |netns| netns.within(configure));
        }
        for namespace in [None, Some(&netns)] {
            let mut socket =
                namespace.map_or_else(Socket::open, |netns| Socket::open_in(netns.fd()));
            until_running(socket.as_mut().unwrap(), "uplink");
        }
        let servers = ["192.0.2.2", "2001:db8::2"].map(|address| address.parse().unwrap());
        netns.within(|| {
            said("ip", &["route", "add", "default", "via", "192.0.2.1"]);
            said("ip", &["-6", "route", "add", "default", "via", "2001:db8::1"]);
            servers.iter().for_each(|server| serve((*server, 80).into()));
        });
        let host_addresses = ["192.0.2.1", "2001:db8::1"].map(|address| address.parse().unwrap());
        Self { netns, servers, host_addresses }
    }

    /// Who a server says the world is.
    pub(crate) fn sees(&self, server: SocketAddr) -> Option<IpAddr> {
        self.netns.within(|| seen_by(server))
    }
}
