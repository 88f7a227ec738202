//! Limits of an app, written into its leaf, and the controllers they take, switched on above it.
//!
//! A cgroup that hands controllers down may hold no process itself, but the root. So, and only
//! then, the supervisor moves into a leaf beside the pod's. Where a limit cannot be had, nothing
//! has been started yet, and nothing is.

use std::collections::BTreeSet;
use std::path::Path;

use pod_abi::AppName;
use rustix::fs::{Access, AtFlags, Mode, OFlags, accessat, fgetxattr, mkdirat, openat, unlinkat};
use rustix::io::{Errno, read, write};
use supervisor::{During, Failure};

use super::{Cgroup, read_all};
use crate::plan::{AppPlan, Need, Quota};

/// Where the supervisor goes.
const SUPERVISOR: &str = "supervisor";

/// Marks a cgroup that systemd keeps its hands off; the first for everybody to see.
const DELEGATED: [&str; 2] = ["user.delegate", "trusted.delegate"];

/// The longest list of controllers or members read, in bytes.
const MAX_LIST: usize = 4096;

const HYBRID: &str = "cgroup v1 has this controller here: boot with `systemd.unified_cgroup_hierarchy=1`, or do without the limit";
const DELEGATE: &str = "run it in a unit with `Delegate=yes`, as in `systemd-run -p Delegate=yes pod run …`, or do without the limit";

/// Limits apps whose leaves are there; to be called again for apps that come later.
///
/// # Errors
///
/// `app.limit`, which names the app, what cannot be limited, and the way out.
pub(crate) fn enforce(cgroup: Option<&mut Cgroup>, apps: &[AppPlan]) -> Result<(), Failure> {
    let Some(first) = apps.iter().find(|app| !app.quotas.is_empty()) else { return Ok(()) };
    let limited = |app: &AppName, what: &str| format!("app `{app}` cannot be limited: {what}");
    let refuse = |failure: Failure| failure.code("app.limit");
    let Some(cgroup) = cgroup else {
        let what = limited(&first.name, "this host has no cgroup v2 that can be written");
        return Err(refuse(Failure::new(what).hint(HYBRID)));
    };
    let wanted: BTreeSet<_> =
        apps.iter().flat_map(|app| &app.quotas).map(|quota| quota.controller).collect();
    let there = cgroup.list("cgroup.controllers").map_err(refuse)?;
    if let Some(missing) = missing(&there, &wanted) {
        let asks = |app: &&AppPlan| app.quotas.iter().any(|quota| quota.controller == missing);
        let name = apps.iter().find(asks).map_or(&first.name, |app| &app.name);
        let own = read_all("/proc/self/cgroup").unwrap_or_default();
        let what = limited(name, &format!("controller `{missing}` is not there in its cgroup"));
        return Err(refuse(Failure::new(what).hint(way_out(&own, missing))));
    }
    if !cgroup.is_ours_to_divide() {
        let what = limited(&first.name, "systemd has not handed its cgroup over");
        return Err(refuse(Failure::new(what).hint(DELEGATE)));
    }
    cgroup.divide(&wanted).map_err(refuse)?;
    for app in apps {
        app.quotas.iter().try_for_each(|quota| cgroup.write_quota(&app.name, quota))?;
    }
    Ok(())
}

/// Returns the first controller that is not in the list.
fn missing(there: &str, wanted: &BTreeSet<&'static str>) -> Option<&'static str> {
    let there: BTreeSet<&str> = there.split_whitespace().collect();
    wanted.iter().find(|one| !there.contains(*one)).copied()
}

/// Returns what helps against a controller that is missing, given `/proc/self/cgroup`.
fn way_out(own: &str, controller: &str) -> &'static str {
    let of_v1 = own.lines().filter_map(|line| line.split(':').nth(1));
    let held = of_v1.flat_map(|list| list.split(',')).any(|one| one == controller);
    if held { HYBRID } else { DELEGATE }
}

impl Cgroup {
    fn list(&self, file: &str) -> Result<String, Failure> {
        let reading = || format!("cannot read `{file}` of our cgroup");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let list = openat(&self.ours, file, flags, Mode::empty()).during(reading)?;
        let mut text = [0; MAX_LIST];
        let count = read(&list, &mut text[..]).during(reading)?;
        Ok(String::from_utf8_lossy(&text[..count]).into_owned())
    }

    fn put(&self, file: &str, value: &str) -> rustix::io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        write(openat(&self.ours, file, flags, Mode::empty())?, value.as_bytes()).map(drop)
    }

    fn is_root(&self) -> bool {
        accessat(&self.ours, "cgroup.type", Access::EXISTS, AtFlags::empty()).is_err()
    }

    /// Tells whether nobody else manages the cgroup we are in.
    fn is_ours_to_divide(&self) -> bool {
        if self.is_root() || !Path::new("/run/systemd/system").is_dir() {
            return true;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(ours) = openat(&self.ours, ".", flags, Mode::empty()) else { return false };
        DELEGATED.iter().any(|mark| fgetxattr(&ours, *mark, &mut [0_u8; 8][..]).is_ok())
    }

    /// Hands controllers down to the leaves.
    fn divide(&mut self, wanted: &BTreeSet<&'static str>) -> Result<(), Failure> {
        if !self.is_root() && !self.moved {
            self.move_aside()?;
        }
        let switched: Vec<String> = wanted.iter().map(|one| format!("+{one}")).collect();
        let switched = switched.join(" ");
        let pod = format!("{}/pod", self.name);
        for directory in [".", self.name.as_str(), pod.as_str()] {
            let file = format!("{directory}/cgroup.subtree_control");
            self.put(&file, &switched)
                .during(|| format!("cannot write `{switched}` to `{file}`"))?;
        }
        self.controllers.extend(wanted);
        Ok(())
    }

    /// Leaves the cgroup that is to be divided, which must hold no other process.
    fn move_aside(&mut self) -> Result<(), Failure> {
        let own = std::process::id().to_string();
        if let Some(other) = self.list("cgroup.procs")?.lines().find(|pid| *pid != own) {
            let what =
                format!("no limit can be set: process {other} is in the cgroup of the pod, too");
            return Err(Failure::new(what).hint(DELEGATE));
        }
        match mkdirat(&self.ours, SUPERVISOR, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).during(|| "cannot make cgroup `supervisor`"),
        }
        self.moved = true;
        self.put(&format!("{SUPERVISOR}/cgroup.procs"), "0")
            .during(|| "cannot move into cgroup `supervisor`")
    }

    fn write_quota(&self, app: &AppName, quota: &Quota) -> Result<(), Failure> {
        let file = format!("{}/pod/app-{app}/{}", self.name, quota.file);
        match self.put(&file, &quota.value) {
            Err(Errno::NOENT) if quota.need == Need::May => Ok(()),
            done => done
                .during(|| format!("app `{app}` cannot be limited: cannot write {quota}"))
                .map_err(|failure| failure.code("app.limit")),
        }
    }

    /// Goes back to where the supervisor was, so that what was made for it can go. What others
    /// still divide stays as it is.
    pub(super) fn move_back(&self) {
        if !self.moved {
            return;
        }
        let switched: Vec<String> = self.controllers.iter().map(|one| format!("-{one}")).collect();
        // Whoever divides it still will remove it at last: systemd, or the next pod in it.
        let _ = self
            .put("cgroup.subtree_control", &switched.join(" "))
            .and_then(|()| self.put("cgroup.procs", "0"))
            .and_then(|()| unlinkat(&self.ours, SUPERVISOR, AtFlags::REMOVEDIR));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_that_is_missing_is_named() {
        let wanted = BTreeSet::from(["cpu", "memory"]);
        assert_eq!(missing("cpuset cpu io memory pids\n", &wanted), None);
        assert_eq!(missing("cpuset io memory\n", &wanted), Some("cpu"));
        assert_eq!(missing("hugetlb", &wanted), Some("cpu"));
        assert_eq!(missing("", &BTreeSet::new()), None);
    }

    #[test]
    fn the_way_out_depends_on_who_has_the_controller() {
        let hybrid = "5:devices:/\n4:cpu,cpuacct:/x\n0::/user.slice\n";
        assert_eq!(way_out(hybrid, "cpu"), HYBRID);
        assert_eq!(way_out(hybrid, "memory"), DELEGATE);
        assert_eq!(way_out("0::/user.slice/session-1.scope\n", "cpu"), DELEGATE);
    }
}
