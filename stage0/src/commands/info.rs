//! `pod info`: versions, places, and how much is stored.

use pod_abi::finding::Finding;
use pod_abi::phase::{Home, Phase};
use pod_abi::version;
use rustix::fs::{Mode, OFlags, fstatvfs, open};
use serde::Serialize;

use super::Session;
use super::doctor::findings;
use crate::error::{Context as _, Result};
use crate::fetch;
use crate::pods::Entry;
use crate::ui::{self, Format};

/// What `pod info -o json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    version: &'static str,
    stage_abi: u32,
    control_version: u32,
    manifest_version: u32,
    kernel: String,
    machine: String,
    root: String,
    run_root: String,
    /// Who looks after pods.
    manager: String,
    pods: Counts,
    images: Images,
    /// Of the file system the root is on, in bytes.
    space: Space,
    /// What `pod doctor` has found.
    features: Vec<Finding>,
}

/// Pods by what they do.
#[derive(Debug, Default, Serialize)]
struct Counts {
    running: usize,
    prepared: usize,
    exited: usize,
    /// Being laid out or removed.
    other: usize,
}

#[derive(Debug, Default, Serialize)]
struct Images {
    count: usize,
    /// What their blobs take, in bytes; what several share is counted for each.
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Space {
    total: u64,
    free: u64,
}

/// Shows them.
///
/// # Errors
///
/// `storage`, `image.storage`.
pub(crate) fn info(session: &Session) -> Result<u8> {
    let info = collect(session)?;
    match session.context.format {
        Format::Json => ui::json(&info),
        Format::Table => ui::out(&text(&info)),
    }
    .map(|()| 0)
}

fn collect(session: &Session) -> Result<Info> {
    let uname = rustix::system::uname();
    let images = session.store()?.images().map_err(|error| fetch::failed(&error))?;
    Ok(Info {
        version: env!("CARGO_PKG_VERSION"),
        stage_abi: version::STAGE_ABI,
        control_version: version::CONTROL,
        manifest_version: version::MANIFEST,
        kernel: uname.release().to_string_lossy().into_owned(),
        machine: uname.machine().to_string_lossy().into_owned(),
        root: session.context.root.display().to_string(),
        run_root: session.context.run_root.display().to_string(),
        manager: session.supervision().describe(),
        pods: count(session)?,
        images: Images {
            count: images.len(),
            bytes: images.iter().map(|image| image.size).fold(0, u64::saturating_add),
        },
        space: space(session)?,
        features: findings(&session.context),
    })
}

fn count(session: &Session) -> Result<Counts> {
    let mut counts = Counts::default();
    for home in Home::ALL {
        for entry in session.pods.list(home)? {
            let Entry::Pod(pod) = entry? else { continue };
            *match pod.phase() {
                Phase::Running => &mut counts.running,
                Phase::Prepared => &mut counts.prepared,
                Phase::Exited => &mut counts.exited,
                _ => &mut counts.other,
            } += 1;
        }
    }
    Ok(counts)
}

fn space(session: &Session) -> Result<Space> {
    let root = &session.context.root;
    let tell = || format!("cannot look at the file system of `{}`", root.display());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = open(root, flags, Mode::empty()).context(tell)?;
    let stat = fstatvfs(dir).context(tell)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Space { total: bytes(stat.f_blocks), free: bytes(stat.f_bavail) })
}

fn text(info: &Info) -> String {
    let Counts { running, prepared, exited, other } = info.pods;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        text.push_str(&format!("{name:12} {value}\n"));
    };
    line("version:", format!("{}, stage ABI {}", info.version, info.stage_abi));
    line("kernel:", format!("{} on {}", info.kernel, info.machine));
    line("root:", info.root.clone());
    line("run root:", info.run_root.clone());
    line("manager:", info.manager.clone());
    line(
        "pods:",
        format!("{running} running, {prepared} prepared, {exited} exited, {other} other"),
    );
    line("images:", format!("{}, {}", info.images.count, ui::size(info.images.bytes)));
    let (free, total) = (ui::size(info.space.free), ui::size(info.space.total));
    line("space:", format!("{free} free of {total}"));
    for finding in &info.features {
        line("feature:", format!("{}: {}", finding.need, finding.found));
    }
    text
}
