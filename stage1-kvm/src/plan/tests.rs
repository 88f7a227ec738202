//! What machine an order takes, and what is refused: the pure half of this stage1.

use std::collections::BTreeSet;

use pod_abi::VolumeName;
use pod_abi::stage::Order;
use serde_json::{Value, json};

use super::size::{memory_of, room_for_apps};
use super::{Host, Refusal, check_app, check_limits, guest_order, of};

const HOST: Host = Host { processors: 8, memory: 64 << 30 };
const MIB: u64 = 1 << 20;

/// An order of one app, with these words added to its sandbox and its app.
fn order(sandbox: &Value, app: &Value) -> Order {
    let digest = format!("sha256:{}", "a".repeat(64));
    let mut order = json!({
        "abi": 4,
        "pod": {
            "version": 4, "uuid": "abababab-abab-4bab-abab-abababababab", "name": "shop",
            "created": "2026-01-01T00:00:00Z", "remove": false,
            "sandbox": { "stage1": "kvm", "apps": ["web"] },
        },
        "apps": [{ "layers": ["a/layer.erofs", "b/layer.erofs"], "spec": {
            "version": 4, "name": "web",
            "image": { "reference": "x", "manifest": digest, "config": digest,
                       "layers": [digest, digest], "verified": "digest" },
            "process": { "args": ["x"], "cwd": "/", "user": { "uid": 0, "gid": 0 },
                         "noNewPrivileges": true },
        }}],
        "attempt": 1, "ids": { "base": 65536, "count": 65536 }, "output": "shown",
        "resolvConf": "", "hosts": "", "hold": true, "journal": true, "register": true,
        "service": { "unit": "pod-shop.service" },
    });
    let add = |into: &mut Value, more: &Value| {
        let more = more.as_object().into_iter().flatten();
        more.for_each(|(name, value)| into[name] = value.clone());
    };
    add(&mut order["pod"]["sandbox"], sandbox);
    add(&mut order["apps"][0]["spec"], app);
    serde_json::from_value(order).unwrap()
}

fn machine(sandbox: &Value, app: &Value) -> (u64, u8) {
    let plan = of(&order(sandbox, app), HOST).unwrap();
    (plan.memory / MIB, plan.vcpus)
}

#[test]
fn a_machine_is_as_large_as_its_limits_say() {
    let none = json!({});
    assert_eq!(machine(&none, &none), (518, 4));
    let memory = |bytes: u64| json!({ "resources": { "memory": bytes } });
    // 256 MiB, 4 of tables, 128 of the kernel.
    assert_eq!(machine(&memory(256 * MIB), &none).0, 388);
    assert_eq!(machine(&none, &memory(256 * MIB)).0, 388);
    assert_eq!(machine(&memory(64 * MIB), &memory(256 * MIB)).0, 194);
    assert_eq!(machine(&memory(u64::MAX), &none).0, 518);
    // What the host has not cannot be given.
    assert_eq!(machine(&memory(1 << 50), &none).0 * MIB, memory_of(HOST.memory));
    let cpus =
        |quota: u64| json!({ "resources": { "cpu": { "quotaUs": quota, "periodUs": 1000 } } });
    assert_eq!(machine(&cpus(1500), &none).1, 2);
    assert_eq!(machine(&none, &cpus(500)).1, 1);
    assert_eq!(machine(&none, &cpus(100_000)).1, 8);
    let few = Host { processors: 2, ..HOST };
    assert_eq!(of(&order(&none, &none), few).unwrap().vcpus, 2);
}

#[test]
fn a_machine_has_room_for_what_it_was_made_for_and_little_more() {
    for apps in [MIB, 100 * MIB, 511 * MIB, 3 << 30, 100 << 30] {
        let room = room_for_apps(memory_of(apps));
        assert!(room >= apps && room < apps + 2 * MIB, "{apps} {room}");
        assert!(memory_of(room) <= memory_of(apps), "{apps}");
    }
    assert_eq!(room_for_apps(0), 0);
}

#[test]
fn what_no_guest_can_be_is_refused_with_the_way_out() {
    let access = json!({ "read": true, "write": true, "make": false });
    let device = json!({ "source": "/dev/fuse", "destination": "/dev/fuse", "access": access });
    let resources = |limit: Value| json!({ "resources": limit });
    let tracing = |pid: &str| {
        let process = json!({ "args": ["x"], "cwd": "/", "user": { "uid": 0, "gid": 0 },
                              "noNewPrivileges": true, "capabilities": ["CAP_SYS_PTRACE"] });
        json!({ "pid": pid, "process": process })
    };
    let none = json!({});
    let cases = [
        (json!({ "network": "host" }), none.clone(), Refusal::OthersNetwork),
        (json!({ "network": { "path": "/x" } }), none.clone(), Refusal::OthersNetwork),
        (json!({ "ipc": "host" }), none.clone(), Refusal::HostIpc),
        (none.clone(), json!({ "pid": "host" }), Refusal::HostProcesses),
        (none.clone(), tracing("pod"), Refusal::Tracing),
        (none.clone(), json!({ "devices": [device] }), Refusal::Devices),
        (none.clone(), json!({ "sockets": ["web"] }), Refusal::Sockets),
        (none.clone(), resources(json!({ "cpusetCpus": "0" })), Refusal::AppPlacement),
        (none.clone(), resources(json!({ "ioWeight": 7 })), Refusal::AppDisks),
    ];
    for (sandbox, app, refusal) in cases {
        let report = of(&order(&sandbox, &app), HOST).unwrap_err().report();
        assert_eq!(report.code, "stage1.not-given", "{refusal:?}");
        assert_eq!(report.hints, [refusal.row().way_out], "{refusal:?}");
        assert!(report.message.contains(refusal.row().what), "{}", report.message);
    }
    assert!(of(&order(&none, &tracing("app")), HOST).is_ok(), "it sees no process but its own");
    // For the whole pod they hold for the machine.
    let placed = json!({ "resources": { "cpusetCpus": "0", "ioWeight": 7 } });
    assert!(of(&order(&placed, &none), HOST).is_ok());
}

#[test]
fn every_row_of_refusals_is_a_row() {
    let rows: BTreeSet<_> = Refusal::ALL.iter().map(|one| one.row().what).collect();
    assert_eq!(rows.len(), Refusal::ALL.len());
    for row in Refusal::ALL.map(Refusal::row) {
        assert!(!row.why.is_empty() && !row.way_out.is_empty() && !row.why.ends_with('.'));
    }
}

fn host_volumes(count: usize) -> Value {
    let volumes: Vec<_> = (0..count)
        .map(|n| json!({ "name": format!("v{n}"), "source": { "host": { "path": "/srv" } } }))
        .collect();
    json!({ "volumes": volumes })
}

#[test]
fn volumes_of_the_host_are_shared_and_only_written_if_an_app_writes() {
    let mount = |volume: &str, read_only: bool| {
        json!({ "destination": format!("/{volume}"), "source": { "volume": volume },
            "readOnly": read_only })
    };
    let mounts = json!({ "mounts": [mount("v0", true), mount("v1", true), mount("v1", false)] });
    let order = order(&host_volumes(3), &mounts);
    let shares = of(&order, HOST).unwrap().shares;
    let read_only: Vec<_> = shares.iter().map(|share| share.read_only).collect();
    assert_eq!(read_only, [true, false, true]);
    let many = self::order(&host_volumes(9), &json!({}));
    let report = of(&many, HOST).unwrap_err().report();
    assert_eq!(report.hints, [Refusal::ManyShares.row().way_out]);
}

#[test]
fn a_guest_learns_nothing_that_is_only_the_hosts() {
    let limits = json!({ "memory": 5, "cpusetCpus": "0", "cpuWeight": 3, "pids": 9 });
    let mut sandbox = host_volumes(2);
    sandbox["resources"] = limits;
    sandbox["userns"] = json!("host");
    let host = order(&sandbox, &json!({}));
    let files = BTreeSet::from([VolumeName::parse("v1").unwrap()]);
    let guest = guest_order(&host, &files);
    assert!(guest.ids.is_none() && guest.service.is_none() && !guest.hold && !guest.journal);
    let text = serde_json::to_string(&guest).unwrap();
    assert!(!text.contains("/srv") && !text.contains("cpuset"), "{text}");
    assert!(text.contains("\"/shares/v0\"") && text.contains("\"/shares/v1/file\""), "{text}");
    let resources = &guest.pod.sandbox.resources;
    assert_eq!((resources.memory, resources.pids), (Some(5), Some(9)));
    assert_eq!(resources.cpu_weight, None);
}

#[test]
fn what_comes_later_is_refused_if_a_machine_cannot_get_it_later() {
    let volume =
        json!({ "volumes": [{ "name": "late", "source": { "host": { "path": "/srv" } } }] });
    let late = order(&json!({}), &volume).apps.remove(0);
    let report = check_app(&late).unwrap_err().report();
    assert_eq!(report.hints, [Refusal::LateVolume.row().way_out]);
    let empty = json!({ "volumes": [{ "name": "late", "source": { "empty": { "mode": 493 } } }] });
    assert!(check_app(&order(&json!({}), &empty).apps[0]).is_ok());
    let limits = pod_abi::isolators::Resources { io_weight: Some(3), ..Default::default() };
    assert!(check_limits(&late.spec.name, &limits).is_err());
}

#[test]
fn a_monitor_is_never_root_of_the_host() {
    let mut order = order(&json!({ "userns": "host" }), &json!({}));
    assert_eq!(of(&order, HOST).unwrap().user, 65536);
    for ids in [None, Some(pod_abi::stage::IdRange { base: 0, count: 65536 })] {
        order.ids = ids;
        assert_eq!(of(&order, HOST).unwrap_err().report().code, "stage1.order");
    }
}

#[test]
fn a_layer_that_leads_elsewhere_is_none() {
    for wrong in ["../x", "/etc/passwd", "a//b", "."] {
        let mut order = order(&json!({}), &json!({}));
        order.apps[0].layers[1] = wrong.to_owned();
        assert_eq!(of(&order, HOST).unwrap_err().report().code, "stage1.order", "{wrong}");
    }
}

#[test]
fn the_plan_is_printed_one_thing_a_line() {
    let text = of(&order(&host_volumes(1), &json!({})), HOST).unwrap().to_string();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "memory: 518 MiB");
    assert_eq!(lines[1], "virtual processors: 4");
    assert_eq!(lines[2], "monitor: user 65536 of the host");
    assert!(lines[3].starts_with("kernel: console=ttyS0 "));
    assert_eq!(lines[4], "disk of images: `a/layer.erofs`");
    assert_eq!(lines[6], "share: volume `v0`, `/srv`, read-only");
}

/// CVE-2020-27151: an annotation named the program of the host that was run as the monitor.
#[test]
fn no_document_names_the_monitor_or_the_kernel() {
    let plain = of(&order(&json!({}), &json!({})), HOST).unwrap();
    for name in [
        "monitor",
        "vmm",
        "hypervisor",
        "kernel",
        "vmlinux",
        "initramfs",
        "initrd",
        "commandLine",
        "virtiofsd",
        "fsd",
        "firmware",
    ] {
        let field = json!({ name: "/tmp/evil" });
        let whole = serde_json::to_value(order(&json!({}), &json!({}))).unwrap();
        for place in ["", "/pod", "/pod/sandbox", "/apps/0", "/apps/0/spec", "/apps/0/spec/image"] {
            let mut changed = whole.clone();
            changed.pointer_mut(place).unwrap()[name] = json!("/tmp/evil");
            assert!(serde_json::from_value::<Order>(changed).is_err(), "{place}: {name}");
        }
        // As a word of a user it means nothing.
        let keys = [name.to_owned(), format!("io.katacontainers.config.hypervisor.{name}")];
        for key in keys {
            let annotations = json!({ "annotations": { key: "/tmp/evil" } });
            let plan = of(&order(&annotations, &annotations), HOST).unwrap();
            assert_eq!(plan, plain, "{field}");
        }
    }
}
