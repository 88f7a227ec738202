//! What can keep a tree from becoming an image.

use std::io;

use pod_abi::text::is_tame;

use crate::room::Full;

/// Why there is no image. Paths are relative to the layer's root.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// Something of the tree could not be read.
    #[error("cannot {verb} `{path}` of the layer")]
    Read { verb: &'static str, path: String, source: io::Error },
    /// Something of the tree has no form in an image.
    #[error("`{path}` of the layer {what}")]
    Unfit { path: String, what: &'static str },
    /// A tree that nobody may change has changed.
    #[error("`{path}` of the layer has changed meanwhile")]
    Changed { path: String },
    /// More than 2^32 blocks.
    #[error("the layer is larger than the 16 TiB an image can hold")]
    TooLarge,
    /// The image could not be written.
    #[error("cannot write the image")]
    Write { source: io::Error },
    /// The file system shall not take more of it.
    #[error("cannot write the image: {what}")]
    Full { what: &'static str, source: io::Error },
}

impl Fault {
    /// Returns what makes a fault of the error of a call on `path`.
    pub(super) fn reading<E: Into<io::Error>>(
        verb: &'static str,
        path: &[u8],
    ) -> impl FnOnce(E) -> Self {
        let path = shown(path);
        move |error| Self::Read { verb, path, source: error.into() }
    }

    /// Makes a fault of what could not be written.
    pub(super) fn writing(error: impl Into<io::Error>) -> Self {
        Self::Write { source: error.into() }
    }

    /// Makes a fault of a file system that shall not take more.
    pub(super) fn full(full: Full) -> Self {
        Self::Full { what: full.what, source: full.errno.into() }
    }

    /// Says that `path` has no form in an image; `what` is the rest of the sentence.
    pub(super) fn unfit(path: &[u8], what: &'static str) -> Self {
        Self::Unfit { path: shown(path), what }
    }
}

/// Returns a path for people; what is no UTF-8 is replaced, what steers a terminal escaped.
pub(super) fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    text.chars()
        .flat_map(|letter| {
            let plain = is_tame(letter).then_some(letter);
            plain
                .into_iter()
                .chain(plain.is_none().then(|| letter.escape_default()).into_iter().flatten())
        })
        .collect()
}
