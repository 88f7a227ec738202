//! `pod port-forward`: ports of this host that lead to ports of a pod, for as long as somebody looks.
//!
//! A connection is made where the pod is: by a thread that enters the pod's network namespace, where
//! the apps' own loopback is, so that a pod without a network can be reached as well. A pod in a
//! virtual machine has its own kernel, and is reached at the address its network has given it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use pod_abi::manifest::Network;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::Session;
use super::subject::{connect, not_running, running};
use crate::cli::PortForwardArgs;
use crate::error::{CommandError, Context as _, Result};
use crate::pods::Pod;
use crate::ui;

/// How many connections may be open at once; each costs two threads.
const MOST: usize = 256;
/// How long a pod has to take a connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait when the system has no room for another connection.
const BREATH: Duration = Duration::from_millis(100);

/// Where the ports of a pod are.
#[derive(Debug)]
enum Place {
    /// With this host's own.
    Here,
    /// In the namespace of this process, on loopback.
    Namespace(OwnedFd),
    /// At an address.
    Address(IpAddr),
}

/// What the thread of a connection must know.
#[derive(Debug)]
struct Shared {
    place: Place,
    pod: String,
    open: AtomicUsize,
}

/// Forwards ports until it is interrupted or the pod ends.
///
/// # Errors
///
/// `pod.not-found`, `pod.not-running`, `pod.no-network` for one that cannot be reached from here,
/// `port.in-use`, `pod.ended`.
pub(crate) fn port_forward(session: &Session, args: &PortForwardArgs) -> Result<u8> {
    let pod = running(session, &args.pod)?;
    let supervisor = connect(session, &pod, &args.pod)?.supervisor()?;
    let place = place(&pod, &args.pod)?;
    let mut listeners = Vec::new();
    let mut said = String::new();
    for pair in &args.ports {
        for address in &args.address {
            let (listener, local) = listen(*address, pair.local)?;
            said.push_str(&format!("Forwarding from {local} -> {}\n", pair.remote));
            listeners.push((listener, pair.remote));
        }
    }
    ui::out(&said)?;
    let shared = Arc::new(Shared { place, pod: pod.called(), open: AtomicUsize::new(0) });
    loop {
        let mut watched = vec![PollFd::new(&supervisor, PollFlags::IN)];
        watched.extend(listeners.iter().map(|(one, _)| PollFd::new(one, PollFlags::IN)));
        match poll(&mut watched, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context(|| "cannot wait for connections".to_owned()),
        }
        if !watched[0].revents().is_empty() {
            return Err(CommandError::new("pod.ended", format!("pod `{}` has ended", args.pod)));
        }
        for ((listener, remote), state) in listeners.iter().zip(&watched[1..]) {
            if !state.revents().is_empty() {
                take(&shared, listener, *remote);
            }
        }
    }
}

/// Finds out where the ports of a pod are.
fn place(pod: &Pod, word: &str) -> Result<Place> {
    if pod.manifest()?.sandbox.network == Network::Host {
        return Ok(Place::Here);
    }
    let status = pod.status()?.ok_or_else(|| not_running(pod, word))?;
    if let Some(init) = status.init.and_then(|init| Pid::from_raw(init.try_into().ok()?)) {
        let init = pidfd_open(init, PidfdFlags::empty())
            .context(|| format!("cannot open process 1 of pod `{word}`"))?;
        // Its number is somebody else's only if it had ended before, and its pod with it.
        let still = pod.status()?.is_some_and(|now| now.init == status.init && now.ended.is_none());
        return if still { Ok(Place::Namespace(init)) } else { Err(not_running(pod, word)) };
    }
    let address = status.joined.and_then(|joined| joined.addresses().next());
    address.map(Place::Address).ok_or_else(|| {
        let sentence = format!("pod `{word}` has no address: its machine has no network");
        CommandError::new("pod.no-network", sentence).hint("`--net default` gives a pod one")
    })
}

fn listen(address: IpAddr, port: u16) -> Result<(TcpListener, SocketAddr)> {
    let wanted = SocketAddr::new(address, port);
    let open = || {
        let listener = TcpListener::bind(wanted)?;
        listener.set_nonblocking(true)?;
        let local = listener.local_addr()?;
        Ok((listener, local))
    };
    open().map_err(|error: io::Error| {
        let code = match error.kind() {
            io::ErrorKind::AddrInUse => "port.in-use",
            _ => "port.unavailable",
        };
        let made = CommandError::new(code, format!("cannot listen at `{wanted}`")).because(&error);
        match error.kind() {
            io::ErrorKind::AddrInUse => made.hint("`:PORT` takes a port that is free"),
            _ => made,
        }
    })
}

/// Takes the connections that wait at a port.
fn take(shared: &Arc<Shared>, listener: &TcpListener, remote: u16) {
    for _ in 0..MOST {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => {
                thread::sleep(BREATH); // without room for more, the others go on
                return;
            }
        };
        let theirs = Arc::clone(shared);
        if shared.open.fetch_add(1, Ordering::Relaxed) >= MOST {
            shared.open.fetch_sub(1, Ordering::Relaxed);
            ui::note(&format!("a connection is refused: {MOST} are open"));
            continue;
        }
        let forward = move || {
            if let Err(error) = forward(&theirs.place, &stream, remote) {
                ui::note(&format!("port {remote} of pod `{}`: {error}", theirs.pod));
            }
            theirs.open.fetch_sub(1, Ordering::Relaxed);
        };
        if let Err(error) = thread::Builder::new().spawn(forward) {
            shared.open.fetch_sub(1, Ordering::Relaxed);
            ui::note(&format!("a connection is refused: {error}"));
        }
    }
}

/// Connects to a port of the pod and moves bytes both ways until both sides have said all.
fn forward(place: &Place, here: &TcpStream, remote: u16) -> io::Result<()> {
    here.set_nonblocking(false)?;
    if let Place::Namespace(init) = place {
        // Of this thread alone, which ends with the connection.
        move_into_thread_name_spaces(init.as_fd(), ThreadNameSpaceType::NETWORK)?;
    }
    let to =
        |address: IpAddr| TcpStream::connect_timeout(&SocketAddr::new(address, remote), PATIENCE);
    let there = match place {
        Place::Address(address) => to(*address)?,
        // What listens on `::1` alone is found, too; of two refusals the first is told.
        Place::Here | Place::Namespace(_) => match to(Ipv4Addr::LOCALHOST.into()) {
            Ok(stream) => stream,
            Err(error) => to(Ipv6Addr::LOCALHOST.into()).map_err(|_| error)?,
        },
    };
    let (from_here, to_there) = (here.try_clone()?, there.try_clone()?);
    let inwards = thread::Builder::new().spawn(move || relay(&from_here, &to_there))?;
    relay(&there, here);
    let _ = inwards.join(); // it cannot panic, and has nothing to say
    Ok(())
}

/// Moves bytes one way, and the end behind them. That a side has gone is how connections end.
fn relay(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
