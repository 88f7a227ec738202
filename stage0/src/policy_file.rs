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
use images::trust::{MAX_POLICY, Policy, Requirement};
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

/// What images must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A signature by one of these keys.
    Signature {
        /// Files of public keys.
        keys: Vec<String>,
        /// Whether one for any tag of the repository will do.
        any_tag: bool,
    },
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

/// A policy that can be changed.
#[derive(Debug)]
pub(crate) struct PolicyFile {
    path: PathBuf,
    document: Map<String, Value>,
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
        let text = match read(path)? {
            None if path == Path::new(OURS) => read(Path::new(THEIRS))?,
            text => text,
        };
        let document = checked(path, text.as_deref().unwrap_or(NOTHING_ASKED))?;
        Ok(Self { path: path.to_owned(), document })
    }

    /// Lists what is asked: the default first.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let of = |transport: &str, scope: &str, asked: &Value| Line {
            transport: transport.to_owned(),
            scope: scope.to_owned(),
            asked: sentences(asked),
        };
        let mut lines = vec![of("", "", &self.document["default"])];
        let transports = self.document.get("transports").and_then(Value::as_object);
        for (transport, scopes) in transports.into_iter().flatten() {
            for (scope, asked) in scopes.as_object().into_iter().flatten() {
                lines.push(of(transport, scope, asked));
            }
        }
        lines
    }

    /// Has images of `scope` need this, and nothing else.
    pub(crate) fn require(&mut self, scope: &Scope, asked: &Asked) {
        let requirement = match asked {
            Asked::Nothing => json!({ "type": "insecureAcceptAnything" }),
            Asked::Reject => json!({ "type": "reject" }),
            Asked::Signature { keys, any_tag } => {
                let mut signed = json!({ "type": "sigstoreSigned", "keyPaths": keys });
                if *any_tag {
                    signed["signedIdentity"] = json!({ "type": "matchRepository" });
                }
                signed
            }
        };
        let list = json!([requirement]);
        match scope {
            Scope::Default => drop(self.document.insert("default".to_owned(), list)),
            Scope::Of(scope) => drop(self.registries().insert(scope.clone(), list)),
        }
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

fn sentences(asked: &Value) -> Vec<String> {
    let one = |value: &Value| {
        let requirement = serde_json::from_value::<Requirement>(value.clone());
        requirement.map_or_else(|_| value.to_string(), |asked| asked.to_string())
    };
    asked.as_array().into_iter().flatten().map(one).collect()
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
fn checked(path: &Path, text: &[u8]) -> Result<Map<String, Value>> {
    let refused = |cause: &dyn std::error::Error| {
        let message = format!("policy `{}` cannot be used", path.display());
        CommandError::new("trust.policy", message).because(cause)
    };
    Policy::parse(text).map_err(|error| refused(&error))?;
    serde_json::from_slice(text).map_err(|error| refused(&error))
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

    #[test]
    fn what_is_written_is_a_policy_and_the_rest_of_it_stays() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("sub/policy.json");
        let mut policy = PolicyFile::open(&path).unwrap();
        policy.require(&Scope::Default, &Asked::Reject);
        let keys = vec!["/k.pub".to_owned()];
        let scope = Scope::Of("r.io/team".to_owned());
        policy.require(&scope, &Asked::Signature { keys, any_tag: true });
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
