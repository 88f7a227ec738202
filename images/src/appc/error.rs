//! Why an App Container Image is none, or none that can be had as OCI.

use std::io;

use crate::layer::Shown;

/// Why an image of appc cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppcError {
    /// The manifest breaks the rules of its format.
    #[error("the image manifest is none: {0}")]
    Manifest(String),
    /// The manifest keeps the rules and asks for what cannot be had.
    #[error("the image cannot be had as an OCI image: {0}")]
    Unsupported(String),
    /// An entry of the archive breaks the rules.
    #[error("entry `{entry}` of the image {what}")]
    Entry {
        /// Its name, if it was known yet.
        entry: Shown,
        /// What is wrong with it, as the rest of a sentence.
        what: &'static str,
    },
    /// The archive as a whole breaks the rules; the rest of a sentence.
    #[error("the image {0}")]
    Archive(&'static str),
    /// The archive cannot be read.
    #[error("cannot read the image")]
    Read(#[source] io::Error),
    /// The layer cannot be written.
    #[error("cannot write the layer of the image")]
    Write(#[source] io::Error),
}
