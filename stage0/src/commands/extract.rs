//! `pod image extract`: an image as plain files, to be looked at or used by other tools.
//!
//! ```text
//!   DIR/manifest.json  DIR/config.json    the documents, laid out for people
//!   DIR/rootfs/                           all layers over one another
//! ```
//!
//! With `--rootfs-only` the tree lies in DIR itself. Nothing is ever written into a directory that
//! was there before, and what fails leaves nothing behind.

use std::fs::{self, DirBuilder};
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use images::{Image, ImageDetails, Reference, Store};
use rustix::fs::{CWD, Mode, OFlags};
use serde_json::Value;

use super::Session;
use crate::cli::ExtractArgs;
use crate::error::{CommandError, Context as _, Result};
use crate::fetch;

/// Writes an image of the store into a new directory.
///
/// # Errors
///
/// `image.exists` if the directory is there; `image.…`; `storage`.
pub(crate) fn extract(session: &Session, args: &ExtractArgs) -> Result<u8> {
    let store = session.store()?;
    let reference = fetch::stored(&store, &args.image)?;
    let lease = store.lease().map_err(|error| fetch::failed(&error))?;
    let platform = fetch::options(args.platform.as_deref())?.platform;
    let told = |error| fetch::told(&error, &reference);
    let image = store.resolve(&reference, &platform, &lease).map_err(told)?;
    let image = image.ok_or_else(|| missing(&reference, &platform.to_string()))?;
    let details = match args.rootfs_only {
        true => None,
        false => Some(store.inspect(&exactly(&image)?).map_err(told)?),
    };
    let directory = Path::new(&args.directory);
    make(directory)?;
    let written = write(&store, &image, details.as_ref(), directory);
    if written.is_err() {
        let _ = fs::remove_dir_all(directory); // made above, so ours; the first error counts
    }
    written.map(|()| 0)
}

/// Names an image by its id, which means it on any platform.
fn exactly(image: &Image) -> Result<Reference> {
    fetch::given(&image.manifest.to_string())
}

fn missing(reference: &Reference, platform: &str) -> CommandError {
    let message = format!("image `{reference}` for `{platform}` is not in the store");
    CommandError::new("image.not-found", message)
        .hint(format!("`pod fetch {reference}` fetches it; `pod image ls` lists what is there"))
}

fn make(directory: &Path) -> Result<()> {
    let shown = directory.display();
    match DirBuilder::new().mode(0o755).create(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(CommandError::new("image.exists", format!("`{shown}` is there already"))
                .hint("name a directory that is not there yet"))
        }
        made => made.context(|| format!("cannot make `{shown}`")),
    }
}

fn write(
    store: &Store,
    image: &Image,
    details: Option<&ImageDetails>,
    directory: &Path,
) -> Result<()> {
    let Some(details) = details else { return tree(store, image, directory) };
    let documents =
        [("manifest.json", &details.manifest_document), ("config.json", &details.config_document)];
    for (name, document) in documents {
        let path = directory.join(name);
        fs::write(&path, pretty(document))
            .context(|| format!("cannot write `{}`", path.display()))?;
    }
    let root = directory.join("rootfs");
    make(&root)?;
    tree(store, image, &root)
}

fn pretty(document: &Value) -> String {
    format!("{document:#}\n")
}

fn tree(store: &Store, image: &Image, root: &Path) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let into = rustix::fs::openat(CWD, root, flags, Mode::empty())
        .context(|| format!("cannot open `{}`", root.display()))?;
    store.write_tree(&image.layers, into.as_fd(), 0).map_err(|error| fetch::failed(&error))
}
