//! What a signature policy asks of images, as a user meets it: a real registry, a signature that
//! `openssl` made and `skopeo` put beside the image, as cosign puts it.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tests::fixtures::{self, Fixture};
use tests::image::{Layer, blob, digest};
use tests::registry::Registry;
use tests::require;
use tests::sandbox::Sandbox;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

fn openssl(words: &[&str]) {
    let output = Command::new("openssl").args(words).output().expect("openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Keeps `bytes` in a layout, and returns how manifests name them.
fn keep(layout: &Path, media_type: &str, bytes: &[u8]) -> Value {
    let digest = digest(bytes);
    fs::write(blob(layout, &digest), bytes).expect("the layout can be written");
    json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

/// Puts a signature of `image` into the registry, under the name `name`.
fn sign(sandbox: &Sandbox, registry: &Registry, key: &str, (image, name): (&str, &str)) {
    let layout = sandbox.path("signature");
    fs::create_dir_all(layout.join("blobs/sha256")).expect("the sandbox can be written");
    let claim = json!({
        "critical": {
            "identity": {"docker-reference": name},
            "image": {"docker-manifest-digest": image},
            "type": "cosign container image signature",
        },
        "optional": null,
    })
    .to_string();
    let signed = format!("{key}.claim");
    fs::write(&signed, &claim).expect("the sandbox can be written");
    let signature = format!("{key}.sig");
    openssl(&["dgst", "-sha256", "-sign", key, "-out", &signature, &signed]);
    let mut layer = keep(&layout, SIMPLE_SIGNING, claim.as_bytes());
    let signature = STANDARD.encode(fs::read(signature).expect("openssl wrote it"));
    layer["annotations"] = json!({ "dev.cosignproject.cosign/signature": signature });
    let config = json!({"architecture": "", "os": "", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}});
    let config = keep(&layout, CONFIG, config.to_string().as_bytes());
    let manifest =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
    let mut manifest = keep(&layout, MANIFEST, manifest.to_string().as_bytes());
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "sig"});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(layout.join("index.json"), index.to_string()).expect("the layout can be written");
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
        .expect("the layout can be written");
    let tag = format!("team/app:{}.sig", image.replace(':', "-"));
    registry.push(&layout, "sig", &tag).expect("skopeo pushes");
}

#[test]
fn only_what_the_policy_lets_pass_is_fetched_and_run() {
    if !require::root("a pod takes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    if !require::program("docker-registry", "a real registry") {
        return;
    }
    let registry = sandbox.registry();
    let layout = fixtures::layout(sandbox.programs(), Fixture::App).expect("the fixture is there");
    let reference = registry.push(&layout, "app", "team/app:1").expect("skopeo pushes");
    let path = |name: &str| sandbox.path(name).to_str().expect("it is plain").to_owned();
    let (key, policy) = (path("signer"), path("policy.json"));
    openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &key]);
    openssl(&["pkey", "-in", &key, "-pubout", "-out", &format!("{key}.pub")]);
    let asked = json!({"type": "sigstoreSigned", "keyPath": format!("{key}.pub")});
    let text = json!({"default": [{"type": "reject"}], "transports": {"docker": {"": [asked]}}});
    fs::write(&policy, text.to_string()).expect("the sandbox can be written");

    let run = |reference: &str| {
        let flags = ["--signature-policy", &policy, "-q", reference, "echo", "trusted"];
        sandbox.pod([&["run", "--rm"], &flags[..]].concat())
    };
    let judged =
        |reference: &str| sandbox.pod(["trust", "test", "--signature-policy", &policy, reference]);
    let said = judged(&reference).exits(1);
    for word in ["the default of `docker`", "a signature of cosign by the key in", "no: "] {
        assert!(said.contains(word), "{said}");
    }
    let said = judged(&format!("oci:{}:app", layout.display())).exits(1);
    assert!(said.contains("the policy's default") && said.contains("rejected"), "{said}");
    run(&reference).refuses(
        125,
        &["[SANDBOX]/policy.json", "no signature the policy asks for", "--insecure-options image"],
    );
    let listed = sandbox.pod(["image", "ls"]).success();
    assert!(!listed.contains("team/app"), "{listed}");
    run(&format!("oci:{}:app", layout.display())).refuses(125, &["rejected", "policy's default"]);

    let given_up = ["fetch", "--json", "-q", "--insecure-options", "image", &reference];
    let images: Value = sandbox.pod(given_up).json();
    let image = images[0]["manifest"].as_str().expect("it has a digest").to_owned();
    sandbox.pod(["image", "rm", &reference]).success();
    sign(&sandbox, &registry, &key, (&image, "elsewhere.example/team/app:1"));
    run(&reference).refuses(125, &["a signature is for `elsewhere.example/team/app:1`"]);
    sign(&sandbox, &registry, &key, (&image, &reference));
    let said = judged(&reference).success();
    assert!(said.contains("allowed:   yes, by a signature\n"), "{said}");
    let listed = sandbox.pod(["image", "ls"]).success();
    assert!(!listed.contains("team/app"), "nothing is kept: {listed}");
    assert_eq!(run(&reference).success(), "trusted\n");
    let kept = ["fetch", "--json", "-q", "--signature-policy", &policy, &reference];
    let images: Value = sandbox.pod(kept).json();
    assert_eq!(images[0]["verified"], "signature");
    fs::write(&policy, "{}").expect("the sandbox can be written");
    let always = ["fetch", "--pull=always", "--signature-policy", &policy, &reference];
    sandbox.pod(always).refuses(1, &["cannot be used", "default"]);
}

/// How `openssl genpkey` makes a key of each kind that is signed with.
const KINDS: [(&str, &[&str]); 3] = [
    ("ecdsa", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ("ed25519", &["-algorithm", "ED25519"]),
    ("rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
];

#[test]
fn what_is_signed_here_is_let_in_and_openssl_verifies_it() {
    if !require::root("a pod takes namespaces")
        || !require::program("docker-registry", "a real registry")
    {
        return;
    }
    let sandbox = Sandbox::new();
    let registry = sandbox.registry();
    let layout = sandbox.fixture(Fixture::App);
    let path = |name: &str| sandbox.path(name).to_str().expect("it is plain").to_owned();
    let there = format!("{}/team/app:1", registry.address());
    let sign = |key: &str| sandbox.pod(["image", "sign", "--key", &path(key), &layout, &there]);
    let policy = path("policy.json");
    let scope = format!("{}/team", registry.address());
    let fetch = |key: &str| {
        let public = path(&format!("{key}.pub"));
        let flags = ["--signature-policy", &policy, "--key", &public];
        sandbox.pod([&["trust", "require", &scope], &flags[..]].concat()).success();
        sandbox.pod(["fetch", "-q", "--signature-policy", &policy, &there])
    };
    let reject = ["--signature-policy", &policy, "--default", "--reject"];
    sandbox.pod([&["trust", "require"], &reject[..]].concat()).success();
    for (name, kind) in KINDS {
        openssl(&[&["genpkey", "-out", &path(name)], kind].concat());
        let public = path(&format!("{name}.pub"));
        openssl(&["pkey", "-in", &path(name), "-pubout", "-out", &public]);
    }
    openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &path("old")]);

    sign("old").refuses(1, &["old", "no private key", "pod image sign --help"]);
    sign("ecdsa.pub").refuses(1, &["no private key"]);
    sign("missing").refuses(1, &["missing", "cannot be read"]);
    sandbox.pod(["image", "sign", "--key", &path("rsa"), &layout]).refuses(2, &["no tag"]);
    sign("ecdsa").refuses(1, &["does not have image", "pod image push"]);
    sandbox.pod(["image", "push", "-q", &layout, &there]).success();
    for (signed, (name, _)) in KINDS.into_iter().enumerate() {
        for (other, (key, _)) in KINDS.into_iter().enumerate() {
            match other < signed {
                true => drop(fetch(key).success()),
                false => drop(fetch(key).refuses(1, &["policy.json"])),
            }
        }
        sign(name).success();
    }
    for (key, _) in KINDS {
        fetch(key).success();
    }
    let listed: Value = sandbox.pod(["image", "inspect", &there]).json();
    assert_eq!(listed["verified"], "signature", "{listed}");

    if require::program("skopeo", "what lies beside the image, by another tool's hand") {
        let image = listed["manifest"].as_str().expect("it has a digest").replace(':', "-");
        let (from, to) = (format!("docker://{there}"), format!("dir:{}", path("beside")));
        let from = format!("{}:{image}.sig", from.trim_end_matches(":1"));
        let copy = ["copy", "-q", "--insecure-policy", "--src-tls-verify=false"];
        let copied = [&copy[..], &[&from, &to]].concat();
        sandbox.program("skopeo").args(copied).run().success();
        let manifest = fs::read(path("beside/manifest.json")).expect("skopeo wrote it");
        let manifest: Value = serde_json::from_slice(&manifest).expect("it is JSON");
        for (place, (key, _)) in KINDS.into_iter().enumerate() {
            let layer = &manifest["layers"][place];
            let hex = layer["digest"].as_str().expect("it has one").trim_start_matches("sha256:");
            let signature = layer["annotations"]["dev.cosignproject.cosign/signature"].as_str();
            let signature = STANDARD.decode(signature.expect("it has one")).expect("it is base64");
            fs::write(path("signature"), signature).expect("the sandbox can be written");
            let (public, claim) = (path(&format!("{key}.pub")), path(&format!("beside/{hex}")));
            let by = ["-pubin", "-inkey", &public, "-sigfile", &path("signature"), "-in", &claim];
            let how: &[&str] = if key == "ed25519" { &[] } else { &["-digest", "sha256"] };
            openssl(&[&["pkeyutl", "-verify", "-rawin"], how, &by].concat());
        }
    }
    // Under another name there it is not what was signed.
    let other = format!("{}/team/other:1", registry.address());
    sandbox.pod(["image", "push", "-q", &layout, &other]).success();
    let policy = path("policy.json");
    sandbox
        .pod(["fetch", "-q", "--signature-policy", &policy, &other])
        .refuses(1, &["policy.json"]);
}

/// Makes a key with gpg and signs an image with it as skopeo does, the signatures in `sigs`.
const SKOPEO: &str = r#"cd "$1"; export GNUPGHOME="$1/gnupg"; mkdir -m 700 gnupg sigs registries.d
    printf 'docker:\n  %s:\n    sigstore: file://%s/sigs\n' "$2" "$1" >registries.d/one.yaml
    gpg --batch -q --passphrase '' --quick-gen-key 'me <me@example.org>' rsa3072 sign never
    gpg --batch -q --export me >me.gpg
    key=$(gpg --batch --list-keys --with-colons me | awk -F: '/^fpr/ {print $10; exit}')
    skopeo --registries.d registries.d --insecure-policy copy -q --dest-tls-verify=false \
        --sign-by "$key" "$3" "docker://$4"
    skopeo --registries.d registries.d --insecure-policy copy -q --src-tls-verify=false \
        "docker://$4" "dir:$1/dir"
    gpgconf --kill all; rm -rf gnupg"#;

#[test]
fn what_skopeo_signs_with_gpg_is_let_in_and_a_changed_byte_is_not() {
    let tools = ["docker-registry", "gpg", "skopeo"];
    if !require::root("a pod takes namespaces")
        || !tools.iter().all(|tool| require::program(tool, "a real signature of OpenPGP"))
    {
        return;
    }
    let sandbox = Sandbox::new();
    let registry = sandbox.registry();
    let layout = fixtures::layout(sandbox.programs(), Fixture::App).expect("the fixture is there");
    let host = registry.address();
    let image = format!("{host}/team/app:1");
    let at = sandbox.path("").display().to_string();
    let at = at.trim_end_matches('/');
    let from = format!("oci:{}:app", layout.display());
    let words = ["-euc", SKOPEO, "sh", at, &host, &from, &image];
    sandbox.program("sh").args(words).run().success();

    let policy = sandbox.path("policy.json").display().to_string();
    let asks = |scope: &str, identity: Value| {
        let asked = json!({"type": "signedBy", "keyType": "GPGKeys",
            "keyPath": format!("{at}/me.gpg"), "signedIdentity": identity});
        let text = json!({"default": [{"type": "reject"}], "transports": {scope: {"": [asked]}}});
        fs::write(&policy, text.to_string()).expect("the sandbox can be written");
    };
    let run = |reference: &str| {
        let flags = ["--signature-policy", &policy, "--pull", "always", "-q", reference];
        sandbox.pod([&["run", "--rm"], &flags[..], &["echo", "trusted"]].concat())
    };
    asks("docker", json!({"type": "matchRepoDigestOrExact"}));
    assert_eq!(run(&image).success(), "trusted\n");
    let listed: Value = sandbox.pod(["image", "inspect", &image]).json();
    assert_eq!(listed["verified"], "signature", "{listed}");
    let said = sandbox.pod(["trust", "test", "--signature-policy", &policy, &image]).success();
    assert!(said.contains("an OpenPGP signature by the key in"), "{said}");

    // A directory has its signatures with it, and no name: the policy says for which it must be.
    asks("dir", json!({"type": "exactReference", "dockerReference": image}));
    let directory = format!("dir:{at}/dir");
    assert_eq!(run(&directory).success(), "trusted\n");
    asks("dir", json!({"type": "matchExact"}));
    run(&directory).refuses(125, &["a signature is for"]);

    // Another name, another key, no signature, a signature of which one byte is another.
    asks("docker", json!({"type": "exactRepository", "dockerRepository": "example.org/app"}));
    run(&image).refuses(125, &["a signature is for"]);
    asks("docker", json!({"type": "matchExact"}));
    let kept = fs::read_dir(sandbox.path("sigs/team")).expect("skopeo made it");
    let kept = kept.map(|entry| entry.expect("it can be read").path().join("signature-1"));
    let kept: Vec<_> = kept.collect();
    let [signature] = &kept[..] else { panic!("{kept:?}") };
    let whole = fs::read(signature).expect("skopeo wrote it");
    let mut spoilt = whole.clone();
    let middle = spoilt.len() / 2;
    spoilt[middle] ^= 1;
    fs::write(signature, &spoilt).expect("the sandbox can be written");
    run(&image).refuses(125, &["the OpenPGP signature does not count"]);
    fs::remove_file(signature).expect("it is there");
    run(&image).refuses(125, &["it has no OpenPGP signature the policy asks for"]);
    fs::write(signature, &whole).expect("the sandbox can be written");
    assert_eq!(run(&image).success(), "trusted\n");
    fs::write(sandbox.path("registries.d/two.yaml"), "docker: {x: {lookasides: y}}")
        .expect("the sandbox can be written");
    run(&image).refuses(125, &["it cannot be known where signatures lie"]);
}

/// Makes two keys with gpg, and has skopeo sign an image with one: `SCRIPT DIR HOST FROM IMAGE WHO`.
const TWO_KEYS: &str = r#"cd "$1"; export GNUPGHOME="$1/gnupg"; mkdir -m 700 gnupg
    mkdir -p sigs registries.d
    printf 'docker:\n  %s:\n    lookaside: file://%s/sigs\n' "$2" "$1" >registries.d/one.yaml
    for who in one two; do
        gpg --batch -q --passphrase '' --quick-gen-key "$who <$who@example.org>" ed25519 sign never
    done
    gpg --batch -q --export one >one.gpg
    gpg --batch -q --armor --export two >two.asc
    gpg --batch -q --armor --pinentry-mode loopback --passphrase '' --export-secret-keys two >secret.asc
    key=$(gpg --batch --list-keys --with-colons two | awk -F: '/^fpr/ {print $10; exit}')
    echo "$key" >two.fpr
    skopeo --registries.d registries.d --insecure-policy copy -q --dest-tls-verify=false \
        --sign-by "$key" "$3" "docker://$4"
    gpgconf --kill all; rm -rf gnupg"#;

#[test]
fn a_keyring_is_added_to_the_keys_of_a_scope_and_lets_in_what_it_has_signed() {
    let tools = ["docker-registry", "gpg", "skopeo", "openssl"];
    if !require::root("a pod takes namespaces")
        || !tools.iter().all(|tool| require::program(tool, "a real signature of OpenPGP"))
    {
        return;
    }
    let sandbox = Sandbox::new();
    let registry = sandbox.registry();
    let layout = fixtures::layout(sandbox.programs(), Fixture::App).expect("the fixture is there");
    let host = registry.address();
    let image = format!("{host}/team/app:1");
    let at = sandbox.path("").display().to_string();
    let at = at.trim_end_matches('/');
    let from = format!("oci:{}:app", layout.display());
    let words = ["-euc", TWO_KEYS, "sh", at, &host, &from, &image];
    sandbox.program("sh").args(words).run().success();

    let policy = format!("{at}/policy.json");
    let flag = ["--signature-policy", policy.as_str()];
    let trust =
        |verb: &str, words: &[&str]| sandbox.pod([&["trust", verb], &flag[..], words].concat());
    let fetch = || sandbox.pod([&["fetch", "-q"], &flag[..], &[&image]].concat());
    let key = |name: &str| format!("{at}/{name}");
    let team = format!("{host}/team");
    trust("require", &["--default", "--reject"]).success();
    trust("require", &[&team, "--key", &key("one.gpg")]).success();
    fetch().refuses(1, &["policy.json"]);
    // A key that may not be there, and one that cannot stand beside the other.
    trust("add", &[&team, "--key", &key("secret.asc")]).refuses(1, &["a private key"]);
    trust("add", &[&team, "--key", &key("policy.json")]).refuses(1, &["neither as PEM"]);
    openssl(&["genpkey", "-algorithm", "ED25519", "-out", &key("pem")]);
    openssl(&["pkey", "-in", &key("pem"), "-pubout", "-out", &key("pem.pub")]);
    trust("add", &[&team, "--key", &key("pem.pub")]).refuses(1, &["it asks for something else"]);
    let both = [&team, "--key", &key("pem.pub"), "--key", &key("one.gpg")];
    trust("require", &both).refuses(2, &["cannot stand for each other"]);
    fetch().refuses(1, &["policy.json"]);

    trust("add", &["--prefix", &team, "--key", &key("two.asc")]).success();
    fetch().success();
    let listed: Value = sandbox.pod(["image", "inspect", &image]).json();
    assert_eq!(listed["verified"], "signature", "{listed}");
    let shown: Value = trust("show", &[&image, "--json"]).json();
    let keys = &shown[0]["asked"][0]["keys"];
    let fingerprint = fs::read_to_string(key("two.fpr")).expect("gpg said it");
    assert_eq!(keys[1]["fingerprint"], fingerprint.trim(), "{shown}");
    assert_eq!(keys[0]["users"], json!(["one <one@example.org>"]), "{shown}");
    assert!(fingerprint.trim().ends_with(keys[1]["id"].as_str().expect("it has one")));
    let said = trust("show", &[&team]).success();
    assert!(said.contains("`two <two@example.org>`") && said.contains("scope `"), "{said}");
    // For a scope that nothing was said of, and for all that is refused.
    trust("rm", &[&team]).success();
    trust("add", &["--default", "--key", &key("two.asc")]).success();
    sandbox.pod(["image", "rm", &image]).success();
    fetch().success();
}

/// Makes a key with gpg and signs a file with it, apart from it.
const DETACHED: &str = r#"cd "$1"; export GNUPGHOME="$1/gnupg"; mkdir -m 700 gnupg
    gpg --batch -q --passphrase '' --quick-gen-key 'me <me@example.org>' ed25519 sign never
    gpg --batch -q --export me >me.gpg
    gpg --batch -q --armor --detach-sign -o root.tar.asc root.tar
    gpgconf --kill all; rm -rf gnupg"#;

#[test]
fn a_file_that_somebody_has_signed_is_imported_and_a_changed_one_is_not() {
    if !require::program("gpg", "a real signature of OpenPGP") {
        return;
    }
    let sandbox = Sandbox::new();
    let at = sandbox.path("").display().to_string();
    let at = at.trim_end_matches('/');
    let root = Layer::new().file("word", 0o644, b"mine").tar();
    fs::write(sandbox.path("root.tar"), &root).expect("the sandbox can be written");
    sandbox.program("sh").args(["-euc", DETACHED, "sh", at]).run().success();
    let (signature, keyring) = (format!("{at}/root.tar.asc"), format!("{at}/me.gpg"));
    let import = |keyring: &str, name: &str| {
        let flags = ["--signature", &signature, "--keyring", keyring, "-q"];
        let file = format!("{at}/root.tar");
        sandbox.pod([&["image", "import"], &flags[..], &[&file, name]].concat())
    };
    import(&keyring, "signed:1").success();
    let listed: Value = sandbox.pod(["image", "inspect", "signed:1"]).json();
    assert_eq!(listed["verified"], "signature", "{listed}");
    import(&signature, "signed:2").refuses(1, &["is no public key"]);
    let mut spoilt = root;
    let at_word = spoilt.windows(4).position(|four| four == b"mine").expect("it is there");
    spoilt[at_word] = b'f';
    fs::write(sandbox.path("root.tar"), &spoilt).expect("the sandbox can be written");
    import(&keyring, "signed:2").refuses(1, &["the OpenPGP signature does not count"]);
    let listed = sandbox.pod(["image", "ls"]).success();
    assert!(!listed.contains("signed:2"), "{listed}");
}
