//! What ADD says it made: interfaces, addresses, routes, how names are resolved.
//!
//! Read leniently, for plugins differ: null is nothing, an interface that is not there is none, and
//! an address says by itself whether it is IPv4. Written exactly as the version wants it.
//!
//! | | 0.3.1, 0.4.0 | 1.0.0 | 1.1.0 |
//! |---|---|---|---|
//! | `ips[].version` | `"4"`, `"6"` | – | – |
//! | `interfaces[].mtu`, `socketPath`, `pciID` | – | – | yes |
//! | `routes[].mtu`, `advmss`, `priority`, `table`, `scope` | – | – | yes |

use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use crate::address::Cidr;
use crate::version::Version;

/// The most interfaces, addresses and routes a result may have, each.
pub const MAX_ITEMS: usize = 1024;

/// What a network made of an attachment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct AddResult {
    /// Interfaces, on the host and in the container.
    #[serde(default, deserialize_with = "lenient")]
    pub interfaces: Vec<Interface>,
    /// Addresses.
    #[serde(default, deserialize_with = "lenient")]
    pub ips: Vec<Ip>,
    /// Routes in the container.
    #[serde(default, deserialize_with = "lenient")]
    pub routes: Vec<Route>,
    /// How names are resolved.
    #[serde(default, deserialize_with = "lenient")]
    pub dns: Dns,
}

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// Its name.
    #[serde(default, deserialize_with = "lenient")]
    pub name: String,
    /// Its hardware address; may be empty.
    #[serde(default, deserialize_with = "lenient")]
    pub mac: String,
    /// The longest packet, in bytes; 0 if nobody says.
    #[serde(default, deserialize_with = "lenient")]
    pub mtu: u32,
    /// The path of its namespace; empty for one of the host.
    #[serde(default, deserialize_with = "lenient")]
    pub sandbox: String,
    /// The path of a socket that stands for it; may be empty.
    #[serde(default, deserialize_with = "lenient")]
    pub socket_path: String,
    /// The device behind it; may be empty.
    #[serde(rename = "pciID", default, deserialize_with = "lenient")]
    pub pci_id: String,
}

/// An address.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Ip {
    /// The address and its network.
    pub address: Cidr,
    /// The way out.
    #[serde(default, deserialize_with = "lenient_address")]
    pub gateway: Option<IpAddr>,
    /// Which of the interfaces has it.
    #[serde(default, deserialize_with = "lenient_index")]
    pub interface: Option<usize>,
}

/// A route in the container.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Route {
    /// Where it leads.
    pub dst: Cidr,
    /// Through whom; `None` is the gateway of the address.
    #[serde(default, deserialize_with = "lenient_address")]
    pub gw: Option<IpAddr>,
    /// The longest packet, in bytes; 0 if nobody says.
    #[serde(default, deserialize_with = "lenient")]
    pub mtu: u32,
    /// The longest segment of TCP to tell peers, in bytes; 0 if nobody says.
    #[serde(default, deserialize_with = "lenient")]
    pub advmss: u32,
    /// Lower ones win; 0 if nobody says.
    #[serde(default, deserialize_with = "lenient")]
    pub priority: u32,
    /// The table it is in; `None` is the main one.
    #[serde(default, deserialize_with = "lenient")]
    pub table: Option<u32>,
    /// Its scope as a number of `rtnetlink(7)`; `None` if nobody says.
    #[serde(default, deserialize_with = "lenient")]
    pub scope: Option<u32>,
}

/// How names are resolved, as `resolv.conf(5)` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Dns {
    /// Addresses of servers, the first is asked first.
    #[serde(default, deserialize_with = "lenient")]
    pub nameservers: Vec<String>,
    /// The domain of the container; may be empty.
    #[serde(default, deserialize_with = "lenient")]
    pub domain: String,
    /// Domains that are tried behind a name.
    #[serde(default, deserialize_with = "lenient")]
    pub search: Vec<String>,
    /// Options of the resolver.
    #[serde(default, deserialize_with = "lenient")]
    pub options: Vec<String>,
}

/// Why something is no result.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// It is a number, a text, a list or nothing.
    #[error("it is no JSON object")]
    NoObject,
    /// It is of a form before 0.3, with `ip4` and `ip6`.
    #[error("it is a result of version {0}, which is not spoken here")]
    TooOld(String),
    /// It has more than [`MAX_ITEMS`] of something.
    #[error("it has more than {MAX_ITEMS} {0}")]
    TooMany(&'static str),
    /// A key is not of the type it should be of.
    #[error("{0}")]
    Shape(#[from] serde_json::Error),
}

impl AddResult {
    /// Reads a result of any version from 0.3 on.
    ///
    /// # Errors
    ///
    /// [`ResultError`] if it is none, or too large to be one.
    pub fn read(value: &Value) -> Result<Self, ResultError> {
        // A structure could be read from a list as well, which no plugin means.
        if !value.is_object() {
            return Err(ResultError::NoObject);
        }
        let version = value["cniVersion"].as_str().unwrap_or_default();
        if version.starts_with("0.1.") || version.starts_with("0.2.") {
            return Err(ResultError::TooOld(version.chars().take(16).collect()));
        }
        // Counted before anything is made of it.
        for key in ["interfaces", "ips", "routes"] {
            if value[key].as_array().is_some_and(|items| items.len() > MAX_ITEMS) {
                return Err(ResultError::TooMany(key));
            }
        }
        let mut read = Self::deserialize(value)?;
        let there = read.interfaces.len();
        for ip in &mut read.ips {
            ip.interface = ip.interface.filter(|at| *at < there);
        }
        Ok(read)
    }

    /// Writes it as `version` wants it.
    #[must_use]
    pub fn write(&self, version: Version) -> Value {
        json!({
            "cniVersion": version.as_str(),
            "interfaces": self.interfaces.iter().map(|each| each.write(version)).collect::<Value>(),
            "ips": self.ips.iter().map(|each| each.write(version)).collect::<Value>(),
            "routes": self.routes.iter().map(|each| each.write(version)).collect::<Value>(),
            "dns": self.dns.write(),
        })
    }

    /// Returns the addresses of interfaces in the container, those that no interface is named for
    /// included.
    pub fn container_ips(&self) -> impl Iterator<Item = &Ip> {
        self.ips.iter().filter(|ip| {
            ip.interface.is_none_or(|at| self.interfaces.get(at).is_none_or(Interface::is_inside))
        })
    }
}

impl Interface {
    /// Tells whether it is in the container.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        !self.sandbox.is_empty()
    }

    fn write(&self, version: Version) -> Value {
        let mut map = Map::from_iter([("name".to_owned(), json!(self.name))]);
        put(&mut map, "mac", &self.mac, self.mac.is_empty());
        put(&mut map, "sandbox", &self.sandbox, self.sandbox.is_empty());
        if version >= Version::V1_1_0 {
            put(&mut map, "mtu", &self.mtu, self.mtu == 0);
            put(&mut map, "socketPath", &self.socket_path, self.socket_path.is_empty());
            put(&mut map, "pciID", &self.pci_id, self.pci_id.is_empty());
        }
        Value::Object(map)
    }
}

impl Ip {
    fn write(&self, version: Version) -> Value {
        let mut map = Map::from_iter([("address".to_owned(), json!(self.address))]);
        if version.labels_addresses() {
            let family = if self.address.address.is_ipv4() { "4" } else { "6" };
            map.insert("version".to_owned(), json!(family));
        }
        put(&mut map, "gateway", &self.gateway, self.gateway.is_none());
        put(&mut map, "interface", &self.interface, self.interface.is_none());
        Value::Object(map)
    }
}

impl Route {
    fn write(&self, version: Version) -> Value {
        let mut map = Map::from_iter([("dst".to_owned(), json!(self.dst))]);
        put(&mut map, "gw", &self.gw, self.gw.is_none());
        if version >= Version::V1_1_0 {
            put(&mut map, "mtu", &self.mtu, self.mtu == 0);
            put(&mut map, "advmss", &self.advmss, self.advmss == 0);
            put(&mut map, "priority", &self.priority, self.priority == 0);
            put(&mut map, "table", &self.table, self.table.is_none());
            put(&mut map, "scope", &self.scope, self.scope.is_none());
        }
        Value::Object(map)
    }
}

impl Dns {
    fn write(&self) -> Value {
        let mut map = Map::new();
        put(&mut map, "nameservers", &self.nameservers, self.nameservers.is_empty());
        put(&mut map, "domain", &self.domain, self.domain.is_empty());
        put(&mut map, "search", &self.search, self.search.is_empty());
        put(&mut map, "options", &self.options, self.options.is_empty());
        Value::Object(map)
    }
}

/// Puts `value` at `key` unless it is absent.
fn put(map: &mut Map<String, Value>, key: &str, value: &impl serde::Serialize, absent: bool) {
    if !absent {
        map.insert(key.to_owned(), json!(value));
    }
}

/// Makes what a plugin said to ADD the `prevResult` of the next one: in `version`, and otherwise
/// as the plugin wrote it, for what we do not know may mean something to the next.
///
/// # Errors
///
/// [`ResultError`] if it is no result.
pub(crate) fn carried(said: Value, version: Version) -> Result<Value, ResultError> {
    let read = AddResult::read(&said)?;
    match said {
        Value::Object(mut map) if map.get("cniVersion").is_none_or(Value::is_null) => {
            map.insert("cniVersion".to_owned(), json!(version.as_str()));
            Ok(Value::Object(map))
        }
        said if said["cniVersion"] == version.as_str() => Ok(said),
        _ => Ok(read.write(version)),
    }
}

/// Reads a value; null is the same as none.
fn lenient<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// Reads an address; an empty text is the same as none.
fn lenient_address<'de, D: Deserializer<'de>>(from: D) -> Result<Option<IpAddr>, D::Error> {
    let text = Option::<String>::deserialize(from)?.unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    // Some plugins write a gateway with its prefix.
    let cidr: Cidr = text.parse().map_err(serde::de::Error::custom)?;
    Ok(Some(cidr.address))
}

/// Reads an index; a negative one, which plugins write for "none", is none.
fn lenient_index<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    Ok(Option::<i64>::deserialize(from)?.and_then(|index| usize::try_from(index).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Value {
        json!({
            "cniVersion": "1.1.0",
            "interfaces": [
                {"name": "br0", "mac": "aa:aa:aa:aa:aa:aa", "mtu": 1500},
                {"name": "eth0", "mac": "bb:bb:bb:bb:bb:bb", "mtu": 1400, "sandbox": "/proc/1/fd/3",
                 "socketPath": "/s", "pciID": "0000:00:1f.6"},
            ],
            "ips": [
                {"address": "10.1.2.3/24", "gateway": "10.1.2.1", "interface": 1},
                {"address": "fd00::3/64", "interface": 1},
            ],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.2.1", "mtu": 1400, "advmss": 1360,
                        "priority": 5, "table": 7, "scope": 0}],
            "dns": {"nameservers": ["10.1.2.1"], "domain": "d", "search": ["s"], "options": ["o"]},
        })
    }

    #[test]
    fn every_version_is_written_as_it_wants_it() {
        let result = AddResult::read(&full()).unwrap();
        assert_eq!(result.write(Version::V1_1_0), full());
        let old = |version: &str| {
            let mut old = full();
            old["cniVersion"] = json!(version);
            for key in ["mtu", "socketPath", "pciID"] {
                for interface in old["interfaces"].as_array_mut().unwrap() {
                    interface.as_object_mut().unwrap().remove(key);
                }
            }
            old["routes"] = json!([{"dst": "0.0.0.0/0", "gw": "10.1.2.1"}]);
            old
        };
        assert_eq!(result.write(Version::V1_0_0), old("1.0.0"));
        for version in [Version::V0_3_1, Version::V0_4_0] {
            let mut expected = old(version.as_str());
            expected["ips"][0]["version"] = json!("4");
            expected["ips"][1]["version"] = json!("6");
            assert_eq!(result.write(version), expected);
            assert_eq!(AddResult::read(&expected).unwrap().ips, result.ips);
        }
    }

    #[test]
    fn plugins_that_write_loosely_are_understood() {
        let loose = json!({
            "interfaces": [{"name": "eth0", "mac": null, "sandbox": "/x", "vendor": {}}],
            "ips": [
                {"version": "4", "address": "10.0.0.2/16", "gateway": "", "interface": -1},
                {"address": "10.0.0.3/16", "gateway": "10.0.0.1/16", "interface": 7},
            ],
            "routes": null, "dns": null, "extra": 1,
        });
        let result = AddResult::read(&loose).unwrap();
        assert_eq!(result.ips[0].gateway, None);
        assert_eq!(result.ips[1].gateway, Some("10.0.0.1".parse().unwrap()));
        assert!(result.ips.iter().all(|ip| ip.interface.is_none()));
        assert_eq!(result.container_ips().count(), 2);
        assert_eq!(AddResult::read(&json!({})).unwrap(), AddResult::default());
    }

    #[test]
    fn what_is_no_result_is_refused() {
        let items = vec![json!({"dst": "::/0"}); MAX_ITEMS + 1];
        let cases = [
            json!(7),
            json!([]),
            json!(null),
            json!({"ips": 7}),
            json!({"ips": [{}]}),
            json!({"ips": [{"address": "10.0.0.1/33"}]}),
            json!({"interfaces": {"name": "eth0"}}),
            json!({"interfaces": [{"name": 1}]}),
            json!({"routes": items}),
            json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.1/8"}}),
            json!({"dns": {"nameservers": "10.0.0.1"}}),
        ];
        for case in cases {
            assert!(AddResult::read(&case).is_err(), "{case}");
        }
    }

    #[test]
    fn the_next_plugin_sees_what_we_do_not_know() {
        let said = json!({"cniVersion": "1.0.0", "vendor": {"x": 1}});
        assert_eq!(carried(said.clone(), Version::V1_0_0).unwrap(), said);
        let converted = carried(said, Version::V0_4_0).unwrap();
        assert_eq!(converted["cniVersion"], "0.4.0");
        assert_eq!(carried(json!({"x": 1}), Version::V1_0_0).unwrap()["cniVersion"], "1.0.0");
    }
}
