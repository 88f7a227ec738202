//! `pod doctor`: what this host can do, one line for each need, with what to change.
//!
//! Features are tried, never guessed from versions.

use std::ffi::CString;
use std::{fmt, fs};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2, statfs};
use serde::Serialize;

use crate::cgroup;
use crate::context::Context;
use crate::error::Result;
use crate::host;
use crate::stage1;
use crate::ui::{self, Format};

/// One need; `pod doctor -o json` prints an array of these.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    need: &'static str,
    state: State,
    found: String,
    fix: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Ok,
    Limited,
    Missing,
}

impl Finding {
    fn new(need: &'static str, ok: Option<String>, otherwise: State, fix: &'static str) -> Self {
        match ok {
            Some(found) => Self { need, state: State::Ok, found, fix: None },
            None => Self { need, state: otherwise, found: "not there".to_owned(), fix: Some(fix) },
        }
    }
}

/// Shows what this host can do. The status is 1 if pods cannot run.
///
/// # Errors
///
/// Only those of output.
pub(crate) fn doctor(context: &Context) -> Result<u8> {
    let findings = findings(context);
    match context.format {
        Format::Json => ui::json(&findings)?,
        Format::Table => ui::out(&text(&findings))?,
    }
    Ok(u8::from(findings.iter().any(|finding| finding.state == State::Missing)))
}

/// Looks at everything pods need of a host.
pub(super) fn findings(context: &Context) -> Vec<Finding> {
    vec![
        root(),
        kernel(),
        overlay(),
        user_namespaces(),
        cgroup2(),
        openat2_works(),
        seccomp(),
        landlock(),
        store(context),
        stage1_found(),
    ]
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.need, self.found)
    }
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let mark = match finding.state {
            State::Ok => "ok",
            State::Limited => "limited",
            State::Missing => "missing",
        };
        text.push_str(&format!("{mark:8} {}: {}\n", finding.need, finding.found));
        if let Some(fix) = finding.fix {
            text.push_str(&format!("         hint: {fix}\n"));
        }
    }
    text
}

fn root() -> Finding {
    let is_root = rustix::process::geteuid().is_root();
    Finding::new("root", is_root.then(|| "yes".to_owned()), State::Missing, "run `sudo pod doctor`")
}

fn kernel() -> Finding {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    Finding::new(
        "kernel 6.1 or newer",
        (version >= (6, 1)).then_some(release),
        State::Limited,
        "idmapped overlay layers may not work; `--userns host` does without",
    )
}

fn overlay() -> Finding {
    let known = host::text("/proc/filesystems").lines().any(|line| line.ends_with("\toverlay"));
    let module = fs::exists("/sys/module/overlay").unwrap_or(false);
    Finding::new(
        "overlay file system",
        (known || module).then(|| "yes".to_owned()),
        State::Missing,
        "`modprobe overlay`",
    )
}

fn user_namespaces() -> Finding {
    let limit = host::text("/proc/sys/user/max_user_namespaces");
    let limit: u64 = limit.trim().parse().unwrap_or(0);
    Finding::new(
        "user namespaces",
        (limit > 0).then(|| format!("up to {limit}")),
        State::Limited,
        "`sysctl user.max_user_namespaces=15000`; `--userns host` does without",
    )
}

fn cgroup2() -> Finding {
    let Some(mount) = cgroup::mount_point() else {
        return Finding::new(
            "cgroup v2",
            None,
            State::Limited,
            "boot with `systemd.unified_cgroup_hierarchy=1`; pods run without limits",
        );
    };
    let there = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
    let there: Vec<&str> = there.split_whitespace().collect();
    let missing = LIMITING.iter().filter(|controller| !there.contains(controller));
    let missing: Vec<&str> = missing.copied().collect();
    let place = mount.display();
    match &missing[..] {
        [] => Finding::new(
            "cgroup v2",
            Some(format!("at `{place}`, with {}", there.join(" "))),
            State::Limited,
            "",
        ),
        missing => Finding {
            need: "cgroup v2",
            state: State::Limited,
            found: format!("at `{place}`, without {}", missing.join(", ")),
            fix: Some(
                "boot with `systemd.unified_cgroup_hierarchy=1`; pods run, but not with \
                 `--cpus`, `--memory` or `--pids-limit` of what is not there",
            ),
        },
    }
}

/// The controllers of cgroup v2 that limits of apps need.
const LIMITING: &[&str] = &["cpu", "memory", "pids"];

fn openat2_works() -> Finding {
    let opened =
        openat2(CWD, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::BENEATH);
    Finding::new(
        "openat2",
        opened.is_ok().then(|| "yes".to_owned()),
        State::Missing,
        "a kernel of 5.6 or newer, and a sandbox around `pod` that allows it",
    )
}

fn seccomp() -> Finding {
    let actions = host::text("/proc/sys/kernel/seccomp/actions_avail");
    Finding::new(
        "seccomp filters",
        actions.contains("errno").then(|| "yes".to_owned()),
        State::Missing,
        "a kernel with CONFIG_SECCOMP_FILTER",
    )
}

fn landlock() -> Finding {
    Finding::new(
        "landlock",
        pod_sys::landlock_version().map(|version| format!("version {version}")),
        State::Limited,
        "boot with `lsm=landlock,…`; layers are unpacked in a weaker jail without",
    )
}

/// File systems whose idmapped mounts came with or before 6.1, by their magic numbers.
const IDMAPPABLE: &[(i64, &str)] =
    &[(0xef53, "ext4"), (0x5846_5342, "xfs"), (0x9123_683e, "btrfs"), (0xf2f5_2010, "f2fs")];

fn store(context: &Context) -> Finding {
    let mut path = context.root.as_path();
    while !path.exists() {
        path = path.parent().unwrap_or(std::path::Path::new("/"));
    }
    let text = path.to_str().and_then(|path| CString::new(path).ok());
    let magic = text.and_then(|path| statfs(path).ok()).map(|stat| stat.f_type);
    let name = magic.and_then(|magic| {
        let same = |known: i64| u64::try_from(known).ok() == u64::try_from(magic).ok();
        IDMAPPABLE.iter().find(|(known, _)| same(*known)).map(|(_, name)| (*name).to_owned())
    });
    Finding::new(
        "file system of the store",
        name,
        State::Limited,
        "put `--root` on ext4, xfs or btrfs; others may need `--userns host`",
    )
}

fn stage1_found() -> Finding {
    Finding::new(
        "stage1 `ns`",
        stage1::find("ns").is_ok().then(|| "found".to_owned()),
        State::Missing,
        "install it beside `pod`, in `stage1/ns`, or in `/usr/lib/pod/stage1/ns`",
    )
}
