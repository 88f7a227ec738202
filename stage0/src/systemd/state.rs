//! What the manager says of a unit, read out of all it says.

use std::collections::HashMap;

use zbus::zvariant::OwnedValue;

/// The properties of a unit that a pod's commands look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UnitState {
    /// Whether its file could be read: `loaded`, `masked`, `not-found`, ….
    pub(crate) load: String,
    /// What it does.
    pub(crate) active: ActiveState,
    /// The same in the words of services: `running`, `auto-restart`, `stop-sigterm`, ….
    pub(crate) sub: String,
    /// Why it ended: `success`, `exit-code`, `timeout`, `oom-kill`, ….
    pub(crate) result: String,
    /// The main process, 0 if there is none.
    pub(crate) main_pid: u32,
    /// How the last main process ended: a `CLD_…` code (`sigaction(2)`), 0 if it has not.
    pub(crate) main_code: i32,
    /// Its exit status, or the signal that ended it.
    pub(crate) main_status: i32,
    /// Its cgroup, as a path beneath the root of the hierarchy; empty if it has none.
    pub(crate) control_group: String,
    /// What the service says of itself.
    pub(crate) status_text: String,
    /// The pod it was made for, if it was made by us.
    pub(crate) pod: Option<String>,
    /// The root that pod lies in, as its start is told it.
    pub(crate) root: Option<String>,
    /// The id of its present or last run, as 32 hexadecimal digits.
    pub(crate) invocation: String,
    /// How often it was restarted by its own policy.
    pub(crate) restarts: u32,
    /// When its own policy starts it again: `no`, `on-failure`, `always`, ….
    pub(crate) restart: String,
    /// Whether it exists by a call alone, with no file of an administrator behind it.
    pub(crate) transient: bool,
}

/// What a unit does (`systemd(1)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ActiveState {
    /// It runs.
    Active,
    /// It runs, and reads its configuration anew.
    Reloading,
    /// It does not run, and was asked to or never did.
    #[default]
    Inactive,
    /// It does not run, and should.
    Failed,
    /// It is about to run.
    Activating,
    /// It is about to end.
    Deactivating,
}

impl ActiveState {
    fn of(word: &str) -> Self {
        match word {
            "active" => Self::Active,
            "reloading" | "refreshing" => Self::Reloading,
            "failed" => Self::Failed,
            "activating" => Self::Activating,
            "deactivating" => Self::Deactivating,
            _ => Self::Inactive,
        }
    }

    /// Tells whether there are, or are about to be, processes of it.
    pub(crate) fn is_alive(self) -> bool {
        !matches!(self, Self::Inactive | Self::Failed)
    }
}

/// The field of the journal, and so of every pod's unit, that names the pod.
pub(super) const POD_FIELD: &str = "POD_UUID=";

/// A command line of a service, and what has become of it, as the manager says it.
type Line = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);

impl UnitState {
    /// Reads the state out of all properties of a unit.
    pub(super) fn of(properties: &HashMap<String, OwnedValue>) -> Self {
        let text = |name: &str| {
            let value = properties.get(name).and_then(|value| <&str>::try_from(value).ok());
            value.unwrap_or_default().to_owned()
        };
        let int = |name: &str| properties.get(name).and_then(|value| i32::try_from(value).ok());
        let unsigned =
            |name: &str| properties.get(name).and_then(|value| u32::try_from(value).ok());
        let fields: Vec<Vec<u8>> = properties
            .get("LogExtraFields")
            .and_then(|value| value.try_clone().ok()?.try_into().ok())
            .unwrap_or_default();
        let starts: Vec<Line> = properties
            .get("ExecStart")
            .and_then(|value| value.try_clone().ok()?.try_into().ok())
            .unwrap_or_default();
        let mut words = starts.into_iter().flat_map(|(_, words, ..)| words);
        let invocation: Vec<u8> = properties
            .get("InvocationID")
            .and_then(|value| value.try_clone().ok()?.try_into().ok())
            .unwrap_or_default();
        Self {
            load: text("LoadState"),
            active: ActiveState::of(&text("ActiveState")),
            sub: text("SubState"),
            result: text("Result"),
            main_pid: unsigned("MainPID").unwrap_or_default(),
            main_code: int("ExecMainCode").unwrap_or_default(),
            main_status: int("ExecMainStatus").unwrap_or_default(),
            control_group: text("ControlGroup"),
            status_text: text("StatusText"),
            pod: fields.iter().find_map(|field| {
                str::from_utf8(field).ok()?.strip_prefix(POD_FIELD).map(str::to_owned)
            }),
            root: words.find(|word| word == "--root").and_then(|_| words.next()),
            invocation: invocation.iter().map(|byte| format!("{byte:02x}")).collect(),
            restarts: unsigned("NRestarts").unwrap_or_default(),
            restart: text("Restart"),
            transient: properties.get("Transient").and_then(|value| bool::try_from(value).ok())
                == Some(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zbus::zvariant::Value;

    fn owned<'v>(value: impl Into<Value<'v>>) -> OwnedValue {
        value.into().try_to_owned().unwrap()
    }

    #[test]
    fn a_state_is_read_out_of_what_the_manager_says() {
        let words = ["/usr/bin/pod", "--root", "/srv/pod", "start"].map(str::to_owned).to_vec();
        let line: Line = ("/usr/bin/pod".to_owned(), words, false, 0, 0, 0, 0, 0, 0, 0);
        let properties = HashMap::from([
            ("ExecStart".to_owned(), owned(Value::new(vec![line]))),
            ("LoadState".to_owned(), owned("loaded")),
            ("ActiveState".to_owned(), owned("deactivating")),
            ("ExecMainStatus".to_owned(), owned(143)),
            ("MainPID".to_owned(), owned(7_u32)),
            ("Transient".to_owned(), owned(true)),
            ("InvocationID".to_owned(), owned(Value::new(vec![0xab_u8, 1]))),
            (
                "LogExtraFields".to_owned(),
                owned(Value::new(vec![b"POD_NAME=web".to_vec(), b"POD_UUID=3f".to_vec()])),
            ),
        ]);
        let state = UnitState::of(&properties);
        assert_eq!(state.active, ActiveState::Deactivating);
        assert_eq!((state.main_pid, state.main_status), (7, 143));
        assert_eq!((state.pod.as_deref(), state.invocation.as_str()), (Some("3f"), "ab01"));
        assert_eq!(state.root.as_deref(), Some("/srv/pod"));
        assert!(state.transient && state.active.is_alive());
    }

    #[test]
    fn what_is_missing_or_of_another_type_is_empty() {
        let odd = HashMap::from([("MainPID".to_owned(), owned("seven"))]);
        assert_eq!(UnitState::of(&odd), UnitState::default());
        assert!(!UnitState::default().active.is_alive());
    }
}
