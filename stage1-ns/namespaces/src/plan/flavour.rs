//! What stands between a pod and the host, and what is refused because nothing does.
//!
//! An order that asks for what its flavour does not give is refused, also where stage0 has let it
//! pass: an isolation that was asked for and is not there would be taken for one that is.

use pod_abi::app::{AppSpec, PidMode};
use pod_abi::manifest::{Ipc, Network, Userns};
use pod_abi::stage::Order;
use supervisor::Failure;

use super::fly::without_walls;
use super::{Plan, plan};

/// What stands between a pod and the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Namespaces of its own.
    Ns,
    /// Nothing but a root of its own.
    Fly,
    /// Namespaces of its own, in a virtual machine of its own: the machine is what stands between
    /// it and the host.
    Guest,
}

impl Flavour {
    /// Returns the flavour the program called `program` is for.
    pub fn of_program(program: &str) -> Self {
        if program.ends_with("-fly") { Self::Fly } else { Self::Ns }
    }

    /// Returns the word `--stage1` takes for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ns => "ns",
            Self::Fly => "fly",
            Self::Guest => "kvm",
        }
    }
}

/// Decides what is to be done for an order.
///
/// # Errors
///
/// [`Failure`] if the order asks for what no pod of this flavour can be.
pub fn of(order: &Order, flavour: Flavour) -> Result<Plan, Failure> {
    check_handed(order)?;
    match flavour {
        Flavour::Ns => {
            check_walled(order)?;
            plan(order)
        }
        Flavour::Guest => {
            check_processes(order, flavour)?;
            plan(order)
        }
        Flavour::Fly => {
            check_unwalled(order)?;
            Ok(without_walls(plan(order)?))
        }
    }
}

/// Refuses an order whose apps ask for what was not handed over with it.
fn check_handed(order: &Order) -> Result<(), Failure> {
    for app in order.apps.iter().map(|app| &app.spec) {
        if let Some(name) = app.sockets.iter().find(|name| !order.sockets.contains(name)) {
            let what = format!(
                "app `{}` asks for socket `{name}`, which the pod was not handed",
                app.name
            );
            return Err(Failure::new(what).code("socket.missing").hint(
                "a socket unit beside the pod's unit hands it over, with `FileDescriptorName=`",
            ));
        }
        let mut names = app.credentials.iter().map(|credential| &credential.name);
        if let Some(name) = names.find(|name| !order.credentials.contains(name)) {
            let what = format!("credential `{name}` of app `{}` was not handed over", app.name);
            return Err(Failure::new(what).code("credential.missing"));
        }
    }
    Ok(())
}

/// Refuses an order that asks for the host's processes.
fn check_processes(order: &Order, flavour: Flavour) -> Result<(), Failure> {
    match order.apps.iter().find(|app| app.spec.pid == PidMode::Host) {
        None => Ok(()),
        Some(app) => Err(refused(
            flavour.name(),
            &format!("app `{}`", app.spec.name),
            "the host's processes",
            "use `--pid pod`, or `--stage1 fly` if it shall have no wall at all",
        )),
    }
}

/// Refuses an order that asks for the host's processes, or for a way to its root.
fn check_walled(order: &Order) -> Result<(), Failure> {
    check_processes(order, Flavour::Ns)?;
    let find = |asks: fn(&AppSpec) -> bool| order.apps.iter().find(|app| asks(&app.spec));
    if order.pod.sandbox.userns == Userns::Host
        && let Some(app) = find(AppSpec::can_trace_init)
    {
        return Err(refused(
            "ns",
            &format!("app `{}`", app.spec.name),
            "`--pid pod` and `CAP_SYS_PTRACE` with `--userns host`",
            "leave one of the three away",
        ));
    }
    Ok(())
}

/// Refuses an order that asks for isolation.
fn check_unwalled(order: &Order) -> Result<(), Failure> {
    let sandbox = &order.pod.sandbox;
    let own_ids = sandbox.userns != Userns::Host || order.ids.is_some();
    let of_pod = [
        (
            sandbox.network != Network::Host,
            "a network of its own",
            "use `--net host`, or use `--stage1 ns`",
        ),
        (own_ids, "user ids of its own", "use `--userns host`, or use `--stage1 ns`"),
        (sandbox.ipc != Ipc::Host, "IPC of its own", "use `--ipc host`, or use `--stage1 ns`"),
        (
            sandbox.hostname.is_some(),
            "a hostname of its own",
            "leave `--hostname` away, or use `--stage1 ns`",
        ),
        (
            !sandbox.sysctls.is_empty(),
            "kernel settings of its own",
            "leave `--sysctl` away, or use `--stage1 ns`",
        ),
    ];
    if let Some((_, what, hint)) = of_pod.iter().find(|(asked, ..)| *asked) {
        return Err(refused("fly", "the pod", what, hint));
    }
    for spec in order.apps.iter().map(|app| &app.spec) {
        let of_app = [
            (
                spec.pid != PidMode::Host,
                "processes of its own",
                "use `--pid host`, or use `--stage1 ns`",
            ),
            (
                !spec.devices.is_empty(),
                "a choice of devices",
                "leave `--device` away, for it has all of them, or use `--stage1 ns`",
            ),
        ];
        if let Some((_, what, hint)) = of_app.iter().find(|(asked, ..)| *asked) {
            let whose = format!("app `{}`", spec.name);
            return Err(refused("fly", &whose, what, hint));
        }
    }
    Ok(())
}

fn refused(stage1: &str, whose: &str, what: &str, hint: &'static str) -> Failure {
    Failure::new(format!("{whose} asks for {what}, which stage1 `{stage1}` does not give"))
        .code("stage1.not-given")
        .hint(hint)
}
