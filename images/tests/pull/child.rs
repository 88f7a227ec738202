//! The other programs this one can be: the unpack worker, and a process that does something to a
//! store and can be killed.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use images::{Error, ErrorKind, GcOptions, Reference, Silent, Store, WorkerProgram};

use crate::bench;

/// First argument of the unpack worker.
pub(crate) const UNPACK: &str = "internal-unpack";

/// First argument of a process that does a [`Deed`]; the root, its name and its words follow.
pub(crate) const DO: &str = "internal-do";

/// Something that is done to a store.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// A pull of a reference.
    Pull(String),
    /// Disk images of all layers of a reference.
    Render(String),
    /// A reference gets a further name.
    Tag(String, String),
    /// A reference is forgotten.
    Remove(String),
    /// All garbage is collected.
    Collect,
    /// What others have left is swept, as every verb does in passing.
    Tidy,
}

impl Deed {
    fn words(&self) -> Vec<&str> {
        match self {
            Self::Pull(reference) => vec!["pull", reference],
            Self::Render(reference) => vec!["render", reference],
            Self::Tag(reference, name) => vec!["tag", reference, name],
            Self::Remove(reference) => vec!["remove", reference],
            Self::Collect => vec!["collect"],
            Self::Tidy => vec!["tidy"],
        }
    }
}

/// Returns how to start the unpack worker.
pub(crate) fn worker() -> WorkerProgram {
    WorkerProgram { exe: env::current_exe().unwrap(), args: vec![UNPACK.into()] }
}

/// Starts a pull in a process of its own.
pub(crate) fn start_pull(root: &Path, reference: &str) -> Child {
    start(root, &Deed::Pull(reference.to_owned()))
}

/// Starts a process that does something to the store beneath `root`.
pub(crate) fn start(root: &Path, deed: &Deed) -> Child {
    let line = line(root, deed);
    Command::new(&line[0]).args(&line[1..]).stdin(Stdio::null()).spawn().unwrap()
}

/// Returns the command line of such a process.
pub(crate) fn line(root: &Path, deed: &Deed) -> Vec<OsString> {
    let mut line = vec![env::current_exe().unwrap().into(), DO.into(), root.into()];
    line.extend(deed.words().into_iter().map(OsString::from));
    line
}

/// Is such a process.
pub(crate) fn act(arguments: &[String]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [root, deed @ ..] = words.as_slice() else { return ExitCode::FAILURE };
    match done(&Store::open(Path::new(root)).unwrap(), deed) {
        Ok(()) => ExitCode::SUCCESS,
        // Others may have taken it away.
        Err(error) if error.kind() == ErrorKind::NotFound && deed[0] != "pull" => ExitCode::FAILURE,
        Err(error) => panic!("{deed:?}: {error:?}"),
    }
}

fn done(store: &Store, deed: &[&str]) -> Result<(), Error> {
    let named = |word: &str| Reference::parse(word).unwrap();
    match deed {
        ["pull", word] => {
            let lease = store.lease()?;
            store.pull(&named(word), &bench::options(), &lease, &Silent).map(drop)
        }
        ["render", word] => {
            let lease = store.lease()?;
            let image = store.resolve(&named(word), &bench::options().platform, &lease)?;
            image.map_or(Ok(()), |image| store.layer_images(&image.layers, &Silent).map(drop))
        }
        ["tag", word, name] => store.tag(&named(word), &named(name)).map(drop),
        ["remove", word] => store.remove(&named(word)).map(drop),
        ["collect"] => store.gc(|| Ok(Default::default()), &GcOptions::default()).map(drop),
        ["tidy"] => store.tidy(),
        _ => panic!("{deed:?} is no deed"),
    }
}
