//! What a pod knows of names: `--dns…`, `--add-host`, and the settings of its namespaces.

use std::net::IpAddr;

use pod_abi::manifest::{Dns, HostEntry};

use super::words::contradiction;
use crate::error::{CommandError, Result};
use crate::flags::PodFlags;

/// Reads what `/etc/resolv.conf` is to hold; `None` for the host's own.
///
/// # Errors
///
/// A usage error that names the word, or the two that contradict each other.
pub(super) fn read_dns(flags: &PodFlags) -> Result<Option<Dns>> {
    let more = flags.dns_search.first().map(|word| format!("--dns-search {word}"));
    let more = more.or_else(|| flags.dns_opt.first().map(|word| format!("--dns-opt {word}")));
    let whole = flags.dns.iter().find(|word| ["none", "host"].contains(&word.as_str()));
    if let Some(whole) = whole {
        let other = flags.dns.iter().find(|word| *word != whole);
        if let Some(other) = other.map(|word| format!("--dns {word}")).or(more) {
            return Err(contradiction(&format!("--dns {whole}"), &other));
        }
        return Ok((whole == "none").then(Dns::default));
    }
    if flags.dns.is_empty() && more.is_none() {
        return Ok(None);
    }
    let servers = flags.dns.iter().map(|word| {
        word.parse::<IpAddr>().map_err(|_| {
            CommandError::usage(format!("`{word}` is no name server"))
                .hint("`--dns` takes an address, `host` or `none`")
        })
    });
    Ok(Some(Dns {
        servers: servers.collect::<Result<_>>()?,
        search: flags.dns_search.clone(),
        options: flags.dns_opt.clone(),
    }))
}

/// Reads `NAME:IP`; the address may stand in brackets, and behind `=` as well.
///
/// # Errors
///
/// A usage error that names the word.
pub(super) fn read_host(word: &str) -> Result<HostEntry> {
    let refused =
        || CommandError::usage(format!("`{word}` is no line of /etc/hosts: it takes NAME:IP"));
    let (name, address) = word.split_once([':', '=']).ok_or_else(refused)?;
    if address == "host-gateway" {
        return Err(refused()
            .hint("`pod network inspect default` shows the host's address there, its gateway"));
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = bare.unwrap_or(address).parse().map_err(|_| refused())?;
    if name.is_empty() {
        return Err(refused());
    }
    Ok(HostEntry { address, name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_addresses() {
        let table = [
            ("db:10.0.0.1", Some(("db", "10.0.0.1"))),
            ("db:::1", Some(("db", "::1"))),
            ("db:[fd00::1]", Some(("db", "fd00::1"))),
            ("db=1.2.3.4", Some(("db", "1.2.3.4"))),
            ("db", None),
            (":1.2.3.4", None),
            ("db:", None),
            ("db:host-gateway", None),
            ("1.2.3.4:db", None),
        ];
        for (word, expected) in table {
            let read = read_host(word).ok().map(|entry| (entry.name, entry.address.to_string()));
            let expected = expected.map(|(name, ip)| (name.to_owned(), ip.to_owned()));
            assert_eq!(read, expected, "{word}");
        }
    }
}
