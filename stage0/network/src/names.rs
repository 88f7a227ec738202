//! Whether somebody answers for names where pods reach their host.
//!
//! Nobody has to be asked to: a socket that is bound to exactly that address and port is there for
//! pods, as `pod-dns.socket` is. One that is bound to every address is somebody else's resolver.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;

/// The port of name servers.
const PORT: u16 = 53;
/// Where the kernel tells which sockets there are for datagrams, in the calling thread's namespace
/// (proc_net_udp in the kernel's documentation).
const SOCKETS: &str = "/proc/thread-self/net/udp";

/// Tells whether names are answered for at `address`. No, if that cannot be found out: pods then ask
/// whom the host asks.
pub(crate) fn are_answered_at(address: Ipv4Addr) -> bool {
    File::open(SOCKETS).is_ok_and(|file| has_socket(BufReader::new(file), address))
}

fn has_socket(sockets: impl BufRead, address: Ipv4Addr) -> bool {
    // The address is shown as the number its bytes are in memory.
    let wanted = format!("{:08X}:{PORT:04X}", u32::from_ne_bytes(address.octets()));
    let is_it = |line: &str| line.split_ascii_whitespace().nth(1) == Some(&wanted);
    sockets.lines().map_while(Result::ok).any(|line| is_it(&line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_socket_at_that_very_address_answers() {
        let table = "  sl  local_address rem_address   st tx_queue\n\
                     1: 00000000:0035 00000000:0000 07\n\
                     2: 0100BB0A:0036 00000000:0000 07\n\
                     3: 0100BC0A:0035 00000000:0000 07\n";
        let at = |text: &str| has_socket(text.as_bytes(), Ipv4Addr::new(10, 187, 0, 1));
        assert!(!at(table));
        assert!(at(&format!("{table}4: 0100BB0A:0035 00000000:0000 07\n")));
    }
}
