//! Whom the host asks: the name servers of its `resolv.conf(5)`, read anew for each question, because
//! they change with the network the host is in. Where that file names only systemd-resolved on
//! loopback, the file with the servers behind it is read instead.

use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// The port of name servers.
pub const PORT: u16 = 53;
/// How many are asked, as the C library's resolver does (`MAXNS`).
const MOST: usize = 3;
/// How much of a file is read, in bytes; a real one has some hundred.
const MOST_BYTES: u64 = 64 * 1024;
/// Where systemd-resolved answers on its own.
const STUBS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53)), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 54))];

/// Where questions are passed on to.
#[derive(Clone, Debug)]
pub enum Resolvers {
    /// To those the host asks.
    Host {
        /// Its `resolv.conf`.
        file: PathBuf,
        /// The file of those behind systemd-resolved.
        behind_resolved: PathBuf,
    },
    /// To these.
    Fixed(Vec<SocketAddr>),
}

impl Resolvers {
    /// Returns those of this host, at the usual places.
    #[must_use]
    pub fn host() -> Self {
        Self::Host {
            file: "/etc/resolv.conf".into(),
            behind_resolved: "/run/systemd/resolve/resolv.conf".into(),
        }
    }

    /// Returns whom to ask now, the first first, and never one of `here`: where this server listens.
    /// Empty if there is nobody, or nothing can be read.
    #[must_use]
    pub fn current(&self, here: &[SocketAddr]) -> Vec<SocketAddr> {
        let mut servers = match self {
            Self::Fixed(servers) => servers.clone(),
            Self::Host { file, behind_resolved } => {
                let servers = servers(&read(file));
                let only_stubs = servers.iter().all(|server| STUBS.contains(&server.ip()));
                match only_stubs && !servers.is_empty() {
                    true => self::servers(&read(behind_resolved)),
                    false => servers,
                }
            }
        };
        servers.retain(|server| !here.iter().any(|listened| is_itself(*listened, *server)));
        servers.truncate(MOST);
        servers
    }
}

/// Tells whether asking `server` would be asking whoever listens at `here`.
fn is_itself(here: SocketAddr, server: SocketAddr) -> bool {
    let any = here.ip().is_unspecified() && server.ip().is_loopback();
    let nowhere = server.ip().is_unspecified();
    here.port() == server.port() && (any || nowhere || here.ip() == server.ip())
}

fn read(file: &PathBuf) -> String {
    let mut text = Vec::new();
    // One that is not there names nobody.
    let _ = File::open(file).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut text));
    String::from_utf8_lossy(&text).into_owned()
}

/// Reads the name servers. Those of one link only (`fe80::1%eth0`) are left out: no pod has it.
fn servers(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        Some(SocketAddr::new(address.parse().ok()?, PORT))
    };
    text.lines().filter_map(server).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn current(host: &str, behind: &str, here: &[&str]) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let (file, behind_resolved) = (directory.path().join("a"), directory.path().join("b"));
        fs::write(&file, host).unwrap();
        fs::write(&behind_resolved, behind).unwrap();
        let here: Vec<SocketAddr> = here.iter().map(|one| one.parse().unwrap()).collect();
        let servers = Resolvers::Host { file, behind_resolved }.current(&here);
        servers.iter().map(|server| server.ip().to_string()).collect()
    }

    #[test]
    fn those_of_the_host_are_asked_and_those_behind_resolved() {
        let host =
            "# a\nsearch b\nnameserver 9.9.9.9\n nameserver\t::1 # c\nnameserver fe80::1%x\n";
        assert_eq!(current(host, "", &[]), ["9.9.9.9", "::1"]);
        assert_eq!(current("nameserver 127.0.0.53\n", "nameserver 1.1.1.1", &[]), ["1.1.1.1"]);
        assert!(current("", "nameserver 1.1.1.1", &[]).is_empty());
        let many = "nameserver 1.1.1.1\n".repeat(9);
        assert_eq!(current(&many, "", &[]).len(), 3);
    }

    #[test]
    fn nobody_asks_itself() {
        let host = "nameserver 10.88.0.1\nnameserver 127.0.0.1\nnameserver 0.0.0.0";
        assert_eq!(current(host, "", &["10.88.0.1:53"]), ["127.0.0.1"]);
        assert_eq!(current(host, "", &["0.0.0.0:53"]), ["10.88.0.1"]);
        assert_eq!(current(host, "", &["10.88.0.1:5353"]).len(), 3);
    }

    #[test]
    fn a_file_that_is_not_there_names_nobody() {
        let nowhere = PathBuf::from("/nonexistent/resolv.conf");
        let host = Resolvers::Host { file: nowhere.clone(), behind_resolved: nowhere };
        assert!(host.current(&[]).is_empty());
    }
}
