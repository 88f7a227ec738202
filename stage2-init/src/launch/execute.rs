//! The last step: `execve`, and, should it fail, naming the program that is to blame.

use std::io;

use nix::errno::Errno;
use nix::unistd::execve;

use super::diagnosis::{self, path, shown};
use super::failure::{Failure, Phase};
use super::prepared::Prepared;

/// Becomes the app's program; returns only if no candidate can be executed.
///
/// A candidate that is missing or may not be executed gives way to the next, and the first that
/// was denied is blamed in the end; any other trouble ends the search, as in `execvp(3)`.
pub(super) fn execute(what: &Prepared<'_>) -> Failure {
    let mut denied = None;
    for candidate in &what.candidates {
        let Err(errno) = execve(candidate, &what.arguments, &what.environment);
        match errno {
            Errno::ENOENT | Errno::ENOTDIR if path(candidate).symlink_metadata().is_err() => {}
            Errno::EACCES => {
                denied.get_or_insert(candidate);
            }
            _ => return diagnosis::of(candidate, errno),
        }
    }
    match denied {
        Some(candidate) => diagnosis::of(candidate, Errno::EACCES),
        None => not_found(what),
    }
}

/// Says where a program was looked for in vain.
fn not_found(what: &Prepared<'_>) -> Failure {
    let error = io::Error::from(Errno::ENOENT);
    let name = shown(what.program);
    let object = if what.program.starts_with('/') {
        format!("`{name}`")
    } else if what.program.contains('/') {
        format!("`{name}` beneath `{}`", what.cwd)
    } else {
        format!("`{name}` in `PATH` (`{}`)", shown(what.path))
    };
    Failure::new(Phase::NotFound, &error, object)
}
