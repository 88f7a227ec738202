//! The wall of this stage1: namespaces, cgroups, and one helper process for each app's tree.

use std::os::fd::OwnedFd;

use pod_abi::AppName;
use pod_abi::inner::AppFds;
use pod_abi::stage::{AppOrder, Order};
use pod_sys::wait_pidfd;
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, fchown, fcntl_setfl, openat};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, pidfd_send_signal};
use std::os::fd::AsFd;
use supervisor::{Added, Born, During, Failure, Inherited, Wall};

use crate::cgroup::Cgroup;
use crate::helper::{Built, Helper};
use crate::init::{self, Init};
use crate::plan::{AppPlan, Plan};
use crate::staging::{self, Ground, Home};

/// A pod's namespaces, from before they are made until after they are gone.
#[derive(Debug)]
pub(crate) struct Namespaces<'a> {
    order: &'a Order,
    inherited: &'a Inherited,
    layers: &'a OwnedFd,
    plan: Result<Plan, Failure>,
    cgroup: Option<Cgroup>,
    init: Option<Init>,
    home: Option<Home>,
    helpers: Vec<Helper>,
}

impl<'a> Namespaces<'a> {
    /// Finds out where everything goes; makes nothing.
    pub(crate) fn new(
        order: &'a Order,
        inherited: &'a Inherited,
        layers: &'a OwnedFd,
        plan: Result<Plan, Failure>,
    ) -> Self {
        // What cannot be planned makes no cgroup either; it is refused when the wall is raised.
        let cgroup =
            plan.as_ref().ok().and_then(|plan| Cgroup::find(&order.pod.uuid, &plan.cgroups));
        Self { order, inherited, layers, plan, cgroup, init: None, home: None, helpers: Vec::new() }
    }

    fn plan(&self) -> Result<&Plan, Failure> {
        self.plan.as_ref().map_err(|failure| Failure::from(failure.report()))
    }

    fn stage(&mut self, init: &Init) -> Result<(), Failure> {
        let user_namespace = self.order.ids.map(|_| init.user_namespace()).transpose()?;
        let ground = Ground {
            pod: &self.inherited.pod,
            run: &self.inherited.run,
            layers: self.layers,
            ids: self.order.ids.zip(user_namespace.as_ref()),
        };
        let mut home = None;
        let staged = staging::stage(&ground, &self.plan()?.staging, &mut home);
        self.home = home;
        staged
    }

    fn build(&mut self, init: &Init) -> Result<Vec<Built>, Failure> {
        let path = "/proc/self/ns/pid";
        let own_pids = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .during(|| format!("cannot open `{path}`"))?;
        // All at work before the first is waited for.
        for app in self.plan()?.apps.clone() {
            self.helpers.push(Helper::start(&app, &init.pidfd, &own_pids)?);
        }
        self.helpers.iter().map(Helper::answer).collect()
    }

    /// Reaps the helpers and leaves the mount namespace the trees were laid out in.
    fn let_go(&mut self) {
        self.helpers.drain(..).for_each(Helper::reap);
        if let Some(home) = self.home.take() {
            // `pod reap` works by descriptors, and can do so from here too.
            let _ = home.go_back();
        }
    }

    fn add(&self, plan: &AppPlan, built: Built) -> Result<Added, Failure> {
        let (stdout, its_stdout) = pipe(plan)?;
        let (stderr, its_stderr) = pipe(plan)?;
        let mut descriptors = vec![built.mount_namespace];
        let cgroup = match &self.cgroup {
            Some(cgroup) => Some(cgroup.open_app(&plan.name)?),
            None => None,
        };
        let fds = AppFds { mount_namespace: true, cgroup: cgroup.is_some(), stdio: true };
        descriptors.extend(cgroup);
        descriptors.extend([built.null, its_stdout, its_stderr]);
        Ok(Added { fds, descriptors, stdout, stderr })
    }
}

/// Makes a pipe for an app's output. It belongs to the app's user, so that `/dev/stdout` opens.
fn pipe(plan: &AppPlan) -> Result<(OwnedFd, OwnedFd), Failure> {
    let piping = || format!("cannot make a pipe for app `{}`", plan.name);
    let (ours, its) = pipe_with(PipeFlags::CLOEXEC).during(piping)?;
    // Ours alone: the app's end must block as programs expect.
    fcntl_setfl(&ours, OFlags::NONBLOCK).during(piping)?;
    let (uid, gid) = plan.owner;
    fchown(&its, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).during(piping)?;
    Ok((ours, its))
}

impl Wall for Namespaces<'_> {
    fn cgroup(&self) -> Option<String> {
        self.cgroup.as_ref().map(|cgroup| cgroup.path().to_owned())
    }

    fn raise(&mut self) -> Result<Born, Failure> {
        self.plan()?;
        let leaf = match &self.cgroup {
            None => None,
            Some(cgroup) => {
                cgroup.make(self.order.ids)?;
                Some(cgroup.open_init()?)
            }
        };
        let mut init = None;
        let born = init::start(self.plan()?, leaf.as_ref(), &mut init);
        self.init = init;
        born
    }

    fn add_apps(&mut self, _apps: &[AppOrder]) -> Result<Vec<Added>, Failure> {
        let init = self.init.take().ok_or_else(|| Failure::new("the pod has no PID 1 yet"))?;
        let built = self.stage(&init).and_then(|()| self.build(&init));
        self.init = Some(init);
        self.plan()?.apps.iter().zip(built?).map(|(plan, tree)| self.add(plan, tree)).collect()
    }

    fn settle(&mut self) {
        self.let_go();
    }

    fn host_pid(&self, app: &AppName, pid: u32) -> Option<u32> {
        self.cgroup.as_ref()?.member(app, pid)
    }

    fn kill(&mut self) {
        if let Some(init) = &self.init {
            // It may have ended already; with it ends everything in its pid namespace.
            let _ = pidfd_send_signal(&init.pidfd, Signal::KILL);
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
        if let Some(cgroup) = &self.cgroup {
            cgroup.remove();
        }
    }
}
