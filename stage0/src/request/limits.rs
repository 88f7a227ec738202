//! What an app's processes may use at most, each for itself, as typed (`setrlimit(2)`); and what all
//! of them may use together, which [`super::resources`] reads.

use pod_abi::app::LogOptions;
use pod_abi::isolators::{Resources, Rlimit, RlimitKind};

use super::resources::read_resources;
use super::words::{number, one_of, size};
use crate::caller::Caller;
use crate::error::{CommandError, Result};
use crate::flags::LimitFlags;

/// What `--ulimit` calls each limit.
const ULIMITS: [(&str, RlimitKind); 16] = [
    ("as", RlimitKind::As),
    ("core", RlimitKind::Core),
    ("cpu", RlimitKind::Cpu),
    ("data", RlimitKind::Data),
    ("fsize", RlimitKind::Fsize),
    ("locks", RlimitKind::Locks),
    ("memlock", RlimitKind::Memlock),
    ("msgqueue", RlimitKind::Msgqueue),
    ("nice", RlimitKind::Nice),
    ("nofile", RlimitKind::Nofile),
    ("nproc", RlimitKind::Nproc),
    ("rss", RlimitKind::Rss),
    ("rtprio", RlimitKind::Rtprio),
    ("rttime", RlimitKind::Rttime),
    ("sigpending", RlimitKind::Sigpending),
    ("stack", RlimitKind::Stack),
];

/// Limits, as asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) resources: Resources,
    pub(crate) rlimits: Vec<Rlimit>,
    pub(crate) oom_score_adj: Option<i16>,
}

/// Reads the limits of an app.
///
/// # Errors
///
/// A usage error that names the word.
pub(super) fn read_limits(flags: &LimitFlags, caller: &Caller<'_>) -> Result<Limits> {
    let resources = read_resources(&flags.resources.0, caller)?.beside(&Resources::default())?;
    Ok(Limits {
        resources: resources.settled(),
        rlimits: read_ulimits(&flags.ulimit)?,
        oom_score_adj: flags.oom_score_adj.as_deref().map(read_oom_score_adj).transpose()?,
    })
}

/// Reads limits of resources; the last of a resource counts.
fn read_ulimits(words: &[String]) -> Result<Vec<Rlimit>> {
    let mut rlimits: Vec<Rlimit> = Vec::new();
    for word in words {
        let limit = read_ulimit(word)?;
        rlimits.retain(|earlier| earlier.kind != limit.kind);
        rlimits.push(limit);
    }
    Ok(rlimits)
}

/// Reads `NAME=SOFT[:HARD]`; `-1` and `unlimited` are no limit.
fn read_ulimit(word: &str) -> Result<Rlimit> {
    let refused = || {
        CommandError::usage(format!("`{word}` is no limit: it takes NAME=SOFT[:HARD]"))
            .hint("each is a number or `unlimited`, the first no larger than the second")
    };
    let (name, limits) = word.split_once('=').ok_or_else(refused)?;
    let Some((_, kind)) = ULIMITS.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = ULIMITS.iter().map(|(known, _)| *known).collect();
        return Err(CommandError::usage(format!("`{name}` is no resource that can be limited"))
            .hint(format!("`--ulimit` takes {}", one_of(&known))));
    };
    let limit = |word: &str| match word {
        "-1" | "unlimited" => Some(u64::MAX),
        _ => number(word),
    };
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    match (limit(soft), limit(hard)) {
        (Some(soft), Some(hard)) if soft <= hard => Ok(Rlimit { kind: *kind, soft, hard }),
        _ => Err(refused()),
    }
}

fn read_oom_score_adj(word: &str) -> Result<i16> {
    let number = word.parse::<i16>().ok().filter(|number| (-1000..=1000).contains(number));
    number.ok_or_else(|| {
        CommandError::usage(format!("`{word}` is no score: it takes a number from -1000 to 1000"))
    })
}

/// Reads `BYTES[:FILES]`.
///
/// # Errors
///
/// A usage error that names the word.
pub(super) fn read_log_size(word: &str) -> Result<LogOptions> {
    let default = LogOptions::default();
    let (bytes, files) = match word.split_once(':') {
        None => (size(word), Some(default.files)),
        Some((bytes, files)) => {
            (size(bytes), number(files).and_then(|files| u32::try_from(files).ok()))
        }
    };
    match (bytes, files) {
        (Some(max_bytes), Some(files)) if (LogOptions { max_bytes, files }).is_sound() => {
            Ok(LogOptions { max_bytes, files })
        }
        _ => Err(CommandError::usage(format!("`{word}` is no size of a log"))
            .hint("it takes the bytes of one file, 4k or more, and how many are kept: `16m:2`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_resources_are_soft_and_hard() {
        let table = [
            ("nofile=1024:2048", Some((1024, 2048))),
            ("nproc=5", Some((5, 5))),
            ("core=0:unlimited", Some((0, u64::MAX))),
            ("memlock=-1:-1", Some((u64::MAX, u64::MAX))),
            ("nofile=2:1", None),
            ("nofile", None),
            ("nofile=", None),
            ("nofile=-1:5", None),
            ("nofile=-2", None),
            ("files=1", None),
        ];
        for (word, expected) in table {
            let limits = read_ulimit(word).ok().map(|limit| (limit.soft, limit.hard));
            assert_eq!(limits, expected, "{word}");
        }
    }

    #[test]
    fn the_last_limit_of_a_resource_counts() {
        let words = ["nofile=1", "core=0", "nofile=2"].map(str::to_owned);
        let rlimits = read_ulimits(&words).unwrap();
        assert_eq!(rlimits.len(), 2);
        assert_eq!((rlimits[1].kind, rlimits[1].soft), (RlimitKind::Nofile, 2));
    }

    #[test]
    fn logs_have_a_size_and_a_number_of_files() {
        let table = [
            ("1m", Some((1 << 20, 2))),
            ("4k:1", Some((4096, 1))),
            ("1k", None),
            ("1m:0", None),
            ("1m:101", None),
            ("1m:", None),
            (":2", None),
        ];
        for (word, expected) in table {
            let log = read_log_size(word).ok().map(|log| (log.max_bytes, log.files));
            assert_eq!(log, expected, "{word}");
        }
    }
}
