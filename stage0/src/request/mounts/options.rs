//! The options behind the last colon of `--volume` and `--tmpfs`, and the fields of `--mount`.

use crate::error::{CommandError, Result};
use crate::request::words::{mode, once, size};

/// Options of a mount; `None` for what was not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) read_only: Option<bool>,
    pub(super) no_exec: Option<bool>,
    pub(super) without_submounts: Option<bool>,
    pub(super) fill: Option<bool>,
    pub(super) size: Option<u64>,
    pub(super) mode: Option<u32>,
}

impl Options {
    /// Reads the options of a volume, cut by commas.
    pub(super) fn of_volume(words: &str) -> Result<Self> {
        let mut options = Self::default();
        for word in split(words) {
            let known = options.take_common(word)?
                || match word {
                    "norec" | "bind" => once(&mut options.without_submounts, true, word)?,
                    "rec" | "rbind" => once(&mut options.without_submounts, false, word)?,
                    "nocopy" => once(&mut options.fill, false, word)?,
                    "copy" => once(&mut options.fill, true, word)?,
                    _ => false,
                };
            if !known {
                return Err(refused(word, "volume", "`ro`, `rw`, `noexec`, `nocopy` or `norec`"));
            }
        }
        Ok(options)
    }

    /// Reads the options of a file system in memory, cut by commas.
    pub(super) fn of_tmpfs(words: &str) -> Result<Self> {
        let mut options = Self::default();
        for word in split(words) {
            let bad = || CommandError::usage(format!("`{word}` has no usable value"));
            let known = options.take_common(word)?
                || match word.split_once('=') {
                    Some(("size", value)) => {
                        once(&mut options.size, size(value).ok_or_else(bad)?, word)?
                    }
                    Some(("mode", value)) => {
                        once(&mut options.mode, mode(value).ok_or_else(bad)?, word)?
                    }
                    _ => false,
                };
            if !known {
                return Err(refused(word, "tmpfs", "`size=`, `mode=`, `ro`, `rw` or `noexec`"));
            }
        }
        Ok(options)
    }

    /// Takes what every mount may have. No mount of an app has devices or set-user-id programs
    /// that count, so saying so changes nothing.
    fn take_common(&mut self, word: &str) -> Result<bool> {
        match word {
            "ro" | "readonly" => once(&mut self.read_only, true, word),
            "rw" => once(&mut self.read_only, false, word),
            "noexec" => once(&mut self.no_exec, true, word),
            "exec" => once(&mut self.no_exec, false, word),
            "nosuid" | "nodev" => Ok(true),
            _ => Ok(false),
        }
    }
}

fn split(words: &str) -> impl Iterator<Item = &str> {
    words.split(',').filter(|word| !word.is_empty())
}

fn refused(word: &str, what: &str, takes: &str) -> CommandError {
    match foreign(word.split('=').next().unwrap_or(word)) {
        Some(why) => CommandError::usage(format!("`{word}` cannot be had: {why}")),
        None => CommandError::usage(format!("`{word}` is no option of a {what}"))
            .hint(format!("it takes {takes}")),
    }
}

/// Tells why what others have cannot be had.
pub(super) fn foreign(word: &str) -> Option<&'static str> {
    match word {
        "z" | "Z" => Some("no SELinux label is set on volumes"),
        "U" | "idmap" => {
            Some("volumes are mounted with the pod's ids in place; nothing is changed")
        }
        "O" | "upperdir" | "workdir" => Some("a volume is no overlay"),
        "shared" | "rshared" | "slave" | "rslave" | "private" | "rprivate" | "bind-propagation" => {
            Some("mounts never spread between a pod and the host")
        }
        "suid" | "dev" => Some("no mount of an app has devices or set-user-id programs that count"),
        "volume-driver" | "volume-opt" | "volume-subpath" => {
            Some("named volumes are directories of this host and nothing else")
        }
        "bind-nonrecursive" => Some("`recursive=false` is the word for it"),
        _ => None,
    }
}

/// Cuts a line of comma-separated fields; a field in double quotes may hold commas, and quotes if
/// doubled. `None` if a quote does not end.
pub(super) fn fields(line: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        let field = fields.last_mut()?;
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => field.push(c),
        }
    }
    (!quoted).then_some(fields)
}
