//! The policy file: `containers-policy.json(5)`, read strictly.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::error::TrustError;
use super::identity::Identity;
use super::keys::KeySource;
use super::scope::{self, Subject};

/// The longest policy that is read, in bytes.
pub const MAX_POLICY: usize = 4 << 20;

/// What is asked of images, by where they come from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    default: Requirements,
    #[serde(default)]
    transports: Unique<Unique<Requirements>>,
}

/// What is asked of an image: all of it must hold. There is at least one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<Requirement>")]
pub struct Requirements(Vec<Requirement>);

/// One thing that is asked of an image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Requirement {
    /// Nothing: whatever the registry says is taken.
    InsecureAcceptAnything {},
    /// What cannot be had: it never runs.
    Reject {},
    /// An OpenPGP signature of one of these keys, over a simple signing claim.
    SignedBy(SignedBy),
    /// A sigstore signature.
    SigstoreSigned(Sigstore),
    /// That the base layer is signed: nobody has ever implemented it.
    SignedBaseLayer {
        /// Whose.
        #[serde(rename = "baseLayerIdentity")]
        identity: Identity,
    },
}

/// An OpenPGP signature that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawSignedBy")]
pub struct SignedBy {
    /// The keyrings, any key of which will do.
    pub keys: KeySource,
    /// For which name.
    pub identity: Identity,
}

/// A sigstore signature that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawSigstore")]
pub struct Sigstore {
    /// The public keys, any of which will do; none if certificates are asked for.
    pub keys: Option<KeySource>,
    /// What is asked for beside, and not checked by us: then nothing is good enough.
    pub beyond: Option<Beyond>,
    /// For which name, if the policy says so; the default holds for signatures that have a name.
    pub identity: Option<Identity>,
}

/// What a sigstore signature may be asked to have beside a key's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// A certificate of a short life, of `fulcio` or of `pki`.
    Certificate,
    /// An entry in the log of `rekor`.
    Log,
}

/// Where in a policy something was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where {
    /// In the scope of a transport.
    Scope {
        /// The transport.
        transport: &'static str,
        /// The scope.
        scope: String,
    },
    /// In the default of a transport.
    Transport(&'static str),
    /// In the policy's default.
    Default,
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    ///
    /// [`TrustError::Policy`] with the place, for whatever breaks a rule.
    pub fn parse(bytes: &[u8]) -> Result<Self, TrustError> {
        if bytes.len() > MAX_POLICY {
            return Err(TrustError::Policy(format!("it is longer than {MAX_POLICY} bytes")));
        }
        let policy: Self =
            serde_json::from_slice(bytes).map_err(|error| TrustError::Policy(error.to_string()))?;
        for (transport, scopes) in &policy.transports.0 {
            let names = scopes.0.keys().filter(|scope| !scope.is_empty());
            scope::check(transport, names).map_err(TrustError::Policy)?;
        }
        Ok(policy)
    }

    /// Returns what is asked of an image, and where that stands: what the narrowest scope says holds
    /// alone.
    #[must_use]
    pub fn of(&self, subject: &Subject) -> (Where, &[Requirement]) {
        let transport = subject.transport;
        let Some(scopes) = self.transports.0.get(transport) else {
            return (Where::Default, &self.default.0);
        };
        for scope in &subject.scopes {
            if let Some(found) = scopes.0.get(scope) {
                return (Where::Scope { transport, scope: scope.clone() }, &found.0);
            }
        }
        match scopes.0.get("") {
            Some(found) => (Where::Transport(transport), &found.0),
            None => (Where::Default, &self.default.0),
        }
    }
}

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scope { transport, scope } => write!(f, "scope `{scope}` of `{transport}`"),
            Self::Transport(transport) => write!(f, "the default of `{transport}`"),
            Self::Default => f.write_str("the policy's default"),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InsecureAcceptAnything {} => f.write_str("nothing"),
            Self::Reject {} => f.write_str("what cannot be: it is rejected"),
            Self::SignedBy(asked) => write!(f, "an OpenPGP signature by {}", asked.keys),
            Self::SignedBaseLayer { .. } => {
                f.write_str("a signed base layer, which nothing verifies")
            }
            Self::SigstoreSigned(sigstore) => match (&sigstore.keys, sigstore.beyond) {
                (_, Some(beyond)) => write!(f, "{beyond}, which is not verified yet"),
                (Some(keys), None) => write!(f, "a signature of cosign by {keys}"),
                (None, None) => f.write_str("a signature of cosign"),
            },
        }
    }
}

impl fmt::Display for Beyond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "a certificate of `fulcio` or `pki`",
            Self::Log => "an entry in the log of `rekor`",
        })
    }
}

impl TryFrom<Vec<Requirement>> for Requirements {
    type Error = &'static str;

    fn try_from(list: Vec<Requirement>) -> Result<Self, Self::Error> {
        if list.is_empty() {
            return Err("a list of requirements is empty, which would ask for nothing");
        }
        Ok(Self(list))
    }
}

/// Keys as the file may have them: exactly one of these.
struct RawKeys {
    path: Option<PathBuf>,
    paths: Option<Vec<PathBuf>>,
    data: Option<String>,
    datas: Option<Vec<String>>,
}

impl RawKeys {
    fn source(self) -> Result<Option<KeySource>, &'static str> {
        let Self { path, paths, data, datas } = self;
        let mut given: Vec<KeySource> = Vec::new();
        given.extend(path.map(|path| KeySource::Files(vec![path])));
        given.extend(paths.map(KeySource::Files));
        given.extend(data.map(|data| KeySource::decoded(&[data])).transpose()?);
        given.extend(datas.map(|datas| KeySource::decoded(&datas)).transpose()?);
        match given.len() {
            0 => Ok(None),
            1 if given[0].is_empty() => Err("a list of keys is empty"),
            1 => Ok(given.pop()),
            _ => Err("only one of `keyPath`, `keyPaths`, `keyData` and `keyDatas` may be given"),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawSignedBy {
    key_type: String,
    key_path: Option<PathBuf>,
    key_paths: Option<Vec<PathBuf>>,
    key_data: Option<String>,
    #[serde(default)]
    signed_identity: Identity,
}

impl TryFrom<RawSignedBy> for SignedBy {
    type Error = &'static str;

    fn try_from(raw: RawSignedBy) -> Result<Self, Self::Error> {
        if raw.key_type != "GPGKeys" {
            return Err("the only `keyType` there is is `GPGKeys`");
        }
        let keys =
            RawKeys { path: raw.key_path, paths: raw.key_paths, data: raw.key_data, datas: None };
        let keys = keys.source()?.ok_or("`signedBy` names no keys")?;
        Ok(Self { keys, identity: raw.signed_identity })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawSigstore {
    key_path: Option<PathBuf>,
    key_paths: Option<Vec<PathBuf>>,
    key_data: Option<String>,
    key_datas: Option<Vec<String>>,
    fulcio: Option<IgnoredAny>,
    pki: Option<IgnoredAny>,
    rekor_public_key_path: Option<IgnoredAny>,
    rekor_public_key_paths: Option<IgnoredAny>,
    rekor_public_key_data: Option<IgnoredAny>,
    rekor_public_key_datas: Option<IgnoredAny>,
    signed_identity: Option<Identity>,
}

impl TryFrom<RawSigstore> for Sigstore {
    type Error = &'static str;

    fn try_from(raw: RawSigstore) -> Result<Self, Self::Error> {
        let keys = RawKeys {
            path: raw.key_path,
            paths: raw.key_paths,
            data: raw.key_data,
            datas: raw.key_datas,
        };
        let keys = keys.source()?;
        let rekor = [
            raw.rekor_public_key_path,
            raw.rekor_public_key_paths,
            raw.rekor_public_key_data,
            raw.rekor_public_key_datas,
        ];
        let certificates = [raw.fulcio, raw.pki].iter().flatten().count();
        if usize::from(keys.is_some()) + certificates != 1 {
            return Err("`sigstoreSigned` takes exactly one of keys, `fulcio` and `pki`");
        }
        let beyond = if certificates > 0 {
            Some(Beyond::Certificate)
        } else {
            rekor.iter().flatten().next().map(|_| Beyond::Log)
        };
        Ok(Self { keys, beyond, identity: raw.signed_identity })
    }
}

/// A map in which no key may stand twice.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unique<T>(BTreeMap<String, T>);

impl<T> Default for Unique<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Unique<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueVisitor(PhantomData))
    }
}

struct UniqueVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for UniqueVisitor<T> {
    type Value = Unique<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((key, value)) = access.next_entry::<String, T>()? {
            if map.contains_key(&key) {
                return Err(de::Error::custom(format!("`{key}` stands twice")));
            }
            map.insert(key, value);
        }
        Ok(Unique(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::Reference;
    use serde_json::json;

    const ACCEPT: &str = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;

    fn policy(text: &str) -> Result<Policy, TrustError> {
        Policy::parse(text.as_bytes())
    }

    #[test]
    fn the_narrowest_scope_decides_alone() {
        let policy = policy(
            &json!({
                "default": [{"type": "reject"}],
                "transports": {
                    "docker": {
                        "example.com/team": [{"type": "insecureAcceptAnything"}],
                        "example.com/team/app:v2": [{"type": "reject"}],
                        "*.example.org": [{"type": "insecureAcceptAnything"}],
                    },
                    "oci": {"": [{"type": "insecureAcceptAnything"}], "/srv/bad": [{"type": "reject"}]},
                },
            })
            .to_string(),
        )
        .unwrap();
        for (word, accepted, found) in [
            ("example.com/team/app:v1", true, "scope `example.com/team` of `docker`"),
            ("example.com/team/app:v2", false, "scope `example.com/team/app:v2` of `docker`"),
            ("example.com/teamwork/app", false, "the policy's default"),
            ("a.b.example.org/x", true, "scope `*.example.org` of `docker`"),
            ("example.org/x", false, "the policy's default"),
            ("oci:/srv/good", true, "the default of `oci`"),
            ("oci:/srv/bad/worse:tag", false, "scope `/srv/bad` of `oci`"),
            ("docker-archive:/srv/x.tar", false, "the policy's default"),
        ] {
            let subject = Subject::of(&Reference::parse(word).unwrap()).unwrap();
            let (place, requirements) = policy.of(&subject);
            assert_eq!(place.to_string(), found, "{word}");
            assert_eq!(
                requirements == [Requirement::InsecureAcceptAnything {}],
                accepted,
                "{word}"
            );
        }
    }

    #[test]
    fn what_podman_reads_is_read() {
        let text = json!({
            "default": [{"type": "insecureAcceptAnything"}],
            "transports": {
                "docker-daemon": {"": [{"type": "insecureAcceptAnything"}]},
                "docker": {
                    "a.example/x": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k.gpg"}],
                    "b.example": [
                        {"type": "signedBy", "keyType": "GPGKeys", "keyPaths": ["/k.gpg", "/l.gpg"],
                         "signedIdentity": {"type": "matchExact"}},
                        {"type": "sigstoreSigned", "keyData": "QUJD",
                         "signedIdentity": {"type": "remapIdentity", "prefix": "b.example",
                                            "signedPrefix": "a.example/x"}},
                    ],
                    "c.example": [{"type": "sigstoreSigned", "keyPath": "/k.pub",
                                   "rekorPublicKeyPath": "/rekor.pub"}],
                    "d.example": [{"type": "sigstoreSigned",
                                   "fulcio": {"caPath": "/ca", "oidcIssuer": "i", "subjectEmail": "s"},
                                   "rekorPublicKeyPath": "/rekor.pub"}],
                    "e.example": [{"type": "signedBaseLayer",
                                   "baseLayerIdentity": {"type": "matchExact"}}],
                },
            },
        });
        let policy = policy(&text.to_string()).unwrap();
        let of = |host: &str| {
            let reference = Reference::parse(&format!("{host}/x:1")).unwrap();
            policy.of(&Subject::of(&reference).unwrap()).1.to_vec()
        };
        let Requirement::SignedBy(signed) = &of("a.example")[0] else { panic!() };
        assert_eq!(signed.keys, KeySource::Files(vec!["/k.gpg".into()]));
        assert_eq!(signed.identity, Identity::MatchRepoDigestOrExact {});
        let Requirement::SigstoreSigned(second) = &of("b.example")[1] else { panic!() };
        assert_eq!(second.keys, Some(KeySource::Data(vec![b"ABC".to_vec()])));
        let beyond = |host: &str| match &of(host)[0] {
            Requirement::SigstoreSigned(sigstore) => sigstore.beyond,
            other => panic!("{other:?}"),
        };
        assert_eq!(beyond("c.example"), Some(Beyond::Log));
        assert_eq!(beyond("d.example"), Some(Beyond::Certificate));
    }

    #[test]
    fn whatever_breaks_a_rule_refuses_the_whole_file() {
        assert!(policy(ACCEPT).is_ok());
        for text in [
            "",
            "{}",
            "[]",
            r#"{"default":[]}"#,
            r#"{"default":[{"type":"insecureAcceptAnything"}],"more":1}"#,
            r#"{"default":[{"type":"insecureAcceptAnything","keyPath":"/x"}]}"#,
            r#"{"default":[{"type":"accept"}]}"#,
            r#"{"default":[{"type":"reject"}],"default":[{"type":"insecureAcceptAnything"}]}"#,
            r#"{"default":[{"type":"reject","type":"insecureAcceptAnything"}]}"#,
            r#"{"default":[{"type":"reject"}],"transports":{"docker":{"a":[{"type":"reject"}],"a":[{"type":"insecureAcceptAnything"}]}}}"#,
            r#"{"default":[{"type":"reject"}],"transports":{"docker":{},"docker":{}}}"#,
            r#"{"default":[{"type":"reject"}],"transports":{"docker":{"":[]}}}"#,
            r#"{"default":[{"type":"signedBy","keyType":"GPGKeys"}]}"#,
            r#"{"default":[{"type":"signedBy","keyPath":"/x"}]}"#,
            r#"{"default":[{"type":"signedBy","keyType":"X","keyPath":"/x"}]}"#,
            r#"{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/x","keyPaths":["/y"]}]}"#,
            r#"{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPaths":[]}]}"#,
            r#"{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/x","keyPath":"/y"}]}"#,
            r#"{"default":[{"type":"signedBy","keyType":"GPGKeys","keyData":"!"}]}"#,
            r#"{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/x","signedIdentity":{"type":"any"}}]}"#,
            r#"{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/x","signedIdentity":{"type":"matchExact","x":1}}]}"#,
            r#"{"default":[{"type":"sigstoreSigned"}]}"#,
            r#"{"default":[{"type":"sigstoreSigned","keyPath":"/x","fulcio":{}}]}"#,
            r#"{"default":[{"type":"reject"}]} x"#,
        ] {
            assert!(policy(text).is_err(), "{text}");
        }
        let long = format!("{ACCEPT}{}", " ".repeat(MAX_POLICY));
        assert!(policy(&long).is_err());
    }

    proptest::proptest! {
        #[test]
        fn a_spoilt_policy_is_read_or_refused(at in 0_usize..400, byte in 0_u8..128) {
            let whole = json!({
                "default": [{"type": "reject"}],
                "transports": {"docker": {"a.example/x": [
                    {"type": "signedBy", "keyType": "GPGKeys", "keyData": "QUJD",
                     "signedIdentity": {"type": "remapIdentity", "prefix": "b", "signedPrefix": "c"}},
                    {"type": "sigstoreSigned", "keyDatas": ["QUJD", "QQ=="]},
                ]}},
            });
            let mut bytes = whole.to_string().into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            // What is read still rejects by default: one byte makes no policy lax.
            if let Ok(policy) = Policy::parse(&bytes) {
                let subject = Subject::of(&Reference::parse("other.example/y").unwrap()).unwrap();
                proptest::prop_assert_eq!(policy.of(&subject).1, &[Requirement::Reject {}]);
            }
        }
    }
}
