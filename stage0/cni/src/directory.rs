//! Where configurations lie: `/etc/cni/net.d`, whose first file is the default network.
//!
//! ```text
//! net.d/
//!   10-web.conflist     name "web", a list of plugins
//!   20-lo.conf          a single plugin; `.json` may be either
//!   web/                further plugins of "web", unless it says `loadOnlyInlinedPlugins`
//!     50-more.conf
//! ```
//!
//! The administrator's own; it is read, never written. Files are read in the order of their names,
//! hidden ones are not: editors leave those.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::config::{self, MAX_CONFIGURATION, Network};
use crate::error::{Error, ErrorKind};
use crate::json::Object;
use crate::name::NetworkName;

/// Where configurations are looked for if nobody says otherwise.
pub const DIRECTORY: &str = "/etc/cni/net.d";

/// Endings of files that hold a network.
const NETWORKS: [&str; 3] = ["conflist", "conf", "json"];
/// Endings of files that hold a further plugin of a network.
const PLUGINS: [&str; 1] = ["conf"];
/// The most files that are looked at in a directory.
const MAX_FILES: usize = 1024;

/// A file that should hold a network.
#[derive(Debug)]
pub struct Found {
    /// The file.
    pub file: PathBuf,
    /// What it holds, or why that cannot be used.
    pub network: Result<Network, Error>,
}

/// Lists what is configured in `directory`, in the order of the names of files. Of several networks
/// of one name the first counts. No directory is an empty one.
///
/// # Errors
///
/// [`ErrorKind::Configuration`] if the directory cannot be listed.
pub fn networks(directory: &Path) -> Result<Vec<Found>, Error> {
    let files = files(directory, &NETWORKS)?;
    Ok(files.into_iter().map(|file| Found { network: network(&file), file }).collect())
}

/// Reads the network of the first file in `directory`.
///
/// # Errors
///
/// [`ErrorKind::NotFound`] if there is none. Of a file that cannot be used the reason, never the
/// next file instead: what a pod is attached to must not depend on a slip of the pen.
pub fn default_network(directory: &Path) -> Result<Network, Error> {
    match files(directory, &NETWORKS)?.first() {
        Some(file) => network(file),
        None => {
            let sentence = format!("no network is configured in `{}`", directory.display());
            Err(Error::new(ErrorKind::NotFound, sentence)
                .hint(format!("put a `.conflist` into `{}`", directory.display())))
        }
    }
}

/// Reads the network `name` in `directory`.
///
/// # Errors
///
/// [`ErrorKind::NotFound`] if no file has it, with the names there are and the files that cannot be
/// used, for it may stand in one of them.
pub fn network_named(directory: &Path, name: &NetworkName) -> Result<Network, Error> {
    let (mut names, mut broken) = (Vec::new(), Vec::new());
    for found in networks(directory)? {
        match found.network {
            Ok(network) if network.name() == name => return Ok(network),
            Ok(network) => names.push(format!("`{}`", network.name())),
            Err(error) => broken.push(error),
        }
    }
    let sentence = format!("there is no network `{name}` in `{}`", directory.display());
    let error = broken.iter().fold(Error::new(ErrorKind::NotFound, sentence), Error::followed_by);
    Err(match names.as_slice() {
        [] => error.hint(format!("put its `.conflist` into `{}`", directory.display())),
        _ => error.hint(format!("use one of {}", names.join(", "))),
    })
}

fn network(file: &Path) -> Result<Network, Error> {
    let unusable = |error: Error| {
        let sentence = format!("the network in `{}` cannot be used", file.display());
        error.within(sentence).hint(format!("mend or remove `{}`", file.display()))
    };
    let mut network = read(file).and_then(|bytes| Network::parse_open(&bytes)).map_err(unusable)?;
    if network.is_open() {
        let directory = file.parent().unwrap_or(Path::new("/")).join(network.name().as_str());
        network.extend(further(&directory)?).map_err(unusable)?;
    }
    if network.plugins().is_empty() {
        let none = Error::new(ErrorKind::Configuration, "it has no plugin");
        return Err(unusable(none));
    }
    Ok(network)
}

/// Reads the plugins that stand in files of their own.
fn further(directory: &Path) -> Result<Vec<Object>, Error> {
    let read_one = |file: &PathBuf| {
        read(file).and_then(|bytes| config::object(&bytes)).map_err(|error| {
            let sentence = format!("the plugin in `{}` cannot be used", file.display());
            error.within(sentence).hint(format!("mend or remove `{}`", file.display()))
        })
    };
    files(directory, &PLUGINS)?.iter().map(read_one).collect()
}

/// Lists the files of `directory` with one of `endings`, sorted by name.
fn files(directory: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, Error> {
    let failed = |source: io::Error| {
        let sentence = format!("cannot list `{}`", directory.display());
        Error::new(ErrorKind::Configuration, sentence).because(source)
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        // The name of a network may be that of a file beside its own.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let ending = path.extension().and_then(|ending| ending.to_str());
        if hidden || !ending.is_some_and(|ending| endings.contains(&ending)) || path.is_dir() {
            continue;
        }
        if found.len() == MAX_FILES {
            return Err(failed(io::Error::other(format!("it holds more than {MAX_FILES} files"))));
        }
        found.push(path);
    }
    found.sort();
    Ok(found)
}

/// Reads a file within its bound. A pipe somebody put there must not hold us up.
fn read(file: &Path) -> Result<Vec<u8>, Error> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let whole = || -> io::Result<Vec<u8>> {
        let file = File::from(rustix::fs::open(file, flags, Mode::empty())?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut bytes = Vec::new();
        file.take(MAX_CONFIGURATION as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    whole()
        .map_err(|source| Error::new(ErrorKind::Configuration, "it cannot be read").because(source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as StdError;
    use std::os::unix::fs::symlink;

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        directory
    }

    fn chain(error: &Error) -> String {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(cause) = next {
            text = format!("{text}: {cause}");
            next = cause.source();
        }
        text
    }

    const WEB: &str = r#"{"cniVersion":"1.0.0","name":"web","plugins":[{"type":"bridge"}]}"#;
    const LO: &str = r#"{"cniVersion":"1.0.0","name":"lo","type":"loopback"}"#;

    #[test]
    fn the_first_file_by_name_is_the_default() {
        let directory = directory(&[
            ("20-a.conf", LO),
            ("10-b.conflist", WEB),
            (".05-c.conflist.conf", LO),
            ("00-readme.txt", "no"),
            ("05.conflist/x", "a directory"),
        ]);
        assert_eq!(default_network(directory.path()).unwrap().name().as_str(), "web");
        let named = network_named(directory.path(), &"lo".parse().unwrap()).unwrap();
        assert_eq!(named.plugins()[0].kind().as_str(), "loopback");
        assert_eq!(networks(directory.path()).unwrap().len(), 2);
    }

    #[test]
    fn a_default_that_cannot_be_used_is_not_passed_over() {
        let directory = directory(&[("10-a.conflist", "{"), ("20-b.conflist", WEB)]);
        let error = default_network(directory.path()).unwrap_err();
        let file = directory.path().join("10-a.conflist").display().to_string();
        let expected = format!(
            "the network in `{file}` cannot be used: it is no JSON object: EOF while parsing an \
             object at line 1 column 1"
        );
        assert_eq!(chain(&error), expected);
        assert_eq!(error.hints(), [format!("mend or remove `{file}`")]);
        assert!(network_named(directory.path(), &"web".parse().unwrap()).is_ok());
    }

    #[test]
    fn a_network_that_is_not_there_is_told_with_those_that_are() {
        let directory =
            directory(&[("10-a.conflist", "7"), ("20-b.conflist", WEB), ("30.conf", LO)]);
        let error = network_named(directory.path(), &"db".parse().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(chain(&error).contains("10-a.conflist` cannot be used"), "{}", chain(&error));
        assert_eq!(error.hints().last().unwrap(), "use one of `web`, `lo`");
        let nowhere = Path::new("/nonexistent/net.d");
        assert_eq!(default_network(nowhere).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn plugins_in_files_of_their_own_come_behind_the_list() {
        let kinds = |network: &Network| -> Vec<String> {
            network.plugins().iter().map(|plugin| plugin.kind().to_string()).collect()
        };
        let open = directory(&[
            ("10.conflist", WEB),
            ("web/20-b.conf", r#"{"type":"tuning"}"#),
            ("web/10-a.conf", r#"{"type":"firewall"}"#),
            ("web/30-c.conflist", "{"),
        ]);
        let network = default_network(open.path()).unwrap();
        assert_eq!(kinds(&network), ["bridge", "firewall", "tuning"]);

        let alone = r#"{"cniVersion":"1.0.0","name":"web"}"#;
        let empty = directory(&[("10.conflist", alone)]);
        assert!(chain(&default_network(empty.path()).unwrap_err()).contains("it has no plugin"));
        let elsewhere = directory(&[("10.conflist", alone), ("web/1.conf", r#"{"type":"a"}"#)]);
        assert_eq!(kinds(&default_network(elsewhere.path()).unwrap()), ["a"]);

        let closed = WEB.replace(r#""plugins""#, r#""loadOnlyInlinedPlugins":true,"plugins""#);
        let closed = directory(&[("10.conflist", &closed), ("web/1.conf", "{")]);
        assert_eq!(kinds(&default_network(closed.path()).unwrap()), ["bridge"]);
    }

    #[test]
    fn what_is_no_file_or_has_no_end_holds_nobody_up() {
        let directory = directory(&[]);
        let at = directory.path();
        symlink("/dev/zero", at.join("10-zero.conf")).unwrap();
        assert!(chain(&default_network(at).unwrap_err()).contains("it is no regular file"));
        let file = File::create(at.join("05-huge.conflist")).unwrap();
        file.set_len(1 << 40).unwrap();
        assert!(chain(&default_network(at).unwrap_err()).contains("it is larger than 1024 KiB"));
    }
}
