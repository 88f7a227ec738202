//! Giving an image to a registry that fails as told: it comes whole and as itself, or its tag means
//! what it meant.

use std::fs;
use std::path::Path;

use fault_registry::{Fault, Guard, Registry, Request};
use images::{Error, ErrorKind, PushOptions, Reference, Silent};

use crate::Table;
use crate::bench::{Bench, options};

const TAG: &str = "/v2/other/app/manifests/2";

pub(crate) const TESTS: Table = &[
    ("an_image_is_given_as_it_came", an_image_is_given_as_it_came),
    ("what_breaks_while_it_is_sent_is_sent_anew", what_breaks_while_it_is_sent_is_sent_anew),
    ("who_may_push_is_asked_for_a_token_to_push", who_may_push_is_asked_for_a_token_to_push),
    ("credentials_do_not_follow_an_upload", credentials_do_not_follow_an_upload),
    (
        "a_registry_that_does_not_take_an_image_is_named",
        a_registry_that_does_not_take_an_image_is_named,
    ),
    ("a_damaged_blob_does_not_leave", a_damaged_blob_does_not_leave),
    (
        "an_image_goes_where_the_administrator_says_and_never_to_a_mirror",
        an_image_goes_where_the_administrator_says_and_never_to_a_mirror,
    ),
    ("what_lies_about_where_to_send_is_refused", what_lies_about_where_to_send_is_refused),
];

/// A bench that has pulled its image, and a registry that has nothing yet.
fn pulled() -> (Bench, Registry) {
    let bench = Bench::new(&[1000, 2000, 300_000]);
    bench.pull().unwrap();
    (bench, Registry::start())
}

fn push(bench: &Bench, to: &Registry) -> Result<(), Error> {
    push_to(bench, &format!("{}/other/app:2", to.host()), None)
}

fn push_to(bench: &Bench, destination: &str, registries: Option<&Path>) -> Result<(), Error> {
    let destination = Reference::parse(destination).unwrap();
    let reference = Reference::parse(&bench.reference()).unwrap();
    let lease = bench.store.lease().unwrap();
    let registries = registries.map(Path::to_owned);
    let push = PushOptions { patience: options().patience, registries, ..PushOptions::default() };
    bench.store.push(&reference, &destination, &lease, &push, &Silent).map(drop)
}

fn puts(registry: &Registry) -> Vec<Request> {
    registry.requests().into_iter().filter(|request| request.method == "PUT").collect()
}

fn tag_was_given(registry: &Registry) -> bool {
    puts(registry).iter().any(|request| request.path == TAG && request.status == 201)
}

/// Checks that a push fails so, that no tag was given, and that the store is what it was.
fn refused(bench: &Bench, to: &Registry, kind: ErrorKind) -> String {
    let error = push(bench, to).unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(!tag_was_given(to));
    assert_eq!(bench.store.images().unwrap().len(), 1);
    format!("{error:?}")
}

fn an_image_is_given_as_it_came() {
    let (bench, to) = pulled();
    push(&bench, &to).unwrap();
    let given = puts(&to);
    assert_eq!(given.len(), 5, "three layers, a configuration, a manifest");
    let manifest = given.last().unwrap();
    assert_eq!(manifest.path, TAG);
    let came = bench.registry.requests();
    let came = came.iter().find(|request| request.path.contains("/manifests/")).unwrap();
    assert_eq!(manifest.bytes.len() as u64, came.sent, "not a byte is another one");
    push(&bench, &to).unwrap();
    assert_eq!(puts(&to).len(), 6, "what is there is not sent again");
}

fn an_image_goes_where_the_administrator_says_and_never_to_a_mirror() {
    let (bench, to) = pulled();
    let mirror = Registry::start();
    let directory = tempfile::tempdir().unwrap();
    let conf = directory.path().join("registries.conf");
    let (here, there) = (to.host(), mirror.host());
    let text = format!(
        "[[registry]]\nprefix='r.example/team'\nlocation='{here}/other'\n\
         [[registry.mirror]]\nlocation='{there}/other'\n\
         [[registry]]\nlocation='bad.example'\nblocked=true\n"
    );
    fs::write(&conf, text).unwrap();
    push_to(&bench, "r.example/team/app:2", Some(&conf)).unwrap();
    assert!(tag_was_given(&to) && mirror.requests().is_empty());
    let error = push_to(&bench, "bad.example/app:2", Some(&conf)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(
        format!("{error:?}").contains("Forbidden { repository: \"bad.example/app\""),
        "{error:?}"
    );
    fs::write(&conf, "blocked=true").unwrap();
    let error = push_to(&bench, "r.example/team/app:2", Some(&conf)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
}

fn what_breaks_while_it_is_sent_is_sent_anew() {
    let (bench, to) = pulled();
    let answers = [Fault::None, Fault::ResetBefore, Fault::None, Fault::status(503)];
    to.script("/blobs/uploads/", answers);
    to.script(TAG, [Fault::status(502), Fault::retry_after(429, 0)]);
    push(&bench, &to).unwrap();
    assert!(tag_was_given(&to));
    assert_eq!(puts(&to).len(), 5 + 2 + 2);
}

fn who_may_push_is_asked_for_a_token_to_push() {
    let (bench, to) = pulled();
    to.guard(Guard::Token(None));
    push(&bench, &to).unwrap();
    let asked: Vec<_> =
        to.requests().into_iter().filter(|one| one.path.starts_with("/token")).collect();
    assert_eq!(asked.len(), 2, "a token to look, and one to give: {asked:#?}");
    assert!(tag_was_given(&to));
}

fn credentials_do_not_follow_an_upload() {
    let (bench, to) = pulled();
    to.guard(Guard::Token(None));
    let elsewhere = Registry::start();
    let away = format!("http://{}/v2/x/blobs/uploads/7", elsewhere.host());
    to.script("/blobs/uploads/", [Fault::None, Fault::Header("Location".into(), away)]);
    // The other one takes the blob, which this one then does not have.
    refused(&bench, &to, ErrorKind::Invalid);
    let seen = elsewhere.requests();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].method.as_str(), &seen[0].authorization), ("PUT", &None));
}

fn a_registry_that_does_not_take_an_image_is_named() {
    for (fault, kind) in [
        (Fault::status(403), ErrorKind::Denied),
        (Fault::status(404), ErrorKind::NotFound),
        (Fault::status(405), ErrorKind::Invalid),
        (Fault::Without("Location".into()), ErrorKind::Invalid),
        (Fault::Redirect("http://127.0.0.1:1/".into()), ErrorKind::Invalid),
    ] {
        let (bench, to) = pulled();
        to.script("/blobs/uploads/", [fault]);
        let said = refused(&bench, &to, kind);
        assert!(said.contains("cannot push") && said.contains(&to.host()), "{said}");
    }
    let (bench, to) = pulled();
    to.script(TAG, [Fault::status(413)]);
    refused(&bench, &to, ErrorKind::Invalid);
    let (bench, to) = pulled();
    to.script("/blobs/uploads/", vec![Fault::status(503); 3]);
    refused(&bench, &to, ErrorKind::Unreachable);
    let other = format!("sha256:{}", "0".repeat(64));
    let (bench, to) = pulled();
    to.script(TAG, [Fault::Header("Docker-Content-Digest".into(), other)]);
    assert_eq!(push(&bench, &to).unwrap_err().kind(), ErrorKind::Invalid);
}

fn a_damaged_blob_does_not_leave() {
    let (bench, to) = pulled();
    let digest = bench.pushed.layers[2].digest.replace(':', "/");
    let path = bench.root.path().join("images/blobs").join(digest);
    let mut bytes = fs::read(&path).unwrap();
    let whole = bytes.clone();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, &bytes).unwrap();
    let said = refused(&bench, &to, ErrorKind::Invalid);
    assert!(said.contains("other content"), "{said}");
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    refused(&bench, &to, ErrorKind::Invalid);
    fs::remove_file(&path).unwrap();
    let (before, said) = (to.requests().len(), refused(&bench, &to, ErrorKind::NotFound));
    assert!(said.contains("not in the store any more"), "{said}");
    assert!(
        !to.requests()[before..]
            .iter()
            .any(|one| one.path.contains(&bench.pushed.layers[2].digest))
    );
    fs::write(&path, whole).unwrap();
    push(&bench, &to).unwrap();
}

fn what_lies_about_where_to_send_is_refused() {
    for location in ["ftp://127.0.0.1/x", "http://192.0.2.1/x", "http://a b/", "//", "http://["] {
        let (bench, to) = pulled();
        to.script("/blobs/uploads/", [Fault::Header("Location".into(), location.into())]);
        let error = push(&bench, &to).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Refused),
            "{location}: {error:?}"
        );
        assert_eq!(puts(&to).len(), 0, "{location}");
    }
}
