//! `pod image import`, `export` and `tag`: images that come and go as files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal as _, Read as _, Seek as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use images::trust::{Keyring, TrustError};
use images::{Discovered, ErrorKind, ExportFormat, Import, ImportedFrom, Lease, Reference, Store};
use pod_abi::Digest;
use pod_abi::app::Verified;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::{Session, discover};
use crate::changes;
use crate::cli::{Archive, ExportArgs, ImportArgs, TagArgs};
use crate::error::{CommandError, Context as _, Result};
use crate::fetch as fetching;
use crate::ui::{self, Format, Telling};

/// The longest signature or keyring that is read, in bytes.
const MAX_SIGNATURE: u64 = 4 << 20;
/// The word for standard input and output.
const STANDARD: &str = "-";

/// Gives an image a further name.
///
/// # Errors
///
/// `image.…`.
pub(crate) fn tag(session: &Session, args: &TagArgs) -> Result<u8> {
    let name = fetching::given(&args.name)?;
    let store = session.store()?;
    let reference = fetching::stored(&store, &args.image)?;
    let line = store.tag(&reference, &name);
    let line = line.map_err(|error| fetching::told(&error, &reference))?;
    match session.context.format {
        Format::Json => ui::json(&line),
        Format::Table => ui::out(&format!("{}\n", line.reference)),
    }
    .map(|()| 0)
}

/// Takes the images of a file into the store, or a root.
///
/// # Errors
///
/// `image.…`, naming the file; a usage error for what is no change.
pub(crate) fn import(session: &Session, args: &ImportArgs) -> Result<u8> {
    let reference = args.reference.as_deref().map(fetching::given).transpose()?;
    if let Some(reference) = &reference
        && !reference.is_nameable()
    {
        let message = format!("`{reference}` is no name an image can be given");
        return Err(CommandError::usage(message).hint("a name is `REPOSITORY[:TAG]`"));
    }
    if args.file == STANDARD && !args.discover && io::stdin().is_terminal() {
        return Err(CommandError::usage("standard input is a terminal, and no archive"));
    }
    let settings = match args.change.is_empty() {
        true => None,
        false => Some(changes::read(&args.change)?),
    };
    let name = if args.discover { Some(discover::name(&args.file)?) } else { None };
    let mut options = fetching::options(args.platform.as_deref())?;
    options.policies = discover::request(args)?.policies;
    let store = session.store()?;
    let lease = store.lease().map_err(|error| fetching::failed(&error))?;
    let telling = if args.quiet { Telling::Quiet } else { Telling::People };
    let progress = ui::Progress::new(telling.in_form(session.context.format));
    let Opened { file, called, verified, came } = match &name {
        Some(name) => {
            let found = discover::discovered(&store, args, (name, &options), &progress)?;
            Opened::found(found, args)?
        }
        None => Opened::local(&store, args)?,
    };
    if let Some(came) = &came
        && telling == Telling::People
        && session.context.format == Format::Table
    {
        ui::note(&format!("`{called}` is {} long: `{}`", ui::size(came.size), came.digest));
    }
    let import = Import {
        verified,
        path: Path::new(&called),
        reference: reference.as_ref(),
        asked: name.as_ref(),
        settings: settings.as_ref(),
        options: &options,
        lease: &lease,
        progress: &progress,
    };
    let imported = store.import(file, &import);
    let imported = imported.map_err(|error| refused(&error))?;
    let from = match imported.from {
        ImportedFrom::OciArchive => "oci-archive",
        ImportedFrom::DockerArchive => "docker-archive",
        ImportedFrom::Aci => "aci",
        ImportedFrom::Root => "root",
    };
    if session.context.format == Format::Json {
        let images: Vec<_> = imported.images.iter().map(fetching::as_json).collect();
        let mut said = serde_json::json!({ "from": from, "images": images });
        if let Some(Came { size, digest }) = came {
            said["archive"] = serde_json::json!({ "url": called, "size": size, "digest": digest });
        }
        return ui::json(&said).map(|()| 0);
    }
    if telling == Telling::People && imported.from != ImportedFrom::Root {
        ui::note(&format!("`{called}` is of the form `{from}`"));
    }
    let lines =
        imported.images.iter().map(|image| format!("{} {}\n", image.manifest, image.reference));
    ui::out(&lines.collect::<String>()).map(|()| 0)
}

/// Gives an error the hint that leads on.
fn refused(error: &images::Error) -> CommandError {
    let made = fetching::failed(error);
    match error.kind() {
        ErrorKind::Untrusted => made
            .hint("a name of your own, `pod image import FILE NAME`, is in none of the file's scopes")
            .hint("`--signature FILE --keyring FILE` lets in what is signed; `--insecure-options image` does without"),
        _ => made,
    }
}

/// What is to be imported.
struct Opened {
    file: File,
    /// What people know it by: its path, or where it was found.
    called: String,
    verified: Verified,
    /// What came over a network, if it did.
    came: Option<Came>,
}

/// An archive that came over a network.
struct Came {
    size: u64,
    digest: Digest,
}

impl Opened {
    fn found(found: Discovered, args: &ImportArgs) -> Result<Self> {
        let Discovered { url, mut file, size, digest, signature, mut verified } = found;
        if let (Some(signature), Some(keyring)) = (signature, &args.keyring) {
            vouched((&url, &mut file), &signature, keyring)?;
            verified = Verified::Signature;
        }
        Ok(Self { file, called: url, verified, came: Some(Came { size, digest }) })
    }

    fn local(store: &Store, args: &ImportArgs) -> Result<Self> {
        let mut file = open(store, &args.file)?;
        let verified = match (&args.signature, &args.keyring) {
            (Some(signature), Some(keyring)) => {
                // What is checked is what comes in, whoever writes to the file meanwhile.
                file = store.spool(&mut file).map_err(|error| fetching::failed(&error))?;
                vouched((&args.file, &mut file), &read(signature)?, keyring)?;
                Verified::Signature
            }
            _ => Verified::LocalFile,
        };
        Ok(Self { file, called: args.file.clone(), verified, came: None })
    }
}

/// Reads a signature or a keyring.
fn read(path: &Path) -> Result<Vec<u8>> {
    let tell = || format!("cannot read `{}`", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).context(tell)?;
    file.take(MAX_SIGNATURE + 1).read_to_end(&mut bytes).context(tell)?;
    Ok(bytes)
}

/// Checks that a file was signed by one of some keys; leaves it at its beginning.
fn vouched((called, file): (&str, &mut File), signature: &[u8], keyring: &Path) -> Result<()> {
    let told = |error: TrustError| {
        CommandError::new("image.untrusted", format!("cannot import `{called}`")).because(&error)
    };
    let keys = Keyring::parse(&read(keyring)?, &format!("`{}`", keyring.display()));
    let keys = keys.map_err(told)?;
    keys.verify_detached(signature, file, SystemTime::now()).map_err(told)?;
    file.rewind().context(|| "cannot read the file twice".to_owned())
}

/// Opens what is to be imported; what cannot be read twice is kept beneath the store meanwhile.
fn open(store: &Store, word: &str) -> Result<File> {
    let spooled =
        |from: &mut dyn io::Read| store.spool(from).map_err(|error| fetching::failed(&error));
    if word == STANDARD {
        return spooled(&mut io::stdin().lock());
    }
    let mut file = File::open(word).context(|| format!("cannot open `{word}`"))?;
    let kind = file.metadata().context(|| format!("cannot open `{word}`"))?.file_type();
    if kind.is_dir() {
        let error = CommandError::new("image.refused", format!("`{word}` is a directory"));
        return Err(error.hint(format!("`pod fetch oci:{word}` takes a layout; `tar -C {word} -c . | pod image import - NAME` a root")));
    }
    if kind.is_file() { Ok(file) } else { spooled(&mut file) }
}

/// Writes an image as one file.
///
/// # Errors
///
/// `image.…`, or `storage`; there is no file then, or the old one.
pub(crate) fn export(session: &Session, args: &ExportArgs) -> Result<u8> {
    let store = session.store()?;
    let reference = fetching::stored(&store, &args.image)?;
    let lease = store.lease().map_err(|error| fetching::failed(&error))?;
    let format = match args.format {
        Archive::OciArchive => ExportFormat::OciArchive,
        Archive::DockerArchive => ExportFormat::DockerArchive,
    };
    let outgoing = Outgoing { store: &store, lease: &lease, reference: &reference, format };
    if args.file == STANDARD {
        let mut stdout = io::stdout().lock();
        if stdout.is_terminal() {
            let error = CommandError::usage("standard output is a terminal");
            return Err(error.hint(format!("`pod image export {} FILE`", args.image)));
        }
        outgoing.write(&mut stdout)?;
    } else {
        outgoing.write_file(Path::new(&args.file), args.force)?;
    }
    Ok(0)
}

/// An image on its way out.
struct Outgoing<'o> {
    store: &'o Store,
    lease: &'o Lease,
    reference: &'o Reference,
    format: ExportFormat,
}

impl Outgoing<'_> {
    fn write(&self, to: &mut dyn Write) -> Result<()> {
        let written = self.store.export(self.reference, self.lease, self.format, to);
        written.map(drop).map_err(|error| fetching::told(&error, self.reference))
    }

    /// Writes beside `path` and moves there once all is on the disk: whoever looks finds the old
    /// file, none, or all of the new one.
    fn write_file(&self, path: &Path, force: bool) -> Result<()> {
        let shown = path.display();
        match path.symlink_metadata() {
            // Renamed over a device or a link, the archive would take its place.
            Ok(there) if !there.is_file() => {
                let message = format!("`{shown}` is no regular file, and is not replaced");
                return Err(CommandError::new("image.refused", message)
                    .hint("`-` in its place writes to standard output"));
            }
            Ok(_) if !force => return Err(exists(path)),
            _ => {}
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let aside = Aside(path.with_file_name(name));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&aside.0);
        let file = file.context(|| format!("cannot make `{}`", aside.0.display()))?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        self.write(&mut file)?;
        let synced = file.into_inner().map_err(io::IntoInnerError::into_error);
        synced.and_then(|file| file.sync_all()).context(|| format!("cannot write `{shown}`"))?;
        let flags = if force { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        match renameat_with(CWD, &aside.0, CWD, path, flags) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(exists(path)),
            Err(error) => Err(error).context(|| format!("cannot make `{shown}`")),
        }
    }
}

fn exists(path: &Path) -> CommandError {
    let path = path.display();
    CommandError::new("image.refused", format!("`{path}` is there already"))
        .hint("`--force` replaces it")
}

/// A file that is only there until it has its name.
struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0); // it has its name, or could not be made
    }
}
