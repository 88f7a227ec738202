//! What the living pod is made of, as its apps come and go. Pure.
//!
//! A change is sound if the pod that would come of it is: the same check that a pod passes before
//! it is made.

use pod_abi::app::{AppSpec, Role};
use pod_abi::check::SpecError;
use pod_abi::isolators::Resources;
use pod_abi::manifest::{ExitPolicy, PodSpec, Sandbox};
use pod_abi::stage::Order;
use pod_abi::{AppName, version};

/// The apps of a pod, in the order they are started.
#[derive(Debug)]
pub(crate) struct Roster {
    sandbox: Sandbox,
    specs: Vec<AppSpec>,
}

impl Roster {
    /// Takes the apps a pod begins with.
    pub(crate) fn of(order: &Order) -> Self {
        let specs = order.apps.iter().map(|app| app.spec.clone()).collect();
        Self { sandbox: order.pod.sandbox.clone(), specs }
    }

    /// Tells whether the pod would be sound with one more app.
    ///
    /// # Errors
    ///
    /// The first thing that would be wrong with it.
    pub(crate) fn admits(&self, spec: &AppSpec) -> Result<(), SpecError> {
        check(&self.sandbox, self.specs.iter().chain([spec]))
    }

    /// Tells whether the pod would be sound without one of its apps.
    ///
    /// # Errors
    ///
    /// The first thing that would be wrong with it.
    pub(crate) fn spares(&self, name: &AppName) -> Result<(), SpecError> {
        check(&self.sandbox, self.specs.iter().filter(|spec| spec.name != *name))
    }

    /// Adds an app it [admits](Self::admits).
    pub(crate) fn add(&mut self, spec: AppSpec) {
        self.specs.push(spec);
    }

    /// Removes an app.
    pub(crate) fn remove(&mut self, name: &AppName) {
        self.specs.retain(|spec| spec.name != *name);
    }

    /// Returns the limits of an app, or of the pod.
    pub(crate) fn resources(&self, app: Option<&AppName>) -> Resources {
        match app {
            None => self.sandbox.resources.clone(),
            Some(app) => self.spec(app).map(|spec| spec.resources.clone()).unwrap_or_default(),
        }
    }

    /// Changes the limits of an app, or of the pod.
    pub(crate) fn limit(&mut self, app: Option<&AppName>, resources: &Resources) {
        match app {
            None => self.sandbox.resources.clone_from(resources),
            Some(app) => {
                for spec in self.specs.iter_mut().filter(|spec| spec.name == *app) {
                    spec.resources.clone_from(resources);
                }
            }
        }
    }

    /// Returns what an app is.
    pub(crate) fn spec(&self, app: &AppName) -> Option<&AppSpec> {
        self.specs.iter().find(|spec| spec.name == *app)
    }

    /// Returns the names, in order.
    pub(crate) fn names(&self) -> Vec<AppName> {
        self.specs.iter().map(|spec| spec.name.clone()).collect()
    }

    /// Returns what an app is to the pod.
    pub(crate) fn role(&self, name: &AppName) -> Option<Role> {
        self.specs.iter().find(|spec| spec.name == *name).map(|spec| spec.role)
    }

    /// Returns how long it may take, in milliseconds, to stop these apps one after the other: each
    /// its own grace, or `grace_ms`.
    pub(crate) fn stop_ms(&self, apps: &[AppName], grace_ms: Option<u64>) -> u64 {
        let stopped = self.specs.iter().filter(|spec| apps.contains(&spec.name));
        let graces = stopped.map(|spec| grace_ms.unwrap_or(spec.stop.grace_ms));
        graces.fold(0, u64::saturating_add)
    }

    /// Tells whether the pod ends by itself.
    pub(crate) fn knows_an_end(&self) -> bool {
        self.sandbox.exit_policy != ExitPolicy::Never
    }
}

fn check<'s>(sandbox: &Sandbox, specs: impl Iterator<Item = &'s AppSpec>) -> Result<(), SpecError> {
    let apps: Vec<AppSpec> = specs.cloned().collect();
    let names = apps.iter().map(|app| app.name.clone()).collect();
    let sandbox = Sandbox { apps: names, ..sandbox.clone() };
    PodSpec { version: version::MANIFEST, name: None, sandbox, apps }.check()
}
