//! OCI bundles: one app and what surrounds it as the `config.json` of the OCI runtime-spec, and
//! back.
//!
//! ```text
//!   Surrounded ──write()──▶ oci_spec Spec ──json()──▶ config.json
//!       ▲                       │
//!       └────────read()─────────┘        read(write(x)) == x
//! ```
//!
//! Pure; the only place where OCI's runtime documents and our types meet. OCI's words are used
//! wherever it has one, and they count: what it has no word for - restart, readiness, the image -
//! goes into annotations `org.pod.*` ([`unspoken`]). A bundle that asks for what no app of ours can
//! be is refused by name; properties this version of the specification does not know are passed
//! over, as it demands.

mod linux;
mod mounts;
mod process;
mod resources;
mod seccomp;
mod unspoken;

use std::collections::{BTreeMap, BTreeSet};

use oci_spec::OciSpecError;
use oci_spec::runtime::{Root, Spec};
use pod_abi::app::{AppSpec, ImagePin};
use pod_abi::manifest::{Ipc, Network};
use pod_abi::stage::IdRange;
use pod_abi::volume::Volume;
use pod_abi::{AppName, PodPath};
use serde_json::Value;

use unspoken::Unspoken;

/// The version of the runtime-spec whose words are used: what Debian 12's runtimes know.
const OCI_VERSION: &str = "1.0.2";

/// Where the root file system of a bundle lies, beneath the bundle.
pub(crate) const ROOTFS: &str = "rootfs";

/// One app and what of its pod surrounds it: all that a bundle can say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Surrounded {
    /// The app.
    pub(crate) app: AppSpec,
    /// The hostname.
    pub(crate) hostname: String,
    /// The user ids it has for itself, on the host; `None` in the host's user namespace.
    pub(crate) ids: Option<IdRange>,
    /// What network it has.
    pub(crate) network: Network,
    /// Whose IPC it sees.
    pub(crate) ipc: Ipc,
    /// Kernel settings of its namespaces.
    pub(crate) sysctls: BTreeMap<String, String>,
    /// The pod's volumes that it mounts.
    pub(crate) volumes: Vec<Volume>,
    /// What its devices are, by where it finds them.
    pub(crate) nodes: BTreeMap<PodPath, Node>,
}

/// What a device node stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Whether it is a block device, not a character device.
    pub(crate) block: bool,
    /// Its driver.
    pub(crate) major: u32,
    /// Which of the driver's.
    pub(crate) minor: u32,
}

/// What a bundle that was not written by us does not say.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// What the app is to be called.
    pub(crate) name: AppName,
    /// What its root file system is.
    pub(crate) image: ImagePin,
}

/// Why a bundle cannot be written, or be an app of ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    /// No app of ours can be that.
    #[error("`{property}` of the bundle {problem}")]
    Unsupported {
        /// Where in `config.json`.
        property: String,
        /// The rest of a sentence.
        problem: String,
    },
    /// The document breaks the specification's own rules.
    #[error("the bundle is none")]
    Malformed(#[from] OciSpecError),
    /// The app says what a bundle cannot say.
    #[error("app `{app}` {problem}")]
    Unwritable {
        /// Whose.
        app: AppName,
        /// The rest of a sentence.
        problem: String,
    },
}

/// The result of everything here.
type Result<T> = std::result::Result<T, BundleError>;

fn unsupported(property: impl Into<String>, problem: impl Into<String>) -> BundleError {
    BundleError::Unsupported { property: property.into(), problem: problem.into() }
}

/// Refuses what no app of ours has a word for.
fn absent<T>(value: &Option<T>, property: &str) -> Result<()> {
    match value {
        None => Ok(()),
        Some(_) => Err(unsupported(property, "is set, and an app of ours has no such thing")),
    }
}

/// Writes an app down as OCI has it.
///
/// # Errors
///
/// [`BundleError::Unwritable`] if it says something that would not be read back.
pub(crate) fn write(what: &Surrounded) -> Result<Spec> {
    let mut root = Root::default();
    root.set_path(ROOTFS.into()).set_readonly(Some(what.app.read_only_root));
    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.to_owned())
        .set_root(Some(root))
        .set_hostname(Some(what.hostname.clone()))
        .set_domainname(None)
        .set_process(Some(process::write(&what.app)?))
        .set_mounts(Some(mounts::write(what)?))
        .set_linux(Some(linux::write(what)?))
        .set_annotations(Some(Unspoken::of(what).annotations(&what.app)?));
    Ok(spec)
}

/// Reads an app from a bundle. What the bundle does not say is `origin`'s, or what an app of ours
/// is by default.
///
/// # Errors
///
/// [`BundleError::Unsupported`] for everything that is asked for and cannot be had.
pub(crate) fn read(spec: &Spec, origin: &Origin) -> Result<Surrounded> {
    if !spec.version().starts_with("1.") {
        return Err(unsupported("ociVersion", format!("is `{}`, not 1.x", spec.version())));
    }
    absent(spec.domainname(), "domainname")?;
    absent(spec.hooks(), "hooks")?;
    absent(spec.solaris(), "solaris")?;
    absent(spec.windows(), "windows")?;
    absent(spec.vm(), "vm")?;
    absent(spec.zos(), "zos")?;
    let root = spec.root().as_ref().ok_or_else(|| unsupported("root", "is missing"))?;
    let process = spec.process().as_ref().ok_or_else(|| unsupported("process", "is missing"))?;
    let linux = spec.linux().as_ref().ok_or_else(|| unsupported("linux", "is missing"))?;
    let none = std::collections::HashMap::new();
    let (unspoken, annotations) =
        Unspoken::read(spec.annotations().as_ref().unwrap_or(&none), origin)?;
    let app = AppSpec {
        read_only_root: root.readonly().unwrap_or(false),
        annotations,
        stdio: unspoken.stdio(process.terminal().unwrap_or(false))?,
        ..unspoken.app(process::read(process)?)
    };
    let hostname = spec.hostname().clone().unwrap_or_default();
    let mut what = Surrounded {
        app,
        hostname,
        ids: None,
        network: Network::default(),
        ipc: Ipc::default(),
        sysctls: BTreeMap::new(),
        volumes: unspoken.volumes.clone(),
        nodes: BTreeMap::new(),
    };
    linux::read(linux, &unspoken, &mut what)?;
    mounts::read(spec.mounts().as_deref().unwrap_or_default(), &unspoken, &mut what)?;
    Ok(what)
}

/// Returns the document, the same bytes for the same app.
///
/// # Errors
///
/// [`BundleError::Malformed`] if the specification's types cannot be written, which they can.
pub(crate) fn json(spec: &Spec) -> Result<Value> {
    let mut value = serde_json::to_value(spec).map_err(OciSpecError::SerDe)?;
    // Sets have no order of their own in these types.
    if let Some(Value::Object(sets)) = value.pointer_mut("/process/capabilities") {
        for set in sets.values_mut().filter_map(Value::as_array_mut) {
            let sorted: BTreeSet<String> =
                set.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            *set = sorted.into_iter().map(Value::String).collect();
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests;
