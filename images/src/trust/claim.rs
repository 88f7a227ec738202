//! What a signature of an image says: this content, under this name.
//!
//! Two documents say so. *Simple signing* (`containers-signature(5)`, which cosign took over) has a
//! digest and a name; an *in-toto statement* in a bundle of cosign 3 has digests and no name.

use std::collections::BTreeMap;

use pod_abi::Digest;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::error::TrustError;
use super::named::Named;

/// The longest claim that is read, in bytes.
pub(super) const MAX_CLAIM: usize = 64 << 10;

/// The type of statements about images.
const STATEMENT: &str = "https://in-toto.io/Statement/";
/// What cosign 3 says of an image it signs: that it signs it.
const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";

/// What was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What it is of: the digest of a manifest or an index.
    pub digest: Digest,
    /// Under which name, if it says so.
    pub name: Option<Named>,
    /// What says so.
    pub kind: Kind,
}

/// Which document a claim is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Simple signing as podman and skopeo write it, for OpenPGP.
    Atomic,
    /// Simple signing as cosign writes it.
    Cosign,
    /// An in-toto statement.
    Statement,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Simple {
    critical: Critical,
    // Whatever a signer likes to add; it decides nothing.
    #[serde(default, rename = "optional")]
    _optional: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    r#type: String,
    image: Image,
    identity: SimpleIdentity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Image {
    docker_manifest_digest: Digest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct SimpleIdentity {
    docker_reference: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<StatementSubject>,
    predicate_type: String,
}

#[derive(Deserialize)]
struct StatementSubject {
    digest: BTreeMap<String, String>,
}

impl Claim {
    /// Reads a document of simple signing.
    ///
    /// # Errors
    ///
    /// [`TrustError::Claim`]: a key too many in what is critical may mean something we do not know.
    pub fn simple(bytes: &[u8]) -> Result<Self, TrustError> {
        let simple: Simple = read(bytes)?;
        let kind = match simple.critical.r#type.as_str() {
            "atomic container signature" => Kind::Atomic,
            "cosign container image signature" => Kind::Cosign,
            other => return Err(unknown("type", other)),
        };
        let name = Named::parse(&simple.critical.identity.docker_reference)?;
        Ok(Self { digest: simple.critical.image.docker_manifest_digest, name: Some(name), kind })
    }

    /// Reads a statement about just one image.
    ///
    /// # Errors
    ///
    /// [`TrustError::Claim`].
    pub fn statement(bytes: &[u8]) -> Result<Self, TrustError> {
        let statement: Statement = read(bytes)?;
        if !statement.kind.starts_with(STATEMENT) {
            return Err(unknown("type", &statement.kind));
        }
        if statement.predicate_type != SIGNED {
            return Err(unknown("predicate", &statement.predicate_type));
        }
        let [subject] = &statement.subject[..] else {
            return Err(TrustError::Claim("it is about several things, or none".into()));
        };
        let hex = subject.digest.get("sha256");
        let hex = hex.ok_or_else(|| TrustError::Claim("it has no sha256".into()))?;
        let digest = Digest::parse(&format!("sha256:{hex}"))
            .map_err(|error| TrustError::Claim(error.to_string()))?;
        Ok(Self { digest, name: None, kind: Kind::Statement })
    }
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, TrustError> {
    if bytes.len() > MAX_CLAIM {
        return Err(TrustError::Claim(format!("it is longer than {MAX_CLAIM} bytes")));
    }
    serde_json::from_slice(bytes).map_err(|error| TrustError::Claim(error.to_string()))
}

fn unknown(what: &str, word: &str) -> TrustError {
    let word: String = word.chars().take(80).collect();
    TrustError::Claim(format!("{what} `{word}` is unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn digest() -> String {
        format!("sha256:{}", "d".repeat(64))
    }

    fn simple() -> Value {
        json!({
            "critical": {
                "identity": {"docker-reference": "example.com/team/app:v1"},
                "image": {"docker-manifest-digest": digest()},
                "type": "atomic container signature",
            },
            "optional": {"creator": "skopeo", "timestamp": 1},
        })
    }

    #[test]
    fn simple_signing_is_read_strictly() {
        let claim = Claim::simple(simple().to_string().as_bytes()).unwrap();
        assert_eq!(claim.digest.to_string(), digest());
        assert_eq!(claim.name.unwrap().to_string(), "example.com/team/app:v1");
        assert_eq!(claim.kind, Kind::Atomic);
        let changes: [(&str, Value); 7] = [
            ("/critical/type", json!("other")),
            ("/critical/image/docker-manifest-digest", json!("sha256:abc")),
            ("/critical/identity/docker-reference", json!("not a name")),
            ("/critical/identity", json!({})),
            ("/critical/image", json!({"docker-manifest-digest": digest(), "more": 1})),
            ("/critical", json!(null)),
            ("/optional", json!(null)),
        ];
        for (place, value) in changes {
            let mut document = simple();
            *document.pointer_mut(place).unwrap() = value;
            let claim = Claim::simple(document.to_string().as_bytes());
            assert_eq!(claim.is_ok(), place == "/optional", "{place}");
        }
    }

    #[test]
    fn a_statement_is_about_one_image() {
        let statement = |subject: Value, predicate: &str| {
            let text = json!({"_type": "https://in-toto.io/Statement/v1", "subject": subject,
                "predicateType": predicate, "predicate": {}});
            Claim::statement(text.to_string().as_bytes())
        };
        let one = json!({"digest": {"sha256": "d".repeat(64)}});
        let claim = statement(json!([one]), SIGNED).unwrap();
        assert_eq!((claim.digest.to_string(), claim.name), (digest(), None));
        assert!(statement(json!([one, one]), SIGNED).is_err());
        assert!(statement(json!([]), SIGNED).is_err());
        assert!(statement(json!([{"digest": {"sha1": "00"}}]), SIGNED).is_err());
        assert!(statement(json!([one]), "https://slsa.dev/provenance/v1").is_err());
    }
}
