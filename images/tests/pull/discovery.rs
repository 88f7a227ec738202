//! Images of appc that are found by their name: pages are asked up to the host, places one after the
//! other, and what comes must be what was asked for.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use images::registry::ClientOptions;
use images::trust::Keyring;
use images::{
    AppcName, Discovered, Discovery, Error, ErrorKind, Import, ImportedFrom, SignatureWanted,
    Silent, Transport,
};
use pod_abi::app::Verified;
use serde_json::{Value, json};

use crate::Table;
use crate::bench::{Bench, options};
use crate::site::{Answer, CERTIFICATES, Site};

pub(crate) const TESTS: Table = &[
    (
        "an_image_is_found_by_the_page_of_its_host_and_imported",
        an_image_is_found_by_the_page_of_its_host_and_imported,
    ),
    (
        "the_next_place_is_asked_where_one_has_nothing",
        the_next_place_is_asked_where_one_has_nothing,
    ),
    ("redirects_are_followed_and_end_somewhere", redirects_are_followed_and_end_somewhere),
    ("nothing_leads_from_tls_to_plain_http", nothing_leads_from_tls_to_plain_http),
    (
        "plain_http_is_spoken_on_loopback_if_asked_for",
        plain_http_is_spoken_on_loopback_if_asked_for,
    ),
    ("what_is_too_long_is_given_up", what_is_too_long_is_given_up),
    ("what_breaks_underway_comes_again", what_breaks_underway_comes_again),
    ("another_image_than_asked_for_is_refused", another_image_than_asked_for_is_refused),
    ("every_page_without_a_word_is_named", every_page_without_a_word_is_named),
    ("a_signature_comes_with_the_image", a_signature_comes_with_the_image),
    ("a_policy_holds_for_what_is_discovered", a_policy_holds_for_what_is_discovered),
    (
        "what_it_depends_on_is_named_with_the_way_to_it",
        what_it_depends_on_is_named_with_the_way_to_it,
    ),
];

/// The name without its port, under which images are there.
const NAME: &str = "127.0.0.1/team/app";

/// A site, a store, and how the one is asked for the other.
struct Search {
    bench: Bench,
    site: Site,
    client: ClientOptions,
    policies: Vec<PathBuf>,
    signature: SignatureWanted,
    most: u64,
}

impl Search {
    fn new(site: Site) -> Self {
        let client = ClientOptions {
            transport: Transport::InsecureHttp,
            patience: options().patience,
            stall: Duration::from_secs(5),
            auth_files: Vec::new(),
            certs_dirs: Vec::new(),
        };
        let (policies, signature, most) = (Vec::new(), SignatureWanted::No, 1 << 20);
        Self { bench: Bench::new(&[]), site, client, policies, signature, most }
    }

    fn plain() -> Self {
        Self::new(Site::plain())
    }

    /// Searches over TLS, with an authority that is known for the site alone.
    fn secure() -> Self {
        let mut search = Self::new(Site::secure());
        let certs = search.bench.root.path().join("certs.d");
        let own = certs.join(search.site.host());
        fs::create_dir_all(&own).unwrap();
        fs::copy(format!("{CERTIFICATES}/authority.crt"), own.join("authority.crt")).unwrap();
        search.client.certs_dirs = vec![certs];
        search.client.transport = Transport::Guarded;
        search
    }

    fn url(&self, path: &str) -> String {
        let scheme = match self.client.transport {
            Transport::Guarded => "https",
            Transport::InsecureHttp => "http",
        };
        format!("{scheme}://{}{path}", self.site.host())
    }

    /// Has a page say that images of `127.0.0.1` are where these templates lead.
    fn page(&self, path: &str, templates: &[&str]) {
        let tags = templates.iter().map(|template| {
            format!("<meta name=\"ac-discovery\" content=\"127.0.0.1 {template}\">\n")
        });
        let page = format!("<html><head>{}</head></html>", tags.collect::<String>());
        self.site.says(path, Answer::Body(page.into_bytes()));
    }

    fn name(&self, rest: &str) -> AppcName {
        AppcName::parse(&format!("{}/team/app{rest}", self.site.host())).unwrap()
    }

    fn discover(&self, rest: &str) -> Result<Discovered, Error> {
        self.bench.store.discover(&Discovery {
            name: &self.name(rest),
            platform: &options().platform,
            signature: self.signature,
            policies: &self.policies,
            client: &self.client,
            most: self.most,
            progress: &Silent,
        })
    }

    /// Discovers an image and takes it into the store; returns what it is called there.
    fn import(&self, rest: &str) -> Result<String, Error> {
        let found = self.discover(rest)?;
        let lease = self.bench.store.lease().unwrap();
        let imported = self.bench.store.import(
            found.file,
            &Import {
                path: Path::new(&found.url),
                reference: None,
                asked: Some(&self.name(rest)),
                settings: None,
                verified: found.verified,
                options: &options(),
                lease: &lease,
                progress: &Silent,
            },
        )?;
        assert_eq!(imported.from, ImportedFrom::Aci);
        Ok(imported.images[0].reference.to_string())
    }

    /// Checks that nothing is found, and that nothing is left of what came.
    fn finds_nothing(&self, kind: ErrorKind) -> String {
        let error = self.discover(":1").unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        self.holds_nothing();
        said(&error)
    }

    fn holds_nothing(&self) {
        self.bench.holds_nothing();
        let left = fs::read_dir(self.bench.root.path().join("images/tmp")).unwrap().count();
        assert_eq!(left, 0);
    }
}

/// Joins an error with its causes, as people see it.
fn said(error: &Error) -> String {
    let mut words = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        words.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    words
}

/// Makes an image with one file; without a `version` it has no labels.
fn aci(name: &str, version: &str, more: &Value) -> Vec<u8> {
    let labels: Vec<Value> = match version {
        "" => Vec::new(),
        version => vec![
            json!({"name": "version", "value": version}),
            json!({"name": "os", "value": "linux"}),
        ],
    };
    let mut manifest = json!({
        "acKind": "ImageManifest", "acVersion": "0.8.11", "name": name, "labels": labels,
    });
    manifest.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let manifest = manifest.to_string().into_bytes();
    let mut archive = tar::Builder::new(Vec::new());
    let mut entry = |path: &str, kind: tar::EntryType, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_size(bytes.len().try_into().unwrap());
        archive.append_data(&mut header, path, bytes).unwrap();
    };
    entry("manifest", tar::EntryType::Regular, &manifest);
    entry("rootfs", tar::EntryType::Directory, b"");
    entry("rootfs/file", tar::EntryType::Regular, b"of appc");
    archive.into_inner().unwrap()
}

fn good() -> Vec<u8> {
    aci(NAME, "1", &json!({}))
}

fn an_image_is_found_by_the_page_of_its_host_and_imported() {
    for search in [Search::plain(), Search::secure()] {
        let template = search.url("/{os}/{name}-{version}.{ext}");
        search.site.says("/team", Answer::Body(b"<html><p>Nothing here".to_vec()));
        search.page("/", &[&template]);
        search.site.says("/linux/127.0.0.1/team/app-1.aci", Answer::Body(good()));
        assert_eq!(search.import(":1,os=linux").unwrap(), "127.0.0.1/team/app:1");
        assert_eq!(
            search.site.asked(),
            [
                "/team/app?ac-discovery=1",
                "/team?ac-discovery=1",
                "/?ac-discovery=1",
                "/linux/127.0.0.1/team/app-1.aci",
            ]
        );
        let record = search.bench.store.images().unwrap().remove(0);
        let verified = match search.client.transport {
            Transport::Guarded => Verified::Digest,
            Transport::InsecureHttp => Verified::DigestOverHttp,
        };
        assert_eq!(record.verified, verified);
    }
}

fn the_next_place_is_asked_where_one_has_nothing() {
    let search = Search::plain();
    let [one, two, three] = ["/1/{version}.{ext}", "/2/{ext}", "/3/{ext}"].map(|at| search.url(at));
    search
        .page("/team/app", &["http://example.com/{ext}", &one, "https://{x}/{ext}", &two, &three]);
    search.site.says("/2/aci", Answer::Status(403));
    search.site.says("/3/aci", Answer::Body(good()));
    let found = search.discover("").unwrap();
    assert_eq!(found.url, search.url("/3/aci"));
    assert_eq!(found.digest.to_string(), fault_registry::digest(&good()));
    assert_eq!(usize::try_from(found.size), Ok(good().len()));
    assert_eq!(search.site.asked()[1..], ["/1/latest.aci", "/2/aci", "/3/aci"]);
    search.site.says("/3/aci", Answer::Status(503));
    let why = search.finds_nothing(ErrorKind::Unreachable);
    for part in
        ["/1/1.aci` does not exist", "/2/aci` is denied", "/3/aci` is answered with status 503"]
    {
        assert!(why.contains(part), "{why}");
    }
    assert_eq!(search.site.asked().len(), 4 + 3 + 3, "503 is asked three times");
}

fn redirects_are_followed_and_end_somewhere() {
    let search = Search::plain();
    let elsewhere = Site::plain();
    search.site.says("/team/app", Answer::Redirect("/moved?x=1".into()));
    search.page("/moved", &[&search.url("/{ext}")]);
    search.site.says("/aci", Answer::Redirect(format!("http://{}/there", elsewhere.host())));
    elsewhere.says("/there", Answer::Body(good()));
    search.import(":1").unwrap();
    elsewhere.says("/there", Answer::Redirect("/there".into()));
    let before = elsewhere.asked().len();
    let error = search.discover(":1").unwrap_err();
    assert!(said(&error).contains("redirects more than 5 times"), "{error:?}");
    assert_eq!(elsewhere.asked().len() - before, 5);
    search.site.says("/aci", Answer::Redirect("http://example.invalid/aci".into()));
    let error = search.discover(":1").unwrap_err();
    assert!(
        said(&error).contains("leads to `http://example.invalid/aci`, which is plain HTTP"),
        "{error:?}"
    );
}

fn nothing_leads_from_tls_to_plain_http() {
    let mut search = Search::secure();
    let open = Site::plain();
    let there = format!("http://{}/aci", open.host());
    open.says("/aci", Answer::Body(good()));
    search.page("/team/app", &[&search.url("/{ext}")]);
    search.site.says("/aci", Answer::Redirect(there.clone()));
    let why = search.finds_nothing(ErrorKind::Refused);
    assert!(why.contains("plain HTTP and was not allowed"), "{why}");
    // Not even by way of TLS, for who would take plain HTTP.
    let secure = search.url("/aci");
    search.client.transport = Transport::InsecureHttp;
    let way = Search::plain();
    way.page("/team/app", &[&way.url("/{ext}")]);
    way.site.says("/aci", Answer::Redirect(secure));
    let certs = search.client.certs_dirs[0].join(way.site.host());
    fs::create_dir(&certs).unwrap();
    fs::copy(format!("{CERTIFICATES}/authority.crt"), certs.join("a.crt")).unwrap();
    let way = Search { client: search.client.clone(), ..way };
    let why = way.finds_nothing(ErrorKind::Refused);
    assert!(why.contains(&there), "{why}");
    assert_eq!(open.asked(), [""; 0]);
    // Nor does a page at the address of a name over TLS.
    search.site.says("/team/app", Answer::Redirect(format!("http://{}/", open.host())));
    search.client.transport = Transport::Guarded;
    search.finds_nothing(ErrorKind::Refused);
    assert_eq!(open.asked(), [""; 0]);
}

fn plain_http_is_spoken_on_loopback_if_asked_for() {
    let mut search = Search::plain();
    search.page("/team/app", &[&search.url("/{ext}")]);
    search.site.says("/aci", Answer::Body(good()));
    search.client.transport = Transport::Guarded;
    search.finds_nothing(ErrorKind::Unreachable);
    assert_eq!(search.site.asked(), [""; 0]);
    // What a page without TLS leads to is not vouched for by the place's.
    let secure = Search::secure();
    secure.site.says("/aci", Answer::Body(good()));
    let mut open = Search::plain();
    open.client.certs_dirs.clone_from(&secure.client.certs_dirs);
    open.page("/team/app", &[&secure.url("/{ext}")]);
    assert_eq!(open.discover(":1").unwrap().verified, Verified::DigestOverHttp);
    // And a page over TLS may name no place without it.
    let search = Search::secure();
    let open = Site::plain();
    search.page("/team/app", &[&format!("http://{}/{{ext}}", open.host())]);
    let why = search.finds_nothing(ErrorKind::NotFound);
    assert!(why.contains("names no address that can be asked"), "{why}");
}

fn what_is_too_long_is_given_up() {
    let search = Search::plain();
    search.site.says("/team/app", Answer::Body(vec![b' '; (1 << 20) + 1]));
    let why = search.finds_nothing(ErrorKind::Invalid);
    assert!(why.contains("larger than 1048576 bytes"), "{why}");
    search.site.says("/team/app", Answer::Endless);
    search.finds_nothing(ErrorKind::Invalid);
    search.site.says("/team/app", Answer::Body(b"<a>".repeat(10_000)));
    let why = search.finds_nothing(ErrorKind::Invalid);
    assert!(why.contains("has too many tags"), "{why}");
    search.page("/team/app", &[&search.url("/{ext}")]);
    search.site.says("/aci", Answer::Endless);
    let why = search.finds_nothing(ErrorKind::Invalid);
    assert!(why.contains("/aci` is larger than 1048576 bytes"), "{why}");
    // One that is just as long as may be is fetched whole, and found to be none.
    search.site.says("/aci", Answer::Body(vec![0; 1 << 20]));
    assert_eq!(search.discover(":1").unwrap().size, 1 << 20);
    assert_eq!(search.import(":1").unwrap_err().kind(), ErrorKind::Invalid);
    search.holds_nothing();
}

fn what_breaks_underway_comes_again() {
    let search = Search::plain();
    search.page("/team/app", &[&search.url("/{ext}")]);
    search.site.says("/aci", Answer::Broken(good()));
    let mut found = search.discover(":1").unwrap();
    let mut bytes = Vec::new();
    found.file.read_to_end(&mut bytes).unwrap();
    assert!(bytes == good(), "the beginning is there once");
    assert_eq!(found.digest.to_string(), fault_registry::digest(&bytes));
    assert_eq!(search.site.asked().len(), 3);
}

fn another_image_than_asked_for_is_refused() {
    let search = Search::plain();
    search.page("/team/app", &[&search.url("/{ext}")]);
    let elsewhere =
        json!({"labels": [{"name": "version", "value": "1"}, {"name": "arch", "value": "s390x"}]});
    for (bytes, kind, part) in [
        (
            aci("127.0.0.1/team/other", "1", &json!({})),
            ErrorKind::Refused,
            "is called `127.0.0.1/team/other`",
        ),
        (aci(NAME, "2", &json!({})), ErrorKind::Refused, "has the label `version` `2` and not `1`"),
        (aci(NAME, "", &json!({})), ErrorKind::Refused, "has no label `version`"),
        (aci(NAME, "1", &elsewhere), ErrorKind::Refused, "has the label `arch` `s390x`"),
        (b"no archive".to_vec(), ErrorKind::Invalid, "is no image of appc"),
        (Vec::new(), ErrorKind::Invalid, "is no image of appc"),
    ] {
        search.site.says("/aci", Answer::Body(bytes));
        let error = search.import(":1").unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(said(&error).contains(part), "{error:?}");
        search.holds_nothing();
    }
}

fn every_page_without_a_word_is_named() {
    let search = Search::plain();
    let other = "<meta name=ac-discovery content='127.0.0.1/te https://example.com/{ext}'>";
    search.site.says("/team", Answer::Body(other.as_bytes().to_vec()));
    search.site.says("/", Answer::Status(401));
    let why = search.finds_nothing(ErrorKind::NotFound);
    for part in [
        "/team/app?ac-discovery=1` does not exist",
        "/team?ac-discovery=1` says nothing of it",
        "/?ac-discovery=1` is denied",
    ] {
        assert!(why.contains(part), "{why}");
    }
    // A site that fails is not one that has nothing to say.
    search.site.says("/team", Answer::Status(500));
    let why = search.finds_nothing(ErrorKind::Unreachable);
    assert!(why.contains("status 500"), "{why}");
}

fn gpg(home: &Path, words: &[&str]) {
    let output = Command::new("gpg")
        .arg("--homedir")
        .arg(home)
        .args(["--batch", "--quiet", "--yes", "--pinentry-mode", "loopback", "--passphrase", ""])
        .args(words)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn a_signature_comes_with_the_image() {
    let mut search = Search::plain();
    search.signature = SignatureWanted::Yes;
    let [one, two] = ["/1.{ext}", "/2.{ext}"].map(|at| search.url(at));
    search.page("/team/app", &[&one, &two]);
    for path in ["/1.aci", "/2.aci"] {
        search.site.says(path, Answer::Body(good()));
    }
    // A place that has no signature has no image.
    let why = search.finds_nothing(ErrorKind::NotFound);
    assert!(why.contains("/2.aci.asc` does not exist"), "{why}");
    assert_eq!(search.site.asked()[1..], ["/1.aci.asc", "/2.aci.asc"]);
    search.site.says("/1.aci.asc", Answer::Endless);
    let why = search.finds_nothing(ErrorKind::NotFound);
    assert!(why.contains("/1.aci.asc` is larger than"), "{why}");

    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let at = |name: &str| home.path().join(name).display().to_string();
    gpg(home.path(), &["--quick-generate-key", "team@example.org", "ed25519", "sign", "never"]);
    gpg(home.path(), &["--output", &at("keys"), "--export", "team@example.org"]);
    fs::write(at("image"), good()).unwrap();
    gpg(home.path(), &["--armor", "--output", &at("image.asc"), "--detach-sign", &at("image")]);
    let keys = Keyring::parse(&fs::read(at("keys")).unwrap(), "keys").unwrap();
    search.site.says("/2.aci.asc", Answer::Body(fs::read(at("image.asc")).unwrap()));
    let mut found = search.discover(":1").unwrap();
    assert_eq!(found.url, search.url("/2.aci"));
    let signature = found.signature.unwrap();
    keys.verify_detached(&signature, &mut found.file, SystemTime::now()).unwrap();
    let other = aci(NAME, "1", &json!({"annotations": [{"name": "authors", "value": "x"}]}));
    search.site.says("/2.aci", Answer::Body(other));
    let mut found = search.discover(":1").unwrap();
    assert!(keys.verify_detached(&signature, &mut found.file, SystemTime::now()).is_err());
    let _ =
        Command::new("gpgconf").arg("--homedir").arg(home.path()).args(["--kill", "all"]).status();
}

fn a_policy_holds_for_what_is_discovered() {
    let mut search = Search::plain();
    let tags = format!(
        "<meta name='ac-discovery' content='127.0.0.1 {}'><meta name='ac-discovery-pubkeys' \
         content='127.0.0.1 https://example.com/keys.gpg'>",
        search.url("/{ext}")
    );
    search.site.says("/team/app", Answer::Body(tags.into_bytes()));
    for path in ["/aci", "/aci.asc"] {
        search.site.says(path, Answer::Body(good()));
    }
    let path = search.bench.root.path().join("policy.json");
    search.policies = vec![path.clone()];
    let signed = json!([{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/keys"}]);
    let scope = format!("{}/team", search.site.host());
    let accept = json!([{"type": "insecureAcceptAnything"}]);
    let mut judged = |asked: &Value, signature, fine: bool, part: &str| {
        let policy = json!({"default": [{"type": "reject"}],
            "transports": {"docker": {&*scope: asked}}});
        fs::write(&path, policy.to_string()).unwrap();
        search.signature = signature;
        let before = search.site.asked().len();
        match search.discover(":1") {
            Ok(_) => assert!(fine, "{asked}"),
            Err(error) => {
                assert!(!fine && error.kind() == ErrorKind::Untrusted, "{error:?}");
                assert!(said(&error).contains(part), "{error:?}");
                assert_eq!(search.site.asked().len(), before + 1, "only the page is asked for");
            }
        }
    };
    judged(&accept, SignatureWanted::No, true, "");
    judged(&signed, SignatureWanted::Yes, true, "");
    judged(
        &signed,
        SignatureWanted::No,
        false,
        "no keyring is given to check one; the page says that keys are at `https://example.com/keys.gpg`",
    );
    judged(&json!([{"type": "reject"}]), SignatureWanted::Yes, false, "rejected");
    assert!(!search.site.asked().iter().any(|path| path.contains("keys")), "keys are not fetched");
    fs::write(&path, "{").unwrap();
    assert_eq!(search.discover(":1").unwrap_err().kind(), ErrorKind::Untrusted);
}

fn what_it_depends_on_is_named_with_the_way_to_it() {
    let search = Search::plain();
    search.page("/", &[&search.url("/{name}.{ext}")]);
    let base = json!({"dependencies": [{"imageName": "127.0.0.1/base",
        "labels": [{"name": "version", "value": "2"}]}]});
    search.site.says("/127.0.0.1/team/app.aci", Answer::Body(aci(NAME, "1", &base)));
    let error = search.import(":1").unwrap_err();
    let way = "`pod image import --discover 127.0.0.1/base:2`";
    assert!(said(&error).contains(way), "{error:?}");
    search.holds_nothing();
}
