//! Telling machined of a pod (`systemd-machined(8)`), so that `machinectl` shows it.
//!
//! A machine of machined's is tied to the unit its first process lives in, and goes with it; so
//! only pods of units of their own are told. What survives a unit that was started anew is an entry
//! with a first process that is dead: it is replaced.

use std::path::Path;

use pod_abi::{PodId, PodName};
use zbus::zvariant::{OwnedObjectPath, OwnedValue};

use super::bus::{Link, PROPERTIES};
use super::refusal;
use crate::error::{CommandError, Result};

/// Its name on the bus, and its objects'.
const SERVICE: &str = "org.freedesktop.machine1";
const OBJECT: &str = "/org/freedesktop/machine1";
const MANAGER: &str = "org.freedesktop.machine1.Manager";
const MACHINE: &str = "org.freedesktop.machine1.Machine";

/// Where the bus is, and what makes it start machined when somebody speaks to it.
const BUS: &str = "/run/dbus/system_bus_socket";
const ACTIVATION: [&str; 3] = [
    "/etc/dbus-1/system-services/org.freedesktop.machine1.service",
    "/usr/local/share/dbus-1/system-services/org.freedesktop.machine1.service",
    "/usr/share/dbus-1/system-services/org.freedesktop.machine1.service",
];

/// What machined is told of a pod.
#[derive(Debug)]
pub(crate) struct Machine<'m> {
    pub(crate) name: &'m PodName,
    pub(crate) id: &'m PodId,
    /// The pod's PID 1.
    pub(crate) leader: u32,
}

/// Tells whether this host has machined, or starts it when it is spoken to.
pub(crate) fn is_there() -> bool {
    Path::new(BUS).exists() && ACTIVATION.iter().any(|path| Path::new(path).exists())
}

/// Tells machined of a pod. An entry of the same name whose first process is dead is replaced.
///
/// # Errors
///
/// `machined.name-taken`, `machined.refused`, `systemd.no-bus`.
pub(crate) fn register(machine: &Machine<'_>) -> Result<()> {
    let link = Link::connect_or(|| false).map_err(|error| refusal::no_bus(error.as_ref()))?;
    let Err(error) = try_to_register(&link, machine) else { return Ok(()) };
    if !is_taken(&error) {
        return Err(refused(&error));
    }
    match leader(&link, machine.name) {
        Ok(leader) if leader == machine.leader => return Ok(()),
        Ok(leader) if is_alive(leader) => {
            let what =
                format!("there is a machine `{}` already, of process {leader}", machine.name);
            return Err(CommandError::new("machined.name-taken", what)
                .hint(format!("`machinectl status {}` shows it", machine.name)));
        }
        // It went by itself, or is to go.
        _ => drop(call::<(), _>(&link, "UnregisterMachine", &machine.name.as_str())),
    }
    try_to_register(&link, machine).map(drop).map_err(|error| refused(&error))
}

fn try_to_register(link: &Link, machine: &Machine<'_>) -> zbus::Result<OwnedObjectPath> {
    let id = bytes(machine.id);
    let Machine { name, leader, .. } = machine;
    call(link, "RegisterMachine", &(name.as_str(), id, "pod", "container", *leader, ""))
}

/// Returns the first process of a machine.
fn leader(link: &Link, name: &PodName) -> zbus::Result<u32> {
    let path: OwnedObjectPath = call(link, "GetMachine", &name.as_str())?;
    let asked = &(MACHINE, "Leader");
    let reply =
        link.connection().call_method(Some(SERVICE), &path, Some(PROPERTIES), "Get", asked)?;
    let value: OwnedValue = reply.body().deserialize()?;
    u32::try_from(value).map_err(zbus::Error::from)
}

fn call<T, B>(link: &Link, method: &str, body: &B) -> zbus::Result<T>
where
    T: for<'d> zbus::zvariant::DynamicDeserialize<'d>,
    B: serde::Serialize + zbus::zvariant::DynamicType,
{
    let reply =
        link.connection().call_method(Some(SERVICE), OBJECT, Some(MANAGER), method, body)?;
    reply.body().deserialize()
}

fn is_taken(error: &zbus::Error) -> bool {
    refusal::answer(error).is_some_and(|(name, _)| name.ends_with(".MachineExists"))
}

/// Tells whether a process lives; one that is dead and not collected does not.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

fn refused(error: &zbus::Error) -> CommandError {
    let refused = CommandError::new("machined.refused", "machined refused the pod");
    match refusal::answer(error) {
        Some((name, text)) => refused.because(&std::io::Error::other(format!("{text} ({name})"))),
        None => refused.because(error),
    }
}

/// Returns the sixteen bytes of an id.
fn bytes(id: &PodId) -> Vec<u8> {
    let digits: String = id.as_str().chars().filter(char::is_ascii_hexdigit).collect();
    let byte = |at: usize| digits.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
    (0..digits.len()).step_by(2).filter_map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_sixteen_bytes() {
        let id = PodId::parse("0123abcd-0000-4000-8000-0000000000ff").unwrap();
        let expected =
            [0x01, 0x23, 0xab, 0xcd, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 0xff].to_vec();
        assert_eq!(bytes(&id), expected);
    }

    #[test]
    fn who_lives_is_seen() {
        assert!(is_alive(std::process::id()));
        assert!(!is_alive(u32::MAX));
    }
}
