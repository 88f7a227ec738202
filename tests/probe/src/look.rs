//! Looks around: fills the [`Report`] from `/proc` and a few harmless system calls.
//!
//! Everything is read before anything is written, so that the report's own output is no part of
//! it. Nothing here fails: what cannot be read is left empty.

use std::collections::BTreeMap;
use std::{env, fs};

use nix::unistd;

use crate::{Mount, Report};

/// Looks at everything.
#[must_use]
pub fn around() -> Report {
    Report {
        pid: unistd::getpid().as_raw(),
        parent: unistd::getppid().as_raw(),
        session: unistd::getsid(None).map_or(-1, unistd::Pid::as_raw),
        args: env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect(),
        environment: environment(),
        cwd: env::current_dir().map(|dir| dir.display().to_string()).unwrap_or_default(),
        status: status(),
        limits: limits(&text("/proc/self/limits")),
        namespaces: links_in("/proc/self/ns"),
        descriptors: descriptors(),
        mounts: text("/proc/self/mountinfo").lines().filter_map(mount).collect(),
        links: network_links(),
        processes: processes(),
        hostname: unistd::gethostname()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        cgroup: text("/proc/self/cgroup").trim().to_owned(),
        oom_score_adj: text("/proc/self/oom_score_adj").trim().to_owned(),
        uid_map: squeezed("/proc/self/uid_map"),
        gid_map: squeezed("/proc/self/gid_map"),
    }
}

/// Returns the names of the sockets this process was handed, as `sd_listen_fds_with_names(3)` does:
/// `None` if they are for another process, or what is said of them makes no sense.
#[must_use]
pub fn sockets() -> Option<Vec<String>> {
    let pid: i32 = env::var("LISTEN_PID").ok()?.parse().ok()?;
    let count: usize = env::var("LISTEN_FDS").ok()?.parse().ok()?;
    let names = env::var("LISTEN_FDNAMES").ok()?;
    let names: Vec<String> = names.split(':').map(str::to_owned).collect();
    (pid == unistd::getpid().as_raw() && names.len() == count).then_some(names)
}

fn text(path: &str) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn squeezed(path: &str) -> String {
    let lines = text(path);
    let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    lines.lines().map(line).collect::<Vec<_>>().join(", ")
}

fn environment() -> Vec<String> {
    let bytes = fs::read("/proc/self/environ").unwrap_or_default();
    let entries = bytes.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
    entries.map(|entry| String::from_utf8_lossy(entry).into_owned()).collect()
}

fn status() -> BTreeMap<String, String> {
    let squeeze = |value: &str| value.split_whitespace().collect::<Vec<_>>().join(" ");
    text("/proc/self/status")
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(field, value)| (field.to_owned(), squeeze(value)))
        .collect()
}

/// Parses `/proc/PID/limits`, whose columns are padded with blanks and whose names contain some.
fn limits(table: &str) -> BTreeMap<String, (String, String)> {
    const NAME_WIDTH: usize = 26;
    let row = |line: &str| {
        let (name, rest) = line.split_at_checked(NAME_WIDTH)?;
        let mut columns = rest.split_whitespace();
        Some((name.trim().to_owned(), (columns.next()?.to_owned(), columns.next()?.to_owned())))
    };
    table.lines().skip(1).filter_map(row).collect()
}

fn links_in(directory: &str) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?;
            let name = entry.file_name().to_string_lossy().into_owned();
            Some((name, target.to_string_lossy().into_owned()))
        })
        .collect()
}

/// Lists what is open, less the descriptor of the directory that is being read.
fn descriptors() -> BTreeMap<i32, String> {
    let own = format!("/proc/{}/fd", unistd::getpid());
    let open = links_in("/proc/self/fd").into_iter().filter(|(_, target)| *target != own);
    open.filter_map(|(number, target)| Some((number.parse().ok()?, target))).collect()
}

fn mount(line: &str) -> Option<Mount> {
    let words: Vec<&str> = line.split(' ').collect();
    let dash = words.iter().position(|word| *word == "-")?;
    let list = |word: &str| word.split(',').map(str::to_owned).collect();
    Some(Mount {
        point: (*words.get(4)?).to_owned(),
        root: (*words.get(3)?).to_owned(),
        options: list(words.get(5)?),
        propagation: words.get(6..dash)?.iter().map(|word| (*word).to_owned()).collect(),
        kind: (*words.get(dash + 1)?).to_owned(),
        source: (*words.get(dash + 2)?).to_owned(),
        super_options: list(words.get(dash + 3)?),
    })
}

fn network_links() -> Vec<String> {
    let table = text("/proc/self/net/dev");
    let names = table.lines().skip(2).filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.trim().to_owned()).collect()
}

fn processes() -> BTreeMap<i32, String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .map(|pid| (pid, text(&format!("/proc/{pid}/comm")).trim().to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo_is_taken_apart() {
        let line = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let mount = mount(line).unwrap();
        assert_eq!((mount.root.as_str(), mount.point.as_str()), ("/mnt1", "/mnt2"));
        assert_eq!((mount.kind.as_str(), mount.source.as_str()), ("ext3", "/dev/root"));
        assert_eq!(mount.propagation, ["master:1"]);
        assert!(mount.has("noatime"));
    }

    #[test]
    fn limits_have_names_with_blanks() {
        let table = "Limit                     Soft Limit           Hard Limit           Units     \n\
                     Max open files            1024                 524288               files     \n";
        let (soft, hard) = &limits(table)["Max open files"];
        assert_eq!((soft.as_str(), hard.as_str()), ("1024", "524288"));
    }

    #[test]
    fn the_report_lists_no_descriptor_of_its_own() {
        let before = descriptors();
        assert_eq!(before, descriptors());
        assert!(before.contains_key(&0));
    }
}
