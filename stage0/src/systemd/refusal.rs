//! What the manager or the bus refuses, as errors for a person: what, why, and the way out.

use std::io;

use zbus::fdo;

use crate::error::CommandError;

/// Where names of the manager's errors begin.
const SYSTEMD: &str = "org.freedesktop.systemd1.";
const BUS: &str = "org.freedesktop.DBus.Error.";

/// Returns the name and the text of what was answered, if it was an answer.
pub(super) fn answer(error: &zbus::Error) -> Option<(String, String)> {
    match error {
        zbus::Error::MethodError(name, text, _) => {
            Some((name.to_string(), text.clone().unwrap_or_default()))
        }
        zbus::Error::FDO(error) => match error.as_ref() {
            fdo::Error::ZBus(inner) => answer(inner),
            other => {
                let name = zbus::DBusError::name(other).to_string();
                Some((name, zbus::DBusError::description(other).unwrap_or_default().to_owned()))
            }
        },
        _ => None,
    }
}

/// Tells whether the answer has this name: one of the manager's, or of the bus's.
pub(super) fn is(error: &zbus::Error, name: &str) -> bool {
    answer(error).is_some_and(|(said, _)| {
        said.strip_prefix(SYSTEMD).or_else(|| said.strip_prefix(BUS)) == Some(name)
    })
}

/// Tells whether the manager is away for a moment, as while it executes itself anew, so that the
/// same call may find it later.
pub(super) fn is_passing(error: &zbus::Error) -> bool {
    let Some((name, _)) = answer(error) else { return is_disconnected(error) };
    name.strip_prefix(BUS).is_some_and(|name| {
        ["NoReply", "NameHasNoOwner", "ServiceUnknown", "Disconnected", "NoServer"].contains(&name)
            || name.starts_with("Spawn.")
    })
}

/// Tells whether the connection to the bus is gone.
pub(super) fn is_disconnected(error: &zbus::Error) -> bool {
    matches!(error, zbus::Error::InputOutput(cause) if cause.kind() != io::ErrorKind::TimedOut)
}

/// Returns the property the manager does not know, if that is what it says.
pub(super) fn unknown_property(error: &zbus::Error) -> Option<String> {
    let (name, text) = answer(error)?;
    if name.strip_prefix(BUS) != Some("PropertyReadOnly") {
        return None;
    }
    let rest = text.strip_prefix("Cannot set property ")?;
    let end = rest.find([',', ' ']).unwrap_or(rest.len());
    Some(rest[..end].to_owned())
}

/// Returns the error of a host whose bus cannot be reached.
pub(super) fn no_bus(cause: Option<&zbus::Error>) -> CommandError {
    let error = CommandError::new("systemd.no-bus", "cannot reach systemd over the system bus");
    let error = match cause {
        Some(cause) => error.because(cause),
        None => error.because(&io::Error::from(io::ErrorKind::TimedOut)),
    };
    error
        .hint("install `dbus` and start it: `apt install dbus && systemctl start dbus.socket`")
        .hint("`--manager none` runs pods without systemd")
}

/// Returns the error for what kept `deed`, such as `start`, from being done to `unit`.
pub(super) fn of(error: &zbus::Error, deed: &str, unit: &str) -> CommandError {
    let cannot = |code: &str, why: &str| {
        CommandError::new(code, format!("cannot {deed} unit `{unit}`: {why}"))
    };
    let Some((name, text)) = answer(error) else {
        if matches!(error, zbus::Error::InputOutput(cause) if cause.kind() == io::ErrorKind::TimedOut)
        {
            return cannot("systemd.timeout", "systemd does not answer")
                .hint("`systemctl list-jobs` shows what it is busy with");
        }
        return cannot("systemd.no-bus", "the connection to the system bus is gone")
            .because(error)
            .hint("`systemctl status dbus` tells why");
    };
    let known = name.strip_prefix(SYSTEMD).or_else(|| name.strip_prefix(BUS)).unwrap_or(&name);
    match known {
        "UnitExists" => cannot("systemd.unit-exists", "there is one of that name"),
        "UnitMasked" => cannot("systemd.masked", "it is masked")
            .hint(format!("`systemctl unmask {unit}` allows it again")),
        "TransactionIsDestructive" | "ShuttingDown" => cannot(
            "systemd.shutting-down",
            "another job stands against it, as when the host goes down",
        )
        .hint("`systemctl list-jobs` shows the jobs"),
        "NoSuchUnit" => cannot("systemd.no-such-unit", "there is none of that name"),
        "JobTypeNotApplicable" => cannot("systemd.refused", "units of its kind cannot do that"),
        "AccessDenied" | "InteractiveAuthorizationRequired" | "AuthFailed" => {
            cannot("systemd.denied", "access was denied").hint("`sudo pod …` asks as root")
        }
        "Timeout" | "TimedOut" | "NoReply" => cannot("systemd.timeout", "systemd does not answer")
            .hint("`systemctl list-jobs` shows what it is busy with"),
        "NameHasNoOwner" | "ServiceUnknown" | "Disconnected" => {
            cannot("systemd.no-bus", "systemd is not on the system bus")
                .hint("`systemctl status dbus` tells why")
        }
        "LimitsExceeded" | "DiskFull" => cannot("systemd.full", "systemd is out of room")
            .because(&io::Error::other(text))
            .hint("`df /run` shows how full its directory is"),
        "PropertyReadOnly" => {
            let property = unknown_property(error).unwrap_or(text);
            let why = format!("this systemd does not know its property `{property}`");
            cannot("systemd.too-old", &why)
                .hint(format!("do without what needs `{property}`, or use a newer systemd"))
        }
        _ => cannot("systemd.refused", "systemd refuses it").because(&io::Error::other(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zbus::message::Message;
    use zbus::names::OwnedErrorName;

    fn answered(name: &str, text: &str) -> zbus::Error {
        let message = Message::method_call("/", "A").unwrap().build(&()).unwrap();
        let name = OwnedErrorName::try_from(name).unwrap();
        zbus::Error::MethodError(name, Some(text.to_owned()), message)
    }

    #[test]
    fn each_refusal_has_a_code_and_a_sentence() {
        let table = [
            ("org.freedesktop.systemd1.UnitExists", "systemd.unit-exists"),
            ("org.freedesktop.systemd1.UnitMasked", "systemd.masked"),
            ("org.freedesktop.systemd1.ShuttingDown", "systemd.shutting-down"),
            ("org.freedesktop.systemd1.TransactionIsDestructive", "systemd.shutting-down"),
            ("org.freedesktop.systemd1.NoSuchUnit", "systemd.no-such-unit"),
            ("org.freedesktop.DBus.Error.AccessDenied", "systemd.denied"),
            ("org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", "systemd.denied"),
            ("org.freedesktop.DBus.Error.NoReply", "systemd.timeout"),
            ("org.freedesktop.DBus.Error.LimitsExceeded", "systemd.full"),
            ("org.freedesktop.DBus.Error.InvalidArgs", "systemd.refused"),
            ("org.example.Strange", "systemd.refused"),
        ];
        for (name, code) in table {
            let error = of(&answered(name, "text"), "start", "pod-a.service");
            assert_eq!(error.code(), code, "{name}");
            let said = error.to_string();
            assert!(said.starts_with("cannot start unit `pod-a.service`: "), "{said}");
        }
    }

    #[test]
    fn an_unknown_property_is_named() {
        let text = "Cannot set property DelegateSubgroup, or unknown property.";
        let error = answered("org.freedesktop.DBus.Error.PropertyReadOnly", text);
        assert_eq!(unknown_property(&error).as_deref(), Some("DelegateSubgroup"));
        assert_eq!(of(&error, "start", "a.service").code(), "systemd.too-old");
        let other = answered("org.freedesktop.DBus.Error.InvalidArgs", text);
        assert_eq!(unknown_property(&other), None);
    }

    #[test]
    fn a_manager_that_executes_itself_anew_is_away_for_a_moment() {
        for name in ["NoReply", "NameHasNoOwner", "ServiceUnknown", "Spawn.ChildExited"] {
            assert!(is_passing(&answered(&format!("{BUS}{name}"), "")), "{name}");
        }
        assert!(!is_passing(&answered("org.freedesktop.systemd1.UnitExists", "")));
        let cut = zbus::Error::InputOutput(io::Error::from(io::ErrorKind::BrokenPipe).into());
        assert!(is_passing(&cut) && is_disconnected(&cut));
        let slow = zbus::Error::InputOutput(io::Error::from(io::ErrorKind::TimedOut).into());
        assert!(!is_passing(&slow));
    }
}
