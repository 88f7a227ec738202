//! The host as a router: switched on when first needed, and said.

use std::fs;

use crate::error::Result;
use netlink::namespace::{Setting, read_setting, write_settings};

const IPV4: &str = "ipv4/ip_forward";
const IPV6: &str = "ipv6/conf/all/forwarding";

/// Makes the calling thread's namespace pass packets on. Returns what was changed, in words.
///
/// # Errors
///
/// [`Kernel`](crate::ErrorKind::Kernel) for a setting that cannot be read or written.
pub(crate) fn switch_on(with_ipv6: bool) -> Result<Vec<String>> {
    let mut notices = Vec::new();
    if read_setting(IPV4)?.as_deref() == Some("0") {
        write_settings(&[Setting::new(IPV4, "1")])?;
        notices.push(said(IPV4));
    }
    if with_ipv6 && read_setting(IPV6)?.as_deref() == Some("0") {
        keep_hearing_routers()?;
        write_settings(&[Setting::new(IPV6, "1")])?;
        notices.push(said(IPV6));
    }
    Ok(notices)
}

/// Tells whether the calling thread's namespace passes packets of IPv4 on.
///
/// # Errors
///
/// [`Kernel`](crate::ErrorKind::Kernel) for a setting that cannot be read.
pub(crate) fn is_on() -> Result<bool> {
    Ok(read_setting(IPV4)?.as_deref() == Some("1"))
}

fn said(name: &str) -> String {
    format!("this host passes packets on now: net.{} = 1", name.replace('/', "."))
}

/// A link that configures itself by what routers advertise stops doing so once the host is a router
/// itself, unless it is told to go on; the host would lose its own way out.
fn keep_hearing_routers() -> Result<()> {
    for entry in fs::read_dir("/proc/sys/net/ipv6/conf").into_iter().flatten().flatten() {
        let Ok(link) = entry.file_name().into_string() else { continue };
        let setting = format!("ipv6/conf/{link}/accept_ra");
        if link != "all" && read_setting(&setting)?.as_deref() == Some("1") {
            write_settings(&[Setting::new(setting, "2")])?;
        }
    }
    Ok(())
}
