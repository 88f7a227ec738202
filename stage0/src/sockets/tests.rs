//! Who is handed what, as tables.

use pod_abi::PodPath;
use pod_abi::app::{ImagePin, LogOptions, PidMode, Process, Restart, Stdio, Stop, User, Verified};
use pod_abi::isolators::{Capabilities, Resources, Seccomp};
use pod_abi::readiness::Readiness;
use pod_abi::{Digest, version};

use super::*;

fn names(words: &str) -> Vec<SocketName> {
    words.split_whitespace().map(|word| SocketName::parse(word).unwrap()).collect()
}

fn app(name: &str, sockets: &str) -> AppSpec {
    let digest = Digest::from_hash(&[1; 32]).unwrap();
    AppSpec {
        version: version::MANIFEST,
        name: AppName::parse(name).unwrap(),
        image: ImagePin {
            reference: "example.org/image".to_owned(),
            manifest: digest.clone(),
            config: digest.clone(),
            layers: vec![digest],
            verified: Verified::Digest,
        },
        process: Process {
            args: vec!["true".to_owned()],
            env: Vec::new(),
            cwd: PodPath::root(),
            user: User::default(),
            capabilities: Capabilities::default(),
            no_new_privileges: true,
            seccomp: Seccomp::Default,
            rlimits: Vec::new(),
            oom_score_adj: None,
        },
        read_only_root: false,
        mounts: Vec::new(),
        masked_paths: Vec::new(),
        read_only_paths: Vec::new(),
        pid: PidMode::App,
        restart: Restart::No,
        stop: Stop::default(),
        readiness: Readiness::Started,
        log: LogOptions::default(),
        labels: Default::default(),
        annotations: Default::default(),
        role: Role::Main,
        after: Vec::new(),
        stdio: Stdio::Logged,
        reaper: false,
        writable_sys: false,
        devices: Vec::new(),
        resources: Resources::default(),
        volumes: Vec::new(),
        credentials: Vec::new(),
        sockets: names(sockets),
    }
}

#[test]
fn sockets_are_ours_only_if_they_were_handed_to_this_very_process() {
    let said = |pid: &str, count: &str, names: Option<&str>| Said {
        pid: Some(pid.to_owned()),
        count: Some(count.to_owned()),
        names: names.map(str::to_owned),
    };
    let read = |said: Said| named(&said, 42).map_err(|error| error.code().to_owned());
    let refused = Err("socket.names".to_owned());
    assert_eq!(read(Said::default()), Ok(Vec::new()));
    assert_eq!(read(said("43", "2", None)), Ok(Vec::new()));
    assert_eq!(read(said("x", "2", None)), Ok(Vec::new()));
    assert_eq!(read(said("42", "2", None)), Ok(names("unknown unknown")));
    assert_eq!(read(said("42", "2", Some("http:web.socket"))), Ok(names("http web.socket")));
    assert_eq!(read(said("42", "0", Some(""))), Ok(Vec::new()));
    for (count, listed) in [
        ("2", "http"),
        ("1", "http:https"),
        ("1", ""),
        ("2", "a b:c"),
        ("1", "a/b"),
        ("-1", "a"),
        ("129", "a"),
        ("99999999999999999999", "a"),
        ("", "a"),
    ] {
        assert_eq!(read(said("42", count, Some(listed))), refused, "{count} {listed}");
    }
}

/// The sockets of each app, or why there are none.
type Settled<'t> = std::result::Result<&'t [&'t str], Mismatch>;

#[test]
fn every_socket_goes_to_whoever_asks_and_none_is_left_over() {
    // What apps ask for, what is handed over, and what they get or who is at fault.
    let missing = |app: &str, name: &str| {
        let (app, name) = (AppName::parse(app).unwrap(), names(name).remove(0));
        Err(Mismatch::Missing { app, name })
    };
    let left = |name: &str| Err(Mismatch::LeftOver(names(name).remove(0)));
    let table: [(&[&str], &str, Settled<'_>); 11] = [
        (&[""], "", Ok(&[""])),
        (&[""], "http https http", Ok(&["http https"])),
        (&["https http"], "http https http", Ok(&["https http"])),
        (&["http"], "http https", left("https").map(|(): ()| &[][..])),
        (&["http"], "", missing("a", "http").map(|(): ()| &[][..])),
        (&["http", ""], "", missing("a", "http").map(|(): ()| &[][..])),
        (&["", ""], "http", left("http").map(|(): ()| &[][..])),
        (&["", ""], "", Ok(&["", ""])),
        (&["http", "https"], "https http", Ok(&["http", "https"])),
        (&["http", "http"], "http", Ok(&["http", "http"])),
        (&[], "http", Ok(&[])),
    ];
    for (asked, handed, expected) in table {
        let mut apps: Vec<AppSpec> =
            ["a", "b"].iter().zip(asked).map(|(name, sockets)| app(name, sockets)).collect();
        let settled = assign(&mut apps, &names(handed));
        let got = settled.map(|()| apps.iter().map(|app| app.sockets.clone()).collect::<Vec<_>>());
        let expected = expected.map(|words| words.iter().map(|word| names(word)).collect());
        assert_eq!(got, expected, "{asked:?} {handed}");
    }
}

#[test]
fn an_init_app_is_not_counted_when_one_app_gets_all() {
    let mut apps = vec![app("setup", ""), app("web", "")];
    apps[0].role = Role::Init;
    assign(&mut apps, &names("http")).unwrap();
    assert_eq!((&apps[0].sockets, &apps[1].sockets), (&names(""), &names("http")));
}

#[test]
fn apps_are_given_no_more_than_process_1_can_hold() {
    let handed = vec![names("http").remove(0); MAX_SOCKETS];
    let mut apps: Vec<AppSpec> = ["a", "b", "c", "d", "e"].map(|name| app(name, "http")).into();
    assert_eq!(assign(&mut apps, &handed), Err(Mismatch::TooMany(5 * MAX_SOCKETS)));
    apps.pop();
    assert_eq!(assign(&mut apps, &handed), Ok(()));
}
