//! What is said to a question, decided from who is called what: pure.
//!
//! A pod is known by its name and by its name in the domain [`DOMAIN`]. Nothing in that domain is
//! ever passed on, and no address of a pod is looked up elsewhere: what others say of our names is of
//! no interest, and what we ask about them is nobody's business.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::message::{Answer, Code, INTERNET, Query, Unasked, kind};

/// The domain of pods. Not delegated in the DNS of the world, and not `local`, which is mDNS's.
pub const DOMAIN: &str = "pod";

/// How long an answer about a pod is good, in seconds: pods come and go, and asking again costs
/// little; longer, and a pod that started again would not be found where it is.
const TTL_S: u32 = 2;

/// A name and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name of a pod; what cannot stand in a question is never found.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Who is called what.
pub trait Directory: Send + Sync {
    /// Returns all pods that run now and have addresses. Called for each question.
    ///
    /// # Errors
    ///
    /// If that cannot be found out; the asker hears of a failure and may ask again.
    fn named(&self) -> io::Result<Vec<Named>>;
}

/// What to do about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Say nothing.
    Silence,
    /// Say this.
    Reply(Vec<u8>),
    /// Ask somebody else.
    Forward,
}

/// Decides what to do about `message`, which came from `asker`.
///
/// Only pods and this host itself may have questions passed on: a server that does so for everybody
/// is what attacks on others are made of. `here` are the addresses this server listens on, from which
/// this host asks it.
#[must_use]
pub fn answer(message: &[u8], asker: IpAddr, here: &[IpAddr], named: &[Named]) -> Verdict {
    let query = match Query::parse(message) {
        Ok(query) => query,
        Err(Unasked::Silence) => return Verdict::Silence,
        Err(Unasked::Reply(reply)) => return Verdict::Reply(reply),
    };
    let say = |code| Verdict::Reply(query.reply(code));
    if query.edns.is_some_and(|edns| edns.version != 0) {
        return say(Code::BadVersion);
    }
    if query.class != INTERNET || matches!(query.kind, kind::AXFR | kind::IXFR) {
        return say(Code::Refused);
    }
    if let Some(text) = query.text()
        && let Some(reply) = ours(&query, &text, named)
    {
        return Verdict::Reply(reply);
    }
    let asker = asker.to_canonical();
    let known = asker.is_loopback()
        || here.contains(&asker)
        || named.iter().any(|one| one.addresses.contains(&asker));
    if known { Verdict::Forward } else { say(Code::Refused) }
}

/// Returns the answer to a question about pods.
fn ours(query: &Query<'_>, text: &str, named: &[Named]) -> Option<Vec<u8>> {
    if let Some(address) = reversed(text) {
        let found = named.iter().filter(|one| one.addresses.contains(&address));
        let names: Vec<&str> = found.map(|one| one.name.as_str()).collect();
        if names.is_empty() {
            return None;
        }
        let mut answer = Answer::new(query, Code::Fine).authoritative();
        if matches!(query.kind, kind::PTR | kind::ANY) {
            for name in names {
                answer.pointer(&format!("{}.{DOMAIN}", name.to_ascii_lowercase()), TTL_S);
            }
        }
        return Some(answer.finish());
    }
    let within = text.strip_suffix(DOMAIN).and_then(|front| front.strip_suffix('.'));
    let name = within.unwrap_or(text);
    let mut found = named.iter().filter(|one| one.name.eq_ignore_ascii_case(name)).peekable();
    if found.peek().is_none() {
        let nobody = within.is_some() || text == DOMAIN;
        return nobody.then(|| Answer::new(query, Code::NoName).authoritative().finish());
    }
    let mut answer = Answer::new(query, Code::Fine).authoritative();
    for address in found.flat_map(|one| &one.addresses) {
        let asked = match address {
            IpAddr::V4(_) => matches!(query.kind, kind::A | kind::ANY),
            IpAddr::V6(_) => matches!(query.kind, kind::AAAA | kind::ANY),
        };
        if asked {
            answer.address(*address, TTL_S);
        }
    }
    Some(answer.finish())
}

/// Returns the address that a name of the reverse tree stands for (RFC 1035 §3.5, RFC 3596 §2.5).
fn reversed(text: &str) -> Option<IpAddr> {
    if let Some(front) = text.strip_suffix(".in-addr.arpa") {
        let mut octets = [0_u8; 4];
        let mut parts = front.split('.');
        for octet in octets.iter_mut().rev() {
            *octet = parts.next()?.parse().ok()?;
        }
        return parts.next().is_none().then(|| Ipv4Addr::from(octets).into());
    }
    let front = text.strip_suffix(".ip6.arpa")?;
    let mut number = 0_u128;
    let mut digits = 0_u32;
    for digit in front.split('.') {
        let &[byte] = digit.as_bytes() else { return None };
        let value = char::from(byte).to_digit(16)?;
        number |= u128::from(value).checked_shl(digits * 4).filter(|_| digits < 32)?;
        digits += 1;
    }
    (digits == 32).then(|| Ipv6Addr::from(number).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{HEADER, wire};

    fn pods() -> Vec<Named> {
        let shop = ["10.88.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        vec![
            Named { name: "Shop".into(), addresses: shop.to_vec() },
            Named { name: "old".into(), addresses: vec!["10.88.0.3".parse().unwrap()] },
        ]
    }

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut bytes = vec![1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(&wire(name).unwrap());
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&INTERNET.to_be_bytes());
        bytes
    }

    fn ask(name: &str, kind: u16, asker: &str) -> Verdict {
        let here = ["10.88.0.1".parse().unwrap()];
        answer(&question(name, kind), asker.parse().unwrap(), &here, &pods())
    }

    /// The code, how many answers, and the last bytes.
    fn told(name: &str, kind: u16) -> (u8, u8, Vec<u8>) {
        let Verdict::Reply(reply) = ask(name, kind, "10.88.0.2") else { panic!("{name}") };
        let data = HEADER + question(name, kind).len() - HEADER + 12;
        (reply[3] & 0x0f, reply[7], reply.get(data..).unwrap_or_default().to_vec())
    }

    #[test]
    fn a_pod_is_found_by_its_name_with_and_without_its_domain() {
        for name in ["shop", "SHOP.pod", "shop.POD"] {
            assert_eq!(told(name, kind::A), (0, 1, vec![10, 88, 0, 2]));
            let (code, count, data) = told(name, kind::AAAA);
            assert_eq!((code, count, data.last()), (0, 1, Some(&2)));
            assert_eq!(told(name, kind::ANY).1, 2);
        }
    }

    #[test]
    fn a_name_without_such_an_address_exists_nevertheless() {
        assert_eq!(told("old", kind::AAAA), (0, 0, vec![]));
        assert_eq!(told("old.pod", 16), (0, 0, vec![]));
    }

    #[test]
    fn no_name_in_our_domain_is_asked_for_elsewhere() {
        assert_eq!(told("nobody.pod", kind::A).0, 3);
        assert_eq!(told("a.shop.pod", kind::A).0, 3);
        assert_eq!(told("pod", kind::A).0, 3);
        assert_eq!(ask("nobody", kind::A, "10.88.0.2"), Verdict::Forward);
        assert_eq!(ask("tripod", kind::A, "10.88.0.2"), Verdict::Forward);
    }

    #[test]
    fn an_address_of_a_pod_has_its_name() {
        let name = wire("shop.pod").unwrap();
        assert_eq!(told("2.0.88.10.in-addr.arpa", kind::PTR), (0, 1, name.clone()));
        let v6 = format!("2.{}d.f.ip6.arpa", "0.".repeat(29));
        assert_eq!(told(&v6, kind::PTR), (0, 1, name));
        for other in ["9.0.88.10.in-addr.arpa", "2.0.88.in-addr.arpa", "1.2.ip6.arpa"] {
            assert_eq!(ask(other, kind::PTR, "10.88.0.2"), Verdict::Forward, "{other}");
        }
    }

    #[test]
    fn only_pods_and_this_host_have_questions_passed_on() {
        for asker in ["10.88.0.2", "fd00::2", "127.0.0.1", "::1", "10.88.0.1", "::ffff:10.88.0.3"] {
            assert_eq!(ask("example.com", kind::A, asker), Verdict::Forward, "{asker}");
        }
        let Verdict::Reply(reply) = ask("example.com", kind::A, "192.0.2.1") else { panic!() };
        assert_eq!(reply[3] & 0x0f, 5);
    }

    #[test]
    fn whole_zones_and_other_classes_are_refused() {
        let Verdict::Reply(reply) = ask("example.com", kind::AXFR, "10.88.0.2") else { panic!() };
        assert_eq!(reply[3] & 0x0f, 5);
    }
}
