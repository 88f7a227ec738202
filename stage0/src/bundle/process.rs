//! `process` of a bundle: what is started, as whom, with which rights and limits.

use std::collections::BTreeSet;

use oci_spec::runtime as oci;
use pod_abi::PodPath;
use pod_abi::app::{AppSpec, EnvVar, Process, Stdio, User};
use pod_abi::isolators::{Capabilities, Capability, Rlimit, RlimitKind};

use super::{Result, absent, unsupported};

/// Resource limits by both names.
const LIMITS: [(RlimitKind, oci::PosixRlimitType); 16] = [
    (RlimitKind::As, oci::PosixRlimitType::RlimitAs),
    (RlimitKind::Core, oci::PosixRlimitType::RlimitCore),
    (RlimitKind::Cpu, oci::PosixRlimitType::RlimitCpu),
    (RlimitKind::Data, oci::PosixRlimitType::RlimitData),
    (RlimitKind::Fsize, oci::PosixRlimitType::RlimitFsize),
    (RlimitKind::Locks, oci::PosixRlimitType::RlimitLocks),
    (RlimitKind::Memlock, oci::PosixRlimitType::RlimitMemlock),
    (RlimitKind::Msgqueue, oci::PosixRlimitType::RlimitMsgqueue),
    (RlimitKind::Nice, oci::PosixRlimitType::RlimitNice),
    (RlimitKind::Nofile, oci::PosixRlimitType::RlimitNofile),
    (RlimitKind::Nproc, oci::PosixRlimitType::RlimitNproc),
    (RlimitKind::Rss, oci::PosixRlimitType::RlimitRss),
    (RlimitKind::Rtprio, oci::PosixRlimitType::RlimitRtprio),
    (RlimitKind::Rttime, oci::PosixRlimitType::RlimitRttime),
    (RlimitKind::Sigpending, oci::PosixRlimitType::RlimitSigpending),
    (RlimitKind::Stack, oci::PosixRlimitType::RlimitStack),
];

/// Writes what an app starts.
pub(super) fn write(app: &AppSpec) -> Result<oci::Process> {
    let from = &app.process;
    let mut user = oci::User::default();
    user.set_uid(from.user.uid)
        .set_gid(from.user.gid)
        .set_umask(from.user.umask)
        .set_additional_gids(Some(from.user.additional_gids.clone()));
    let env = from.env.iter().map(|var| var.as_str().to_owned()).collect();
    let rlimits = from.rlimits.iter().map(limit).collect::<Result<_>>()?;
    let mut process = oci::Process::default();
    process
        .set_terminal(Some(app.stdio == Stdio::Terminal))
        .set_user(user)
        .set_args(Some(from.args.clone()))
        .set_env(Some(env))
        .set_cwd(from.cwd.as_str().into())
        .set_capabilities(Some(capabilities(from)?))
        .set_rlimits(Some(rlimits))
        .set_no_new_privileges(Some(from.no_new_privileges))
        .set_oom_score_adj(from.oom_score_adj.map(i32::from));
    Ok(process)
}

fn limit(from: &Rlimit) -> Result<oci::PosixRlimit> {
    let typ = LIMITS.iter().find(|(kind, _)| *kind == from.kind).map(|(_, typ)| *typ);
    let typ = typ.unwrap_or_default(); // every kind is in the table: tested
    Ok(oci::PosixRlimitBuilder::default().typ(typ).soft(from.soft).hard(from.hard).build()?)
}

/// Writes the five sets out of our one: root holds it, nobody else holds anything, and nothing is
/// ever inherited.
fn capabilities(from: &Process) -> Result<oci::LinuxCapabilities> {
    let named = |capability: &Capability| {
        let name = capability.as_str();
        let word = name.strip_prefix("CAP_").unwrap_or(name);
        word.parse().map_err(|_| unsupported("process.capabilities", format!("lacks `{name}`")))
    };
    let bounding = from.capabilities.0.iter().map(named).collect::<Result<oci::Capabilities>>()?;
    let held = if from.user.uid == 0 { bounding.clone() } else { oci::Capabilities::new() };
    let mut sets = oci::LinuxCapabilities::default();
    sets.set_bounding(Some(bounding))
        .set_effective(Some(held.clone()))
        .set_permitted(Some(held))
        .set_inheritable(Some(oci::Capabilities::new()))
        .set_ambient(Some(oci::Capabilities::new()));
    Ok(sets)
}

/// Reads what is started. Seccomp and the standard streams are told elsewhere.
pub(super) fn read(from: &oci::Process) -> Result<Process> {
    absent(from.command_line(), "process.commandLine")?;
    absent(from.apparmor_profile(), "process.apparmorProfile")?;
    absent(from.selinux_label(), "process.selinuxLabel")?;
    absent(from.io_priority(), "process.ioPriority")?;
    absent(from.scheduler(), "process.scheduler")?;
    absent(from.exec_cpu_affinity(), "process.execCPUAffinity")?;
    absent(from.user().username(), "process.user.username")?;
    let args = from.args().clone().unwrap_or_default();
    if args.first().is_none_or(String::is_empty) {
        return Err(unsupported("process.args", "names no program"));
    }
    let variable = |text: &String| {
        EnvVar::parse(text)
            .map_err(|error| unsupported("process.env", format!("holds what {error}")))
    };
    let env = from.env().iter().flatten().map(variable).collect::<Result<_>>()?;
    let cwd = from.cwd().to_str().and_then(|cwd| PodPath::parse(cwd).ok());
    let score = from.oom_score_adj().map(i16::try_from).transpose();
    Ok(Process {
        args,
        env,
        cwd: cwd.ok_or_else(|| unsupported("process.cwd", "is no absolute path without `..`"))?,
        user: User {
            uid: from.user().uid(),
            gid: from.user().gid(),
            additional_gids: from.user().additional_gids().clone().unwrap_or_default(),
            umask: from.user().umask(),
        },
        capabilities: held(from)?,
        no_new_privileges: from.no_new_privileges().unwrap_or(false),
        seccomp: pod_abi::isolators::Seccomp::Unconfined,
        rlimits: from.rlimits().iter().flatten().map(read_limit).collect::<Result<_>>()?,
        oom_score_adj: score.map_err(|_| unsupported("process.oomScoreAdj", "is out of range"))?,
    })
}

fn read_limit(from: &oci::PosixRlimit) -> Result<Rlimit> {
    let typ = from.typ();
    let kind = LIMITS.iter().find(|(_, known)| *known == typ).map(|(kind, _)| *kind);
    let kind = kind.ok_or_else(|| unsupported("process.rlimits", format!("names `{typ}`")))?;
    Ok(Rlimit { kind, soft: from.soft(), hard: from.hard() })
}

/// Reads our one set out of five, which must be what we would make of it.
fn held(from: &oci::Process) -> Result<Capabilities> {
    let set = |from: &Option<oci::Capabilities>| -> BTreeSet<Capability> {
        let names: BTreeSet<String> =
            from.iter().flatten().map(|capability| format!("CAP_{capability}")).collect();
        Capability::ALL.iter().copied().filter(|known| names.contains(known.as_str())).collect()
    };
    let Some(sets) = from.capabilities() else { return Ok(Capabilities::default()) };
    let bounding = set(sets.bounding());
    let held = if from.user().uid() == 0 { bounding.clone() } else { BTreeSet::new() };
    let none = BTreeSet::new();
    for (is, name, should) in [
        (sets.effective(), "effective", &held),
        (sets.permitted(), "permitted", &held),
        (sets.inheritable(), "inheritable", &none),
        (sets.ambient(), "ambient", &none),
    ] {
        if set(is) != *should {
            let problem = "is not what an app of ours has: root holds its bounding set, any other \
                           user nothing, and nothing is inherited";
            return Err(unsupported(format!("process.capabilities.{name}"), problem));
        }
    }
    Ok(Capabilities(bounding))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_and_capability_has_a_word_of_ocis() {
        for (kind, typ) in LIMITS {
            let ours = serde_json::to_string(&kind).unwrap();
            assert_eq!(ours, serde_json::to_string(&typ).unwrap());
        }
        for capability in Capability::ALL {
            let word = capability.as_str().strip_prefix("CAP_").unwrap();
            let theirs: oci::Capability = word.parse().unwrap();
            assert_eq!(theirs.to_string(), word);
        }
    }
}
