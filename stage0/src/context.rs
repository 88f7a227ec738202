//! Where this command works: the two roots, and how it speaks.

use std::env;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum as _;
use pod_abi::layout;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, open};
use rustix::io::Errno;

use crate::error::{CommandError, Context as _, Result};
use crate::flags::Globals;
use crate::service_manager::ServiceManager;
use crate::sockets::Sockets;
use crate::ui::Format;

/// The variable in place of `--manager`.
const MANAGER: &str = "POD_MANAGER";

/// The surroundings of a command.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The directory of pods and images, absolute.
    pub(crate) root: PathBuf,
    /// The volatile directory, absolute.
    pub(crate) run_root: PathBuf,
    /// Who looks after pods.
    pub(crate) manager: ServiceManager,
    /// How results and errors are shown.
    pub(crate) format: Format,
    /// What a service manager has handed to this process.
    pub(crate) sockets: Arc<Sockets>,
}

impl Context {
    /// Settles flags, environment and defaults, in this order.
    ///
    /// # Errors
    ///
    /// If a path is relative and the working directory is gone.
    pub(crate) fn new(globals: &Globals) -> Result<Self> {
        let settle = |flag: &Option<PathBuf>, variable: &str, default: &str| {
            let named = flag.clone().or_else(|| {
                env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
            });
            std::path::absolute(named.unwrap_or_else(|| default.into()))
                .context(|| "cannot find the working directory".to_owned())
        };
        Ok(Self {
            root: settle(&globals.root, "POD_ROOT", layout::ROOT)?,
            run_root: settle(&globals.run_root, "POD_RUN_ROOT", layout::RUN_ROOT)?,
            manager: manager(globals)?,
            format: globals.format(),
            sockets: Arc::default(),
        })
    }

    /// Adopts the sockets of this process, which is to run a pod. To be called first thing.
    ///
    /// # Errors
    ///
    /// Those of [`Sockets::adopt`].
    pub(crate) fn with_sockets(self) -> Result<Self> {
        Ok(Self { sockets: Arc::new(Sockets::adopt()?), ..self })
    }

    /// Opens the root, making it if it is missing.
    ///
    /// # Errors
    ///
    /// `storage`, naming the path.
    pub(crate) fn open_root(&self) -> Result<OwnedFd> {
        open_or_make(&self.root)
    }

    /// Opens the run root, making it if it is missing.
    ///
    /// # Errors
    ///
    /// `storage`, naming the path.
    pub(crate) fn open_run_root(&self) -> Result<OwnedFd> {
        open_or_make(&self.run_root)
    }
}

/// Settles who looks after pods, by flag or variable.
fn manager(globals: &Globals) -> Result<ServiceManager> {
    let said = env::var(MANAGER).unwrap_or_default();
    match globals.manager {
        Some(manager) => Ok(manager),
        None if said.is_empty() => Ok(ServiceManager::Auto),
        None => ServiceManager::from_str(&said, false).map_err(|_| {
            CommandError::usage(format!("`${MANAGER}` is `{said}`, which nobody is called"))
                .hint("it takes `auto`, `systemd` or `none`")
        }),
    }
}

/// Refuses whoever is not root, once and clearly.
///
/// # Errors
///
/// `not-root`.
pub(crate) fn require_root(verb: &str) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(CommandError::new("not-root", format!("`pod {verb}` must be run by root"))
        .hint(format!("`sudo pod {verb} …`")))
}

fn open_or_make(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match open(path, flags, Mode::empty()) {
        Err(Errno::NOENT) => {}
        other => return other.context(|| format!("cannot open directory `{}`", path.display())),
    }
    let mut made = PathBuf::new();
    for part in path.components() {
        made.push(part);
        match mkdirat(CWD, &made, Mode::from_raw_mode(if made == path { 0o700 } else { 0o755 })) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => {
                return Err(error)
                    .context(|| format!("cannot make directory `{}`", made.display()));
            }
        }
    }
    open(path, flags, Mode::empty())
        .context(|| format!("cannot open directory `{}`", path.display()))
}
