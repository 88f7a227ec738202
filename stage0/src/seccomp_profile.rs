//! Reads a seccomp profile in the form docker, podman and the runtime-spec share.
//!
//! Conditions - capabilities, architectures, kernels - are resolved here, against the app and this
//! host, so that a pod's manifest holds what will be enforced and nothing that depends. Whatever is
//! not understood is refused by its word: a rule passed over would be a protection that is not
//! there. What a profile says of other architectures is left aside, because an app can make no call
//! of another architecture anyway. Pure but for [`read`].

use std::collections::BTreeSet;
use std::path::Path;

use pod_abi::isolators::{
    Capabilities, Capability, SeccompAction, SeccompArg, SeccompOp, SeccompProfile, SeccompRule,
};
use serde::Deserialize;

use crate::error::{CommandError, Result};

/// The most rules of a profile; docker's has about thirty.
const MAX_RULES: usize = 4096;
/// `EPERM`, what a denied call fails with unless the profile says otherwise.
const EPERM: u32 = 1;
/// The highest error number of the kernel (`MAX_ERRNO`).
const MAX_ERRNO: u32 = 4095;
/// The words for this architecture.
const HERE: [&str; 3] = ["SCMP_ARCH_X86_64", "amd64", "x86_64"];

/// Error numbers that profiles name by word, too.
const ERRNOS: [(&str, u32); 9] = [
    ("EPERM", 1),
    ("ENOENT", 2),
    ("ESRCH", 3),
    ("EACCES", 13),
    ("EFAULT", 14),
    ("EINVAL", 22),
    ("ENOSYS", 38),
    ("EOPNOTSUPP", 95),
    ("EAFNOSUPPORT", 97),
];

/// What conditions are resolved against.
#[derive(Clone, Copy, Debug)]
struct Host<'h> {
    capabilities: &'h Capabilities,
    kernel: (u32, u32),
}

/// Reads a profile, the text of `path`, for an app that may hold `capabilities` on this host.
///
/// # Errors
///
/// `seccomp.profile` if it is no profile, or asks for what cannot be had.
pub(crate) fn read(path: &Path, text: &str, capabilities: &Capabilities) -> Result<SeccompProfile> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let kernel = version(&release).unwrap_or((0, 0));
    parse(text, Host { capabilities, kernel }).map_err(|wrong| {
        let what = format!("seccomp profile `{}` cannot be used", path.display());
        CommandError::new("seccomp.profile", what).because(&wrong)
    })
}

/// What is wrong with a profile.
#[derive(Debug, thiserror::Error)]
enum Wrong {
    #[error("it is no profile of the form the runtime-spec describes")]
    Form(#[from] serde_json::Error),
    #[error("action `{0}` is none of those that can be had")]
    Action(String),
    #[error("operator `{0}` is unknown")]
    Operator(String),
    #[error("capability `{0}` is unknown")]
    Capability(String),
    #[error("`{0}` is no version of a kernel")]
    Kernel(String),
    #[error("`{0}` is no name of a system call")]
    Name(String),
    #[error("a rule names no system call")]
    Nameless,
    #[error("argument {0} is looked at; system calls have 0 to 5")]
    Index(u32),
    #[error("`{0}` is no error a call can fail with")]
    Errno(String),
    #[error("an error is given beside action `{0}`, which has none")]
    StrayErrno(String),
    #[error("it is not for this architecture, x86_64")]
    Architecture,
    #[error("it has both `architectures` and `archMap`")]
    TwoArchitectures,
    #[error("flag `{0}` cannot be had")]
    Flag(String),
    #[error("it wants to be asked about calls (`listenerPath`), which cannot be had")]
    Listener,
    #[error("it has {0} rules; {MAX_RULES} are possible")]
    TooManyRules(usize),
}

/// The result of reading a part of a profile.
type Checked<T> = std::result::Result<T, Wrong>;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    default_action: String,
    default_errno_ret: Option<u32>,
    default_errno: Option<String>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<WrittenArchitecture>>,
    #[serde(default)]
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    #[serde(default)]
    syscalls: Option<Vec<WrittenRule>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenArchitecture {
    architecture: String,
    #[serde(default, rename = "subArchitectures")]
    _beside: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenRule {
    /// The older form of `names`.
    name: Option<String>,
    #[serde(default)]
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    errno: Option<String>,
    args: Option<Vec<WrittenArg>>,
    #[serde(default, rename = "comment")]
    _comment: Option<String>,
    includes: Option<WrittenCondition>,
    excludes: Option<WrittenCondition>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenArg {
    index: u32,
    #[serde(default)]
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenCondition {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

fn parse(text: &str, host: Host<'_>) -> Checked<SeccompProfile> {
    let written: Written = serde_json::from_str(text)?;
    check_surroundings(&written)?;
    let rules = written.syscalls.unwrap_or_default();
    if rules.len() > MAX_RULES {
        return Err(Wrong::TooManyRules(rules.len()));
    }
    let default = (written.default_errno_ret, written.default_errno.as_deref());
    let mut profile = SeccompProfile {
        default_action: action(&written.default_action, default, None)?,
        syscalls: Vec::new(),
    };
    let of_default = (written.default_action.as_str() == "SCMP_ACT_ERRNO").then_some(());
    let inherited = of_default.and(written.default_errno_ret);
    for rule in rules {
        // Read whether it holds or not: what is wrong is so on every host.
        let holds = holds(&rule, host)?;
        let read = read_rule(rule, inherited)?;
        if holds {
            profile.syscalls.extend(read);
        }
    }
    Ok(profile)
}

fn check_surroundings(written: &Written) -> Checked<()> {
    let listed = written.architectures.as_deref().unwrap_or_default();
    let mapped = written.arch_map.as_deref().unwrap_or_default();
    if !listed.is_empty() && !mapped.is_empty() {
        return Err(Wrong::TwoArchitectures);
    }
    let mut all = listed.iter().chain(mapped.iter().map(|one| &one.architecture)).peekable();
    if all.peek().is_some() && !all.any(|word| HERE.contains(&word.as_str())) {
        return Err(Wrong::Architecture);
    }
    // The one that concerns threads: an app has one when its filter is installed.
    let flags = written.flags.as_deref().unwrap_or_default();
    if let Some(flag) = flags.iter().find(|flag| *flag != "SECCOMP_FILTER_FLAG_TSYNC") {
        return Err(Wrong::Flag(shortened(flag)));
    }
    let texts = [&written.listener_path, &written.listener_metadata];
    if texts.into_iter().flatten().any(|text| !text.is_empty()) {
        return Err(Wrong::Listener);
    }
    Ok(())
}

/// Tells whether a rule's conditions hold: all capabilities of `includes`, none of `excludes`.
fn holds(rule: &WrittenRule, host: Host<'_>) -> Checked<bool> {
    let none = WrittenCondition::default();
    let includes = Met::of(rule.includes.as_ref().unwrap_or(&none), host)?;
    let excludes = Met::of(rule.excludes.as_ref().unwrap_or(&none), host)?;
    let included = includes.capabilities.iter().all(|held| *held)
        && includes.architecture.unwrap_or(true)
        && includes.kernel.unwrap_or(true);
    let excluded = excludes.capabilities.contains(&true)
        || excludes.architecture.unwrap_or(false)
        || excludes.kernel.unwrap_or(false);
    Ok(included && !excluded)
}

/// Which parts of a condition are met; parts it does not have are none.
struct Met {
    capabilities: Vec<bool>,
    architecture: Option<bool>,
    kernel: Option<bool>,
}

impl Met {
    fn of(condition: &WrittenCondition, host: Host<'_>) -> Checked<Self> {
        let held = |word: &String| {
            let mut all = Capability::ALL.iter();
            let known = all.find(|capability| capability.as_str() == word);
            let known = known.ok_or_else(|| Wrong::Capability(shortened(word)))?;
            Ok(host.capabilities.0.contains(known))
        };
        let caps = condition.caps.as_deref().unwrap_or_default();
        let arches = condition.arches.as_deref().filter(|arches| !arches.is_empty());
        let kernel = condition.min_kernel.as_deref().filter(|word| !word.is_empty());
        let kernel = kernel
            .map(|word| version(word).ok_or_else(|| Wrong::Kernel(shortened(word))))
            .transpose()?;
        Ok(Self {
            capabilities: caps.iter().map(held).collect::<Checked<_>>()?,
            architecture: arches
                .map(|arches| arches.iter().any(|word| HERE.contains(&word.as_str()))),
            kernel: kernel.map(|least| host.kernel >= least),
        })
    }
}

fn read_rule(rule: WrittenRule, inherited: Option<u32>) -> Checked<Vec<SeccompRule>> {
    let action = action(&rule.action, (rule.errno_ret, rule.errno.as_deref()), inherited)?;
    let names: Vec<String> = rule.name.into_iter().chain(rule.names).collect();
    if names.is_empty() {
        return Err(Wrong::Nameless);
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if let Some(bad) = names.iter().find(|name| name.is_empty() || !name.chars().all(plain)) {
        return Err(Wrong::Name(shortened(bad)));
    }
    let args = rule.args.as_deref().unwrap_or_default().iter().map(read_arg);
    let args = args.collect::<Checked<Vec<_>>>()?;
    let distinct: BTreeSet<u8> = args.iter().map(|arg| arg.index).collect();
    // Several conditions on one argument are alternatives, as they are to runc; on different ones
    // all must hold.
    let alternatives = if distinct.len() < args.len() {
        args.into_iter().map(|arg| vec![arg]).collect()
    } else {
        vec![args]
    };
    let rule = |args| SeccompRule { names: names.clone(), action, args };
    Ok(alternatives.into_iter().map(rule).collect())
}

fn read_arg(arg: &WrittenArg) -> Checked<SeccompArg> {
    let op = match arg.op.as_str() {
        "SCMP_CMP_NE" => SeccompOp::NotEqual,
        "SCMP_CMP_LT" => SeccompOp::LessThan,
        "SCMP_CMP_LE" => SeccompOp::LessEqual,
        "SCMP_CMP_EQ" => SeccompOp::Equal,
        "SCMP_CMP_GE" => SeccompOp::GreaterEqual,
        "SCMP_CMP_GT" => SeccompOp::GreaterThan,
        "SCMP_CMP_MASKED_EQ" => SeccompOp::MaskedEqual,
        other => return Err(Wrong::Operator(shortened(other))),
    };
    let index = u8::try_from(arg.index).ok().filter(|index| *index < 6);
    let index = index.ok_or(Wrong::Index(arg.index))?;
    let value_two = if op == SeccompOp::MaskedEqual { arg.value_two } else { 0 };
    Ok(SeccompArg { index, value: arg.value, value_two, op })
}

/// Reads an action. The error of one that denies may be given as a number, a word, or `inherited`.
fn action(
    word: &str,
    (number, name): (Option<u32>, Option<&str>),
    inherited: Option<u32>,
) -> Checked<SeccompAction> {
    let action = match word {
        "SCMP_ACT_ALLOW" => SeccompAction::Allow,
        "SCMP_ACT_LOG" => SeccompAction::Log,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => SeccompAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => SeccompAction::KillProcess,
        "SCMP_ACT_TRAP" => SeccompAction::Trap,
        "SCMP_ACT_ERRNO" => {
            let named = name.filter(|_| number.is_none()).map(|name| {
                let known = ERRNOS.iter().find(|(word, _)| *word == name);
                known.map(|(_, errno)| *errno).ok_or_else(|| Wrong::Errno(shortened(name)))
            });
            let errno = number.or(named.transpose()?).or(inherited).unwrap_or(EPERM);
            let fits = u16::try_from(errno).ok().filter(|_| errno <= MAX_ERRNO);
            return fits.map(SeccompAction::Errno).ok_or(Wrong::Errno(errno.to_string()));
        }
        // Whoever traces or listens would have to be there: nobody is.
        other => return Err(Wrong::Action(shortened(other))),
    };
    if number.is_some_and(|number| number != 0) || name.is_some() {
        return Err(Wrong::StrayErrno(word.to_owned()));
    }
    Ok(action)
}

/// Reads the first two numbers of a kernel's version.
fn version(word: &str) -> Option<(u32, u32)> {
    let mut parts = word.split(['.', '-', '+']);
    let major = parts.next()?.parse().ok()?;
    Some((major, parts.next().map_or(Some(0), |minor| minor.parse().ok())?))
}

/// Makes a word of the profile fit to be repeated.
fn shortened(word: &str) -> String {
    word.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(profile: &Value, capabilities: &Capabilities) -> Checked<SeccompProfile> {
        parse(&profile.to_string(), Host { capabilities, kernel: (6, 1) })
    }

    fn rules(rules: &Value) -> Value {
        json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules })
    }

    fn names(profile: &SeccompProfile) -> Vec<&str> {
        profile.syscalls.iter().flat_map(|rule| rule.names.iter().map(String::as_str)).collect()
    }

    #[test]
    fn conditions_are_resolved_for_the_app_and_the_host() {
        let profile = rules(&json!([
            { "names": ["always"], "action": "SCMP_ACT_ALLOW", "args": null, "comment": "" },
            { "names": ["held"], "action": "SCMP_ACT_ALLOW", "includes": { "caps": ["CAP_CHOWN"] } },
            { "names": ["both"], "action": "SCMP_ACT_ALLOW",
              "includes": { "caps": ["CAP_CHOWN", "CAP_SYS_ADMIN"] } },
            { "names": ["unheld"], "action": "SCMP_ACT_ALLOW",
              "excludes": { "caps": ["CAP_SYS_ADMIN"] } },
            { "names": ["without"], "action": "SCMP_ACT_ALLOW",
              "excludes": { "caps": ["CAP_SYS_ADMIN", "CAP_CHOWN"] } },
            { "names": ["here"], "action": "SCMP_ACT_ALLOW", "includes": { "arches": ["amd64"] } },
            { "names": ["there"], "action": "SCMP_ACT_ALLOW", "includes": { "arches": ["s390x"] } },
            { "names": ["not_there"], "action": "SCMP_ACT_ALLOW",
              "excludes": { "arches": ["s390", "s390x"] } },
            { "names": ["old"], "action": "SCMP_ACT_ALLOW", "includes": { "minKernel": "4.8" } },
            { "names": ["new"], "action": "SCMP_ACT_ALLOW", "includes": { "minKernel": "6.10" } },
        ]));
        let read = read(&profile, &Capabilities::default_set()).unwrap();
        assert_eq!(names(&read), ["always", "held", "unheld", "here", "not_there", "old"]);
    }

    #[test]
    fn actions_have_their_errors() {
        let table = [
            (json!({ "action": "SCMP_ACT_ALLOW" }), SeccompAction::Allow),
            (json!({ "action": "SCMP_ACT_KILL" }), SeccompAction::KillThread),
            (json!({ "action": "SCMP_ACT_ERRNO" }), SeccompAction::Errno(38)),
            (json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 0 }), SeccompAction::Errno(0)),
            (json!({ "action": "SCMP_ACT_ERRNO", "errno": "EINVAL" }), SeccompAction::Errno(22)),
            (
                json!({ "action": "SCMP_ACT_ERRNO", "errno": "EPERM", "errnoRet": 1 }),
                SeccompAction::Errno(1),
            ),
        ];
        for (mut rule, expected) in table {
            rule["name"] = json!("read");
            let mut profile = rules(&json!([rule]));
            profile["defaultErrnoRet"] = json!(38);
            let read = read(&profile, &Capabilities::default()).unwrap();
            assert_eq!(read.syscalls[0].action, expected, "{profile}");
            assert_eq!(read.default_action, SeccompAction::Errno(38));
        }
    }

    #[test]
    fn conditions_on_one_argument_are_alternatives() {
        let arg = |index, value| json!({ "index": index, "value": value, "op": "SCMP_CMP_EQ" });
        let read = |args: Value| {
            let rule = json!({ "names": ["x"], "action": "SCMP_ACT_ALLOW", "args": args });
            read(&rules(&json!([rule])), &Capabilities::default()).unwrap().syscalls
        };
        assert_eq!(read(json!([arg(0, 1), arg(1, 2)])).len(), 1);
        assert_eq!(read(json!([arg(0, 1), arg(0, 2)])).len(), 2);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let rule = |change: Value| {
            let mut rule = json!({ "names": ["read"], "action": "SCMP_ACT_ALLOW" });
            let change = change.as_object().unwrap().clone();
            rule.as_object_mut().unwrap().extend(change);
            rules(&json!([rule]))
        };
        let top = |key: &str, value: Value| {
            let mut profile = rules(&json!([]));
            profile[key] = value;
            profile
        };
        let arg = |index: u32, op: &str| json!({ "args": [{ "index": index, "op": op }] });
        let table = [
            (json!([]), "it is no profile"),
            (json!({}), "it is no profile"),
            (top("surprise", json!(1)), "it is no profile"),
            (rule(json!({ "surprise": 1 })), "it is no profile"),
            (top("defaultAction", json!("SCMP_ACT_MAYBE")), "`SCMP_ACT_MAYBE`"),
            (rule(json!({ "action": "SCMP_ACT_NOTIFY" })), "`SCMP_ACT_NOTIFY`"),
            (rule(json!({ "action": "SCMP_ACT_TRACE", "errnoRet": 1 })), "`SCMP_ACT_TRACE`"),
            (rule(json!({ "errnoRet": 1 })), "beside action `SCMP_ACT_ALLOW`"),
            (rule(json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 4096 })), "`4096`"),
            (rule(json!({ "action": "SCMP_ACT_ERRNO", "errno": "EMOON" })), "`EMOON`"),
            (rule(json!({ "names": [] })), "names no system call"),
            (rule(json!({ "names": ["Read"] })), "`Read`"),
            (rule(arg(6, "SCMP_CMP_EQ")), "argument 6"),
            (rule(arg(0, "SCMP_CMP_ISH")), "`SCMP_CMP_ISH`"),
            (rule(json!({ "includes": { "caps": ["CAP_MOON"] } })), "`CAP_MOON`"),
            (rule(json!({ "excludes": { "minKernel": "new" } })), "`new`"),
            (rule(json!({ "includes": { "weather": "fair" } })), "it is no profile"),
            (top("architectures", json!(["SCMP_ARCH_AARCH64"])), "not for this architecture"),
            (top("flags", json!(["SECCOMP_FILTER_FLAG_LOG"])), "FLAG_LOG"),
            (top("listenerPath", json!("/run/x")), "listenerPath"),
        ];
        for (profile, words) in table {
            let wrong = read(&profile, &Capabilities::default()).unwrap_err().to_string();
            assert!(wrong.contains(words), "{wrong:?} lacks {words:?}");
        }
    }

    #[test]
    fn kernels_are_compared_by_number() {
        assert_eq!(version("6.12.41+deb13-amd64"), Some((6, 12)));
        assert_eq!(version("6.1-rc1"), Some((6, 1)));
        assert_eq!(version("7"), Some((7, 0)));
        assert!(version("6.10") > version("6.9"));
        assert_eq!(version(""), None);
    }
}
