//! `linux` of a bundle: namespaces, ids, settings, devices, what is hidden.

use std::collections::BTreeMap;
use std::path::Path;

use oci_spec::runtime as oci;
use oci_spec::runtime::LinuxNamespaceType as Kind;
use pod_abi::PodPath;
use pod_abi::app::PidMode;
use pod_abi::isolators::{Device, DeviceAccess, Resources};
use pod_abi::manifest::{Ipc, Network};
use pod_abi::stage::IdRange;

use super::unspoken::Unspoken;
use super::{BundleError, Node, Result, Surrounded, absent, resources, seccomp, unsupported};

/// Writes how an app is isolated.
pub(super) fn write(what: &Surrounded) -> Result<oci::Linux> {
    let app = &what.app;
    let paths = |paths: &[PodPath]| Some(paths.iter().map(ToString::to_string).collect());
    let devices = devices(what)?;
    let settings = what.sysctls.clone().into_iter().collect();
    let seccomp = seccomp::write(&app.process.seccomp, &app.process.capabilities)?;
    let mut linux = oci::Linux::default();
    linux
        .set_uid_mappings(mapping(what.ids)?)
        .set_gid_mappings(mapping(what.ids)?)
        .set_sysctl((!what.sysctls.is_empty()).then_some(settings))
        .set_resources(limits_of(&app.resources, &devices)?)
        .set_namespaces(Some(namespaces(what)?))
        .set_devices((!devices.is_empty()).then(|| devices.into_iter().map(|(it, _)| it).collect()))
        .set_seccomp(seccomp)
        .set_rootfs_propagation(Some("private".to_owned()))
        .set_masked_paths(paths(&app.masked_paths))
        .set_readonly_paths(paths(&app.read_only_paths));
    Ok(linux)
}

fn mapping(ids: Option<IdRange>) -> Result<Option<Vec<oci::LinuxIdMapping>>> {
    let Some(IdRange { base, count }) = ids else { return Ok(None) };
    let builder = oci::LinuxIdMappingBuilder::default().container_id(0_u32);
    Ok(Some(vec![builder.host_id(base).size(count).build()?]))
}

fn namespaces(what: &Surrounded) -> Result<Vec<oci::LinuxNamespace>> {
    let own = [
        (Kind::User, what.ids.is_some()),
        (Kind::Pid, what.app.pid != PidMode::Host),
        (Kind::Ipc, what.ipc == Ipc::Pod),
        (Kind::Network, what.network != Network::Host),
        (Kind::Uts, true),
        (Kind::Mount, true),
        (Kind::Cgroup, true),
    ];
    let own = own.into_iter().filter(|(_, own)| *own);
    own.map(|(kind, _)| Ok(oci::LinuxNamespaceBuilder::default().typ(kind).build()?)).collect()
}

/// Writes devices and what may be done with each.
fn devices(what: &Surrounded) -> Result<Vec<(oci::LinuxDevice, oci::LinuxDeviceCgroup)>> {
    let written = |device: &Device| {
        let unwritable = || BundleError::Unwritable {
            app: what.app.name.clone(),
            problem: format!(
                "has a device of `{}`, which is no device node, or is given twice",
                device.source
            ),
        };
        let node = what.nodes.get(&device.destination).ok_or_else(unwritable)?;
        // Rules go by numbers: of two names for one device they could not be told apart.
        if what.nodes.values().filter(|other| *other == node).count() > 1 {
            return Err(unwritable());
        }
        let typ = if node.block { oci::LinuxDeviceType::B } else { oci::LinuxDeviceType::C };
        let (major, minor) = (i64::from(node.major), i64::from(node.minor));
        let made = oci::LinuxDeviceBuilder::default()
            .path(device.destination.as_str())
            .typ(typ)
            .major(major)
            .minor(minor)
            .build()?;
        let DeviceAccess { read, write, make } = device.access;
        let letters = [(read, 'r'), (write, 'w'), (make, 'm')];
        let access: String = letters.iter().filter(|(may, _)| *may).map(|(_, it)| it).collect();
        let rule = oci::LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(typ)
            .major(major)
            .minor(minor)
            .access(access)
            .build()?;
        Ok((made, rule))
    };
    what.app.devices.iter().map(written).collect()
}

fn limits_of(
    limits: &Resources,
    devices: &[(oci::LinuxDevice, oci::LinuxDeviceCgroup)],
) -> Result<Option<oci::LinuxResources>> {
    if *limits == Resources::default() && devices.is_empty() {
        return Ok(None);
    }
    let mut written = oci::LinuxResources::default();
    if !devices.is_empty() {
        let nothing =
            oci::LinuxDeviceCgroupBuilder::default().allow(false).access("rwm").build()?;
        let rules = devices.iter().map(|(_, rule)| rule.clone());
        written.set_devices(Some([nothing].into_iter().chain(rules).collect()));
    }
    resources::write(limits, &mut written)?;
    Ok(Some(written))
}

/// Reads how an app is isolated, into `what`.
pub(super) fn read(from: &oci::Linux, unspoken: &Unspoken, what: &mut Surrounded) -> Result<()> {
    absent(from.net_devices(), "linux.netDevices")?;
    absent(from.cgroups_path(), "linux.cgroupsPath")?;
    absent(from.mount_label(), "linux.mountLabel")?;
    absent(from.intel_rdt(), "linux.intelRdt")?;
    absent(from.memory_policy(), "linux.memoryPolicy")?;
    absent(from.personality(), "linux.personality")?;
    absent(from.time_offsets(), "linux.timeOffsets")?;
    if let Some(word) = from.rootfs_propagation()
        && !["private", "rprivate", "slave", "rslave"].contains(&word.as_str())
    {
        return Err(unsupported("linux.rootfsPropagation", format!("is `{word}`")));
    }
    read_namespaces(from, what)?;
    what.sysctls = from.sysctl().clone().unwrap_or_default().into_iter().collect();
    let paths = |list: &Option<Vec<String>>, property: &str| -> Result<Vec<PodPath>> {
        let path = |word: &String| {
            let refused = |_| unsupported(property, format!("holds `{word}`, no absolute path"));
            PodPath::parse(word).map_err(refused)
        };
        list.iter().flatten().map(path).collect()
    };
    what.app.masked_paths = paths(from.masked_paths(), "linux.maskedPaths")?;
    what.app.read_only_paths = paths(from.readonly_paths(), "linux.readonlyPaths")?;
    let process = &mut what.app.process;
    process.seccomp = seccomp::read(from.seccomp().as_ref(), &process.capabilities)?;
    let none = oci::LinuxResources::default();
    let limits = from.resources().as_ref().unwrap_or(&none);
    what.app.resources = resources::read(limits)?;
    read_devices(from.devices().as_deref().unwrap_or_default(), limits, unspoken, what)
}

fn read_namespaces(from: &oci::Linux, what: &mut Surrounded) -> Result<()> {
    const AT: &str = "linux.namespaces";
    let mut own = Vec::new();
    for namespace in from.namespaces().iter().flatten() {
        let kind = namespace.typ();
        if namespace.path().is_some() {
            return Err(unsupported(AT, format!("joins the `{kind}` namespace of another")));
        }
        if own.contains(&kind) || kind == Kind::Time {
            return Err(unsupported(AT, format!("asks for `{kind}`, or twice")));
        }
        own.push(kind);
    }
    for kind in [Kind::Mount, Kind::Uts] {
        if !own.contains(&kind) {
            return Err(unsupported(AT, format!("shares `{kind}` with the host")));
        }
    }
    let has = |kind| own.contains(&kind);
    what.ids = has(Kind::User).then(|| read_mapping(from)).transpose()?;
    what.network = if has(Kind::Network) { Network::None } else { Network::Host };
    what.ipc = if has(Kind::Ipc) { Ipc::Pod } else { Ipc::Host };
    if !has(Kind::Pid) {
        what.app.pid = PidMode::Host;
    }
    Ok(())
}

fn read_mapping(from: &oci::Linux) -> Result<IdRange> {
    let one = |map: &Option<Vec<oci::LinuxIdMapping>>| match map.as_deref() {
        Some([one]) if one.container_id() == 0 => {
            Some(IdRange { base: one.host_id(), count: one.size() })
        }
        _ => None,
    };
    one(from.uid_mappings())
        .filter(|range| one(from.gid_mappings()) == Some(*range))
        .ok_or_else(|| unsupported("linux.uidMappings", "is not one range from 0, as the groups'"))
}

/// Reads devices: each has a rule of its own, after one that forbids all others.
fn read_devices(
    from: &[oci::LinuxDevice],
    resources: &oci::LinuxResources,
    unspoken: &Unspoken,
    what: &mut Surrounded,
) -> Result<()> {
    const RULES: &str = "linux.resources.devices";
    let mut rules = BTreeMap::new();
    for rule in resources.devices().iter().flatten() {
        let numbers = (rule.major(), rule.minor());
        match (rule.allow(), rule.typ(), numbers) {
            (false, None | Some(oci::LinuxDeviceType::A), (None, None)) if rules.is_empty() => {}
            (true, Some(typ), (Some(major), Some(minor))) => {
                let access = rule.access().clone().unwrap_or_default();
                rules.insert((typ.as_str().to_owned(), major, minor), access);
            }
            _ => return Err(unsupported(RULES, "is not: none at all, but these nodes")),
        }
    }
    for device in from {
        let at = || format!("linux.devices of `{}`", device.path().display());
        let path = |path: &Path| path.to_str().and_then(|path| PodPath::parse(path).ok());
        let destination = path(device.path());
        let destination = destination.ok_or_else(|| unsupported(at(), "is no absolute path"))?;
        let key = (device.typ().as_str().to_owned(), device.major(), device.minor());
        let access = rules.remove(&key).unwrap_or_else(|| "rwm".to_owned());
        let number = |number: i64| {
            u32::try_from(number).map_err(|_| unsupported(at(), "has a number below 0"))
        };
        let block = match device.typ() {
            oci::LinuxDeviceType::B => true,
            oci::LinuxDeviceType::C | oci::LinuxDeviceType::U => false,
            _ => return Err(unsupported(at(), "is neither a block nor a character device")),
        };
        let node = Node { block, major: number(device.major())?, minor: number(device.minor())? };
        let known = unspoken.devices.iter().find(|(place, _)| *place == destination);
        what.nodes.insert(destination.clone(), node);
        what.app.devices.push(Device {
            // A node of the host's that nobody has told of bears the name it has in the app.
            source: known.map_or_else(|| destination.to_string(), |(_, source)| source.clone()),
            destination,
            access: DeviceAccess {
                read: access.contains('r'),
                write: access.contains('w'),
                make: access.contains('m'),
            },
        });
    }
    match rules.into_keys().next() {
        None => Ok(()),
        Some((_, major, minor)) => Err(unsupported(
            RULES,
            format!("allows {major}:{minor}, which is in no `linux.devices`"),
        )),
    }
}
