//! The records of apps that come and go: their directories, and the list of them.
//!
//! At any moment a crash leaves the old list or the new one. A directory that is in no list is
//! nobody's: it is put aside when its name is wanted again, and goes with the pod at the latest.
//! Put aside means renamed to what is no app's name; `pod` sweeps such directories, for a large
//! tree would take longer to remove than a supervisor may take for anything.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;

use pod_abi::app::AppSpec;
use pod_abi::manifest::AppList;
use pod_abi::stage::Order;
use pod_abi::{AppName, credential, layout, version};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, chmodat, mkdirat, openat, renameat_with};
use rustix::io::Errno;

use crate::error::{During, Failure};
use crate::whole::Prepared;

/// The name a list has until it is whole.
const LIST_TEMPORARY: &str = ".apps.json.tmp";

/// The most directories of one app that wait to be swept.
const MAX_ASIDE: u32 = 1000;

/// Returns an app as PID 1 is to know it: with the name of each socket it is given, as often as
/// there is one of that name.
pub(crate) fn as_given(order: &Order, spec: &AppSpec) -> AppSpec {
    let taken = credential::taken(&spec.sockets, &order.sockets);
    let sockets = taken.into_iter().map(|at| order.sockets[at].clone()).collect();
    AppSpec { sockets, ..spec.clone() }
}

/// Makes the directory of a new app with its specification.
///
/// # Errors
///
/// What could not be made; nothing of it is left under the app's name.
pub(crate) fn make(pod: BorrowedFd<'_>, spec: &AppSpec) -> Result<(), Failure> {
    put_aside(pod, &spec.name)?;
    let made = make_parts(pod, spec);
    if made.is_err() {
        // What stays is in no list.
        let _ = put_aside(pod, &spec.name);
    }
    made
}

fn make_parts(pod: BorrowedFd<'_>, spec: &AppSpec) -> Result<(), Failure> {
    let directory = layout::app(&spec.name);
    let making = |path: &str| format!("cannot make `{path}` of the pod");
    // The root of an app has the mode of its upper directory; images expect it to be passable.
    let parts = [("", 0o700), (layout::UPPER, 0o755), (layout::WORK, 0o700), (layout::LOG, 0o700)];
    for (part, mode) in parts {
        let path = format!("{directory}/{part}");
        let mode = Mode::from_raw_mode(mode);
        mkdirat(pod, &path, mode).during(|| making(&path))?;
        chmodat(pod, &path, mode, AtFlags::empty()).during(|| making(&path))?;
    }
    let path = layout::app_spec(&spec.name, 0);
    let text = serde_json::to_vec(spec).map_err(io::Error::other).during(|| making(&path))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = openat(pod, &path, flags, Mode::from_raw_mode(0o600)).during(|| making(&path))?;
    File::from(file).write_all(&text).during(|| making(&path))
}

/// Puts the directory of an app aside, if there is one.
///
/// # Errors
///
/// What could not be done.
pub(crate) fn put_aside(pod: BorrowedFd<'_>, name: &AppName) -> Result<(), Failure> {
    let from = layout::app(name);
    for number in 0..MAX_ASIDE {
        let to = format!("{}/{}{name}.{number}", layout::APPS, layout::ASIDE);
        match renameat_with(pod, &from, pod, &to, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(Failure::of(format!("cannot rename `{from}`"), error)),
        }
    }
    Err(Failure::new(format!("too many directories of app `{name}` wait to be removed"))
        .hint("`pod gc` removes them"))
}

/// Replaces the list of apps; a reader sees the old one or the new. After a power cut, too.
///
/// # Errors
///
/// What could not be done; the old list is still there, whole.
pub(crate) fn write_list(pod: BorrowedFd<'_>, apps: Vec<AppName>) -> Result<(), Failure> {
    let list = AppList { version: version::MANIFEST, apps };
    Prepared::write(pod, LIST_TEMPORARY.to_owned(), layout::APP_LIST.to_owned(), &list)?.commit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn what_is_put_aside_leaves_its_name_free_and_keeps_its_content() {
        let directory = std::env::temp_dir().join(format!("pod-apps-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("apps/web/upper")).unwrap();
        let pod = File::open(&directory).unwrap();
        let web = AppName::parse("web").unwrap();
        put_aside(pod.as_fd(), &web).unwrap();
        put_aside(pod.as_fd(), &web).unwrap();
        std::fs::create_dir(directory.join("apps/web")).unwrap();
        put_aside(pod.as_fd(), &web).unwrap();
        assert!(directory.join("apps/.removed-web.0/upper").is_dir());
        assert!(directory.join("apps/.removed-web.1").is_dir());
        assert!(!directory.join("apps/web").exists());
        write_list(pod.as_fd(), vec![web]).unwrap();
        let text = std::fs::read_to_string(directory.join("apps.json")).unwrap();
        assert_eq!(text, r#"{"version":6,"apps":["web"]}"#);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
