//! Which networks a pod joins, and which ports of the host lead to it: `--net`, `--ip`,
//! `--mac-address` and `--publish`.

use std::net::IpAddr;
use std::path::PathBuf;

use pod_abi::manifest::Network;
use pod_abi::network::{Attachment, HardwareAddress, NetworkName, Protocol, Publication};

use super::words::contradiction;
use crate::error::{CommandError, Result};
use crate::flags::NetFlags;

/// The network that is joined where ports are published and none is named.
const DEFAULT: &str = "default";

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Joining {
    /// `None` if nothing is said.
    pub(super) network: Option<Network>,
    pub(super) ports: Vec<Publication>,
}

/// Reads all flags about networks.
///
/// # Errors
///
/// A usage error that names the word, or the two that contradict each other.
pub(super) fn read_joining(flags: &NetFlags) -> Result<Joining> {
    let ports: Vec<Publication> =
        flags.publish.iter().map(|word| read_port(word)).collect::<Result<_>>()?;
    let network = match read_networks(&flags.net)? {
        None if !ports.is_empty() => {
            Some(Network::Joined(vec![Attachment::to(default_network()?)]))
        }
        network => network,
    };
    let network = with_addresses(network, flags)?;
    if let (Some(flag), false) = (flags.publish.first(), ports.is_empty())
        && !matches!(network, Some(Network::Joined(_)))
    {
        let net = format!("--net {}", flags.net.join(","));
        return Err(contradiction(&format!("--publish {flag}"), &net)
            .hint("`--net default` is a network that ports lead into"));
    }
    Ok(Joining { network, ports })
}

fn default_network() -> Result<NetworkName> {
    NetworkName::parse(DEFAULT).map_err(|error| CommandError::usage(error.to_string()))
}

/// Reads `none`, `host`, `ns:PATH` or names of networks, which may be several.
fn read_networks(words: &[String]) -> Result<Option<Network>> {
    let words: Vec<&str> = words.iter().flat_map(|word| word.split(',')).collect();
    let alone = |word: &&str| ["none", "host"].contains(word) || word.starts_with("ns:");
    match (words.iter().copied().find(|word| alone(word)), &words[..]) {
        (_, []) => Ok(None),
        (Some("none"), ["none"]) => Ok(Some(Network::None)),
        (Some("host"), ["host"]) => Ok(Some(Network::Host)),
        (Some(word), [only]) if *only == word => {
            let path = word.trim_start_matches("ns:");
            if !path.starts_with('/') {
                return Err(CommandError::usage(format!("`{word}` names no network namespace"))
                    .hint("`--net ns:PATH` takes an absolute path, such as `/run/netns/NAME`"));
            }
            Ok(Some(Network::Path(PathBuf::from(path))))
        }
        (Some(word), _) => {
            let other = words.iter().find(|other| **other != word).unwrap_or(&word);
            Err(contradiction(&format!("--net {word}"), &format!("--net {other}")))
        }
        (None, words) => {
            let attachments = words.iter().map(|word| read_attachment(word)).collect::<Result<_>>();
            attachments.map(|attachments| Some(Network::Joined(attachments)))
        }
    }
}

/// Reads `NAME[:KEY=VALUE;…]`.
fn read_attachment(word: &str) -> Result<Attachment> {
    if word.starts_with("container:") {
        return Err(CommandError::usage(format!("`--net {word}`: a pod's network is its own"))
            .hint("apps that share a network are one pod: `pod run A --- B`"));
    }
    let refused = |why: String| {
        CommandError::usage(why)
            .hint("`--net` takes `none`, `host`, `ns:PATH` or NAME[:KEY=VALUE;…],…")
    };
    let (name, args) = word.split_once(':').unwrap_or((word, ""));
    let name = NetworkName::parse(name).map_err(|error| refused(error.to_string()))?;
    let mut attachment = Attachment::to(name);
    for arg in args.split(';').filter(|arg| !arg.is_empty()) {
        let (key, value) = arg
            .split_once('=')
            .ok_or_else(|| refused(format!("`{arg}` of `--net {word}` is no KEY=VALUE")))?;
        attachment.args.insert(key.to_owned(), value.to_owned());
    }
    Ok(attachment)
}

/// Puts `--ip` and `--mac-address` to the one network they are about.
fn with_addresses(network: Option<Network>, flags: &NetFlags) -> Result<Option<Network>> {
    let of_ip = flags.ip.first().map(|address| format!("--ip {address}"));
    let of_mac = flags.mac_address.as_ref().map(|mac| format!("--mac-address {mac}"));
    let Some(flag) = of_ip.or(of_mac) else { return Ok(network) };
    match network {
        Some(Network::Joined(mut attachments)) if attachments.len() == 1 => {
            attachments[0].addresses.clone_from(&flags.ip);
            attachments[0].mac = flags.mac_address.as_deref().map(read_mac).transpose()?;
            Ok(Some(Network::Joined(attachments)))
        }
        Some(Network::Joined(_)) => {
            Err(CommandError::usage(format!("`{flag}` could be about each of several networks"))
                .hint("`--net NAME:IP=ADDRESS,…` says it to the plugins of one"))
        }
        _ => Err(CommandError::usage(format!("`{flag}` is about a network, and none is joined"))
            .hint("`--net default` joins one")),
    }
}

fn read_mac(word: &str) -> Result<HardwareAddress> {
    HardwareAddress::parse(&word.to_ascii_lowercase().replace('-', ":"))
        .map_err(|error| CommandError::usage(error.to_string()))
}

/// Reads `[IP:]HOST[-LAST]:POD[-LAST][/tcp|udp]`.
fn read_port(word: &str) -> Result<Publication> {
    let refused = || {
        CommandError::usage(format!("`{word}` publishes no port")).hint(
            "`--publish` takes [IP:]HOST:POD[/tcp|udp], such as `8080:80` or `[::1]:53:53/udp`",
        )
    };
    let (ports, protocol) = match word.rsplit_once('/') {
        None => (word, Protocol::Tcp),
        Some((ports, "tcp")) => (ports, Protocol::Tcp),
        Some((ports, "udp")) => (ports, Protocol::Udp),
        Some(_) => return Err(refused()),
    };
    let (rest, pod) = ports.rsplit_once(':').ok_or_else(refused)?;
    let (address, host) = match rest.rsplit_once(':') {
        None => (None, rest),
        Some((address, host)) => {
            let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let address: IpAddr = bare.unwrap_or(address).parse().map_err(|_| refused())?;
            // Without brackets nobody knows where an address of IPv6 ends.
            if address.is_ipv6() && bare.is_none() {
                return Err(refused());
            }
            (Some(address), host)
        }
    };
    let (host_port, host_count) = read_range(host).ok_or_else(refused)?;
    let (pod_port, pod_count) = read_range(pod).ok_or_else(refused)?;
    if host_count != pod_count {
        return Err(CommandError::usage(format!(
            "`{word}` publishes {host_count} ports of the host as {pod_count} of the pod"
        )));
    }
    Ok(Publication { host_address: address, host_port, pod_port, count: host_count, protocol })
}

/// Reads `FIRST[-LAST]`: the first, and how many.
fn read_range(word: &str) -> Option<(u16, u16)> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (first, last) = (number(first)?, number(last)?);
    Some((first, last.checked_sub(first)?.checked_add(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joining(words: &[&str]) -> Result<Joining> {
        let mut flags = NetFlags::default();
        let mut words = words.iter();
        while let (Some(flag), Some(value)) = (words.next(), words.next()) {
            match *flag {
                "--net" => flags.net.push((*value).to_owned()),
                "-p" => flags.publish.push((*value).to_owned()),
                "--ip" => flags.ip.push(value.parse().unwrap()),
                _ => flags.mac_address = Some((*value).to_owned()),
            }
        }
        read_joining(&flags)
    }

    #[test]
    fn networks_are_named_in_a_row() {
        let joined = joining(&["--net", "default,lan:IP=10.0.0.9;X=y"]).unwrap();
        let Some(Network::Joined(networks)) = joined.network else { panic!("{joined:?}") };
        assert_eq!(networks.len(), 2);
        assert_eq!(networks[1].network.as_str(), "lan");
        assert_eq!(networks[1].args["IP"], "10.0.0.9");
        assert_eq!(joining(&["--net", "none"]).unwrap().network, Some(Network::None));
        let path = joining(&["--net", "ns:/run/netns/x"]).unwrap().network;
        assert_eq!(path, Some(Network::Path("/run/netns/x".into())));
        for words in [
            &["--net", "host,default"][..],
            &["--net", "ns:x"],
            &["--net", "a b"],
            &["--net", "x:IP"],
            &["--net", ""],
            &["--net", "host", "-p", "80:80"],
            &["--ip", "10.0.0.1"],
            &["--net", "a,b", "--ip", "10.0.0.1"],
            &["--net", "a", "--mac", "01:00:00:00:00:00"],
        ] {
            assert!(joining(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn ports_are_published_as_docker_has_it() {
        for (word, shown, pod_port) in [
            ("8080:80", "8080/tcp", 80),
            ("127.0.0.1:8080:80", "127.0.0.1:8080/tcp", 80),
            ("[::1]:53:53/udp", "[::1]:53/udp", 53),
            ("8000-8009:9000-9009", "8000-8009/tcp", 9000),
        ] {
            let joined = joining(&["-p", word]).unwrap();
            assert!(matches!(joined.network, Some(Network::Joined(_))), "{word}");
            assert_eq!(
                (joined.ports[0].to_string(), joined.ports[0].pod_port),
                (shown.into(), pod_port)
            );
        }
        for word in [
            "",
            "80",
            ":80",
            "80:",
            "0:80",
            "80:0",
            "x:80",
            "::1:80:80",
            "80:80/sctp",
            "1-2:1",
            "2-1:2-1",
            "70000:80",
            "a:80:80",
        ] {
            assert!(joining(&["-p", word]).is_err(), "{word}");
        }
    }
}
