//! The image somebody asks for: `NAME[:VERSION][,LABEL=VALUE…]`.
//!
//! A port may stand behind the host, as in `localhost:8080/app:1`: it says where to ask and is no part
//! of the name. Without a path there is no telling it from a version, and it is one.

use std::collections::BTreeMap;
use std::fmt;

use pod_abi::text;

use super::super::manifest::Manifest;
use super::super::oci;
use super::super::word;
use crate::platform::Platform;
use crate::registry::RegistryHost;

/// The longest name; every component of it is a page to ask.
const MAX_NAME: usize = 255;
/// The most components of a name's path, each of which may be asked for.
const MAX_COMPONENTS: usize = 16;
/// The most labels.
const MAX_LABELS: usize = 32;
/// The longest value of a label.
const MAX_VALUE: usize = 128;
/// The version that is asked for where none is said.
const LATEST: &str = "latest";

/// The name of an image of appc, with what its labels must be and where to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppcName {
    host: RegistryHost,
    name: String,
    labels: BTreeMap<String, String>,
}

/// Why a word is no name of an image of appc.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` names no image of appc: {why}")]
pub struct AppcNameError {
    word: String,
    why: String,
}

impl AppcName {
    /// Reads `NAME[:VERSION][,LABEL=VALUE…]`, such as `example.com/worker:1.0.0,arch=amd64`.
    ///
    /// # Errors
    ///
    /// [`AppcNameError`] for what is none, or says a label twice.
    pub fn parse(word: &str) -> Result<Self, AppcNameError> {
        let refused = |why: String| AppcNameError { word: text::tame(word, 120), why };
        let mut parts = word.split(',');
        let (host, name, version) = head(parts.next().unwrap_or_default()).map_err(refused)?;
        let mut labels = BTreeMap::new();
        let version = version.map(|version| Ok(("version", version)));
        let pairs = parts.map(|part| part.split_once('=').ok_or(part));
        for pair in version.into_iter().chain(pairs) {
            let (label, value) = pair
                .map_err(|part| refused(format!("`{}` is no LABEL=VALUE", text::tame(part, 40))))?;
            check_label(label, value).map_err(refused)?;
            if labels.insert(label.to_owned(), value.to_owned()).is_some() {
                return Err(refused(format!("label `{label}` is said twice")));
            }
            if labels.len() > MAX_LABELS {
                return Err(refused(format!("it has more than {MAX_LABELS} labels")));
            }
        }
        Ok(Self { host, name, labels })
    }

    /// Returns the name alone.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the name with the port that is asked.
    pub(crate) fn place(&self) -> String {
        let path = self.name.find('/').map_or("", |slash| &self.name[slash..]);
        format!("{}{path}", self.host)
    }

    /// Returns the version, if it was said.
    pub(crate) fn version(&self) -> Option<&str> {
        self.labels.get("version").map(String::as_str)
    }

    /// Returns the host that is asked, with its port.
    pub(crate) const fn host(&self) -> &RegistryHost {
        &self.host
    }

    /// Returns what a template's field of that name stands for.
    pub(super) fn field(&self, label: &str, platform: &Platform) -> Option<String> {
        let said = self.labels.get(label).cloned();
        said.or_else(|| default(label, platform)).or_else(|| match label {
            "version" => Some(LATEST.to_owned()),
            _ => None,
        })
    }

    /// Checks that an image is the one that was asked for; what is wrong is told as the rest of a
    /// sentence. A label nobody asked for may be any, except for what says which machine it is for.
    pub(crate) fn check(&self, found: &Manifest, platform: &Platform) -> Result<(), String> {
        if found.name != self.name {
            let (found, asked) = (text::tame(&found.name, 120), &self.name);
            return Err(format!("is called `{found}` and not `{asked}`"));
        }
        for (label, asked) in &self.labels {
            let found = found.labels.get(label);
            if found != Some(asked) {
                return Err(differs(label, asked, found));
            }
        }
        for label in ["os", "arch"] {
            let asked = default(label, platform).filter(|_| !self.labels.contains_key(label));
            if let (Some(asked), Some(found)) = (asked, found.labels.get(label))
                && asked != *found
            {
                return Err(differs(label, &asked, Some(found)));
            }
        }
        Ok(())
    }
}

impl fmt::Display for AppcName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.labels.iter().try_for_each(|(label, value)| write!(f, ",{label}={value}"))
    }
}

fn differs(label: &str, asked: &str, found: Option<&String>) -> String {
    match found {
        Some(found) => {
            let found = text::tame(found, 80);
            format!("has the label `{label}` `{found}` and not `{asked}`")
        }
        None => format!("has no label `{label}`, which was to be `{asked}`"),
    }
}

fn default(label: &str, platform: &Platform) -> Option<String> {
    match label {
        "os" => Some(platform.os().to_owned()),
        "arch" => oci::arch_of(platform).map(str::to_owned),
        _ => None,
    }
}

/// Reads `HOST[:PORT]/PATH[:VERSION]` or `HOST[:VERSION]`.
fn head(word: &str) -> Result<(RegistryHost, String, Option<&str>), String> {
    let (authority, rest) = match word.find('/') {
        Some(slash) => word.split_at(slash),
        None => word.split_at(word.find(':').unwrap_or(word.len())),
    };
    let (path, version) = match rest.split_once(':') {
        Some((path, version)) => (path, Some(version)),
        None => (rest, None),
    };
    let host = RegistryHost::parse(authority).map_err(|error| error.to_string())?;
    let bare =
        host.port().and_then(|_| authority.rsplit_once(':')).map_or(authority, |(host, _)| host);
    let name = format!("{bare}{path}");
    if name.len() > MAX_NAME || name.split('/').count() > MAX_COMPONENTS {
        return Err(format!("it is longer than {MAX_NAME} bytes or {MAX_COMPONENTS} components"));
    }
    word::identifier("name", &name).map_err(|_| {
        "a name is a host and a path, lower case, such as `example.com/app`".to_owned()
    })?;
    Ok((host, name, version))
}

fn check_label(label: &str, value: &str) -> Result<(), String> {
    if word::identifier("label", label).is_err() || ["name", "ext"].contains(&label) {
        return Err(format!("`{}` is no label that can be asked for", text::tame(label, 40)));
    }
    // As a part of an address it would lead up.
    let leads_up = [".", ".."].contains(&value);
    if value.is_empty() || value.len() > MAX_VALUE || leads_up || value.contains(char::is_control) {
        let value = text::tame(value, 40);
        return Err(format!("`{value}` is no value of label `{label}` that can be asked for"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn platform() -> Platform {
        "linux/arm64".parse().unwrap()
    }

    #[test]
    fn a_name_has_a_version_and_labels_and_perhaps_a_port() {
        for (word, name, host, labels) in [
            ("example.com", "example.com", "example.com", ""),
            ("example.com:1.0.0", "example.com", "example.com", "version=1.0.0"),
            ("example.com/a/b", "example.com/a/b", "example.com", ""),
            ("example.com/a:1", "example.com/a", "example.com", "version=1"),
            ("example.com/a,version=1", "example.com/a", "example.com", "version=1"),
            (
                "example.com/a:1,os=linux,x=a=b",
                "example.com/a",
                "example.com",
                "os=linux,version=1,x=a=b",
            ),
            ("localhost:8080/a:1", "localhost/a", "localhost:8080", "version=1"),
            ("localhost:8080", "localhost", "localhost", "version=8080"),
            ("127.0.0.1:80/a", "127.0.0.1/a", "127.0.0.1:80", ""),
        ] {
            let asked = AppcName::parse(word).unwrap();
            let said: Vec<_> =
                asked.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            assert!(asked.place().starts_with(host), "{word}");
            let found = (asked.name(), asked.host().to_string(), said.join(","));
            assert_eq!(found, (name, host.to_owned(), labels.to_owned()), "{word}");
        }
        let shown = AppcName::parse("example.com/a:1,os=linux").unwrap().to_string();
        assert_eq!(shown, "example.com/a,os=linux,version=1");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in [
            "",
            ":",
            ":1",
            "/a",
            "example.com/",
            "Example.com/a",
            "example.com/a b",
            "a@b/c",
            "user:pw@example.com/a",
            "example.com/a:",
            "example.com/a,",
            "example.com/a,os",
            "example.com/a,os=",
            "example.com/a,=x",
            "example.com/a:1,version=1",
            "example.com/a,os=linux,os=linux",
            "example.com/a,name=b",
            "example.com/a,ext=b",
            "example.com/a:..",
            "example.com/a,Os=linux",
            "example.com:99999/a",
            "example.com:1:2/a",
            "https://example.com/a",
            "example_x.com/a",
            "example.com/a,x=\n",
            "[::1]/a",
        ] {
            assert!(AppcName::parse(bad).is_err(), "{bad}");
        }
        assert!(AppcName::parse(&format!("example.com{}", "/a".repeat(16))).is_err());
        assert!(AppcName::parse(&format!("example.com/{}", "a".repeat(250))).is_err());
        assert!(AppcName::parse(&format!("example.com/a:{}", "1".repeat(129))).is_err());
        let many: String = (0..40).map(|at| format!(",l{at}=x")).collect();
        assert!(AppcName::parse(&format!("example.com/a{many}")).is_err());
    }

    #[test]
    fn fields_are_what_is_said_or_the_usual() {
        let field =
            |word: &str, label: &str| AppcName::parse(word).unwrap().field(label, &platform());
        for (word, label, value) in [
            ("example.com/a", "version", Some("latest")),
            ("example.com/a:1", "version", Some("1")),
            ("example.com/a", "os", Some("linux")),
            ("example.com/a", "arch", Some("aarch64")),
            ("example.com/a,arch=amd64", "arch", Some("amd64")),
            ("example.com/a", "channel", None),
            ("example.com/a,channel=beta", "channel", Some("beta")),
        ] {
            assert_eq!(field(word, label).as_deref(), value, "{word} {label}");
        }
        let odd = "linux/riscv64".parse().unwrap();
        assert_eq!(AppcName::parse("example.com/a").unwrap().field("arch", &odd), None);
    }

    #[test]
    fn an_image_must_be_the_one_that_was_asked_for() {
        let found = |name: &str, labels: &Value| {
            let document = json!({
                "acKind": "ImageManifest", "acVersion": "0.8.11", "name": name, "labels": labels,
            });
            Manifest::parse(document.to_string().as_bytes()).unwrap()
        };
        let labels =
            json!([{"name": "version", "value": "1"}, {"name": "arch", "value": "aarch64"}]);
        let own = found("localhost/a", &labels);
        let none = found("localhost/a", &json!([]));
        let check =
            |word: &str, image: &Manifest| AppcName::parse(word).unwrap().check(image, &platform());
        for good in ["localhost/a", "localhost:80/a", "localhost/a:1", "localhost/a,arch=aarch64"] {
            assert_eq!(check(good, &own), Ok(()), "{good}");
        }
        assert_eq!(check("localhost/a", &none), Ok(()));
        for (bad, image, part) in [
            ("localhost/b", &own, "is called `localhost/a` and not `localhost/b`"),
            ("localhost/a:2", &own, "`version` `1` and not `2`"),
            ("localhost/a,arch=amd64", &own, "`arch` `aarch64` and not `amd64`"),
            ("localhost/a,channel=beta", &own, "has no label `channel`"),
            ("localhost/a:1", &none, "has no label `version`"),
            (
                "localhost/a",
                &found("localhost/a", &json!([{"name": "arch", "value": "amd64"}])),
                "`aarch64`",
            ),
        ] {
            let why = check(bad, image).unwrap_err();
            assert!(why.contains(part), "{bad}: {why}");
        }
    }

    proptest! {
        #[test]
        fn any_word_is_a_name_or_refused(word in "[a-z0-9.:/,=@\\[\\]-]{0,40}|\\PC{0,40}") {
            if let Ok(asked) = AppcName::parse(&word) {
                prop_assert!(asked.name().len() <= MAX_NAME);
                prop_assert!(word::identifier("name", asked.name()).is_ok());
            }
        }
    }
}
