//! The wall of this stage1: namespaces, cgroups, and one helper process for each app's tree.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::unistd::Pid;
use pod_abi::app::{AppSpec, Stdio};
use pod_abi::control::WindowSize;
use pod_abi::inner::AppFds;
use pod_abi::isolators::Resources;
use pod_abi::manifest::Network;
use pod_abi::stage::{AppOrder, Order};
use pod_abi::stats::Usage;
use pod_abi::volume::Volume;
use pod_abi::{AppName, credential};
use pod_sys::wait_pidfd;
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, fchown, fcntl_setfl, openat};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, getpid, pidfd_send_signal, set_child_subreaper};
use supervisor::{Added, AppStdio, Born, During, Failure, Networks, Terminal, UNSEEN, Wall};

use crate::cgroup::{self, Cgroup};
use crate::credentials::Secrets;
use crate::devices;
use crate::helper::{Built, Helper};
use crate::init::{self, Init};
use crate::mounts::Depth;
use crate::plan::{self, AppPlan, Flavour, Namespace, Plan};
use crate::staging::{self, Home, Memories};
use crate::sysctl;

/// What a pod stands on. Nothing of it is made or removed here.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    /// The pod's directory: writable layers and volumes of its own lie beneath it.
    pub pod: &'a OwnedFd,
    /// Its run directory, over which its trees are laid out.
    pub run: &'a OwnedFd,
    /// The directory beneath which the layers of its apps lie.
    pub layers: &'a OwnedFd,
    /// The sockets its apps can ask for, as many as [`Order::sockets`].
    pub sockets: &'a [OwnedFd],
}

/// A pod's namespaces, from before they are made until after they are gone.
#[derive(Debug)]
pub struct Namespaces<'a> {
    order: &'a Order,
    ground: Ground<'a>,
    flavour: Flavour,
    plan: Result<Plan, Failure>,
    cgroup: Option<Cgroup>,
    /// The limits in force: each app's, and the pod's.
    limits: BTreeMap<Option<AppName>, Resources>,
    init: Option<Init>,
    home: Option<Home>,
    helpers: Vec<Helper>,
    memories: Memories,
    /// The volumes that came with each app.
    volumes: BTreeMap<AppName, Vec<Volume>>,
    /// Contents of credentials, until the apps have them.
    secrets: Secrets,
    /// Where terminals of each app come from.
    multiplexers: BTreeMap<AppName, OwnedFd>,
    /// Children of this process from before the pod, if the end of the pod is that of all others.
    strangers: Option<Vec<Pid>>,
}

impl<'a> Namespaces<'a> {
    /// Finds out where everything goes; makes nothing.
    #[must_use]
    pub fn new(
        order: &'a Order,
        ground: Ground<'a>,
        credentials: Vec<OwnedFd>,
        flavour: Flavour,
    ) -> Self {
        let plan = plan::of(order, flavour);
        // What cannot be planned makes no cgroup either; it is refused when the wall is raised.
        let service = order.service.as_ref();
        let cgroup = plan
            .as_ref()
            .ok()
            .and_then(|plan| Cgroup::find(&order.pod.uuid, service, &plan.cgroups))
            .map(|cgroup| if flavour == Flavour::Guest { cgroup.counting() } else { cgroup });
        let of_apps =
            order.apps.iter().map(|app| (Some(app.spec.name.clone()), app.spec.resources.clone()));
        let of_pod = (None, order.pod.sandbox.resources.clone());
        Self {
            order,
            ground,
            flavour,
            plan,
            cgroup,
            limits: of_apps.chain([of_pod]).collect(),
            init: None,
            home: None,
            helpers: Vec::new(),
            memories: Memories::default(),
            volumes: BTreeMap::new(),
            secrets: order.credentials.iter().cloned().zip(credentials).collect(),
            multiplexers: BTreeMap::new(),
            strangers: None,
        }
    }

    /// Has a pod without a pid namespace end as a whole all the same: by its cgroup, and where
    /// there is none, by this process being the one that all its orphans come to.
    pub fn hold_all_descendants(&mut self) {
        if self.cgroup.is_none()
            && set_child_subreaper(Some(getpid())).is_ok()
            && let Ok(children) = pod_sys::children()
        {
            self.strangers = Some(children);
        }
    }

    /// Lists the processes of an app, or of all apps and PID 1, each with its app, as this process
    /// numbers them.
    ///
    /// # Errors
    ///
    /// `top.no-cgroup` where nothing tells whose a process is.
    pub fn members(&self, app: Option<&AppName>) -> Result<Vec<(u32, Option<AppName>)>, Failure> {
        let cgroup = self.cgroup.as_ref().ok_or_else(|| {
            Failure::new("this pod has no cgroup that its processes are known by")
                .code("top.no-cgroup")
        })?;
        Ok(cgroup.members(app))
    }

    /// Tells whether the pod ends with its PID 1.
    fn has_pid_namespace(&self) -> bool {
        self.plan.as_ref().is_ok_and(|plan| plan.namespaces.contains(&Namespace::Pid))
    }

    fn plan(&self) -> Result<&Plan, Failure> {
        self.plan.as_ref().map_err(|failure| Failure::from(failure.report()))
    }

    /// Stages what `plan` shares; the layers lie beneath `layers`.
    fn stage(&mut self, init: &Init, plan: &Plan, layers: BorrowedFd<'_>) -> Result<(), Failure> {
        let user_namespace = self.order.ids.map(|_| init.namespace("user")).transpose()?;
        let ground = staging::Ground {
            pod: self.ground.pod,
            run: self.ground.run,
            layers,
            layers_depth: match self.flavour {
                // There each is a file system of its own.
                Flavour::Guest => Depth::All,
                Flavour::Ns | Flavour::Fly => Depth::One,
            },
            ids: self.order.ids.zip(user_namespace.as_ref()),
        };
        let mut home = None;
        let staged = staging::stage(&ground, &plan.staging, &mut self.memories, &mut home);
        self.home = home;
        staged
    }

    fn build(&mut self, init: &Init, plan: &Plan) -> Result<Vec<Built>, Failure> {
        let path = "/proc/self/ns/pid";
        let own_pids = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .during(|| format!("cannot open `{path}`"))?;
        // All at work before the first is waited for.
        for app in &plan.apps {
            self.helpers.push(Helper::start(app, &init.pidfd, &own_pids, &self.secrets)?);
        }
        let built = self.helpers.iter().map(Helper::answer).collect();
        self.secrets.clear();
        built
    }

    /// Leaves the mount namespace the trees were laid out in, and reaps the helpers: in this order,
    /// for either waits until a mount namespace is down, and so the waits are one.
    fn let_go(&mut self) {
        if let Some(home) = self.home.take() {
            // `pod reap` works by descriptors, and can do so from here too.
            let _ = home.go_back();
        }
        self.helpers.drain(..).for_each(Helper::reap);
    }

    fn add(&mut self, app: &AppSpec, plan: &AppPlan, built: Built) -> Result<Added, Failure> {
        let Built { mount_namespace, null, multiplexer } = built;
        self.multiplexers.extend(multiplexer.map(|found| (plan.name.clone(), found)));
        self.volumes.insert(plan.name.clone(), app.volumes.clone());
        let (its, stdio) = self.stdio(app, plan, null)?;
        let mut descriptors = vec![mount_namespace];
        let cgroup = match &self.cgroup {
            Some(cgroup) => Some(cgroup.open_app(&plan.name)?),
            None => None,
        };
        if let Some(devices) = &plan.held_to {
            devices::hold(&plan.name, cgroup.as_ref(), devices)?;
        }
        let sockets = self.sockets(app)?;
        let fds = AppFds {
            mount_namespace: true,
            cgroup: cgroup.is_some(),
            stdio: true,
            sockets: u32::try_from(sockets.len()).unwrap_or(u32::MAX),
        };
        descriptors.extend(cgroup);
        descriptors.extend(its);
        descriptors.extend(sockets);
        Ok(Added { fds, descriptors, stdio })
    }

    /// Copies the sockets an app asks for; they are what they are, blocking or not.
    fn sockets(&self, app: &AppSpec) -> Result<Vec<OwnedFd>, Failure> {
        let taken = credential::taken(&app.sockets, &self.order.sockets);
        let sockets = taken.into_iter().filter_map(|at| self.ground.sockets.get(at));
        let copy = |socket: &OwnedFd| socket.try_clone().during(|| "cannot copy a socket");
        sockets.map(copy).collect()
    }

    /// Makes the standard streams of an app: its ends, and ours.
    fn stdio(
        &self,
        app: &AppSpec,
        plan: &AppPlan,
        null: OwnedFd,
    ) -> Result<(Vec<OwnedFd>, AppStdio), Failure> {
        if app.stdio == Stdio::Terminal {
            let Terminal { master, slave } =
                self.terminal(&plan.name, app.process.user.uid, UNSEEN)?;
            return Ok((slave, AppStdio::Terminal { master }));
        }
        let (stdout, its_stdout) = output(plan)?;
        let (stderr, its_stderr) = output(plan)?;
        let (its_stdin, input) = match app.stdio {
            Stdio::Open => {
                let (its, ours) = pipe(plan)?;
                fcntl_setfl(&ours, OFlags::NONBLOCK).during(|| piping(plan))?;
                (its, Some(ours))
            }
            Stdio::Logged | Stdio::Terminal => (null, None),
        };
        let stdio = AppStdio::Streams { input, stdout, stderr };
        Ok((vec![its_stdin, its_stdout, its_stderr], stdio))
    }
}

/// Makes a pipe for an app's output: our end, and its.
fn output(plan: &AppPlan) -> Result<(OwnedFd, OwnedFd), Failure> {
    let (ours, its) = pipe(plan)?;
    // Ours alone: the app's end must block as programs expect.
    fcntl_setfl(&ours, OFlags::NONBLOCK).during(|| piping(plan))?;
    Ok((ours, its))
}

/// Makes a pipe: the end to read, and the end to write. It belongs to the app's user, so that
/// `/dev/stdout` and its like open.
fn pipe(plan: &AppPlan) -> Result<(OwnedFd, OwnedFd), Failure> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).during(|| piping(plan))?;
    let (uid, gid) = plan.owner;
    fchown(&write, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).during(|| piping(plan))?;
    Ok((read, write))
}

fn piping(plan: &AppPlan) -> String {
    format!("cannot make a pipe for app `{}`", plan.name)
}

impl Wall for Namespaces<'_> {
    fn cgroup(&self) -> Option<String> {
        self.cgroup.as_ref().map(|cgroup| cgroup.path().to_owned())
    }

    fn shares_processes(&self) -> bool {
        !self.has_pid_namespace()
    }

    fn raise(&mut self, networks: &dyn Networks) -> Result<Born, Failure> {
        self.plan()?;
        let leaf = match &mut self.cgroup {
            None => None,
            Some(cgroup) => {
                cgroup.make(self.order.ids)?;
                Some(cgroup.open_init()?)
            }
        };
        if let Ok(plan) = &self.plan {
            cgroup::enforce(self.cgroup.as_mut(), plan)?;
        }
        let mut init = None;
        let born = init::start(self.plan()?, leaf.as_ref(), &mut init);
        self.init = init;
        let mut born = born?;
        if let (Ok(plan), Some(init)) = (&mut self.plan, &self.init) {
            if matches!(self.order.pod.sandbox.network, Network::Joined(_)) {
                let joined = networks.join(init.namespace("net")?.as_fd())?;
                plan.tell(self.order, &joined);
                born.joined = Some(joined);
            }
            sysctl::set(plan, &init.pidfd)?;
        }
        Ok(born)
    }

    fn add_apps(&mut self, apps: &[AppOrder]) -> Result<Vec<Added>, Failure> {
        let init = self.init.take().ok_or_else(|| Failure::new("the pod has no PID 1 yet"))?;
        let added = self.plan().cloned().and_then(|plan| {
            self.stage(&init, &plan, self.ground.layers.as_fd())?;
            let built = self.build(&init, &plan)?;
            let apps = apps.iter().zip(&plan.apps).zip(built);
            apps.map(|((app, plan), tree)| self.add(&app.spec, plan, tree)).collect()
        });
        self.init = Some(init);
        added
    }

    fn add_app(
        &mut self,
        app: &AppOrder,
        layers: BorrowedFd<'_>,
        credentials: Vec<OwnedFd>,
    ) -> Result<Added, Failure> {
        let there = self.order.pod.sandbox.volumes.iter().chain(self.volumes.values().flatten());
        let plan = plan::addition(self.order, app, there, self.flavour)?;
        let ids = self.order.ids;
        self.cgroup.as_mut().map_or(Ok(()), |cgroup| cgroup.extend(&plan.cgroups, ids))?;
        cgroup::enforce(self.cgroup.as_mut(), &plan)?;
        self.limits.insert(Some(app.spec.name.clone()), app.spec.resources.clone());
        let init = self.init.take().ok_or_else(|| Failure::new("the pod has no PID 1 any more"))?;
        let names = app.spec.credentials.iter().map(|credential| credential.name.clone());
        self.secrets = names.zip(credentials).collect();
        let built = self.stage(&init, &plan, layers).and_then(|()| self.build(&init, &plan));
        self.secrets.clear();
        self.init = Some(init);
        self.let_go();
        match (&plan.apps[..], built?.pop()) {
            ([plan], Some(tree)) => self.add(&app.spec, plan, tree),
            _ => Err(Failure::new("one app was to be laid out")),
        }
    }

    fn remove_app(&mut self, app: &AppName) {
        self.multiplexers.remove(app);
        self.limits.remove(&Some(app.clone()));
        for volume in self.volumes.remove(app).into_iter().flatten() {
            self.memories.forget(&volume.name);
        }
        if let Some(cgroup) = &mut self.cgroup {
            cgroup.remove_app(app);
        }
    }

    fn settle(&mut self) {
        self.let_go();
    }

    fn host_pid(&self, app: &AppName, pid: u32) -> Option<u32> {
        self.cgroup.as_ref()?.member(app, pid)
    }

    fn terminal(&self, app: &AppName, uid: u32, size: WindowSize) -> Result<Terminal, Failure> {
        let multiplexer = self.multiplexers.get(app).ok_or_else(|| {
            Failure::new(format!("app `{app}` has no `/dev/pts`")).code("app.no-terminals")
        })?;
        let owner = self.order.ids.map_or(Some(uid), |ids| ids.base.checked_add(uid));
        let owner = owner.ok_or_else(|| Failure::new(format!("there is no user {uid}")))?;
        Terminal::open(multiplexer.as_fd(), owner, size)
            .during(|| format!("cannot make a terminal for app `{app}`"))
    }

    fn limit(&mut self, app: Option<&AppName>, limits: &Resources) -> Result<(), Failure> {
        let whose = app.cloned();
        let old = self.limits.get(&whose).cloned().unwrap_or_default();
        let new = old.clone().overridden_by(limits);
        cgroup::change(self.cgroup.as_mut(), app, &old, &new)?;
        self.limits.insert(whose, new);
        Ok(())
    }

    fn usage(&self, app: Option<&AppName>) -> Option<Usage> {
        self.cgroup.as_ref()?.usage(app)
    }

    fn pause(&mut self) -> Result<(), Failure> {
        match &self.cgroup {
            Some(cgroup) => cgroup.freeze(),
            None => Err(Failure::new("this host has no cgroup v2 that can be written")
                .code("pause.no-cgroup")
                .hint("start it where there is one; `pod info` tells")),
        }
    }

    fn resume(&mut self) -> Result<(), Failure> {
        self.cgroup.as_ref().map_or(Ok(()), Cgroup::thaw)
    }

    fn memory_alarm(&self) -> Option<BorrowedFd<'_>> {
        self.cgroup.as_ref()?.memory_alarm()
    }

    fn out_of_memory(&mut self) -> Vec<AppName> {
        self.cgroup.as_mut().map(Cgroup::out_of_memory).unwrap_or_default()
    }

    fn kill(&mut self) {
        if let Some(init) = &self.init {
            // It may have ended already; with it ends everything in its pid namespace.
            let _ = pidfd_send_signal(&init.pidfd, Signal::KILL);
        }
        if let Some(cgroup) = self.cgroup.as_ref().filter(|_| !self.has_pid_namespace()) {
            cgroup.kill();
        }
    }

    fn take_down(&mut self) {
        // Helpers first: PID 1 does not end before everything in its pid namespace is reaped, and
        // helpers are ours to reap.
        self.let_go();
        if let Some(init) = self.init.take() {
            // That it is gone is all that counts.
            let _ = wait_pidfd(init.pidfd.as_fd());
        }
        if let Some(strangers) = &self.strangers {
            // What cannot be found cannot be killed either.
            let _ = pod_sys::kill_children(strangers);
        }
        let has_pid_namespace = self.has_pid_namespace();
        if let Some(cgroup) = &mut self.cgroup {
            if !has_pid_namespace {
                cgroup.kill();
            }
            cgroup.remove();
        }
    }
}
