//! The built-in networks as a CNI plugin that is called in process, so that a runtime has one way to
//! attach a pod, whoever made the network.
//!
//! The plugin's type is [`KIND`]; which network is meant is the name of the configuration it stands
//! in. It takes `portMappings`, `ips` and `mac`, the arguments `IP` and `MAC`, and the key `mtu`.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;

use cni::{
    AddResult, Args, BuiltIn, Cidr, Command, Dns, Interface, Invocation, Ip, PluginError, Route,
    Subject, Version,
};
use pod_abi::PodId;
use serde::Deserialize;
use serde_json::{Value, json};

use pod_abi::network::{Protocol, Publication};

use crate::attachment::{Attached, Leg, Network, Owner, Request};
use crate::error::{Error, ErrorKind, Result};
use crate::host::{Host, Namespace};
use netlink::{Mac, Prefix};

/// The `type` the plugin is found by.
pub const KIND: &str = "pod";

/// The first code that is a plugin's own (CNI 1.1 `SPEC.md`, "Error").
const OWN_CODES: u32 = 100;

/// The plugin on a host.
#[derive(Clone, Copy)]
pub struct Plugin<'a> {
    /// The networks of the host.
    pub host: Host<'a>,
    /// Hears what was changed about the host, for which CNI has no place.
    pub notice: &'a (dyn Fn(&str) + Sync),
}

impl std::fmt::Debug for Plugin<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("host", &self.host).finish_non_exhaustive()
    }
}

/// Returns the configuration of a built-in network, as an administrator would have written it.
#[must_use]
pub fn configuration(network: Network) -> Value {
    let capabilities = json!({"portMappings": true, "ips": true, "mac": true});
    json!({
        "cniVersion": Version::NEWEST.as_str(),
        "name": network.name(),
        "plugins": [{"type": KIND, "capabilities": capabilities}],
    })
}

impl BuiltIn for Plugin<'_> {
    fn kind(&self) -> &str {
        KIND
    }

    fn call(&self, invocation: &Invocation) -> std::result::Result<Value, PluginError> {
        let config: Config = invocation.config()?;
        let network = Network::named(&config.name).ok_or_else(|| {
            let names = Network::ALL.map(Network::name).join("` and `");
            let message = format!("the plugin `{KIND}` makes the networks `{names}` only");
            PluginError::new(PluginError::INVALID_CONFIGURATION, message)
        })?;
        match (invocation.command, &invocation.subject) {
            (Command::Add, Some(subject)) => {
                let request = config.request(network, subject)?;
                self.add(&request, subject, config.version()?)
            }
            (Command::Check, Some(subject)) => {
                let netns = open_namespace(subject)?;
                self.host
                    .check(netns.as_fd(), &owner(subject)?)
                    .map_err(|error| told(&error))
                    .map(|()| Value::Null)
            }
            (Command::Del, Some(subject)) => {
                let namespace =
                    if subject.netns.is_some() { Namespace::Stays } else { Namespace::Ends };
                self.host
                    .detach(&owner(subject)?, namespace)
                    .map_err(|error| told(&error))
                    .map(|()| Value::Null)
            }
            // Who lives is known better than by a list.
            (Command::Gc, _) => {
                self.host.collect().map_err(|error| told(&error)).map(|_| Value::Null)
            }
            (Command::Status | Command::Version, _) => Ok(Value::Null),
            (_, None) => Err(PluginError::new(
                PluginError::INVALID_ENVIRONMENT,
                "it is not said which container is meant",
            )),
        }
    }
}

impl Plugin<'_> {
    fn add(
        &self,
        request: &Request,
        subject: &Subject,
        version: Version,
    ) -> std::result::Result<Value, PluginError> {
        let netns = open_namespace(subject)?;
        let attached = self.host.attach(netns.as_fd(), request).map_err(|error| told(&error))?;
        for notice in &attached.notices {
            (self.notice)(notice);
        }
        let sandbox = subject.netns.as_deref().map(|path| path.to_string_lossy().into_owned());
        Ok(result(&attached, sandbox.unwrap_or_default(), request.mtu.unwrap_or(0)).write(version))
    }
}

/// What ADD made, in the words of CNI.
fn result(attached: &Attached, sandbox: String, mtu: u32) -> AddResult {
    let link = |name: &str, mac: Mac, sandbox: String| Interface {
        name: name.to_owned(),
        mac: mac.to_string(),
        mtu,
        sandbox,
        ..Interface::default()
    };
    let v4 = Leg { address: attached.v4.address.into(), gateway: attached.v4.gateway.into() };
    let v6 = attached
        .v6
        .map(|leg| Leg::<IpAddr> { address: leg.address.into(), gateway: leg.gateway.into() });
    let legs: Vec<Leg<IpAddr>> = [v4].into_iter().chain(v6).collect();
    let cidr = |prefix: Prefix| Cidr { address: prefix.address, prefix: prefix.length };
    let route = |leg: &Leg<IpAddr>| Route {
        dst: cidr(Prefix::everything(leg.gateway)),
        gw: Some(leg.gateway),
        mtu: 0,
        advmss: 0,
        priority: 0,
        table: None,
        scope: None,
    };
    AddResult {
        interfaces: vec![
            link(&attached.host_link, attached.host_mac, String::new()),
            link(&attached.owner.interface, attached.mac, sandbox),
        ],
        ips: legs
            .iter()
            .map(|leg| Ip {
                address: cidr(Prefix::host(leg.address)),
                gateway: Some(leg.gateway),
                interface: Some(1),
            })
            .collect(),
        routes: legs.iter().filter(|_| attached.has_default_route).map(route).collect(),
        dns: Dns {
            nameservers: attached.name_server.iter().map(ToString::to_string).collect(),
            ..Dns::default()
        },
    }
}

/// What we read of what a plugin is told.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    cni_version: String,
    name: String,
    mtu: Option<u32>,
    #[serde(default)]
    runtime_config: RuntimeConfig,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RuntimeConfig {
    port_mappings: Vec<PortMapping>,
    ips: Vec<String>,
    mac: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PortMapping {
    host_port: u16,
    container_port: u16,
    protocol: Protocol,
    #[serde(rename = "hostIP", default)]
    host_address: Option<IpAddr>,
}

impl Config {
    fn version(&self) -> std::result::Result<Version, PluginError> {
        self.cni_version.parse().map_err(|_| unreadable("version of CNI", &self.cni_version))
    }

    fn request(
        &self,
        network: Network,
        subject: &Subject,
    ) -> std::result::Result<Request, PluginError> {
        let asked = &self.runtime_config;
        let argument = |key: &str| argument(&subject.args, key);
        let mut request = Request::new(owner(subject)?.pod, subject.if_name.as_str(), network);
        let addresses = asked.ips.iter().map(String::as_str).chain(argument("IP"));
        for text in addresses {
            let address = text.split('/').next().unwrap_or_default();
            match address.parse() {
                Ok(IpAddr::V4(address)) => request.v4 = Some(address),
                Ok(IpAddr::V6(address)) => request.v6 = Some(address),
                Err(_) => return Err(unreadable("address", text)),
            }
        }
        if let Some(text) = asked.mac.as_deref().or_else(|| argument("MAC")) {
            request.mac =
                Some(Mac::parse(text).ok_or_else(|| unreadable("hardware address", text))?);
        }
        request.mtu = self.mtu;
        request.ports = ranges(&asked.port_mappings);
        Ok(request)
    }
}

fn argument<'a>(args: &'a Args, key: &str) -> Option<&'a str> {
    args.value(key).filter(|value| !value.is_empty())
}

/// Puts ports that follow each other back together.
fn ranges(mappings: &[PortMapping]) -> Vec<Publication> {
    let mut ranges: Vec<Publication> = Vec::new();
    for mapping in mappings {
        let follows = |last: &&mut Publication| {
            let next = |first: u16| first.checked_add(last.count);
            last.host_address == mapping.host_address
                && last.protocol == mapping.protocol
                && next(last.host_port) == Some(mapping.host_port)
                && next(last.pod_port) == Some(mapping.container_port)
        };
        if let Some(last) = ranges.last_mut().filter(follows) {
            last.count += 1;
            continue;
        }
        ranges.push(Publication {
            host_address: mapping.host_address,
            host_port: mapping.host_port,
            pod_port: mapping.container_port,
            count: 1,
            protocol: mapping.protocol,
        });
    }
    ranges
}

fn unreadable(what: &str, text: &str) -> PluginError {
    let message = format!("`{}` is no {what}", text.escape_debug());
    PluginError::new(PluginError::INVALID_CONFIGURATION, message)
}

fn owner(subject: &Subject) -> std::result::Result<Owner, PluginError> {
    let pod = PodId::parse(subject.container.as_str())
        .map_err(|error| PluginError::new(PluginError::INVALID_ENVIRONMENT, error.to_string()))?;
    Ok(Owner { pod, interface: subject.if_name.as_str().to_owned() })
}

fn open_namespace(subject: &Subject) -> std::result::Result<File, PluginError> {
    let open = || -> Result<File> {
        let gone = || Error::new(ErrorKind::Namespace, "the pod has no network namespace");
        let path = subject.netns.as_deref().ok_or_else(gone)?;
        File::open(path).map_err(|error: io::Error| {
            let message = format!("cannot open the network namespace `{}`", path.display());
            Error::new(ErrorKind::Namespace, message).because(error)
        })
    };
    open().map_err(|error| told(&error))
}

/// The kinds of errors that have a code of our own, in the order of their codes.
const OWN_KINDS: [ErrorKind; 9] = [
    ErrorKind::AddressTaken,
    ErrorKind::PortTaken,
    ErrorKind::Exhausted,
    ErrorKind::NoSubnet,
    ErrorKind::Namespace,
    ErrorKind::Kernel,
    ErrorKind::Firewall,
    ErrorKind::Storage,
    ErrorKind::Broken,
];

/// Returns the kind of error this plugin means by a code, if it is one it tells.
#[must_use]
pub fn kind_of(code: u32) -> Option<ErrorKind> {
    if code == PluginError::INVALID_CONFIGURATION {
        return Some(ErrorKind::Invalid);
    }
    let at = usize::try_from(code.checked_sub(OWN_CODES)?).ok()?;
    OWN_KINDS.get(at).copied()
}

/// An error in the words of CNI: the sentence with what the system said, and the way out as details.
fn told(error: &Error) -> PluginError {
    let at = (0..).zip(OWN_KINDS).find(|(_, kind)| *kind == error.kind());
    let code = at.map_or(PluginError::INVALID_CONFIGURATION, |(at, _): (u32, _)| OWN_CODES + at);
    let message = match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    PluginError::new(code, message).details(error.way_out().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_follow_each_other_are_one_range() {
        let mapping = |host_port, container_port, protocol| PortMapping {
            host_port,
            container_port,
            protocol,
            host_address: None,
        };
        let ranges = ranges(&[
            mapping(8080, 80, Protocol::Tcp),
            mapping(8081, 81, Protocol::Tcp),
            mapping(8082, 82, Protocol::Udp),
            mapping(8083, 90, Protocol::Udp),
            mapping(8084, 91, Protocol::Udp),
        ]);
        let shown: Vec<String> =
            ranges.iter().map(|range| format!("{range} {}", range.pod_port)).collect();
        assert_eq!(shown, ["8080-8081/tcp 80", "8082/udp 82", "8083-8084/udp 90"]);
    }
}
