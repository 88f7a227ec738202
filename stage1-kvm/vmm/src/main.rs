//! The monitor as a program: reads its [`Description`], builds the machine, runs it to its end.
//!
//! How it ended is told on the helm. The exit status is 0 if it could be, and [`exit::OURS`] if
//! there was no helm to tell it on; then a line on standard error says why.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;

use confine::OnViolation;
use pod_abi::exit;
use vmm::counters::Tally;
use vmm::description::{Description, fd};
use vmm::machine::{self, Confine};
use vmm::outfit::{Given, Resources};
use vmm::sandbox::Sandbox;

/// Bytes of a description: none comes near.
const MAX_DESCRIPTION: u64 = 1 << 20;

fn main() -> ExitCode {
    let tally = Arc::new(Tally::begin());
    match adopt() {
        Ok((description, given)) => {
            let confine: Arc<dyn Confine> = Arc::new(Sandbox { on: OnViolation::Kill });
            machine::run(&description, given, tally, &confine);
            ExitCode::SUCCESS
        }
        Err(error) => {
            // Nobody is there to read it if this fails.
            let _ = writeln!(io::stderr(), "vmm: {error}");
            ExitCode::from(exit::OURS)
        }
    }
}

fn adopt() -> io::Result<(Description, Given)> {
    let helm = pod_sys::inherited(fd::HELM)?;
    let text = File::from(pod_sys::inherited(fd::DESCRIPTION)?);
    let mut json = Vec::new();
    text.take(MAX_DESCRIPTION).read_to_end(&mut json)?;
    let description: Description = serde_json::from_slice(&json)?;
    let rows = description.images.len()
        + usize::from(description.scratch)
        + description.nics.len()
        + description.shares.len();
    // Whatever else is open came by mistake.
    let end = i32::try_from(rows).ok().and_then(|rows| fd::FIRST.checked_add(rows));
    pod_sys::close_from(end.unwrap_or(i32::MAX))?;
    let mut next = fd::FIRST..;
    let mut row = |count: usize| -> io::Result<Vec<OwnedFd>> {
        next.by_ref().take(count).map(pod_sys::inherited).collect()
    };
    let rest = Resources {
        kvm: Some(pod_sys::inherited(fd::KVM)?),
        kernel: pod_sys::inherited(fd::KERNEL)?,
        initramfs: pod_sys::inherited(fd::INITRAMFS)?,
        wall: Some(pod_sys::inherited(fd::WALL)?),
        inner: Some(pod_sys::inherited(fd::INNER)?),
        images: row(description.images.len())?,
        scratch: row(usize::from(description.scratch))?.pop(),
        taps: row(description.nics.len())?,
        shares: row(description.shares.len())?,
    };
    Ok((description, Given { helm, rest }))
}
