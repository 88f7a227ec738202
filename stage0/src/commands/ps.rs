//! `pod ps`: pods in a table, or in lines of one's own making.

mod filter;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use pod_abi::app::AppSpec;
use pod_abi::manifest::{Insecure, PodManifest};
use pod_abi::network::Publication;
use pod_abi::phase::{Home, Phase};
use pod_abi::status::PodStatus;
use pod_abi::{AppName, PodId, PodName, Timestamp};
use serde::Serialize;

use super::Session;
use crate::cli::PsArgs;
use crate::error::{CommandError, Kind, Result};
use crate::host;
use crate::pods::{Entry, Pod};
use crate::ui::{self, Format, Template};

use filter::Filters;

/// One pod in the list; `pod ps -o json` prints an array of these.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    uuid: PodId,
    name: Option<PodName>,
    phase: Phase,
    apps: Vec<AppName>,
    images: Vec<String>,
    stage1: Option<String>,
    created: Option<Timestamp>,
    started: Option<Timestamp>,
    ready: Option<Timestamp>,
    ended: Option<Timestamp>,
    code: Option<u8>,
    /// Those of the first network first; none unless it runs.
    addresses: Vec<IpAddr>,
    ports: Vec<Publication>,
    labels: BTreeMap<String, String>,
    insecure: BTreeSet<Insecure>,
    paused: bool,
    error: Option<String>,
    /// Whether it has ended because the host did.
    host_restarted: bool,
    /// Its labels and those of its apps.
    #[serde(skip)]
    all_labels: Vec<(String, String)>,
}

/// What `--format` can write of a pod, in the order of [`template_row`]; docker's names beside
/// ours.
const FIELDS: [&str; 13] = [
    "ID",
    "Name|Names",
    "Phase|State",
    "Status",
    "Address",
    "Apps",
    "Images|Image",
    "Created|RunningFor",
    "CreatedAt",
    "Code",
    "Ports",
    "Labels",
    "Insecure",
];

/// Lists pods.
///
/// # Errors
///
/// A usage error for a filter or a template that is none; `storage`. A pod that cannot be read is
/// listed as such.
pub(crate) fn ps(session: &Session, args: &PsArgs) -> Result<u8> {
    let filters = Filters::read(&args.filter)?;
    let template = read_template(args)?;
    let mut rows = rows(session)?;
    let last = if args.latest { Some(1) } else { args.last };
    let all = args.all || last.is_some() || filters.look_beyond_running();
    rows.retain(|row| (all || row.phase == Phase::Running) && filters.fit(row));
    rows.truncate(last.unwrap_or(usize::MAX));
    let id = |row: &Row| match args.no_trunc {
        true => row.uuid.to_string(),
        false => row.uuid.short().to_owned(),
    };
    let now = host::now();
    if args.quiet {
        let ids: Vec<&PodId> = rows.iter().map(|row| &row.uuid).collect();
        ui::words(&ids, session.context.format)?;
    } else if let Some(template) = template {
        let rows =
            rows.iter().map(|row| template_row(row, id(row), now)).collect::<Result<Vec<_>>>();
        ui::out(&template.render(&FIELDS, &rows?))?;
    } else if session.context.format == Format::Json || args.format.is_some() {
        ui::json(&rows)?;
    } else {
        let rows: Vec<Vec<String>> = rows.iter().map(|row| cells(row, id(row), now)).collect();
        ui::out(&ui::table(
            &["ID", "NAME", "STATUS", "ADDRESS", "APPS", "IMAGES", "CREATED"],
            &rows,
        ))?;
    }
    Ok(0)
}

/// What `--format` takes in place of a template.
const JSON: &str = "json";

fn read_template(args: &PsArgs) -> Result<Option<Template>> {
    match (&args.format, args.quiet) {
        (None, _) => Ok(None),
        (Some(_), true) => {
            Err(CommandError::usage("`--quiet` and `--format` contradict each other"))
        }
        (Some(word), false) if word == JSON => Ok(None),
        (Some(text), false) => Template::parse(text, &FIELDS).map(Some),
    }
}

/// Reads all pods, the newest first.
fn rows(session: &Session) -> Result<Vec<Row>> {
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
    Ok(rows)
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
    let apps = manifest.as_ref().and_then(|manifest| pod.apps(manifest).ok()).unwrap_or_default();
    let of = |field: fn(&PodStatus) -> Option<Timestamp>| status.as_ref().and_then(field);
    Row {
        uuid: pod.id.clone(),
        name: manifest.as_ref().map(|manifest| manifest.name.clone()),
        phase,
        images: apps.iter().map(|app| app.image.reference.clone()).collect(),
        stage1: manifest.as_ref().map(|manifest| manifest.sandbox.stage1.clone()),
        created: manifest.as_ref().map(|manifest| manifest.created),
        started: of(|status| Some(status.started)),
        ready: of(|status| status.ready),
        ended: of(|status| status.ended),
        code: status.as_ref().and_then(|status| status.code),
        addresses: status
            .as_ref()
            .filter(|_| phase == Phase::Running)
            .and_then(|status| status.joined.as_ref())
            .map(|joined| joined.addresses().collect())
            .unwrap_or_default(),
        ports: manifest.as_ref().map(|it| it.sandbox.ports.clone()).unwrap_or_default(),
        labels: manifest.as_ref().map(|it| it.sandbox.labels.clone()).unwrap_or_default(),
        insecure: manifest.as_ref().map(|it| it.sandbox.insecure.clone()).unwrap_or_default(),
        paused: phase == Phase::Running && status.as_ref().is_some_and(|status| status.paused),
        all_labels: all_labels(manifest.as_ref(), &apps),
        apps: names(manifest, apps),
        host_restarted: phase == Phase::Exited
            && status.as_ref().is_some_and(host::restarted_since),
        error,
    }
}

/// The apps there are; those the manifest names if they cannot be read.
fn names(manifest: Option<PodManifest>, apps: Vec<AppSpec>) -> Vec<AppName> {
    if apps.is_empty() {
        return manifest.map(|manifest| manifest.sandbox.apps).unwrap_or_default();
    }
    apps.into_iter().map(|app| app.name).collect()
}

fn all_labels(manifest: Option<&PodManifest>, apps: &[AppSpec]) -> Vec<(String, String)> {
    let of_pod = manifest.into_iter().flat_map(|manifest| &manifest.sandbox.labels);
    let of_apps = apps.iter().flat_map(|app| &app.labels);
    of_pod.chain(of_apps).map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn cells(row: &Row, id: String, now: Timestamp) -> Vec<String> {
    let ago = |time: Timestamp| ui::span(now.seconds().saturating_sub(time.seconds()));
    let mut status = state(row, &ago);
    if !row.insecure.is_empty() {
        status.push_str(", insecure");
    }
    let apps: Vec<&str> = row.apps.iter().map(AppName::as_str).collect();
    let mut images = row.images.clone();
    images.dedup();
    vec![
        id,
        row.name.as_ref().map_or("-", PodName::as_str).to_owned(),
        status,
        row.addresses.first().map_or("-".to_owned(), ToString::to_string),
        apps.join(","),
        images.join(","),
        row.created.map_or("-".to_owned(), |created| format!("{} ago", ago(created))),
    ]
}

fn template_row(row: &Row, id: String, now: Timestamp) -> Result<ui::TemplateRow> {
    let whole =
        serde_json::to_value(row).map_err(|error| CommandError::of("internal.json", &error))?;
    let mut of_table = cells(row, id, now).into_iter();
    let mut next = || of_table.next().unwrap_or_default();
    let (id, name, status, address, apps, images, created) =
        (next(), next(), next(), next(), next(), next(), next());
    let ports: Vec<String> = row.ports.iter().map(Publication::lead).collect();
    let labels: Vec<String> =
        row.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let insecure: Vec<&str> = row.insecure.iter().map(|it| it.as_str()).collect();
    let created_at = row.created.map_or("-".to_owned(), |created| created.to_string());
    let code = row.code.map_or("-".to_owned(), |code| code.to_string());
    let phase = if row.paused { "paused" } else { row.phase.as_str() }.to_owned();
    Ok(ui::TemplateRow {
        cells: vec![
            id,
            name,
            phase,
            status,
            address,
            apps,
            images,
            created,
            created_at,
            code,
            ports.join(","),
            labels.join(","),
            insecure.join(","),
        ],
        whole,
    })
}

fn state(row: &Row, ago: &dyn Fn(Timestamp) -> String) -> String {
    let phase = row.phase.as_str();
    match (row.phase, row.code, row.ended, row.started) {
        _ if row.error.is_some() => format!("{phase}, unreadable"),
        (Phase::Running, _, _, Some(started)) => match row.ready {
            _ if row.paused => format!("running for {}, paused", ago(started)),
            Some(_) => format!("running for {}", ago(started)),
            None => "starting".to_owned(),
        },
        (Phase::Running, ..) => "starting".to_owned(),
        _ if row.host_restarted => "exited (host restarted)".to_owned(),
        (Phase::Exited, Some(code), Some(ended), _) => {
            format!("exited {code}, {} ago", ago(ended))
        }
        (Phase::Exited, ..) => "exited, killed".to_owned(),
        _ => phase.to_owned(),
    }
}
