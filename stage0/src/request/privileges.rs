//! What an app may do, as typed: capabilities, system calls, devices, and the words that give up
//! protections.

use std::collections::BTreeSet;
use std::path::Path;

use pod_abi::app::PidMode;
use pod_abi::isolators::{Capabilities, Capability, Device, DeviceAccess, Seccomp};
use pod_abi::manifest::Insecure;

use super::capabilities::read_capabilities;
use super::words::{boolean, contradiction, mode, once, path};
use crate::caller::Caller;
use crate::error::{CommandError, Result};
use crate::flags::PrivilegeFlags;

/// What an app may do, as asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Privileges {
    /// The default set, if nothing was said of any.
    pub(crate) capabilities: Option<Capabilities>,
    pub(crate) seccomp: Option<Seccomp>,
    /// Whether executing a file can never grant more; by the user it runs as, if not given.
    pub(crate) no_new_privileges: Option<bool>,
    pub(crate) paths: Paths,
    pub(crate) writable_sys: bool,
    pub(crate) devices: Vec<Device>,
    /// Names or numbers.
    pub(crate) groups: Vec<String>,
    pub(crate) umask: Option<u32>,
}

/// Whether what tells of the host or steers it is masked and read-only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Paths {
    /// It is.
    #[default]
    Guarded,
    /// It is not.
    Open,
}

/// Reads what an app may do. `given_up` are the protections the whole pod has given up.
///
/// # Errors
///
/// A usage error that names the word, or the two that contradict each other.
pub(super) fn read_privileges(
    flags: &PrivilegeFlags,
    given_up: &BTreeSet<Insecure>,
    caller: &Caller<'_>,
) -> Result<Privileges> {
    let options = read_security_options(&flags.security_opt)?;
    check_contradictions(flags, given_up, &options)?;
    let open = |protection| flags.privileged || given_up.contains(&protection);
    let capabilities = if open(Insecure::Capabilities) {
        Some(Capabilities(Capability::ALL.iter().copied().collect()))
    } else if flags.cap_add.is_empty() && flags.cap_drop.is_empty() {
        None
    } else {
        Some(read_capabilities(&flags.cap_add, &flags.cap_drop)?)
    };
    let seccomp = match options.seccomp {
        _ if open(Insecure::Seccomp) => Some(Seccomp::Unconfined),
        None => None,
        Some("default") => Some(Seccomp::Default),
        Some("unconfined") => Some(Seccomp::Unconfined),
        Some(file) => {
            let held = capabilities.clone().unwrap_or_else(Capabilities::default_set);
            let profile = (caller.profile)(Path::new(file), &held)?;
            Some(Seccomp::Profile(Box::new(profile)))
        }
    };
    Ok(Privileges {
        capabilities,
        seccomp,
        no_new_privileges: options.no_new_privileges.or(flags.privileged.then_some(false)),
        paths: if open(Insecure::Paths) { Paths::Open } else { Paths::Guarded },
        writable_sys: flags.privileged,
        devices: flags.device.iter().map(|word| read_device(word)).collect::<Result<_>>()?,
        groups: flags.group_add.clone(),
        umask: flags.umask.as_deref().map(read_umask).transpose()?,
    })
}

/// Refuses capabilities that the caller does not hold, for an app with the host's user ids: only a
/// user namespace has them all for whoever makes it.
///
/// # Errors
///
/// A usage error that names them.
pub(super) fn check_held(privileges: &Privileges, caller: &Caller<'_>) -> Result<()> {
    let Some(asked) = &privileges.capabilities else { return Ok(()) };
    let missing: Vec<&str> =
        (&asked.0 - &(caller.held)().0).iter().map(|capability| capability.as_str()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!("with `--userns host` nobody gets `{}`", missing.join("`, `"));
    Err(CommandError::usage(format!("{message}, which you do not hold yourself"))
        .hint("leave `--userns host` away, or name what is needed with `--cap-add`"))
}

/// Refuses that an app with the host's user ids can trace its pod's PID 1, which is root of the
/// host then.
///
/// # Errors
///
/// A usage error that names the words.
pub(super) fn check_tracing(privileges: &Privileges, pid: Option<PidMode>) -> Result<()> {
    let asked = privileges.capabilities.as_ref();
    let traces = asked.is_some_and(|asked| asked.0.contains(&Capability::SysPtrace));
    if !traces || pid != Some(PidMode::Pod) {
        return Ok(());
    }
    let message = "with `--userns host`, `--pid pod` and `CAP_SYS_PTRACE` contradict each other";
    Err(CommandError::usage(format!("{message}: the app could become root of the host")).hint(
        "leave `--userns host` or `--pid pod` away, or name with `--cap-add` what else is needed",
    ))
}

fn check_contradictions(
    flags: &PrivilegeFlags,
    given_up: &BTreeSet<Insecure>,
    options: &SecurityOptions<'_>,
) -> Result<()> {
    let profile = options.seccomp.filter(|word| *word != "unconfined");
    let profile = profile.map(|word| format!("--security-opt seccomp={word}"));
    let dropped = flags.cap_drop.first().map(|word| format!("--cap-drop {word}"));
    let gives_up = |word: &'static str, protection| {
        if flags.privileged {
            Some("--privileged")
        } else {
            given_up.contains(&protection).then_some(word)
        }
    };
    let pairs = [
        (gives_up("--insecure-options capabilities", Insecure::Capabilities), dropped),
        (gives_up("--insecure-options seccomp", Insecure::Seccomp), profile),
    ];
    for pair in pairs {
        if let (Some(gives_up), Some(asks)) = pair {
            return Err(contradiction(gives_up, &asks));
        }
    }
    Ok(())
}

#[derive(Debug, Default)]
struct SecurityOptions<'w> {
    no_new_privileges: Option<bool>,
    seccomp: Option<&'w str>,
}

/// What docker has and we have not, and why.
const FOREIGN: [(&str, &str); 6] = [
    ("apparmor", "no AppArmor profile is set on apps"),
    ("label", "no SELinux label is set on apps"),
    ("systempaths", "`--insecure-options paths` before the image leaves all paths open"),
    ("unmask", "`--insecure-options paths` before the image leaves all paths open"),
    ("mask", "what is masked is the same for every app"),
    ("credentialspec", "that is another system's"),
];

fn read_security_options(words: &[String]) -> Result<SecurityOptions<'_>> {
    let mut options = SecurityOptions::default();
    for word in words {
        let (key, value) = match word.split_once(['=', ':']) {
            Some((key, value)) => (key, Some(value)),
            None => (word.as_str(), None),
        };
        let refused = || {
            CommandError::usage(format!("`{word}` is no value of `--security-opt`")).hint(
                "it takes `no-new-privileges[:BOOL]`, `seccomp=FILE`, `seccomp=unconfined` or \
                 `seccomp=default`",
            )
        };
        let said = format!("--security-opt {word}");
        match (key, value) {
            ("no-new-privileges", value) => {
                let value = value.map_or(Some(true), boolean).ok_or_else(refused)?;
                once(&mut options.no_new_privileges, value, &said)?;
            }
            ("seccomp", Some(value)) if !value.is_empty() => {
                let value = if value == "builtin" { "default" } else { value }; // docker's word
                once(&mut options.seccomp, value, &said)?;
            }
            _ => {
                let why = FOREIGN.iter().find(|(known, _)| *known == key).map(|(_, why)| *why);
                return Err(why.map_or_else(refused, |why| {
                    CommandError::usage(format!("`--security-opt {word}` cannot be had: {why}"))
                }));
            }
        }
    }
    Ok(options)
}

/// Reads `SRC[:DST[:rwm]]`, or `SRC:rwm`.
fn read_device(word: &str) -> Result<Device> {
    let refused = || {
        CommandError::usage(format!("`{word}` is no device: it takes SRC[:DST[:rwm]]"))
            .hint("SRC is a device of this host, such as `/dev/fuse`")
    };
    let parts: Vec<&str> = word.split(':').collect();
    let (source, destination, letters) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, letters] if !letters.starts_with('/') => (source, source, letters),
        [source, destination] => (source, destination, "rwm"),
        [source, destination, letters] => (source, destination, letters),
        _ => return Err(refused()),
    };
    let distinct: BTreeSet<char> = letters.chars().collect();
    let known = letters.chars().all(|letter| "rwm".contains(letter));
    if !source.starts_with('/') || letters.is_empty() || !known || distinct.len() != letters.len() {
        return Err(refused());
    }
    let has = |letter| distinct.contains(&letter);
    Ok(Device {
        source: source.to_owned(),
        destination: path(destination)?,
        access: DeviceAccess { read: has('r'), write: has('w'), make: has('m') },
    })
}

fn read_umask(word: &str) -> Result<u32> {
    mode(word).filter(|mask| *mask <= 0o777).ok_or_else(|| {
        CommandError::usage(format!("`{word}` is no mask: it takes 000 to 777, octal"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_a_place_and_an_access() {
        let table = [
            ("/dev/fuse", Some(("/dev/fuse", "/dev/fuse", "rwm"))),
            ("/dev/sda:/dev/xvda", Some(("/dev/sda", "/dev/xvda", "rwm"))),
            ("/dev/sda:r", Some(("/dev/sda", "/dev/sda", "r"))),
            ("/dev/sda:/dev/x:wr", Some(("/dev/sda", "/dev/x", "rw"))),
            ("fuse", None),
            ("vendor.com/class=name", None),
            ("/dev/sda:", None),
            ("/dev/sda:/dev/x:rx", None),
            ("/dev/sda:/dev/x:rr", None),
            ("/dev/sda:/dev/x:r:w", None),
        ];
        for (word, expected) in table {
            let device = read_device(word).ok();
            let said = device.as_ref().map(|device| {
                let letters = [
                    (device.access.read, 'r'),
                    (device.access.write, 'w'),
                    (device.access.make, 'm'),
                ];
                let letters = letters.iter().filter(|(has, _)| *has).map(|(_, letter)| letter);
                (device.source.as_str(), device.destination.as_str(), letters.collect::<String>())
            });
            let expected = expected.map(|(from, to, access)| (from, to, access.to_owned()));
            assert_eq!(said, expected, "{word}");
        }
    }

    #[test]
    fn masks_are_octal() {
        assert_eq!(read_umask("027").unwrap(), 0o27);
        for bad in ["", "1777", "8", "rw"] {
            assert!(read_umask(bad).is_err(), "{bad}");
        }
    }
}
