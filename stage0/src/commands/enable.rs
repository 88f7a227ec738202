//! `pod enable` and `pod disable`: a pod that belongs to the host, and is started at every boot.
//!
//! ```text
//! /etc/pods/NAME.json                                what the pod is; `pod@NAME.service` runs it
//! /etc/systemd/system/pod@NAME.service.d/10-pod.conf what its unit is beyond the template
//! ```
//!
//! Both are files for people: what they have changed is not overwritten, and not removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pod_abi::manifest::PodSpec;
use pod_abi::phase::Phase;
use pod_abi::{PodName, layout};

use super::Session;
use crate::cli::{DisableArgs, EnableArgs};
use crate::error::{CommandError, Context as _, Result};
use crate::pods::{Pod, Query};
use crate::systemd::service::{self, PodService};
use crate::systemd::{self, Job, Manager, Outcome, journal, unit_file};
use crate::{specification, stage1, ui, whole_file};

/// The template whose units are the host's pods.
const TEMPLATE: &str = "pod@.service";
/// How many lines of the journal are shown beside an error.
const LOG_LINES: usize = 10;

/// Has a pod started at every boot.
///
/// # Errors
///
/// If this host cannot, if the pod is none to keep, or if its file says something else.
pub(crate) fn enable(session: &Session, args: &EnableArgs) -> Result<u8> {
    let pod = match session.pods.find(&Query(&args.pod)) {
        Ok(pod) => pod,
        // A file written by hand is all there need be of a pod.
        Err(error) => match PodName::parse(&args.pod) {
            Ok(name) if specification::of_host(&name).exists() => {
                return enable_described(session, &name, args.now);
            }
            _ => return Err(error),
        },
    };
    let manager = manager(session)?;
    let spec = of_the_host(session, &pod)?;
    let name = pod.manifest()?.name;
    let unit = unit_of(&name);
    if args.now
        && pod.phase() == Phase::Running
        && manager.state(&unit)?.is_none_or(|it| !it.active.is_alive())
    {
        let sentence = format!("pod `{name}` runs already, and not as `{unit}`");
        return Err(CommandError::new("pod.running", sentence).hint(format!(
            "`pod stop {name}` first; without `--now` it is `{unit}` from the next boot on"
        )));
    }
    let file = specification::of_host(&name);
    let text = text_of(&spec)?;
    check_unwritten(&file, &unit, &spec)?;
    let drop_in = drop_in_of(&name);
    let more = drop_in_text(&pod)?;
    whole_file::put(&file, &text, 0o600)?;
    whole_file::put(&drop_in, &more, 0o644)?;
    enable_unit(&manager, &name, args.now)
}

/// Has a pod started at every boot that there is nothing of but its file.
fn enable_described(session: &Session, name: &PodName, now: bool) -> Result<u8> {
    let manager = manager(session)?;
    specification::read(&specification::of_host(name))?;
    enable_unit(&manager, name, now)
}

fn enable_unit(manager: &Manager, name: &PodName, now: bool) -> Result<u8> {
    let unit = unit_of(name);
    manager.enable(&unit)?;
    ui::out(&format!("{}\n", specification::of_host(name).display()))?;
    if now {
        settled(&manager.start(&unit)?, "start")?;
    }
    Ok(0)
}

/// Has a pod started at boots no longer.
///
/// # Errors
///
/// If this host cannot, or the pod does not stop.
pub(crate) fn disable(session: &Session, args: &DisableArgs) -> Result<u8> {
    let manager = manager(session)?;
    let name =
        PodName::parse(&args.name).map_err(|error| CommandError::usage(error.to_string()))?;
    let (unit, file) = (unit_of(&name), specification::of_host(&name));
    let drop_in = drop_in_of(&name);
    if !file.exists() && !drop_in.exists() {
        return Err(CommandError::new(
            "pod.not-enabled",
            format!("pod `{name}` does not belong to this host"),
        )
        .hint(format!(
            "there is no `{}`; `systemctl list-unit-files 'pod@*'` lists those that do",
            file.display()
        )));
    }
    manager.disable(&unit)?;
    if args.now
        && let Some(job) = manager.stop(&unit)?
    {
        settled(&job, "stop")?;
        manager.reset_failed(&unit)?;
    }
    // What nobody has changed is made again by `pod enable`.
    let pod = session.pods.named(&name)?.map(|id| session.pods.open_id(&id)).transpose()?.flatten();
    let made = match pod {
        Some(pod) => Some((text_of(&specification::of(&pod)?)?, drop_in_text(&pod)?)),
        None => None,
    };
    let (text, more) = made.unzip();
    for (path, ours) in [(&file, text), (&drop_in, more)] {
        match (fs::read_to_string(path).ok(), ours) {
            (None, _) => {}
            (Some(there), Some(ours)) if there == ours => remove(path)?,
            _ => ui::note(&format!(
                "`{}` stays; it was written by hand, or its pod is gone",
                path.display()
            )),
        }
    }
    if let Some(directory) = drop_in.parent() {
        let _ = fs::remove_dir(directory); // other drop-ins may be in it
    }
    manager.daemon_reload()?;
    Ok(0)
}

fn unit_of(name: &PodName) -> String {
    TEMPLATE.replace('@', &format!("@{name}"))
}

fn drop_in_of(name: &PodName) -> PathBuf {
    Path::new("/etc/systemd/system").join(format!("{}.d", unit_of(name))).join("10-pod.conf")
}

/// Connects to the manager of a host that has the template.
fn manager(session: &Session) -> Result<Manager> {
    let context = &session.context;
    if !systemd::is_booted() {
        return Err(CommandError::new("systemd.none", "this host was not booted by systemd")
            .hint("`pod start -d` in what this host runs at boot starts a pod"));
    }
    if context.root != Path::new(layout::ROOT) || context.run_root != Path::new(layout::RUN_ROOT) {
        let sentence = format!("`{TEMPLATE}` runs pods of `{}` only", layout::ROOT);
        return Err(CommandError::new("pod.elsewhere", sentence)
            .hint("`pod generate systemd` prints a unit for a pod that lies elsewhere"));
    }
    let manager = Manager::connect()?;
    if !manager.has_file(TEMPLATE)? {
        let sentence = format!("`{TEMPLATE}` is not installed");
        return Err(CommandError::new("systemd.no-template", sentence).hint(
            "it comes with the package; `cargo xtask install /` and `systemctl daemon-reload` install it from the sources",
        ));
    }
    Ok(manager)
}

/// Returns what makes this pod, if it is one to keep.
fn of_the_host(session: &Session, pod: &Pod) -> Result<PodSpec> {
    let manifest = pod.manifest()?;
    let name = &manifest.name;
    if manifest.remove {
        let sentence = format!("pod `{name}` is removed when it ends, as it was asked to (`--rm`)");
        return Err(CommandError::new("pod.removed-at-end", sentence).hint(
            "make it without `--rm`, or write what `pod run --dry-run` prints to `/etc/pods`",
        ));
    }
    if session.pods.named(name)?.as_ref() != Some(&pod.id) {
        let sentence = format!("another pod is called `{name}` by now");
        return Err(CommandError::new("pod.displaced", sentence)
            .hint(format!("`pod enable {name}` is about that one")));
    }
    specification::of(pod)
}

fn text_of(spec: &PodSpec) -> Result<String> {
    let text = serde_json::to_string_pretty(spec)
        .map_err(|error| CommandError::of("pod.invalid", &error))?;
    Ok(text + "\n")
}

/// Refuses to overwrite a file that says something else.
fn check_unwritten(file: &Path, unit: &str, spec: &PodSpec) -> Result<()> {
    if !file.exists() {
        return Ok(());
    }
    if specification::read(file).is_ok_and(|there| there == *spec) {
        return Ok(());
    }
    Err(CommandError::new(
        "pod.described-otherwise",
        format!("`{}` is there, and describes another pod", file.display()),
    )
    .hint(format!(
        "remove it to have this pod's written; `systemctl enable {unit}` takes it as it is"
    )))
}

/// Returns what the unit of a pod is beyond the template.
fn drop_in_text(pod: &Pod) -> Result<String> {
    let manifest = pod.manifest()?;
    let apps = pod.apps(&manifest)?;
    let mut unit = service::of(&PodService {
        manifest: &manifest,
        apps: &apps,
        overhead: stage1::find(&manifest.sandbox.stage1)?.overhead,
        start: &[],
        reload: &[],
        reap: &[],
    })?;
    service::forget_id(&mut unit);
    let comment =
        format!("What pod {} is beyond {TEMPLATE}; written by `pod enable`.", manifest.name);
    Ok(unit_file::drop_in(&unit.properties, &comment))
}

/// Waits for a job, and tells what became of it if that is not what was asked for.
fn settled(job: &Job, deed: &str) -> Result<()> {
    let outcome = job.wait(None)?;
    if matches!(outcome, Some(Outcome::Done | Outcome::Skipped)) {
        return Ok(());
    }
    let unit = job.unit();
    for line in journal::last_lines(unit, LOG_LINES) {
        ui::note(&line);
    }
    let why = match outcome {
        Some(Outcome::Canceled) => "another job took its place",
        Some(Outcome::TimedOut) => "it took too long",
        Some(Outcome::Dependency) => "a unit it needs has failed",
        Some(Outcome::Unheard) | None => "systemd does not tell what becomes of it",
        _ => "it has failed",
    };
    Err(CommandError::new("systemd.failed", format!("cannot {deed} unit `{unit}`: {why}"))
        .hint(format!("`systemctl status {unit}` and `journalctl -u {unit}` tell more")))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).context(|| format!("cannot remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}
