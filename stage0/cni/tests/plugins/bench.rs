//! What the tests of the executor have in common: a directory with plugins that do what the test
//! says, and a journal of what they were told.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use cni::{Args, Attachment, Caller, Capabilities, Executor, Network, PluginPath, Request};
use serde_json::Value;

/// A plugin: writes down what it is told, then does what the file `KIND.COMMAND` beside it says, or
/// what every plugin does.
const PLUGIN: &str = r#"#!/bin/sh
here=${0%/*}; kind=${0##*/}; config=$(cat)
printf '%s %s %s %s\n' "$kind" "$CNI_COMMAND" "${CNI_NETNS:--}" "$config" >> "$here/journal"
if [ -e "$here/$kind.$CNI_COMMAND" ]; then . "$here/$kind.$CNI_COMMAND"; exit; fi
case $CNI_COMMAND in
ADD) printf '{"cniVersion":"1.0.0","made-by":"%s"}' "$kind";;
VERSION) printf '{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}';;
STATUS|GC) printf '{"code":4,"msg":"unknown CNI_COMMAND: %s"}' "$CNI_COMMAND"; exit 1;;
esac
"#;

/// Plugins and records of one test; all of it goes with it.
pub(crate) struct Bench {
    directory: tempfile::TempDir,
}

/// What a plugin was told, as the journal has it.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) plugin: String,
    pub(crate) command: String,
    pub(crate) netns: String,
    pub(crate) config: Value,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for kind in ["a", "b", "c"] {
            install(&directory.path().join(kind), PLUGIN);
        }
        Self { directory }
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Has plugin `kind` do `script` when it is asked `command`.
    pub(crate) fn on(&self, kind: &str, command: &str, script: &str) {
        fs::write(self.at(&format!("{kind}.{command}")), script).unwrap();
    }

    /// Has plugin `kind` do again what every plugin does.
    pub(crate) fn heal(&self, kind: &str, command: &str) {
        fs::remove_file(self.at(&format!("{kind}.{command}"))).unwrap();
    }

    pub(crate) fn caller(&self) -> Caller<'static> {
        Caller {
            plugin_path: PluginPath::parse(self.directory.path().to_str().unwrap()).unwrap(),
            built_in: Vec::new(),
            environment: vec![("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into())],
            time: Duration::from_secs(20),
            log: None,
        }
    }

    pub(crate) fn executor(&self) -> Executor<'static> {
        self.executor_of(self.caller())
    }

    pub(crate) fn executor_of<'a>(&self, caller: Caller<'a>) -> Executor<'a> {
        Executor::new(caller, self.at("net"), Duration::from_secs(20)).unwrap()
    }

    /// What plugins were told since the last call.
    pub(crate) fn journal(&self) -> Vec<Told> {
        let text = fs::read_to_string(self.at("journal")).unwrap_or_default();
        let _ = fs::remove_file(self.at("journal"));
        text.lines()
            .map(|line| {
                let parts: Vec<&str> = line.splitn(4, ' ').collect();
                Told {
                    plugin: parts[0].to_owned(),
                    command: parts[1].to_owned(),
                    netns: parts[2].to_owned(),
                    config: serde_json::from_str(parts[3]).unwrap(),
                }
            })
            .collect()
    }

    /// What plugins were asked since the last call, as `a ADD`.
    pub(crate) fn asked(&self) -> Vec<String> {
        let journal = self.journal();
        journal.iter().map(|told| format!("{} {}", told.plugin, told.command)).collect()
    }

    /// Containers that there still is something of.
    pub(crate) fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.at("net/attachments")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

/// Makes an executable file. Another process writes it: had we it open for writing while another
/// thread forks, it could not be executed until that child has executed something else.
fn install(path: &Path, content: &str) {
    let mut writer = Command::new("install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    writer.stdin.take().unwrap().write_all(content.as_bytes()).unwrap();
    assert!(writer.wait().unwrap().success());
}

/// A network of the plugins `kinds`.
pub(crate) fn network(version: &str, kinds: &[&str]) -> Network {
    let plugins: Vec<Value> = kinds.iter().map(|kind| serde_json::json!({"type": kind})).collect();
    network_of(&serde_json::json!({"cniVersion": version, "name": "web", "plugins": plugins}))
}

pub(crate) fn network_of(list: &Value) -> Network {
    Network::parse(list.to_string().as_bytes()).unwrap()
}

pub(crate) fn request(container: &str) -> Request {
    Request {
        container: container.parse().unwrap(),
        if_name: "eth0".parse().unwrap(),
        netns: "/proc/1/fd/9".into(),
        args: Args::default(),
        capabilities: Capabilities::default(),
    }
}

pub(crate) fn attachment(container: &str) -> Attachment {
    Attachment {
        container: container.parse().unwrap(),
        network: "web".parse().unwrap(),
        if_name: "eth0".parse().unwrap(),
    }
}

/// The sentence of an error and all its causes.
pub(crate) fn chain(error: &cni::Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}\n{cause}");
        next = cause.source();
    }
    text
}
