//! The networks of pods: which there are on this host, and how a pod joins and leaves them.
//!
//! Those of the administrator are files of CNI; `default` and `default-restricted` are our own, and in
//! the shape of plugins. Whatever a pod has joined is written down beneath the root before it is made
//! (`cni::Executor`, `network::Host`), and counts only as long as the pod lives: a pod that ends
//! leaves its networks, and what a killed one has left is taken back by the next who looks.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cni::{
    AddResult, Args, Attachment, Caller, Capabilities, Cidr, ContainerId, Executor, IfName,
    Network, NetworkName, PluginPath, PortMapping, Request,
};
use network::Host;
use network::plugin::{self, Plugin};
use pod_abi::PodId;
use pod_abi::manifest::Network as Wanted;
use pod_abi::network::{Attachment as Asked, Interface, Joined, Protocol, Publication};
use pod_abi::phase::Phase;

use crate::error::{CommandError, Context as _, Result};
use crate::pods::{Pod, Pods};
use pod_abi::layout;

use crate::rundir;

/// Where all that is remembered of networks lies, beneath the root.
const STATE: &str = "network";
/// Where plugins find the programs they run. Like the places of plugins and configurations it is the
/// same for all who join and undo, whatever their environment: a supervisor has none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long one call of a plugin may take: one that asks for a lease by DHCP takes its time.
const CALL: Duration = Duration::from_secs(60);
/// How long to wait for others who work on the same pod or network.
const PATIENCE: Duration = Duration::from_secs(60);

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
            environment: vec![("PATH".into(), PATH.into())],
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

/// Tells whether a pod may have joined networks.
pub(crate) fn has_joined(pod: &Pod) -> bool {
    let joins = |network: &Wanted| matches!(network, Wanted::Joined(_));
    pod.manifest().is_ok_and(|manifest| joins(&manifest.sandbox.network))
}

/// Finds what a network is: one of ours, or a file of the administrator's.
fn configuration(asked: &Asked) -> Result<Network> {
    let name = asked.network.as_str();
    if let Some(built_in) = network::Network::named(name) {
        let text = plugin::configuration(built_in).to_string();
        return Network::parse(text.as_bytes()).map_err(|error| told(&error));
    }
    let name = NetworkName::parse(name).map_err(|error| told(&error))?;
    let found = cni::network_named(Path::new(cni::DIRECTORY), &name);
    found.map_err(|error| match error.kind() {
        cni::ErrorKind::NotFound => told(&error).hint("`--net default` needs no configuration"),
        _ => told(&error),
    })
}

fn mappings(ports: &[Publication]) -> Vec<PortMapping> {
    let of_range = |range: &Publication| {
        let (host_ip, protocol) = (range.host_address, range.protocol);
        let mapping = move |(host_port, container_port)| PortMapping {
            host_port,
            container_port,
            protocol: match protocol {
                Protocol::Tcp => cni::Protocol::Tcp,
                Protocol::Udp => cni::Protocol::Udp,
            },
            host_ip,
        };
        range.pairs().map(mapping).collect::<Vec<_>>()
    };
    ports.iter().flat_map(of_range).collect()
}

/// Finds the network whose plugins publish ports.
fn receiver_of_ports(networks: &[Network], mappings: &[PortMapping]) -> Result<Option<usize>> {
    if mappings.is_empty() {
        return Ok(None);
    }
    let asked = Capabilities { port_mappings: mappings.to_vec(), ..Capabilities::default() };
    let takes = |network: &Network| network.lacks(&asked).is_empty();
    networks.iter().position(takes).map(Some).ok_or_else(|| {
        let names: Vec<&str> = networks.iter().map(|network| network.name().as_str()).collect();
        let what = format!("no plugin of network `{}` publishes ports", names.join("`, `"));
        CommandError::new("network.no-ports", what)
            .hint("add the plugin `portmap` to it, or join `default` as well")
    })
}

fn request(
    pod: &PodId,
    netns: &Path,
    number: usize,
    asked: &Asked,
    port_mappings: Vec<PortMapping>,
) -> Result<Request> {
    let mut args = Args::default();
    for (key, value) in &asked.args {
        args.push(key, value).map_err(|error| told(&error))?;
    }
    let full = |address: std::net::IpAddr| Cidr {
        address,
        prefix: if address.is_ipv4() { 32 } else { 128 },
    };
    Ok(Request {
        container: container(pod)?,
        if_name: IfName::parse(&format!("eth{number}")).map_err(|error| told(&error))?,
        netns: netns.to_owned(),
        args,
        capabilities: Capabilities {
            port_mappings,
            ips: asked.addresses.iter().copied().map(full).collect(),
            mac: asked.mac.as_ref().map(ToString::to_string),
            ..Capabilities::default()
        },
    })
}

fn container(pod: &PodId) -> Result<ContainerId> {
    ContainerId::parse(pod.as_str()).map_err(|error| told(&error))
}

fn interface(asked: &Asked, name: &IfName, result: &AddResult) -> Result<Interface> {
    let inside = result.interfaces.iter().find(|one| one.is_inside() && one.name == name.as_str());
    Ok(Interface {
        network: asked.network.clone(),
        name: name.to_string(),
        mac: inside.map(|one| one.mac.clone()).unwrap_or_default(),
        addresses: result.container_ips().map(|ip| ip.address.address).collect(),
    })
}

fn name_servers(result: &AddResult) -> impl Iterator<Item = std::net::IpAddr> + '_ {
    result.dns.nameservers.iter().filter_map(|word| word.parse().ok())
}

fn told(error: &cni::Error) -> CommandError {
    let all = CommandError::of(error.code(), error);
    error.hints().iter().fold(all, |all, hint| all.hint(hint.clone()))
}
