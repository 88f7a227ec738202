//! A pod as a document of its own: what `pod run --dry-run` prints and `--spec` takes, and what
//! `/etc/pods/NAME.json` holds of a pod that belongs to the host.
//!
//! A document describes a pod if running it would make that pod again. Who vouched for its images
//! is left out of the comparison, for that is said by the store each time.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use pod_abi::PodName;
use pod_abi::app::{AppSpec, Verified};
use pod_abi::manifest::{PodManifest, PodSpec};
use pod_abi::version;

use crate::compose::tell_hostname;
use crate::error::{CommandError, Context as _, Result};
use crate::pods::Pod;

/// Where the pods of this host are described; `pod@.service` runs them.
const OF_HOST: &str = "/etc/pods";
/// The longest document read, in bytes.
const MAX_SPEC: u64 = 16 << 20;

/// Returns the file that describes the host's pod `name`.
pub(crate) fn of_host(name: &PodName) -> PathBuf {
    Path::new(OF_HOST).join(format!("{name}.json"))
}

/// Reads a document from a file, or from standard input for `-`.
///
/// # Errors
///
/// `storage`, or `pod.invalid`.
pub(crate) fn read(path: &Path) -> Result<PodSpec> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(MAX_SPEC).read_to_string(&mut text)
    } else {
        File::open(path).and_then(|file| file.take(MAX_SPEC).read_to_string(&mut text))
    };
    read.context(|| format!("cannot read `{}`", path.display()))?;
    let invalid = |error: &dyn Error| {
        CommandError::new(
            "pod.invalid",
            format!("`{}` is no specification of a pod", path.display()),
        )
        .because(error)
        .hint("`pod run --dry-run IMAGE` prints one")
    };
    let spec: PodSpec = serde_json::from_str(&text).map_err(|error| invalid(&error))?;
    spec.check().map_err(|error| invalid(&error))?;
    if spec.sandbox.stage1.contains('/') && !spec.sandbox.stage1.starts_with('/') {
        return Err(CommandError::new(
            "pod.invalid",
            "`sandbox.stage1` is no name and no absolute path",
        ));
    }
    Ok(spec)
}

/// Returns what makes a pod like this one, as it is now.
///
/// # Errors
///
/// `pod.corrupt`.
pub(crate) fn of(pod: &Pod) -> Result<PodSpec> {
    let manifest = pod.manifest()?;
    let apps = pod.apps(&manifest)?;
    Ok(made_of(manifest, apps))
}

fn made_of(manifest: PodManifest, apps: Vec<AppSpec>) -> PodSpec {
    let mut sandbox = manifest.sandbox;
    // Apps may have been added and removed since the manifest was written.
    sandbox.apps = apps.iter().map(|app| app.name.clone()).collect();
    PodSpec { version: version::MANIFEST, name: Some(manifest.name), sandbox, apps }
}

/// Tells whether `spec` describes `pod`: as it is now, or as it was made.
///
/// # Errors
///
/// `pod.corrupt`.
pub(crate) fn describes(spec: &PodSpec, pod: &Pod) -> Result<bool> {
    let now = of(pod)?;
    let name = now.name.clone();
    let spec = comparable(spec.clone(), name.as_ref());
    if comparable(now, name.as_ref()) == spec {
        return Ok(true);
    }
    let original = pod.original()?.map(|(manifest, apps)| made_of(manifest, apps));
    Ok(original.is_some_and(|original| comparable(original, name.as_ref()) == spec))
}

fn comparable(mut spec: PodSpec, name: Option<&PodName>) -> PodSpec {
    spec.name = name.cloned();
    if let Some(name) = name {
        tell_hostname(&mut spec.apps, name, &spec.sandbox);
    }
    spec.version = version::MANIFEST;
    for app in &mut spec.apps {
        app.version = version::MANIFEST;
        app.image.verified = Verified::Digest;
    }
    spec
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn spec() -> PodSpec {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/pod-abi/golden/spec.3.json");
        serde_json::from_str(&fs::read_to_string(golden).unwrap()).unwrap()
    }

    #[test]
    fn what_vouched_for_an_image_and_the_name_it_gets_make_no_other_pod() {
        let name = PodName::parse("web").unwrap();
        let mut other = spec();
        other.name = None;
        other.apps[0].image.verified = Verified::LocalFile;
        assert_eq!(comparable(spec(), Some(&name)), comparable(other, Some(&name)));
        let mut other = spec();
        other.apps[0].process.args.push("-v".to_owned());
        assert_ne!(comparable(spec(), Some(&name)), comparable(other, Some(&name)));
    }
}
