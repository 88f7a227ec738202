//! The networks of pods: which there are on this host, and how a pod joins and leaves them.
//!
//! Those of the administrator are files of CNI; `default` and `default-restricted` are our own, and in
//! the shape of plugins. Whatever a pod has joined is written down beneath the root before it is made
//! (`cni::Executor`, `network::Host`), and counts only as long as the pod lives: a pod that ends
//! leaves its networks, and what a killed one has left is taken back by the next who looks.

mod asked;

use std::fmt;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cni::{Attachment, Caller, Executor, PluginPath};
use network::plugin::{self, Plugin};
use network::{Health, Host, Reloaded, Subnets};
use pod_abi::PodId;
use pod_abi::layout;
use pod_abi::manifest::Network as Wanted;
use pod_abi::network::{Attachment as Asked, Joined, Publication};
use pod_abi::phase::Phase;

use crate::error::{CommandError, Context as _, Result};
use crate::pods::{Pod, Pods};
use crate::rundir;

use asked::{
    configuration, container, interface, mappings, name_servers, receiver_of_ports, request, told,
};

/// Where all that is remembered of networks lies, beneath the root.
const STATE: &str = "network";
/// How long one call of a plugin may take: one that asks for a lease by DHCP takes its time.
const CALL: Duration = Duration::from_secs(60);
/// How long to wait for others who work on the same pod or network.
const PATIENCE: Duration = Duration::from_secs(60);

/// What an administrator does about a firewall that has no place for rules of others.
pub(crate) const LET_PODS_THROUGH: &str =
    "have it accept what is forwarded to links `pod-*` and from them";

/// The networks of one root.
pub(crate) struct Networks<'a> {
    pods: &'a Pods,
    state: PathBuf,
    table: String,
}

impl fmt::Debug for Networks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Networks").field("table", &self.table).finish_non_exhaustive()
    }
}

impl<'a> Networks<'a> {
    /// Finds the networks of `pods`; makes nothing.
    ///
    /// # Errors
    ///
    /// `storage` if the root cannot be looked at.
    pub(crate) fn of(pods: &'a Pods) -> Result<Self> {
        let root = format!("/proc/self/fd/{}", pods.root().as_raw_fd());
        let path = std::fs::read_link(&root).context(|| format!("cannot read `{root}`"))?;
        // Rules of several roots are beside each other.
        let table = if path == Path::new(layout::ROOT) {
            "pod".to_owned()
        } else {
            format!("pod-{}", rundir::mark_of(pods.root())?.replace(':', "-"))
        };
        Ok(Self { pods, state: Path::new(&root).join(STATE), table })
    }

    /// Tells whether a pod of `root` has ever joined a network.
    pub(crate) fn were_used(root: &Path) -> bool {
        root.join(STATE).exists()
    }

    /// Joins a pod to all of `asked`, in this order, as `eth0` and so on. The first that takes ports
    /// gets `ports`.
    ///
    /// # Errors
    ///
    /// Which network could not be joined, and why; the pod has joined none then.
    pub(crate) fn join(
        &self,
        pod: &PodId,
        netns: &Path,
        asked: &[Asked],
        ports: &[Publication],
    ) -> Result<Joined> {
        let configured = asked.iter().map(configuration).collect::<Result<Vec<_>>>()?;
        let mappings = mappings(ports);
        let of_ports = receiver_of_ports(&configured, &mappings)?;
        let namespace = std::fs::File::open(netns).context(|| {
            format!("cannot open `{}`, the pod's network namespace", netns.display())
        })?;
        network::prepare(namespace.as_fd())
            .map_err(|error| CommandError::of(error.kind().code(), &error))?;
        let mut joined = Joined::default();
        self.with_executor(|executor| {
            for (number, (asked, network)) in asked.iter().zip(&configured).enumerate() {
                let mappings = if of_ports == Some(number) { mappings.clone() } else { Vec::new() };
                let request = request(pod, netns, number, asked, mappings)?;
                let result = executor.attach(network, &request);
                let result = result.map_err(|error| self.refused(asked, &error))?;
                joined.interfaces.push(interface(asked, &request.if_name, &result)?);
                joined.name_servers.extend(name_servers(&result));
            }
            Ok(())
        })
        .inspect_err(|_| {
            // What cannot be undone now is recorded, and taken back with the pod.
            let _ = self.leave(pod);
        })?;
        Ok(joined)
    }

    /// Has a pod leave all networks it has joined; its namespace has ended, or is about to.
    ///
    /// # Errors
    ///
    /// What could not be undone; it is recorded still.
    pub(crate) fn leave(&self, pod: &PodId) -> Result<()> {
        self.with_executor_if_used(|executor| {
            let container = container(pod)?;
            let mut failed = None;
            for attachment in executor.attachments().map_err(|error| told(&error))? {
                if attachment.container == container {
                    failed = executor.detach(&attachment, None, None).err().or(failed);
                }
            }
            failed.map_or(Ok(()), |error| Err(told(&error)))
        })
    }

    /// Takes back what pods have left that do not live.
    ///
    /// # Errors
    ///
    /// What could not be undone; it is recorded still.
    pub(crate) fn sweep(&self) -> Result<()> {
        self.with_executor_if_used(|executor| {
            let lives = |attachment: &Attachment| {
                PodId::parse(attachment.container.as_str()).is_ok_and(|id| self.lives(&id))
            };
            let swept = executor.sweep(&lives).map_err(|error| told(&error))?;
            swept.failed.first().map_or(Ok(()), |(_, error)| Err(told(error)))
        })
    }

    /// Writes the rules of our own networks anew, and has other firewalls let pods through.
    ///
    /// # Errors
    ///
    /// `network.…`: what keeps them from being written; `storage`.
    pub(crate) fn reload(&self) -> Result<Reloaded> {
        self.with_host(|host| host.reload())
    }

    /// Looks what keeps packets from pods in our own networks.
    ///
    /// # Errors
    ///
    /// As [`Self::reload`].
    pub(crate) fn health(&self) -> Result<Health> {
        self.with_host(|host| host.health())
    }

    /// Returns the subnets of our own networks, once a pod has joined one.
    ///
    /// # Errors
    ///
    /// `storage`.
    pub(crate) fn subnets(&self) -> Result<Option<Subnets>> {
        self.with_host(|host| host.subnets())
    }

    /// Asks our own networks. Where no pod of this root ever had one, there is nothing to tell.
    fn with_host<T: Default>(&self, ask: impl FnOnce(Host<'_>) -> network::Result<T>) -> Result<T> {
        if !self.state.exists() {
            return Ok(T::default());
        }
        let lives = |id: &PodId| self.lives(id);
        let host = Host { state: &self.state, table: &self.table, living: &lives };
        ask(host).map_err(|error| {
            let told = CommandError::of(error.kind().code(), &error);
            error.way_out().into_iter().fold(told, |told, hint| told.hint(hint))
        })
    }

    /// Tells why a network was not joined. What a network of ours says, it says to the user: a plugin
    /// is how it is called, and is nobody's concern.
    fn refused(&self, asked: &Asked, error: &cni::Error) -> CommandError {
        let ours =
            error.plugin().filter(|_| network::Network::named(asked.network.as_str()).is_some());
        let Some((said, kind)) = ours.and_then(|said| Some((said, plugin::kind_of(said.code)?)))
        else {
            return told(error);
        };
        let refusal = CommandError::new(
            kind.code(),
            format!("cannot join network `{}`: {}", asked.network, self.with_names(&said.msg)),
        );
        if said.details.is_empty() { refusal } else { refusal.hint(said.details.clone()) }
    }

    /// Says names of pods instead of their ids.
    fn with_names(&self, text: &str) -> String {
        let name = |word: &str| {
            let pod = self.pods.open_id(&PodId::parse(word).ok()?).ok()??;
            Some(format!("`{}`", pod.manifest().ok()?.name))
        };
        let words = text.split(' ').map(|word| name(word).unwrap_or_else(|| word.to_owned()));
        words.collect::<Vec<_>>().join(" ")
    }

    fn lives(&self, id: &PodId) -> bool {
        let pod = self.pods.open_id(id).ok().flatten();
        pod.is_some_and(|pod| pod.phase() == Phase::Running)
    }

    fn with_executor_if_used(&self, work: impl FnOnce(&Executor<'_>) -> Result<()>) -> Result<()> {
        // No pod of this root has ever had a network; looking would make the directory.
        if self.state.exists() { self.with_executor(work) } else { Ok(()) }
    }

    fn with_executor<T>(&self, work: impl FnOnce(&Executor<'_>) -> Result<T>) -> Result<T> {
        let lives = |id: &PodId| self.lives(id);
        let host = Host { state: &self.state, table: &self.table, living: &lives };
        let built_in = Plugin { host, notice: &|_| {} };
        let caller = Caller {
            plugin_path: PluginPath::parse(cni::DIRECTORIES).map_err(|error| told(&error))?,
            built_in: vec![&built_in],
            // Like the places of plugins and configurations it is the same for all who join and undo,
            // whatever their environment: a supervisor has none.
            environment: vec![("PATH".into(), network::PATH.into())],
            time: CALL,
            log: None,
        };
        let executor = Executor::new(caller, self.state.join("cni"), PATIENCE);
        work(&executor.map_err(|error| told(&error))?)
    }
}

/// Makes sure that the networks a pod is to join can be found, before anything of it is made.
///
/// # Errors
///
/// Which cannot, or that none of them takes the ports to be published.
pub(crate) fn check(network: &Wanted, ports: &[Publication]) -> Result<()> {
    let Wanted::Joined(asked) = network else { return Ok(()) };
    let configured = asked.iter().map(configuration).collect::<Result<Vec<_>>>()?;
    receiver_of_ports(&configured, &mappings(ports)).map(drop)
}

/// Lists the networks of the administrator, file by file.
///
/// # Errors
///
/// If the directory cannot be listed.
pub(crate) fn configured(directory: &Path) -> Result<Vec<cni::Found>> {
    cni::networks(directory).map_err(|error| told(&error))
}

/// Tells whether a pod may have joined networks.
pub(crate) fn has_joined(pod: &Pod) -> bool {
    let joins = |network: &Wanted| matches!(network, Wanted::Joined(_));
    pod.manifest().is_ok_and(|manifest| joins(&manifest.sandbox.network))
}
