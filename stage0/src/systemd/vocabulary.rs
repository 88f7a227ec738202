//! The properties of units this program knows: how unit files spell them, what the bus calls them,
//! and how a value is written.
//!
//! One table, read in both directions: `--unit-property` from text to values, a unit file from
//! values to text. Another tells which properties a pod cannot have, and why. What stands in neither
//! is refused, for a limit that is misspelt would be none.

/// A property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// How unit files spell it.
    pub(super) file: &'static str,
    /// What the bus calls it.
    pub(super) bus: &'static str,
    /// How its value is written.
    pub(super) form: Form,
    /// Where it stands in a unit file.
    pub(super) section: Section,
    /// Who sets it.
    pub(super) by: By,
}

/// A section of a unit file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    /// `[Unit]`.
    Unit,
    /// `[Service]`.
    Service,
}

/// Who may set a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// Users; theirs takes the place of ours.
    User,
    /// Users; theirs comes beside ours.
    Both,
    /// Nobody but us.
    Us,
}

/// How a value is written in a unit file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Text to the end of the line.
    Text,
    /// Words; more than one line adds up.
    Words,
    /// `yes` or `no`.
    Bool,
    /// A whole number, perhaps negative.
    Int,
    /// A whole number.
    Unsigned,
    /// A time span such as `1min 30s` (`systemd.time(7)`), on the bus in microseconds.
    Span,
    /// Bytes such as `512M`, `infinity`, or a part of all memory such as `20%`.
    Size,
    /// A number of tasks, `infinity`, or a part of all there can be.
    Count,
    /// A weight from 1 to 10000.
    Weight,
    /// A share of one processor such as `150%`.
    Share,
    /// Numbers such as `0-3,5`.
    Mask,
    /// A block device and bytes a second, such as `/dev/sda 5M`.
    Rate,
    /// `SOFT:HARD`, or one number for both, or `infinity`.
    Limit,
    /// Exit statuses and names of signals.
    Statuses,
    /// `FIELD=VALUE`.
    Field,
    /// `NAME:VALUE`, or `NAME`.
    Pair,
    /// A command line.
    Command,
}

const fn unit(file: &'static str, bus: &'static str, form: Form) -> Known {
    Known { file, bus, form, section: Section::Unit, by: By::User }
}

const fn service(file: &'static str, bus: &'static str, form: Form) -> Known {
    Known { file, bus, form, section: Section::Service, by: By::User }
}

/// A property of the same name on both sides.
const fn plain(name: &'static str, form: Form) -> Known {
    service(name, name, form)
}

const fn beside(known: Known) -> Known {
    Known { by: By::Both, ..known }
}

const fn ours(known: Known) -> Known {
    Known { by: By::Us, ..known }
}

const fn order(name: &'static str) -> Known {
    beside(unit(name, name, Form::Words))
}

/// All of them, in the order a unit file shows them.
pub(super) const KNOWN: &[Known] = &[
    unit("Description", "Description", Form::Text),
    order("Documentation"),
    order("Wants"),
    order("Requires"),
    order("Requisite"),
    order("BindsTo"),
    order("PartOf"),
    order("Upholds"),
    order("Conflicts"),
    order("Before"),
    order("After"),
    order("OnFailure"),
    order("OnSuccess"),
    order("JoinsNamespaceOf"),
    order("RequiresMountsFor"),
    unit("CollectMode", "CollectMode", Form::Text),
    unit("StartLimitIntervalSec", "StartLimitIntervalUSec", Form::Span),
    unit("StartLimitBurst", "StartLimitBurst", Form::Unsigned),
    unit("StartLimitAction", "StartLimitAction", Form::Text),
    unit("FailureAction", "FailureAction", Form::Text),
    unit("SuccessAction", "SuccessAction", Form::Text),
    unit("JobTimeoutSec", "JobTimeoutUSec", Form::Span),
    unit("JobRunningTimeoutSec", "JobRunningTimeoutUSec", Form::Span),
    unit("RefuseManualStop", "RefuseManualStop", Form::Bool),
    unit("DefaultDependencies", "DefaultDependencies", Form::Bool),
    ours(plain("Type", Form::Text)),
    ours(plain("NotifyAccess", Form::Text)),
    ours(plain("ExecStart", Form::Command)),
    ours(plain("ExecReload", Form::Command)),
    ours(plain("ExecStopPost", Form::Command)),
    plain("Restart", Form::Text),
    service("RestartSec", "RestartUSec", Form::Span),
    beside(plain("SuccessExitStatus", Form::Statuses)),
    beside(plain("RestartPreventExitStatus", Form::Statuses)),
    beside(plain("RestartForceExitStatus", Form::Statuses)),
    service("TimeoutStartSec", "TimeoutStartUSec", Form::Span),
    service("TimeoutStopSec", "TimeoutStopUSec", Form::Span),
    service("RuntimeMaxSec", "RuntimeMaxUSec", Form::Span),
    service("WatchdogSec", "WatchdogUSec", Form::Span),
    plain("TimeoutStartFailureMode", Form::Text),
    plain("TimeoutStopFailureMode", Form::Text),
    ours(plain("KillMode", Form::Text)),
    ours(plain("Delegate", Form::Bool)),
    plain("Slice", Form::Text),
    ours(plain("OOMPolicy", Form::Text)),
    plain("MemoryMax", Form::Size),
    plain("MemoryHigh", Form::Size),
    plain("MemoryLow", Form::Size),
    plain("MemoryMin", Form::Size),
    plain("MemorySwapMax", Form::Size),
    plain("MemoryZSwapMax", Form::Size),
    plain("TasksMax", Form::Count),
    service("CPUQuota", "CPUQuotaPerSecUSec", Form::Share),
    service("CPUQuotaPeriodSec", "CPUQuotaPeriodUSec", Form::Span),
    plain("CPUWeight", Form::Weight),
    plain("StartupCPUWeight", Form::Weight),
    plain("AllowedCPUs", Form::Mask),
    plain("AllowedMemoryNodes", Form::Mask),
    plain("IOWeight", Form::Weight),
    plain("StartupIOWeight", Form::Weight),
    beside(plain("IOReadBandwidthMax", Form::Rate)),
    beside(plain("IOWriteBandwidthMax", Form::Rate)),
    beside(plain("IOReadIOPSMax", Form::Rate)),
    beside(plain("IOWriteIOPSMax", Form::Rate)),
    plain("IOAccounting", Form::Bool),
    plain("CPUAccounting", Form::Bool),
    plain("ManagedOOMSwap", Form::Text),
    plain("ManagedOOMMemoryPressure", Form::Text),
    plain("ManagedOOMPreference", Form::Text),
    plain("OOMScoreAdjust", Form::Int),
    plain("Nice", Form::Int),
    plain("LimitNOFILE", Form::Limit),
    plain("LimitNPROC", Form::Limit),
    plain("LimitCORE", Form::Limit),
    plain("LimitMEMLOCK", Form::Limit),
    plain("LimitSTACK", Form::Limit),
    beside(plain("LoadCredential", Form::Pair)),
    beside(plain("LoadCredentialEncrypted", Form::Pair)),
    beside(plain("LogExtraFields", Form::Field)),
    plain("LogNamespace", Form::Text),
    service("LogRateLimitIntervalSec", "LogRateLimitIntervalUSec", Form::Span),
    plain("LogRateLimitBurst", Form::Unsigned),
    plain("SyslogIdentifier", Form::Text),
];

/// Properties, or beginnings of names, that a pod cannot have: why, and what there is instead.
pub(super) const REFUSED: &[(&[&str], &str, &str)] = &[
    (
        &[
            "Type",
            "NotifyAccess",
            "GuessMainPID",
            "PIDFile",
            "BusName",
            "RemainAfterExit",
            "ExitType",
        ],
        "the supervisor is the main process and tells when the pod is ready",
        "`--readiness` says when an app is ready",
    ),
    (
        &["Exec"],
        "the command lines of the unit are the supervisor's",
        "an app's own is given behind its image; `--init-app` runs one before the others",
    ),
    (
        &[
            "KillMode",
            "KillSignal",
            "SendSIG",
            "FinalKillSignal",
            "RestartKillSignal",
            "WatchdogSignal",
        ],
        "the supervisor alone is told to stop, and stops the apps in order",
        "`--stop-signal` and `--stop-timeout` say how an app is stopped",
    ),
    (
        &["Delegate", "DisableControllers"],
        "the supervisor makes cgroups beneath the unit",
        "`--memory`, `--cpus` and their like limit apps",
    ),
    (
        &["OOMPolicy"],
        "the pod decides what it means that an app runs out of memory",
        "`--oom-policy` says what",
    ),
    (
        &[
            "User",
            "Group",
            "DynamicUser",
            "SupplementaryGroups",
            "PAMName",
            "UMask",
            "WorkingDirectory",
        ],
        "the supervisor needs to be root of the host; apps are not",
        "`--user` and `--workdir` behind an image are the app's",
    ),
    (
        &["Environment", "PassEnvironment", "UnsetEnvironment"],
        "apps do not see the supervisor's environment",
        "`-e NAME=VALUE` behind an image sets the app's",
    ),
    (
        &["Standard", "TTY"],
        "what apps read and write is the supervisor's to arrange",
        "`-i` and `-t` behind an image connect an app",
    ),
    (
        &[
            "Root",
            "Mount",
            "Protect",
            "Private",
            "ReadWritePaths",
            "ReadOnlyPaths",
            "InaccessiblePaths",
            "ExecPaths",
            "NoExecPaths",
            "TemporaryFileSystem",
            "BindPaths",
            "BindReadOnlyPaths",
            "Capability",
            "AmbientCapabilities",
            "NoNewPrivileges",
            "SecureBits",
            "SystemCall",
            "Restrict",
            "LockPersonality",
            "MemoryDenyWriteExecute",
            "Keyring",
            "AppArmor",
            "SELinux",
            "Smack",
            "Network",
            "IPC",
            "ProcSubset",
            "RemoveIPC",
            "Personality",
            "StateDirectory",
            "RuntimeDirectory",
            "CacheDirectory",
            "LogsDirectory",
            "ConfigurationDirectory",
        ],
        "it would confine the supervisor, which must make namespaces, mounts and cgroups",
        "apps are confined by the pod's own flags: `--read-only`, `--cap-drop`, `--security-opt`, `-v`",
    ),
    (
        &["DevicePolicy", "DeviceAllow"],
        "what devices an app may use is decided for each app",
        "`--device` behind an image gives it one",
    ),
    (
        &["Sockets", "FileDescriptorStore", "OpenFile"],
        "descriptors come to a pod by socket units",
        "`--socket NAME` behind an image gives them to an app",
    ),
    (
        &["SetCredential", "ImportCredential"],
        "its content would be there for every user of the host to read",
        "`--credential NAME=PATH` behind an image gives an app one",
    ),
];

/// Returns the property that unit files spell `file`.
pub(super) fn by_file(file: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.file == file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_property_stands_there_twice_and_none_is_refused_that_users_may_set() {
        let files: BTreeSet<&str> = KNOWN.iter().map(|known| known.file).collect();
        let buses: BTreeSet<&str> = KNOWN.iter().map(|known| known.bus).collect();
        assert_eq!((files.len(), buses.len()), (KNOWN.len(), KNOWN.len()));
        let refused = |file: &str| {
            REFUSED.iter().any(|(names, ..)| names.iter().any(|name| file.starts_with(name)))
        };
        for known in KNOWN {
            assert_eq!(refused(known.file), known.by == By::Us, "{}", known.file);
        }
    }

    #[test]
    fn spans_are_microseconds_on_the_bus() {
        for known in KNOWN.iter().filter(|known| known.form == Form::Span) {
            let expected = known.file.replace("Sec", "USec");
            assert_eq!(known.bus, expected);
        }
    }
}
