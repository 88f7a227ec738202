//! The flags that limit what an app may use, and the same with `pod-` in front, which limit all
//! apps of a pod together. One table for both, so that neither can lack what the other has.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

/// One flag.
#[derive(Debug)]
pub(crate) struct ResourceFlag {
    /// What an app's is called.
    app: &'static str,
    /// What a pod's is called.
    pod: &'static str,
    value: &'static str,
    help: &'static str,
    help_of_pod: &'static str,
    repeatable: bool,
}

macro_rules! table {
    ($($repeatable:literal $name:literal $value:literal $help:literal;)*) => {
        /// The flags, in the order they are shown.
        pub(crate) const RESOURCE_FLAGS: &[ResourceFlag] = &[$(ResourceFlag {
            app: $name,
            pod: concat!("pod-", $name),
            value: $value,
            help: $help,
            help_of_pod: concat!("`--", $name, "` of all apps together"),
            repeatable: $repeatable,
        },)*];
    };
}

table! {
    false "memory" "BYTES" "Bytes of memory, such as `512m`";
    false "memory-reservation" "BYTES" "Bytes of memory it keeps while others have more than theirs";
    false "memory-high" "BYTES" "Bytes of memory above which it is slowed down and made to give back";
    false "memory-swap" "BYTES" "Bytes of memory and swap together, `-1` for all swap there is [default: as --memory, so none]";
    false "cpus" "NUMBER" "Processors, such as `1.5`";
    false "cpu-weight" "WEIGHT" "Share of processors where there are too few, 1 to 10000 [default: 100]";
    false "cpu-shares" "SHARES" "The same in docker's measure, 2 to 262144, of which 1024 is everybody's";
    false "cpuset-cpus" "LIST" "Processors it may run on, such as `0-3,5`";
    false "cpuset-mems" "LIST" "Memory nodes it may use";
    false "pids-limit" "NUMBER" "Processes and threads";
    false "io-weight" "WEIGHT" "Share of block devices, 1 to 10000 [default: 100]";
    false "blkio-weight" "WEIGHT" "The same in docker's measure, 10 to 1000";
    true "device-read-bps" "DEVICE:BYTES" "Bytes a second read from a block device (repeatable)";
    true "device-write-bps" "DEVICE:BYTES" "Bytes a second written to a block device (repeatable)";
    true "device-read-iops" "DEVICE:NUMBER" "Reads a second of a block device (repeatable)";
    true "device-write-iops" "DEVICE:NUMBER" "Writes a second to a block device (repeatable)";
}

/// Whose flags they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Owner {
    /// An app's.
    #[default]
    App,
    /// A pod's, before the first image.
    Pod,
}

impl ResourceFlag {
    const fn name(&self, owner: Owner) -> &'static str {
        match owner {
            Owner::App => self.app,
            Owner::Pod => self.pod,
        }
    }

    fn arg(&self, owner: Owner) -> Arg {
        let help = match owner {
            Owner::App => self.help,
            Owner::Pod => self.help_of_pod,
        };
        let name = self.name(owner);
        let action = if self.repeatable { ArgAction::Append } else { ArgAction::Set };
        let arg = Arg::new(name).long(name).value_name(self.value).help(help).action(action);
        // `-1` is no limit.
        let arg = arg.allow_negative_numbers(true);
        if name == "memory" { arg.short('m') } else { arg }
    }
}

/// Tells whether a word is a flag of an app that a pod has, too, and returns the pod's.
pub(crate) fn of_pod(word: &str) -> Option<String> {
    let name = word.split('=').next().unwrap_or(word);
    let name = if name.starts_with("-m") { "memory" } else { name.strip_prefix("--")? };
    let flag = RESOURCE_FLAGS.iter().find(|flag| flag.app == name)?;
    Some(format!("--{}", flag.pod))
}

/// The words of such flags, as typed, by the name of an app's.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResourceWords {
    owner: Owner,
    words: BTreeMap<&'static str, Vec<String>>,
}

impl ResourceWords {
    /// Returns what was given for a flag that is given once.
    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        self.all(name).last().map(String::as_str)
    }

    /// Returns what was given for a flag.
    pub(crate) fn all(&self, name: &str) -> &[String] {
        debug_assert!(RESOURCE_FLAGS.iter().any(|flag| flag.app == name), "{name}");
        self.words.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns the first flag that was given, as it is typed.
    pub(crate) fn given(&self) -> Option<String> {
        self.words.keys().next().map(|name| self.flag(name))
    }

    /// Returns a flag as it is typed.
    pub(crate) fn flag(&self, name: &str) -> String {
        match self.owner {
            Owner::App => format!("--{name}"),
            Owner::Pod => format!("--pod-{name}"),
        }
    }

    fn augment(command: Command, owner: Owner) -> Command {
        command.args(RESOURCE_FLAGS.iter().map(|flag| flag.arg(owner)))
    }

    fn read(matches: &ArgMatches, owner: Owner) -> Self {
        let given = |flag: &ResourceFlag| {
            let words: Vec<String> =
                matches.get_many::<String>(flag.name(owner))?.cloned().collect();
            Some((flag.app, words))
        };
        Self { owner, words: RESOURCE_FLAGS.iter().filter_map(given).collect() }
    }
}

macro_rules! flags_of {
    ($name:ident, $owner:expr, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Debug, Default)]
        pub(crate) struct $name(pub(crate) ResourceWords);

        impl FromArgMatches for $name {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                Ok(Self(ResourceWords::read(matches, $owner)))
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                *self = Self::from_arg_matches(matches)?;
                Ok(())
            }
        }

        impl Args for $name {
            fn augment_args(command: Command) -> Command {
                ResourceWords::augment(command, $owner)
            }

            fn augment_args_for_update(command: Command) -> Command {
                Self::augment_args(command)
            }
        }
    };
}

flags_of!(AppResources, Owner::App, "The flags that limit an app.");
flags_of!(PodResources, Owner::Pod, "The flags that limit all apps of a pod together.");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_every_limit_of_an_app_under_its_own_name() {
        let app = AppResources::augment_args(Command::new("x").no_binary_name(true));
        let both = PodResources::augment_args(app);
        let words = ["-m", "-1", "--pod-memory=2g", "--device-read-bps", "/a:1"];
        let words = words.into_iter().chain(["--device-read-bps", "/b:2"]);
        let matches = both.try_get_matches_from(words).unwrap();
        let app = AppResources::from_arg_matches(&matches).unwrap().0;
        let pod = PodResources::from_arg_matches(&matches).unwrap().0;
        assert_eq!((app.one("memory"), pod.one("memory")), (Some("-1"), Some("2g")));
        assert_eq!(app.all("device-read-bps"), ["/a:1", "/b:2"]);
        assert_eq!(pod.given().as_deref(), Some("--pod-memory"));
        assert_eq!(app.given().as_deref(), Some("--device-read-bps"));
    }

    #[test]
    fn a_flag_of_an_app_leads_to_that_of_the_pod() {
        assert_eq!(of_pod("--memory=1g").as_deref(), Some("--pod-memory"));
        assert_eq!(of_pod("-m").as_deref(), Some("--pod-memory"));
        assert_eq!(of_pod("--cpus").as_deref(), Some("--pod-cpus"));
        assert_eq!(of_pod("--env"), None);
        assert_eq!(of_pod("-e"), None);
    }
}
