//! `pod generate`: what others need to run a pod, printed.

use std::env;
use std::path::Path;

use pod_abi::manifest::PodManifest;
use pod_abi::{PodId, PodName, layout, version};

use super::Session;
use crate::cli::GenerateSystemdArgs;
use crate::context::Context;
use crate::error::{CommandError, Context as _, Result};
use crate::pods::Query;
use crate::systemd::service::{self, PodService};
use crate::systemd::unit_file;
use crate::{host, specification, stage1, ui};

/// Prints a unit file for a pod that is there, or for one that a specification describes.
///
/// # Errors
///
/// Whatever keeps the pod from being read, or from having a unit of its own.
pub(crate) fn systemd(session: &Session, args: &GenerateSystemdArgs) -> Result<u8> {
    let line = command_line(&session.context)?;
    let with = |words: &[&str]| -> Vec<String> {
        line.iter().cloned().chain(words.iter().map(|word| (*word).to_owned())).collect()
    };
    let (manifest, apps, start, origin) = match (&args.pod, &args.spec) {
        (Some(pod), _) => {
            let pod = session.pods.find(&Query(pod))?;
            let manifest = pod.manifest()?;
            if manifest.remove {
                let sentence = format!(
                    "pod `{}` is removed when it ends, so a unit could start it once",
                    manifest.name
                );
                return Err(CommandError::new("pod.removed-at-end", sentence).hint(
                    "`pod inspect --spec` writes down what it is, and `--spec FILE` makes a unit of that",
                ));
            }
            let apps = pod.apps(&manifest)?;
            let start = with(&["start", manifest.name.as_str()]);
            let origin = manifest.name.to_string();
            (manifest, apps, start, origin)
        }
        (None, Some(path)) => {
            let spec = specification::read(path)?;
            let name = spec.name.clone().or(named_after(path)).ok_or_else(|| {
                CommandError::usage(format!("the pod of `{}` has no name", path.display()))
                    .hint("`\"name\": \"web\"` in it gives it one, or the name of the file")
            })?;
            let path = std::path::absolute(path)
                .context(|| "cannot find the working directory".to_owned())?;
            let path = text(&path)?;
            let start = with(&["run", "--reuse", "--name", name.as_str(), "--spec", &path]);
            let manifest = PodManifest {
                version: version::MANIFEST,
                uuid: PodId::from_random([0; 16]),
                name,
                created: host::now(),
                remove: false,
                sandbox: spec.sandbox,
            };
            (manifest, spec.apps, start, format!("--spec {path}"))
        }
        (None, None) => return Err(CommandError::usage("a pod or `--spec FILE` is missing")),
    };
    let name = manifest.name.as_str();
    let mut unit = service::of(&PodService {
        manifest: &manifest,
        apps: &apps,
        overhead: stage1::find(&manifest.sandbox.stage1)?.overhead,
        start: &start,
        reload: &with(&["kill", "--signal", "HUP", name]),
        reap: &with(&["reap", name]),
    })?;
    service::forget_id(&mut unit);
    let comment = format!(
        "Made by `pod generate systemd {origin}`. As /etc/systemd/system/{unit} it runs the pod;\n\
         `systemctl enable --now {unit}` does so at every boot.",
        unit = unit.name
    );
    ui::out(&unit_file::text(&unit.properties, &comment)).map(|()| 0)
}

/// Returns the name that a file called like a pod gives it.
fn named_after(path: &Path) -> Option<PodName> {
    PodName::parse(path.file_stem()?.to_str()?).ok()
}

/// Returns how this program is called for the roots of this command.
fn command_line(context: &Context) -> Result<Vec<String>> {
    let program = env::current_exe().context(|| "cannot tell which program this is".to_owned())?;
    let mut line = vec![text(&program)?];
    for (flag, path, default) in [
        ("--root", &context.root, layout::ROOT),
        ("--run-root", &context.run_root, layout::RUN_ROOT),
    ] {
        if path != Path::new(default) {
            line.extend([flag.to_owned(), text(path)?]);
        }
    }
    Ok(line)
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        CommandError::usage(format!("`{}` is not valid UTF-8, as a unit file is", path.display()))
    })
}
