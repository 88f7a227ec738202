//! What strangers can send, as a function of bytes: a question of a client, and, as the second half,
//! what somebody claims to be the answer.

use std::net::IpAddr;

use dns::Named;
use dns::answer::{Verdict, answer};
use dns::message::{MOST, PLAIN, Query};

/// Takes anything; what it must hold is asserted.
pub(crate) fn body(bytes: &[u8]) {
    let (asker, rest) = bytes.split_first().map_or((0, bytes), |(first, rest)| (*first, rest));
    let half = rest.iter().position(|byte| *byte == 0xff).unwrap_or(rest.len());
    let asked = &rest[..half];
    let claimed = rest.get(half + 1..).unwrap_or_default();
    let shop = [IpAddr::from([10, 88, 0, 2]), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 2])];
    let named = [Named { name: "shop".to_owned(), addresses: shop.to_vec() }];
    let here = [IpAddr::from([10, 88, 0, 1])];
    let verdict = answer(asked, IpAddr::from([10, 88, 0, asker % 4]), &here, &named);
    if let Verdict::Reply(reply) = &verdict {
        assert_eq!(reply[..2], asked[..2], "it is under the id of the question");
        assert_ne!(reply[2] & 0x80, 0, "it is an answer, which nobody answers");
    }
    let Ok(query) = Query::parse(asked) else {
        assert_ne!(verdict, Verdict::Forward, "what cannot be read is not passed on");
        return;
    };
    let _ = query.text(); // any bytes may be a name
    assert!((PLAIN..=MOST).contains(&query.room()));
    if let Verdict::Reply(reply) = verdict {
        assert!(query.fits(&reply, [asked[0], asked[1]]));
        assert!(query.truncated(reply).len() <= query.room());
    }
    if query.fits(claimed, [asked[0], asked[1]]) {
        let short = query.truncated(claimed.to_vec());
        assert!(short.len() <= query.room());
        assert!(query.fits(&short, [asked[0], asked[1]]));
    }
}
