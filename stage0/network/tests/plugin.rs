//! The built-in networks through the executor of CNI: what a runtime says and hears.

#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "test code outside of `#[test]`")]

mod hosts;

use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process;
use std::sync::Mutex;
use std::time::Duration;

use cni::{
    Args, Attachment, Caller, Capabilities, ContainerId, Detached, Executor, IfName, PluginPath,
    PortMapping,
};
use hosts::{Netns, link_names, on_a_host, seen_by, serve, state_directory};
use network::plugin::{Plugin, configuration};
use network::{Host, Network, prepare};

const POD: &str = "1a2b3c4d-0000-4000-8000-000000000000";

fn network(network: Network) -> cni::Network {
    cni::Network::parse(configuration(network).to_string().as_bytes()).unwrap()
}

fn request(netns: PathBuf, capabilities: Capabilities) -> cni::Request {
    cni::Request {
        container: ContainerId::parse(POD).unwrap(),
        if_name: IfName::parse("eth0").unwrap(),
        netns,
        args: Args::default(),
        capabilities,
    }
}

fn attachment(network: &cni::Network) -> Attachment {
    Attachment {
        container: ContainerId::parse(POD).unwrap(),
        network: network.name().clone(),
        if_name: IfName::parse("eth0").unwrap(),
    }
}

fn path(netns: &Netns) -> PathBuf {
    format!("/proc/{}/fd/{}", process::id(), netns.fd().as_raw_fd()).into()
}

/// Runs a test with an executor that knows the plugin, and what was changed about the host.
fn with_executor(test: impl FnOnce(&Executor<'_>, &Mutex<Vec<String>>) + Send) {
    on_a_host(|| {
        let (_kept, state) = state_directory();
        let heard = Mutex::new(Vec::new());
        let hear = |notice: &str| heard.lock().unwrap().push(notice.to_owned());
        let living = |_: &pod_abi::PodId| true;
        let host = Host { state: &state, table: "pod", living: &living };
        let plugin = Plugin { host, notice: &hear };
        let caller = Caller {
            plugin_path: PluginPath::default(),
            built_in: vec![&plugin],
            environment: Vec::new(),
            time: Duration::from_secs(10),
            log: None,
        };
        let executor = Executor::new(caller, state.join("cni"), Duration::from_secs(10)).unwrap();
        test(&executor, &heard);
    });
}

#[test]
fn a_pod_is_attached_checked_and_detached_as_by_any_plugin() {
    with_executor(|executor, heard| {
        let default = network(Network::Default);
        let netns = Netns::new();
        prepare(netns.fd()).unwrap();
        let mapping = PortMapping {
            host_port: 8080,
            container_port: 80,
            protocol: cni::Protocol::Tcp,
            host_ip: None,
        };
        let capabilities = Capabilities {
            port_mappings: vec![mapping],
            ips: vec!["10.187.0.9/32".parse().unwrap()],
            mac: Some("02:aa:bb:cc:dd:ee".to_owned()),
            ..Capabilities::default()
        };
        let result = executor.attach(&default, &request(path(&netns), capabilities)).unwrap();
        assert_eq!(heard.lock().unwrap().len(), 2);
        let names: Vec<(&str, bool)> =
            result.interfaces.iter().map(|each| (each.name.as_str(), each.is_inside())).collect();
        assert_eq!(names, [("pod-1a2b3c4d", false), ("eth0", true)]);
        assert_eq!(result.interfaces[1].mac, "02:aa:bb:cc:dd:ee");
        assert_eq!(result.ips[0].address, "10.187.0.9/32".parse().unwrap());
        assert_eq!((result.ips.len(), result.routes.len()), (2, 2));
        assert_eq!(result.container_ips().count(), 2);

        let server: IpAddr = result.ips[0].address.address;
        netns.within(|| serve((server, 80).into()));
        assert!(seen_by(([127, 0, 0, 1], 8080).into()).is_some());

        let attachment = attachment(&default);
        executor.check(&attachment, &path(&netns)).unwrap();
        let path = path(&netns);
        assert_eq!(executor.detach(&attachment, Some(&path), None).unwrap(), Detached::ByRecord);
        assert_eq!(executor.detach(&attachment, Some(&path), None).unwrap(), Detached::Nothing);
        assert_eq!(link_names(), ["lo"]);
    });
}

#[test]
fn a_refusal_keeps_its_sentence_and_its_way_out() {
    with_executor(|executor, _| {
        let restricted = network(Network::DefaultRestricted);
        let netns = Netns::new();
        let capabilities =
            Capabilities { ips: vec!["10.99.0.1/32".parse().unwrap()], ..Capabilities::default() };
        let error = executor.attach(&restricted, &request(path(&netns), capabilities)).unwrap_err();
        let said = error.plugin().unwrap();
        assert_eq!(said.code, cni::PluginError::INVALID_CONFIGURATION);
        assert_eq!(
            said.msg,
            "10.99.0.1 is no address of a pod in the network `default-restricted`"
        );
        assert_eq!(said.details, "it gives out 10.187.128.0/17");
        assert_eq!(link_names(), ["lo"]);
    });
}

#[test]
fn a_network_of_another_name_is_not_ours_to_make() {
    with_executor(|executor, _| {
        let text = configuration(Network::Default).to_string().replace("\"default\"", "\"other\"");
        let other = cni::Network::parse(text.as_bytes()).unwrap();
        let netns = Netns::new();
        let error = executor.attach(&other, &request(path(&netns), Capabilities::default()));
        let error = error.unwrap_err();
        assert_eq!(
            error.plugin().unwrap().msg,
            "the plugin `pod` makes the networks `default` and `default-restricted` only"
        );
    });
}
