//! Who is in the pod's cgroup: the processes of each leaf, and of what apps have made beneath.

use pod_abi::AppName;
use rustix::fs::{Dir, FileType};

use super::Cgroup;

/// How deep and how wide the tree beneath a leaf is looked at; a privileged app may make cgroups
/// without number.
const MAX_DEPTH: usize = 16;
const MAX_DIRECTORIES: usize = 4096;

impl Cgroup {
    /// Lists the processes of an app, or of all and of PID 1, each with its app. What ends meanwhile
    /// is passed over.
    pub(crate) fn members(&self, app: Option<&AppName>) -> Vec<(u32, Option<AppName>)> {
        let leaves = self.directories.iter().filter_map(|directory| {
            let name = directory.rsplit('/').next()?;
            let of = name.strip_prefix("app-").and_then(|name| AppName::parse(name).ok());
            let wanted =
                if of.is_some() { app.is_none() || of.as_ref() == app } else { app.is_none() };
            (wanted && (of.is_some() || name == "init")).then_some((directory, of))
        });
        let mut found = Vec::new();
        for (leaf, of) in leaves {
            found.extend(self.all_in(leaf).into_iter().map(|pid| (pid, of.clone())));
        }
        found
    }

    /// Lists the processes in a directory and in those beneath it.
    fn all_in(&self, directory: &str) -> Vec<u32> {
        let mut found = Vec::new();
        let mut left = vec![(directory.to_owned(), 0)];
        let mut seen = 0;
        while let Some((path, depth)) = left.pop() {
            let members = self.get(&format!("{path}/cgroup.procs")).unwrap_or_default();
            found.extend(members.lines().filter_map(|pid| pid.parse::<u32>().ok()));
            let entries = self.open(&path).ok().and_then(|open| Dir::read_from(open).ok());
            for entry in entries.into_iter().flatten().filter_map(Result::ok) {
                let is_beneath = entry.file_type() == FileType::Directory
                    && ![c".", c".."].contains(&entry.file_name());
                if is_beneath && depth < MAX_DEPTH && seen < MAX_DIRECTORIES {
                    seen += 1;
                    left.push((
                        format!("{path}/{}", entry.file_name().to_string_lossy()),
                        depth + 1,
                    ));
                }
            }
        }
        found
    }
}
