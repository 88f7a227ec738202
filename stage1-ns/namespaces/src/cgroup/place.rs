//! Where a pod's cgroup is: decided by where we are, what we are to our unit, and whether systemd
//! keeps its hands off.

use std::os::fd::OwnedFd;

use rustix::fs::fgetxattr;

/// Marks a cgroup that systemd keeps its hands off; the first for everybody to see.
const HANDED_OVER: [&str; 2] = ["user.delegate", "trusted.delegate"];

/// Where the pod's directories are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the directory of the unit whose main process we are.
    Unit {
        /// Whether we were born beside them (`DelegateSubgroup=`), and need not go there.
        aside: bool,
    },
    /// In a directory of this name, beneath our own.
    Beneath(String),
}

impl Place {
    /// Returns the directory made for the pod alone, if there is one.
    pub(super) fn own(&self) -> Option<&str> {
        match self {
            Self::Unit { .. } => None,
            Self::Beneath(name) => Some(name),
        }
    }

    /// Returns the path of one of its directories.
    pub(super) fn beneath(&self, directory: &str) -> String {
        match self {
            Self::Unit { .. } => directory.to_owned(),
            Self::Beneath(name) => format!("{name}/{directory}"),
        }
    }
}

/// Returns the cgroup of unit `unit`, if `ours` is that of its main process, and the place the pod
/// has in it.
pub(super) fn of_unit<'p>(ours: &'p str, unit: &str) -> Option<(&'p str, Place)> {
    let (parent, name) = ours.rsplit_once('/')?;
    if name == unit {
        return Some((ours, Place::Unit { aside: false }));
    }
    // A leaf of this name would be the pod's.
    let apart = parent.rsplit_once('/').is_some_and(|(_, name)| name == unit) && name != "pod";
    apart.then_some((parent, Place::Unit { aside: true }))
}

/// Tells whether systemd keeps its hands off what is beneath a cgroup.
pub(super) fn is_handed_over(directory: &OwnedFd) -> bool {
    HANDED_OVER.iter().any(|mark| fgetxattr(directory, *mark, &mut [0_u8; 8][..]).is_ok())
}

/// Returns the directory of cgroup `ours`, if `line` of mountinfo is a cgroup2 mount it is in.
pub(super) fn directory(line: &str, ours: &str) -> Option<String> {
    let (mount, file_system) = line.split_once(" - ")?;
    if !file_system.starts_with("cgroup2 ") {
        return None;
    }
    let mut fields = mount.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let beneath = match root {
        "/" => ours,
        root => ours.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with('/'))?,
    };
    if point.contains('\\') || beneath.split('/').any(|part| part == "..") {
        return None;
    }
    Some(format!("{point}{beneath}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_directory_is_found_beneath_the_mount_it_is_in() {
        let line = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
        assert_eq!(directory(line, "/").as_deref(), Some("/sys/fs/cgroup/unified/"));
        assert_eq!(directory(line, "/a/b").as_deref(), Some("/sys/fs/cgroup/unified/a/b"));
        let line = "41 31 0:38 /a /mnt rw shared:3 - cgroup2 none rw";
        assert_eq!(directory(line, "/a/b").as_deref(), Some("/mnt/b"));
        assert_eq!(directory(line, "/ab"), None);
        assert_eq!(directory(line, "/a/../b"), None);
        assert_eq!(directory("32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw", "/"), None);
    }

    #[test]
    fn only_the_main_process_of_a_unit_has_its_directory() {
        let unit = "pod-web.service";
        let at = |ours| of_unit(ours, unit);
        let slice = "/machine.slice/machine-pods.slice/pod-web.service";
        assert_eq!(at(slice), Some((slice, Place::Unit { aside: false })));
        for name in ["supervisor", "main"] {
            let ours = format!("{slice}/{name}");
            let found = of_unit(&ours, unit);
            assert_eq!(found, Some((slice, Place::Unit { aside: true })), "{ours}");
        }
        for other in [
            "/",
            "",
            "/user.slice/session-1.scope",
            "/machine.slice/pod-web.service/pod",
            "/machine.slice/pod-web.service/a/b",
            "/machine.slice/xpod-web.service",
        ] {
            assert_eq!(of_unit(other, unit), None, "{other}");
        }
    }

    #[test]
    fn directories_lie_where_the_place_is() {
        let unit = Place::Unit { aside: false };
        assert_eq!((unit.own(), unit.beneath("pod/init").as_str()), (None, "pod/init"));
        let own = Place::Beneath("pod-x".to_owned());
        assert_eq!((own.own(), own.beneath("pod").as_str()), (Some("pod-x"), "pod-x/pod"));
    }
}
