//! `pod ps`: pods in a table.

use pod_abi::manifest::PodManifest;
use pod_abi::phase::{Home, Phase};
use pod_abi::status::PodStatus;
use pod_abi::{AppName, PodId, PodName, Timestamp};
use serde::Serialize;

use super::Session;
use crate::cli::PsArgs;
use crate::error::{Kind, Result};
use crate::host;
use crate::pods::{Entry, Pod};
use crate::ui::{self, Format};

/// One pod in the list; `pod ps -o json` prints an array of these.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    uuid: PodId,
    name: Option<PodName>,
    phase: Phase,
    apps: Vec<AppName>,
    images: Vec<String>,
    created: Option<Timestamp>,
    started: Option<Timestamp>,
    ready: Option<Timestamp>,
    ended: Option<Timestamp>,
    code: Option<u8>,
    error: Option<String>,
}

/// Lists pods.
///
/// # Errors
///
/// `storage`. A pod that cannot be read is listed as such.
pub(crate) fn ps(session: &Session, args: &PsArgs) -> Result<u8> {
    let mut rows = Vec::new();
    for home in Home::ALL {
        for entry in session.pods.list(home)? {
            match entry? {
                Entry::Pod(pod) => rows.push(row(&pod)),
                Entry::Alien(home, name) => {
                    ui::note(&format!("note: `{}/{name}` is no pod", home.directory()));
                }
            }
        }
    }
    // A pod that moved while we looked is found twice; the later look counts.
    rows.reverse();
    rows.sort_by(|a, b| (b.created, &b.uuid).cmp(&(a.created, &a.uuid)));
    rows.dedup_by(|a, b| a.uuid == b.uuid);
    rows.retain(|row| args.all || matches!(row.phase, Phase::Running));
    if args.quiet {
        let ids: String = rows.iter().map(|row| format!("{}\n", row.uuid)).collect();
        ui::out(&ids)?;
    } else if session.context.format == Format::Json {
        ui::json(&rows)?;
    } else {
        let now = host::now();
        let rows: Vec<Vec<String>> = rows.iter().map(|row| cells(row, now)).collect();
        ui::out(&ui::table(&["ID", "NAME", "STATUS", "APPS", "IMAGES", "CREATED"], &rows))?;
    }
    Ok(0)
}

fn row(pod: &Pod) -> Row {
    let phase = pod.phase();
    let (manifest, status) = (pod.manifest(), pod.status());
    let error = match (&manifest, &status) {
        (Err(error), _) | (_, Err(error)) if error.kind() != Kind::OutputClosed => {
            // One that is just being laid out has not been written yet.
            (!matches!(phase, Phase::Embryo | Phase::Preparing)).then(|| error.to_string())
        }
        _ => None,
    };
    let (manifest, status) = (manifest.ok(), status.ok().flatten());
    let images = manifest.as_ref().map(|manifest| images(pod, manifest)).unwrap_or_default();
    let of = |field: fn(&PodStatus) -> Option<Timestamp>| status.as_ref().and_then(field);
    Row {
        uuid: pod.id.clone(),
        name: manifest.as_ref().map(|manifest| manifest.name.clone()),
        phase,
        images,
        created: manifest.as_ref().map(|manifest| manifest.created),
        started: of(|status| Some(status.started)),
        ready: of(|status| status.ready),
        ended: of(|status| status.ended),
        code: status.as_ref().and_then(|status| status.code),
        apps: manifest.map(|manifest| manifest.sandbox.apps).unwrap_or_default(),
        error,
    }
}

fn images(pod: &Pod, manifest: &PodManifest) -> Vec<String> {
    pod.apps(manifest)
        .map(|apps| apps.into_iter().map(|app| app.image.reference).collect())
        .unwrap_or_default()
}

fn cells(row: &Row, now: Timestamp) -> Vec<String> {
    let ago = |time: Timestamp| ui::span(now.seconds().saturating_sub(time.seconds()));
    let apps: Vec<&str> = row.apps.iter().map(AppName::as_str).collect();
    let mut images = row.images.clone();
    images.dedup();
    vec![
        row.uuid.short().to_owned(),
        row.name.as_ref().map_or("-", PodName::as_str).to_owned(),
        state(row, &ago),
        apps.join(","),
        images.join(","),
        row.created.map_or("-".to_owned(), |created| format!("{} ago", ago(created))),
    ]
}

fn state(row: &Row, ago: &dyn Fn(Timestamp) -> String) -> String {
    let phase = row.phase.as_str();
    match (row.phase, row.code, row.ended, row.started) {
        _ if row.error.is_some() => format!("{phase}, unreadable"),
        (Phase::Running, _, _, Some(started)) => match row.ready {
            Some(_) => format!("running for {}", ago(started)),
            None => "starting".to_owned(),
        },
        (Phase::Running, ..) => "starting".to_owned(),
        (Phase::Exited, Some(code), Some(ended), _) => {
            format!("exited {code}, {} ago", ago(ended))
        }
        (Phase::Exited, ..) => "exited, killed".to_owned(),
        _ => phase.to_owned(),
    }
}
