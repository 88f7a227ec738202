//! Orders for trials.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};

use pod_abi::app::{
    AppSpec, ImagePin, LogOptions, Mount, PidMode, Process, Restart, Stdio, Stop, User, Verified,
};
use pod_abi::isolators::{Capabilities, Seccomp};
use pod_abi::manifest::{ExitPolicy, Network, PodManifest, Sandbox, Userns};
use pod_abi::readiness::Readiness;
use pod_abi::stage::{AppOrder, Order, Output};
use pod_abi::volume::Volume;
use pod_abi::{AppName, Digest, PodId, PodName, PodPath, Timestamp};

/// The layer every app has.
pub(crate) const LAYER: &str = "key/layer.erofs";

pub(crate) fn name(word: &str) -> AppName {
    AppName::parse(word).unwrap()
}

/// A process of our program, as a user that is not root.
pub(crate) fn process(words: &[&str]) -> Process {
    let args = ["/trial", "app"].iter().chain(words).map(|&word| word.to_owned()).collect();
    Process {
        args,
        env: Vec::new(),
        cwd: PodPath::parse("/").unwrap(),
        user: User { uid: 33, gid: 7, additional_gids: Vec::new(), umask: None },
        capabilities: Capabilities(BTreeSet::new()),
        no_new_privileges: true,
        seccomp: Seccomp::Default,
        rlimits: Vec::new(),
        oom_score_adj: None,
    }
}

pub(crate) fn app(word: &str, words: &[&str], stdio: Stdio) -> AppOrder {
    let digest = || Digest::from_hash(&[1; 32]).unwrap();
    let spec = AppSpec {
        version: 1,
        name: name(word),
        image: ImagePin {
            reference: "example.org/image".to_owned(),
            manifest: digest(),
            config: digest(),
            layers: vec![digest()],
            verified: Verified::Digest,
        },
        process: process(words),
        read_only_root: false,
        mounts: Vec::<Mount>::new(),
        masked_paths: Vec::new(),
        read_only_paths: Vec::new(),
        pid: PidMode::App,
        restart: Restart::No,
        stop: Stop::default(),
        readiness: Readiness::Started,
        log: LogOptions::default(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        role: Default::default(),
        after: Vec::new(),
        stdio,
        reaper: false,
        writable_sys: false,
        devices: Vec::new(),
        resources: Default::default(),
        volumes: Vec::new(),
        credentials: Vec::new(),
        sockets: Vec::new(),
    };
    AppOrder { spec, layers: vec![LAYER.to_owned()], seals: Vec::new() }
}

pub(crate) fn order(apps: Vec<AppOrder>, volumes: Vec<Volume>) -> Order {
    let names = apps.iter().map(|app| app.spec.name.clone()).collect();
    let credentials = apps
        .iter()
        .flat_map(|app| app.spec.credentials.iter().map(|one| one.name.clone()))
        .collect();
    let sandbox = Sandbox {
        hostname: None,
        stage1: "kvm".to_owned(),
        userns: Userns::Auto,
        network: Network::None,
        volumes,
        apps: names,
        exit_policy: ExitPolicy::All,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        ipc: Default::default(),
        sysctls: BTreeMap::new(),
        dns: None,
        hosts: Vec::new(),
        insecure: BTreeSet::new(),
        resources: Default::default(),
        oom_policy: Default::default(),
        unit_properties: Vec::new(),
        journal: Default::default(),
        scratch: None,
        layers: Default::default(),
        ports: Vec::new(),
    };
    Order {
        abi: pod_abi::version::STAGE_ABI,
        pod: PodManifest {
            version: pod_abi::version::MANIFEST,
            uuid: PodId::from_random(unique()),
            name: PodName::parse("shop").unwrap(),
            created: Timestamp(0),
            remove: true,
            sandbox,
        },
        apps,
        attempt: 1,
        ids: None,
        output: Output::Logged,
        resolv_conf: String::new(),
        hosts: "127.0.0.1 localhost\n".to_owned(),
        hold: false,
        service: None,
        sockets: Vec::new(),
        credentials,
        journal: false,
        register: false,
    }
}

/// Bytes no other pod has: its cgroup is named by them, and trials may run beside each other.
fn unique() -> [u8; 16] {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let mut bytes = [0xab; 16];
    bytes[..4].copy_from_slice(&std::process::id().to_le_bytes());
    bytes[4..8].copy_from_slice(&TAKEN.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    bytes
}
