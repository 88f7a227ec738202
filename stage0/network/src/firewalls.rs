//! Firewalls of others, and what they do to pods. What one of them drops is dropped, whatever our own
//! table says (nft(8), "accept"), so they are asked to let pods through: Docker and firewalld have a
//! place for that. Nothing of anybody else is changed.

use std::fmt;
use std::process::Command;

use serde::Deserialize;

use crate::attachment::Network;
use crate::error::{Error, ErrorKind, Result};
use crate::nft;
use crate::subnet::Subnets;

/// What iptables calls every link of a pod.
const LINKS: &str = "pod-+";
/// What nft calls them.
const LINKS_OF_NFT: &str = "\"pod-*\"";
/// Docker's chain for rules of others, which it reads before its own.
const DOCKER_USER: &str = "DOCKER-USER";
const FIREWALLD: &str = "firewalld";

/// A firewall that lets through what it knows alone, and does not know pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firewall {
    /// Docker's rules, of this family: `ip` or `ip6`.
    Docker(String),
    /// firewalld.
    Firewalld,
    /// A table of nftables, by family and name.
    Other(String),
}

impl fmt::Display for Firewall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Docker(family) => write!(f, "Docker's table `{family} filter`"),
            Self::Firewalld => f.write_str("firewalld"),
            Self::Other(table) => write!(f, "the table `{table}` of nftables"),
        }
    }
}

/// Finds the firewalls that drop what is forwarded to pods and from them. Tables of the old kind,
/// which only `iptables-legacy` shows, are not seen.
///
/// # Errors
///
/// [`ErrorKind::Firewall`] if `nft` cannot tell.
pub(crate) fn in_the_way(subnets: &Subnets) -> Result<Vec<Firewall>> {
    let chains = chains(&nft::listing(&["-j", "list", "chains"])?)?;
    let mut found = Vec::new();
    for chain in &chains {
        let table = format!("{} {}", chain.family, chain.table);
        let is_firewalld = chain.table == FIREWALLD && chain.hook.as_deref() == Some("forward");
        if !is_firewalld && !chain.drops_what_is_forwarded() {
            continue;
        }
        let text = nft::listing(&["list", "table", &chain.family, &chain.table])?;
        let firewall = if is_firewalld {
            Firewall::Firewalld
        } else if chains.iter().any(|other| other.is_docker_user_beside(chain)) {
            Firewall::Docker(chain.family.clone())
        } else {
            Firewall::Other(table)
        };
        let knows = match firewall {
            Firewall::Firewalld => text.contains(&subnets.of(Network::Default).v4.to_string()),
            _ => text.contains(LINKS_OF_NFT),
        };
        if !knows && !found.contains(&firewall) {
            found.push(firewall);
        }
    }
    Ok(found)
}

/// Has a firewall let pods through. Returns whether it could be told: there is no way to tell every
/// one.
///
/// # Errors
///
/// [`ErrorKind::Firewall`]: what its own program said.
pub(crate) fn tell(firewall: &Firewall, subnets: &Subnets) -> Result<bool> {
    match firewall {
        Firewall::Other(_) => return Ok(false),
        Firewall::Docker(family) => {
            let program = if family == "ip6" { "ip6tables" } else { "iptables" };
            for side in ["-i", "-o"] {
                run(program, &["-w", "-I", DOCKER_USER, side, LINKS, "-j", "ACCEPT"])?;
            }
        }
        Firewall::Firewalld => {
            for network in Network::ALL {
                let subnet = subnets.of(network);
                for source in [subnet.v4.to_string(), subnet.v6.to_string()] {
                    let source = format!("--add-source={source}");
                    run("firewall-cmd", &["--quiet", "--zone=trusted", &source])?;
                }
            }
        }
    }
    Ok(true)
}

/// A chain, as `nft -j list chains` tells it (libnftables-json(5), "CHAIN").
#[derive(Debug, Deserialize)]
struct Chain {
    family: String,
    table: String,
    name: String,
    hook: Option<String>,
    policy: Option<String>,
}

impl Chain {
    fn drops_what_is_forwarded(&self) -> bool {
        (self.hook.as_deref(), self.policy.as_deref()) == (Some("forward"), Some("drop"))
    }

    fn is_docker_user_beside(&self, other: &Self) -> bool {
        self.name == DOCKER_USER && (&self.family, &self.table) == (&other.family, &other.table)
    }
}

fn chains(text: &str) -> Result<Vec<Chain>> {
    #[derive(Deserialize)]
    struct Listing {
        nftables: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        chain: Option<Chain>,
    }
    let listing: Listing = serde_json::from_str(text).map_err(|error| {
        Error::new(ErrorKind::Firewall, "cannot read what `nft -j list chains` says").because(error)
    })?;
    Ok(listing.nftables.into_iter().filter_map(|item| item.chain).collect())
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let failed = || Error::new(ErrorKind::Firewall, format!("cannot run `{program}`"));
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", nft::PATH).env("LC_ALL", "C");
    let output = command.output().map_err(|error| failed().because(error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: String = said.trim().chars().take(nft::LONGEST_COMPLAINT).collect();
    Err(Error::new(ErrorKind::Firewall, format!("`{program}` refused to let pods through: {said}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_of_dropping_what_is_forwarded_is_seen() {
        let listing = r#"{"nftables": [
            {"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
            {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "handle": 1,
                       "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}},
            {"chain": {"family": "ip", "table": "filter", "name": "DOCKER-USER", "handle": 2}},
            {"chain": {"family": "inet", "table": "own", "name": "input", "handle": 1,
                       "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}}]}"#;
        let chains = chains(listing).unwrap();
        let drops: Vec<bool> = chains.iter().map(Chain::drops_what_is_forwarded).collect();
        assert_eq!(drops, [true, false, false]);
        assert!(chains[1].is_docker_user_beside(&chains[0]));
        assert!(!chains[1].is_docker_user_beside(&chains[2]));
    }
}
