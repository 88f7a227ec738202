//! `pod status` and `pod inspect`: one pod, for people and for programs.

use std::collections::{BTreeMap, BTreeSet};

use pod_abi::app::AppSpec;
use pod_abi::exit::Ended;
use pod_abi::isolators::Resources;
use pod_abi::manifest::{Insecure, PodManifest};
use pod_abi::network::Publication;
use pod_abi::phase::Phase;
use pod_abi::status::{AppState, AppStatus, PodStatus};
use pod_abi::{AppName, PodId, PodName, Timestamp};
use serde::Serialize;

use super::Session;
use crate::error::Result;
use crate::pods::Query;
use crate::ui::{self, Format};
use crate::{host, limits, specification};

/// What `pod status -o json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusDocument {
    uuid: PodId,
    name: PodName,
    phase: Phase,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    insecure: BTreeSet<Insecure>,
    /// What it is limited to.
    #[serde(skip_serializing_if = "Resources::is_none")]
    limits: Resources,
    /// What its apps are limited to, those that are.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    app_limits: BTreeMap<AppName, Resources>,
    /// The ports that lead into it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ports: Vec<Publication>,
    status: Option<PodStatus>,
}

/// What `pod inspect` prints.
#[derive(Debug, Serialize)]
struct InspectDocument {
    phase: Phase,
    manifest: PodManifest,
    apps: Vec<AppSpec>,
    status: Option<PodStatus>,
}

/// Shows what a pod and its apps do.
///
/// # Errors
///
/// `pod.not-found`, `pod.corrupt`, or `storage`.
pub(crate) fn status(session: &Session, word: &str) -> Result<u8> {
    let pod = session.pods.find(&Query(word))?;
    let (phase, manifest, status) = (pod.phase(), pod.manifest()?, pod.status()?);
    let apps = pod.apps(&manifest)?.into_iter().map(|app| (app.name, app.resources));
    let document = StatusDocument {
        uuid: pod.id.clone(),
        app_limits: apps.filter(|(_, limits)| !limits.is_none()).collect(),
        limits: manifest.sandbox.resources,
        name: manifest.name,
        phase,
        insecure: manifest.sandbox.insecure,
        ports: manifest.sandbox.ports,
        status,
    };
    match session.context.format {
        Format::Json => ui::json(&document)?,
        Format::Table => ui::out(&text(&document, host::now()))?,
    }
    Ok(0)
}

/// Shows all that is known of a pod.
///
/// # Errors
///
/// `pod.not-found`, `pod.corrupt`, or `storage`.
pub(crate) fn inspect(session: &Session, word: &str) -> Result<u8> {
    let pod = session.pods.find(&Query(word))?;
    let (phase, manifest, status) = (pod.phase(), pod.manifest()?, pod.status()?);
    let apps = pod.apps(&manifest)?;
    ui::json(&InspectDocument { phase, manifest, apps, status }).map(|()| 0)
}

/// Prints exactly what `pod run --spec` takes to run such a pod again.
///
/// # Errors
///
/// `pod.not-found`, `pod.corrupt`, or `storage`.
pub(crate) fn spec(session: &Session, word: &str) -> Result<u8> {
    let pod = session.pods.find(&Query(word))?;
    ui::json(&specification::of(&pod)?).map(|()| 0)
}

fn text(document: &StatusDocument, now: Timestamp) -> String {
    let mut text =
        format!("pod {} ({})\n  phase:   {}\n", document.name, document.uuid, phase(document));
    if !document.insecure.is_empty() {
        let words: Vec<&str> = document.insecure.iter().map(|it| it.as_str()).collect();
        text.push_str(&format!("  insecure: {}\n", words.join(", ")));
    }
    let mut line = |name: &str, value: String| text.push_str(&format!("  {name:8} {value}\n"));
    if !document.limits.is_none() {
        line("limits:", limits::sentence(&document.limits));
    }
    for (app, of_app) in &document.app_limits {
        line("limits:", format!("app {app}: {}", limits::sentence(of_app)));
    }
    let Some(status) = &document.status else { return text };
    if status.paused && document.phase == Phase::Running {
        line("paused:", format!("`pod unpause {}` lets it go on", document.name));
    }
    if let Some(unit) = &status.unit {
        line("unit:", unit.clone());
    }
    let joined = status.joined.as_ref().filter(|_| document.phase == Phase::Running);
    for interface in joined.into_iter().flat_map(|joined| &joined.interfaces) {
        let addresses: Vec<String> = interface.addresses.iter().map(ToString::to_string).collect();
        let (name, network) = (&interface.name, &interface.network);
        line("address:", format!("{} ({name} in {network})", addresses.join(", ")));
    }
    if !document.ports.is_empty() {
        let ports: Vec<String> = document.ports.iter().map(Publication::lead).collect();
        line("ports:", ports.join(", "));
    }
    line("attempt:", status.attempt.to_string());
    line("started:", status.started.to_string());
    if let Some(ended) = status.ended {
        line("ended:", ended.to_string());
    }
    if let Some(code) = status.code {
        line("status:", code.to_string());
    }
    if let Some(report) = &status.error {
        line("error:", report.message.clone());
    }
    let living = document.phase == Phase::Running;
    let paused = living && status.paused;
    let cells = |app| cells(app, living, paused, now);
    let rows: Vec<Vec<String>> = status.apps.iter().map(cells).collect();
    text.push_str(&ui::table(&["APP", "STATE", "PID", "RESTARTS", "SINCE"], &rows));
    for app in status.apps.iter().filter(|_| living) {
        if let Some(said) = &app.said {
            text.push_str(&format!("{} says: {said}\n", app.name));
        }
    }
    text
}

fn phase(document: &StatusDocument) -> String {
    let phase = document.phase.as_str();
    match &document.status {
        Some(status) if document.phase == Phase::Exited && host::restarted_since(status) => {
            format!("{phase} (host restarted)")
        }
        _ => phase.to_owned(),
    }
}

fn cells(app: &AppStatus, living: bool, paused: bool, now: Timestamp) -> Vec<String> {
    let ago = |time: Timestamp| ui::span(now.seconds().saturating_sub(time.seconds()));
    let state = match (app.state, app.exit) {
        (AppState::Running, _) if paused => "paused".to_owned(),
        (AppState::Running, _) if living => "running".to_owned(),
        (AppState::Running, _) => "killed".to_owned(),
        (AppState::Waiting, _) => "waiting".to_owned(),
        (AppState::BackingOff, exit) => format!("backing off{}", exit.map_or(String::new(), how)),
        (AppState::Exited, exit) => format!("exited{}", exit.map_or(String::new(), how)),
    };
    let since = if app.state == AppState::Running { app.started } else { app.ended };
    vec![
        app.name.to_string(),
        state,
        app.pid.filter(|_| living).map_or("-".to_owned(), |pid| pid.to_string()),
        app.restarts.to_string(),
        since.map_or("-".to_owned(), |since| format!("{} ago", ago(since))),
    ]
}

fn how(exit: Ended) -> String {
    match exit {
        Ended::Exited { code } => format!(", status {code}"),
        Ended::Signaled { signal, oom: true } => format!(", signal {signal}, out of memory"),
        Ended::Signaled { signal, oom: false } => format!(", signal {signal}"),
        Ended::NotStarted { code } => format!(", not started, status {code}"),
    }
}
