//! Files that are replaced whole: whoever reads one finds all of it, the old or the new.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::error::{Context as _, Result};

/// Writes `text` to a file of this mode, in a directory that is made if it is missing: for its owner
/// alone if the file is.
///
/// # Errors
///
/// `storage`.
pub(crate) fn put(path: &Path, text: &str, mode: u32) -> Result<()> {
    let tell = || format!("cannot write `{}`", path.display());
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput)).context(tell);
    };
    let directory_mode = if mode & 0o077 == 0 { 0o700 } else { 0o755 };
    fs::DirBuilder::new().recursive(true).mode(directory_mode).create(parent).context(tell)?;
    let aside = parent.join(format!(".{}.new", name.to_string_lossy()));
    let write = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(mode).open(&aside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&aside, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&aside))).context(tell)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_whole_and_is_its_owners() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("pods/web.json");
        for text in ["one", "two"] {
            put(&path, text, 0o600).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
