//! `pod doctor`: what this host can do, one line for each need, with what to change.
//!
//! Features are tried, never guessed from versions. What only a stage1 knows it tells itself.

mod networks;

use std::ffi::CString;
use std::fs;

use pod_abi::finding::{Finding, State};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2, statfs};
use rustix::mount::{FsOpenFlags, fsopen};

use crate::cgroup;
use crate::cli::DoctorArgs;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::host;
use crate::stage1::{self, Stage1};
use crate::ui::{self, Format};

/// The stage1s that are shipped, beside `ns`.
const OTHERS: [&str; 2] = ["fly", "kvm"];

/// Makes a finding of a need that is met if something was found.
fn tried(
    need: &'static str,
    found: Option<String>,
    otherwise: State,
    fix: &'static str,
) -> Finding {
    match found {
        Some(found) => Finding::ok(need, found),
        None => Finding::lacking(need, otherwise, "not there", fix),
    }
}

/// Shows what this host can do: for all pods, or for those of one stage1. The status is 1 if they
/// cannot run; without one, if those of the default stage1 cannot.
///
/// # Errors
///
/// `stage1.…` for a stage1 that is asked for, and those of output.
pub(crate) fn doctor(context: &Context, args: &DoctorArgs) -> Result<u8> {
    let findings = match args.stage1.as_deref() {
        None => {
            let mut findings = findings(context);
            for name in OTHERS {
                findings.extend(of_another(name));
            }
            findings
        }
        Some(word) => {
            let stage1 = stage1::find(word)?;
            let mut findings = of_every_pod(context);
            if !stage1.takes_images() {
                findings.extend(of_namespaces());
            }
            findings.extend(told_by(&stage1)?);
            findings
        }
    };
    match context.format {
        Format::Json => ui::json(&findings)?,
        Format::Table => ui::out(&text(&findings))?,
    }
    Ok(u8::from(findings.iter().any(|finding| finding.state == State::Missing)))
}

/// Looks at everything pods of the default stage1 need of a host.
pub(super) fn findings(context: &Context) -> Vec<Finding> {
    let mut findings = of_every_pod(context);
    findings.extend(of_namespaces());
    findings.push(stage1_found());
    findings
}

fn of_every_pod(context: &Context) -> Vec<Finding> {
    let mut findings =
        vec![root(), kernel(), cgroup2(), openat2_works(), seccomp(), landlock(), store(context)];
    findings.extend(networks::findings(context));
    findings
}

/// What is needed by a stage1 that takes layers as trees.
fn of_namespaces() -> Vec<Finding> {
    vec![overlay(), user_namespaces()]
}

/// Tells of a stage1 nobody has asked for: what it lacks is no reason that pods cannot run.
fn of_another(name: &'static str) -> Vec<Finding> {
    let need = format!("stage1 `{name}`");
    let lack = |error: &CommandError| {
        let report = error.report();
        let fix = report.hints.first().cloned().unwrap_or_default();
        vec![Finding::lacking(&need, State::Limited, report.message.clone(), fix)]
    };
    let told = stage1::find(name).and_then(|stage1| told_by(&stage1));
    let mut findings = told.unwrap_or_else(|error| lack(&error));
    for finding in &mut findings {
        if finding.state == State::Missing {
            finding.state = State::Limited;
        }
        if finding.need != need {
            finding.need = format!("{need}, {}", finding.need);
        }
    }
    findings
}

/// Asks a stage1 what it needs of the host.
fn told_by(stage1: &Stage1) -> Result<Vec<Finding>> {
    let told = stage1.findings()?;
    let usable = told.iter().all(|finding| finding.state != State::Missing);
    let need = format!("stage1 `{}`", stage1.name);
    let mut findings = if usable { vec![Finding::ok(&need, "found")] } else { Vec::new() };
    findings.extend(told);
    Ok(findings)
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
        if let Some(fix) = &finding.fix {
            text.push_str(&format!("         hint: {fix}\n"));
        }
    }
    text
}

fn root() -> Finding {
    let is_root = rustix::process::geteuid().is_root();
    tried("root", is_root.then(|| "yes".to_owned()), State::Missing, "run `sudo pod doctor`")
}

fn kernel() -> Finding {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    tried(
        "kernel 6.1 or newer",
        (version >= (6, 1)).then_some(release),
        State::Limited,
        "idmapped overlay layers may not work; `--userns host` does without",
    )
}

fn overlay() -> Finding {
    let known = host::text("/proc/filesystems").lines().any(|line| line.ends_with("\toverlay"));
    // The kernel loads the module for whoever asks, as it will for the first pod.
    let loads = || fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).is_ok();
    tried(
        "overlay file system",
        (known || loads()).then(|| "yes".to_owned()),
        State::Missing,
        "`modprobe overlay`",
    )
}

fn user_namespaces() -> Finding {
    let limit = host::text("/proc/sys/user/max_user_namespaces");
    let limit: u64 = limit.trim().parse().unwrap_or(0);
    tried(
        "user namespaces",
        (limit > 0).then(|| format!("up to {limit}")),
        State::Limited,
        "`sysctl user.max_user_namespaces=15000`; `--userns host` does without",
    )
}

fn cgroup2() -> Finding {
    let Some(mount) = cgroup::mount_point() else {
        return tried(
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
        [] => Finding::ok("cgroup v2", format!("at `{place}`, with {}", there.join(" "))),
        missing => Finding::lacking(
            "cgroup v2",
            State::Limited,
            format!("at `{place}`, without {}", missing.join(", ")),
            "boot with `systemd.unified_cgroup_hierarchy=1`; pods run, but not with \
             `--cpus`, `--memory` or `--pids-limit` of what is not there",
        ),
    }
}

/// The controllers of cgroup v2 that limits of apps need.
const LIMITING: &[&str] = &["cpu", "memory", "pids"];

fn openat2_works() -> Finding {
    let opened =
        openat2(CWD, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::BENEATH);
    tried(
        "openat2",
        opened.is_ok().then(|| "yes".to_owned()),
        State::Missing,
        "a kernel of 5.6 or newer, and a sandbox around `pod` that allows it",
    )
}

fn seccomp() -> Finding {
    let actions = host::text("/proc/sys/kernel/seccomp/actions_avail");
    tried(
        "seccomp filters",
        actions.contains("errno").then(|| "yes".to_owned()),
        State::Missing,
        "a kernel with CONFIG_SECCOMP_FILTER",
    )
}

fn landlock() -> Finding {
    tried(
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
    tried(
        "file system of the store",
        name,
        State::Limited,
        "put `--root` on ext4, xfs or btrfs; others may need `--userns host`",
    )
}

fn stage1_found() -> Finding {
    tried(
        "stage1 `ns`",
        stage1::find("ns").is_ok().then(|| "found".to_owned()),
        State::Missing,
        "install it beside `pod`, in `stage1/ns`, or in `/usr/lib/pod/stage1/ns`",
    )
}
