//! `--volume`, `--mount` and `--tmpfs`: what an app is to mount.
//!
//! Three grammars, one meaning. What cannot be had - labels, propagation, drivers - is refused
//! with its reason rather than passed over.

mod options;

use pod_abi::{PodPath, VolumeName};

use super::words::{mode, one_of, path, size};
use crate::error::{CommandError, Result};
use options::Options;

/// Something an app is to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountRequest {
    pub(crate) source: MountFrom,
    pub(crate) destination: PodPath,
    pub(crate) read_only: bool,
    pub(crate) no_exec: bool,
}

/// What an app is to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MountFrom {
    /// A path of the host.
    Host {
        /// Absolute.
        path: String,
        /// Whether mounts beneath it are left out.
        without_submounts: bool,
    },
    /// A volume that outlives pods.
    Named {
        /// Its name in the store.
        name: VolumeName,
        /// Whether the image's content is copied to it while it is empty.
        fill: bool,
    },
    /// A volume of this pod and this mount alone, with the image's content.
    Anonymous {
        /// Whether the image's content is copied to it.
        fill: bool,
    },
    /// An empty directory of this pod.
    Empty {
        /// By this name, apps share it.
        name: Option<VolumeName>,
        /// Its permission bits.
        mode: u32,
        /// User and group it belongs to.
        owner: (u32, u32),
    },
    /// A file system in memory.
    Tmpfs {
        /// By this name, apps share it.
        name: Option<VolumeName>,
        /// The most bytes it holds.
        size: Option<u64>,
        /// Its permission bits.
        mode: u32,
    },
}

/// The permission bits of a tmpfs, if nothing else is said: everybody's, as `/tmp` is.
const TMPFS_MODE: u32 = 0o1777;
/// The permission bits of an empty volume, if nothing else is said.
const EMPTY_MODE: u32 = 0o755;

/// Reads `[SRC:]DST[:OPTIONS]`.
///
/// # Errors
///
/// A usage error that names the word.
pub(super) fn read_volume(word: &str) -> Result<MountRequest> {
    let refused = || {
        CommandError::usage(format!("`{word}` is no volume: it takes [SRC:]DST[:OPTIONS]")).hint(
            "SRC is an absolute path of this host, or the name of a volume; `--mount` takes paths \
             with colons",
        )
    };
    let parts: Vec<&str> = word.split(':').collect();
    let (source, destination, options) = match parts[..] {
        [destination] => (None, destination, ""),
        [source, destination] => (Some(source), destination, ""),
        [source, destination, options] => (Some(source), destination, options),
        _ => return Err(refused()),
    };
    if !destination.starts_with('/') {
        return Err(refused());
    }
    let options = Options::of_volume(options)?;
    let fill = options.fill.unwrap_or(true);
    let from_host = source.is_some_and(|source| source.starts_with('/'));
    if let (true, Some(fill)) = (from_host, options.fill) {
        let word = if fill { "copy" } else { "nocopy" };
        return Err(CommandError::usage(format!(
            "`{word}` is about what a new volume holds, and `{}` is a path of this host",
            source.unwrap_or_default()
        )));
    }
    if !from_host && options.without_submounts.is_some() {
        return Err(CommandError::usage(format!(
            "`{word}` has no mounts beneath it: `rec` and `norec` are for paths of this host"
        )));
    }
    let source = match source {
        None => MountFrom::Anonymous { fill },
        Some(path) if from_host => MountFrom::Host {
            path: path.to_owned(),
            without_submounts: options.without_submounts.unwrap_or(false),
        },
        Some(name) => {
            MountFrom::Named { name: VolumeName::parse(name).map_err(|_| refused())?, fill }
        }
    };
    Ok(MountRequest {
        source,
        destination: path(destination)?,
        read_only: options.read_only.unwrap_or(false),
        no_exec: options.no_exec.unwrap_or(false),
    })
}

/// Reads `DST[:OPTIONS]`.
///
/// # Errors
///
/// A usage error that names the word.
pub(super) fn read_tmpfs(word: &str) -> Result<MountRequest> {
    let (destination, options) = word.split_once(':').unwrap_or((word, ""));
    let options = Options::of_tmpfs(options)?;
    Ok(MountRequest {
        source: MountFrom::Tmpfs {
            name: None,
            size: options.size,
            mode: options.mode.unwrap_or(TMPFS_MODE),
        },
        destination: path(destination)?,
        read_only: options.read_only.unwrap_or(false),
        no_exec: options.no_exec.unwrap_or(false),
    })
}

/// The kinds of mount that `--mount` makes.
const BIND: &str = "bind";
const VOLUME: &str = "volume";
const EMPTY: &str = "empty";
const TMPFS: &str = "tmpfs";
const KINDS: [&str; 4] = [BIND, VOLUME, EMPTY, TMPFS];

/// The keys of `--mount`: what else each is called, and the kinds it is for.
const KEYS: [(&str, &[&str], &[&str]); 12] = [
    ("type", &[], &KINDS),
    ("src", &["source"], &KINDS),
    ("dst", &["destination", "target"], &KINDS),
    ("ro", &["readonly"], &KINDS),
    ("rw", &[], &KINDS),
    ("noexec", &[], &KINDS),
    ("recursive", &["bind-recursive"], &[BIND]),
    ("volume-nocopy", &["nocopy"], &[VOLUME]),
    ("size", &["tmpfs-size"], &[TMPFS]),
    ("mode", &["tmpfs-mode"], &[TMPFS, EMPTY]),
    ("uid", &[], &[EMPTY]),
    ("gid", &[], &[EMPTY]),
];

/// Reads `KEY=VALUE,…`.
///
/// # Errors
///
/// A usage error that names the word.
pub(super) fn read_mount(word: &str) -> Result<MountRequest> {
    let fields = options::fields(word)
        .ok_or_else(|| CommandError::usage(format!("`{word}` has a quote that does not end")))?;
    let mut keys = Keys { word, given: Vec::new() };
    for field in &fields {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        keys.take(key, value)?;
    }
    let kind = keys.text("type")?.unwrap_or(VOLUME);
    if !KINDS.contains(&kind) {
        return Err(keys.refused(&format!("`{kind}` is no kind: it takes {}", one_of(&KINDS))));
    }
    keys.check_kind(kind)?;
    let destination = keys.text("dst")?.ok_or_else(|| keys.refused("`dst` is missing"))?;
    let (read_only, read_write) = (keys.flag("ro")?, keys.flag("rw")?);
    if read_only.is_some() && read_only == read_write {
        return Err(keys.refused("`ro` and `rw` contradict each other"));
    }
    Ok(MountRequest {
        destination: path(destination)?,
        read_only: read_only.or(read_write.map(|writable| !writable)).unwrap_or(false),
        no_exec: keys.flag("noexec")?.unwrap_or(false),
        source: keys.source(kind)?,
    })
}

/// What stands in one `--mount`.
struct Keys<'w> {
    word: &'w str,
    given: Vec<(&'static str, Option<&'w str>)>,
}

impl<'w> Keys<'w> {
    fn refused(&self, why: &str) -> CommandError {
        CommandError::usage(format!("`{}` is no mount: {why}", self.word))
    }

    fn take(&mut self, key: &str, value: Option<&'w str>) -> Result<()> {
        let known = KEYS.iter().find(|(name, others, _)| *name == key || others.contains(&key));
        let Some((name, ..)) = known else {
            if let Some(why) = options::foreign(key) {
                return Err(self.refused(&format!("`{key}` cannot be had: {why}")));
            }
            let names: Vec<&str> = KEYS.iter().map(|(name, ..)| *name).collect();
            return Err(self
                .refused(&format!("`{key}` is no key of it"))
                .hint(format!("`--mount` takes {}", one_of(&names))));
        };
        if self.given.iter().any(|(earlier, _)| earlier == name) {
            return Err(self.refused(&format!("`{key}` is given twice")));
        }
        self.given.push((name, value));
        Ok(())
    }

    fn check_kind(&self, kind: &str) -> Result<()> {
        for (name, _) in &self.given {
            let of = KEYS.iter().find(|(known, ..)| known == name).map(|(.., kinds)| *kinds);
            if let Some(of) = of.filter(|kinds| !kinds.contains(&kind)) {
                return Err(self.refused(&format!("`{name}` is for type {}", one_of(of))));
            }
        }
        Ok(())
    }

    fn get(&self, key: &str) -> Option<Option<&'w str>> {
        self.given.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
    }

    fn text(&self, key: &str) -> Result<Option<&'w str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Some(value)) if !value.is_empty() => Ok(Some(value)),
            Some(_) => Err(self.refused(&format!("`{key}` takes a value"))),
        }
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(None) => Ok(Some(true)),
            Some(Some(value)) => super::words::boolean(value)
                .map(Some)
                .ok_or_else(|| self.refused(&format!("`{key}` is true or false"))),
        }
    }

    fn parsed<T>(&self, key: &str, read: fn(&str) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.text(key)? else { return Ok(None) };
        let parsed = read(value);
        parsed.map(Some).ok_or_else(|| self.refused(&format!("`{value}` is no `{key}`")))
    }

    fn name(&self) -> Result<Option<VolumeName>> {
        let name = self.text("src")?.map(VolumeName::parse).transpose();
        name.map_err(|error| CommandError::usage(error.to_string()))
    }

    fn source(&self, kind: &str) -> Result<MountFrom> {
        let id = |word: &str| super::words::number(word).and_then(|id| u32::try_from(id).ok());
        match kind {
            BIND => {
                let path = self.text("src")?.ok_or_else(|| self.refused("`src` is missing"))?;
                if !path.starts_with('/') {
                    return Err(self.refused("`src` is an absolute path of this host"));
                }
                let recursive = self.flag("recursive")?.unwrap_or(true);
                Ok(MountFrom::Host { path: path.to_owned(), without_submounts: !recursive })
            }
            VOLUME => {
                let fill = !self.flag("volume-nocopy")?.unwrap_or(false);
                Ok(match self.name()? {
                    Some(name) => MountFrom::Named { name, fill },
                    None => MountFrom::Anonymous { fill },
                })
            }
            EMPTY => Ok(MountFrom::Empty {
                name: self.name()?,
                mode: self.parsed("mode", mode)?.unwrap_or(EMPTY_MODE),
                owner: (self.parsed("uid", id)?.unwrap_or(0), self.parsed("gid", id)?.unwrap_or(0)),
            }),
            _ => Ok(MountFrom::Tmpfs {
                name: self.name()?,
                size: self.parsed("size", size)?,
                mode: self.parsed("mode", mode)?.unwrap_or(TMPFS_MODE),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
