//! What must hold of every plan, and the steps of one as they are printed.

use pod_abi::app::{AppSpec, LogOptions, Mount, Process, Restart, Stop, User, Verified};
use pod_abi::app::{ImagePin, MountSource, PidMode};
use pod_abi::credential::{Credential, CredentialName};
use pod_abi::isolators::{
    Capabilities, Capability, CpuQuota, Device, DeviceAccess, Resources, Seccomp,
};
use pod_abi::manifest::{
    ExitPolicy, Insecure, Ipc, Layers, OomPolicy, PodManifest, Sandbox, Userns,
};
use pod_abi::readiness::Readiness;
use pod_abi::stage::Output;
use pod_abi::volume::{Fill, Volume, VolumeSource};
use pod_abi::{Digest, PodId, PodName, PodPath, Timestamp, VolumeName};

use super::*;

fn digest() -> Digest {
    Digest::from_hash(&[1; 32]).unwrap()
}

fn spec(name: &str, mounts: Vec<Mount>) -> AppSpec {
    AppSpec {
        version: 1,
        name: AppName::parse(name).unwrap(),
        image: ImagePin {
            reference: "example.org/image".to_owned(),
            manifest: digest(),
            config: digest(),
            layers: vec![digest(), digest()],
            verified: Verified::Digest,
        },
        process: Process {
            args: vec!["true".to_owned()],
            env: Vec::new(),
            cwd: PodPath::parse("/").unwrap(),
            user: User { uid: 33, gid: 7, additional_gids: Vec::new(), umask: None },
            capabilities: Capabilities::default_set(),
            no_new_privileges: true,
            seccomp: Seccomp::Default,
            rlimits: Vec::new(),
            oom_score_adj: None,
        },
        read_only_root: true,
        mounts,
        masked_paths: Vec::new(),
        read_only_paths: Vec::new(),
        pid: PidMode::App,
        restart: Restart::No,
        stop: Stop::default(),
        readiness: Readiness::Started,
        log: LogOptions::default(),
        labels: std::collections::BTreeMap::new(),
        annotations: std::collections::BTreeMap::new(),
        role: Default::default(),
        after: Vec::new(),
        stdio: Default::default(),
        reaper: false,
        writable_sys: false,
        devices: Vec::new(),
        resources: Default::default(),
        volumes: Vec::new(),
        credentials: Vec::new(),
        sockets: Vec::new(),
    }
}

fn mount(destination: &str, volume: &str) -> Mount {
    Mount {
        destination: PodPath::parse(destination).unwrap(),
        source: MountSource::Volume(VolumeName::parse(volume).unwrap()),
        read_only: false,
        no_exec: false,
    }
}

fn order(mounts: Vec<Mount>) -> Order {
    let volume =
        |name: &str, source| Volume { name: VolumeName::parse(name).unwrap(), source, fill: None };
    let spec = spec("web", mounts);
    let sandbox = Sandbox {
        hostname: None,
        stage1: "ns".to_owned(),
        userns: Userns::Auto,
        network: Network::None,
        volumes: vec![
            volume(
                "data",
                VolumeSource::Host { path: "/srv/data".to_owned(), without_submounts: false },
            ),
            volume("cache", VolumeSource::Empty { mode: 0o1777, uid: 0, gid: 0 }),
        ],
        apps: vec![spec.name.clone()],
        exit_policy: ExitPolicy::AnyFailure,
        labels: std::collections::BTreeMap::new(),
        annotations: std::collections::BTreeMap::new(),
        ipc: Default::default(),
        sysctls: std::collections::BTreeMap::new(),
        dns: None,
        hosts: Vec::new(),
        insecure: std::collections::BTreeSet::new(),
        resources: Default::default(),
        oom_policy: Default::default(),
        unit_properties: Vec::new(),
        journal: Default::default(),
        scratch: None,
        layers: Layers::Plain,
        ports: Vec::new(),
    };
    Order {
        abi: 3,
        pod: PodManifest {
            version: 1,
            uuid: PodId::from_random([0xab; 16]),
            name: PodName::parse("shop").unwrap(),
            created: Timestamp(0),
            remove: true,
            sandbox,
        },
        apps: vec![AppOrder {
            spec,
            layers: vec!["base".to_owned(), "top".to_owned()],
            seals: Vec::new(),
        }],
        attempt: 1,
        ids: Some(IdRange { base: 100_000, count: 65_536 }),
        output: Output::Logged,
        resolv_conf: "nameserver 192.0.2.1\n".to_owned(),
        hosts: "127.0.0.1 localhost\n".to_owned(),
        hold: false,
        service: None,
        sockets: Vec::new(),
        credentials: Vec::new(),
        journal: false,
        register: false,
    }
}

#[test]
fn a_plan_is_printed_step_by_step() {
    let mounts = vec![mount("/data/wal", "cache"), mount("/data", "data")];
    let printed = plan(&order(mounts)).unwrap().to_string();
    assert_eq!(
        printed,
        "  1 pod: make cgroup `pod`
  2 pod: make cgroup `pod/init`
  3 pod: make cgroup `pod/app-web`
  4 pod: start PID 1 in new namespaces: user, pid, ipc, uts, network, mount; ids from 100000
  5 pod: stage the layers
  6 pod: stage the writable layer of app `web`
  7 pod: stage `/srv/data` as volume `data`
  8 pod: make and stage volumes `cache` (mode 1777)
  9 pod: make the pod's shared memory
 10 pod: write `/etc/resolv.conf`, 21 bytes
 11 pod: write `/etc/hosts`, 20 bytes
 12 pod: write `/etc/hostname`, 5 bytes
 13 app `web`: join the pod's namespaces: ipc, uts, network
 14 app `web`: make files as id 100000
 15 app `web`: mount a volatile overlay of 2 layers
 16 app `web`: link `/etc/mtab`, if missing
 17 app `web`: mount `/proc`
 18 app `web`: mount `/sys` read-only
 19 app `web`: mount `/dev` with its devices
 20 app `web`: mount volume `data` at `/data`
 21 app `web`: mount volume `cache` at `/data/wal`
 22 app `web`: mount the pod's shared memory at `/dev/shm`
 23 app `web`: mount `/etc/hostname` read-only
 24 app `web`: mount `/etc/hosts` read-only
 25 app `web`: mount `/etc/resolv.conf` read-only
 26 app `web`: make the root read-only
 27 app `web`: make the tree the root
 28 app `web`: lock every mount in the pod's user namespace
"
    );
}

#[test]
fn outer_mounts_come_before_inner_ones() {
    let places = ["/a/b/c", "/a", "/z", "/a/b"];
    let mounts = places.iter().map(|place| mount(place, "data")).collect();
    let steps = plan(&order(mounts)).unwrap().apps.remove(0).steps;
    let mounted: Vec<_> = steps
        .iter()
        .filter_map(|step| match step {
            TreeStep::Volume(volume) => Some(volume.destination.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(mounted, ["/a", "/z", "/a/b", "/a/b/c"]);
}

#[test]
fn nothing_is_mounted_after_the_root_is_closed() {
    let steps = plan(&order(vec![mount("/a", "data")])).unwrap().apps.remove(0).steps;
    let closed = steps.iter().position(|step| *step == TreeStep::ReadOnlyRoot).unwrap();
    let rest = [TreeStep::ReadOnlyRoot, TreeStep::Pivot, TreeStep::Lock];
    assert_eq!(steps[closed..], rest);
}

#[test]
fn what_the_user_mounts_at_a_place_of_ours_replaces_ours() {
    let mounts = vec![mount("/etc/hosts", "data"), mount("/dev/shm", "cache")];
    let steps = plan(&order(mounts)).unwrap().apps.remove(0).steps;
    assert!(!steps.contains(&TreeStep::Shm));
    assert!(!steps.contains(&TreeStep::File(EtcFile::Hosts)));
    assert!(steps.contains(&TreeStep::File(EtcFile::ResolvConf)));
    let steps = plan(&order(vec![mount("/etc", "data")])).unwrap().apps.remove(0).steps;
    assert!(!steps.iter().any(|step| matches!(step, TreeStep::File(_))));
    assert!(steps.contains(&TreeStep::Shm));
}

#[test]
fn credentials_come_after_all_other_mounts_and_before_the_root_is_closed() {
    let mut order = order(vec![mount("/run", "data")]);
    let key: CredentialName = "key".parse().unwrap();
    order.apps[0].spec.credentials = vec![Credential { name: key.clone(), path: None }];
    order.credentials = vec![key.clone()];
    for flavour in [Flavour::Ns, Flavour::Fly] {
        if flavour == Flavour::Fly {
            order =
                Order { credentials: order.credentials, apps: order.apps, ..flying(Vec::new()) };
            order.apps[0].spec.mounts.clear();
            order.apps[0].spec.pid = PidMode::Host;
        }
        let steps = of(&order, flavour).unwrap().apps.remove(0).steps;
        let owner = order.ids.map_or((33, 7), |ids| (ids.base + 33, ids.base + 7));
        let last = steps.iter().position(|step| *step == TreeStep::ReadOnlyRoot).unwrap();
        assert_eq!(steps[last - 1], TreeStep::Credentials { names: vec![key.clone()], owner });
    }
}

#[test]
fn what_was_not_handed_over_is_missed_before_anything_is_made() {
    let code = |order: &Order| of(order, Flavour::Ns).unwrap_err().report().code;
    let mut order = order(Vec::new());
    order.apps[0].spec.sockets = vec!["http".parse().unwrap()];
    assert_eq!(code(&order), "socket.missing");
    order.sockets = vec!["http".parse().unwrap()];
    order.apps[0].spec.credentials = vec![Credential { name: "key".parse().unwrap(), path: None }];
    assert_eq!(code(&order), "credential.missing");
    order.credentials = vec!["key".parse().unwrap()];
    assert!(of(&order, Flavour::Ns).is_ok());
}

#[test]
fn in_a_guest_the_plan_is_that_of_a_pod_without_ids_of_its_own() {
    let mut order = Order { ids: None, ..order(Vec::new()) };
    let guest = of(&order, Flavour::Guest).unwrap();
    assert_eq!(guest, of(&order, Flavour::Ns).unwrap());
    assert!(!guest.namespaces.contains(&Namespace::User));
    // The host's processes are as far away as anything of the host.
    order.apps[0].spec.pid = PidMode::Host;
    let report = of(&order, Flavour::Guest).unwrap_err().report();
    assert_eq!(report.code, "stage1.not-given");
    assert!(report.message.contains("stage1 `kvm`"), "{}", report.message);
}

#[test]
fn pipes_belong_to_the_app_as_the_host_counts() {
    let mut order = order(Vec::new());
    assert_eq!(plan(&order).unwrap().apps[0].owner, (100_033, 100_007));
    order.ids = None;
    assert_eq!(plan(&order).unwrap().apps[0].owner, (33, 7));
}

#[test]
fn an_id_outside_the_range_is_refused() {
    let mut order = order(Vec::new());
    order.apps[0].spec.process.user.uid = 65_536;
    let report = plan(&order).unwrap_err().report();
    assert_eq!(report.code, "app.user-range");
    order.ids = None;
    assert!(plan(&order).is_ok());
}

#[test]
fn a_pod_on_the_hosts_ids_and_network_has_fewer_namespaces() {
    let mut order = order(Vec::new());
    order.ids = None;
    order.pod.sandbox.network = Network::Host;
    let plan = plan(&order).unwrap();
    let four = [Namespace::Pid, Namespace::Ipc, Namespace::Uts, Namespace::Mount];
    assert_eq!(plan.namespaces, four);
    assert!(!plan.apps[0].steps.contains(&TreeStep::Lock));
}

#[test]
fn a_layer_is_a_name_beneath_the_layers_and_nothing_else() {
    for bad in ["", "/etc", "..", "a/../../b", "a//b", ".", "a\0b"] {
        let mut order = order(Vec::new());
        order.apps[0].layers = vec![bad.to_owned()];
        assert!(plan(&order).is_err(), "{bad:?}");
    }
}

#[test]
fn volumes_are_whole_before_any_app_is_laid_out() {
    let mut order = order(vec![mount("/data", "data"), mount("/scratch", "memory")]);
    let volumes = &mut order.pod.sandbox.volumes;
    let fill = |app: &str| {
        Some(Fill { app: AppName::parse(app).unwrap(), path: PodPath::parse("/srv").unwrap() })
    };
    volumes[0].fill = fill("web");
    volumes[0].source =
        VolumeSource::Host { path: "/srv/data".to_owned(), without_submounts: true };
    volumes[1].source = VolumeSource::Empty { mode: 0o700, uid: 33, gid: 7 };
    volumes.push(Volume {
        name: VolumeName::parse("memory").unwrap(),
        source: VolumeSource::Tmpfs { size: Some(4096), mode: 0o1777 },
        fill: None,
    });
    let staging: Vec<_> = plan(&order).unwrap().staging.iter().map(ToString::to_string).collect();
    assert_eq!(
        staging[2..6],
        [
            "stage `/srv/data` without what is mounted beneath as volume `data`",
            "make volume `memory` in memory",
            "make and stage volumes `cache` (mode 700, owner 33:7)",
            "fill volume `data`, if empty, from `/srv` of 2 layers",
        ]
    );
    order.pod.sandbox.volumes[2].fill = fill("web");
    assert_eq!(plan(&order).unwrap_err().report().code, "volume.fill");
    order.pod.sandbox.volumes[2].fill = None;
    order.pod.sandbox.volumes[0].fill = fill("other");
    assert_eq!(plan(&order).unwrap_err().report().code, "stage1.order");
    order.pod.sandbox.volumes[0].fill = None;
    order.pod.sandbox.volumes[1].source = VolumeSource::Empty { mode: 0o700, uid: 0, gid: 65_536 };
    assert_eq!(plan(&order).unwrap_err().report().code, "volume.owner");
}

#[test]
fn what_is_the_hosts_is_neither_made_nor_joined() {
    let mut order = order(Vec::new());
    order.pod.sandbox.ipc = Ipc::Host;
    let planned = plan(&order).unwrap();
    assert!(!planned.namespaces.contains(&Namespace::Ipc));
    assert!(planned.staging.contains(&StagingStep::HostShm));
    let joined = TreeStep::JoinNamespaces(vec![Namespace::Uts, Namespace::Network]);
    assert_eq!(planned.apps[0].steps[0], joined);
}

#[test]
fn a_device_comes_after_the_mount_it_lies_in() {
    let mut order = order(vec![mount("/data", "data")]);
    let device = |destination: &str| Device {
        source: "/dev/fuse".to_owned(),
        destination: PodPath::parse(destination).unwrap(),
        access: DeviceAccess { read: true, write: true, make: true },
    };
    order.apps[0].spec.devices = vec![device("/data/x/fuse"), device("/dev/fuse")];
    let steps = plan(&order).unwrap().apps.remove(0).steps;
    let at = |wanted: &str| steps.iter().position(|step| step.to_string().contains(wanted));
    assert!(at("mount `/dev`") < at("at `/dev/fuse`"));
    assert!(at("volume `data`") < at("at `/data/x/fuse`"));
    assert!(at("at `/data/x/fuse`") < at("make the root read-only"));
}

fn flying(mounts: Vec<Mount>) -> Order {
    let mut order = order(mounts);
    order.ids = None;
    let sandbox = &mut order.pod.sandbox;
    (sandbox.userns, sandbox.network, sandbox.ipc) = (Userns::Host, Network::Host, Ipc::Host);
    order.apps[0].spec.pid = PidMode::Host;
    order
}

#[test]
fn a_pod_that_flies_has_no_wall_and_the_hosts_trees() {
    let plan = of(&flying(vec![mount("/data", "data")]), Flavour::Fly).unwrap();
    assert_eq!(plan.namespaces, [Namespace::Mount]);
    let text = plan.to_string();
    for there in ["mount `/proc` of the host", "mount `/dev` of the host", "volume `data`"] {
        assert!(text.contains(there), "{there}\n{text}");
    }
    for gone in ["join", "lock", "shared memory", "hostname"] {
        assert!(!text.contains(gone), "{gone}\n{text}");
    }
}

#[test]
fn what_only_a_wall_could_give_is_refused_without_one() {
    type Change = fn(&mut Order);
    let network = |order: &mut Order| order.pod.sandbox.network = Network::None;
    let userns = |order: &mut Order| order.pod.sandbox.userns = Userns::Auto;
    let ipc = |order: &mut Order| order.pod.sandbox.ipc = Ipc::Pod;
    let hostname =
        |order: &mut Order| order.pod.sandbox.hostname = Some(PodName::parse("x").unwrap());
    let sysctl = |order: &mut Order| {
        order.pod.sandbox.sysctls.insert("net.x".to_owned(), "1".to_owned());
    };
    let pid = |order: &mut Order| order.apps[0].spec.pid = PidMode::App;
    let changes: [(Change, &str); 6] = [
        (network, "a network of its own"),
        (userns, "user ids of its own"),
        (ipc, "IPC of its own"),
        (hostname, "a hostname of its own"),
        (sysctl, "kernel settings of its own"),
        (pid, "processes of its own"),
    ];
    for (change, what) in changes {
        let mut order = flying(Vec::new());
        change(&mut order);
        let report = of(&order, Flavour::Fly).unwrap_err().report();
        assert!(report.message.contains(what), "{report:?}");
        assert!(report.hints[0].contains("--stage1 ns"), "{report:?}");
    }
    let mut walled = order(Vec::new());
    walled.apps[0].spec.pid = PidMode::Host;
    assert!(of(&walled, Flavour::Ns).is_err());
}

#[test]
fn no_app_that_can_trace_pid_1_has_the_hosts_ids() {
    for (userns, pid, capability, refused) in [
        (Userns::Host, PidMode::Pod, Capability::SysPtrace, true),
        (Userns::Auto, PidMode::Pod, Capability::SysPtrace, false),
        (Userns::Host, PidMode::App, Capability::SysPtrace, false),
        (Userns::Host, PidMode::Pod, Capability::Chown, false),
    ] {
        let mut order = order(Vec::new());
        if userns == Userns::Host {
            order.ids = None;
        }
        order.pod.sandbox.userns = userns;
        order.apps[0].spec.pid = pid;
        order.apps[0].spec.process.capabilities = Capabilities([capability].into());
        let planned = of(&order, Flavour::Ns);
        let words = (userns, pid, capability);
        assert_eq!(planned.is_err(), refused, "{words:?}");
        let message = planned.map_or_else(|failure| failure.report().message, |_| String::new());
        assert_eq!(message.contains("`--pid pod` and `CAP_SYS_PTRACE`"), refused, "{message}");
    }
}

#[test]
fn limits_are_files_of_the_apps_cgroup() {
    let mut order = order(Vec::new());
    assert!(plan(&order).unwrap().apps[0].quotas.is_empty());
    let cpu = Some(CpuQuota { quota_us: 150_000, period_us: 100_000 });
    order.apps[0].spec.resources =
        Resources { memory: Some(64 << 20), cpu, pids: Some(9), ..Resources::default() };
    order.pod.sandbox.resources.pids = Some(20);
    order.pod.sandbox.oom_policy = OomPolicy::Kill;
    order.apps[0].spec.resources.memory_low = Some(4096);
    let plan = plan(&order).unwrap();
    let files = |quotas: &[Quota]| quotas.iter().map(Quota::to_string).collect::<Vec<_>>();
    assert_eq!(
        files(&plan.apps[0].quotas),
        [
            "`67108864` to `memory.max`",
            "`4096` to `memory.low`",
            "`0` to `memory.swap.max`",
            "`150000 100000` to `cpu.max`",
            "`9` to `pids.max`",
            "`1` to `memory.oom.group`",
        ]
    );
    assert_eq!(files(&plan.quotas), ["`20` to `pids.max`"]);
    assert_eq!(files(&plan.passed_on), ["`max` to `memory.low`"]);
}

#[test]
fn an_app_is_held_to_its_devices_where_nothing_else_does_it() {
    let device = |read, write| Device {
        source: "/dev/fuse".to_owned(),
        destination: PodPath::parse("/dev/fuse").unwrap(),
        access: DeviceAccess { read, write, make: true },
    };
    let held = |change: &dyn Fn(&mut Order)| {
        let mut order = order(Vec::new());
        change(&mut order);
        plan(&order).unwrap().apps.remove(0).held_to.is_some()
    };
    let with = |order: &mut Order, power| {
        order.ids = None;
        order.apps[0].spec.process.capabilities.0.insert(power);
    };
    assert!(!held(&|_| {}));
    assert!(!held(&|order| order.ids = None));
    assert!(!held(&|order| order.apps[0].spec.devices = vec![device(true, true)]));
    assert!(held(&|order| order.apps[0].spec.devices = vec![device(true, false)]));
    assert!(held(&|order| order.apps[0].spec.devices = vec![device(false, true)]));
    for power in [Capability::Mknod, Capability::SysAdmin] {
        assert!(held(&|order| with(order, power)));
        assert!(!held(&|order| {
            with(order, power);
            order.pod.sandbox.insecure.insert(Insecure::Paths);
        }));
        assert!(!held(&|order| {
            with(order, power);
            order.apps[0].spec.writable_sys = true;
        }));
    }
}

#[test]
fn what_is_enforced_is_printed_too() {
    let mut order = order(Vec::new());
    order.pod.sandbox.sysctls.insert("kernel.sem".to_owned(), "1 2 3 4".to_owned());
    order.apps[0].spec.resources.pids = Some(9);
    order.apps[0].spec.process.capabilities.0.insert(Capability::Mknod);
    order.ids = None;
    let printed = plan(&order).unwrap().to_string();
    for line in [
        "pod: set `kernel.sem` to `1 2 3 4`",
        "app `web`: write `9` to `pids.max` in its cgroup",
        "app `web`: hold it to the devices of every app and 0 more",
    ] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
}

#[test]
fn an_app_that_comes_later_is_planned_with_what_it_mounts_alone() {
    let mut order = order(vec![mount("/data", "data")]);
    order.pod.sandbox.volumes[0].fill =
        Some(Fill { app: AppName::parse("web").unwrap(), path: PodPath::parse("/srv").unwrap() });
    let mut app = order.apps[0].clone();
    app.spec.name = AppName::parse("late").unwrap();
    let there = order.pod.sandbox.volumes.clone();
    let plan = addition(&order, &app, there.iter(), Flavour::Ns).unwrap();
    assert_eq!(plan.apps.len(), 1);
    assert!(plan.cgroups.last().unwrap().ends_with("/app-late"));
    let of_web = StagingStep::AppDirectory(AppName::parse("web").unwrap());
    assert!(!plan.staging.contains(&of_web));
    let volumes = plan.staging.iter().filter(|step| matches!(step, StagingStep::HostVolume(_)));
    assert_eq!(volumes.count(), 1);
    // What was filled, or begun to be, is not filled again from an app that may be gone.
    assert!(!plan.staging.iter().any(|step| matches!(step, StagingStep::Fill(_))));
}
