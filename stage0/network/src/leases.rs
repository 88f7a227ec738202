//! Who gets which addresses. Pure: a ledger in, a ledger out.
//!
//! Numbers are given in turn, from where the last search ended, so that an address rests as long as
//! it can before somebody else has it: routers, firewalls and peers remember. Those given back last
//! rest even when the turn has come round to them.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use pod_abi::PodId;

use crate::attachment::{Network, Owner, Request};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{Entry, Ledger};
use crate::subnet::Subnet;

/// How many numbers rest. Enough for hours of starts and stops, few enough to be written each time.
const RESTING: usize = 1024;

/// Tells whether a pod lives; what belongs to one that does not is free.
pub(crate) type Living<'a> = dyn Fn(&PodId) -> bool + Sync + 'a;

/// Finds addresses for a request and enters it, without ports.
///
/// An owner who is in the ledger already keeps its addresses unless it asks for others. Returns the
/// entries that had to go, because their pods do not live.
///
/// # Errors
///
/// [`ErrorKind::Invalid`] for an address outside of the network, [`ErrorKind::AddressTaken`],
/// [`ErrorKind::Exhausted`].
pub(crate) fn lease(
    ledger: &mut Ledger,
    request: &Request,
    subnet: Subnet,
    living: &Living<'_>,
) -> Result<Vec<Entry>> {
    let mut gone = Vec::new();
    let former = take(ledger, &request.owner);
    let kept = former.as_ref().filter(|former| former.network == request.network);
    let kept = kept.map(|former| (former.v4, former.v6));
    gone.extend(former);

    let (v4, v6) = wishes(request, subnet)?;
    for holder in holders(ledger, v4, v6) {
        if living(&holder.pod) {
            return Err(taken(request, &holder));
        }
        gone.extend(release(ledger, &holder, subnet));
    }

    let kept = kept.filter(|kept| {
        let fits = v4.is_none_or(|wish| wish == kept.0) && v6.is_none_or(|wish| wish == kept.1);
        let still_here = subnet.v4.number(kept.0).is_some() && subnet.v6.holds(kept.1);
        fits && still_here && holders(ledger, Some(kept.0), Some(kept.1)).is_empty()
    });
    let (v4, v6) = match (kept, v4.zip(v6)) {
        (Some(kept), _) => kept,
        (None, Some(wished)) => wished,
        (None, None) => {
            let number = match next(ledger, request.network, subnet, v6) {
                Some(number) => number,
                None => {
                    gone.extend(expel(ledger, request.network, subnet, living));
                    next(ledger, request.network, subnet, v6)
                        .ok_or_else(|| exhausted(request.network, subnet))?
                }
            };
            (subnet.v4.at(number), v6.unwrap_or_else(|| subnet.v6.at(number)))
        }
    };
    ledger.entries.push(Entry {
        owner: request.owner.clone(),
        network: request.network,
        v4,
        v6,
        ports: Vec::new(),
    });
    Ok(gone)
}

/// Takes an owner's entry out and lets its number rest.
pub(crate) fn release(ledger: &mut Ledger, owner: &Owner, subnet: Subnet) -> Option<Entry> {
    let entry = take(ledger, owner)?;
    rest(ledger, &entry, subnet);
    Some(entry)
}

/// Lets the number of an entry that was taken out rest.
pub(crate) fn rest(ledger: &mut Ledger, entry: &Entry, subnet: Subnet) {
    let Some(number) = subnet.v4.number(entry.v4) else { return };
    let turn = ledger.turns.entry(entry.network).or_default();
    turn.freed.retain(|freed| *freed != number);
    turn.freed.push_back(number);
    while turn.freed.len() > RESTING {
        turn.freed.pop_front();
    }
}

/// The addresses that are wished for, once it is known that they are of this network. Whoever wishes
/// for an IPv4 address gets the IPv6 address of the same number.
fn wishes(request: &Request, subnet: Subnet) -> Result<(Option<Ipv4Addr>, Option<Ipv6Addr>)> {
    let outside = |address: String, range: String| {
        let network = request.network;
        let message = format!("{address} is no address of a pod in the network `{network}`");
        Error::new(ErrorKind::Invalid, message).hint(format!("it gives out {range}"))
    };
    if let Some(v6) = request.v6.filter(|v6| !subnet.v6.holds(*v6)) {
        return Err(outside(v6.to_string(), subnet.v6.to_string()));
    }
    let Some(v4) = request.v4 else { return Ok((None, request.v6)) };
    let number = subnet.v4.number(v4);
    let number = number.ok_or_else(|| outside(v4.to_string(), subnet.v4.to_string()))?;
    Ok((Some(v4), Some(request.v6.unwrap_or_else(|| subnet.v6.at(number)))))
}

fn taken(request: &Request, holder: &Owner) -> Error {
    let wish = match (request.v4, request.v6) {
        (Some(v4), Some(v6)) => format!("{v4} or {v6}"),
        (Some(v4), None) => v4.to_string(),
        (None, Some(v6)) => v6.to_string(),
        (None, None) => "the address".to_owned(),
    };
    Error::new(ErrorKind::AddressTaken, format!("{wish} belongs to {holder}"))
        .hint("choose another, or none: one that is free is found")
}

fn exhausted(network: Network, subnet: Subnet) -> Error {
    let message = format!("every address of the network `{network}`, {}, is in use", subnet.v4);
    Error::new(ErrorKind::Exhausted, message)
        .hint("stop a pod, or give the network a larger subnet in `default.json`")
}

/// Who has one of these addresses.
fn holders(ledger: &Ledger, v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>) -> Vec<Owner> {
    let holds = |entry: &&Entry| v4 == Some(entry.v4) || v6 == Some(entry.v6);
    ledger.entries.iter().filter(holds).map(|entry| entry.owner.clone()).collect()
}

fn take(ledger: &mut Ledger, owner: &Owner) -> Option<Entry> {
    let at = ledger.entries.iter().position(|entry| entry.owner == *owner)?;
    Some(ledger.entries.remove(at))
}

/// Takes out every entry of a network whose pod does not live.
pub(crate) fn expel(
    ledger: &mut Ledger,
    network: Network,
    subnet: Subnet,
    living: &Living<'_>,
) -> Vec<Entry> {
    let void = |entry: &&Entry| entry.network == network && !living(&entry.owner.pod);
    let owners: Vec<Owner> =
        ledger.entries.iter().filter(void).map(|entry| entry.owner.clone()).collect();
    owners.iter().filter_map(|owner| release(ledger, owner, subnet)).collect()
}

/// Finds the number whose turn it is and moves the turn on.
fn next(
    ledger: &mut Ledger,
    network: Network,
    subnet: Subnet,
    v6: Option<Ipv6Addr>,
) -> Option<u32> {
    let v4s: HashSet<Ipv4Addr> = ledger.entries.iter().map(|entry| entry.v4).collect();
    let v6s: HashSet<Ipv6Addr> = ledger.entries.iter().map(|entry| entry.v6).collect();
    let is_free = |number: &u32| {
        let free6 = v6.is_some() || !v6s.contains(&subnet.v6.at(*number));
        free6 && !v4s.contains(&subnet.v4.at(*number))
    };
    let turn = ledger.turns.entry(network).or_default();
    let numbers = subnet.v4.numbers();
    let start = turn.next.clamp(numbers.start, numbers.end);
    let resting: HashSet<u32> = turn.freed.iter().copied().collect();
    let in_turn = (start..numbers.end).chain(numbers.start..start);
    let rested = in_turn.clone().filter(|number| !resting.contains(number)).find(is_free);
    let number = match rested {
        Some(number) => {
            turn.next = number + 1;
            number
        }
        None => {
            turn.freed.iter().copied().filter(|number| numbers.contains(number)).find(is_free)?
        }
    };
    turn.freed.retain(|freed| *freed != number);
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subnet::Subnets;

    fn pod(number: u32) -> PodId {
        PodId::parse(&format!("{number:08x}-0000-4000-8000-000000000000")).unwrap()
    }

    fn request(number: u32) -> Request {
        Request::new(pod(number), "eth0", Network::Default)
    }

    /// 10.1.0.0/29: pods may have 2 to 6.
    fn small() -> Subnet {
        let text = Subnets::choose(&[], [0; 5]).unwrap().text();
        Subnets::parse(&text.replace("10.187.0.0/17", "10.1.0.0/29")).unwrap().of(Network::Default)
    }

    fn everybody(_: &PodId) -> bool {
        true
    }

    fn nobody(_: &PodId) -> bool {
        false
    }

    fn leased(ledger: &mut Ledger, number: u32) -> u8 {
        lease(ledger, &request(number), small(), &everybody).unwrap();
        ledger.of(&request(number).owner).unwrap().v4.octets()[3]
    }

    #[test]
    fn what_was_given_back_last_is_given_out_last() {
        let mut ledger = Ledger::default();
        let given: Vec<u8> = (0..4).map(|pod| leased(&mut ledger, pod)).collect();
        assert_eq!(given, [2, 3, 4, 5]);
        for pod in [2, 0] {
            release(&mut ledger, &request(pod).owner, small());
        }
        assert_eq!(leased(&mut ledger, 10), 6);
        assert_eq!(leased(&mut ledger, 11), 4, "given back before 2");
        assert_eq!(leased(&mut ledger, 12), 2);
        let error = lease(&mut ledger, &request(13), small(), &everybody).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exhausted);
    }

    #[test]
    fn a_lease_is_void_with_its_pod() {
        let mut ledger = Ledger::default();
        for pod in 0..5 {
            leased(&mut ledger, pod);
        }
        let only_first = |id: &PodId| *id == pod(0);
        let gone = lease(&mut ledger, &request(10), small(), &only_first).unwrap();
        assert_eq!(gone.len(), 4);
        let left: Vec<&PodId> = ledger.entries.iter().map(|entry| &entry.owner.pod).collect();
        assert_eq!(left, [&pod(0), &pod(10)]);
    }

    #[test]
    fn an_address_that_is_asked_for_is_in_the_network_and_free_or_refused() {
        let mut ledger = Ledger::default();
        leased(&mut ledger, 0);
        let wish = |last| Request { v4: Some([10, 1, 0, last].into()), ..request(1) };
        for (last, kind) in [
            (0, ErrorKind::Invalid),
            (1, ErrorKind::Invalid),
            (7, ErrorKind::Invalid),
            (8, ErrorKind::Invalid),
            (2, ErrorKind::AddressTaken),
        ] {
            let error = lease(&mut ledger, &wish(last), small(), &everybody).unwrap_err();
            assert_eq!(error.kind(), kind, "{last}: {error}");
        }
        let error = lease(&mut ledger, &wish(2), small(), &everybody).unwrap_err();
        assert_eq!(
            error.to_string(),
            "10.1.0.2 belongs to pod 00000000-0000-4000-8000-000000000000 (`eth0`)"
        );
        let gone = lease(&mut ledger, &wish(2), small(), &nobody).unwrap();
        assert_eq!(gone[0].owner, request(0).owner);
        let entry = ledger.of(&request(1).owner).unwrap();
        assert_eq!((entry.v4, entry.v6), ([10, 1, 0, 2].into(), small().v6.at(2)));
    }

    #[test]
    fn an_ipv6_address_that_was_asked_for_is_nobodys_pair() {
        let mut ledger = Ledger::default();
        let odd = Request { v6: Some(small().v6.at(3)), ..request(0) };
        lease(&mut ledger, &odd, small(), &everybody).unwrap();
        assert_eq!(leased(&mut ledger, 1), 4, "3 would mean an IPv6 address that is taken");
        let wish = Request { v4: Some([10, 1, 0, 3].into()), ..request(2) };
        let error = lease(&mut ledger, &wish, small(), &everybody).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddressTaken);
    }

    #[test]
    fn a_pod_that_starts_again_keeps_its_address() {
        let mut ledger = Ledger::default();
        leased(&mut ledger, 0);
        assert_eq!(leased(&mut ledger, 1), 3);
        assert_eq!(leased(&mut ledger, 1), 3);
        assert_eq!(ledger.entries.len(), 2);
    }

    #[test]
    fn a_pod_has_an_address_for_each_of_its_links() {
        let mut ledger = Ledger::default();
        leased(&mut ledger, 0);
        let second = Request::new(pod(0), "eth1", Network::Default);
        lease(&mut ledger, &second, small(), &everybody).unwrap();
        assert_eq!(ledger.of(&second.owner).unwrap().v4, Ipv4Addr::new(10, 1, 0, 3));
    }
}
