//! `--id-file`: the id of a pod, for programs that start one and must find it again.
//!
//! It is written before the pod starts, so that whoever is killed meanwhile leaves a trace; never
//! over another; and it goes if the pod cannot be started after all.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use pod_abi::PodId;

use crate::error::{CommandError, Result};

/// A file with a pod's id, removed when dropped unless it is kept.
#[derive(Debug)]
#[must_use = "the file goes when this is dropped"]
pub(crate) struct IdFile(Option<PathBuf>);

impl IdFile {
    /// Writes `id` to a file that must not be there yet: it may name another pod.
    ///
    /// # Errors
    ///
    /// `id-file`.
    pub(crate) fn write(path: &Path, id: &PodId) -> Result<Self> {
        let tell = |error: &io::Error| {
            let message = format!("cannot write the id to `{}`", path.display());
            let made = CommandError::new("id-file", message).because(error);
            match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    made.hint("it may name another pod; remove it if not")
                }
                _ => made,
            }
        };
        let file = fs::OpenOptions::new().write(true).create_new(true).open(path);
        let mut file = file.map_err(|error| tell(&error))?;
        let made = Self(Some(path.to_owned()));
        write!(file, "{id}").map_err(|error| tell(&error))?;
        Ok(made)
    }

    /// Leaves the file: its pod has been started.
    pub(crate) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_file(path); // somebody was faster, if this fails
        }
    }
}
