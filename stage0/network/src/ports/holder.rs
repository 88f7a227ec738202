//! Which process has a port, found through `/proc`; for error messages, so best effort.

use std::fmt;
use std::fs;
use std::net::SocketAddr;

use pod_abi::network::Protocol;

/// A process, as a person knows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Holder {
    name: String,
    pid: u32,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` (process {})", self.name, self.pid)
    }
}

/// The states in the tables: TCP's listeners, and what UDP says of sockets without a peer.
const LISTENS: &str = "0A";
const UNCONNECTED: &str = "07";

/// Finds who holds a port in the network namespace of the calling thread.
pub(super) fn of(at: SocketAddr, protocol: Protocol) -> Option<Holder> {
    let tables = match protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
    };
    let state = if protocol == Protocol::Tcp { LISTENS } else { UNCONNECTED };
    let table = |name| fs::read_to_string(format!("/proc/thread-self/net/{name}")).ok();
    let inodes: Vec<String> = tables
        .into_iter()
        .filter_map(table)
        .flat_map(|text| inodes(&text, at.port(), state))
        .collect();
    processes().find(|holder| holds_one(holder.pid, &inodes))
}

/// The sockets at a port in a table such as `/proc/net/tcp`.
fn inodes(table: &str, port: u16, state: &str) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    let wanted = |line: &str| {
        let mut fields = line.split_whitespace();
        let is_here = fields.nth(1)?.ends_with(&suffix) && fields.nth(1)? == state;
        is_here.then(|| fields.nth(5).map(str::to_owned)).flatten()
    };
    table.lines().skip(1).filter_map(wanted).collect()
}

fn processes() -> impl Iterator<Item = Holder> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        // A process may call itself anything.
        let name = name.trim_end().escape_debug().to_string();
        Some(Holder { name, pid })
    })
}

fn holds_one(pid: u32, inodes: &[String]) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    descriptors.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| {
        let target = target.to_string_lossy();
        let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        inode.is_some_and(|inode| inodes.iter().any(|wanted| wanted == inode))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_told_from_a_connection_at_the_same_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000000000000000 100 0 0 10 0\n\
             1: 0100007F:1F90 0100007F:C000 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0000000000000000 20 4 30 10 -1\n\
             2: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0000000000000000 100 0 0 10 0\n";
        assert_eq!(inodes(table, 8080, LISTENS), ["4711"]);
        assert_eq!(inodes(table, 8082, LISTENS), Vec::<String>::new());
    }
}
