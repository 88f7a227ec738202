//! Being told when memory has run out in an app.
//!
//! The kernel counts in `memory.events` of each leaf what it has killed there, and wakes whoever
//! watches the file (inotify). PID 1 is inside the boundary and sees only the end of an app's
//! process; this sees children that were killed, too.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use pod_abi::AppName;
use rustix::fs::inotify;

use super::Cgroup;

/// Who watches.
#[derive(Debug)]
pub(super) struct Alarm {
    inotify: OwnedFd,
    watched: BTreeMap<i32, Watched>,
}

#[derive(Debug)]
struct Watched {
    app: AppName,
    /// How many processes of it the kernel had killed when this was last read.
    kills: u64,
}

impl Alarm {
    /// Stops watching an app, whose leaf is about to go.
    pub(super) fn forget(&mut self, app: &AppName) {
        let ours = |watched: &Watched| watched.app == *app;
        self.watched.retain(|watch, watched| {
            let stays = !ours(watched);
            if !stays {
                // It goes with the file anyway.
                let _ = inotify::remove_watch(&self.inotify, *watch);
            }
            stays
        });
    }
}

impl Cgroup {
    /// Watches the leaves of apps that are not watched yet, if memory is counted there. Where it
    /// cannot be watched, what runs out is not recorded; nobody asked for that.
    pub(super) fn watch_memory<'n>(&mut self, apps: impl Iterator<Item = &'n AppName>) {
        if !self.controllers.contains("memory") {
            return;
        }
        for app in apps {
            let path = format!("{}/memory.events", self.leaf(app));
            // There is no call that takes a directory's descriptor.
            let place = format!("/proc/self/fd/{}/{path}", self.ground.as_raw_fd());
            let alarm = match self.alarm.take() {
                Some(alarm) => alarm,
                None => {
                    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
                    let Ok(inotify) = inotify::init(flags) else { return };
                    Alarm { inotify, watched: BTreeMap::new() }
                }
            };
            let alarm = self.alarm.insert(alarm);
            if alarm.watched.values().any(|watched| watched.app == *app) {
                continue;
            }
            let flags = inotify::WatchFlags::MODIFY;
            if let Ok(watch) = inotify::add_watch(&alarm.inotify, place, flags) {
                alarm.watched.insert(watch, Watched { app: app.clone(), kills: 0 });
            }
        }
    }

    /// Returns what becomes readable when something was counted.
    pub(crate) fn memory_alarm(&self) -> Option<BorrowedFd<'_>> {
        self.alarm.as_ref().map(|alarm| alarm.inotify.as_fd())
    }

    /// Tells where the kernel has killed since this was last asked.
    pub(crate) fn out_of_memory(&mut self) -> Vec<AppName> {
        let Some(mut alarm) = self.alarm.take() else { return Vec::new() };
        let mut space = [MaybeUninit::uninit(); 1024];
        let mut events = inotify::Reader::new(&alarm.inotify, &mut space);
        let mut touched = Vec::new();
        while let Ok(event) = events.next() {
            touched.push(event.wd());
        }
        let mut found = Vec::new();
        for (_, watched) in alarm.watched.iter_mut().filter(|(watch, _)| touched.contains(watch)) {
            let text = self.get(&format!("{}/memory.events", self.leaf(&watched.app)));
            let kills = text.ok().as_deref().and_then(kills).unwrap_or(watched.kills);
            if kills > watched.kills {
                watched.kills = kills;
                found.push(watched.app.clone());
            }
        }
        self.alarm = Some(alarm);
        found
    }
}

/// Returns how many processes were killed, by the text of `memory.events`.
pub(super) fn kills(events: &str) -> Option<u64> {
    events.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_told_from_failures_to_allocate() {
        let events = "low 1\nhigh 2\nmax 30\noom 4\noom_kill 5\noom_group_kill 6\n";
        assert_eq!(kills(events), Some(5));
        assert_eq!(kills("low 0\noom_group_kill 1\n"), None);
        assert_eq!(kills("oom_kill x\n"), None);
    }
}
