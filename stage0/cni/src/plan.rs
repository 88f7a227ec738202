//! What every plugin of a chain will be told, word by word. Pure: nothing is run, nothing is read.
//!
//! ```text
//! its own object                 as written, unknown keys included
//!   - capabilities               it was for the runtime
//!   + cniVersion, name           the network's
//!   + runtimeConfig              what it declares and we are asked for
//!   + prevResult                 ADD: of the plugin before; CHECK, DEL: the last there is
//!   + cni.dev/valid-attachments  GC alone
//! ```
//!
//! Source: CNI 1.1 `SPEC.md`, "Deriving execution configuration from plugin configuration".

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::config::{Network, Plugin};
use crate::invocation::{Command, Invocation, Subject};
use crate::json::Object;
use crate::name::Attachment;
use crate::version::Version;

/// The chain of a network, as it is run for one attachment or for all.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a> {
    /// The network.
    pub network: &'a Network,
    /// The version that is spoken with all its plugins.
    pub version: Version,
    /// Where plugins lie: directories with `:` between.
    pub plugin_path: &'a str,
}

/// What a plugin is told beside its own configuration.
#[derive(Clone, Copy, Debug)]
pub struct Matter<'a> {
    /// The attachment it is about.
    pub subject: &'a Subject,
    /// What is asked for, by the names of capabilities.
    pub runtime_config: &'a BTreeMap<String, Value>,
    /// What there is so far.
    pub result: Option<&'a Value>,
}

impl Chain<'_> {
    /// Plans ADD, DEL or CHECK of one plugin.
    #[must_use]
    pub fn about(&self, plugin: &Plugin, command: Command, matter: &Matter<'_>) -> Invocation {
        let mut stdin = self.derived(plugin);
        let asked = matter.runtime_config.iter().filter(|(name, _)| plugin.takes(name));
        let asked: BTreeMap<&String, &Value> = asked.collect();
        if !asked.is_empty() {
            stdin.set("runtimeConfig", &asked);
        }
        // DEL learnt of results with CHECK.
        let told = command != Command::Del || self.version.remembers();
        if let Some(result) = matter.result.filter(|_| told) {
            stdin.set("prevResult", result);
        }
        self.call(plugin, command, Some(matter.subject.clone()), stdin)
    }

    /// Plans STATUS of one plugin.
    #[must_use]
    pub fn status(&self, plugin: &Plugin) -> Invocation {
        self.call(plugin, Command::Status, None, self.derived(plugin))
    }

    /// Plans GC of one plugin: what belongs to none of `valid` may go.
    #[must_use]
    pub fn gc(&self, plugin: &Plugin, valid: &[Attachment]) -> Invocation {
        let each = |attachment: &Attachment| {
            json!({
                "containerID": attachment.container.as_str(),
                "ifname": attachment.if_name.as_str(),
            })
        };
        let valid: Vec<Value> = valid.iter().map(each).collect();
        let mut stdin = self.derived(plugin);
        stdin.set("cni.dev/valid-attachments", &valid);
        // Plugins built with libcni 1.2.0 to 1.2.2 look here, and would take none for nobody.
        stdin.set("cni.dev/attachments", &valid);
        self.call(plugin, Command::Gc, None, stdin)
    }

    /// Plans the question which versions a plugin speaks.
    #[must_use]
    pub fn version(&self, plugin: &Plugin) -> Invocation {
        let mut stdin = Object::default();
        stdin.set("cniVersion", self.version.as_str());
        self.call(plugin, Command::Version, None, stdin)
    }

    fn derived(&self, plugin: &Plugin) -> Object {
        let mut object = plugin.object().clone();
        object.remove("capabilities");
        object.set("cniVersion", self.version.as_str());
        object.set("name", self.network.name().as_str());
        object
    }

    fn call(
        &self,
        plugin: &Plugin,
        command: Command,
        subject: Option<Subject>,
        stdin: Object,
    ) -> Invocation {
        let plugin_path = self.plugin_path.to_owned();
        Invocation { command, plugin: plugin.kind().clone(), subject, plugin_path, stdin }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capabilities::{Capabilities, PortMapping, Protocol};
    use crate::invocation::Args;
    use std::ffi::OsStr;
    use std::path::PathBuf;

    const LIST: &[u8] = br#"{"cniVersion":"1.0.0","cniVersions":["0.3.1"],"name":"web","plugins":[
        {"type":"bridge","name":"ignored","big":123456789012345678901,"capabilities":{"ips":true}},
        {"type":"portmap","capabilities":{"portMappings":true,"ips":false},"snat":false}]}"#;

    fn subject() -> Subject {
        Subject {
            container: "pod-1".parse().unwrap(),
            netns: Some(PathBuf::from("/proc/7/fd/3")),
            if_name: "eth0".parse().unwrap(),
            args: Args::parse("IgnoreUnknown=1").unwrap(),
        }
    }

    fn asked() -> BTreeMap<String, Value> {
        let ports = vec![PortMapping {
            host_port: 8080,
            container_port: 80,
            protocol: Protocol::Tcp,
            host_ip: None,
        }];
        let mac = Some("aa:bb:cc:dd:ee:ff".to_owned());
        let ips = vec!["10.0.0.9".parse().unwrap()];
        Capabilities { port_mappings: ports, mac, ips, ..Capabilities::default() }
            .to_runtime_config()
    }

    #[test]
    fn a_plugin_is_told_its_own_and_what_it_declares() {
        let network = Network::parse(LIST).unwrap();
        let chain = Chain { network: &network, version: Version::V1_0_0, plugin_path: "/a:/b" };
        let (subject, asked) = (subject(), asked());
        let first = Matter { subject: &subject, runtime_config: &asked, result: None };
        let bridge = chain.about(&network.plugins()[0], Command::Add, &first);
        assert_eq!(
            bridge.stdin.to_string(),
            r#"{"big":123456789012345678901,"cniVersion":"1.0.0","name":"web","runtimeConfig":{"ips":["10.0.0.9"]},"type":"bridge"}"#
        );
        let result = json!({"cniVersion": "1.0.0"});
        let second = Matter { result: Some(&result), ..first };
        let portmap = chain.about(&network.plugins()[1], Command::Add, &second);
        assert_eq!(
            portmap.stdin.to_string(),
            r#"{"cniVersion":"1.0.0","name":"web","prevResult":{"cniVersion":"1.0.0"},"runtimeConfig":{"portMappings":[{"containerPort":80,"hostPort":8080,"protocol":"tcp"}]},"snat":false,"type":"portmap"}"#
        );
        let told: Vec<(&str, &OsStr)> = vec![
            ("CNI_COMMAND", OsStr::new("ADD")),
            ("CNI_CONTAINERID", OsStr::new("pod-1")),
            ("CNI_NETNS", OsStr::new("/proc/7/fd/3")),
            ("CNI_IFNAME", OsStr::new("eth0")),
            ("CNI_ARGS", OsStr::new("IgnoreUnknown=1")),
            ("CNI_PATH", OsStr::new("/a:/b")),
        ];
        let environment = portmap.environment();
        let environment: Vec<(&str, &OsStr)> =
            environment.iter().map(|(key, value)| (*key, value.as_os_str())).collect();
        assert_eq!(environment, told);
        let missing = network.lacks(&Capabilities {
            mac: Some("aa:bb:cc:dd:ee:ff".to_owned()),
            ips: vec!["10.0.0.9".parse().unwrap()],
            ..Capabilities::default()
        });
        assert_eq!(missing, ["mac"]);
    }

    #[test]
    fn del_is_told_the_result_since_it_can_be_checked() {
        let network = Network::parse(LIST).unwrap();
        let (subject, asked) = (Subject { netns: None, ..subject() }, BTreeMap::new());
        let result = json!({"cniVersion": "0.3.1"});
        let matter = Matter { subject: &subject, runtime_config: &asked, result: Some(&result) };
        for (version, told) in [(Version::V0_3_1, false), (Version::V0_4_0, true)] {
            let chain = Chain { network: &network, version, plugin_path: "" };
            let del = chain.about(&network.plugins()[1], Command::Del, &matter);
            assert_eq!(del.stdin.has("prevResult"), told, "{version}");
            assert!(!del.stdin.has("runtimeConfig"));
            let netns = del.environment().into_iter().find(|(key, _)| *key == "CNI_NETNS");
            assert_eq!(netns.unwrap().1, "");
        }
    }

    #[test]
    fn what_is_about_no_container_names_none() {
        let network = Network::parse(LIST).unwrap();
        let chain = Chain { network: &network, version: Version::V1_1_0, plugin_path: "/a" };
        let valid = Attachment {
            container: "pod-1".parse().unwrap(),
            network: network.name().clone(),
            if_name: "eth0".parse().unwrap(),
        };
        let gc = chain.gc(&network.plugins()[1], &[valid]);
        let listed = r#"[{"containerID":"pod-1","ifname":"eth0"}]"#;
        assert_eq!(gc.stdin.text("cni.dev/valid-attachments"), Some(listed));
        assert_eq!(gc.stdin.text("cni.dev/attachments"), Some(listed));
        let keys: Vec<&str> = gc.environment().iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, ["CNI_COMMAND", "CNI_PATH"]);
        let status = chain.status(&network.plugins()[1]).stdin.to_string();
        assert_eq!(status, r#"{"cniVersion":"1.1.0","name":"web","snat":false,"type":"portmap"}"#);
    }
}
