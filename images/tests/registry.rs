//! What the registry client promises, against a registry that fails as told.
//!
//! Each test is a promise of `images::registry`; nothing here knows the store.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::fs;
use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use fault_registry::{Fault, Guard, Registry, Request, digest};
use images::registry::{
    Checked, Client, ClientOptions, Error, Kind, MAX_MANIFEST, Patience, RegistryHost, TagOrDigest,
    Transport,
};
use pod_abi::digest::Digest;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Fast enough for tests, patient enough to see a second and a third attempt.
fn options() -> ClientOptions {
    let patience = Patience {
        attempts: 3,
        base: Duration::from_millis(1),
        ceiling: Duration::from_millis(2),
        longest_retry_after: Duration::from_secs(1),
    };
    let stall = Duration::from_secs(20);
    let (auth_files, certs_dirs) = (Vec::new(), Vec::new());
    ClientOptions { transport: Transport::Guarded, patience, stall, auth_files, certs_dirs }
}

/// For registries that fall silent: a busy machine may be silent for longer, and is asked again.
fn hasty() -> ClientOptions {
    let patience = Patience { attempts: 20, ..options().patience };
    ClientOptions { stall: Duration::from_millis(300), patience, ..options() }
}

fn client_with(registry: &Registry, options: ClientOptions) -> Client {
    Client::new(&RegistryHost::parse(&registry.host()).unwrap(), options).unwrap()
}

fn client(registry: &Registry) -> Client {
    client_with(registry, options())
}

/// Writes an `auth.json` with this entry for the registry.
fn options_as(registry: &Registry, dir: &tempfile::TempDir, entry: &str) -> ClientOptions {
    let path = dir.path().join("auth.json");
    let host = registry.host();
    fs::write(&path, format!(r#"{{"auths":{{"{host}":{{{entry}}}}}}}"#)).unwrap();
    ClientOptions { auth_files: vec![path], ..options() }
}

fn tag() -> TagOrDigest {
    TagOrDigest::Tag("1".into())
}

fn parsed(word: &str) -> Digest {
    Digest::parse(word).unwrap()
}

/// Bytes that differ everywhere.
fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(2_654_435_761) >> 7).to_le_bytes()[0]).collect()
}

fn read_blob(client: &Client, bytes: &[u8], offset: u64) -> Result<Vec<u8>, Kind> {
    let size = u64::try_from(bytes.len()).unwrap();
    let mut got = Vec::new();
    let mut reader = client
        .blob("team/app", &parsed(&digest(bytes)), size, offset)
        .map_err(|error| error.kind())?;
    match reader.read_to_end(&mut got) {
        Ok(_) => Ok(got),
        Err(error) => Err(Error::of_io(&error).expect("errors of readers are ours").kind()),
    }
}

fn ranges(registry: &Registry) -> Vec<Option<String>> {
    registry.requests().into_iter().map(|request| request.range).collect()
}

fn statuses(requests: &[Request]) -> Vec<u16> {
    requests.iter().map(|request| request.status).collect()
}

#[test]
fn a_manifest_comes_with_its_type_and_digest() {
    let registry = Registry::start();
    let digest = registry.add_manifest("team/app", "1", MANIFEST, "{}");
    let client = client(&registry);
    for which in [tag(), TagOrDigest::Digest(parsed(&digest))] {
        let fetched = client.manifest("team/app", &which).unwrap();
        assert_eq!(fetched.bytes, b"{}");
        assert_eq!(fetched.media_type, MANIFEST);
        assert_eq!(fetched.digest.to_string(), digest);
    }
    let known = client.digest_of("team/app", &tag()).unwrap();
    assert_eq!(known.map(|known| known.to_string()), Some(digest));
    let requests = registry.requests();
    assert_eq!(requests[2].method, "HEAD");
    let accept = requests[0].accept.as_deref().unwrap();
    assert!(accept.contains("oci.image.index") && accept.contains("manifest.list.v2"), "{accept}");
}

#[test]
fn what_is_missing_is_not_asked_for_twice() {
    let registry = Registry::start();
    let error = client(&registry).manifest("team/app", &tag()).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let host = registry.host();
    let said = format!("manifest `team/app:1` of registry `{host}` does not exist");
    assert_eq!(error.to_string(), said);
    assert_eq!(registry.requests().len(), 1);
}

#[test]
fn a_manifest_that_is_not_the_one_is_refused_at_once() {
    let registry = Registry::start();
    let digest = registry.add_manifest("team/app", "1", MANIFEST, "{}");
    let client = client(&registry);
    let other = fault_registry::digest(b"other");
    let cases = [
        (tag(), Fault::Corrupt),
        (TagOrDigest::Digest(parsed(&digest)), Fault::Corrupt),
        (tag(), Fault::Header("Docker-Content-Digest".into(), other)),
        (tag(), Fault::Header("Docker-Content-Digest".into(), "sha256:../../x".into())),
        (tag(), Fault::Header("Content-Encoding".into(), "gzip".into())),
    ];
    for (count, (which, fault)) in cases.into_iter().enumerate() {
        let name = format!("{fault:?}");
        registry.script("/manifests/", [fault]);
        let error = client.manifest("team/app", &which).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{name}");
        assert_eq!(registry.requests().len(), count + 1, "{name}");
    }
    registry.script("/manifests/", [Fault::Without("Docker-Content-Digest".into())]);
    assert!(client.manifest("team/app", &tag()).is_ok(), "the header is optional");
}

#[test]
fn a_manifest_beyond_the_limit_is_refused() {
    let registry = Registry::start();
    let limit = usize::try_from(MAX_MANIFEST).unwrap();
    registry.add_manifest("team/app", "1", MANIFEST, vec![b' '; limit + 1]);
    registry.add_manifest("team/app", "2", MANIFEST, vec![b' '; limit]);
    let client = client(&registry);
    assert_eq!(client.manifest("team/app", &tag()).unwrap_err().kind(), Kind::TooLarge);
    assert!(client.manifest("team/app", &TagOrDigest::Tag("2".into())).is_ok());
    registry.script("/manifests/1", [Fault::ChunkedPlus(Vec::new())]);
    let unannounced = client.manifest("team/app", &tag()).unwrap_err();
    assert_eq!(unannounced.kind(), Kind::TooLarge);
}

#[test]
fn passing_faults_are_survived() {
    let registry = Registry::start();
    registry.add_manifest("team/app", "1", MANIFEST, r#"{"some":"document"}"#);
    let client = client(&registry);
    for fault in [
        Fault::status(500),
        Fault::status(503),
        Fault::retry_after(429, 0),
        Fault::ResetBefore,
        Fault::CutAfter(3),
        Fault::ResetAfter(3),
    ] {
        registry.script("/manifests/", [fault.clone(), fault.clone()]);
        assert!(client.manifest("team/app", &tag()).is_ok(), "{fault:?}");
    }
}

#[test]
fn silence_is_a_fault_too() {
    let registry = Registry::start();
    registry.add_manifest("team/app", "1", MANIFEST, "{}");
    let bytes = content(100_000);
    registry.add_blob(bytes.clone());
    let minute = Duration::from_secs(60);
    registry.script("/manifests/", [Fault::StallAfter(0, minute), Fault::StallAfter(1, minute)]);
    registry.script("/blobs/", [Fault::StallAfter(40_000, minute)]);
    let client = client_with(&registry, hasty());
    assert!(client.manifest("team/app", &tag()).is_ok());
    assert_eq!(read_blob(&client, &bytes, 0).unwrap(), bytes);
}

#[test]
fn lasting_faults_are_reported_after_the_last_attempt() {
    let registry = Registry::start();
    registry.add_manifest("team/app", "1", MANIFEST, r#"{"some":"document"}"#);
    let client = client(&registry);
    for (fault, kind, attempts) in [
        (Fault::status(500), Kind::Unreachable, 3),
        (Fault::status(429), Kind::RateLimited, 3),
        (Fault::ResetBefore, Kind::Unreachable, 3),
        (Fault::CutAfter(3), Kind::Truncated, 3),
        (Fault::status(403), Kind::Denied, 1),
        (Fault::status(404), Kind::NotFound, 1),
        (Fault::status(400), Kind::Invalid, 1),
        (Fault::status(501), Kind::Unreachable, 1),
    ] {
        let before = registry.requests().len();
        registry.script("/manifests/", vec![fault.clone(); attempts]);
        let error = client.manifest("team/app", &tag()).unwrap_err();
        assert_eq!(error.kind(), kind, "{fault:?}: {error}");
        assert_eq!(registry.requests().len() - before, attempts, "{fault:?}");
    }
}

#[test]
fn retry_after_is_obeyed_if_it_is_short_enough() {
    let registry = Registry::start();
    registry.add_manifest("team/app", "1", MANIFEST, "{}");
    let client = client(&registry);
    registry.script("/manifests/", [Fault::retry_after(429, 1)]);
    let begun = Instant::now();
    assert!(client.manifest("team/app", &tag()).is_ok());
    assert!(begun.elapsed() >= Duration::from_secs(1));
    registry.script("/manifests/", [Fault::retry_after(429, 3600)]);
    let error = client.manifest("team/app", &tag()).unwrap_err();
    assert_eq!(error.kind(), Kind::RateLimited);
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn nobody_there_is_reported_at_once() {
    let registry = Registry::start();
    let patience = Patience { base: Duration::from_secs(60), ..options().patience };
    let client = client_with(&registry, ClientOptions { patience, ..options() });
    drop(registry);
    let begun = Instant::now();
    let error = client.manifest("team/app", &tag()).unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable);
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn an_error_says_what_the_registry_says_and_nothing_a_terminal_would_obey() {
    let registry = Registry::start();
    let words = r#"{"errors":[{"code":"DENIED","message":"go \u001b[2Jaway"}]}"#;
    registry.script("/manifests/", [Fault::Status(403, vec![], words.into())]);
    let error = client(&registry).manifest("team/app", &tag()).unwrap_err().to_string();
    assert!(error.ends_with("is denied: go [2Jaway"), "{error:?}");
}

#[test]
fn a_token_is_fetched_once_and_serves_all_requests() {
    let registry = Registry::start();
    registry.guard(Guard::Token(None));
    registry.add_manifest("team/app", "1", MANIFEST, "{}");
    let bytes = content(1000);
    registry.add_blob(bytes.clone());
    let client = client(&registry);
    assert!(client.manifest("team/app", &tag()).is_ok());
    assert_eq!(read_blob(&client, &bytes, 0).unwrap(), bytes);
    let requests = registry.requests();
    assert_eq!(statuses(&requests), [401, 200, 200, 200]);
    let token = &requests[1].path;
    assert_eq!(token, "/token?service=fault%20registry&scope=repository:team/app:pull");
    assert_eq!(requests[3].authorization.as_deref(), Some("Bearer token-1"));
}

#[test]
fn eight_threads_fetch_one_token() {
    let registry = Registry::start();
    registry.guard(Guard::Token(None));
    let bytes = content(100_000);
    registry.add_blob(bytes.clone());
    let client = client(&registry);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(read_blob(&client, &bytes, 0).unwrap(), bytes));
        }
    });
    let tokens = registry.requests().iter().filter(|seen| seen.path.contains("/token")).count();
    assert_eq!(tokens, 1);
}

#[test]
fn a_token_that_ended_is_renewed_once() {
    let registry = Registry::start();
    registry.guard(Guard::Token(None));
    registry.add_manifest("team/app", "1", MANIFEST, "{}");
    let client = client(&registry);
    assert!(client.manifest("team/app", &tag()).is_ok());
    registry.revoke_tokens();
    assert!(client.manifest("team/app", &tag()).is_ok());
    assert_eq!(statuses(&registry.requests()), [401, 200, 200, 401, 200, 200]);
}

#[test]
fn a_registry_that_never_lets_us_in_is_not_asked_for_ever() {
    let registry = Registry::start();
    registry.guard(Guard::Realm(format!("http://{}/token", registry.host())));
    registry.add_manifest("team/app", "1", MANIFEST, "{}");
    let client = client(&registry);
    let again = vec![("WWW-Authenticate".into(), "Bearer realm=\"x\"".into())];
    registry.script("/manifests/", [Fault::None, Fault::Status(401, again, String::new())]);
    let error = client.manifest("team/app", &tag()).unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.to_string().contains("does not exist, or wants credentials"), "{error}");
    assert_eq!(statuses(&registry.requests()), [401, 200, 401]);
}

#[test]
fn the_password_goes_to_the_realm_and_the_token_to_the_registry() {
    let registry = Registry::start();
    let dir = tempfile::tempdir().unwrap();
    registry.guard(Guard::Token(Some(("me".into(), "pw".into()))));
    registry.add_manifest("team/app", "1", MANIFEST, "{}");
    // me:pw, then me:no
    let right = client_with(&registry, options_as(&registry, &dir, r#""auth":"bWU6cHc=""#));
    assert!(right.manifest("team/app", &tag()).is_ok());
    let requests = registry.requests();
    let sent: Vec<Option<&str>> =
        requests.iter().map(|request| request.authorization.as_deref()).collect();
    assert_eq!(sent, [None, Some("Basic bWU6cHc="), Some("Bearer token-1")]);
    let wrong = client_with(&registry, options_as(&registry, &dir, r#""auth":"bWU6bm8=""#));
    let error = wrong.manifest("team/app", &tag()).unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.to_string().contains("wrong password"), "{error}");
}

#[test]
fn a_refresh_token_is_posted_and_never_in_an_address() {
    let registry = Registry::start();
    let dir = tempfile::tempdir().unwrap();
    registry.guard(Guard::Token(None));
    registry.add_manifest("team/app", "1", MANIFEST, "{}");
    let options = options_as(&registry, &dir, r#""identitytoken":"re&fresh""#);
    assert!(client_with(&registry, options).manifest("team/app", &tag()).is_ok());
    let request = &registry.requests()[1];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/token"));
    assert!(request.body.contains("grant_type=refresh_token"), "{}", request.body);
    assert!(request.body.contains("refresh_token=re%26fresh"), "{}", request.body);
}

#[test]
fn basic_authentication_is_answered_once_and_remembered() {
    let registry = Registry::start();
    let dir = tempfile::tempdir().unwrap();
    registry.guard(Guard::Basic("me".into(), "pw".into()));
    registry.add_manifest("team/app", "1", MANIFEST, "{}");
    let right = client_with(&registry, options_as(&registry, &dir, r#""auth":"bWU6cHc=""#));
    assert!(right.manifest("team/app", &tag()).is_ok());
    assert!(right.manifest("team/app", &tag()).is_ok());
    assert_eq!(statuses(&registry.requests()), [401, 200, 200]);
    let wrong = client_with(&registry, options_as(&registry, &dir, r#""auth":"bWU6bm8=""#));
    assert_eq!(wrong.manifest("team/app", &tag()).unwrap_err().kind(), Kind::Denied);
    let error = client(&registry).manifest("team/app", &tag()).unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.to_string().contains("no credentials for"), "{error}");
}

#[test]
fn credentials_are_tried_without_asking_for_anything() {
    let registry = Registry::start();
    let host = RegistryHost::parse(&registry.host()).unwrap();
    let check = |password: &str| {
        let client = Client::with_password(&host, options(), "me", password).unwrap();
        client.check().map_err(|error| error.kind())
    };
    assert_eq!(check("pw"), Ok(Checked::NotAsked));
    let ours = ("me".to_owned(), "pw".to_owned());
    for guard in [Guard::Basic(ours.0.clone(), ours.1.clone()), Guard::Token(Some(ours.clone()))] {
        registry.guard(guard);
        assert_eq!(check("pw"), Ok(Checked::Accepted));
        assert_eq!(check("no"), Err(Kind::Denied));
    }
    let requests = registry.requests();
    let token = requests.iter().find(|seen| seen.path.starts_with("/token")).unwrap();
    assert_eq!(token.path, "/token?service=fault%20registry&account=me");
}

#[test]
fn a_redirect_to_another_origin_carries_no_authorization() {
    let (registry, elsewhere) = (Registry::start(), Registry::start());
    registry.guard(Guard::Token(None));
    let bytes = content(200_000);
    registry.add_blob(bytes.clone());
    let digest = elsewhere.add_blob(bytes.clone());
    let to = format!("http://{}/v2/cdn/blobs/{digest}?signed=1", elsewhere.host());
    registry.script("/blobs/", [Fault::None, Fault::Redirect(to.clone())]);
    let client = client(&registry);
    assert_eq!(read_blob(&client, &bytes, 0).unwrap(), bytes);
    let there = elsewhere.requests();
    assert_eq!(there.len(), 1);
    assert_eq!(there[0].authorization, None);
    // And a range survives the redirect.
    registry.script("/blobs/", [Fault::Redirect(to)]);
    assert_eq!(read_blob(&client, &bytes, 1000).unwrap(), bytes[1000..]);
    assert_eq!(elsewhere.requests()[1].range.as_deref(), Some("bytes=1000-"));
}

#[test]
fn a_redirect_within_the_origin_keeps_it_and_a_way_back_does_not() {
    let (registry, elsewhere) = (Registry::start(), Registry::start());
    registry.guard(Guard::Token(None));
    let bytes = content(10);
    let digest = registry.add_blob(bytes.clone());
    let within = format!("/v2/team/app/blobs/{digest}?x");
    registry.script("/blobs/", [Fault::None, Fault::Redirect(within)]);
    let client = client(&registry);
    assert_eq!(read_blob(&client, &bytes, 0).unwrap(), bytes);
    let back = format!("http://{}/v2/team/app/blobs/{digest}?back", registry.host());
    let away = format!("http://{}/x", elsewhere.host());
    elsewhere.script("/", vec![Fault::Redirect(back); 2]);
    registry.script("/blobs/", [Fault::Redirect(away), Fault::None]);
    let _ = read_blob(&client, &bytes, 0);
    let last = registry.requests().into_iter().find(|seen| seen.path.ends_with("?back")).unwrap();
    assert_eq!(last.authorization, None);
}

#[test]
fn only_the_registry_may_ask_for_credentials() {
    let (registry, elsewhere) = (Registry::start(), Registry::start());
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(10);
    let digest = elsewhere.add_blob(bytes.clone());
    let away = format!("http://{}/v2/team/app/blobs/{digest}", elsewhere.host());
    for guard in [Guard::Token(None), Guard::Basic("me".into(), "pw".into())] {
        elsewhere.guard(guard);
        registry.script("/blobs/", [Fault::Redirect(away.clone())]);
        let client = client_with(&registry, options_as(&registry, &dir, r#""auth":"bWU6cHc=""#));
        assert_eq!(read_blob(&client, &bytes, 0), Err(Kind::Denied));
    }
    let there = elsewhere.requests();
    assert_eq!(statuses(&there), [401, 401]);
    assert!(there.iter().all(|seen| seen.authorization.is_none()));
}

#[test]
fn redirects_end_somewhere_and_never_in_plain_http_elsewhere() {
    let registry = Registry::start();
    let bytes = content(10);
    let own = format!("http://{}/v2/team/app/blobs/x", registry.host());
    registry.script("/blobs/", vec![Fault::Redirect(own); 100]);
    assert_eq!(read_blob(&client(&registry), &bytes, 0), Err(Kind::Invalid));
    assert!(registry.requests().len() < 10);
    let other = Registry::start();
    let client = client(&other);
    other.script("/blobs/", [Fault::Redirect("http://registry.invalid/blob?secret=1".into())]);
    let error = client.blob("team/app", &parsed(&digest(&bytes)), 10, 0).unwrap_err();
    assert_eq!(error.kind(), Kind::RefusedPlainHttp);
    assert!(error.to_string().contains("`http://registry.invalid/blob`"), "{error}");
    for (odd, kind) in [
        ("ftp://x/y", Kind::RefusedPlainHttp),
        ("http://", Kind::Invalid),
        ("http://a b/", Kind::Invalid),
    ] {
        other.script("/blobs/", [Fault::Redirect(odd.into())]);
        assert_eq!(read_blob(&client, &bytes, 0), Err(kind), "{odd}");
    }
}

#[test]
fn a_realm_in_plain_http_elsewhere_gets_nothing() {
    let registry = Registry::start();
    let dir = tempfile::tempdir().unwrap();
    registry.guard(Guard::Realm("http://realm.invalid/token".into()));
    let client = client_with(&registry, options_as(&registry, &dir, r#""auth":"bWU6cHc=""#));
    let error = client.manifest("team/app", &tag()).unwrap_err();
    assert_eq!(error.kind(), Kind::RefusedPlainHttp, "{error}");
}

#[test]
fn a_blob_that_breaks_is_resumed_where_it_broke() {
    let bytes = content(100_000);
    let registry = Registry::start();
    registry.add_blob(bytes.clone());
    registry.script("/blobs/", [Fault::CutAfter(40_000)]);
    assert_eq!(read_blob(&client(&registry), &bytes, 0).unwrap(), bytes);
    assert_eq!(ranges(&registry), [None, Some("bytes=40000-".into())]);
    assert_eq!(registry.bytes_sent("/blobs/"), 100_000);
    // A reset may take bytes with it that were underway.
    let registry = Registry::start();
    registry.add_blob(bytes.clone());
    registry.script("/blobs/", [Fault::ResetAfter(40_000), Fault::ResetBefore]);
    assert_eq!(read_blob(&client(&registry), &bytes, 0).unwrap(), bytes);
}

#[test]
fn a_blob_is_read_from_an_offset() {
    let registry = Registry::start();
    let bytes = content(5000);
    registry.add_blob(bytes.clone());
    let client = client(&registry);
    assert_eq!(read_blob(&client, &bytes, 4999).unwrap(), bytes[4999..]);
    assert_eq!(ranges(&registry), [Some("bytes=4999-".into())]);
    assert_eq!(read_blob(&client, &bytes, 5000).unwrap(), b"");
    assert_eq!(registry.requests().len(), 1, "nothing is missing, nothing is asked");
    assert_eq!(read_blob(&client, &bytes, 5001), Err(Kind::Invalid));
}

#[test]
fn a_registry_without_ranges_costs_a_second_download_and_no_more() {
    let bytes = content(50_000);
    for (odd, requests) in [
        (Fault::IgnoreRange, 1),
        (Fault::status(416), 2),
        (Fault::ContentRange(None), 2),
        (Fault::ContentRange(Some("bytes 0-49999/50000".into())), 2),
        (Fault::ContentRange(Some("bytes 20000-49999/50001".into())), 2),
        (Fault::ContentRange(Some("nonsense".into())), 2),
    ] {
        let registry = Registry::start();
        registry.add_blob(bytes.clone());
        registry.script("/blobs/", [odd.clone()]);
        let got = read_blob(&client(&registry), &bytes, 20_000);
        assert_eq!(got.unwrap(), bytes[20_000..], "{odd:?}");
        assert_eq!(registry.requests().len(), requests, "{odd:?}");
    }
}

#[test]
fn a_blob_of_another_size_is_refused() {
    let registry = Registry::start();
    let bytes = content(1000);
    registry.add_blob(bytes.clone());
    let client = client(&registry);
    registry.script("/blobs/", [Fault::Length(1001)]);
    assert_eq!(read_blob(&client, &bytes, 0), Err(Kind::Invalid));
    registry.script("/blobs/", [Fault::ChunkedPlus(b"more".into())]);
    assert_eq!(read_blob(&client, &bytes, 0), Err(Kind::TooLarge));
    registry.script("/blobs/", [Fault::ChunkedPlus(Vec::new())]);
    assert_eq!(read_blob(&client, &bytes, 0).unwrap(), bytes, "a length need not be told");
}

#[test]
fn a_blob_that_always_ends_early_is_truncated() {
    let registry = Registry::start();
    let bytes = content(1000);
    registry.add_blob(bytes.clone());
    registry.script("/blobs/", vec![Fault::CutAfter(0); 3]);
    assert_eq!(read_blob(&client(&registry), &bytes, 0), Err(Kind::Truncated));
    assert_eq!(registry.requests().len(), 3);
}

#[test]
fn progress_earns_new_patience() {
    let registry = Registry::start();
    let bytes = content(9 << 20);
    registry.add_blob(bytes.clone());
    registry.script("/blobs/", vec![Fault::CutAfter(1 << 20); 8]);
    assert_eq!(read_blob(&client(&registry), &bytes, 0).unwrap(), bytes);
    assert_eq!(registry.bytes_sent("/blobs/"), 9 << 20);
}
