//! `pod cp`: files between the host and an app that runs, with docker's rules for where they go.
//!
//! Whoever runs in the app may have written every byte that comes out of it and moves its files
//! while they are copied. So nothing of this process enters the app: one of the pod's own packs and
//! unpacks there, and what it sends is unpacked beneath a descriptor, through no link.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use archive::{Links, Owned, Owner, Privileges, Source, Top, Unpacking, pack, unpack};
use pod_abi::control::{Direction, Reply, Request};
use pod_abi::exit::Ended;
use pod_abi::{AppName, PodPath};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::pipe::{PipeFlags, pipe_with};

use super::Session;
use super::subject::{choose, connect, running};
use crate::cli::CpArgs;
use crate::control::Connection;
use crate::copies::{Place, Told, place};
use crate::error::{CommandError, Context as _, Result};
use crate::pods::Pod;
use crate::ui::counted;

/// Copies files.
///
/// # Errors
///
/// Usage if not exactly one side is an app; `pod.not-found`, `pod.not-running`, `app.not-found`;
/// `copy.source`, `copy.destination`, `copy.failed`; what the supervisor reports.
pub(crate) fn cp(session: &Session, args: &CpArgs) -> Result<u8> {
    match (place(&args.source)?, place(&args.destination)?) {
        (Place::App { pod, app, path }, Place::Host(to)) => {
            let from = App::find(session, (&pod, app.as_deref()), path)?;
            copy_out(&from, &to, args)?;
        }
        (Place::Host(from), Place::App { pod, app, path }) => {
            let to = App::find(session, (&pod, app.as_deref()), path)?;
            copy_in(&from, &to, args)?;
        }
        _ => {
            return Err(CommandError::usage("exactly one side is a path in an app")
                .hint("`pod cp POD:PATH DEST` copies out, `pod cp SRC POD:PATH` copies in; of several apps, name one: `POD/APP:PATH`"));
        }
    }
    Ok(0)
}

/// A place in an app that runs.
struct App<'s> {
    session: &'s Session,
    pod: Pod,
    word: String,
    name: AppName,
    path: Told,
}

impl<'s> App<'s> {
    fn find(session: &'s Session, (word, app): (&str, Option<&str>), path: Told) -> Result<Self> {
        let pod = running(session, word)?;
        let name = choose(&pod, app, "POD/APP:PATH")?.name;
        Ok(Self { session, pod, word: word.to_owned(), name, path })
    }

    /// Begins a copy; the app's side has the other end of the pipe.
    fn begin(&self, direction: Direction, path: &PodPath) -> Result<(Connection, OwnedFd)> {
        let mut connection = connect(self.session, &self.pod, &self.word)?;
        let (read, write) =
            pipe_with(PipeFlags::CLOEXEC).context(|| "cannot make a pipe".to_owned())?;
        let null = openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .context(|| "cannot open `/dev/null`".to_owned())?;
        let (app, path) = (self.name.clone(), path.clone());
        let request = Request::Copy { app, direction, path };
        let (its, ours) = match direction {
            Direction::In => ([read.as_fd(), null.as_fd(), null.as_fd()], &write),
            _ => ([null.as_fd(), write.as_fd(), null.as_fd()], &read),
        };
        connection.request(&request, &its)?;
        let ours = ours.try_clone().context(|| "cannot copy a descriptor".to_owned())?;
        Ok((connection, ours))
    }

    /// Tells whether a path is a directory in the app: whether nothing can be unpacked there.
    fn is_directory(&self, path: &PodPath) -> Result<bool> {
        let (connection, pipe) = self.begin(Direction::In, path)?;
        drop(pipe);
        match end(connection) {
            Ok(()) => Ok(true),
            Err(error) if error.code() == "app.copy" => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Waits for the app's side of a copy.
fn end(mut connection: Connection) -> Result<()> {
    loop {
        match connection.take()? {
            Some(Reply::Refused(report)) => return Err(CommandError::reported(report.tamed())),
            Some(Reply::ExecEnded { exit: Ended::Exited { code: 0 } }) => return Ok(()),
            Some(Reply::ExecEnded { exit }) => {
                let what = format!("the copy was ended in the app, with status {}", exit.code());
                return Err(CommandError::new("copy.failed", what));
            }
            Some(_) => {}
            None if connection.receive()? => {}
            None => return Err(CommandError::new("pod.ended", "the pod ended during the copy")),
        }
    }
}

/// Chooses between what this side met with and what the app's side tells: if that failed, this
/// side has only seen the pipe break.
fn settle(ours: std::result::Result<(), archive::Error>, connection: Connection) -> Result<()> {
    let Err(error) = ours else { return end(connection) };
    let broken = matches!(error, archive::Error::Output(_) | archive::Error::Archive(_));
    if broken {
        end(connection)?;
    }
    let message = format!("cannot copy {error}").trim_end_matches(',').to_owned();
    let failed = CommandError::new("copy.failed", message);
    Err(match error.cause() {
        Some(cause) => failed.because(cause),
        None => failed,
    })
}

fn copy_in(from: &str, to: &App<'_>, args: &CpArgs) -> Result<()> {
    if from == "-" {
        let (connection, pipe) = to.begin(Direction::In, &to.path.path)?;
        let mut pipe = fs::File::from(pipe);
        let copied = io::copy(&mut counted(io::stdin().lock()), &mut pipe).map(drop);
        drop(pipe);
        return settle(copied.map_err(archive::Error::Output), connection);
    }
    let source = Given::open(from, args.follow_link)?;
    let directory = to.is_directory(&to.path.path)?;
    let (into, name) = if directory {
        (to.path.path.clone(), if source.contents { OsStr::new("") } else { &source.name })
    } else if to.path.is_directory {
        let what = format!("`{}` is no directory in app `{}`", to.path.path, to.name);
        return Err(CommandError::new("copy.destination", what));
    } else {
        let (parent, name) = to.path.split()?;
        (parent, OsStr::new(name))
    };
    let (connection, pipe) = to.begin(Direction::In, &into)?;
    let owner = if args.archive { Owner::Kept } else { Owner::Is(0, 0) };
    let out = io::BufWriter::with_capacity(CHUNK, counted(fs::File::from(pipe)));
    let packed = pack(source.source(), name, owner, out);
    settle(packed, connection)
}

/// How much is read and written at once.
const CHUNK: usize = 256 << 10;

/// A file or directory of the host that is given by name.
struct Given {
    file: OwnedFd,
    /// Whether `file` is the directory it is in.
    beside: bool,
    /// Whether only what it holds is meant.
    contents: bool,
    name: std::ffi::OsString,
}

impl Given {
    fn open(word: &str, follow: bool) -> Result<Self> {
        let path = Path::new(word);
        let failed = || format!("cannot open `{word}`");
        let contents = matches!(word, "." | "..") || word.ends_with("/.") || word.ends_with("/..");
        let name = path.file_name().unwrap_or_default().to_owned();
        if contents || follow || word.ends_with('/') {
            let about = fs::metadata(path).context(failed)?;
            if !about.is_file() && !about.is_dir() {
                let what = format!("`{word}` is a device, a socket or a pipe");
                return Err(CommandError::new("copy.source", what));
            }
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let file = openat(CWD, path, flags, Mode::empty()).context(failed)?;
            return Ok(Self { file, beside: false, contents: contents || name.is_empty(), name });
        }
        fs::symlink_metadata(path).context(failed)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let file = openat(CWD, parent.unwrap_or(Path::new(".")), flags, Mode::empty());
        Ok(Self { file: file.context(failed)?, beside: true, contents, name })
    }

    fn source(&self) -> Source<'_> {
        if self.beside {
            Source::Named(self.file.as_fd(), &self.name)
        } else {
            Source::Open(self.file.as_fd())
        }
    }
}

fn copy_out(from: &App<'_>, to: &str, args: &CpArgs) -> Result<()> {
    let follow = args.follow_link || from.path.is_directory;
    let direction = if follow { Direction::OutFollowed } else { Direction::Out };
    if to == "-" {
        if io::stdout().is_terminal() {
            return Err(CommandError::usage("an archive is not written to a terminal")
                .hint("redirect it to a file, or name a directory"));
        }
        let (connection, pipe) = from.begin(direction, &from.path.path)?;
        let copied = io::copy(&mut counted(fs::File::from(pipe)), &mut io::stdout().lock());
        return settle(copied.map(drop).map_err(archive::Error::Output), connection);
    }
    let (into, top) = destination(from, to)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(CWD, &into, flags, Mode::empty())
        .context(|| format!("cannot open `{}`", into.display()))?;
    let how = Unpacking {
        top,
        links: Links::Refused,
        owner: if args.archive { Owned::AsPacked } else { Owned::ByUnpacker },
        privileges: Privileges::Dropped,
    };
    let (connection, pipe) = from.begin(direction, &from.path.path)?;
    let archive = io::BufReader::with_capacity(CHUNK, counted(fs::File::from(pipe)));
    let unpacked = unpack(archive, directory.as_fd(), &how).map(drop);
    settle(unpacked, connection)
}

/// Returns the directory of the host that is copied into, and what becomes of the name.
fn destination(from: &App<'_>, to: &str) -> Result<(PathBuf, Top)> {
    let path = Path::new(to);
    let whole = from.path.path == PodPath::root();
    match fs::metadata(path) {
        Ok(about) if about.is_dir() => {
            let top = match from.path.contents {
                _ if whole => Top::Kept,
                true => Top::Stripped,
                // Its name is the one that was asked for, whatever the archive says.
                false => Top::Renamed(PathBuf::from(from.path.split()?.1)),
            };
            return Ok((path.to_owned(), top));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).context(|| format!("cannot look at `{to}`"));
        }
        _ => {}
    }
    if to.ends_with('/') || path.file_name().is_none() {
        return Err(CommandError::new("copy.destination", format!("`{to}` is no directory")));
    }
    if whole {
        fs::create_dir(path).context(|| format!("cannot make `{to}`"))?;
        return Ok((path.to_owned(), Top::Kept));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new(".")).to_owned();
    let name = path.file_name().unwrap_or_default();
    Ok((parent, Top::Renamed(PathBuf::from(name))))
}
