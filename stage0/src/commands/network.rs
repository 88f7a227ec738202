//! `pod network …`: the networks pods can join, and who has joined them.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use network::Reloaded;
use pod_abi::PodId;
use pod_abi::network::Interface;
use serde::Serialize;

use super::Session;
use crate::cli::NetworkVerb;
use crate::directory::{self, Member};
use crate::error::{CommandError, Result};
use crate::networks::{self, Networks};
use crate::ui::{self, Format};

/// One network; `pod network ls -o json` prints an array of these, `inspect` one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    /// Where it is configured; none for one of ours.
    file: Option<PathBuf>,
    /// What makes it, in order.
    plugins: Vec<String>,
    /// The addresses it gives out, once they are chosen; none for one of the administrator's, whose
    /// plugins alone know.
    subnets: Vec<String>,
    /// Where pods reach their host there; none for one of the administrator's.
    gateways: Vec<IpAddr>,
    /// Who has joined it.
    pods: Vec<Joiner>,
}

/// A pod in a network.
#[derive(Debug, Serialize)]
struct Joiner {
    uuid: PodId,
    name: String,
    interfaces: Vec<Interface>,
}

/// Does what is asked about networks.
///
/// # Errors
///
/// `network.not-found`, those of rules that cannot be written, `storage`.
pub(crate) fn network(session: &Session, verb: &NetworkVerb) -> Result<u8> {
    match verb {
        NetworkVerb::Ls { quiet } => ls(session, *quiet),
        NetworkVerb::Inspect { name } => inspect(session, name),
        NetworkVerb::Reload => reload(&Networks::of(&session.pods)?.reload()?),
    }
}

fn ls(session: &Session, quiet: bool) -> Result<u8> {
    let rows = rows(session)?;
    if quiet {
        let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        ui::words(&names, session.context.format)?;
    } else if session.context.format == Format::Json {
        ui::json(&rows)?;
    } else {
        let or_none = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        let cells = |row: &Row| {
            let pods: Vec<&str> = row.pods.iter().map(|pod| pod.name.as_str()).collect();
            vec![
                row.name.clone(),
                if row.file.is_some() { row.plugins.join(",") } else { "built in".to_owned() },
                or_none(row.subnets.join(",")),
                or_none(pods.join(",")),
            ]
        };
        let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
        ui::out(&ui::table(&["NAME", "KIND", "SUBNETS", "PODS"], &rows))?;
    }
    Ok(0)
}

/// Says what was done; what could not be done is the error.
fn reload(reloaded: &Reloaded) -> Result<u8> {
    ui::note(&format!("rules are in place; interfaces they are for: {}", reloaded.links));
    for firewall in &reloaded.told {
        ui::note(&format!("{firewall} lets pods through now"));
    }
    let Some(firewall) = reloaded.in_the_way.first() else { return Ok(0) };
    let what = format!("{firewall} drops what is forwarded to pods and from them");
    Err(CommandError::new("network.firewall", what).hint(networks::LET_PODS_THROUGH))
}

fn inspect(session: &Session, name: &str) -> Result<u8> {
    let row = rows(session)?.into_iter().find(|row| row.name == name);
    let row = row.ok_or_else(|| {
        CommandError::new("network.not-found", format!("there is no network `{name}`"))
            .hint("`pod network ls` lists all networks")
    })?;
    ui::json(&row).map(|()| 0)
}

/// Returns all networks: ours, and those of the administrator. A file that holds none is told of.
fn rows(session: &Session) -> Result<Vec<Row>> {
    let members = directory::members(&session.pods)?;
    let subnets = Networks::of(&session.pods)?.subnets()?;
    let mut rows: Vec<Row> = network::Network::ALL
        .into_iter()
        .map(|network| {
            let subnet = subnets.map(|all| all.of(network));
            Row {
                name: network.name().to_owned(),
                file: None,
                plugins: vec![network::plugin::KIND.to_owned()],
                subnets: subnet
                    .map(|one| vec![one.v4.to_string(), one.v6.to_string()])
                    .unwrap_or_default(),
                gateways: subnet
                    .map(|one| vec![one.v4.gateway().into(), one.v6.gateway().into()])
                    .unwrap_or_default(),
                pods: joiners(&members, network.name()),
            }
        })
        .collect();
    for found in networks::configured(Path::new(cni::DIRECTORY))? {
        let network = match found.network {
            Ok(network) => network,
            Err(error) => {
                ui::note(&format!("note: {error}"));
                continue;
            }
        };
        let name = network.name().to_string();
        // Of several of one name the first counts, and ours before all.
        if rows.iter().any(|row| row.name == name) {
            ui::note(&format!("note: `{}` is hidden by another `{name}`", found.file.display()));
            continue;
        }
        rows.push(Row {
            pods: joiners(&members, &name),
            name,
            file: Some(found.file),
            plugins: network.plugins().iter().map(|plugin| plugin.kind().to_string()).collect(),
            subnets: Vec::new(),
            gateways: Vec::new(),
        });
    }
    Ok(rows)
}

fn joiners(members: &[Member], network: &str) -> Vec<Joiner> {
    let joiner = |member: &Member| {
        let its = |interface: &&Interface| interface.network.as_str() == network;
        let interfaces: Vec<Interface> =
            member.joined.interfaces.iter().filter(its).cloned().collect();
        let (uuid, name) = (member.id.clone(), member.name.clone());
        (!interfaces.is_empty()).then_some(Joiner { uuid, name, interfaces })
    };
    members.iter().filter_map(joiner).collect()
}
