//! `pod port`: which ports of the host lead into a pod.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pod_abi::network::{Protocol, Publication};
use serde::Serialize;

use super::Session;
use super::subject::running;
use crate::cli::PortArgs;
use crate::error::{CommandError, Result};
use crate::ui::{self, Format};

/// One port; `pod port -o json` prints an array of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    pod_port: u16,
    protocol: Protocol,
    host_address: IpAddr,
    host_port: u16,
}

/// Shows the ports a pod publishes, or where one of them is.
///
/// # Errors
///
/// `pod.not-found`, `pod.not-running`, `port.not-published`.
pub(crate) fn port(session: &Session, args: &PortArgs) -> Result<u8> {
    let pod = running(session, &args.pod)?;
    let sandbox = pod.manifest()?.sandbox;
    let joined = pod.status()?.and_then(|status| status.joined).unwrap_or_default();
    let has_v6 = joined.addresses().any(|address| address.is_ipv6());
    let mut rows = rows(&sandbox.ports, has_v6);
    if let Some(wanted) = args.port {
        rows.retain(|row| wanted.is(row.pod_port, row.protocol));
        if rows.is_empty() {
            let what = format!("pod `{}` does not publish port {wanted}", pod.called());
            let all = format!("`pod port {}` shows the ports it publishes", args.pod);
            return Err(CommandError::new("port.not-published", what).hint(all));
        }
    }
    match session.context.format {
        Format::Json => ui::json(&rows)?,
        Format::Table => {
            let line = |row: &Row| {
                let host = SocketAddr::new(row.host_address, row.host_port);
                match args.port {
                    Some(_) => format!("{host}\n"),
                    None => format!("{}/{} -> {host}\n", row.pod_port, row.protocol),
                }
            };
            ui::out(&rows.iter().map(line).collect::<String>())?;
        }
    }
    Ok(0)
}

/// Returns each port at each address of the host where it is.
fn rows(ports: &[Publication], has_v6: bool) -> Vec<Row> {
    let every: &[IpAddr] = &[Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let mut rows = Vec::new();
    for range in ports {
        let own = range.host_address.map(|address| [address]);
        let addresses = match &own {
            Some(own) => &own[..],
            None => &every[..if has_v6 { 2 } else { 1 }],
        };
        for (host_port, pod_port) in range.pairs() {
            rows.extend(addresses.iter().map(|&host_address| Row {
                pod_port,
                protocol: range.protocol,
                host_address,
                host_port,
            }));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_every_address_is_at_those_of_both_families_the_pod_has() {
        let range = |host_address| Publication {
            host_address,
            host_port: 8080,
            pod_port: 80,
            count: 2,
            protocol: Protocol::Tcp,
        };
        let ports = [range(None), range(Some("192.0.2.1".parse().unwrap()))];
        let said = |has_v6| {
            let text = |row: &Row| {
                format!("{} {}", row.pod_port, SocketAddr::new(row.host_address, row.host_port))
            };
            rows(&ports, has_v6).iter().map(text).collect::<Vec<_>>()
        };
        let own = ["80 192.0.2.1:8080", "81 192.0.2.1:8081"];
        assert_eq!(said(false), [&["80 0.0.0.0:8080", "81 0.0.0.0:8081"], &own[..]].concat());
        assert_eq!(said(true)[..2], ["80 0.0.0.0:8080", "80 [::]:8080"]);
    }
}
