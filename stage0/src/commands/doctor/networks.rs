//! What keeps pods from their networks: a program that is missing, rules that somebody flushed, and
//! firewalls of others.

use std::path::Path;

use network::{Firewall, Health};
use pod_abi::finding::{Finding, State};

use crate::context::Context;
use crate::error::Result;
use crate::networks::{LET_PODS_THROUGH, Networks};
use crate::pods::Pods;

const RELOAD: &str = "`pod network reload`";

/// Looks at what `--net` and `-p` need. Pods with neither run without.
pub(super) fn findings(context: &Context) -> Vec<Finding> {
    let mut findings = vec![super::tried(
        "networks of pods",
        nft().map(|path| format!("`{path}`")),
        State::Limited,
        "install the package `nftables`; `--net none` and `--net host` do without",
    )];
    let need = "rules of networks";
    findings.extend(match health(context) {
        Ok(Some(health)) => of_health(need, &health),
        Ok(None) => Vec::new(), // no pod has ever had a network
        Err(error) => {
            let fix = error.report().hints.first().cloned();
            let fix = fix.unwrap_or_else(|| "`nft list ruleset` should work; does it?".to_owned());
            vec![Finding::lacking(need, State::Limited, error.to_string(), fix)]
        }
    });
    findings
}

fn nft() -> Option<String> {
    let places = network::PATH.split(':').map(|directory| format!("{directory}/nft"));
    places.into_iter().find(|path| Path::new(path).exists())
}

fn health(context: &Context) -> Result<Option<Health>> {
    if !Networks::were_used(&context.root) {
        return Ok(None);
    }
    let pods = Pods::open(context.open_root()?)?;
    Networks::of(&pods)?.health().map(Some)
}

fn of_health(need: &str, health: &Health) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut lacking = |found: String, fix: &str| {
        findings.push(Finding::lacking(need, State::Limited, found, fix));
    };
    if health.lacks_rules {
        lacking("somebody has flushed them".to_owned(), RELOAD);
    }
    if health.lacks_forwarding {
        lacking("this host does not pass packets on".to_owned(), RELOAD);
    }
    for firewall in &health.in_the_way {
        let fix = if matches!(firewall, Firewall::Other(_)) { LET_PODS_THROUGH } else { RELOAD };
        lacking(format!("{firewall} drops what is forwarded to pods and from them"), fix);
    }
    if findings.is_empty() {
        findings.push(Finding::ok(need, "in place"));
    }
    findings
}
