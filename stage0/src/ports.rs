//! Ports and places of servers, as they are typed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use dns::resolvers::PORT;
use pod_abi::network::Protocol;

/// A port of a pod, by its number and what it speaks: TCP if nothing is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Behind {
    port: u16,
    protocol: Protocol,
}

impl Behind {
    /// Tells whether this is the port that is meant.
    pub(crate) fn is(self, port: u16, protocol: Protocol) -> bool {
        self == Self { port, protocol }
    }
}

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

impl FromStr for Behind {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let (port, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
        let protocol = match protocol {
            "tcp" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            _ => None,
        };
        let read = protocol.and_then(|protocol| Some(Self { port: number(port)?, protocol }));
        read.filter(|read| read.port > 0)
            .ok_or_else(|| "it takes a port and what it speaks, such as `53/udp`".to_owned())
    }
}

/// A port of this host and the pod's port behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    /// Of this host; 0 is any that is free.
    pub(crate) local: u16,
    /// Of the pod.
    pub(crate) remote: u16,
}

/// Reads where to listen or whom to ask: an address, and a port if it is another than 53.
pub(crate) fn place(word: &str) -> Result<SocketAddr, String> {
    let alone = |word: &str| word.parse::<IpAddr>().map(|address| SocketAddr::new(address, PORT));
    word.parse()
        .or_else(|_| alone(word))
        .map_err(|_| "it takes an address and a port, such as `127.0.0.1:5353`".to_owned())
}

/// Reads `LOCAL:REMOTE`, `PORT` for the same on both sides, or `:REMOTE` for any that is free.
pub(crate) fn pair(word: &str) -> Result<Pair, String> {
    let (local, remote) = word.split_once(':').unwrap_or((word, word));
    let local = if local.is_empty() { Some(0) } else { number(local) };
    match (local, number(remote)) {
        (Some(local), Some(remote @ 1..)) => Ok(Pair { local, remote }),
        _ => Err("it takes `LOCAL:REMOTE`, `PORT` or `:REMOTE`".to_owned()),
    }
}

/// Reads a number without a sign.
fn number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|_| !text.starts_with('+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_a_pod_speaks_tcp_if_nothing_is_said() {
        let read = |word: &str| word.parse::<Behind>().map(|read| read.to_string()).ok();
        assert_eq!(read("80").as_deref(), Some("80/tcp"));
        assert_eq!(read("53/udp").as_deref(), Some("53/udp"));
        for word in ["", "0", "80/", "80/sctp", "+80", "a"] {
            assert_eq!(read(word), None, "{word}");
        }
    }

    #[test]
    fn ports_are_read_in_the_words_of_kubectl() {
        let read = |word| pair(word).map(|pair| (pair.local, pair.remote)).ok();
        assert_eq!(read("8080:80"), Some((8080, 80)));
        assert_eq!(read("80"), Some((80, 80)));
        assert_eq!(read(":80"), Some((0, 80)));
        for word in ["", ":", "80:", "0", "8080:0", "65536", "+1", "a:80", "1:2:3"] {
            assert_eq!(read(word), None, "{word}");
        }
    }
}
