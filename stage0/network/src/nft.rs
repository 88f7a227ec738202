//! Our table of rules: `inet pod`, written whole in one transaction, after which pods come and go as
//! elements of its maps and sets.
//!
//! No rule of anybody else is read or changed, and none of ours is found by its text. Whether the
//! table is there, and is the one this program would write, is one question to the kernel: the name
//! of its set `mark_…` is a digest of the rules. So a flush by the administrator and an upgrade of
//! ours look the same, and are healed by the same writing.

mod script;

use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::ledger::Entry;
use crate::subnet::Subnets;

/// Where `nft` and other programs are looked for; the `PATH` of a service may be anything.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The most of what `nft` complains that is passed on, in bytes.
pub(crate) const LONGEST_COMPLAINT: usize = 2000;

/// Our table on this host.
#[derive(Clone, Debug)]
pub(crate) struct Table<'a> {
    name: &'a str,
    subnets: &'a Subnets,
}

impl<'a> Table<'a> {
    pub(crate) fn new(name: &'a str, subnets: &'a Subnets) -> Self {
        Self { name, subnets }
    }

    /// Tells whether the table is there, as we would write it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Kernel`].
    pub(crate) fn is_there(&self) -> Result<bool> {
        let mark = script::mark(self.subnets);
        let question = question(self.name, &mark);
        let deed = "look for our table of rules";
        match netlink::exchange_raw(SockProtocol::NetlinkNetFilter, &question, deed)? {
            None => Ok(true),
            Some(Errno::ENOENT) => Ok(false),
            // A kernel that has not loaded nf_tables yet does not know the question.
            Some(Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(false),
            Some(errno) => Err(io::Error::from(errno)).context(ErrorKind::Kernel, || {
                format!("cannot look for the table `inet {}`, NFT_MSG_GETSET", self.name)
            }),
        }
    }

    /// Writes the table anew, with these attachments in it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Firewall`]: the table is as it was.
    pub(crate) fn write<'e>(&self, entries: impl IntoIterator<Item = &'e Entry>) -> Result<()> {
        run(&script::whole(self.name, self.subnets, entries))
    }

    /// Adds what an attachment publishes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Firewall`]: nothing was added.
    pub(crate) fn add(&self, entry: &Entry) -> Result<()> {
        run(&script::elements("add", self.name, entry))
    }

    /// Removes what an attachment publishes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Firewall`]: nothing was removed, for example because something was not there.
    pub(crate) fn remove(&self, entry: &Entry) -> Result<()> {
        run(&script::elements("delete", self.name, entry))
    }
}

/// `NFT_MSG_GETSET` for a set of a table of the family `inet`: `struct nlmsghdr`, `struct nfgenmsg`,
/// two attributes of text. Source: `linux/netfilter/nfnetlink.h`, `nf_tables.h`.
fn question(table: &str, set: &str) -> Vec<u8> {
    const GETSET: u16 = 10 << 8 | 10; // NFNL_SUBSYS_NFTABLES, NFT_MSG_GETSET
    const REQUEST_AND_ACK: u16 = 1 | 4; // NLM_F_REQUEST, NLM_F_ACK
    const INET: u8 = 1; // NFPROTO_INET
    const TABLE: u16 = 1; // NFTA_SET_TABLE
    const NAME: u16 = 2; // NFTA_SET_NAME

    let mut body = vec![INET, 0, 0, 0];
    for (kind, text) in [(TABLE, table), (NAME, set)] {
        let length = u16::try_from(4 + text.len() + 1).unwrap_or(u16::MAX);
        body.extend(length.to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(text.as_bytes());
        body.push(0);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let length = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(GETSET.to_ne_bytes());
    message.extend(REQUEST_AND_ACK.to_ne_bytes());
    message.extend(1_u32.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(body);
    message
}

/// Has `nft` perform a script as one transaction, in the network namespace of the calling thread.
fn run(script: &str) -> Result<()> {
    let spoken = speak(&["-f", "-"], script)?;
    if spoken.status.success() {
        return Ok(());
    }
    let complaint = complaint(&spoken);
    Err(Error::new(ErrorKind::Firewall, format!("`nft` refused our rules: {complaint}"))
        .hint("does the kernel have nf_tables, nft_nat and nft_fib?"))
}

/// Returns what `nft` prints, in the network namespace of the calling thread.
///
/// # Errors
///
/// [`ErrorKind::Firewall`].
pub(crate) fn listing(arguments: &[&str]) -> Result<String> {
    let spoken = speak(arguments, "")?;
    if spoken.status.success() {
        return Ok(String::from_utf8_lossy(&spoken.stdout).into_owned());
    }
    let what = arguments.join(" ");
    Err(Error::new(ErrorKind::Firewall, format!("`nft {what}`: {}", complaint(&spoken))))
}

fn complaint(spoken: &Output) -> String {
    let complaint = String::from_utf8_lossy(&spoken.stderr);
    complaint.trim().chars().take(LONGEST_COMPLAINT).collect()
}

fn speak(arguments: &[&str], script: &str) -> Result<Output> {
    execute(arguments, script).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "install the package `nftables`",
            _ => "`nft list ruleset` should work; does it?",
        };
        Error::new(ErrorKind::Firewall, "cannot run `nft`").hint(hint).because(error)
    })
}

fn execute(arguments: &[&str], script: &str) -> io::Result<Output> {
    let mut nft = Command::new("nft")
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let told = nft.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(script.as_bytes()));
    let output = nft.wait_with_output()?;
    // One that ends before it has read everything says why on its standard error.
    if output.status.success() { told.map(|()| output) } else { Ok(output) }
}
