//! `pod volume …`: volumes that outlive pods.

use std::path::PathBuf;

use pod_abi::phase::Phase;
use pod_abi::{PodName, VolumeName};
use serde::Serialize;

use super::{Session, each};
use crate::cli::{VolumeVerb, VolumesArgs};
use crate::error::{CommandError, Result};
use crate::named_volumes::{Hold, Made, NamedVolumes, User};
use crate::ui::{self, Format};

/// One volume; `pod volume ls -o json` prints an array of these, `inspect` one.
#[derive(Debug, Serialize)]
struct Row {
    name: VolumeName,
    path: PathBuf,
    users: Vec<User>,
}

/// Does what is asked of named volumes.
///
/// # Errors
///
/// `volume.not-found`, `volume.exists`, `volume.in-use`, or `storage`.
pub(crate) fn volume(session: &Session, verb: &VolumeVerb) -> Result<u8> {
    match verb {
        VolumeVerb::Ls { quiet } => ls(session, *quiet),
        VolumeVerb::Create { names, ignore } => create(session, names, *ignore),
        VolumeVerb::Inspect { name } => {
            let volumes = NamedVolumes::hold(&session.context.root, Hold::Use)?;
            let name = known(&volumes, name)?;
            ui::json(&row(session, &volumes, name)?)?;
            Ok(0)
        }
        VolumeVerb::Rm(args) => rm(session, args),
        VolumeVerb::Prune { dry_run } => prune(session, *dry_run),
    }
}

fn ls(session: &Session, quiet: bool) -> Result<u8> {
    let volumes = NamedVolumes::hold(&session.context.root, Hold::Use)?;
    let mut users = volumes.users(&session.pods)?;
    let rows: Vec<Row> = volumes
        .names()?
        .into_iter()
        .map(|name| {
            let users = users.remove(&name).unwrap_or_default();
            Row { path: volumes.path(&name), users, name }
        })
        .collect();
    if quiet {
        let names: Vec<&VolumeName> = rows.iter().map(|row| &row.name).collect();
        ui::words(&names, session.context.format)?;
    } else if session.context.format == Format::Json {
        ui::json(&rows)?;
    } else {
        let cells = |row: &Row| {
            let pods: Vec<&str> = row.users.iter().map(|user| user.name.as_str()).collect();
            let pods = if pods.is_empty() { "-".to_owned() } else { pods.join(",") };
            vec![row.name.to_string(), pods, row.path.display().to_string()]
        };
        let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
        ui::out(&ui::table(&["NAME", "PODS", "PATH"], &rows))?;
    }
    Ok(0)
}

fn create(session: &Session, names: &[String], ignore: bool) -> Result<u8> {
    let volumes = NamedVolumes::hold(&session.context.root, Hold::Use)?;
    each(&session.context, names, |word| {
        let name = parse(word)?;
        if volumes.make(&name)? == Made::Known && !ignore {
            return Err(CommandError::new(
                "volume.exists",
                format!("there is a volume `{name}` already"),
            )
            .hint("`--ignore` makes only those that are not there"));
        }
        ui::out(&format!("{name}\n"))
    })?;
    Ok(0)
}

fn rm(session: &Session, args: &VolumesArgs) -> Result<u8> {
    let volumes = NamedVolumes::hold(&session.context.root, Hold::Remove)?;
    let users = volumes.users(&session.pods)?;
    let done = each(&session.context, &args.names, |word| {
        let name = known(&volumes, word)?;
        if let Some([user, ..]) = users.get(&name).map(Vec::as_slice) {
            return Err(in_use(&name, user));
        }
        volumes.discard(&name)?;
        ui::out(&format!("{name}\n"))
    });
    volumes.sweep()?;
    done.map(|()| 0)
}

fn prune(session: &Session, dry_run: bool) -> Result<u8> {
    let volumes = NamedVolumes::hold(&session.context.root, Hold::Remove)?;
    let users = volumes.users(&session.pods)?;
    let unused: Vec<VolumeName> =
        volumes.names()?.into_iter().filter(|name| !users.contains_key(name)).collect();
    for name in unused.iter().filter(|_| !dry_run) {
        volumes.discard(name)?;
    }
    volumes.sweep()?;
    ui::words(&unused, session.context.format)?;
    Ok(0)
}

fn row(session: &Session, volumes: &NamedVolumes, name: VolumeName) -> Result<Row> {
    let users = volumes.users(&session.pods)?.remove(&name).unwrap_or_default();
    Ok(Row { path: volumes.path(&name), users, name })
}

fn parse(word: &str) -> Result<VolumeName> {
    VolumeName::parse(word).map_err(|error| CommandError::usage(error.to_string()))
}

/// Reads the name of a volume that is there.
fn known(volumes: &NamedVolumes, word: &str) -> Result<VolumeName> {
    let name = parse(word)?;
    if volumes.has(&name) {
        return Ok(name);
    }
    Err(CommandError::new("volume.not-found", format!("there is no volume `{name}`"))
        .hint("`pod volume ls` lists all volumes"))
}

fn in_use(name: &VolumeName, user: &User) -> CommandError {
    let pod: &PodName = &user.name;
    CommandError::new(
        "volume.in-use",
        format!("volume `{name}` is mounted by pod `{pod}`, which is {}", user.phase.as_str()),
    )
    .hint(match user.phase {
        Phase::Running => format!("`pod rm -f {}` kills and removes the pod", user.uuid),
        _ => format!("`pod rm {}` removes the pod", user.uuid),
    })
}
