//! The only place of this module that touches files: bounded, and only regular ones, as opening a
//! pipe would wait for ever.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::error::{Fault, RegistriesError};

/// The longest file that is read, in bytes: what people write by hand is a thousandth of it, and no
/// parser is given more to chew on.
pub const MAX_FILE: usize = 1 << 20;

/// Refuses a text that is too long to be parsed.
pub(super) fn bounded(text: &str) -> Result<&str, Fault> {
    if text.len() > MAX_FILE {
        return Err(Fault::of("", format!("it is longer than {MAX_FILE} bytes")));
    }
    Ok(text)
}

/// Reads a file that may be missing.
pub(super) fn optional(path: &Path) -> Result<Option<String>, RegistriesError> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        _ => text(path).map(Some),
    }
}

/// Reads a file that must be there.
pub(super) fn text(path: &Path) -> Result<String, RegistriesError> {
    let unreadable = |why: &dyn ToString| RegistriesError::Unreadable {
        path: path.into(),
        why: why.to_string(),
    };
    if !fs::metadata(path).map_err(|error| unreadable(&error))?.is_file() {
        return Err(unreadable(&"it is no regular file"));
    }
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    let mut bytes = Vec::new();
    let read = file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| unreadable(&error))?;
    if bytes.len() > MAX_FILE {
        return Err(unreadable(&format!("it is longer than {MAX_FILE} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| unreadable(&"it is no text of UTF-8"))
}

/// Lists the files of a directory that have this extension, in order of their names; none if there
/// is no directory.
pub(super) fn listing(directory: &Path, extension: &str) -> Result<Vec<PathBuf>, RegistriesError> {
    let unreadable = |error: io::Error| RegistriesError::Unreadable {
        path: directory.into(),
        why: error.to_string(),
    };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(unreadable)?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|found| found == extension) && !path.is_dir() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_of_the_extension_are_read_in_order() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b.conf", "a.conf", "c.txt"] {
            fs::write(directory.path().join(name), name).unwrap();
        }
        fs::create_dir(directory.path().join("d.conf")).unwrap();
        let found = listing(directory.path(), "conf").unwrap();
        assert_eq!(found, ["a.conf", "b.conf"].map(|name| directory.path().join(name)));
        assert_eq!(text(&found[0]).unwrap(), "a.conf");
        assert_eq!(
            listing(&directory.path().join("none"), "conf").unwrap(),
            [""; 0].map(PathBuf::from)
        );
        assert_eq!(optional(&directory.path().join("none")).unwrap(), None);
        assert!(text(Path::new("/dev/zero")).is_err());
    }

    #[test]
    fn what_is_too_long_or_no_text_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        fs::write(&path, vec![b' '; MAX_FILE + 1]).unwrap();
        assert!(optional(&path).is_err());
        fs::write(&path, b"\xff").unwrap();
        assert!(optional(&path).is_err());
        assert!(bounded(&" ".repeat(MAX_FILE)).is_ok());
        assert!(bounded(&" ".repeat(MAX_FILE + 1)).is_err());
    }
}
