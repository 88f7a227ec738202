//! A network as an administrator configured it: a name, versions, a chain of plugins.
//!
//! Only what a runtime must know is read. A plugin's own object stays as it was written, unknown
//! keys included. Which file a configuration is in is the business of `directory`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::json;

use crate::capabilities::Capabilities;
use crate::error::{Error, ErrorKind, tame};
use crate::json::Object;
use crate::name::{NetworkName, PluginType};
use crate::version::Version;

/// The largest configuration, in bytes. Real ones have a few hundred.
pub const MAX_CONFIGURATION: usize = 1 << 20;
/// The longest chain. Real ones have up to five plugins; each is a process.
pub const MAX_PLUGINS: usize = 32;

/// A network that containers can be attached to.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    name: NetworkName,
    /// At least one, ascending.
    versions: Vec<Version>,
    disable_check: bool,
    disable_gc: bool,
    inlined_only: bool,
    plugins: Vec<Plugin>,
}

/// One plugin of a chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Plugin {
    kind: PluginType,
    capabilities: BTreeSet<String>,
    object: Object,
}

impl Network {
    /// Reads a configuration: a list of plugins (`plugins`), or a single one (`type`), which is a
    /// chain of one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`] or [`ErrorKind::Version`], naming the key that cannot be used.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let network = Self::parse_open(bytes)?;
        if network.plugins.is_empty() {
            return Err(Error::new(ErrorKind::Configuration, "it has no plugin")
                .hint("list at least one plugin in `plugins`"));
        }
        Ok(network)
    }

    /// Reads a configuration that may get its plugins from other files still.
    pub(crate) fn parse_open(bytes: &[u8]) -> Result<Self, Error> {
        let object = object(bytes)?;
        let name: String = required(&object, "name")?;
        let (single, listed) = (object.has("type"), object.has("plugins"));
        if single && listed {
            return Err(Error::new(
                ErrorKind::Configuration,
                "it has both `type`, as a single plugin has, and `plugins`, as a list of them has",
            )
            .hint("move what belongs to the plugin into an element of `plugins`"));
        }
        let plugins = if single {
            vec![Plugin::of(object.clone())?]
        } else {
            plugins(optional::<Vec<Object>>(&object, "plugins")?.unwrap_or_default())?
        };
        Ok(Self {
            name: NetworkName::parse(&name).map_err(|error| {
                Error::new(ErrorKind::Configuration, "`name` cannot be used").followed_by(&error)
            })?,
            versions: versions(&object)?,
            disable_check: flag(&object, "disableCheck")?,
            disable_gc: flag(&object, "disableGC")?,
            inlined_only: single || flag(&object, "loadOnlyInlinedPlugins")?,
            plugins,
        })
    }

    /// Returns the network's name.
    #[must_use]
    pub fn name(&self) -> &NetworkName {
        &self.name
    }

    /// Returns the versions its configuration is written for, ascending; there is at least one.
    #[must_use]
    pub fn versions(&self) -> &[Version] {
        &self.versions
    }

    /// Tells whether its administrator wants no CHECK.
    #[must_use]
    pub fn disables_check(&self) -> bool {
        self.disable_check
    }

    /// Tells whether its administrator wants no GC.
    #[must_use]
    pub fn disables_gc(&self) -> bool {
        self.disable_gc
    }

    /// Returns its chain of plugins, in the order of ADD.
    #[must_use]
    pub fn plugins(&self) -> &[Plugin] {
        &self.plugins
    }

    /// Lists what is asked for and no plugin of the chain declares, sorted. It would silently not
    /// be there, so a caller should refuse what its user insists on.
    #[must_use]
    pub fn lacks(&self, asked: &Capabilities) -> Vec<String> {
        let heard = |name: &String| self.plugins.iter().any(|plugin| plugin.takes(name));
        asked.to_runtime_config().into_keys().filter(|name| !heard(name)).collect()
    }

    /// Tells whether plugins of the chain may stand in other files, too.
    pub(crate) fn is_open(&self) -> bool {
        !self.inlined_only
    }

    /// Adds plugins behind those there are.
    pub(crate) fn extend(&mut self, more: Vec<Object>) -> Result<(), Error> {
        self.plugins.extend(plugins(more)?);
        if self.plugins.len() > MAX_PLUGINS { Err(too_many()) } else { Ok(()) }
    }

    /// Writes it as a list of plugins for `version` alone; reading that gives the same network.
    pub(crate) fn to_list(&self, version: Version) -> Object {
        let mut list = Object::default();
        list.set("cniVersion", version.as_str());
        list.set("name", self.name.as_str());
        list.set("disableCheck", &self.disable_check);
        list.set("disableGC", &self.disable_gc);
        list.set("loadOnlyInlinedPlugins", &true);
        let objects: Vec<&Object> = self.plugins.iter().map(|plugin| &plugin.object).collect();
        list.set("plugins", &objects);
        list
    }
}

impl Plugin {
    fn of(object: Object) -> Result<Self, Error> {
        let kind: String = required(&object, "type")?;
        let kind = PluginType::parse(&kind).map_err(|error| {
            Error::new(ErrorKind::Configuration, "`type` cannot be used").followed_by(&error)
        })?;
        let declared = optional::<BTreeMap<String, bool>>(&object, "capabilities")?;
        let taken = declared.unwrap_or_default().into_iter().filter(|(_, takes)| *takes);
        Ok(Self { kind, capabilities: taken.map(|(name, _)| name).collect(), object })
    }

    /// Returns the name of its program.
    #[must_use]
    pub fn kind(&self) -> &PluginType {
        &self.kind
    }

    /// Tells whether it declares the capability `name`.
    #[must_use]
    pub fn takes(&self, name: &str) -> bool {
        self.capabilities.contains(name)
    }

    /// Returns its configuration as it was written.
    #[must_use]
    pub fn object(&self) -> &Object {
        &self.object
    }
}

/// Reads one object within its bounds.
pub(crate) fn object(bytes: &[u8]) -> Result<Object, Error> {
    if bytes.len() > MAX_CONFIGURATION {
        let sentence = format!("it is larger than {} KiB", MAX_CONFIGURATION >> 10);
        return Err(Error::new(ErrorKind::Configuration, sentence));
    }
    Object::parse(bytes).map_err(|source| {
        Error::new(ErrorKind::Configuration, "it is no JSON object").because(source)
    })
}

fn plugins(objects: Vec<Object>) -> Result<Vec<Plugin>, Error> {
    if objects.len() > MAX_PLUGINS {
        return Err(too_many());
    }
    let numbered = objects.into_iter().enumerate();
    numbered
        .map(|(at, object)| {
            Plugin::of(object)
                .map_err(|error| error.within(format!("`plugins[{at}]` cannot be used")))
        })
        .collect()
}

fn too_many() -> Error {
    Error::new(ErrorKind::Configuration, format!("it has more than {MAX_PLUGINS} plugins"))
}

/// Reads the versions a configuration is written for: `cniVersion`, and those of `cniVersions` that
/// are spoken here. Of the latter one may be newer than anything we know; that is what it is for.
fn versions(object: &Object) -> Result<Vec<Version>, Error> {
    let one: Option<String> = optional(object, "cniVersion")?;
    let listed: Option<Vec<String>> = optional(object, "cniVersions")?;
    let mut known = BTreeSet::new();
    for text in listed.iter().flatten() {
        known.extend(text.parse::<Version>());
    }
    match one.as_deref().map(str::parse::<Version>) {
        Some(Ok(version)) => {
            known.insert(version);
        }
        Some(Err(error)) if known.is_empty() => return Err(error),
        None if listed.is_none() => return Err(missing("cniVersion")),
        _ => {}
    }
    if known.is_empty() {
        let listed = listed.unwrap_or_default().join(", ");
        let sentence = format!("none of `cniVersions` is spoken here: {}", tame(&listed));
        return Err(Error::new(ErrorKind::Version, sentence)
            .hint("set `cniVersion` to one of 0.3.1, 0.4.0, 1.0.0, 1.1.0"));
    }
    Ok(known.into_iter().collect())
}

/// Reads a flag. Configurations in use have texts as well; libcni takes them since 0.8.
fn flag(object: &Object, key: &str) -> Result<bool, Error> {
    if let Some("true" | "false") | None = object.text(key) {
        return Ok(object.text(key) == Some("true"));
    }
    let text = optional::<String>(object, key)?.unwrap_or_default().to_ascii_lowercase();
    match text.as_str() {
        "true" => Ok(true),
        "false" | "" => Ok(false),
        _ => Err(unusable(key, "it is neither true nor false")),
    }
}

fn required<T: DeserializeOwned>(object: &Object, key: &str) -> Result<T, Error> {
    optional(object, key)?.ok_or_else(|| missing(key))
}

fn optional<T: DeserializeOwned>(object: &Object, key: &str) -> Result<Option<T>, Error> {
    object.read(key).map_err(|source| unusable(key, source))
}

fn missing(key: &str) -> Error {
    let example = match key {
        "cniVersion" => json!("1.0.0"),
        _ => json!("…"),
    };
    Error::new(ErrorKind::Configuration, format!("`{key}` is missing"))
        .hint(format!("add `\"{key}\": {example}`"))
}

fn unusable(key: &str, why: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Configuration, format!("`{key}` cannot be used")).because(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as StdError;

    fn refusal(text: &str) -> String {
        let error = Network::parse(text.as_bytes()).unwrap_err();
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{error}{cause}")
    }

    #[test]
    fn a_list_is_read_and_written_without_loss() {
        let text = br#"{"cniVersion":"0.4.0","name":"web","disableCheck":true,"x":1,"plugins":[
            {"type":"bridge","bridge":"br0","mtu":1e3,"ipam":{"type":"host-local","q":[0.10]}},
            {"type":"portmap","capabilities":{"portMappings":true,"ips":false},"snat":true}]}"#;
        let network = Network::parse(text).unwrap();
        assert_eq!(network.name().as_str(), "web");
        assert_eq!(network.versions(), [Version::V0_4_0]);
        assert!(network.disables_check() && !network.disables_gc());
        let [bridge, portmap] = network.plugins() else { panic!("{network:?}") };
        assert_eq!(bridge.object().text("ipam"), Some(r#"{"type":"host-local","q":[0.10]}"#));
        assert!(portmap.takes("portMappings") && !portmap.takes("ips"));
        let again = network.to_list(Version::V0_4_0).to_string();
        assert_eq!(Network::parse(again.as_bytes()).unwrap().plugins(), network.plugins());
    }

    #[test]
    fn a_single_plugin_is_a_chain_of_one() {
        let text = br#"{"cniVersion":"0.3.1","name":"lo","type":"loopback"}"#;
        let network = Network::parse(text).unwrap();
        assert_eq!(network.plugins()[0].kind().as_str(), "loopback");
        assert!(!network.is_open());
    }

    #[test]
    fn versions_that_nobody_knows_yet_do_not_count() {
        let of = |text: &str| {
            let text = format!(r#"{{{text}"name":"a","plugins":[{{"type":"b"}}]}}"#);
            Network::parse(text.as_bytes()).map(|network| network.versions().to_vec())
        };
        let both = vec![Version::V1_0_0, Version::V1_1_0];
        let listed = r#""cniVersion":"1.0.0","cniVersions":["1.1.0","9.0.0","1.0.0"],"#;
        assert_eq!(of(listed).unwrap(), both);
        assert_eq!(of(r#""cniVersions":["1.1.0","1.0.0"],"#).unwrap(), both);
        let newer = r#""cniVersion":"9.0.0","cniVersions":["1.0.0"],"#;
        assert_eq!(of(newer).unwrap(), [Version::V1_0_0]);
        for none in [r#""cniVersion":"9.0.0","#, r#""cniVersions":["9.0.0"],"#] {
            assert_eq!(of(none).unwrap_err().kind(), ErrorKind::Version);
        }
        assert_eq!(of("").unwrap_err().hints(), [r#"add `"cniVersion": "1.0.0"`"#]);
    }

    #[test]
    fn flags_may_be_texts() {
        let of = |value: &str| {
            let text = format!(
                r#"{{"cniVersion":"1.0.0","name":"a","disableGC":{value},"plugins":[{{"type":"b"}}]}}"#
            );
            Network::parse(text.as_bytes()).map(|network| network.disables_gc())
        };
        for (value, meaning) in
            [("true", true), ("false", false), ("\"True\"", true), ("null", false)]
        {
            assert_eq!(of(value).unwrap(), meaning, "{value}");
        }
        assert!(of("1").is_err() && of("\"yes\"").is_err() && of("[]").is_err());
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let head = r#""cniVersion":"1.0.0","name":"a""#;
        let cases = [
            ("", "it is no JSON object: EOF while parsing a value at line 1 column 0"),
            (
                "[]",
                "it is no JSON object: invalid type: sequence, expected a map at line 1 column 0",
            ),
            ("{}", "`name` is missing"),
            (
                r#"{"name":7}"#,
                "`name` cannot be used: invalid type: integer `7`, expected a string at line 1 column 1",
            ),
            (
                r#"{"name":"../a","type":"b","cniVersion":"1.0.0"}"#,
                "`name` cannot be used: `../a` is no name of a network",
            ),
            (&format!("{{{head}}}"), "it has no plugin"),
            (
                &format!(r#"{{{head},"plugins":{{}}}}"#),
                "`plugins` cannot be used: invalid type: map, expected a sequence at line 1 column 0",
            ),
            (
                &format!(r#"{{{head},"plugins":[{{"type":"a"}},{{}}]}}"#),
                "`plugins[1]` cannot be used: `type` is missing",
            ),
            (
                &format!(r#"{{{head},"type":"/bin/sh"}}"#),
                "`type` cannot be used: `/bin/sh` is no type of a plugin",
            ),
            (
                &format!(r#"{{{head},"type":"a","plugins":[]}}"#),
                "it has both `type`, as a single plugin has, and `plugins`, as a list of them has",
            ),
            (
                &format!(r#"{{{head},"type":"a","capabilities":{{"ips":"yes"}}}}"#),
                "`capabilities` cannot be used: invalid type: string \"yes\", expected a boolean at line 1 column 12",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(refusal(text), expected, "{text}");
        }
    }

    #[test]
    fn hostile_sizes_are_refused() {
        let huge = format!(r#"{{"name":"{}"}}"#, "x".repeat(MAX_CONFIGURATION));
        assert_eq!(refusal(&huge), "it is larger than 1024 KiB");
        let long = r#"{"type":"a"},"#.repeat(33);
        let list = format!(
            r#"{{"cniVersion":"1.0.0","name":"a","plugins":[{}]}}"#,
            long.trim_end_matches(',')
        );
        assert_eq!(refusal(&list), "it has more than 32 plugins");
        let deep = format!(r#"{{"a":{}"#, "[".repeat(500_000));
        assert!(refusal(&deep).contains("nested"), "{}", refusal(&deep));
    }
}
