//! What is written can be read back as it was; what cannot be had is refused by name.

use pod_abi::app::{
    EnvVar, LogOptions, Mount, MountSource, PidMode, Process, Restart, Role, Stdio, Stop, User,
    Verified,
};
use pod_abi::credential::Credential;
use pod_abi::isolators::{
    BlockDevice, Capabilities, Capability, CpuQuota, Device, DeviceAccess, IoLimit, Resources,
    Rlimit, RlimitKind, Seccomp, SeccompAction, SeccompArg, SeccompOp, SeccompProfile, SeccompRule,
};
use pod_abi::volume::{Fill, VolumeSource};
use pod_abi::{Digest, VolumeName, version};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn path(text: &str) -> PodPath {
    PodPath::parse(text).unwrap()
}

fn pin() -> ImagePin {
    let digest = |digit: &str| Digest::parse(&format!("sha256:{}", digit.repeat(64))).unwrap();
    ImagePin {
        reference: "registry.example/shop/web:1".to_owned(),
        manifest: digest("a"),
        config: digest("b"),
        layers: vec![digest("c"), digest("d")],
        verified: Verified::Digest,
    }
}

fn origin() -> Origin {
    Origin { name: AppName::parse("foreign").unwrap(), image: pin() }
}

/// The plainest app there is.
fn plain() -> Surrounded {
    let process = Process {
        args: vec!["/bin/web".to_owned()],
        env: vec![EnvVar::parse("PATH=/bin").unwrap()],
        cwd: path("/"),
        user: User::default(),
        capabilities: Capabilities([Capability::Kill, Capability::Chown].into()),
        no_new_privileges: true,
        seccomp: Seccomp::Unconfined,
        rlimits: Vec::new(),
        oom_score_adj: None,
    };
    let app = AppSpec {
        version: version::MANIFEST,
        name: AppName::parse("web").unwrap(),
        image: pin(),
        process,
        read_only_root: false,
        mounts: Vec::new(),
        masked_paths: vec![path("/proc/kcore")],
        read_only_paths: vec![path("/proc/sys")],
        pid: PidMode::App,
        restart: Restart::No,
        stop: Stop::default(),
        readiness: "started".parse().unwrap(),
        log: LogOptions::default(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        role: Role::Main,
        after: Vec::new(),
        stdio: Stdio::Logged,
        reaper: false,
        writable_sys: false,
        devices: Vec::new(),
        resources: Resources::default(),
        volumes: Vec::new(),
        credentials: Vec::new(),
        sockets: Vec::new(),
    };
    Surrounded {
        app,
        hostname: "shop".to_owned(),
        ids: Some(IdRange { base: 524_288, count: 65_536 }),
        network: Network::None,
        ipc: Ipc::Pod,
        sysctls: BTreeMap::new(),
        volumes: Vec::new(),
        nodes: BTreeMap::new(),
    }
}

/// An app with a bit of everything.
fn full() -> Surrounded {
    let mut what = plain();
    let volume = |name: &str, source| Volume { name: label(name), source, fill: None };
    let host = |path: &str, without_submounts| VolumeSource::Host {
        path: path.to_owned(),
        without_submounts,
    };
    let fill = Fill { app: what.app.name.clone(), path: path("/var/lib/web") };
    let empty = VolumeSource::Empty { mode: 0o750, uid: 5, gid: 6 };
    what.volumes = vec![
        volume("config", host("/srv/config", false)),
        Volume { fill: Some(fill), ..volume("data", empty) },
        volume("shared", VolumeSource::Tmpfs { size: Some(4096), mode: 0o1777 }),
    ];
    what.sysctls.insert("net.ipv4.ip_forward".to_owned(), "1".to_owned());
    let app = &mut what.app;
    let mount = |at: &str, source, read_only, no_exec| Mount {
        destination: path(at),
        source,
        read_only,
        no_exec,
    };
    let of = |name: &str| MountSource::Volume(label(name));
    app.mounts = vec![
        mount("/var/lib/web/cache", MountSource::Tmpfs { size: None, mode: 0o700 }, false, true),
        mount("/var/lib/web", of("data"), false, false),
        mount("/etc/hosts", of("config"), true, false),
        mount("/dev/shm", of("shared"), false, true),
        mount("/late", of("late"), true, true),
    ];
    app.volumes = vec![volume("late", host("/srv/late", true))];
    app.devices = vec![Device {
        source: "/dev/fuse".to_owned(),
        destination: path("/dev/fuse"),
        access: DeviceAccess { read: true, write: true, make: false },
    }];
    app.process.user = User { uid: 33, gid: 33, additional_gids: vec![5, 6], umask: Some(0o27) };
    app.process.rlimits = vec![Rlimit { kind: RlimitKind::Nofile, soft: 64, hard: 128 }];
    app.process.oom_score_adj = Some(500);
    app.process.seccomp = Seccomp::Profile(Box::new(SeccompProfile {
        default_action: SeccompAction::Errno(1),
        syscalls: vec![SeccompRule {
            names: vec!["read".to_owned(), "write".to_owned()],
            action: SeccompAction::Allow,
            args: vec![SeccompArg { index: 0, value: 2, value_two: 0, op: SeccompOp::LessEqual }],
        }],
    }));
    app.resources = Resources {
        memory: Some(64 << 20),
        cpu: Some(CpuQuota { quota_us: 150_000, period_us: 100_000 }),
        pids: Some(32),
        memory_high: Some(48 << 20),
        memory_low: Some(16 << 20),
        swap: Some(1 << 20),
        cpu_weight: Some(200),
        cpuset_cpus: Some("0".to_owned()),
        cpuset_mems: Some("0".to_owned()),
        io_weight: Some(50),
        io: vec![IoLimit {
            read_bytes: Some(1 << 20),
            writes: Some(100),
            ..IoLimit::of(BlockDevice { major: 8, minor: 0 })
        }],
    };
    app.pid = PidMode::Pod;
    app.restart = Restart::OnFailure { max: Some(3) };
    app.stop = Stop { signal: 3, grace_ms: 1500 };
    app.readiness = "http:80/health".parse().unwrap();
    app.log = LogOptions { max_bytes: 1 << 20, files: 5 };
    app.labels.insert("tier".to_owned(), "front".to_owned());
    app.annotations.insert("com.example.note".to_owned(), "hello".to_owned());
    app.after = vec![AppName::parse("db").unwrap()];
    app.stdio = Stdio::Open;
    app.credentials = vec![
        Credential { name: "key".parse().unwrap(), path: Some("/srv/key".to_owned()) },
        Credential { name: "token".parse().unwrap(), path: None },
    ];
    app.sockets = vec!["http".parse().unwrap(), "admin".parse().unwrap()];
    app.writable_sys = true;
    app.read_only_root = true;
    what.nodes.insert(path("/dev/fuse"), Node { block: false, major: 10, minor: 229 });
    what
}

fn label(name: &str) -> VolumeName {
    VolumeName::parse(name).unwrap()
}

/// Writes, goes through text as a file would, and reads.
fn there_and_back(what: &Surrounded) -> Surrounded {
    let text = json(&write(what).unwrap()).unwrap().to_string();
    read(&serde_json::from_str(&text).unwrap(), &origin()).unwrap()
}

#[test]
fn an_app_survives_as_a_bundle() {
    for what in [plain(), full()] {
        assert_eq!(there_and_back(&what), what);
    }
}

#[test]
fn the_documents_are_these() {
    for (name, what) in [("plain", plain()), ("full", full())] {
        let document = json(&write(&what).unwrap()).unwrap();
        insta::assert_snapshot!(name, serde_json::to_string_pretty(&document).unwrap());
    }
}

#[test]
fn the_default_profile_is_written_out_and_known_again() {
    let mut what = plain();
    what.app.process.seccomp = Seccomp::Default;
    let document = json(&write(&what).unwrap()).unwrap();
    let rules = document.pointer("/linux/seccomp/syscalls").and_then(Value::as_array).unwrap();
    assert!(rules.len() > 100, "{} rules", rules.len());
    assert_eq!(there_and_back(&what), what);
}

#[test]
fn a_bundle_of_another_engine_is_an_app_too() {
    let bundle = json!({
        "ociVersion": "1.2.0",
        "root": { "path": "rootfs", "readonly": true },
        "unknown": "passed over",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "cwd": "/",
            "capabilities": {
                "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"],
            },
        },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"] },
            { "destination": "/data", "type": "none", "source": "/srv", "options": ["rbind", "ro"] },
        ],
        "linux": { "namespaces": [{ "type": "mount" }, { "type": "uts" }, { "type": "pid" }] },
    });
    let read = read(&serde_json::from_value(bundle).unwrap(), &origin()).unwrap();
    assert_eq!(read.app.name.as_str(), "foreign");
    assert_eq!(read.app.process.capabilities.0.len(), 1);
    assert_eq!((read.network, read.ipc), (Network::Host, Ipc::Host));
    assert!(read.app.mounts[0].read_only && !read.app.writable_sys);
    let host = VolumeSource::Host { path: "/srv".to_owned(), without_submounts: false };
    assert_eq!(read.volumes[0].source, host);
}

#[test]
fn what_cannot_be_had_is_refused_by_name() {
    let document = json(&write(&full()).unwrap()).unwrap();
    let table = [
        ("/hooks", json!({ "poststop": [{ "path": "/bin/x" }] }), "`hooks`"),
        ("/domainname", json!("x"), "`domainname`"),
        ("/process/apparmorProfile", json!("x"), "`process.apparmorProfile`"),
        ("/process/args", json!([]), "`process.args`"),
        ("/process/cwd", json!("relative"), "`process.cwd`"),
        ("/process/oomScoreAdj", json!(100_000), "`process.oomScoreAdj`"),
        ("/process/capabilities/ambient", json!(["CAP_KILL"]), "capabilities.ambient`"),
        ("/linux/cgroupsPath", json!("/x"), "`linux.cgroupsPath`"),
        ("/linux/personality", json!({ "domain": "LINUX32" }), "`linux.personality`"),
        ("/linux/rootfsPropagation", json!("shared"), "`linux.rootfsPropagation`"),
        ("/linux/namespaces", json!([]), "shares `mnt`"),
        ("/linux/namespaces", json!([{ "type": "network", "path": "/x" }]), "joins"),
        ("/linux/namespaces", json!([{ "type": "pid" }, { "type": "pid" }]), "twice"),
        ("/linux/uidMappings", json!([]), "`linux.uidMappings`"),
        ("/linux/seccomp/defaultAction", json!("SCMP_ACT_NOTIFY"), "`linux.seccomp`"),
        ("/linux/resources/unified", json!({ "memory.min": "1" }), "`memory.high` and"),
        ("/linux/resources/unified", json!({ "cpu.weight": "0" }), "a limit that is none"),
        ("/linux/resources/unified", json!({ "io.weight": "8:0 5" }), "is no number"),
        ("/linux/resources/memory/swap", json!(1), "`linux.resources.memory`"),
        ("/linux/resources/memory/limit", json!(-2), "is negative"),
        ("/linux/resources/memory/swappiness", json!(1), "has more than `limit`"),
        ("/linux/resources/cpu/burst", json!(1), "has more than `quota`"),
        ("/linux/resources/blockIO/leafWeight", json!(10), "blockIO.leafWeight`"),
        ("/linux/resources/devices", json!([{ "allow": true }]), "`linux.resources.devices`"),
        ("/mounts/0/destination", json!("/a/../b"), "without `..`"),
        ("/mounts/0/options", json!(["uid=5"]), "`uid=5`"),
        ("/annotations/org.pod.nosuch", json!("1"), "org.pod.*`"),
        ("/annotations/org.pod.restart", json!("no"), "is no JSON"),
        ("/annotations/org.pod.volumes", json!("[]"), "is not told"),
    ];
    for (at, value, word) in table {
        let mut document = document.clone();
        let (parent, key) = at.rsplit_once('/').unwrap();
        match document.pointer_mut(parent).unwrap() {
            Value::Object(fields) => drop(fields.insert(key.to_owned(), value)),
            Value::Array(list) => list[0] = value,
            other => panic!("{other}"),
        }
        if at.starts_with("/mounts/0/") {
            document["mounts"][0]["type"] = json!("tmpfs");
        }
        let error = read(&serde_json::from_value(document).unwrap(), &origin()).unwrap_err();
        assert!(error.to_string().contains(word), "{at}: {error}");
    }
}

#[test]
fn a_source_that_contradicts_its_annotation_is_refused() {
    let mut document = json(&write(&full()).unwrap()).unwrap();
    let mounts = document["mounts"].as_array_mut().unwrap();
    let data = mounts.iter_mut().find(|mount| mount["destination"] == "/var/lib/web").unwrap();
    data["source"] = json!("/etc");
    let error = read(&serde_json::from_value(document).unwrap(), &origin()).unwrap_err();
    assert!(error.to_string().contains("/var/lib/web"), "{error}");
}

#[test]
fn what_would_not_be_read_back_is_not_written() {
    let mut what = plain();
    what.app.annotations.insert("org.pod.restart".to_owned(), "\"always\"".to_owned());
    assert!(write(&what).unwrap_err().to_string().contains("org.pod.restart"));
    let mut what = full();
    what.nodes.clear();
    assert!(write(&what).unwrap_err().to_string().contains("/dev/fuse"));
    let mut what = full();
    what.volumes.clear();
    assert!(write(&what).unwrap_err().to_string().contains("volume"));
}

fn word() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 =\"\\\\é-]{0,8}"
}

fn places() -> impl Strategy<Value = Vec<PodPath>> {
    btree_set("(/[a-c]{1,2}){1,3}", 0..4)
        .prop_map(|set| set.iter().map(|text| path(text)).collect())
        .prop_shuffle()
}

fn processes() -> impl Strategy<Value = Process> {
    let user = (0..3_u32, any::<u16>(), vec(0..9_u32, 0..3), option::of(0..0o777_u32)).prop_map(
        |(uid, gid, additional_gids, umask)| User { uid, gid: gid.into(), additional_gids, umask },
    );
    let capabilities = btree_set(proptest::sample::select(Capability::ALL), 0..41);
    let limit = (any::<u64>(), any::<u64>()).prop_map(|(soft, hard)| Rlimit {
        kind: RlimitKind::Rttime,
        soft,
        hard,
    });
    let seccomp = prop_oneof![
        Just(Seccomp::Default),
        Just(Seccomp::Unconfined),
        (any::<u64>(), 0..6_u8, 0..4096_u16).prop_map(|(value, index, errno)| {
            let op = SeccompOp::MaskedEqual;
            let args = vec![SeccompArg { index, value, value_two: 7, op }];
            let action = SeccompAction::Errno(errno);
            let rule = SeccompRule { names: vec!["bpf".to_owned()], action, args };
            let profile =
                SeccompProfile { default_action: SeccompAction::Log, syscalls: vec![rule] };
            Seccomp::Profile(Box::new(profile))
        }),
    ];
    let words = (vec(word(), 0..4), btree_map("[A-Z]{1,4}", word(), 0..4), places());
    let rights = (user, capabilities, any::<bool>(), seccomp);
    (words, rights, vec(limit, 0..2), option::of(-1000..1000_i16)).prop_map(
        |((rest, env, cwd), (user, capabilities, no_new_privileges, seccomp), rlimits, oom)| {
            Process {
                args: [vec!["/bin/x".to_owned()], rest].concat(),
                env: env
                    .iter()
                    .map(|(name, value)| EnvVar::parse(&format!("{name}={value}")).unwrap())
                    .collect(),
                cwd: cwd.into_iter().next().unwrap_or_else(|| path("/")),
                user,
                capabilities: Capabilities(capabilities),
                no_new_privileges,
                seccomp,
                rlimits,
                oom_score_adj: oom,
            }
        },
    )
}

fn sources() -> impl Strategy<Value = VolumeSource> {
    prop_oneof![
        (word(), any::<bool>()).prop_map(|(name, without_submounts)| VolumeSource::Host {
            path: format!("/srv/{name}"),
            without_submounts,
        }),
        (0..0o7777_u32, 0..9_u32).prop_map(|(mode, uid)| VolumeSource::Empty { mode, uid, gid: 1 }),
        (option::of(1..u64::MAX), 0..0o7777_u32)
            .prop_map(|(size, mode)| VolumeSource::Tmpfs { size, mode }),
    ]
}

/// Volumes, and mounts of them and of memory.
fn mounted() -> impl Strategy<Value = (Vec<Volume>, Vec<Mount>)> {
    let volumes = vec(sources(), 0..4).prop_map(|sources| {
        let named =
            |(index, source)| Volume { name: label(&format!("v{index}")), source, fill: None };
        sources.into_iter().enumerate().map(named).collect::<Vec<_>>()
    });
    let choices = vec((any::<proptest::sample::Index>(), any::<[bool; 3]>(), 0..0o7777_u32), 4);
    (volumes, places(), choices).prop_map(|(volumes, places, choices)| {
        let mount = |(destination, (index, [read_only, no_exec, memory], mode)): (
            _,
            (proptest::sample::Index, [bool; 3], u32),
        )| {
            let source = if memory || volumes.is_empty() {
                MountSource::Tmpfs { size: Some(u64::from(mode)), mode }
            } else {
                MountSource::Volume(index.get(&volumes).name.clone())
            };
            Mount { destination, source, read_only, no_exec }
        };
        let mounts = places.into_iter().zip(choices).map(mount).collect();
        (volumes, mounts)
    })
}

fn anything() -> impl Strategy<Value = Surrounded> {
    let switches = any::<[bool; 8]>();
    let limits = (
        option::of(1..1_u64 << 61),
        option::of(1_000..1_u64 << 62),
        option::of(1..99_u64),
        option::of(1..1_u64 << 61),
        option::of(1..10_001_u32),
        option::of(1..1_u64 << 62),
    );
    let notes = btree_map("[a-z]{1,3}", word(), 0..3);
    (processes(), mounted(), switches, limits, notes, 0..3_u8).prop_map(
        |(process, (volumes, mounts), switches, limits, notes, kind)| {
            let [root, sys, ids, network, ipc, reaper, late, settings] = switches;
            let mut what = full();
            what.app.process = process;
            what.app.mounts = mounts;
            (what.volumes, what.app.volumes) =
                if late { (Vec::new(), volumes) } else { (volumes, Vec::new()) };
            what.app.read_only_root = root;
            what.app.writable_sys = sys;
            what.app.reaper = reaper;
            what.app.annotations.clone_from(&notes);
            what.app.labels = notes;
            let (memory, quota, pids, swap, weight, rate) = limits;
            let io = |rate: u64| {
                let limit = |minor| IoLimit::of(BlockDevice { major: 8, minor });
                let read_bytes = IoLimit { read_bytes: Some(rate), ..limit(0) };
                [read_bytes, IoLimit { writes: Some(rate), ..limit(16) }]
            };
            let cpu = quota.map(|quota_us| CpuQuota { quota_us, period_us: 5_000 });
            what.app.resources = Resources {
                memory,
                cpu,
                pids,
                swap,
                cpu_weight: weight,
                io_weight: weight,
                memory_high: memory,
                memory_low: memory.filter(|_| pids.is_some()),
                cpuset_cpus: pids.map(|pids| format!("0,{pids}")),
                io: rate.iter().flat_map(|rate| io(*rate)).collect(),
                ..Resources::default()
            };
            what.app.pid = [PidMode::App, PidMode::Pod, PidMode::Host][usize::from(kind)];
            what.app.stdio = [Stdio::Logged, Stdio::Open, Stdio::Terminal][usize::from(kind)];
            what.ids = ids.then_some(IdRange { base: 1 << 20, count: 65_536 });
            what.network = if network { Network::None } else { Network::Host };
            what.ipc = if ipc { Ipc::Pod } else { Ipc::Host };
            if settings {
                what.sysctls.clear();
            }
            what
        },
    )
}

proptest! {
    #[test]
    fn whatever_an_app_is_it_survives_as_a_bundle(what in anything()) {
        prop_assert_eq!(there_and_back(&what), what);
    }
}

/// What a bundle of another tool says in words that are not ours.
#[test]
fn others_words_for_limits_are_understood() {
    let mut document = json(&write(&plain()).unwrap()).unwrap();
    document["linux"]["resources"] = json!({
        "memory": { "limit": 4096, "swap": -1, "reservation": -1 },
        "cpu": { "shares": 1024, "quota": -1, "cpus": "" },
        "pids": { "limit": -1 },
        "blockIO": { "weight": 1000, "throttleReadBpsDevice":
            [{ "major": 8, "minor": 0, "rate": 0 }, { "major": 8, "minor": 16, "rate": 9 }] },
    });
    let read = read(&serde_json::from_value(document).unwrap(), &origin()).unwrap();
    let device = BlockDevice { major: 8, minor: 16 };
    let expected = Resources {
        memory: Some(4096),
        swap: Some(u64::MAX),
        cpu_weight: Some(100),
        io_weight: Some(10_000),
        io: vec![IoLimit { read_bytes: Some(9), ..IoLimit::of(device) }],
        ..Resources::default()
    };
    assert_eq!(read.app.resources, expected);
}
