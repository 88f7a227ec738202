//! Real keys and messages of gpg, and what has been done to each that must not pass.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::DeflateEncoder;
use pgp::composed::{Deserializable as _, SignedPublicSubKey, SignedSecretKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::packet::{KeyFlags, Notation, Subpacket, SubpacketData};
use pgp::ser::Serialize as _;
use pgp::types::{Duration as Lifetime, Password, SigningKey, Tag, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tempfile::TempDir;

use super::*;

const CONTENT: &[u8] = b"{\"critical\": {}}\r\n lines \n of \t\n several kinds";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A home of gpg, with the agent that it starts.
struct Gpg(TempDir);

impl Gpg {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// One that has a key of its own.
    fn with(algorithm: &str) -> Self {
        let gpg = Self::new();
        gpg.generate("a@example.com", algorithm, &[]);
        gpg
    }

    fn run(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut gpg = Command::new("gpg")
            .args(["--batch", "--no-tty", "--yes", "--pinentry-mode", "loopback"])
            .args(["--passphrase", "", "--trust-model", "always", "--homedir"])
            .arg(self.0.path())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        gpg.stdin.take().unwrap().write_all(input).unwrap();
        let output = gpg.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "gpg {arguments:?}: {said}");
        output.stdout
    }

    fn generate(&self, user: &str, algorithm: &str, more: &[&str]) {
        self.run(&[more, &["--quick-gen-key", user, algorithm, "sign", "never"]].concat(), b"");
    }

    fn add_subkey(&self, usage: &str, lifetime: &str) {
        self.run(&["--quick-add-key", &self.fingerprint(), "ed25519", usage, lifetime], b"");
    }

    fn sign(&self, more: &[&str]) -> Vec<u8> {
        self.run(&[more, &["--sign"]].concat(), CONTENT)
    }

    fn export(&self) -> Vec<u8> {
        self.run(&["--export"], b"")
    }

    fn keyring(&self) -> Keyring {
        Keyring::parse(&self.export(), "test").unwrap()
    }

    fn secret(&self) -> SignedSecretKey {
        SignedSecretKey::from_bytes(&self.run(&["--export-secret-keys"], b"")[..]).unwrap()
    }

    /// The fingerprint of its first primary key, as gpg says it.
    fn fingerprint(&self) -> String {
        let listed = self.run(&["--with-colons", "--list-keys"], b"");
        let listed = String::from_utf8(listed).unwrap();
        let line = listed.lines().find(|line| line.starts_with("fpr:")).unwrap();
        line.split(':').nth(9).unwrap().to_owned()
    }

    /// Takes over the revocation that gpg wrote when it made the key.
    fn revoke(&self) {
        let path = format!("openpgp-revocs.d/{}.rev", self.fingerprint());
        let text = fs::read_to_string(self.0.path().join(path)).unwrap();
        self.run(&["--import"], text.replace(":-----BEGIN", "-----BEGIN").as_bytes());
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let kill = ["--kill", "gpg-agent"];
        let _ = Command::new("gpgconf").arg("--homedir").arg(self.0.path()).args(kill).status();
    }
}

fn now() -> SystemTime {
    SystemTime::now()
}

fn why<T: std::fmt::Debug>(result: Result<T, TrustError>) -> &'static str {
    match result {
        Err(TrustError::Signature(why) | TrustError::NoKey { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

fn packet(tag: Tag, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0xc0 | u8::from(tag), 0xff];
    packet.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    packet.extend(body);
    packet
}

/// A message of our own making, with whatever signature.
fn message(signature: &Signature, content: &[u8]) -> Vec<u8> {
    let config = signature.config().unwrap();
    let mut one_pass = vec![3, config.typ.into(), config.hash_alg.into(), config.pub_alg.into()];
    one_pass.extend([0; 8]);
    one_pass.push(1);
    let literal = [b"b\0\0\0\0\0", content].concat();
    let mut message = packet(Tag::OnePassSignature, &one_pass);
    message.extend(packet(Tag::LiteralData, &literal));
    message.extend(packet(Tag::Signature, &signature.to_bytes().unwrap()));
    message
}

fn config<K: SigningKey>(key: &K, typ: SignatureType, hash: HashAlgorithm) -> SignatureConfig {
    let mut config = SignatureConfig::v4(typ, key.algorithm(), hash);
    config.hashed_subpackets = vec![
        Subpacket::regular(SubpacketData::SignatureCreationTime(Timestamp::now())).unwrap(),
        Subpacket::regular(SubpacketData::IssuerFingerprint(key.fingerprint())).unwrap(),
    ];
    config
}

/// A signature that says something else than what was signed.
fn altered(signature: &Signature, change: impl Fn(&mut SignatureConfig)) -> Signature {
    let mut config = signature.config().unwrap().clone();
    change(&mut config);
    let hash = signature.signed_hash_value().unwrap();
    Signature::from_config(config, hash, signature.signature().unwrap().clone()).unwrap()
}

fn ring(key: &SignedPublicKey) -> Result<Keyring, TrustError> {
    Keyring::parse(&key.to_bytes().unwrap(), "test")
}

#[test]
fn what_gpg_signs_is_opened() {
    for algorithm in ["rsa3072", "ed25519", "nistp256", "nistp384"] {
        let gpg = Gpg::with(algorithm);
        let keyring = gpg.keyring();
        let expected = Opened { content: CONTENT.to_vec(), fingerprint: gpg.fingerprint() };
        let variants: [&[&str]; 7] = [
            &[],
            &["-z", "0"],
            &["--compress-algo", "zip"],
            &["--compress-algo", "zlib"],
            &["--digest-algo", "SHA384"],
            &["--digest-algo", "SHA512"],
            &["--set-filename", "claim.json"],
        ];
        for variant in variants {
            let opened = keyring.open(&gpg.sign(variant), now());
            assert_eq!(opened, Ok(expected.clone()), "{algorithm} {variant:?}");
        }
        let opened = keyring.open(&gpg.sign(&["--textmode"]), now()).unwrap();
        assert_eq!(opened.fingerprint, expected.fingerprint);
        assert!(keyring.open(&gpg.sign(&["--compress-algo", "bzip2"]), now()).is_err());
    }
}

#[test]
fn detached_signatures_are_verified() {
    for algorithm in ["rsa3072", "ed25519"] {
        let gpg = Gpg::with(algorithm);
        let keyring = gpg.keyring();
        for more in [&[][..], &["--armor"], &["--armor", "--comment", "a: b"], &["--textmode"]] {
            let arguments = [more, &["--detach-sign"]].concat();
            let signature = gpg.run(&arguments, CONTENT);
            let verify = |signature: &[u8], mut content: &[u8]| {
                keyring.verify_detached(signature, &mut content, now())
            };
            assert_eq!(verify(&signature, CONTENT), Ok(gpg.fingerprint()), "{more:?}");
            assert_eq!(why(verify(&signature, b"other")), "it is of another content");
            let twice = [&signature[..], &signature[..]].concat();
            assert_eq!(why(verify(&twice, CONTENT)), "it is not one signature");
            assert!(verify(&signature[..signature.len() / 2], CONTENT).is_err());
            assert!(verify(b"", CONTENT).is_err());
        }
        assert!(keyring.verify_detached(&gpg.sign(&[]), &mut &CONTENT[..], now()).is_err());
        assert!(keyring.open(&gpg.run(&["--detach-sign"], CONTENT), now()).is_err());
    }
}

#[test]
fn a_long_content_is_hashed_as_it_comes() {
    let gpg = Gpg::with("ed25519");
    let content = b"line\r\n other \n\n".repeat(100_000);
    for more in [&[][..], &["--textmode"]] {
        let signature = gpg.run(&[more, &["--detach-sign"]].concat(), &content);
        let verified = gpg.keyring().verify_detached(&signature, &mut &content[..], now());
        assert_eq!(verified, Ok(gpg.fingerprint()), "{more:?}");
    }
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("broken"))
        }
    }
    let signature = gpg.run(&["--detach-sign"], &content);
    let verified = gpg.keyring().verify_detached(&signature, &mut Broken, now());
    assert_eq!(why(verified), "its content cannot be read");
}

#[test]
fn a_flipped_byte_changes_no_content() {
    let gpg = Gpg::with("ed25519");
    let keyring = gpg.keyring();
    let expected = Opened { content: CONTENT.to_vec(), fingerprint: gpg.fingerprint() };
    for message in [gpg.sign(&[]), gpg.sign(&["-z", "0"])] {
        for at in 0..message.len() {
            for mask in [0x01, 0x10, 0x80] {
                let mut spoilt = message.clone();
                spoilt[at] ^= mask;
                if let Ok(opened) = keyring.open(&spoilt, now()) {
                    assert_eq!(opened, expected, "{at} {mask}");
                }
            }
            assert!(keyring.open(&message[..at], now()).is_err(), "cut off at {at}");
        }
    }
}

#[test]
fn only_keys_of_the_keyring_count() {
    let (ours, theirs) = (Gpg::with("ed25519"), Gpg::with("ed25519"));
    let message = theirs.sign(&[]);
    let mut keyring = ours.keyring();
    assert_eq!(why(keyring.open(&message, now())), "none of the keys made it");
    keyring.join(theirs.keyring());
    assert_eq!(keyring.open(&message, now()).unwrap().fingerprint, theirs.fingerprint());
    assert_eq!(keyring.open(&ours.sign(&[]), now()).unwrap().fingerprint, ours.fingerprint());
}

#[test]
fn keyrings_are_read_in_every_form() {
    let gpgs = [Gpg::with("ed25519"), Gpg::with("ed25519")];
    let armored = gpgs.each_ref().map(|gpg| gpg.run(&["--armor", "--export"], b""));
    let binary = gpgs.each_ref().map(Gpg::export);
    let files = [
        armored.concat(),
        binary.concat(),
        [&binary[0][..], &packet(Tag::Trust, b"\0\0"), &binary[1]].concat(),
        [&b"Keys of ours\n\n"[..], &armored[0], b"\nand\n", &armored[1]].concat(),
        String::from_utf8(armored.concat()).unwrap().replace('\n', "\r\n").into_bytes(),
    ];
    for file in &files {
        let keyring = Keyring::parse(file, "test").unwrap();
        for gpg in &gpgs {
            let opened = keyring.open(&gpg.sign(&[]), now()).unwrap();
            assert_eq!(opened.fingerprint, gpg.fingerprint());
        }
    }
    let [armored, binary] = [&armored[0], &binary[0]];
    let secret = gpgs[0].run(&["--export-secret-keys"], b"");
    let armored_secret = gpgs[0].run(&["--armor", "--export-secret-keys"], b"");
    let nones: [&[u8]; 9] = [
        b"",
        b"text",
        b"\xff\xff",
        &secret,
        &armored_secret,
        &binary[..binary.len() - 1],
        &[&binary[..], b"x"].concat(),
        &armored[..armored.len() / 2],
        &packet(Tag::Signature, b"\x04"),
    ];
    for (number, none) in nones.iter().enumerate() {
        let keyring = Keyring::parse(none, "`/k.gpg`");
        assert!(
            matches!(&keyring, Err(TrustError::NoKey { of, .. }) if of == "`/k.gpg`"),
            "{number}"
        );
    }
}

#[test]
fn there_is_one_shape_of_messages() {
    let gpg = Gpg::with("ed25519");
    gpg.generate("b@example.com", "ed25519", &[]);
    gpg.run(&["--quick-add-key", &gpg.fingerprint(), "cv25519", "encr", "never"], b"");
    let keyring = gpg.keyring();
    let plain = gpg.sign(&["-z", "0"]);
    assert!(keyring.open(&plain, now()).is_ok());
    let literal = packet(Tag::LiteralData, b"b\0\0\0\0\0other");
    let whole =
        |packets: &[u8]| packet(Tag::CompressedData, &[&[1], &deflated(packets)[..]].concat());
    assert!(keyring.open(&whole(&plain), now()).is_ok());
    let refused = [
        Vec::new(),
        gpg.sign(&["-u", "a@example.com", "-u", "b@example.com"]),
        gpg.run(&["--store"], CONTENT),
        gpg.run(&["--clear-sign"], CONTENT),
        gpg.run(&["--armor", "--sign"], CONTENT),
        gpg.run(&["--encrypt", "-r", "a@example.com"], CONTENT),
        gpg.run(&["--sign", "--encrypt", "-r", "a@example.com"], CONTENT),
        gpg.run(&["--passphrase", "a", "--symmetric"], CONTENT),
        [&plain[..], b"\x97"].concat(),
        [&plain[..], &packet(Tag::Marker, b"PGP")].concat(),
        [&plain[..], &literal].concat(),
        [&plain[..], &plain[..]].concat(),
        [&literal[..], &plain].concat(),
        whole(&whole(&plain)),
        whole(&[&plain[..], &literal].concat()),
        [whole(&plain), literal.clone()].concat(),
        packet(Tag::CompressedData, &[&[1], &deflated(&plain)[..], b"more"].concat()),
        packet(Tag::CompressedData, &[&[0], &plain[..]].concat()),
        packet(Tag::CompressedData, b""),
        packet(Tag::Padding, &[0; 9]),
    ];
    for (number, message) in refused.iter().enumerate() {
        assert!(keyring.open(message, now()).is_err(), "{number}");
    }
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn messages_have_bounds() {
    let gpg = Gpg::with("ed25519");
    let keyring = gpg.keyring();
    for compression in ["none", "zip"] {
        let sign = |length: usize| {
            gpg.run(&["--compress-algo", compression, "--sign"], &vec![b' '; length])
        };
        assert_eq!(keyring.open(&sign(64 << 10), now()).unwrap().content.len(), 64 << 10);
        let longer = why(keyring.open(&sign((64 << 10) + 1), now()));
        assert_eq!(longer, "its content is longer than 64 KiB");
    }
    let bomb = deflated(&vec![0; 64 << 20]);
    let bomb = packet(Tag::CompressedData, &[&[1], &bomb[..]].concat());
    assert_eq!(why(keyring.open(&bomb, now())), "it is longer than 64 KiB, decompressed");
    let long = packet(Tag::CompressedData, &vec![0; 4 << 20]);
    assert_eq!(why(keyring.open(&long, now())), "it is longer than 4 MiB");
}

#[test]
fn weak_hashes_and_other_kinds_are_refused() {
    let gpg = Gpg::with("rsa2048");
    let (keyring, secret) = (gpg.keyring(), gpg.secret());
    assert!(keyring.open(&gpg.sign(&["--digest-algo", "SHA256"]), now()).is_ok());
    let weak = "a signature is over a hash that is not SHA-2";
    assert_eq!(why(keyring.open(&gpg.sign(&["--digest-algo", "SHA1"]), now())), weak);
    let open = |typ, hash| {
        let key = &secret.primary_key;
        let signature = config(key, typ, hash).sign(key, &Password::empty(), CONTENT).unwrap();
        keyring.open(&message(&signature, CONTENT), now())
    };
    assert!(open(SignatureType::Binary, HashAlgorithm::Sha256).is_ok());
    assert!(open(SignatureType::Text, HashAlgorithm::Sha512).is_ok());
    for hash in [HashAlgorithm::Md5, HashAlgorithm::Sha1, HashAlgorithm::Ripemd160] {
        assert_eq!(why(open(SignatureType::Binary, hash)), weak, "{hash:?}");
    }
    let key = &secret.primary_key;
    let document = config(key, SignatureType::Binary, HashAlgorithm::Sha256);
    let document = document.sign(key, &Password::empty(), CONTENT).unwrap();
    for typ in [SignatureType::Standalone, SignatureType::Timestamp, SignatureType::Key] {
        let other = altered(&document, |config| config.typ = typ);
        let refused = why(keyring.open(&message(&other, CONTENT), now()));
        assert_eq!(refused, "it is not the signature of a document");
    }
}

#[test]
fn signatures_of_old_versions_are_refused() {
    let gpg = Gpg::with("rsa2048");
    let secret = gpg.secret();
    let key = &secret.primary_key;
    let document = config(key, SignatureType::Binary, HashAlgorithm::Sha256);
    let mut document = document.sign(key, &Password::empty(), CONTENT).unwrap().to_bytes().unwrap();
    let verify = |signature: &[u8]| {
        let signature = packet(Tag::Signature, signature);
        gpg.keyring().verify_detached(&signature, &mut &CONTENT[..], now())
    };
    assert!(verify(&document).is_ok());
    document[0] = 5;
    assert_eq!(why(verify(&document)), "it says not when it was made");
    let third = [&[3, 5, 0, 0x60, 0, 0, 0][..], &[1; 8], &[1, 8, 0, 0, 0, 1, 1]].concat();
    assert_eq!(why(verify(&third)), "a signature is not of version 4");
    // Of another hash or algorithm than its key makes.
    for alter in [
        |config: &mut SignatureConfig| config.pub_alg = PublicKeyAlgorithm::RSASign,
        |config: &mut SignatureConfig| config.hash_alg = HashAlgorithm::Sha512,
    ] {
        document[0] = 4;
        let whole = packets::detached(&packet(Tag::Signature, &document)).unwrap();
        assert!(verify(&altered(&whole, alter).to_bytes().unwrap()).is_err());
    }
}

#[test]
fn text_is_signed_but_for_the_ends_of_its_lines() {
    let gpg = Gpg::with("ed25519");
    let signature = gpg.run(&["--textmode", "--detach-sign"], b"a\nb\n");
    let verify =
        |mut content: &[u8]| gpg.keyring().verify_detached(&signature, &mut content, now()).is_ok();
    assert!(verify(b"a\nb\n") && verify(b"a\r\nb\r\n"));
    assert!(!verify(b"a\nb") && !verify(b"ab") && !verify(b"a\rb\n") && !verify(b"a\nb\nc"));
}

#[test]
fn weak_keys_are_refused() {
    for (algorithm, reason) in [
        ("rsa1024", "its RSA key is shorter than 2048 bits"),
        ("dsa2048", "its key is of a kind that may not sign"),
    ] {
        let gpg = Gpg::with(algorithm);
        let message = gpg.sign(&["--digest-algo", "SHA256"]);
        assert_eq!(why(gpg.keyring().open(&message, now())), reason);
    }
    let gpg = Gpg::new();
    gpg.generate("a@example.com", "rsa2048", &["--cert-digest-algo", "SHA1"]);
    let refused = why(gpg.keyring().open(&gpg.sign(&[]), now()));
    assert_eq!(refused, "a signature is over a hash that is not SHA-2");
}

#[test]
fn an_expired_key_does_not_count() {
    let gpg = Gpg::new();
    let faked = ["--faked-system-time", "20200101T000000"];
    let user = "a@example.com";
    gpg.run(&[&faked[..], &["--quick-gen-key", user, "ed25519", "sign", "1y"]].concat(), b"");
    let message = gpg.sign(&faked);
    let keyring = gpg.keyring();
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    // 2020-01-02, 2020-12-30 and 2021-01-02.
    assert!(keyring.open(&message, at(1_577_923_200)).is_ok());
    assert!(keyring.open(&message, at(1_609_286_400)).is_ok());
    assert_eq!(why(keyring.open(&message, at(1_609_545_600))), "its key has expired");
    assert_eq!(why(keyring.open(&message, now())), "its key has expired");
    assert_eq!(why(keyring.open(&message, at(0))), "a signature was made in the future");
    // Whoever extends its life is heard, and whoever shortens it again, too.
    let extend = |day: &str, lifetime: &str| {
        let faked = ["--faked-system-time", day, "--quick-set-expire"];
        gpg.run(&[&faked[..], &[&gpg.fingerprint(), lifetime]].concat(), b"");
        gpg.keyring()
    };
    let mut joined = keyring.clone();
    joined.join(extend("20200201T000000", "never"));
    assert!(joined.open(&message, now()).is_ok());
    joined.join(extend("20200301T000000", "2y"));
    assert_eq!(why(joined.open(&message, now())), "its key has expired");
}

#[test]
fn a_signature_older_than_its_key_does_not_count() {
    let gpg = Gpg::with("ed25519");
    let secret = gpg.secret();
    let key = &secret.primary_key;
    let mut early = config(key, SignatureType::Binary, HashAlgorithm::Sha256);
    let time = Timestamp::from_secs(key.created_at().as_secs() - 1);
    early.hashed_subpackets[0] =
        Subpacket::regular(SubpacketData::SignatureCreationTime(time)).unwrap();
    let signature = early.sign(key, &Password::empty(), CONTENT).unwrap();
    let refused = why(gpg.keyring().open(&message(&signature, CONTENT), now()));
    assert_eq!(refused, "it is older than its key");
}

#[test]
fn a_revoked_key_does_not_count() {
    let gpg = Gpg::with("ed25519");
    let message = gpg.sign(&[]);
    let before = gpg.keyring();
    gpg.revoke();
    let revoked = gpg.keyring();
    assert_eq!(why(revoked.open(&message, now())), "its key is revoked");
    for (first, second) in [(&before, &revoked), (&revoked, &before)] {
        let mut joined = first.clone();
        joined.join(second.clone());
        assert_eq!(why(joined.open(&message, now())), "its key is revoked");
    }
    // One that stands where it does not belong is not lost.
    let mut misplaced = gpg.export();
    let revocation = &revoked.keys()[0].details.revocation_signatures[0];
    misplaced.extend(packet(Tag::Signature, &revocation.to_bytes().unwrap()));
    assert!(Keyring::parse(&misplaced, "test").is_err());
}

#[test]
fn a_key_without_a_name_that_stands_does_not_count() {
    let gpg = Gpg::with("ed25519");
    let message = gpg.sign(&[]);
    let user = gpg.secret().details.users[0].id.clone();
    let secret = gpg.secret();
    let key = &secret.primary_key;
    let revocation = config(key, SignatureType::CertRevocation, HashAlgorithm::Sha256)
        .sign_certification(key, key.public_key(), &Password::empty(), Tag::UserId, &user)
        .unwrap();
    let mut public = secret.to_public_key();
    public.details.users[0].signatures.push(revocation);
    let none = "its key has no signature of its own";
    assert_eq!(why(ring(&public).unwrap().open(&message, now())), none);
    public.details.users.clear();
    assert_eq!(why(ring(&public).unwrap().open(&message, now())), none);
}

#[test]
fn a_signature_is_in_force_for_its_time() {
    let gpg = Gpg::with("ed25519");
    let keyring = gpg.keyring();
    let message = gpg.sign(&[]);
    let hour = DAY / 24;
    assert!(keyring.open(&message, now() - DAY + hour).is_ok());
    let future = "a signature was made in the future";
    assert_eq!(why(keyring.open(&message, now() - DAY - hour)), future);
    assert_eq!(why(keyring.open(&message, UNIX_EPOCH - DAY)), future);
    let message = gpg.sign(&["--default-sig-expire", "2d"]);
    assert!(keyring.open(&message, now() + DAY).is_ok());
    assert_eq!(why(keyring.open(&message, now() + 3 * DAY)), "a signature has expired");
}

#[test]
fn critical_parts_must_be_known() {
    let gpg = Gpg::with("ed25519");
    let (keyring, secret) = (gpg.keyring(), gpg.secret());
    let key = &secret.primary_key;
    let notation = Notation { readable: true, name: "a@b".into(), value: "c".into() };
    let parts = [
        SubpacketData::Notation(notation),
        SubpacketData::Other(99, vec![1].into()),
        SubpacketData::Experimental(101, vec![1].into()),
        SubpacketData::PolicyURI("https://a.example".into()),
    ];
    let open = |config: SignatureConfig| {
        let signature = config.sign(key, &Password::empty(), CONTENT).unwrap();
        keyring.open(&message(&signature, CONTENT), now())
    };
    for part in parts {
        let regular = Subpacket::regular(part.clone()).unwrap();
        let critical = Subpacket::critical(part.clone()).unwrap();
        let base = config(key, SignatureType::Binary, HashAlgorithm::Sha256);
        let mut good = base.clone();
        good.hashed_subpackets.push(regular);
        assert!(open(good.clone()).is_ok(), "{part:?}");
        let mut unhashed = base;
        unhashed.unhashed_subpackets.push(critical.clone());
        let unknown = "a signature has a critical part that is unknown";
        assert_eq!(why(open(unhashed)), unknown, "{part:?}");
        // The library does not sign what it does not know.
        let good = good.sign(key, &Password::empty(), CONTENT).unwrap();
        let hashed = altered(&good, |config| config.hashed_subpackets.push(critical.clone()));
        assert_eq!(why(keyring.open(&message(&hashed, CONTENT), now())), unknown, "{part:?}");
    }
    let mut unnamed = config(key, SignatureType::Binary, HashAlgorithm::Sha256);
    unnamed.hashed_subpackets.pop();
    assert_eq!(why(open(unnamed)), "none of the keys made it");
    let message = gpg.sign(&["--sig-notation", "!a@example.com=b"]);
    let unknown = "a signature has a critical part that is unknown";
    assert_eq!(why(keyring.open(&message, now())), unknown);
}

#[test]
fn a_subkey_signs_for_its_key() {
    let gpg = Gpg::with("ed25519");
    gpg.add_subkey("sign", "never");
    let message = gpg.sign(&[]);
    let opened = gpg.keyring().open(&message, now()).unwrap();
    assert_eq!(opened.fingerprint, gpg.fingerprint());

    let secret = gpg.secret();
    let (key, subkey) = (&secret.primary_key, &secret.secret_subkeys[0].key);
    assert_eq!(packets_signer(&message), subkey.fingerprint());
    let none = Password::empty();
    let public = secret.to_public_key();
    let open = |change: &dyn Fn(&mut SignedPublicSubKey)| {
        let mut public = public.clone();
        change(&mut public.public_subkeys[0]);
        ring(&public).unwrap().open(&message, now())
    };
    assert!(open(&|_| {}).is_ok());
    let back = |typ| {
        let back = config(subkey, typ, HashAlgorithm::Sha256);
        back.sign_primary_key_binding(subkey, subkey.public_key(), &none, key.public_key()).unwrap()
    };
    let bound = |sign: bool, hash, back: Option<Signature>, lifetime: u32| {
        let mut binding = config(key, SignatureType::SubkeyBinding, hash);
        let mut flags = KeyFlags::default();
        flags.set_sign(sign);
        flags.set_authentication(!sign);
        binding.hashed_subpackets.push(Subpacket::regular(SubpacketData::KeyFlags(flags)).unwrap());
        let lifetime = SubpacketData::KeyExpirationTime(Lifetime::from_secs(lifetime));
        binding.hashed_subpackets.push(Subpacket::regular(lifetime).unwrap());
        binding.unhashed_subpackets.extend(back.map(|back| {
            Subpacket::regular(SubpacketData::EmbeddedSignature(Box::new(back))).unwrap()
        }));
        binding.sign_subkey_binding(key, key.public_key(), &none, subkey.public_key()).unwrap()
    };
    let sha256 = HashAlgorithm::Sha256;
    let own = SignatureType::KeyBinding;
    let replaced = |binding: Signature| open(&|it| it.signatures = vec![binding.clone()]);
    assert!(replaced(bound(true, sha256, Some(back(own)), 0)).is_ok());
    let refused = [
        (bound(false, sha256, Some(back(own)), 0), "its subkey is not one for signatures"),
        (bound(true, sha256, None, 0), "its subkey does not own up to its key"),
        (bound(true, sha256, Some(back(own)), 1), "its key has expired"),
    ];
    std::thread::sleep(Duration::from_secs(2));
    for (binding, reason) in refused {
        assert_eq!(why(replaced(binding)), reason);
    }
    // The back-signature of another key's subkey, and a binding by another key.
    let other = Gpg::with("ed25519");
    other.add_subkey("sign", "never");
    let others = other.keyring().keys()[0].public_subkeys[0].signatures[0].clone();
    let theirs = others.embedded_signature().unwrap().clone();
    let stolen = bound(true, sha256, Some(theirs), 0);
    assert_eq!(why(replaced(stolen)), "its subkey does not own up to its key");
    assert_eq!(why(replaced(others)), "its subkey is not bound to its key");

    let revocation = config(key, SignatureType::SubkeyRevocation, sha256)
        .sign_subkey_binding(key, key.public_key(), &none, subkey.public_key())
        .unwrap();
    let revoked = open(&|it| it.signatures.push(revocation.clone()));
    assert_eq!(why(revoked), "its subkey is revoked");
    gpg.revoke();
    assert_eq!(why(gpg.keyring().open(&message, now())), "its key is revoked");
}

fn packets_signer(message: &[u8]) -> pgp::types::Fingerprint {
    let message = packets::signed_message(message).unwrap();
    message.signature.issuer_fingerprint()[0].clone()
}

#[test]
fn an_expired_subkey_does_not_count() {
    let gpg = Gpg::with("ed25519");
    gpg.add_subkey("sign", "2d");
    let (keyring, message) = (gpg.keyring(), gpg.sign(&[]));
    assert!(keyring.open(&message, now() + DAY).is_ok());
    assert_eq!(why(keyring.open(&message, now() + 3 * DAY)), "its key has expired");
}

#[test]
fn a_key_that_is_not_for_signatures_does_not_count() {
    let gpg = Gpg::new();
    gpg.run(&["--quick-gen-key", "a@example.com", "ed25519", "cert", "never"], b"");
    let secret = gpg.secret();
    let key = &secret.primary_key;
    let signature = config(key, SignatureType::Binary, HashAlgorithm::Sha256)
        .sign(key, &Password::empty(), CONTENT)
        .unwrap();
    let refused = why(gpg.keyring().open(&message(&signature, CONTENT), now()));
    assert_eq!(refused, "its key is not one for signatures");
}

#[test]
fn spoilt_bytes_are_survived() {
    let gpg = Gpg::with("ed25519");
    gpg.add_subkey("sign", "never");
    let keyring = gpg.keyring();
    let expected = Opened { content: CONTENT.to_vec(), fingerprint: gpg.fingerprint() };
    let export = gpg.export();
    let signature = gpg.run(&["--detach-sign", "--armor"], CONTENT);
    let messages = [gpg.sign(&[]), gpg.sign(&["-z", "0"])];
    let spoil = |bytes: &[u8], spoils: &[(prop::sample::Index, u8)], cut: usize| {
        let mut bytes = bytes.to_vec();
        for (index, value) in spoils {
            let at = index.index(bytes.len());
            bytes[at] = *value;
        }
        bytes.truncate(bytes.len().saturating_sub(cut));
        bytes
    };
    let spoils = vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
    let cut = prop_oneof![3 => Just(0_usize), 1 => 0_usize..400];
    let config = Config { cases: 300, failure_persistence: None, ..Config::default() };
    let noise = vec(any::<u8>(), 0..200);
    TestRunner::new(config)
        .run(&(spoils, cut, noise), |(spoils, cut, noise)| {
            for message in &messages {
                if let Ok(opened) = keyring.open(&spoil(message, &spoils, cut), now()) {
                    prop_assert_eq!(&opened, &expected);
                }
            }
            let spoilt = spoil(&signature, &spoils, cut);
            let _ = keyring.verify_detached(&spoilt, &mut &CONTENT[..], now());
            if let Ok(keyring) = Keyring::parse(&spoil(&export, &spoils, cut), "test") {
                let _ = keyring.open(&messages[0], now());
            }
            let _ = Keyring::parse(&noise, "test");
            let _ = keyring.open(&noise, now());
            let _ = keyring.verify_detached(&noise, &mut &CONTENT[..], now());
            Ok(())
        })
        .unwrap();
}

#[test]
fn what_is_told_of_a_key_is_what_gpg_says() {
    let gpg = Gpg::with("ed25519");
    let [facts] = &gpg.keyring().facts(now())[..] else { panic!() };
    let fingerprint = gpg.fingerprint();
    assert_eq!((&facts.fingerprint, facts.useless), (&fingerprint, None));
    assert_eq!(facts.id, fingerprint[fingerprint.len() - 16..]);
    assert_eq!(facts.users, ["a@example.com"]);
    gpg.add_subkey("sign", "1d");
    assert_eq!(gpg.keyring().facts(now())[0].useless, None);
    gpg.revoke();
    let [facts] = &gpg.keyring().facts(now())[..] else { panic!() };
    assert_eq!(facts.useless, Some("its key is revoked"));
}
