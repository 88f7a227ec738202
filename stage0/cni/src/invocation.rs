//! One call of a plugin, as data: what it is asked, about whom, with which object.
//!
//! A plugin that is a program gets this as environment and standard input; one that is code of ours
//! gets it as it is.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, ErrorKind, PluginError, tame};
use crate::json::Object;
use crate::name::{ContainerId, IfName, PluginType};

/// The most bytes of `CNI_ARGS`.
const MAX_ARGS: usize = 16 << 10;

/// What a plugin is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Attach a container.
    Add,
    /// Detach it, whatever there still is of it.
    Del,
    /// Look whether what ADD made is as it was.
    Check,
    /// Tell whether containers can be attached now.
    Status,
    /// Remove what belongs to no attachment that is listed.
    Gc,
    /// Tell which versions are spoken.
    Version,
}

impl Command {
    /// Returns it as `CNI_COMMAND` has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Status => "STATUS",
            Self::Gc => "GC",
            Self::Version => "VERSION",
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a user says to the plugins of a network: `CNI_ARGS`, words and their values. Programs are
/// told to ignore those they do not know, unless the user says something about that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args(Vec<(String, String)>);

impl Args {
    /// Reads `KEY=VALUE;KEY=VALUE`; an empty text is none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Argument`] if a part has no `=` or no key, has control characters, or if it is
    /// longer than 16 KiB.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut args = Self::default();
        for part in text.split(';').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            if !part.contains('=') {
                return Err(unfit(key, "it has no `=`"));
            }
            args.push(key, value)?;
        }
        Ok(args)
    }

    /// Adds an argument behind those there are.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Argument`] if it could be taken for another one, or if all together are longer
    /// than 16 KiB.
    pub fn push(&mut self, key: &str, value: &str) -> Result<(), Error> {
        let bad = |c: char| c == ';' || c.is_control();
        if key.is_empty() || key.contains('=') || key.contains(bad) || value.contains(bad) {
            return Err(unfit(key, "it has no key, or has a `;` or control characters"));
        }
        self.0.push((key.to_owned(), value.to_owned()));
        if self.to_string().len() > MAX_ARGS {
            return Err(unfit(key, "all together are longer than 16 KiB"));
        }
        Ok(())
    }

    /// Returns the value of `key`; of several the last, as plugins do.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(other, _)| other == key).map(|(_, value)| value.as_str())
    }

    /// Returns them as a chain of plugins can take them. Each plugin is given all and knows some; but
    /// for `IgnoreUnknown` a bridge would refuse the address its own IPAM plugin is to take.
    fn to_chain(&self) -> String {
        let all = self.to_string();
        if all.is_empty() || self.value("IgnoreUnknown").is_some() {
            return all;
        }
        format!("IgnoreUnknown=1;{all}")
    }

    /// Returns all keys and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

fn unfit(key: &str, why: &str) -> Error {
    let sentence = format!("`{}` cannot be passed to plugins as an argument", tame(key));
    Error::new(ErrorKind::Argument, sentence).because(why).hint("write it as `KEY=VALUE`")
}

impl fmt::Display for Args {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, value)) in self.0.iter().enumerate() {
            let between = if at == 0 { "" } else { ";" };
            write!(f, "{between}{key}={value}")?;
        }
        Ok(())
    }
}

/// One call of a plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct Invocation {
    /// What it is asked.
    pub command: Command,
    /// Which plugin is asked.
    pub plugin: PluginType,
    /// The attachment it is about; STATUS and GC are about the network as a whole.
    pub subject: Option<Subject>,
    /// Where plugins lie, for one that delegates: directories with `:` between.
    pub plugin_path: String,
    /// The plugin's configuration with what the runtime adds: what a program reads from standard
    /// input.
    pub stdin: Object,
}

/// The attachment an invocation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The container's id.
    pub container: ContainerId,
    /// A path of its network namespace, as the host sees it; `None` if it is no more.
    pub netns: Option<PathBuf>,
    /// The interface in the container.
    pub if_name: IfName,
    /// What the user says to plugins.
    pub args: Args,
}

impl Invocation {
    /// Returns the variables of `CNI_` that a program gets.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut all: Vec<(&'static str, OsString)> =
            vec![("CNI_COMMAND", self.command.as_str().into())];
        if let Some(subject) = &self.subject {
            all.push(("CNI_CONTAINERID", subject.container.as_str().into()));
            all.push(("CNI_NETNS", subject.netns.clone().unwrap_or_default().into()));
            all.push(("CNI_IFNAME", subject.if_name.as_str().into()));
            all.push(("CNI_ARGS", subject.args.to_chain().into()));
        }
        all.push(("CNI_PATH", self.plugin_path.clone().into()));
        all
    }

    /// Reads the configuration, for plugins that are code of ours.
    ///
    /// # Errors
    ///
    /// [`PluginError::UNDECODABLE`] with the parser's words.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, PluginError> {
        self.stdin.read_whole().map_err(|error| {
            let what = format!("the configuration of `{}` cannot be decoded", self.plugin);
            PluginError::new(PluginError::UNDECODABLE, what).details(error.to_string())
        })
    }
}

/// A plugin that is code of ours: called in process, and found before any program of its name.
pub trait BuiltIn: Sync {
    /// Returns the `type` it is found by.
    fn kind(&self) -> &str;

    /// Does what a program of this type would do. It speaks every version of CNI.
    ///
    /// ADD returns a result in the `cniVersion` of the object; everything else returns null. DEL
    /// succeeds when there is nothing left, for the first time or the tenth, and when the namespace
    /// is gone. GC and STATUS may be refused with [`PluginError::INVALID_ENVIRONMENT`].
    ///
    /// # Errors
    ///
    /// As a program would write it to its standard output.
    fn call(&self, invocation: &Invocation) -> Result<Value, PluginError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_cannot_smuggle_further_ones() {
        let args = Args::parse("IgnoreUnknown=1;;IP=10.0.0.1;IP=10.0.0.2;E=").unwrap();
        assert_eq!(args.to_string(), "IgnoreUnknown=1;IP=10.0.0.1;IP=10.0.0.2;E=");
        assert_eq!((args.value("IP"), args.value("E")), (Some("10.0.0.2"), Some("")));
        assert_eq!(Args::parse("").unwrap(), Args::default());
        let chained = |text: &str| Args::parse(text).unwrap().to_chain();
        assert_eq!(chained("IP=10.0.0.1"), "IgnoreUnknown=1;IP=10.0.0.1");
        assert_eq!(
            (chained(""), chained("IgnoreUnknown=0")),
            (String::new(), "IgnoreUnknown=0".into())
        );
        assert!(Args::parse("IP").is_err() && Args::parse("=x").is_err());
        let mut args = Args::default();
        for (key, value) in [("", "x"), ("a;b", "x"), ("a=b", "x"), ("a", "x;y"), ("a", "x\n")] {
            assert!(args.push(key, value).is_err(), "{key}={value}");
        }
        assert!(args.push("a", &"x".repeat(MAX_ARGS)).is_err());
    }
}
