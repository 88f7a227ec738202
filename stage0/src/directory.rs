//! Which pods run and have addresses, and what they are called: told by the pods' own records, so it
//! does not matter whose networks they have joined.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use dns::{Directory, Named};
use pod_abi::PodId;
use pod_abi::network::Joined;
use pod_abi::phase::{Home, Phase};

use crate::error::Result;
use crate::pods::{Entry, Pods};

/// A pod that runs and has joined networks.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: PodId,
    pub(crate) name: String,
    pub(crate) joined: Joined,
}

/// Finds all of them. One whose records cannot be read is none, and keeps no other's from us.
///
/// # Errors
///
/// `storage`.
pub(crate) fn members(pods: &Pods) -> Result<Vec<Member>> {
    let mut members = Vec::new();
    for entry in pods.list(Home::Run)? {
        let Entry::Pod(pod) = entry? else { continue };
        let Ok(Some(status)) = pod.status() else { continue };
        if let Some(joined) = status.joined
            && pod.phase() == Phase::Running
        {
            members.push(Member { name: pod.called(), id: pod.id, joined });
        }
    }
    Ok(members)
}

/// Who is called what, for the server of names.
///
/// Looking takes a tenth of the time at most: after a look of a millisecond, as at a dozen pods, it is
/// ten milliseconds old at most, and after one at hundreds some tenths of a second, however much pods
/// ask. That is far less than answers are good for.
#[derive(Debug)]
pub(crate) struct PodDirectory {
    pods: Pods,
    seen: Mutex<Option<Seen>>,
}

/// What was seen, and how long that will do.
#[derive(Debug)]
struct Seen {
    named: Vec<Named>,
    until: Instant,
}

/// How many times as long as it took a look is good.
const SHARE: u32 = 10;

impl PodDirectory {
    /// Returns the directory of `pods`.
    pub(crate) fn new(pods: Pods) -> Self {
        Self { pods, seen: Mutex::default() }
    }
}

impl Directory for PodDirectory {
    fn named(&self) -> io::Result<Vec<Named>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        if let Some(seen) = seen.as_ref().filter(|seen| began < seen.until) {
            return Ok(seen.named.clone());
        }
        let members = members(&self.pods).map_err(io::Error::other)?;
        let named =
            |Member { name, joined, .. }| Named { name, addresses: joined.addresses().collect() };
        let named: Vec<Named> = members.into_iter().map(named).collect();
        let until = Instant::now() + began.elapsed() * SHARE;
        *seen = Some(Seen { named: named.clone(), until });
        Ok(named)
    }
}
