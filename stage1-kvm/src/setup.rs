//! `stage1-kvm setup`: makes the kernel of guests ready, before the first of them needs it.
//!
//! It prints where it lies; what was found, to a terminal. Without options the kernel is the
//! distribution's, and a newer one is taken by itself when it comes; one that was chosen here stays
//! until another is chosen, or none.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{self, Path, PathBuf};
use std::process::ExitCode;

use supervisor::{During as _, Failure};

use crate::kernel::{self, Places, Source};

/// How it is called.
const USAGE: &str = "usage: stage1-kvm setup [--kernel FILE --modules DIRECTORY]";

/// The code of the failure that it was called otherwise.
pub(crate) const USAGE_CODE: &str = "usage";

/// Does it.
///
/// # Errors
///
/// Those of [`kernel::set_up`]; and if it was called otherwise.
pub(crate) fn setup(arguments: &[OsString]) -> Result<ExitCode, Failure> {
    let chosen = match arguments {
        [] => None,
        [kernel, file, modules, directory] if kernel == "--kernel" && modules == "--modules" => {
            Some(Source { kernel: real(file.as_ref())?, modules: real(directory.as_ref())? })
        }
        _ => return Err(Failure::new(USAGE).code(USAGE_CODE)),
    };
    let ready = kernel::set_up(&Places::of_host()?, chosen.as_ref())?;
    writeln!(io::stdout(), "{}", ready.directory.display())
        .during(|| "cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the path by which a file can be found again from anywhere.
fn real(path: &Path) -> Result<PathBuf, Failure> {
    let found = path.metadata().and_then(|_| path::absolute(path));
    found
        .during(|| format!("cannot find `{}`", path.display()))
        .map_err(|failure| failure.code("vm.no-kernel"))
}
