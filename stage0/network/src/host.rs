//! The deeds: links made and removed, looked at and swept, on the host of the calling thread.
//!
//! The order is the same each time. What will be held is written down first, then made; what was
//! made is undone first, then crossed out. So whatever a kill leaves has an entry, and an entry whose
//! pod does not live is thrown out by whoever meets it.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::attachment::{Attached, Network, Owner, Request, Work};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::firewalls::{self, Firewall};
use crate::forwarding;
use crate::leases::{self, Living};
use crate::ledger::{Entry, Ledger, State};
use crate::names;
use crate::nft::Table;
use crate::plan::{self, Plan};
use crate::ports;
use crate::subnet::{Subnet, Subnets};
use netlink::namespace::{self, Setting};
use netlink::{self, Link, LinkId, Prefix, Route, Socket};

/// How long the kernel may take to notice that two ends are connected, and how often it is asked. It
/// notices within a millisecond, or within a second where it has had many events.
const LONGEST_CONNECTING: Duration = Duration::from_secs(5);
const CONNECTING_STEP: Duration = Duration::from_micros(200);

/// The networks of this host, as far as they are ours.
#[derive(Clone, Copy)]
pub struct Host<'a> {
    /// Where leases and choices are kept; made if it is missing.
    pub state: &'a Path,
    /// The name of our table of rules, `pod` for the host's own store.
    pub table: &'a str,
    /// Whether a pod lives. What belongs to one that does not is free.
    pub living: &'a Living<'a>,
}

impl fmt::Debug for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("state", &self.state).finish_non_exhaustive()
    }
}

/// What becomes of a pod's namespace, and so of its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// It stays; the link has to be removed.
    Stays,
    /// It ends with its pod, or has ended. The kernel removes the link, faster than we could.
    Ends,
}

/// What was thrown out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Whose addresses and ports are free again.
    pub owners: Vec<Owner>,
}

/// What came of writing rules anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// How many links they are for.
    pub links: usize,
    /// Who was told to let pods through.
    pub told: Vec<Firewall>,
    /// Who drops what pods send and receive, and cannot be told.
    pub in_the_way: Vec<Firewall>,
}

/// What keeps packets from pods; nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Pods have links, and our rules are gone.
    pub lacks_rules: bool,
    /// Pods have links, and the host does not pass on packets.
    pub lacks_forwarding: bool,
    /// Who drops what is forwarded and does not know pods.
    pub in_the_way: Vec<Firewall>,
}

/// Makes a namespace one that apps can live in: loopback up, every port open to them, `ping` without
/// privileges.
///
/// # Errors
///
/// [`ErrorKind::Namespace`], [`ErrorKind::Kernel`].
pub fn prepare(netns: BorrowedFd<'_>) -> Result<()> {
    Ok(namespace::within(netns, || {
        Socket::open()?.perform(&[netlink::set_up(&LinkId::from("lo"))])?;
        namespace::write_settings(&[
            Setting::new("ipv4/ip_unprivileged_port_start", "0"),
            Setting::new("ipv4/ping_group_range", "0 2147483647"),
        ])
    })?)
}

impl Host<'_> {
    /// Makes a link.
    ///
    /// An owner who has one already, because a start was cut off, gets a new one with the addresses
    /// it had.
    ///
    /// # Errors
    ///
    /// Every kind; nothing of the link is left behind then, as far as it can be undone.
    pub fn attach(&self, netns: BorrowedFd<'_>, request: &Request) -> Result<Attached> {
        request.check()?;
        let state = State::open(self.state)?;
        let (subnets, entry, dirty) = self.reserve(&state, request)?;
        let mut work = Work::default();
        let attached = self
            .admit(&state, &subnets, &entry, dirty, &mut work)
            .and_then(|()| build(netns, request, &entry, subnets.of(request.network), &mut work));
        match attached {
            Ok(attached) => Ok(Attached { work, ..attached }),
            Err(error) => {
                let _ = self.detach(&request.owner, Namespace::Stays); // the first error is the one to tell
                Err(error)
            }
        }
    }

    /// Undoes a link; that there is none is fine.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Storage`], [`ErrorKind::Kernel`], [`ErrorKind::Firewall`]: what was not undone
    /// still has its entry.
    pub fn detach(&self, owner: &Owner, namespace: Namespace) -> Result<()> {
        let state = State::open(self.state)?;
        let entry = state.read()?.of(owner).cloned();
        if let Some(entry) = &entry
            && !entry.ports.is_empty()
        {
            self.retire(&state, entry)?;
        }
        if namespace == Namespace::Stays {
            remove_link(owner)?;
        }
        if entry.is_some() {
            let (held, mut ledger) = state.lock()?;
            let subnets = known_subnets(&state)?;
            if let Some(subnets) = subnets {
                let network = entry.map_or(Network::Default, |entry| entry.network);
                leases::release(&mut ledger, owner, subnets.of(network));
            }
            state.write(&held, &mut ledger)?;
        }
        Ok(())
    }

    /// Makes sure that a link is what it was made to be.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Broken`] names what is missing; others if that cannot be found out.
    pub fn check(&self, netns: BorrowedFd<'_>, owner: &Owner) -> Result<()> {
        let state = State::open(self.state)?;
        let broken = |what: String| Error::new(ErrorKind::Broken, what).hint("start the pod again");
        let entry = state.read()?.of(owner).cloned();
        let entry = entry.ok_or_else(|| broken(format!("{owner} holds no address")))?;
        let subnets = known_subnets(&state)?
            .ok_or_else(|| broken("the file `default.json` has gone".to_owned()))?;
        if !Table::new(self.table, &subnets).is_there()? {
            let message = format!("the table of rules `inet {}` has gone", self.table);
            return Err(
                Error::new(ErrorKind::Broken, message).hint("`pod network reload` restores it")
            );
        }
        let near = plan::link_name(owner);
        let link = find(&mut Socket::open()?, &near)?;
        link.filter(|link| link.up && link.alias.as_deref() == Some(owner.pod.as_str()))
            .ok_or_else(|| broken(format!("the link `{near}` of {owner} has gone or is down")))?;
        let subnet = subnets.of(entry.network);
        let missing = missing_inside(&mut Socket::open_in(netns)?, owner, &entry, subnet)?;
        missing.map_or(Ok(()), |missing| Err(broken(format!("{owner} lacks {missing}"))))
    }

    /// Throws out what belongs to pods that do not live.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Storage`], [`ErrorKind::Kernel`], [`ErrorKind::Firewall`].
    pub fn collect(&self) -> Result<Swept> {
        let state = State::open(self.state)?;
        let is_void = |entry: &&Entry| !(self.living)(&entry.owner.pod);
        if !state.read()?.entries.iter().any(|entry| is_void(&entry)) {
            return Ok(Swept::default());
        }
        // In this order, so that neither a start nor a kill ever sees a port of nobody's.
        let _own = state.own_table()?;
        let (held, mut ledger) = state.lock()?;
        let Some(subnets) = known_subnets(&state)? else { return Ok(Swept::default()) };
        let void: Vec<Entry> = ledger.entries.iter().filter(is_void).cloned().collect();
        let table = Table::new(self.table, &subnets);
        if void.iter().any(|entry| !entry.ports.is_empty()) && table.is_there()? {
            table.write(ledger.entries.iter().filter(|entry| !is_void(entry)))?;
        }
        for entry in &void {
            // Whoever starts such a pod again waits for the ledger, so this link is not its new one.
            remove_link(&entry.owner)?;
            leases::release(&mut ledger, &entry.owner, subnets.of(entry.network));
        }
        state.write(&held, &mut ledger)?;
        Ok(Swept { owners: void.into_iter().map(|entry| entry.owner).collect() })
    }

    /// Writes our rules anew, and has the firewalls beside us let pods through: after a flush, or
    /// when one of them was started.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Storage`], [`ErrorKind::Kernel`], [`ErrorKind::Firewall`].
    pub fn reload(&self) -> Result<Reloaded> {
        let state = State::open(self.state)?;
        let Some(subnets) = known_subnets(&state)? else { return Ok(Reloaded::default()) };
        forwarding::switch_on(namespace::has_ipv6()?)?;
        let mut reloaded = Reloaded::default();
        for firewall in firewalls::in_the_way(&subnets)? {
            match firewalls::tell(&firewall, &subnets)? {
                true => reloaded.told.push(firewall),
                false => reloaded.in_the_way.push(firewall),
            }
        }
        let _own = state.own_table()?;
        let entries = state.read()?.entries;
        let living: Vec<&Entry> =
            entries.iter().filter(|entry| (self.living)(&entry.owner.pod)).collect();
        Table::new(self.table, &subnets).write(living.iter().copied())?;
        reloaded.links = living.len();
        Ok(reloaded)
    }

    /// Looks whether packets get to pods and from them, as far as rules decide.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Storage`], [`ErrorKind::Kernel`], [`ErrorKind::Firewall`].
    pub fn health(&self) -> Result<Health> {
        let state = State::open(self.state)?;
        let Some(subnets) = known_subnets(&state)? else { return Ok(Health::default()) };
        let is_used = !self.entries()?.is_empty();
        Ok(Health {
            lacks_rules: is_used && !Table::new(self.table, &subnets).is_there()?,
            lacks_forwarding: is_used && !forwarding::is_on()?,
            in_the_way: firewalls::in_the_way(&subnets)?,
        })
    }

    /// Returns what is held, of pods that live.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Storage`].
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let entries = State::open(self.state)?.read()?.entries;
        Ok(entries.into_iter().filter(|entry| (self.living)(&entry.owner.pod)).collect())
    }

    /// Returns the subnets, once they are chosen.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Storage`].
    pub fn subnets(&self) -> Result<Option<Subnets>> {
        known_subnets(&State::open(self.state)?)
    }

    /// Enters a request into the ledger. Also returns whether entries had to go that may have left
    /// something in our table.
    fn reserve(&self, state: &State, request: &Request) -> Result<(Subnets, Entry, bool)> {
        let (held, mut ledger) = state.lock()?;
        let subnets = match known_subnets(state)? {
            Some(subnets) => subnets,
            None => {
                let subnets = choose_subnets()?;
                state.keep(&held, "default.json", &subnets.text())?;
                subnets
            }
        };
        let subnet = subnets.of(request.network);
        let mut gone = leases::lease(&mut ledger, request, subnet, self.living)?;
        let rivals = ports::assign(&mut ledger, &request.owner, &request.ports, self.living)?;
        for rival in &rivals {
            leases::rest(&mut ledger, rival, subnets.of(rival.network));
        }
        gone.extend(rivals);
        ports::probe(&request.ports)?;
        state.write(&held, &mut ledger)?;
        let dirty = gone.iter().any(|entry| !entry.ports.is_empty());
        Ok((subnets, entered(&ledger, &request.owner)?, dirty))
    }

    /// Brings what an entry publishes into our table, making the table if it is not there.
    fn admit(
        &self,
        state: &State,
        subnets: &Subnets,
        entry: &Entry,
        dirty: bool,
        work: &mut Work,
    ) -> Result<()> {
        let table = Table::new(self.table, subnets);
        let mut anew = dirty;
        if !anew {
            let _shared = state.join_table()?;
            work.exchanges += 1;
            if table.is_there()? {
                if entry.ports.is_empty() {
                    return Ok(());
                }
                work.nft_runs += 1;
                match table.add(entry) {
                    Ok(()) => return Ok(()),
                    // Something in the table is not as the ledger has it.
                    Err(_) => anew = true,
                }
            }
        }
        let _own = state.own_table()?;
        work.exchanges += 1;
        if !anew && table.is_there()? {
            // Somebody else was as early as we.
            work.nft_runs += u32::from(!entry.ports.is_empty());
            return if entry.ports.is_empty() { Ok(()) } else { table.add(entry) };
        }
        work.nft_runs += 1;
        let counts = |other: &&Entry| other.owner == entry.owner || (self.living)(&other.owner.pod);
        table.write(state.read()?.entries.iter().filter(counts))
    }

    /// Takes what an entry publishes out of our table.
    fn retire(&self, state: &State, entry: &Entry) -> Result<()> {
        let Some(subnets) = known_subnets(state)? else { return Ok(()) };
        let table = Table::new(self.table, &subnets);
        {
            let _shared = state.join_table()?;
            // Nothing is to be taken out of a table that has gone.
            if !table.is_there()? || table.remove(entry).is_ok() {
                return Ok(());
            }
        }
        let _own = state.own_table()?;
        let counts = |other: &&Entry| other.owner != entry.owner && (self.living)(&other.owner.pod);
        table.write(state.read()?.entries.iter().filter(counts))
    }
}

fn entered(ledger: &Ledger, owner: &Owner) -> Result<Entry> {
    let entry = ledger.of(owner).cloned();
    entry.ok_or_else(|| Error::new(ErrorKind::Storage, format!("{owner} is not in the ledger")))
}

fn known_subnets(state: &State) -> Result<Option<Subnets>> {
    state.text("default.json")?.map(|text| Subnets::parse(&text)).transpose()
}

fn choose_subnets() -> Result<Subnets> {
    let any = IpAddr::from([0; 4]);
    let routes = Socket::open()?.perform(&[netlink::list_routes(any)])?;
    let routes: Vec<Prefix> = routes.iter().filter_map(Route::read).map(|route| route.to).collect();
    let mut random = [0; 5];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .context(ErrorKind::Kernel, || "cannot get five random bytes".to_owned())?;
    Subnets::choose(&routes, random)
}

/// Makes the pair and all that belongs to it. The order matters in one place: the pod's namespace is
/// told how to treat links before one is born there.
fn build(
    netns: BorrowedFd<'_>,
    request: &Request,
    entry: &Entry,
    subnet: Subnet,
    work: &mut Work,
) -> Result<Attached> {
    let host_has_ipv6 = namespace::has_ipv6()?;
    let notices = forwarding::switch_on(host_has_ipv6)?;
    let (plan, mut inside) = namespace::within(netns, || {
        let with_ipv6 = host_has_ipv6 && namespace::has_ipv6()?;
        let plan = Plan::new(request, entry, subnet, with_ipv6);
        namespace::write_settings(&plan.settings_inside())?;
        Ok((plan, Socket::open()?))
    })?;
    if plan.v6.is_none()
        && request.ports.iter().any(|port| port.host_address.is_some_and(|ip| ip.is_ipv6()))
    {
        return Err(Error::new(
            ErrorKind::Invalid,
            "a port is published over IPv6, which is switched off here",
        )
        .hint("`sysctl net.ipv6.conf.default.disable_ipv6` tells; publish at an IPv4 address"));
    }
    let mut outside = Socket::open()?;
    let (near, far) = bear(&mut outside, &plan, netns)?;
    inside.perform(&plan.inside(far))?;
    namespace::write_settings(&plan.settings_outside())?;
    outside.perform(&plan.outside(near))?;
    work.exchanges += inside.exchanges() + outside.exchanges() + 1;
    await_running(&mut inside, &plan.veth.far.name)?;
    Ok(Attached {
        owner: request.owner.clone(),
        network: request.network,
        host_link: plan.veth.near.name,
        host_mac: plan.veth.near.mac,
        mac: plan.veth.far.mac,
        v4: plan.v4,
        v6: plan.v6,
        name_server: Some(plan.v4.gateway).filter(|at| names::are_answered_at(*at)),
        has_default_route: plan.has_default_route,
        notices,
        work: Work::default(),
    })
}

/// Makes the pair and returns the numbers of its ends. One that an earlier try of the same pod has
/// left goes first.
fn bear(host: &mut Socket, plan: &Plan, netns: BorrowedFd<'_>) -> Result<(u32, u32)> {
    let name = &plan.veth.near.name;
    let answers = match host.perform(&plan.birth(netns)) {
        Err(error) if error.errno() == Some(nix::libc::EEXIST) => {
            // Gone by now, with its namespace, is as good as removed.
            let former = find(host, name)?;
            if former.as_ref().is_some_and(|link| !plan::is_of(link, &plan.alias)) {
                return Err(error.into());
            }
            if let Some(former) = former {
                remove(host, &former)?;
            }
            host.perform(&plan.birth(netns))?
        }
        answers => answers?,
    };
    let near = answers.iter().find_map(Link::read);
    near.and_then(|link| Some((link.index, link.peer?))).ok_or_else(|| {
        Error::new(ErrorKind::Kernel, format!("the kernel does not tell the ends of `{name}`"))
    })
}

/// Waits until the end that was up first passes packets on.
///
/// It was started while the other end was down, so the kernel takes note of the connection later, in
/// a work queue, and loses what is sent before: a first connection would take a second. Kernels from
/// 6.8 on take note when they are asked (`linkwatch_sync_dev` in `rtnl_getlink`), so one question is
/// the rule.
fn await_running(socket: &mut Socket, name: &str) -> Result<()> {
    let start = Instant::now();
    while !find(socket, name)?.is_some_and(|link| link.running) {
        if start.elapsed() > LONGEST_CONNECTING {
            let message = format!("the link `{name}` of the pod does not get connected");
            return Err(Error::new(ErrorKind::Kernel, message).hint("`ip link` on the host tells"));
        }
        thread::sleep(CONNECTING_STEP);
    }
    Ok(())
}

/// Finds a link by its name.
fn find(socket: &mut Socket, name: &str) -> Result<Option<Link>> {
    match socket.perform(&[netlink::by_name(name)]) {
        Ok(answers) => Ok(answers.iter().find_map(Link::read)),
        Err(error) if error.errno() == Some(nix::libc::ENODEV) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes the link of an owner, if it is there and its own.
fn remove_link(owner: &Owner) -> Result<()> {
    let mut host = Socket::open()?;
    let link = find(&mut host, &plan::link_name(owner))?;
    let link = link.filter(|link| plan::is_of(link, owner.pod.as_str()));
    link.map_or(Ok(()), |link| remove(&mut host, &link))
}

fn remove(host: &mut Socket, link: &Link) -> Result<()> {
    match host.perform(&[netlink::delete(&LinkId::Index(link.index))]) {
        // Its namespace was faster.
        Err(error) if error.errno() == Some(nix::libc::ENODEV) => Ok(()),
        removed => Ok(removed.map(|_| ())?),
    }
}

/// What a pod lacks of its link, in words.
fn missing_inside(
    inside: &mut Socket,
    owner: &Owner,
    entry: &Entry,
    subnet: Subnet,
) -> Result<Option<String>> {
    let name = &owner.interface;
    let Some(link) = find(inside, name)?.filter(|link| link.up) else {
        return Ok(Some(format!("the link `{name}`, or it is down")));
    };
    let addresses = inside.perform(&[netlink::list_addresses()])?;
    let address = Prefix::host(entry.v4.into());
    if !addresses.iter().any(|answer| link.address(answer) == Some(address)) {
        return Ok(Some(format!("its address {address}")));
    }
    let gateway = IpAddr::from(subnet.v4.gateway());
    let wanted = match entry.network {
        Network::Default => {
            Route { to: Prefix::everything(gateway), link: Some(link.index), via: Some(gateway) }
        }
        Network::DefaultRestricted => {
            Route { to: Prefix::host(gateway), link: Some(link.index), via: None }
        }
    };
    let routes = inside.perform(&[netlink::list_routes(gateway)])?;
    let has = routes.iter().filter_map(Route::read).any(|route| route == wanted);
    Ok((!has).then(|| format!("its route to {}", wanted.to)))
}
