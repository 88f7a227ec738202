//! Taking over from stage0, and becoming `pod reap` at the end.
//!
//! The only place that knows descriptor numbers of the stage ABI. Everything adopted is
//! close-on-exec until the last deed, so that no child can keep a dead pod's lock.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use nix::unistd::{execveat, fchdir};
use pod_abi::credential::{MAX_CREDENTIALS, MAX_SOCKETS};
use pod_abi::stage::{self, Order, fd};
use pod_abi::version;
use pod_sys::{close_on_exec_from, inherited, place};

use crate::error::{During, Failure};
use crate::signals;

/// The longest order read, in bytes: 64 apps with every list full fit.
const MAX_ORDER: u64 = 64 << 20;

/// The descriptors that live as long as the pod.
#[derive(Debug)]
pub struct Inherited {
    /// The pod's directory, locked.
    pub pod: OwnedFd,
    /// The executable of `pod`.
    pub program: OwnedFd,
    /// The pod's run directory.
    pub run: OwnedFd,
    /// The lease of the range of user ids.
    pub ids: Option<OwnedFd>,
    /// The sockets, as many as [`Order::sockets`]: an app that comes later may ask for one.
    pub sockets: Vec<OwnedFd>,
}

/// Bytes set aside for an order, so that a usual one is read at once.
const ORDER: usize = 16 << 10;

/// What stage0 handed over.
#[derive(Debug)]
pub struct Handover {
    /// What to run.
    pub order: Order,
    /// What to hold.
    pub inherited: Inherited,
    /// The directory beneath which all layers lie.
    pub layers: OwnedFd,
    /// The credentials, as many as [`Order::credentials`]: to be let go of once apps have them.
    pub credentials: Vec<OwnedFd>,
}

impl Handover {
    /// Adopts what stage0 left open and reads the order. To be called once, first thing.
    ///
    /// # Errors
    ///
    /// [`Failure`] if a descriptor of the table is not open, the order is none, or its version is
    /// not `understood`.
    pub fn adopt(understood: version::AbiRange) -> Result<Self, Failure> {
        // A descriptor of the caller's that is in no table must not reach anything we execute.
        close_on_exec_from(3).during(|| "cannot mark descriptors, close_range(3, ~0, CLOEXEC)")?;
        let adopt = |number: i32, what: &str| {
            inherited(number).during(|| format!("descriptor {number} is not open: {what}"))
        };
        let pod = adopt(fd::POD, "the pod's directory")?;
        let order = adopt(fd::ORDER, "the order")?;
        let program = adopt(fd::SELF, "the executable of `pod`")?;
        let layers = adopt(fd::LAYERS, "the directory of layers")?;
        let run = adopt(fd::RUN, "the run directory")?;
        let order = read_order(order, understood)?;
        let ids = match order.ids {
            Some(_) => Some(adopt(fd::IDS, "the lease of user ids")?),
            None => None,
        };
        let (sockets, secrets) = (order.sockets.len(), order.credentials.len());
        if sockets > MAX_SOCKETS || secrets > MAX_CREDENTIALS {
            let what =
                format!("{sockets} sockets and {secrets} credentials are more than there can be");
            return Err(Failure::new(what).code("stage1.order"));
        }
        let mut row = (fd::FIRST..).map(|number| adopt(number, "a socket or credential"));
        let sockets = row.by_ref().take(sockets).collect::<Result<_, _>>()?;
        let credentials = row.take(secrets).collect::<Result<_, _>>()?;
        let inherited = Inherited { pod, program, run, ids, sockets };
        Ok(Self { order, inherited, layers, credentials })
    }
}

fn read_order(order: OwnedFd, understood: version::AbiRange) -> Result<Order, Failure> {
    let mut text = Vec::with_capacity(ORDER);
    let mut file = File::from(order).take(MAX_ORDER);
    file.read_to_end(&mut text).during(|| "cannot read the order")?;
    let refused = |source| Failure::of("the order is not understood", source).code("stage1.order");
    // The version is looked at first: an order of another version may have any other shape.
    let AbiOnly { abi } = serde_json::from_slice(&text).map_err(refused)?;
    if !understood.contains(abi) {
        let (oldest, newest) = (understood.oldest, understood.newest);
        let what =
            format!("this stage1 understands stage ABI {oldest} to {newest}, and `pod` has {abi}");
        return Err(Failure::new(what)
            .code("stage1.abi")
            .hint("install `pod` and its stage1s from one release"));
    }
    serde_json::from_slice(&text).map_err(refused)
}

#[derive(serde::Deserialize)]
struct AbiOnly {
    abi: u32,
}

impl Inherited {
    /// Becomes `pod reap`, which releases what the pod held and exits with `code`. Returns only
    /// if that fails.
    ///
    /// The signal mask is emptied before, for whatever is pending is no longer the pod's.
    #[must_use]
    pub fn become_reaper(self, order: &Order, code: u8) -> Failure {
        match self.reap(order, code) {
            Ok(never) => match never {},
            Err(failure) => failure,
        }
    }

    fn reap(self, order: &Order, code: u8) -> Result<std::convert::Infallible, Failure> {
        let argv: Vec<CString> = stage::reap_argv(&order.pod.uuid, code, order.output)
            .into_iter()
            .map(CString::new)
            .collect::<Result<_, _>>()
            .map_err(|source| Failure::of("an argument holds a NUL byte", source))?;
        fchdir(&self.pod).during(|| "cannot enter the pod's directory")?;
        let placing = |number: i32| move || format!("cannot place descriptor {number}");
        place(self.pod.as_fd(), fd::POD).during(placing(fd::POD))?;
        place(self.program.as_fd(), fd::SELF).during(placing(fd::SELF))?;
        place(self.run.as_fd(), fd::RUN).during(placing(fd::RUN))?;
        if let Some(ids) = &self.ids {
            place(ids.as_fd(), fd::IDS).during(placing(fd::IDS))?;
        }
        signals::restore().during(|| "cannot empty the signal mask")?;
        let environment: [&CString; 0] = [];
        execveat(&self.program, c"", &argv, &environment, nix::fcntl::AtFlags::AT_EMPTY_PATH)
            .during(|| "cannot become `pod reap`, execveat(SELF)")
    }
}
