//! The signature policy as a file that commands change: one scope at a time, whole or not at all.
//!
//! What is to be written is read first, as strictly as any other policy. Only scopes of registries
//! are changed, and the default; all else in the file stays as it is.
//!
//! Never: a decision. What a policy means is the business of `images::trust`.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use images::Reference;
use images::registry::RegistryHost;
use images::trust::{MAX_POLICY, Policy, Requirement, Subject, Where};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::error::{CommandError, Context as _, Result};
use crate::whole_file;

/// Ours, which counts alone where it is there.
pub(crate) const OURS: &str = "/etc/pod/policy.json";
/// The one podman and skopeo read, too.
pub(crate) const THEIRS: &str = "/etc/containers/policy.json";

/// What no policy means.
const NOTHING_ASKED: &[u8] = br#"{"default": [{"type": "insecureAcceptAnything"}]}"#;

/// Keys of one kind, as one requirement may name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) kind: KeyKind,
    /// Their files.
    pub(crate) files: Vec<String>,
    /// Whether a signature for any tag of the repository will do.
    pub(crate) any_tag: bool,
}

/// Of which kind keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    Cosign,
    OpenPgp,
}

/// What images must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A signature by one of these keys.
    Signature(Keys),
    /// Nothing.
    Nothing,
    /// What cannot be.
    Reject,
}

/// Which images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Those nothing else is said of.
    Default,
    /// Those of a registry, a directory of repositories, a repository, or of a tag.
    Of(String),
}

/// A line of a policy.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Line {
    pub(crate) transport: String,
    pub(crate) scope: String,
    /// One sentence each; all must hold.
    pub(crate) asked: Vec<String>,
}

/// What is asked of a scope.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) transport: String,
    pub(crate) scope: String,
    /// All must hold.
    pub(crate) requirements: Vec<Requirement>,
}

/// A policy that can be changed.
#[derive(Debug)]
pub(crate) struct PolicyFile {
    path: PathBuf,
    origin: Option<PathBuf>,
    document: Map<String, Value>,
    /// What the document meant when it was opened.
    policy: Policy,
}

impl Scope {
    /// Reads a scope: `HOST[:PORT][/DIRECTORY…[/REPOSITORY[:TAG]]]` or `*.DOMAIN`, written out.
    ///
    /// # Errors
    ///
    /// A usage error.
    pub(crate) fn parse(word: &str) -> Result<Self> {
        let is_host = |word: &str| {
            RegistryHost::parse(word).is_ok() && (word.contains(['.', ':']) || word == "localhost")
        };
        let is_written_out = |word: &str| {
            Reference::parse(word).is_ok_and(|reference| {
                let long = reference.to_string();
                reference.registry().is_some() && (long == word || long == format!("{word}:latest"))
            })
        };
        let stands = match (word.strip_prefix("*."), word.contains('/')) {
            (Some(domain), _) => RegistryHost::parse(domain).is_ok() && !domain.contains(':'),
            (None, true) => is_written_out(word),
            (None, false) => is_host(word),
        };
        if stands {
            return Ok(Self::Of(word.to_owned()));
        }
        Err(CommandError::usage(format!("`{word}` is no scope of registries")).hint(
            "a scope is written out: `docker.io/library/busybox`, `registry.example.org/team`, \
             `registry.example.org`, `*.example.org`",
        ))
    }
}

impl PolicyFile {
    /// Opens `path`; where nothing is there, what counts without it is what is begun with.
    ///
    /// # Errors
    ///
    /// `storage`, or `trust.policy` for what is none.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let (origin, text) = match read(path)? {
            None if path == Path::new(OURS) => (Path::new(THEIRS), read(Path::new(THEIRS))?),
            text => (path, text),
        };
        let (policy, document) = checked(origin, text.as_deref().unwrap_or(NOTHING_ASKED))?;
        let origin = text.map(|_| origin.to_owned());
        Ok(Self { path: path.to_owned(), origin, document, policy })
    }

    /// Opens the policy a flag names, or the host's.
    ///
    /// # Errors
    ///
    /// Those of [`Self::open`].
    pub(crate) fn of_flag(flag: Option<&Path>) -> Result<Self> {
        Self::open(flag.unwrap_or(Path::new(OURS)))
    }

    /// Returns the file that was read; none if there was none, so that nothing is asked.
    pub(crate) fn origin(&self) -> Option<&Path> {
        self.origin.as_deref()
    }

    /// Lists what is asked: the default first.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let line = |section: Section| {
            let Section { transport, scope, requirements } = section;
            let asked = requirements.iter().map(ToString::to_string).collect();
            Line { transport, scope, asked }
        };
        self.sections().into_iter().map(line).collect()
    }

    /// Returns what is asked of each scope: the default first.
    pub(crate) fn sections(&self) -> Vec<Section> {
        let of = |transport: &str, scope: &str, asked: &Value| Section {
            transport: transport.to_owned(),
            scope: scope.to_owned(),
            requirements: requirements(asked),
        };
        let mut sections = vec![of("", "", &self.document["default"])];
        let transports = self.document.get("transports").and_then(Value::as_object);
        for (transport, scopes) in transports.into_iter().flatten() {
            for (scope, asked) in scopes.as_object().into_iter().flatten() {
                sections.push(of(transport, scope, asked));
            }
        }
        sections
    }

    /// Returns what is asked of an image or a scope, and where that stands.
    pub(crate) fn asked_of(&self, subject: &Subject) -> (Where, Vec<Requirement>) {
        let (place, requirements) = self.policy.of(subject);
        (place, requirements.to_vec())
    }

    /// Has images of `scope` need this, and nothing else.
    pub(crate) fn require(&mut self, scope: &Scope, asked: &Asked) {
        let requirement = match asked {
            Asked::Nothing => json!({ "type": "insecureAcceptAnything" }),
            Asked::Reject => json!({ "type": "reject" }),
            Asked::Signature(keys) => keys.requirement(),
        };
        self.put(scope, &requirement);
    }

    fn put(&mut self, scope: &Scope, requirement: &Value) {
        let list = json!([requirement]);
        match scope {
            Scope::Default => drop(self.document.insert("default".to_owned(), list)),
            Scope::Of(scope) => drop(self.registries().insert(scope.clone(), list)),
        }
    }

    /// Lets in what `keys` have signed, beside what the keys of the scope have. Where nothing was
    /// said of it, or nothing let in, these are all; the keys of a wider scope are none of it.
    ///
    /// # Errors
    ///
    /// `trust.add` if one requirement cannot say so.
    pub(crate) fn add(&mut self, scope: &Scope, keys: &Keys) -> Result<()> {
        let list = match scope {
            Scope::Default => self.document.get("default"),
            Scope::Of(scope) => self.registries().get(scope),
        };
        let widened = match list.and_then(Value::as_array).map(Vec::as_slice) {
            None => Ok(keys.requirement()),
            Some([one]) => keys.beside(one),
            Some(_) => Err("it asks for several things, all of which must hold"),
        };
        let widened = widened.map_err(|why| {
            let message = match scope {
                Scope::Default => format!("no key can be added to the default: {why}"),
                Scope::Of(scope) => format!("no key can be added to `{scope}`: {why}"),
            };
            CommandError::new("trust.add", message)
                .hint("`pod trust require` has a scope ask for something else")
        })?;
        self.put(scope, &widened);
        Ok(())
    }

    /// Says nothing of `scope` any more; tells whether anything was said.
    pub(crate) fn forget(&mut self, scope: &str) -> bool {
        self.registries().remove(scope).is_some()
    }

    /// Puts the policy in the place of the old one.
    ///
    /// # Errors
    ///
    /// `trust.policy` if it would be none, `storage`; the old one stays.
    pub(crate) fn write(&self) -> Result<()> {
        let text = format!("{:#}\n", Value::Object(self.document.clone()));
        checked(&self.path, text.as_bytes())?;
        whole_file::put(&self.path, &text, 0o644)
    }

    /// Returns what is said of registries; `{}` if nothing was.
    fn registries(&mut self) -> &mut Map<String, Value> {
        let empty = || json!({});
        let transports = self.document.entry("transports").or_insert_with(empty);
        let transports = transports.as_object_mut().expect("it was read as one of objects");
        let registries = transports.entry("docker").or_insert_with(empty);
        registries.as_object_mut().expect("it was read as an object")
    }
}

impl Keys {
    /// Makes the requirement that asks for a signature by one of these alone.
    fn requirement(&self) -> Value {
        let mut signed = match self.kind {
            KeyKind::Cosign => json!({ "type": "sigstoreSigned", "keyPaths": self.files }),
            KeyKind::OpenPgp => {
                json!({ "type": "signedBy", "keyType": "GPGKeys", "keyPaths": self.files })
            }
        };
        if self.any_tag {
            signed["signedIdentity"] = json!({ "type": "matchRepository" });
        }
        signed
    }

    /// Makes the requirement that asks for a signature by one of these or what `other` asks for,
    /// whose names signatures must be for stay what they are.
    fn beside(&self, other: &Value) -> std::result::Result<Value, &'static str> {
        let own = self.requirement();
        match other["type"].as_str() {
            Some("reject") => return Ok(own),
            Some("insecureAcceptAnything") => {
                return Err("it asks for nothing, so that a key would let in nothing more");
            }
            _ if other["type"] != own["type"] => {
                return Err("it asks for something else, and all that is asked must hold");
            }
            _ => {}
        }
        let files = match (&other["keyPath"], &other["keyPaths"]) {
            (Value::String(path), _) => vec![Value::String(path.clone())],
            (_, Value::Array(paths)) => paths.clone(),
            _ => return Err("it asks for no keys in files"),
        };
        if let Some(name) = own.get("signedIdentity")
            && other.get("signedIdentity") != Some(name)
        {
            return Err("its keys do not let in a signature for any tag, and `--any-tag` would");
        }
        let mut widened = other.clone();
        let new = self.files.iter().map(|file| Value::String(file.clone()));
        let new: Vec<Value> = new.filter(|file| !files.contains(file)).collect();
        if let Some(fields) = widened.as_object_mut() {
            fields.remove("keyPath");
            fields.insert("keyPaths".to_owned(), Value::Array([files, new].concat()));
        }
        Ok(widened)
    }
}

/// Reads a list that was read before, strictly.
fn requirements(asked: &Value) -> Vec<Requirement> {
    let one = |value: &Value| serde_json::from_value(value.clone()).ok();
    asked.as_array().into_iter().flatten().filter_map(one).collect()
}

/// Reads a file whole; none if it is not there.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let tell = || format!("cannot read policy `{}`", path.display());
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.context(tell)?,
    };
    let mut bytes = Vec::new();
    let most = u64::try_from(MAX_POLICY).unwrap_or(u64::MAX);
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).context(tell)?;
    Ok(Some(bytes))
}

/// Reads a policy as strictly as whoever asks it, and returns its document.
fn checked(path: &Path, text: &[u8]) -> Result<(Policy, Map<String, Value>)> {
    let refused = |cause: &dyn std::error::Error| {
        let message = format!("policy `{}` cannot be used", path.display());
        CommandError::new("trust.policy", message).because(cause)
    };
    let policy = Policy::parse(text).map_err(|error| refused(&error))?;
    let document = serde_json::from_slice(text).map_err(|error| refused(&error))?;
    Ok((policy, document))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_written_out() {
        for good in [
            "registry.example.org",
            "localhost",
            "localhost:5000/team",
            "registry.example.org/team/app",
            "registry.example.org/team/app:1",
            "docker.io/library/busybox",
            "*.example.org",
        ] {
            assert_eq!(Scope::parse(good).unwrap(), Scope::Of(good.to_owned()));
        }
        for bad in [
            "busybox",
            "team/app",
            "",
            "*",
            "https://x.org",
            "x.org/",
            "X.org/Y",
            "oci:/x",
            "docker.io/busybox",
        ] {
            assert!(Scope::parse(bad).is_err(), "{bad}");
        }
    }

    fn keys(kind: KeyKind, file: &str, any_tag: bool) -> Keys {
        Keys { kind, files: vec![file.to_owned()], any_tag }
    }

    #[test]
    fn a_key_is_added_beside_those_there_are_or_refused() {
        use KeyKind::{Cosign, OpenPgp};
        let (a, b) = (json!("/a"), json!("/b"));
        let pem = json!({"type": "sigstoreSigned", "keyPath": a});
        let name = json!({"type": "matchRepository"});
        let any = json!({"type": "sigstoreSigned", "keyPaths": [a], "signedIdentity": name});
        let gpg = json!({"type": "signedBy", "keyType": "GPGKeys", "keyPath": a});
        for (there, added, expected) in [
            (json!([pem]), keys(Cosign, "/b", false), Some(json!([a, b]))),
            (json!([any]), keys(Cosign, "/b", true), Some(json!([a, b]))),
            (json!([any]), keys(Cosign, "/a", false), Some(json!([a]))),
            (json!([gpg]), keys(OpenPgp, "/b", false), Some(json!([a, b]))),
            (json!([{"type": "reject"}]), keys(OpenPgp, "/b", false), Some(json!([b]))),
            (json!(null), keys(Cosign, "/b", false), Some(json!([b]))),
            (json!([pem]), keys(Cosign, "/b", true), None),
            (json!([pem]), keys(OpenPgp, "/b", false), None),
            (json!([gpg]), keys(Cosign, "/b", false), None),
            (json!([pem, pem]), keys(Cosign, "/b", false), None),
            (json!([{"type": "insecureAcceptAnything"}]), keys(Cosign, "/b", false), None),
            (
                json!([{"type": "sigstoreSigned", "keyData": "QUJD"}]),
                keys(Cosign, "/b", false),
                None,
            ),
        ] {
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join("policy.json");
            let mut text = json!({"default": [{"type": "reject"}], "transports": {"docker": {}}});
            if !there.is_null() {
                text["transports"]["docker"]["r.io"] = there.clone();
            }
            std::fs::write(&path, text.to_string()).unwrap();
            let mut policy = PolicyFile::open(&path).unwrap();
            let scope = Scope::Of("r.io".to_owned());
            let done = policy.add(&scope, &added);
            assert_eq!(done.is_ok(), expected.is_some(), "{there} {added:?}");
            let Some(expected) = expected else { continue };
            policy.write().unwrap();
            let list = &PolicyFile::open(&path).unwrap().document["transports"]["docker"]["r.io"];
            assert_eq!(list[0]["keyPaths"], expected, "{there} {added:?}");
            assert_eq!(list[0].get("signedIdentity"), there[0].get("signedIdentity"));
        }
    }

    #[test]
    fn what_is_written_is_a_policy_and_the_rest_of_it_stays() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("sub/policy.json");
        let mut policy = PolicyFile::open(&path).unwrap();
        policy.require(&Scope::Default, &Asked::Reject);
        let scope = Scope::Of("r.io/team".to_owned());
        policy.require(&scope, &Asked::Signature(keys(KeyKind::Cosign, "/k.pub", true)));
        policy.write().unwrap();
        let mut policy = PolicyFile::open(&path).unwrap();
        policy.document["transports"]["oci"] = json!({"": [{"type": "reject"}]});
        assert!(policy.forget("r.io/team") && !policy.forget("r.io/team"));
        policy.write().unwrap();
        let said: Vec<String> = PolicyFile::open(&path)
            .unwrap()
            .lines()
            .into_iter()
            .map(|line| format!("{}/{}", line.transport, line.scope))
            .collect();
        assert_eq!(said, ["/", "oci/"]);
        std::fs::write(&path, "{}").unwrap();
        assert!(PolicyFile::open(&path).is_err());
    }
}
