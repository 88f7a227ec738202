//! Where the programs of plugins lie: `CNI_PATH`.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, tame};
use crate::name::PluginType;

/// Where plugins lie if nobody says otherwise: Debian's place, upstream's, Fedora's.
pub const DIRECTORIES: &str = "/usr/lib/cni:/opt/cni/bin:/usr/libexec/cni";

/// Directories that are searched for plugins, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginPath(String);

impl PluginPath {
    /// Reads directories with `:` between; empty parts do not count.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Argument`] for a directory that is not absolute: what it meant would depend on
    /// where one stands.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let parts: Vec<&str> = text.split(':').filter(|part| !part.is_empty()).collect();
        match parts.iter().find(|part| !Path::new(part).is_absolute()) {
            None => Ok(Self(parts.join(":"))),
            Some(part) => {
                let sentence = format!("plugins cannot be searched for in `{}`", tame(part));
                Err(Error::new(ErrorKind::Argument, sentence)
                    .because("it is no absolute path")
                    .hint(format!("name directories as in `{DIRECTORIES}`")))
            }
        }
    }

    /// Returns it as plugins get it, in `CNI_PATH`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Finds the program of a plugin: the first executable file of its name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PluginMissing`] if there is none.
    pub fn find(&self, plugin: &PluginType) -> Result<PathBuf, Error> {
        let places = self.0.split(':').map(|directory| Path::new(directory).join(plugin.as_str()));
        places.into_iter().find(|place| is_program(place)).ok_or_else(|| {
            let sentence = format!("there is no plugin `{plugin}` in `{self}`");
            Error::new(ErrorKind::PluginMissing, sentence).hint(
                "install it (in Debian the usual ones are in `containernetworking-plugins`), or \
                 name its directory in `CNI_PATH`",
            )
        })
    }
}

impl Default for PluginPath {
    /// Returns [`DIRECTORIES`].
    fn default() -> Self {
        Self(DIRECTORIES.to_owned())
    }
}

impl fmt::Display for PluginPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_program_of_a_name_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (directory.path().join("a"), directory.path().join("b"));
        for (place, mode) in [(&first, 0o644), (&second, 0o755)] {
            fs::create_dir(place).unwrap();
            fs::write(place.join("bridge"), "").unwrap();
            fs::set_permissions(place.join("bridge"), fs::Permissions::from_mode(mode)).unwrap();
            fs::create_dir(place.join("ptp")).unwrap();
        }
        let path = format!("{}::{}:", first.display(), second.display());
        let path = PluginPath::parse(&path).unwrap();
        let found = path.find(&"bridge".parse().unwrap()).unwrap();
        assert_eq!(found, second.join("bridge"), "what cannot be executed is no program");
        let error = path.find(&"ptp".parse().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PluginMissing);
        assert!(error.to_string().contains(second.to_str().unwrap()));
    }

    #[test]
    fn where_one_stands_does_not_count() {
        for text in ["plugins", "/a:plugins", "./a"] {
            assert!(PluginPath::parse(text).is_err(), "{text}");
        }
        assert_eq!(PluginPath::parse(DIRECTORIES).unwrap(), PluginPath::default());
        assert!(PluginPath::parse("").unwrap().find(&"bridge".parse().unwrap()).is_err());
    }
}
