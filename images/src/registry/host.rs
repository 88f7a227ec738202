//! The name of a registry, and whether it may be spoken to without TLS.
//!
//! One rule stands here and nowhere else. TLS is the default. A registry on this machine's own
//! loopback is spoken to in plain HTTP, because nobody can listen in between and nobody gives it a
//! certificate - unless its port is 443 or `certs.d` holds an authority for it. Plain HTTP to any
//! other place must be asked for.
//!
//! Never: a look-up, a connection, or a guess made from what a registry answers.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A registry's `HOST` or `HOST:PORT` as it stands in a reference; IPv6 addresses in brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistryHost {
    name: String,
    port: Option<u16>,
}

/// Why a word names no registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no registry: it takes a host name or address, and a port if need be")]
pub struct RegistryHostError(String);

/// How registries may be spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// HTTPS; plain HTTP for registries on the loopback only (see the head of this file).
    #[default]
    Guarded,
    /// Plain HTTP because the user asked for it.
    InsecureHttp,
}

/// What stands before `://`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl RegistryHost {
    /// Parses `HOST[:PORT]`.
    ///
    /// # Errors
    ///
    /// [`RegistryHostError`] for anything that could be read as more than a host and a port.
    pub fn parse(word: &str) -> Result<Self, RegistryHostError> {
        let refused = || RegistryHostError(word.chars().take(280).collect());
        let (name, port) = match word.rfind(':') {
            Some(colon) if !word[colon..].contains(']') => {
                (&word[..colon], Some(port(&word[colon + 1..]).ok_or_else(refused)?))
            }
            _ => (word, None),
        };
        if !is_bracketed_address(name) && !is_host_name(name) {
            return Err(refused());
        }
        Ok(Self { name: name.to_ascii_lowercase(), port })
    }

    /// Returns the port if one was given.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// Returns whether this is `localhost` or an address of the loopback.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.name)
    }

    /// Returns the name that Docker Hub's registry really has, and every other unchanged.
    pub(super) fn on_the_wire(&self) -> Self {
        match self.name.as_str() {
            "docker.io" | "index.docker.io" => {
                Self { name: "registry-1.docker.io".to_owned(), port: self.port }
            }
            _ => self.clone(),
        }
    }

    /// Chooses how to speak to this registry; `known_authority`: `certs.d` holds a CA for it.
    pub(super) fn scheme(&self, transport: Transport, authority: KnownAuthority) -> Scheme {
        let plain = match transport {
            Transport::InsecureHttp => true,
            Transport::Guarded => {
                self.is_loopback() && self.port != Some(443) && authority == KnownAuthority::Absent
            }
        };
        if plain { Scheme::Http } else { Scheme::Https }
    }
}

/// Whether `certs.d` has an authority for a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KnownAuthority {
    Present,
    Absent,
}

/// Returns whether `name`, brackets allowed, is this machine's own loopback.
pub(super) fn is_loopback(name: &str) -> bool {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        || bare.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback())
}

fn port(digits: &str) -> Option<u16> {
    let plain = (1..=5).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok().filter(|&port| port != 0) } else { None }
}

fn is_bracketed_address(name: &str) -> bool {
    name.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

impl fmt::Display for RegistryHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_a_host_and_perhaps_a_port() {
        for good in
            ["docker.io", "localhost", "localhost:5000", "[::1]:5000", "127.0.0.1:1", "a-b.c"]
        {
            assert_eq!(RegistryHost::parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "", ":5000", "a:", "a:0", "a:65536", "a:+1", "a/b", "u@h", "a..b", "-a", "a-", "[::1",
            "::1", "[::1]x", "a b", "a:5000:1", "[x]",
        ] {
            assert!(RegistryHost::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn plain_http_is_for_the_loopback_or_for_who_asks() {
        let scheme = |host: &str, transport, authority| {
            RegistryHost::parse(host).unwrap().scheme(transport, authority)
        };
        let guarded = Transport::Guarded;
        for host in ["localhost:5000", "127.0.0.1", "127.9.9.9:80", "[::1]:5000", "LOCALHOST"] {
            assert_eq!(scheme(host, guarded, KnownAuthority::Absent), Scheme::Http, "{host}");
            assert_eq!(scheme(host, guarded, KnownAuthority::Present), Scheme::Https, "{host}");
        }
        for host in
            ["localhost:443", "docker.io", "128.0.0.1:5000", "localhost.evil.org", "[::2]:80"]
        {
            assert_eq!(scheme(host, guarded, KnownAuthority::Absent), Scheme::Https, "{host}");
            let asked = scheme(host, Transport::InsecureHttp, KnownAuthority::Absent);
            assert_eq!(asked, Scheme::Http, "{host}");
        }
    }
}
