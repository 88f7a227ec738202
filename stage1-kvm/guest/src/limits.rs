//! How many files this process may have open, and how many an app may.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use supervisor::{During, Failure};

/// What a process is given where nobody says otherwise: systemd's figures, which apps of a pod in
/// namespaces have. A larger soft limit breaks programs that use `select(2)`.
const OF_AN_APP: Rlimit = Rlimit { current: Some(1024), maximum: Some(524_288) };

/// What this process needs: three for each of [`crate::streams::MAX_STREAMS`], and some.
const OURS: u64 = 8192;

/// Does something in which a process is born that passes its limits on to apps.
pub(crate) fn as_an_app_has_them<T>(
    bear: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    set(OF_AN_APP)?;
    let born = bear();
    raise()?;
    born
}

/// Lets this process have as many open files as it needs.
pub(crate) fn raise() -> Result<(), Failure> {
    set(Rlimit { current: Some(OURS), ..OF_AN_APP })
}

/// Sets the limits, or as much of them as this process may.
fn set(limit: Rlimit) -> Result<(), Failure> {
    setrlimit(Resource::Nofile, limit)
        .or_else(|_| {
            let there = getrlimit(Resource::Nofile).maximum;
            setrlimit(Resource::Nofile, Rlimit { maximum: there, ..limit })
        })
        .during(|| "cannot set how many files may be open, setrlimit()")
}
