//! From a pod to the unit that runs it: pure, so that what is sent can be looked at.
//!
//! The unit's command line names the pod and nothing of it: a pod's own words stand in its
//! manifest, for a unit's command line is searched for variables even on the bus.

use pod_abi::app::{AppSpec, Role};
use pod_abi::isolators::{IoLimit, Resources};
use pod_abi::manifest::PodManifest;
use pod_abi::stage::Overhead;

use super::asked;
use super::state::POD_FIELD;
use super::value::{Property, TransientUnit, Value};
use super::vocabulary::{By, KNOWN};
use super::{SLICE, unit_name};
use crate::error::Result;

/// Microseconds of a second.
const SECOND: u64 = 1_000_000;
/// How long a pod may take to end beyond its apps' graces, in microseconds: what the supervisor needs
/// to take down what it has made, with room for a busy host.
const STOP_MARGIN: u64 = 5 * SECOND;
/// The period of quotas of processors where a unit does not say another (`systemd.resource-control(5)`).
const PERIOD: u64 = 100_000;

/// A pod, and how it is called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PodService<'p> {
    /// The pod.
    pub(crate) manifest: &'p PodManifest,
    /// Its apps, the newest generation of each.
    pub(crate) apps: &'p [AppSpec],
    /// What its stage1 takes itself.
    pub(crate) overhead: Overhead,
    /// The command line that becomes its supervisor: the program's absolute path, and its arguments.
    pub(crate) start: &'p [String],
    /// The command line that tells it to read its configuration anew.
    pub(crate) reload: &'p [String],
    /// The command line that takes back what it held, however it ended.
    pub(crate) reap: &'p [String],
}

/// Returns the unit of a pod. [`pod_abi::manifest::Sandbox::resources`] are its limits, with
/// what its stage1 takes around them, and
/// [`pod_abi::manifest::Sandbox::unit_properties`] take the place of ours.
///
/// # Errors
///
/// A usage error for a property the pod's manifest asks for and a pod cannot have.
pub(crate) fn of(pod: &PodService<'_>) -> Result<TransientUnit> {
    let manifest = pod.manifest;
    let text = |text: &str| Value::Text(text.to_owned());
    let mut properties = vec![
        Property::new("Description", Value::Text(description(manifest, pod.apps))),
        Property::optional("Documentation", Value::Texts(vec!["man:pod(1)".to_owned()])),
        Property::new("Slice", text(SLICE)),
        Property::new("Type", text("notify")),
        Property::new("NotifyAccess", text("main")),
        Property::new("ExecStart", Value::Command(pod.start.to_vec())),
        Property::new("ExecReload", Value::Command(pod.reload.to_vec())),
        Property::new("ExecStopPost", Value::Command(pod.reap.to_vec())),
        Property::new("KillMode", text("mixed")),
        Property::new("TimeoutStopUSec", Value::Long(longest_stop(pod.apps))),
        Property::new("Delegate", Value::Bool(true)),
        Property::new("OOMPolicy", text("continue")),
        Property::optional("LogExtraFields", Value::Fields(fields(manifest))),
    ];
    if manifest.remove {
        properties.push(Property::new("CollectMode", text("inactive-or-failed")));
    }
    properties.extend(limits(&pod.overhead.around(&manifest.sandbox.resources)));
    properties.extend(credentials(pod.apps));
    for text in &manifest.sandbox.unit_properties {
        for property in asked::read(text)? {
            put(&mut properties, property);
        }
    }
    Ok(TransientUnit { name: unit_name(&manifest.name), properties })
}

/// Puts a property a user has asked for in the place of ours, or beside it.
fn put(properties: &mut Vec<Property>, asked: Property) {
    let beside = KNOWN.iter().any(|known| known.bus == asked.name && known.by == By::Both);
    match properties.iter_mut().find(|it| it.name == asked.name) {
        Some(known) if beside => known.value.add(asked.value),
        Some(known) => *known = asked,
        None => {
            // A number and a part of the whole are two properties that say one thing.
            let twin = match asked.name.strip_suffix("Scale") {
                Some(name) => name.to_owned(),
                None => format!("{}Scale", asked.name),
            };
            properties.retain(|it| it.name != twin);
            properties.push(asked);
        }
    }
}

/// Returns what `systemctl status` calls the pod.
fn description(manifest: &PodManifest, apps: &[AppSpec]) -> String {
    let names: Vec<&str> = apps.iter().map(|app| app.name.as_str()).collect();
    match names.as_slice() {
        [] => format!("Pod {}", manifest.name),
        [one] if *one == manifest.name.as_str() => format!("Pod {one}"),
        names => format!("Pod {}: {}", manifest.name, names.join(", ")),
    }
}

/// Returns the fields of every line the manager logs of the pod.
fn fields(manifest: &PodManifest) -> Vec<String> {
    vec![format!("{POD_FIELD}{}", manifest.uuid), format!("POD_NAME={}", manifest.name)]
}

/// Returns the microseconds a pod needs to end, at most: its apps are stopped one after the other.
fn longest_stop(apps: &[AppSpec]) -> u64 {
    let graces = |role: Role| {
        let apps = apps.iter().filter(move |app| app.role == role);
        apps.map(|app| app.stop.grace_ms)
    };
    // Init apps run one at a time, and none while others do.
    let main = graces(Role::Main).fold(0, u64::saturating_add);
    let init = graces(Role::Init).max().unwrap_or(0);
    main.max(init).saturating_mul(1000).saturating_add(STOP_MARGIN)
}

/// Returns the properties that hold a unit to limits; what is not named is not limited.
pub(crate) fn limits(resources: &Resources) -> Vec<Property> {
    let long = |name: &str, value: Option<u64>| Some(Property::new(name, Value::Long(value?)));
    let share = |name: &str, value: Option<u32>| long(name, value.map(u64::from));
    let mask = |name: &str, list: &Option<String>| {
        Some(Property::new(name, Value::Mask(mask(list.as_deref()?))))
    };
    // What was said is what may be used: with a limit of memory there is no swap beside it.
    let limited = resources.memory.filter(|memory| *memory != u64::MAX);
    let swap = resources.swap.or(limited.map(|_| 0));
    let period = resources.cpu.map(|cpu| cpu.period_us).filter(|period| *period != PERIOD);
    let quota = resources.cpu.map(|cpu| {
        let quota =
            u128::from(cpu.quota_us) * u128::from(SECOND) / u128::from(cpu.period_us.max(1));
        u64::try_from(quota).unwrap_or(u64::MAX)
    });
    let named = [
        long("MemoryMax", resources.memory),
        long("MemoryHigh", resources.memory_high),
        long("MemoryLow", resources.memory_low),
        long("MemorySwapMax", swap),
        long("TasksMax", resources.pids),
        long("CPUQuotaPerSecUSec", quota),
        long("CPUQuotaPeriodUSec", period),
        share("CPUWeight", resources.cpu_weight),
        mask("AllowedCPUs", &resources.cpuset_cpus),
        mask("AllowedMemoryNodes", &resources.cpuset_mems),
        share("IOWeight", resources.io_weight),
        figures("IOReadBandwidthMax", &resources.io, |io| io.read_bytes),
        figures("IOWriteBandwidthMax", &resources.io, |io| io.write_bytes),
        figures("IOReadIOPSMax", &resources.io, |io| io.reads),
        figures("IOWriteIOPSMax", &resources.io, |io| io.writes),
    ];
    named.into_iter().flatten().collect()
}

/// Returns one of the limits of block devices. The path need not be there: the manager reads the
/// numbers off it.
fn figures(
    name: &str,
    limits: &[IoLimit],
    figure: impl Fn(&IoLimit) -> Option<u64>,
) -> Option<Property> {
    let figures: Vec<(String, u64)> = limits
        .iter()
        .filter_map(|io| {
            let path = format!("/dev/block/{}:{}", io.device.major, io.device.minor);
            Some((path, figure(io)?))
        })
        .collect();
    (!figures.is_empty()).then(|| Property::new(name, Value::Figures(figures)))
}

/// Returns the bits of a list such as `0-3,5`, which was checked to be one
/// ([`Resources::is_sound`]); what is none of it counts for nothing.
pub(super) fn mask(list: &str) -> Vec<u8> {
    let mut mask = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else { continue };
        for number in usize::from(first)..=usize::from(last) {
            if mask.len() <= number / 8 {
                mask.resize(number / 8 + 1, 0);
            }
            mask[number / 8] |= 1 << (number % 8);
        }
    }
    mask
}

/// Takes the pod's id out of its unit, for one that outlives the pod: the next of its name has another.
pub(crate) fn forget_id(unit: &mut TransientUnit) {
    for property in &mut unit.properties {
        if let Value::Fields(fields) = &mut property.value {
            fields.retain(|field| !field.starts_with(POD_FIELD));
        }
    }
}

/// Returns what has the manager read the credentials that stand in files.
fn credentials(apps: &[AppSpec]) -> Option<Property> {
    let mut known: Vec<(String, String)> = Vec::new();
    for credential in apps.iter().flat_map(|app| &app.credentials) {
        // Without a path it is searched for in the host's stores.
        let path = credential.path.clone().unwrap_or_else(|| credential.name.to_string());
        let pair = (credential.name.to_string(), path);
        if !known.contains(&pair) {
            known.push(pair);
        }
    }
    (!known.is_empty()).then(|| Property::new("LoadCredential", Value::Pairs(known)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pod_abi::isolators::CpuQuota;

    fn pod() -> (PodManifest, Vec<AppSpec>) {
        let read = |file: &str| {
            let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/pod-abi/golden/");
            std::fs::read_to_string(format!("{golden}{file}")).unwrap()
        };
        let manifest = serde_json::from_str(&read("pod.3.json")).unwrap();
        let app: AppSpec = serde_json::from_str(&read("app.3.json")).unwrap();
        (manifest, vec![app])
    }

    fn unit(manifest: &PodManifest, apps: &[AppSpec]) -> TransientUnit {
        let words =
            |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        of(&PodService {
            manifest,
            apps,
            overhead: Overhead { memory: 1 << 30, memory_percent: 50, tasks: 3 },
            start: &words(&["/usr/bin/pod", "start", "--supervised", "3f"]),
            reload: &words(&["/usr/bin/pod", "kill", "-s", "HUP", "3f"]),
            reap: &words(&["/usr/bin/pod", "reap", "3f"]),
        })
        .unwrap()
    }

    fn value<'u>(unit: &'u TransientUnit, name: &str) -> Option<&'u Value> {
        let property = unit.properties.iter().find(|property| property.name == name);
        property.map(|property| &property.value)
    }

    #[test]
    fn no_property_is_named_twice() {
        let (manifest, apps) = pod();
        let unit = unit(&manifest, &apps);
        let mut names: Vec<&str> = unit.properties.iter().map(|it| it.name.as_str()).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn what_a_stage1_takes_is_around_the_limits_of_the_pod() {
        let (mut manifest, apps) = pod();
        manifest.sandbox.resources =
            Resources { memory: Some(100 << 20), pids: Some(9), ..Resources::default() };
        let unit = unit(&manifest, &apps);
        let memory = 100 * (1 << 20) + 50 * (1 << 20) + (1 << 30);
        assert_eq!(value(&unit, "MemoryMax"), Some(&Value::Long(memory)));
        assert_eq!(value(&unit, "TasksMax"), Some(&Value::Long(12)));
        assert_eq!(value(&unit, "MemoryHigh"), None);
    }

    #[test]
    fn what_is_asked_for_takes_the_place_of_ours_or_stands_beside_it() {
        let (mut manifest, apps) = pod();
        manifest.sandbox.resources.memory = Some(1 << 20);
        manifest.sandbox.unit_properties = [
            "Description=mine",
            "MemoryMax=50%",
            "MemoryMax=1G",
            "MemoryMax=25%",
            "LogExtraFields=TEAM=web",
            "After=a.service",
            "After=b.service",
            "Restart=always",
        ]
        .map(str::to_owned)
        .into();
        let unit = unit(&manifest, &apps);
        assert_eq!(value(&unit, "Description"), Some(&Value::Text("mine".to_owned())));
        assert_eq!(value(&unit, "MemoryMax"), None);
        assert_eq!(value(&unit, "MemoryMaxScale"), Some(&Value::Unsigned(u32::MAX / 4)));
        let Some(Value::Fields(fields)) = value(&unit, "LogExtraFields") else {
            panic!("{unit:?}")
        };
        assert_eq!(fields.len(), 3);
        let after = ["a.service", "b.service"].map(str::to_owned).into();
        assert_eq!(value(&unit, "After"), Some(&Value::Texts(after)));
    }

    #[test]
    fn a_failed_unit_is_forgotten_only_with_its_pod() {
        let (mut manifest, apps) = pod();
        for remove in [true, false] {
            manifest.remove = remove;
            assert_eq!(value(&unit(&manifest, &apps), "CollectMode").is_some(), remove);
        }
    }

    #[test]
    fn a_stop_takes_as_long_as_all_graces_one_after_the_other() {
        let (_, apps) = pod();
        let with = |role, grace_ms| {
            let mut app = apps[0].clone();
            (app.role, app.stop.grace_ms) = (role, grace_ms);
            app
        };
        let table = [
            (vec![], 5 * SECOND),
            (vec![with(Role::Main, 10_000)], 15 * SECOND),
            (vec![with(Role::Main, 10_000), with(Role::Main, 2_000)], 17 * SECOND),
            (vec![with(Role::Init, 30_000), with(Role::Main, 2_000)], 35 * SECOND),
            (vec![with(Role::Main, u64::MAX)], u64::MAX),
        ];
        for (apps, expected) in table {
            assert_eq!(longest_stop(&apps), expected);
        }
    }

    #[test]
    fn each_limit_is_a_property() {
        let resources = Resources {
            memory: Some(1 << 20),
            cpu: Some(CpuQuota { quota_us: 25_000, period_us: 50_000 }),
            pids: Some(u64::MAX),
            cpuset_cpus: Some("0,9-10".to_owned()),
            ..Resources::default()
        };
        let expected = [
            ("MemoryMax", Value::Long(1 << 20)),
            ("MemorySwapMax", Value::Long(0)),
            ("TasksMax", Value::Long(u64::MAX)),
            ("CPUQuotaPerSecUSec", Value::Long(500_000)),
            ("CPUQuotaPeriodUSec", Value::Long(50_000)),
            ("AllowedCPUs", Value::Mask(vec![1, 6])),
        ];
        let expected: Vec<_> = expected.map(|(name, value)| Property::new(name, value)).into();
        assert_eq!(limits(&resources), expected);
        assert_eq!(limits(&Resources::default()), []);
    }

    #[test]
    fn limits_of_devices_are_told_by_number() {
        let (_, apps) = pod();
        let io = apps[0].resources.io.clone();
        assert!(!io.is_empty(), "the golden app has limits of devices");
        let all = limits(&Resources { io, ..Resources::default() });
        for property in &all {
            let Value::Figures(figures) = &property.value else { panic!("{property:?}") };
            assert!(figures.iter().all(|(path, _)| path.starts_with("/dev/block/")), "{figures:?}");
        }
        assert!(!all.is_empty());
    }
}
