//! Limits, written into the files of cgroups, and the controllers they take, handed down above.
//!
//! A cgroup that hands controllers down may hold no process itself, but the root. In a unit the
//! supervisor has left its directory anyway; elsewhere it moves into a leaf beside the pod's only if
//! something is to be limited. Where a limit cannot be had, nothing has been started yet, and
//! nothing is.

use std::collections::BTreeSet;
use std::path::Path;

use pod_abi::AppName;
use rustix::fs::{Access, AtFlags, accessat, unlinkat};
use rustix::io::Errno;
use supervisor::{During, Failure};

use super::files::read_all;
use super::met::{is_met, members};
use super::place::{Place, is_handed_over};
use super::{Cgroup, SUPERVISOR};
use crate::plan::{Need, Plan, Quota};

/// Controllers that only count unless told to limit: where a cgroup is ours to divide anyway, each
/// app has its own count.
const COUNTING: [&str; 3] = ["io", "memory", "pids"];

const HYBRID: &str = "cgroup v1 has this controller here: boot with `systemd.unified_cgroup_hierarchy=1`, or do without the limit";
const DELEGATE: &str = "run it in a unit with `Delegate=yes`, as in `systemd-run -p Delegate=yes pod run …`, or do without the limit";

/// Something that is to be limited: an app's or the pod's, and how.
pub(super) type Wish<'p> = (Option<&'p AppName>, &'p Quota);

/// Limits a pod and its apps, whose leaves are there; to be called again for apps that come later.
///
/// # Errors
///
/// `app.limit` or `pod.limit`: what cannot be limited, and the way out.
pub(crate) fn enforce(cgroup: Option<&mut Cgroup>, plan: &Plan) -> Result<(), Failure> {
    let of_pod = plan.quotas.iter().map(|quota| (None, quota));
    let of_apps = plan.apps.iter().flat_map(|app| {
        let name = Some(&app.name);
        app.quotas.iter().map(move |quota| (name, quota))
    });
    let wishes: Vec<Wish<'_>> = of_pod.chain(of_apps).collect();
    let Some(cgroup) = cgroup else { return nowhere(&wishes) };
    cgroup.hand_down(&wishes)?;
    for (whose, quota) in wishes {
        cgroup.limit(whose, quota)?;
    }
    for quota in &plan.passed_on {
        cgroup.write(&format!("{}/{}", cgroup.pod(), quota.file), None, quota)?;
    }
    cgroup.watch_memory(plan.apps.iter().map(|app| &app.name));
    Ok(())
}

/// Refuses whatever is wished for where there is no cgroup.
pub(super) fn nowhere(wishes: &[Wish<'_>]) -> Result<(), Failure> {
    let Some((whose, _)) = wishes.first() else { return Ok(()) };
    Err(refused(*whose, "this host has no cgroup v2 that can be written").hint(HYBRID))
}

/// Makes the refusal of a limit.
pub(super) fn refused(whose: Option<&AppName>, why: &str) -> Failure {
    match whose {
        Some(app) => {
            Failure::new(format!("app `{app}` cannot be limited: {why}")).code("app.limit")
        }
        None => Failure::new(format!("the pod cannot be limited: {why}")).code("pod.limit"),
    }
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
    /// Hands the controllers down that wishes take, and in a unit or a guest those that count.
    pub(super) fn hand_down(&mut self, wishes: &[Wish<'_>]) -> Result<(), Failure> {
        let wanted: BTreeSet<_> = wishes.iter().map(|(_, quota)| quota.controller).collect();
        let nothing_counts = self.counts && self.controllers.is_empty();
        if wanted.is_subset(&self.controllers) && !nothing_counts {
            return Ok(());
        }
        let there = self
            .get("cgroup.controllers")
            .during(|| "cannot read `cgroup.controllers` of our cgroup")?;
        if let Some(missing) = missing(&there, &wanted) {
            let asks = wishes.iter().find(|(_, quota)| quota.controller == missing);
            let whose = asks.and_then(|(whose, _)| *whose);
            let own = read_all("/proc/self/cgroup").unwrap_or_default();
            let what = format!("controller `{missing}` is not there in its cgroup");
            return Err(refused(whose, &what).hint(way_out(&own, missing)));
        }
        let mut switched = wanted.clone();
        if self.counts {
            let there: Vec<_> = there.split_whitespace().collect();
            switched.extend(COUNTING.iter().filter(|one| there.contains(one)));
        }
        let new: BTreeSet<_> = switched.difference(&self.controllers).copied().collect();
        let Some((whose, _)) = wishes.first().copied() else {
            // Nobody has asked; without it less is counted.
            let _ = self.divide(None, &new);
            return Ok(());
        };
        if !self.is_ours_to_divide() {
            let what = "systemd has not handed its cgroup over";
            return Err(refused(whose, what).hint(DELEGATE));
        }
        self.divide(whose, &new)
    }

    fn is_root(&self) -> bool {
        accessat(&self.ground, "cgroup.type", Access::EXISTS, AtFlags::empty()).is_err()
    }

    /// Tells whether nobody else manages the cgroup we are in.
    fn is_ours_to_divide(&self) -> bool {
        matches!(self.place, Place::Unit { .. })
            || self.is_root()
            || !Path::new("/run/systemd/system").is_dir()
            || is_handed_over(&self.ground)
    }

    /// Switches controllers on for the leaves, on all the way to them.
    fn divide(
        &mut self,
        whose: Option<&AppName>,
        new: &BTreeSet<&'static str>,
    ) -> Result<(), Failure> {
        if new.is_empty() {
            return Ok(());
        }
        if !self.is_root() {
            self.be_alone(whose)?;
        }
        let switched: Vec<String> = new.iter().map(|one| format!("+{one}")).collect();
        let (switched, pod) = (switched.join(" "), self.pod());
        let outer = self.place.own().map(str::to_owned);
        for directory in [Some(".".to_owned()), outer, Some(pod)].into_iter().flatten() {
            let file = format!("{directory}/cgroup.subtree_control");
            self.put(&file, &switched)
                .during(|| format!("cannot write `{switched}` to `{file}`"))?;
        }
        self.controllers.extend(new);
        Ok(())
    }

    /// Sees to it that no process is in the directory that is to be divided.
    fn be_alone(&mut self, whose: Option<&AppName>) -> Result<(), Failure> {
        let own = std::process::id().to_string();
        let members = self.get("cgroup.procs").during(|| "cannot read `cgroup.procs`")?;
        if let Some(other) = members.lines().find(|pid| *pid != own) {
            let what = format!("process {other} is in the cgroup of the pod, too");
            return Err(refused(whose, &what).hint(DELEGATE));
        }
        match self.place {
            Place::Beneath(_) if !self.moved => self.enter_aside(),
            Place::Beneath(_) | Place::Unit { .. } => Ok(()),
        }
    }

    /// Makes one limit hold.
    pub(super) fn limit(&self, whose: Option<&AppName>, quota: &Quota) -> Result<(), Failure> {
        match self.target(whose, quota)? {
            Some(path) => self.write(&path, whose, quota),
            None => Ok(()),
        }
    }

    /// Returns the file a limit is to be written to, or none if it holds already.
    ///
    /// What limits a whole pod is written to its own directory. In a unit, that is the unit's and
    /// systemd's: what it says already holds, and whatever it does not say is said beneath it.
    /// But a share only counts against others beside the unit.
    pub(super) fn target(
        &self,
        whose: Option<&AppName>,
        quota: &Quota,
    ) -> Result<Option<String>, Failure> {
        if let Some(app) = whose {
            return Ok(Some(format!("{}/{}", self.leaf(app), quota.file)));
        }
        if let Some(own) = self.place.own() {
            return Ok(Some(format!("{own}/{}", quota.file)));
        }
        if self.get(quota.file).is_ok_and(|text| is_met(quota, &text)) {
            return Ok(None);
        }
        if quota.is_share() {
            let (what, property) = share(quota);
            let what = format!("its unit {what}, and only the unit can");
            let hint = format!("set `{property}` in the unit");
            return Err(refused(None, &what).hint(hint));
        }
        Ok(Some(format!("{}/{}", self.pod(), quota.file)))
    }

    /// Writes one limit.
    pub(super) fn write(
        &self,
        path: &str,
        whose: Option<&AppName>,
        quota: &Quota,
    ) -> Result<(), Failure> {
        let written = self.put(path, &quota.value);
        let written = match (&quota.need, written) {
            (Need::May, Err(Errno::NOENT)) => return Ok(()),
            (Need::Or(file, value), Err(Errno::NOENT)) => {
                self.put(&path.replace(quota.file, file), value)
            }
            (_, written) => written,
        };
        match written {
            Ok(()) => self.check_members(path, whose, quota),
            Err(Errno::NOENT) => {
                let what = format!("this kernel has no `{}`", quota.file);
                Err(refused(whose, &what).hint(of_kernel(quota)))
            }
            // Some that are not there are told apart by the kernel, others are not.
            Err(Errno::RANGE | Errno::INVAL) if quota.controller == "cpuset" => {
                let there = self.members_there(path)?;
                Err(not_all_there(whose, quota, &there))
            }
            Err(Errno::NODEV | Errno::NXIO) if let Some(device) = quota.device => {
                let what = format!("there is no disk {}:{}", device.major, device.minor);
                Err(refused(whose, &what).hint("name a whole disk, as `lsblk` shows it"))
            }
            Err(error) => {
                let what = refused(whose, &format!("cannot write {quota}")).report().message;
                let code = if whose.is_some() { "app.limit" } else { "pod.limit" };
                Err(Failure::of(what, error).code(code))
            }
        }
    }

    /// Refuses processors and nodes that are not there: the kernel takes them for a wish, and all
    /// others instead if it has none of them.
    fn check_members(
        &self,
        path: &str,
        whose: Option<&AppName>,
        quota: &Quota,
    ) -> Result<(), Failure> {
        if quota.controller != "cpuset" {
            return Ok(());
        }
        let there = self.members_there(path)?;
        if members(&there) == members(&quota.value) {
            return Ok(());
        }
        Err(not_all_there(whose, quota, &there))
    }

    /// Returns the list of what a cgroup has of what `path` names.
    fn members_there(&self, path: &str) -> Result<String, Failure> {
        let file = format!("{path}.effective");
        let there = self.get(&file).during(|| format!("cannot read `{file}`"))?;
        Ok(there.trim().to_owned())
    }

    /// Goes back to where the supervisor was, so that what was made for it can go. What others
    /// still divide stays as it is.
    pub(super) fn move_back(&self) {
        let switched: Vec<String> = self.controllers.iter().map(|one| format!("-{one}")).collect();
        // Whoever divides it still will remove it at last: systemd, or the next pod in it.
        let _ = self
            .put("cgroup.subtree_control", &switched.join(" "))
            .and_then(|()| self.put("cgroup.procs", "0"))
            .and_then(|()| unlinkat(&self.ground, SUPERVISOR, AtFlags::REMOVEDIR));
    }
}

fn not_all_there(whose: Option<&AppName>, quota: &Quota, there: &str) -> Failure {
    let what = match quota.file {
        "cpuset.cpus" => "processors",
        _ => "memory nodes",
    };
    let what = format!("{what} {} are not all there, only {there}", quota.value);
    refused(whose, &what).hint(format!("choose from {there}"))
}

/// Returns what is wrong with a unit's share, and the property that mends it.
fn share(quota: &Quota) -> (&'static str, String) {
    let value = quota.value.trim_start_matches("default ");
    match quota.file {
        "cpu.weight" => ("has another share of processors", format!("CPUWeight={value}")),
        "io.weight" => ("has another share of disks", format!("IOWeight={value}")),
        _ => ("keeps less memory", format!("MemoryLow={value}")),
    }
}

/// Returns what helps against a file that the kernel does not have.
fn of_kernel(quota: &Quota) -> &'static str {
    match quota.file {
        "io.weight" => {
            "boot a kernel with `CONFIG_BLK_CGROUP_IOCOST` or `CONFIG_BFQ_GROUP_IOSCHED`, or do without the limit"
        }
        "memory.swap.max" => "boot without `swapaccount=0`, or do without the limit",
        _ => "boot a newer kernel, or do without the limit",
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
