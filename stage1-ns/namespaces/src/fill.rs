//! Filling an empty volume with what an image has at a place: docker's copy-up.
//!
//! ```text
//!   VOLUME/.pod-fill/content/   being copied; nothing of it counts until it is
//!   VOLUME/.pod-fill/whole/     copied; its entries move up, one after the other
//! ```
//!
//! A kill at any point leaves one of the two, and the next start throws the first away and goes on
//! with the second. `.pod-fill` is locked by whoever fills, so that a second pod waits for a whole
//! volume; it belongs to nobody of any pod, so that no app that lives with the volume can hold the
//! lock. The volume's own date comes last, as the area's going changes it: a pod that starts in
//! between finds all else, and the present date. Each pod looks once, at its first start: what an app has emptied stays empty.
//!
//! Ids are those on the disk on both sides, which are the pod's. Everything is reached by
//! descriptor, one name at a time and never through a link: the image is hostile, and a volume may
//! be in the hands of a living pod. Sockets are left out, and devices, of which images have none.

mod copy;

use std::os::fd::OwnedFd;

use nix::unistd::{Uid, setfsuid};
use pod_abi::layout;
use pod_sys::open_in_root;
use rustix::fs::{
    Access, AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, RenameFlags, Stat, accessat, flock,
    fstat, mkdirat, openat, renameat, renameat_with, statat, syncfs, unlinkat,
};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, unmount};
use rustix::thread::{capabilities, set_capabilities};
use supervisor::{During, Failure};

use crate::overlay::{Layers, mount_layers};
use crate::plan::Filling;

use self::copy::{Copier, MAX_DEPTH};

/// What lies in a volume while it is filled. An image's entry of this name is not copied.
const AREA: &str = ".pod-fill";
const CONTENT: &str = "content";
const WHOLE: &str = "whole";

/// Who owns the area: the first user id on a disk that no pod has, whose apps therefore can
/// neither enter the area nor make one.
const KEEPER: u32 = 65_536;

/// How deep the area may be: what is copied lies one directory beneath it.
const AREA_DEPTH: usize = MAX_DEPTH + 1;

/// How often the area is looked for while others make and remove it.
const TRIES: usize = 64;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Returns where the layers are staged for a filling.
pub(crate) fn layers_path(filling: &Filling) -> String {
    format!("fill-{}", filling.volume)
}

/// Fills a volume if it is empty and this pod has not looked at it before. The working directory
/// is the staging area; `pod` is the pod's directory.
///
/// # Errors
///
/// What could not be copied. The volume is as empty as before for whoever looks at it next.
pub(crate) fn fill(pod: &OwnedFd, filling: &Filling) -> Result<(), Failure> {
    let name = &filling.volume;
    let looked = layout::filled(name);
    if accessat(pod, &looked, Access::EXISTS, AtFlags::empty()).is_ok() {
        return Ok(());
    }
    let filling_it = || format!("cannot fill volume `{name}` from `{}` of the image", filling.path);
    let volume = match &filling.host {
        Some(path) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            openat(CWD, path, flags, Mode::empty())
        }
        None => openat(pod, layout::volume(name), DIRECTORY, Mode::empty()),
    };
    let volume = volume.during(filling_it)?;
    if State::of(&volume).during(filling_it)? != State::Used {
        let source = Source::mount(filling)?;
        let filled = source.directory(filling).and_then(|found| match found {
            None => Ok(()),
            Some(directory) => transfer(&directory, &volume, filling),
        });
        source.unmount();
        filled?;
    }
    for (path, mode) in [(layout::FILLED, 0o700), (looked.as_str(), 0o700)] {
        match mkdirat(pod, path, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).during(|| format!("cannot make `{path}` of the pod")),
        }
    }
    Ok(())
}

/// The image, mounted for a moment.
struct Source {
    place: String,
}

impl Source {
    fn mount(filling: &Filling) -> Result<Self, Failure> {
        let (staged, links) = (layers_path(filling), format!("links-{}", filling.volume));
        let place = format!("image-{}", filling.volume);
        let whose = format!("volume `{}`", filling.volume);
        let making = || format!("cannot make a place for the image of {whose}");
        mkdirat(CWD, &place, Mode::from_raw_mode(0o700)).during(making)?;
        // Overlayfs without a writable layer takes two layers or more; an empty one harms none.
        let empty = format!("empty-{}", filling.volume);
        mkdirat(CWD, &empty, Mode::from_raw_mode(0o755)).during(making)?;
        let layers =
            Layers { whose: &whose, links: &links, beneath: &staged, names: &filling.layers };
        mount_layers(&layers, &place, &format!(":../{empty}"), MountFlags::RDONLY)?;
        Ok(Self { place })
    }

    /// Returns the directory in the image, if it has one there.
    fn directory(&self, filling: &Filling) -> Result<Option<OwnedFd>, Failure> {
        let looking = || format!("cannot look for `{}` in the image", filling.path);
        let root = openat(CWD, &self.place, DIRECTORY, Mode::empty()).during(looking)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        match open_in_root(&root, filling.path.relative(), flags) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error).during(looking),
        }
    }

    fn unmount(self) {
        // It goes with the namespace, too.
        let _ = unmount(self.place.as_str(), UnmountFlags::DETACH);
    }
}

/// What a volume holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing.
    Empty,
    /// What somebody fills, or died over.
    Filling,
    /// Something of its own.
    Used,
}

impl State {
    fn of(volume: &OwnedFd) -> rustix::io::Result<Self> {
        let mut state = Self::Empty;
        for entry in Dir::read_from(volume)? {
            match entry?.file_name().to_bytes() {
                // The last is what `mkfs` leaves in every file system.
                b"." | b".." | b"lost+found" => {}
                name if name == AREA.as_bytes() => {
                    match statat(volume, AREA, AtFlags::SYMLINK_NOFOLLOW) {
                        Ok(stat) if is_kept(&stat) => return Ok(Self::Filling),
                        Err(Errno::NOENT) => {}
                        Ok(_) | Err(_) => state = Self::Used,
                    }
                }
                _ => state = Self::Used,
            }
        }
        Ok(state)
    }
}

/// Copies `from` into the volume, or goes on where somebody has died over it.
fn transfer(from: &OwnedFd, volume: &OwnedFd, filling: &Filling) -> Result<(), Failure> {
    let name = &filling.volume;
    let during = || format!("cannot fill volume `{name}` from `{}` of the image", filling.path);
    let (area, resumed) = match area(volume).during(during)? {
        Found::Used => return Ok(()),
        Found::UsedByNow => return copy::date(from, volume).during(during),
        Found::Copied(area) => (area, true),
        Found::Empty(area) => (area, false),
    };
    if !resumed {
        let copied = copy_whole(from, &area, filling);
        if copied.is_err() {
            // Whatever is left is thrown away by the next one.
            let _ = remove(&area, CONTENT, AREA_DEPTH).and_then(|()| remove_area(volume));
        }
        copied?;
    }
    let whole = openat(&area, WHOLE, DIRECTORY, Mode::empty()).during(during)?;
    move_up(&whole, volume).during(during)?;
    copy::metadata(from, volume).during(during)?;
    drop(whole);
    remove(&area, WHOLE, AREA_DEPTH).and_then(|()| remove_area(volume)).during(during)?;
    // What was just removed was an entry, too.
    copy::date(from, volume).during(during)
}

fn copy_whole(from: &OwnedFd, area: &OwnedFd, filling: &Filling) -> Result<(), Failure> {
    let during = || format!("cannot copy `{}` of the image", filling.path);
    remove(area, CONTENT, AREA_DEPTH).during(during)?;
    mkdirat(area, CONTENT, Mode::from_raw_mode(0o700)).during(during)?;
    let content = openat(area, CONTENT, DIRECTORY, Mode::empty()).during(during)?;
    Copier::new(&content).copy(from).map_err(|failure| failure.code("volume.fill"))?;
    if filling.host.is_some() {
        // Durable before visible: what outlives the pod must not be half of something.
        syncfs(&content).during(during)?;
    }
    renameat(area, CONTENT, area, WHOLE).during(during)
}

/// What there is to do in a volume, with the area, locked, where there is something.
#[derive(Debug)]
enum Found {
    /// Nothing; it was not touched.
    Used,
    /// Nothing, but an area was made and removed again before that showed.
    UsedByNow,
    /// All of it.
    Empty(OwnedFd),
    /// What is behind the copying.
    Copied(OwnedFd),
}

/// Makes and locks the area, unless the volume is used by now.
fn area(volume: &OwnedFd) -> rustix::io::Result<Found> {
    for _ in 0..TRIES {
        match State::of(volume)? {
            State::Used => return Ok(Found::Used),
            // Made now, it might come into a volume that somebody has just filled.
            State::Filling => {}
            State::Empty => match make_area(volume) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            },
        }
        let area = match openat(volume, AREA, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => continue,
            area => area?,
        };
        if !is_kept(&fstat(&area)?) {
            continue; // an app has put its own there
        }
        rustix::io::retry_on_intr(|| flock(&area, FlockOperation::LockExclusive))?;
        let there = statat(volume, AREA, AtFlags::SYMLINK_NOFOLLOW);
        let is_ours = |stat: &Stat| fstat(&area).is_ok_and(|own| own.st_ino == stat.st_ino);
        if !there.is_ok_and(|stat| is_ours(&stat)) {
            continue; // whoever held it has filled the volume, and removed it
        }
        if accessat(&area, WHOLE, Access::EXISTS, AtFlags::empty()).is_ok() {
            return Ok(Found::Copied(area));
        }
        let others = Dir::read_from(volume)?.filter_map(Result::ok).any(|entry| {
            let name = entry.file_name().to_bytes();
            ![b"." as &[u8], b"..", b"lost+found", AREA.as_bytes()].contains(&name)
        });
        if !others {
            return Ok(Found::Empty(area));
        }
        remove(&area, CONTENT, AREA_DEPTH)?;
        remove_area(volume)?;
        return Ok(Found::UsedByNow);
    }
    Err(Errno::BUSY)
}

/// Makes the area. It is born as its keeper's: were it given away later, an app could be inside by
/// then.
fn make_area(volume: &OwnedFd) -> rustix::io::Result<()> {
    let sets = capabilities(None)?;
    let own = setfsuid(Uid::from_raw(KEEPER));
    // With the user went what root may do to files of others.
    let made = set_capabilities(None, sets)
        .and_then(|()| mkdirat(volume, AREA, Mode::from_raw_mode(0o700)));
    setfsuid(own);
    made
}

/// Tells whether this is an area of ours, and nothing an app has made.
fn is_kept(stat: &Stat) -> bool {
    stat.st_uid == KEEPER
}

fn remove_area(volume: &OwnedFd) -> rustix::io::Result<()> {
    unlinkat(volume, AREA, AtFlags::REMOVEDIR)
}

/// Moves every entry up. One that is there already has been moved before, or is an app's.
fn move_up(whole: &OwnedFd, volume: &OwnedFd) -> rustix::io::Result<()> {
    for entry in Dir::read_from(whole)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") || name.to_bytes() == AREA.as_bytes() {
            continue;
        }
        match renameat_with(whole, name, volume, name, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Removes `name` beneath `directory` with all that is in it, if it is there.
fn remove(
    directory: &OwnedFd,
    name: impl rustix::path::Arg + Copy,
    depth: usize,
) -> rustix::io::Result<()> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let deeper = depth.checked_sub(1).ok_or(Errno::NAMETOOLONG)?;
    let inner = openat(directory, name, DIRECTORY, Mode::empty())?;
    for entry in Dir::read_from(&inner)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            remove(&inner, entry.file_name(), deeper)?;
        }
    }
    unlinkat(directory, name, AtFlags::REMOVEDIR)
}
