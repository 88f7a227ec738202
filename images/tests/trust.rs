//! Signatures by keys of a real tool, and everything beside them that is none: `openssl` signs as
//! cosign does, with ECDSA over SHA-256.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use images::Reference;
use images::trust::{
    BUNDLE, Claim, Evidence, Named, Policy, Refusal, SIMPLE_SIGNING, Signed, Subject, Verified,
    attachments, bundled, judge,
};
use pod_abi::Digest;
use serde_json::{Value, json};

/// How `openssl genpkey` makes a key of each kind that cosign has.
const KINDS: [&[&str]; 4] = [
    &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
    &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    &["-algorithm", "ED25519"],
];

/// A pair of keys in a directory.
struct Key<'a> {
    place: &'a Path,
    name: &'a str,
    raw: bool,
}

fn openssl(words: &[&str]) {
    let output = Command::new("openssl").args(words).output().expect("openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

impl<'a> Key<'a> {
    fn new(place: &'a Path, name: &'a str, kind: &[&str]) -> Self {
        let (private, public) =
            (place.join(format!("{name}.key")), place.join(format!("{name}.pub")));
        let (private, public) = (
            private.to_str().expect("the directory is plain"),
            public.to_str().expect("the directory is plain"),
        );
        openssl(&[&["genpkey", "-out", private], kind].concat());
        openssl(&["pkey", "-in", private, "-pubout", "-out", public]);
        Self { place, name, raw: kind.contains(&"ED25519") }
    }

    fn public(&self) -> String {
        self.place
            .join(format!("{}.pub", self.name))
            .to_str()
            .expect("the directory is plain")
            .to_owned()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let path =
            |name: &str| self.place.join(name).to_str().expect("the directory is plain").to_owned();
        let (text, signature) = (path("message"), path("signature"));
        fs::write(&text, message).expect("the directory can be written");
        let key = path(&format!("{}.key", self.name));
        let mut words =
            vec!["pkeyutl", "-sign", "-inkey", &key, "-in", &text, "-out", &signature, "-rawin"];
        if !self.raw {
            words.extend(["-digest", "sha256"]);
        }
        openssl(&words);
        fs::read(&signature).expect("openssl wrote it")
    }
}

fn digest(of: char) -> Digest {
    Digest::parse(&format!("sha256:{}", of.to_string().repeat(64))).expect("it is one")
}

fn simple(image: &Digest, name: &str) -> Vec<u8> {
    let claim = json!({
        "critical": {
            "identity": {"docker-reference": name},
            "image": {"docker-manifest-digest": image.to_string()},
            "type": "cosign container image signature",
        },
        "optional": null,
    });
    claim.to_string().into_bytes()
}

/// A signature as cosign attaches it, by way of the manifest it stands in.
fn attached(message: Vec<u8>, signature: &[u8]) -> Signed {
    let manifest = json!({"schemaVersion": 2, "layers": [{
        "mediaType": SIMPLE_SIGNING, "digest": digest('0').to_string(), "size": message.len(),
        "annotations": {"dev.cosignproject.cosign/signature": STANDARD.encode(signature)},
    }]});
    let found = attachments(manifest.to_string().as_bytes()).expect("it is one");
    found.into_iter().next().expect("there is one").with(message).expect("it is a claim")
}

fn bundle(key: &Key<'_>, image: &Digest) -> Value {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": image.hex()}}],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "predicate": {},
    });
    let (kind, payload) = ("application/vnd.in-toto+json", statement.to_string());
    let message = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
    json!({
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": "x"}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": STANDARD.encode(payload), "payloadType": kind,
            "signatures": [{"sig": STANDARD.encode(key.sign(message.as_bytes())), "keyid": ""}],
        },
    })
}

/// Judges an image by a policy that asks for one requirement of everything.
fn judged(
    requirement: &Value,
    image: &str,
    of: &Digest,
    signed: &[Signed],
) -> Result<Vec<Verified>, Refusal> {
    let policy =
        Policy::parse(json!({"default": [requirement]}).to_string().as_bytes()).expect("it is one");
    let reference = Reference::parse(image).expect("it is one");
    let (place, requirements) = policy.of(&Subject::of(&reference).expect("it is of a registry"));
    let evidence = Evidence { sigstore: signed.to_vec(), ..Evidence::default() };
    judge((&place, requirements), Named::of(&reference).as_ref(), of, &evidence)
}

#[test]
fn a_signature_of_each_kind_of_key_verifies_and_a_changed_byte_does_not() {
    let place = tempfile::tempdir().unwrap();
    let image = digest('a');
    for (at, kind) in KINDS.iter().enumerate() {
        let name = format!("key{at}");
        let key = Key::new(place.path(), &name, kind);
        let asked = json!({"type": "sigstoreSigned", "keyPath": key.public()});
        let claim = simple(&image, "r.example/app:v1");
        let signature = key.sign(&claim);
        let good = attached(claim.clone(), &signature);
        let verified =
            judged(&asked, "r.example/app:v1", &image, std::slice::from_ref(&good)).unwrap();
        assert!(matches!(&verified[..], [Verified::Signed { name: Some(_), .. }]), "{kind:?}");
        for at in 0..signature.len() {
            let mut broken = signature.clone();
            broken[at] ^= 1;
            let signed = Signed { signature: broken, ..good.clone() };
            assert!(
                judged(&asked, "r.example/app:v1", &image, &[signed]).is_err(),
                "{kind:?} {at}"
            );
        }
        for at in 0..claim.len() {
            let mut broken = claim.clone();
            broken[at] ^= 1;
            let signed = Signed { message: broken, ..good.clone() };
            assert!(
                judged(&asked, "r.example/app:v1", &image, &[signed]).is_err(),
                "{kind:?} {at}"
            );
        }
    }
}

#[test]
fn a_bundle_of_cosign_3_verifies() {
    let place = tempfile::tempdir().unwrap();
    let image = digest('a');
    let key = Key::new(place.path(), "key", KINDS[0]);
    let other = Key::new(place.path(), "other", KINDS[0]);
    let asked = json!({"type": "sigstoreSigned", "keyPath": key.public()});
    let bundle = bundle(&key, &image);
    let signed = bundled(bundle.to_string().as_bytes()).unwrap();
    assert!(judged(&asked, "r.example/app:v1", &image, &signed).is_ok());
    assert!(judged(&asked, "r.example/app:v1", &digest('b'), &signed).is_err(), "other content");
    let of_other = json!({"type": "sigstoreSigned", "keyPath": other.public()});
    assert!(judged(&of_other, "r.example/app:v1", &image, &signed).is_err(), "another key");
    let either = json!({"type": "sigstoreSigned", "keyPaths": [other.public(), key.public()]});
    assert!(judged(&either, "r.example/app:v1", &image, &signed).is_ok());
    let named = json!({"type": "sigstoreSigned", "keyPath": key.public(),
        "signedIdentity": {"type": "matchRepository"}});
    let refusal = judged(&named, "r.example/app:v1", &image, &signed).unwrap_err();
    assert_eq!(refusal.causes, ["a signature has no name, and the policy asks for one"]);
    let mut other_type = bundle;
    other_type["dsseEnvelope"]["payloadType"] = json!("text/plain");
    assert!(bundled(other_type.to_string().as_bytes()).is_err());
}

#[test]
fn what_is_asked_for_and_cannot_be_checked_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let image = digest('a');
    let key = Key::new(place.path(), "key", KINDS[0]);
    let claim = simple(&image, "r.example/app:v1");
    let signed = [attached(claim.clone(), &key.sign(&claim))];
    let public = key.public();
    let why = |requirement: Value, image_name: &str| {
        judged(&requirement, image_name, &image, &signed).unwrap_err()
    };
    for (requirement, says) in [
        (json!({"type": "reject"}), "rejected"),
        (json!({"type": "signedBy", "keyType": "GPGKeys", "keyPath": public}), "is no public key"),
        (
            json!({"type": "signedBaseLayer", "baseLayerIdentity": {"type": "matchExact"}}),
            "base layer",
        ),
        (json!({"type": "sigstoreSigned", "keyPath": public, "rekorPublicKeyPath": "/x"}), "rekor"),
        (json!({"type": "sigstoreSigned", "fulcio": {"caPath": "/x"}}), "fulcio"),
        (json!({"type": "sigstoreSigned", "keyPath": "/is/not/there"}), "cannot be read"),
    ] {
        let refusal = why(requirement, "r.example/app:v1");
        assert!(refusal.why.contains(says), "{refusal:?}");
    }
    let asked = json!({"type": "sigstoreSigned", "keyPath": public});
    let refusal = why(asked.clone(), "r.example/app:v2");
    assert_eq!(refusal.causes, ["a signature is for `r.example/app:v1`"]);
    assert!(judged(&asked, "r.example/app:v1", &image, &[]).is_err());
    // Every key that is named must be there: a policy is not laxer because a file is gone.
    let half = json!({"type": "sigstoreSigned", "keyPaths": [public, "/is/not/there"]});
    assert!(judged(&half, "r.example/app:v1", &image, &signed).is_err());
    let atomic =
        String::from_utf8(claim).unwrap().replace("cosign container image", "atomic container");
    let atomic = Signed {
        claim: Claim::simple(atomic.as_bytes()).unwrap(),
        signature: key.sign(atomic.as_bytes()),
        message: atomic.into_bytes(),
    };
    assert!(judged(&asked, "r.example/app:v1", &image, &[atomic]).is_err());
}
