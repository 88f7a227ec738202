//! Asks one plugin one thing, be it a program or code of ours, and makes of whatever happens either
//! an answer or an error that tells what happened.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::time::Duration;

use rustix::fs::MemfdFlags;
use serde_json::Value;

use crate::error::{Error, ErrorKind, PluginError, tame};
use crate::exec::{self, End, MAX_ANSWER, Said};
use crate::invocation::{BuiltIn, Command, Invocation};
use crate::name::PluginType;
use crate::search::PluginPath;

/// The most lines of a plugin's log that become part of an error.
const SHOWN_LINES: usize = 5;

/// Something a plugin said beside its answer.
#[derive(Clone, Copy, Debug)]
pub struct Logged<'a> {
    /// Who said it.
    pub plugin: &'a PluginType,
    /// What it was asked.
    pub command: Command,
    /// The end of what it said, as it said it; it may hold anything.
    pub text: &'a str,
}

/// Takes what plugins say beside their answers.
pub type Log<'a> = dyn Fn(&Logged<'_>) + Sync + 'a;

/// How plugins are found and called.
#[derive(Clone)]
pub struct Caller<'a> {
    /// Where programs are searched for.
    pub plugin_path: PluginPath,
    /// Plugins that are code of ours; they come before programs.
    pub built_in: Vec<&'a dyn BuiltIn>,
    /// The variables programs get beside those of `CNI_`. Most need `PATH`: they run `iptables`.
    pub environment: Vec<(OsString, OsString)>,
    /// How long one call of a program may take.
    pub time: Duration,
    /// Who takes what plugins say beside their answers; an error has its last lines either way.
    pub log: Option<&'a Log<'a>>,
}

impl Caller<'_> {
    /// Asks a plugin, and returns what it answers; null if the command has no answer.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PluginMissing`], [`ErrorKind::Plugin`] with the plugin's own words,
    /// [`ErrorKind::TimedOut`], [`ErrorKind::Garbage`], [`ErrorKind::Storage`] if it cannot be run.
    pub(crate) fn ask(
        &self,
        invocation: &Invocation,
        input: Option<&File>,
    ) -> Result<Value, Error> {
        let kind = invocation.plugin.as_str();
        match self.built_in.iter().find(|built_in| built_in.kind() == kind) {
            Some(built_in) => {
                built_in.call(invocation).map_err(|refusal| refused(invocation, refusal))
            }
            None => self.run(invocation, input),
        }
    }

    /// Tells whether a plugin is code of ours.
    pub(crate) fn is_built_in(&self, plugin: &PluginType) -> bool {
        self.built_in.iter().any(|built_in| built_in.kind() == plugin.as_str())
    }

    fn run(&self, invocation: &Invocation, input: Option<&File>) -> Result<Value, Error> {
        let plugin = &invocation.plugin;
        let program = self.plugin_path.find(plugin)?;
        let unrunnable = |source: &dyn fmt::Display| {
            let sentence = format!("cannot run plugin `{plugin}`, `{}`", program.display());
            Error::new(ErrorKind::Storage, sentence).because(source)
        };
        let memory;
        let input = match input {
            Some(input) => input,
            None => {
                let made = rustix::fs::memfd_create("cni", MemfdFlags::CLOEXEC);
                memory = File::from(made.map_err(|errno| unrunnable(&errno))?);
                &memory
            }
        };
        let said = exec::run(&program, invocation, &self.environment, input, self.time)
            .map_err(|error| unrunnable(&error))?;
        if let Some(log) = self.log.filter(|_| !said.log.trim().is_empty()) {
            log(&Logged { plugin, command: invocation.command, text: &said.log });
        }
        self.understand(invocation, &said).map_err(|error| with_log(error, &said.log))
    }

    fn understand(&self, invocation: &Invocation, said: &Said) -> Result<Value, Error> {
        let Invocation { plugin, command, .. } = invocation;
        let garbage = |what: &str| {
            Error::new(
                ErrorKind::Garbage,
                format!("plugin `{plugin}` answered {command} with {what}"),
            )
        };
        let status = match said.end {
            End::Status(status) => status,
            End::TimedOut => {
                let seconds = self.time.as_secs_f64();
                let sentence = format!(
                    "plugin `{plugin}` had not ended {command} after {seconds} s and was killed"
                );
                return Err(Error::new(ErrorKind::TimedOut, sentence));
            }
            End::TooMuch => {
                return Err(garbage(&format!("more than {} KiB and was killed", MAX_ANSWER >> 10)));
            }
        };
        if !status.success() {
            return Err(match PluginError::read(&said.answer) {
                Some(refusal) => refused(invocation, refusal),
                None => {
                    let sentence = format!("plugin `{plugin}` ended {command} with {status}");
                    Error::new(ErrorKind::Plugin, sentence).because(shown(&said.answer))
                }
            });
        }
        if !matches!(command, Command::Add | Command::Version) {
            return Ok(Value::Null);
        }
        match serde_json::from_slice::<Value>(&said.answer) {
            Ok(answer) if answer.is_object() => Ok(answer),
            Ok(_) => Err(garbage("what is no JSON object").because(shown(&said.answer))),
            Err(_) if said.answer.trim_ascii().is_empty() => Err(garbage("nothing")),
            Err(error) => {
                Err(garbage("what is no JSON").because(error).because(shown(&said.answer)))
            }
        }
    }
}

impl fmt::Debug for Caller<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<&str> = self.built_in.iter().map(|built_in| built_in.kind()).collect();
        f.debug_struct("Caller")
            .field("plugin_path", &self.plugin_path)
            .field("built_in", &kinds)
            .field("environment", &self.environment)
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}

fn refused(invocation: &Invocation, refusal: PluginError) -> Error {
    let Invocation { plugin, command, .. } = invocation;
    let code = refusal.code;
    let error = Error::new(ErrorKind::Plugin, format!("plugin `{plugin}` refused {command}"));
    let error = error.said(refusal);
    match code {
        PluginError::INCOMPATIBLE_VERSION => {
            error.hint("set `cniVersion` of the network to one the plugin speaks")
        }
        PluginError::TRY_AGAIN_LATER => error.hint("try again: what it needs is not ready yet"),
        _ => error,
    }
}

/// Adds the last lines of a plugin's log.
fn with_log(error: Error, log: &str) -> Error {
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
    last.iter().fold(error, |error, line| error.because(format_args!("it logged: {}", tame(line))))
}

/// The beginning of an answer, to be shown; empty if there is none.
fn shown(answer: &[u8]) -> String {
    let beginning = String::from_utf8_lossy(&answer[..answer.len().min(256)]);
    let shown = tame(&beginning);
    if shown.is_empty() { shown } else { format!("it said: {shown}") }
}
