//! What pods ask of networks, in the words of CNI, and what they are given, in ours. Pure but for
//! the configurations it reads.

use std::path::Path;

use cni::{
    AddResult, Args, Capabilities, Cidr, ContainerId, IfName, Network, NetworkName, PortMapping,
    Request,
};
use network::plugin;
use pod_abi::PodId;
use pod_abi::network::{Attachment as Asked, Interface, Protocol, Publication};

use crate::error::{CommandError, Result};

/// Finds what a network is: one of ours, or a file of the administrator's.
pub(super) fn configuration(asked: &Asked) -> Result<Network> {
    let name = asked.network.as_str();
    if let Some(built_in) = network::Network::named(name) {
        let text = plugin::configuration(built_in).to_string();
        return Network::parse(text.as_bytes()).map_err(|error| told(&error));
    }
    let name = NetworkName::parse(name).map_err(|error| told(&error))?;
    let found = cni::network_named(Path::new(cni::DIRECTORY), &name);
    found.map_err(|error| match error.kind() {
        cni::ErrorKind::NotFound => told(&error).hint("`--net default` needs no configuration"),
        _ => told(&error),
    })
}

/// Says which ports of the host lead where, each for itself.
pub(super) fn mappings(ports: &[Publication]) -> Vec<PortMapping> {
    let of_range = |range: &Publication| {
        let (host_ip, protocol) = (range.host_address, range.protocol);
        let mapping = move |(host_port, container_port)| PortMapping {
            host_port,
            container_port,
            protocol: match protocol {
                Protocol::Tcp => cni::Protocol::Tcp,
                Protocol::Udp => cni::Protocol::Udp,
            },
            host_ip,
        };
        range.pairs().map(mapping).collect::<Vec<_>>()
    };
    ports.iter().flat_map(of_range).collect()
}

/// Finds the network whose plugins publish ports.
pub(super) fn receiver_of_ports(
    networks: &[Network],
    mappings: &[PortMapping],
) -> Result<Option<usize>> {
    if mappings.is_empty() {
        return Ok(None);
    }
    let asked = Capabilities { port_mappings: mappings.to_vec(), ..Capabilities::default() };
    let takes = |network: &Network| network.lacks(&asked).is_empty();
    networks.iter().position(takes).map(Some).ok_or_else(|| {
        let names: Vec<&str> = networks.iter().map(|network| network.name().as_str()).collect();
        let what = format!("no plugin of network `{}` publishes ports", names.join("`, `"));
        CommandError::new("network.no-ports", what)
            .hint("add the plugin `portmap` to it, or join `default` as well")
    })
}

/// Asks for what a pod is to have in its network of this number.
pub(super) fn request(
    pod: &PodId,
    netns: &Path,
    number: usize,
    asked: &Asked,
    port_mappings: Vec<PortMapping>,
) -> Result<Request> {
    let mut args = Args::default();
    for (key, value) in &asked.args {
        args.push(key, value).map_err(|error| told(&error))?;
    }
    let full = |address: std::net::IpAddr| Cidr {
        address,
        prefix: if address.is_ipv4() { 32 } else { 128 },
    };
    Ok(Request {
        container: container(pod)?,
        if_name: IfName::parse(&format!("eth{number}")).map_err(|error| told(&error))?,
        netns: netns.to_owned(),
        args,
        capabilities: Capabilities {
            port_mappings,
            ips: asked.addresses.iter().copied().map(full).collect(),
            mac: asked.mac.as_ref().map(ToString::to_string),
            ..Capabilities::default()
        },
    })
}

/// Says which pod is meant.
pub(super) fn container(pod: &PodId) -> Result<ContainerId> {
    ContainerId::parse(pod.as_str()).map_err(|error| told(&error))
}

/// Reads what a pod has been given.
pub(super) fn interface(asked: &Asked, name: &IfName, result: &AddResult) -> Result<Interface> {
    let inside = result.interfaces.iter().find(|one| one.is_inside() && one.name == name.as_str());
    Ok(Interface {
        network: asked.network.clone(),
        name: name.to_string(),
        mac: inside.map(|one| one.mac.clone()).unwrap_or_default(),
        addresses: result.container_ips().map(|ip| ip.address.address).collect(),
    })
}

/// Reads whom pods of a network are to ask for names; what is no address is passed over.
pub(super) fn name_servers(result: &AddResult) -> impl Iterator<Item = std::net::IpAddr> + '_ {
    result.dns.nameservers.iter().filter_map(|word| word.parse().ok())
}

/// Says an error of a network or of its plugins in our words.
pub(super) fn told(error: &cni::Error) -> CommandError {
    let all = CommandError::of(error.code(), error);
    error.hints().iter().fold(all, |all, hint| all.hint(hint.clone()))
}
