//! Writing credentials down: the file that `login` changes and every fetch reads.
//!
//! The form is that of `containers-auth.json(5)`, which podman, skopeo and Docker read too, so what
//! they wrote in it stays as it is. A change is written aside and renamed under a lock on the
//! directory: of two logins at once none is lost, and a reader sees the old file or the new. Only
//! its owner can read it. The password itself is in it, as the format has it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::FlockOperation;
use serde_json::{Map, Value, json};

use super::credentials::{canonical, files_of_environment, read};
use super::error::Error;

/// A file of credentials that may be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthFile {
    path: PathBuf,
}

/// The entries of a file.
type Entries = Map<String, Value>;

impl AuthFile {
    /// Returns the file at `path`, which need not be there yet.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Returns the file that podman's `login` would change: `$REGISTRY_AUTH_FILE`, or the one in
    /// the runtime directory, which is gone after a boot.
    #[must_use]
    pub fn of_environment() -> Self {
        let first = files_of_environment().into_iter().next();
        Self::at(first.unwrap_or_else(|| PathBuf::from("/run/containers/0/auth.json")))
    }

    /// Returns the other files a fetch would look into.
    #[must_use]
    pub fn others(&self) -> Vec<Self> {
        let files = files_of_environment().into_iter().map(Self::at);
        files.filter(|file| file != self).collect()
    }

    /// Returns where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells whether there is an entry for just this registry or namespace.
    ///
    /// # Errors
    ///
    /// [`Error::Settings`] if the file cannot be read or understood.
    pub fn has(&self, key: &str) -> Result<bool, Error> {
        let document = self.document()?;
        let entries = document.get("auths").and_then(Value::as_object);
        Ok(entries.is_some_and(|entries| entries.keys().any(|other| canonical(other) == key)))
    }

    /// Writes down `user` and `password` for the registry or namespace `key`.
    ///
    /// # Errors
    ///
    /// [`Error::Settings`]; the file is as it was.
    pub fn keep(&self, key: &str, user: &str, password: &str) -> Result<(), Error> {
        let secret = STANDARD.encode(format!("{user}:{password}"));
        self.change(|entries| {
            entries.retain(|other, _| canonical(other) != key);
            entries.insert(key.to_owned(), json!({ "auth": secret }));
        })
    }

    /// Takes the entry for `key` away, and tells whether there was one.
    ///
    /// # Errors
    ///
    /// [`Error::Settings`]; the file is as it was.
    pub fn forget(&self, key: &str) -> Result<bool, Error> {
        if !self.has(key)? {
            return Ok(false);
        }
        self.change(|entries| entries.retain(|other, _| canonical(other) != key)).map(|()| true)
    }

    /// Takes all entries away, and returns for what they were.
    ///
    /// # Errors
    ///
    /// [`Error::Settings`]; the file is as it was.
    pub fn forget_all(&self) -> Result<Vec<String>, Error> {
        let document = self.document()?;
        let entries = document.get("auths").and_then(Value::as_object);
        let keys: Vec<String> = entries.into_iter().flat_map(Map::keys).cloned().collect();
        if !keys.is_empty() {
            self.change(Entries::clear)?;
        }
        Ok(keys)
    }

    /// Reads the file as it is; one that is not there is empty.
    fn document(&self) -> Result<Value, Error> {
        let bytes = match read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(json!({})),
            Err(error) => return Err(self.unusable(&error)),
        };
        // The parser's own words may quote the file, secrets included.
        let document: Value = serde_json::from_slice(&bytes).map_err(|error| Error::Settings {
            path: self.path.clone(),
            why: format!("no auth.json at line {} column {}", error.line(), error.column()),
        })?;
        let sound = document.is_object()
            && document.get("auths").is_none_or(|auths| auths.is_object() || auths.is_null());
        match sound {
            true => Ok(document),
            false => Err(Error::Settings {
                path: self.path.clone(),
                why: "its `auths` is no object".to_owned(),
            }),
        }
    }

    fn change(&self, deed: impl FnOnce(&mut Entries)) -> Result<(), Error> {
        // What a link leads to is changed, not the link.
        #[expect(
            clippy::disallowed_methods,
            reason = "the user's own file, by the user's own word"
        )]
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let _lock = lock(directory).map_err(|error| self.unusable(&error))?;
        let mut document = self.document()?;
        if let Some(whole) = document.as_object_mut() {
            let auths = whole.entry("auths").or_insert_with(|| json!({}));
            if auths.is_null() {
                *auths = json!({});
            }
            if let Some(entries) = auths.as_object_mut() {
                deed(entries);
            }
        }
        replace(&path, document.to_string().as_bytes()).map_err(|error| self.unusable(&error))
    }

    fn unusable(&self, error: &io::Error) -> Error {
        Error::Settings { path: self.path.clone(), why: error.to_string() }
    }
}

/// Locks `directory`, which is made if it is missing, until the result is dropped.
fn lock(directory: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let opened = File::open(directory)?;
    loop {
        match rustix::fs::flock(&opened, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(opened),
            Err(rustix::io::Errno::INTR) => {}
            Err(other) => return Err(other.into()),
        }
    }
}

/// Puts `bytes` at `path`, for its owner only.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(".new");
    let aside = path.with_file_name(name);
    // The lock is ours: what lies there is of one who died.
    let _ = fs::remove_file(&aside);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&aside, path));
    if written.is_err() {
        let _ = fs::remove_file(&aside); // it may not have been made
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file() -> (tempfile::TempDir, AuthFile) {
        let dir = tempfile::tempdir().unwrap();
        let file = AuthFile::at(dir.path().join("new/auth.json"));
        (dir, file)
    }

    #[test]
    fn an_entry_comes_and_goes_and_nobody_else_can_read_it() {
        let (dir, file) = file();
        assert!(!file.forget("r.io").unwrap());
        file.keep("r.io", "me", "p:w").unwrap();
        file.keep("r.io/team", "me", "other").unwrap();
        let mode = fs::metadata(file.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = fs::read_to_string(file.path()).unwrap();
        assert!(text.contains(&STANDARD.encode("me:p:w")), "{text}");
        assert!(file.forget("r.io").unwrap());
        assert!(!file.has("r.io").unwrap() && file.has("r.io/team").unwrap());
        assert_eq!(file.forget_all().unwrap(), ["r.io/team"]);
        assert_eq!(fs::read_dir(dir.path().join("new")).unwrap().count(), 1);
    }

    #[test]
    fn what_others_wrote_stays_and_one_registry_has_one_entry() {
        let (dir, file) = file();
        fs::create_dir(dir.path().join("new")).unwrap();
        let before = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"eDp5"},"a":{"x":1}},
            "credsStore":"desktop"}"#;
        fs::write(file.path(), before).unwrap();
        file.keep("docker.io", "me", "pw").unwrap();
        let after: Value = serde_json::from_slice(&fs::read(file.path()).unwrap()).unwrap();
        let auths = after["auths"].as_object().unwrap();
        assert_eq!(auths.keys().collect::<Vec<_>>(), ["a", "docker.io"]);
        assert_eq!((&auths["a"]["x"], &after["credsStore"]), (&json!(1), &json!("desktop")));
    }

    #[test]
    fn a_spoilt_file_is_not_replaced() {
        let (dir, file) = file();
        fs::create_dir(dir.path().join("new")).unwrap();
        for spoilt in ["{secret", "[]", r#"{"auths":"secret"}"#] {
            fs::write(file.path(), spoilt).unwrap();
            let error = file.keep("r.io", "me", "pw").unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
            assert_eq!(fs::read_to_string(file.path()).unwrap(), spoilt);
        }
    }
}
