//! What a policy asks for is looked for beside the image, in both places, and nothing of an image
//! without it is kept. Keys and signatures are made by `openssl`.

use std::fs;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fault_registry::{Fault, digest};
use images::trust::{BUNDLE, SIMPLE_SIGNING};
use images::{ErrorKind, PullOptions, PullPolicy};
use pod_abi::app::Verified;
use serde_json::{Value, json};

use crate::Table;
use crate::bench::{Bench, options};
use crate::image::Layers;

const SMALL: Layers = &[1000, 2000];
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub(crate) const TESTS: Table = &[
    (
        "an_image_that_is_signed_beside_itself_is_pulled",
        an_image_that_is_signed_beside_itself_is_pulled,
    ),
    ("an_image_that_a_referrer_signs_is_pulled", an_image_that_a_referrer_signs_is_pulled),
    (
        "an_attestation_is_no_signature_and_harms_none",
        an_attestation_is_no_signature_and_harms_none,
    ),
    ("a_layer_nobody_has_signed_is_not_even_parsed", a_layer_nobody_has_signed_is_not_even_parsed),
    (
        "an_index_that_is_signed_vouches_for_its_manifests",
        an_index_that_is_signed_vouches_for_its_manifests,
    ),
    ("an_image_nobody_signed_is_not_kept", an_image_nobody_signed_is_not_kept),
    (
        "signatures_that_cannot_be_fetched_are_no_missing_ones",
        signatures_that_cannot_be_fetched_are_no_missing_ones,
    ),
    ("a_policy_that_is_none_lets_nothing_pass", a_policy_that_is_none_lets_nothing_pass),
    (
        "a_policy_that_asks_for_nothing_asks_for_no_signature",
        a_policy_that_asks_for_nothing_asks_for_no_signature,
    ),
];

fn openssl(words: &[&str]) {
    let output = Command::new("openssl").args(words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A key in the directory of the test.
struct Key(String);

impl Key {
    fn new(bench: &Bench) -> Self {
        let path = bench.root.path().join("signer").to_str().unwrap().to_owned();
        openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &path]);
        openssl(&["pkey", "-in", &path, "-pubout", "-out", &format!("{path}.pub")]);
        Self(path)
    }

    fn sign(&self, message: &[u8]) -> String {
        let (text, signature) = (format!("{}.text", self.0), format!("{}.sig", self.0));
        fs::write(&text, message).unwrap();
        openssl(&["dgst", "-sha256", "-sign", &self.0, "-out", &signature, &text]);
        STANDARD.encode(fs::read(&signature).unwrap())
    }

    /// Pulls under a policy that wants this key's signature of everything of registries.
    fn asks(&self, identity: Option<&str>) -> PullOptions {
        let mut asked = json!({"type": "sigstoreSigned", "keyPath": format!("{}.pub", self.0)});
        if let Some(identity) = identity {
            asked["signedIdentity"] = json!({ "type": identity });
        }
        let policy = json!({"default": [{"type": "reject"}],
            "transports": {"docker": {"": [asked]}}});
        under(&self.0, &policy)
    }
}

/// Pulls under a policy, which is kept beside `place`.
fn under(place: &str, policy: &Value) -> PullOptions {
    let path = format!("{place}.policy");
    fs::write(&path, policy.to_string()).unwrap();
    let policies = vec!["/is/not/there".into(), path.into()];
    PullOptions { policy: PullPolicy::Always, policies, ..options() }
}

/// Signs `image` as cosign 2 does, under this name.
fn attach(bench: &Bench, key: &Key, image: &str, name: &str) {
    let claim = json!({
        "critical": {
            "identity": {"docker-reference": name},
            "image": {"docker-manifest-digest": image},
            "type": "cosign container image signature",
        },
        "optional": null,
    })
    .to_string();
    let layer = json!({
        "mediaType": SIMPLE_SIGNING, "digest": bench.registry.add_blob(claim.clone()),
        "size": claim.len(),
        "annotations": {"dev.cosignproject.cosign/signature": key.sign(claim.as_bytes())},
    });
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": [layer],
        "config": {"mediaType": "x/y", "digest": digest(b"{}"), "size": 2}});
    let tag = format!("{}.sig", image.replace(':', "-"));
    bench.registry.add_manifest("team/app", &tag, MANIFEST, manifest.to_string());
}

/// Signs `image` as cosign 3 does, listed where registries without lists have it.
fn refer(bench: &Bench, key: &Key, image: &str) {
    state(bench, key, image, "https://sigstore.dev/cosign/sign/v1");
}

/// Signs a statement about `image` of this kind, as cosign 3 does.
fn state(bench: &Bench, key: &Key, image: &str, predicate: &str) {
    let kind = "application/vnd.in-toto+json";
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": image.trim_start_matches("sha256:")}}],
        "predicateType": predicate, "predicate": {},
    })
    .to_string();
    let message = format!("DSSEv1 {} {kind} {} {statement}", kind.len(), statement.len());
    let bundle = json!({"mediaType": BUNDLE, "verificationMaterial": {}, "dsseEnvelope": {
        "payload": STANDARD.encode(&statement), "payloadType": kind,
        "signatures": [{"sig": key.sign(message.as_bytes())}]}})
    .to_string();
    let layer = json!({"mediaType": BUNDLE, "size": bundle.len(),
        "digest": bench.registry.add_blob(bundle)});
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": BUNDLE,
        "layers": [layer], "config": {"mediaType": "x/y", "digest": digest(b"{}"), "size": 2}})
    .to_string();
    let referrer = bench.registry.add_manifest("team/app", "bundle", MANIFEST, manifest.clone());
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        {"mediaType": MANIFEST, "digest": digest(b"other"), "size": 5, "artifactType": "text/x-sbom"},
        {"mediaType": MANIFEST, "digest": referrer, "size": manifest.len(), "artifactType": BUNDLE}]});
    let tag = image.replace(':', "-");
    bench.registry.add_manifest("team/app", &tag, INDEX, index.to_string());
}

fn an_image_that_is_signed_beside_itself_is_pulled() {
    let bench = Bench::new(SMALL);
    let key = Key::new(&bench);
    let image = bench.pushed.publish(&bench.registry);
    let name = bench.reference();
    attach(&bench, &key, &image, &name);
    let pulled = bench.pull_as(&key.asks(None)).unwrap();
    assert_eq!(pulled.verified, Verified::Signature);
    bench.holds(&pulled);
    assert!(bench.pull_as(&key.asks(Some("matchExact"))).is_ok());
    // As cosign signs it without being told otherwise: the repository.
    attach(&bench, &key, &image, name.rsplit_once(':').unwrap().0);
    let refused = bench.pull_as(&key.asks(None)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Untrusted, "{refused:?}");
    assert!(bench.pull_as(&key.asks(Some("matchRepository"))).is_ok());
}

fn an_image_that_a_referrer_signs_is_pulled() {
    let bench = Bench::new(SMALL);
    let key = Key::new(&bench);
    let image = bench.pushed.publish(&bench.registry);
    refer(&bench, &key, &image);
    let pulled = bench.pull_as(&key.asks(None)).unwrap();
    assert_eq!(pulled.verified, Verified::Signature);
    bench.holds(&pulled);
}

fn an_attestation_is_no_signature_and_harms_none() {
    let bench = Bench::new(SMALL);
    let key = Key::new(&bench);
    let image = bench.pushed.publish(&bench.registry);
    state(&bench, &key, &image, "https://slsa.dev/provenance/v1");
    let error = bench.pull_as(&key.asks(None)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Untrusted, "{error:?}");
    assert!(format!("{error:?}").contains("slsa.dev"), "{error:?}");
    bench.holds_nothing();
    attach(&bench, &key, &image, &bench.reference());
    assert_eq!(bench.pull_as(&key.asks(None)).unwrap().verified, Verified::Signature);
    // Nor does what is no bundle at all.
    let tag = format!("{}.sig", image.replace(':', "-"));
    bench.registry.add_manifest("team/app", &tag, MANIFEST, "{\"schemaVersion\": 2}".to_owned());
    refer(&bench, &key, &image);
    assert_eq!(bench.pull_as(&key.asks(None)).unwrap().verified, Verified::Signature);
}

fn a_layer_nobody_has_signed_is_not_even_parsed() {
    for (fault, says) in [(Fault::Corrupt, "what came for layer"), (Fault::None, "/nonexistent")] {
        let bench = Bench::new(SMALL);
        let key = Key::new(&bench);
        let image = bench.pushed.publish(&bench.registry);
        attach(&bench, &key, &image, &bench.reference());
        for layer in &bench.pushed.layers {
            bench.registry.script(&layer.digest, vec![fault.clone(); 3]);
        }
        // No worker can be started: whoever begins to parse has another error.
        let mut asks = key.asks(None);
        asks.worker.exe = "/nonexistent".into();
        let error = bench.pull_as(&asks).unwrap_err();
        assert!(format!("{error:?}").contains(says), "{error:?}");
    }
}

fn an_index_that_is_signed_vouches_for_its_manifests() {
    let bench = Bench::new(SMALL);
    let key = Key::new(&bench);
    let manifest = bench.pushed.publish(&bench.registry);
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [{
        "mediaType": MANIFEST, "digest": manifest, "size": bench.pushed.length(&bench.registry),
        "platform": {"os": "linux", "architecture": "amd64"}}]});
    let index = bench.registry.add_manifest("team/app", "1", INDEX, index.to_string());
    attach(&bench, &key, &index, &bench.reference());
    let pulled = bench.pull_as(&key.asks(None)).unwrap();
    assert_eq!(pulled.verified, Verified::Signature);
    assert_eq!(pulled.manifest.to_string(), manifest);
}

fn an_image_nobody_signed_is_not_kept() {
    let bench = Bench::new(SMALL);
    let key = Key::new(&bench);
    let image = bench.pushed.publish(&bench.registry);
    let refused = |says: &str| {
        let error = bench.pull_as(&key.asks(None)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Untrusted, "{error:?}");
        assert!(format!("{error:?}").contains(says), "{error:?}");
        bench.holds_nothing();
    };
    refused("no signature");
    attach(&bench, &key, &image, "elsewhere.example/app:1");
    refused("elsewhere.example");
    attach(&bench, &key, &digest(b"another image"), &bench.reference());
    let tag = format!("{}.sig", image.replace(':', "-"));
    // The registry hands out the signature of another image.
    let of_other = format!("{}.sig", digest(b"another image").replace(':', "-"));
    bench.registry.alias("team/app", &of_other, &tag);
    refused("other content");
}

fn signatures_that_cannot_be_fetched_are_no_missing_ones() {
    let bench = Bench::new(SMALL);
    let key = Key::new(&bench);
    let image = bench.pushed.publish(&bench.registry);
    attach(&bench, &key, &image, &bench.reference());
    bench.registry.script(".sig", [Fault::status(500), Fault::status(500), Fault::status(500)]);
    let error = bench.pull_as(&key.asks(None)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    bench.holds_nothing();
    assert!(bench.pull_as(&key.asks(None)).is_ok());
}

fn a_policy_that_asks_for_nothing_asks_for_no_signature() {
    let bench = Bench::new(SMALL);
    let place = bench.root.path().join("here").to_str().unwrap().to_owned();
    let accept = json!({"default": [{"type": "insecureAcceptAnything"}]});
    let pulled = bench.pull_as(&under(&place, &accept)).unwrap();
    assert_ne!(pulled.verified, Verified::Signature);
    let asked = bench.registry.requests();
    assert!(!asked.iter().any(|one| one.path.contains(".sig") || one.path.contains("referrers")));
    let scope = bench.registry.host();
    let reject = json!({"default": [{"type": "insecureAcceptAnything"}],
        "transports": {"docker": {scope: [{"type": "reject"}]}}});
    let error = bench.pull_as(&under(&place, &reject)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Untrusted, "{error:?}");
}

fn a_policy_that_is_none_lets_nothing_pass() {
    let bench = Bench::new(SMALL);
    let place = bench.root.path().join("here").to_str().unwrap().to_owned();
    let error = bench.pull_as(&under(&place, &json!({"default": []}))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Untrusted, "{error:?}");
    let options = PullOptions { policies: vec![bench.root.path().into()], ..options() };
    let error = bench.pull_as(&options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Untrusted, "{error:?}");
    bench.holds_nothing();
}
