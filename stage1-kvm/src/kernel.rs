//! The kernel of guests: made ready once from the distribution's, then found again.
//!
//! ```text
//! /var/cache/pod/guest/
//!   lock                   held while one is made ready, by the process it names
//!   choice.json            which kernel an administrator has chosen, if one has
//!   kernel-DIGEST/         SHA-256 of what is in it; made beside it and moved here when it is whole
//!     vmlinux              an ELF file to load
//!     initramfs            a cpio archive
//!     meta.json            what it was made from: each file with its size, its time and its number
//!   new/                   one that is being made
//! ```
//!
//! The place is fixed, whatever `--root` a pod was started with: what lies there depends on the
//! host alone, and can be made again at any time. [`ensure`] looks at the files it was made from
//! rather than into them, so that it costs a start next to nothing. What is there is opened at
//! once, so that it can be removed while it is used.

mod cache;
mod found;
mod recipe;
mod stamp;

use std::env;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use pod_abi::Report;
use supervisor::{During as _, Failure};

use self::cache::Trust;
use crate::errand::{self, Errand};

pub(crate) use found::Source;

/// Where kernels of guests lie.
const CACHE: &str = "/var/cache/pod/guest";
/// Where distributions put kernels.
const BOOT: &str = "/boot";
/// Where distributions put modules, a directory for each release.
const MODULES: &str = "/lib/modules";

/// A kernel that is ready. Nobody writes to its files any more.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Its release.
    pub(crate) release: String,
    /// An ELF file to load.
    pub(crate) vmlinux: File,
    /// A cpio archive.
    pub(crate) initramfs: File,
    /// Where they lie; for people.
    pub(crate) directory: PathBuf,
}

/// Where everything lies; in tests elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) cache: PathBuf,
    pub(crate) boot: PathBuf,
    pub(crate) modules: PathBuf,
    /// The directory of this program, `guest` and `stage2-init`.
    pub(crate) programs: PathBuf,
}

impl Places {
    /// Returns those of this host.
    ///
    /// # Errors
    ///
    /// If this program has no place of its own.
    pub(crate) fn of_host() -> Result<Self, Failure> {
        let program = env::current_exe().during(|| "cannot find out where this program lies")?;
        let programs = program.parent().unwrap_or(Path::new("/")).to_owned();
        Ok(Self { cache: CACHE.into(), boot: BOOT.into(), modules: MODULES.into(), programs })
    }
}

/// Returns the kernel of guests, made ready first if it is not yet, or not as the host is now.
///
/// # Errors
///
/// `vm.no-kernel`, `vm.kernel-unusable`, `vm.kernel-storage`, `vm.kernel-busy`. What was there before is there still.
pub(crate) fn ensure(places: &Places) -> Result<Prepared, Failure> {
    let (source, ready) = look(places)?;
    ready.map_or_else(|| cache::prepare(places, &source, Trust::Name, &|| announce(&source)), Ok)
}

/// Has the kernel of guests made ready by a process, which can be ended at any moment: it ends by
/// `signals`, too.
///
/// # Errors
///
/// Those of [`ensure`], and that of an interruption.
pub(crate) fn have_prepared(
    places: &Places,
    source: &Source,
    signals: Option<BorrowedFd<'_>>,
) -> Result<Prepared, Failure> {
    let what = || format!("kernel `{}` is not made ready", source.kernel.display());
    match errand::run("prepare", None, signals, None)? {
        Errand::Interrupted => return Err(errand::interrupted()),
        Errand::Done(said) if said.is_empty() => {}
        Errand::Done(said) => {
            let report = serde_json::from_slice::<Report>(&said);
            return Err(report.map_or_else(|error| Failure::of(what(), error), Failure::from));
        }
        Errand::Late => {}
    }
    let (_, ready) = look(places)?;
    ready.ok_or_else(|| Failure::new(what()).code("vm.kernel-storage"))
}

/// Makes the kernel of guests ready, and returns nothing or, as JSON, why not: for
/// [`have_prepared`].
///
/// # Errors
///
/// If that cannot be written.
pub(crate) fn prepare_and_tell() -> Result<String, Failure> {
    match Places::of_host().and_then(|places| ensure(&places)) {
        Ok(_) => Ok(String::new()),
        Err(failure) => serde_json::to_string(&failure.report())
            .map_err(|error| Failure::of("cannot write a report", error)),
    }
}

/// Returns the kernel of guests if it is ready.
///
/// # Errors
///
/// `vm.no-kernel`, `vm.kernel-storage`.
pub(crate) fn look(places: &Places) -> Result<(Source, Option<Prepared>), Failure> {
    cache::check(places)?;
    let source = match cache::choice(places)? {
        Some(chosen) => chosen,
        None => found::distribution(places)?,
    };
    let ready = cache::find(places, &source);
    Ok((source, ready))
}

/// Makes a kernel ready, from now on the one of all guests: that of the administrator's choice, or
/// else the distribution's. One that is there and has been damaged is made anew.
///
/// # Errors
///
/// As [`ensure`]; the choice stays what it was.
pub(crate) fn set_up(places: &Places, chosen: Option<&Source>) -> Result<Prepared, Failure> {
    let source = match chosen {
        Some(chosen) => chosen.clone(),
        None => found::distribution(places)?,
    };
    cache::check(places)?;
    let ready = cache::prepare(places, &source, Trust::Content, &|| announce(&source))?;
    cache::choose(places, chosen)?;
    Ok(ready)
}

/// Tells somebody who waits what for.
fn announce(source: &Source) {
    say(&format!("preparing kernel `{}` for guests, once", source.kernel.display()));
}

/// Tells somebody who waits something.
fn say(what: &str) {
    let mut terminal = io::stderr();
    if terminal.is_terminal() {
        // Nobody is there any more; the work is done nevertheless.
        let _ = writeln!(terminal, "{what}");
    }
}

#[cfg(test)]
mod tests;
