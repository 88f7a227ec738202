//! `pod dns`: answers for the names of pods, and passes other questions on to the host's resolvers.
//! Started by systemd when somebody asks, it ends when nobody has for a while.

use std::time::Duration;

use dns::{Listener, Resolvers, Server};

use super::Session;
use crate::cli::DnsArgs;
use crate::directory::PodDirectory;
use crate::error::{CommandError, Context as _, Result};
use crate::pods::Pods;
use crate::ui;

/// Serves until nothing was asked for a while, or for ever where it listens by itself.
///
/// # Errors
///
/// `dns.no-socket` if there is nowhere to listen, `dns.listen` where that cannot be done, `storage`.
pub(crate) fn dns(session: &Session, args: &DnsArgs) -> Result<u8> {
    let mut listeners = Vec::new();
    for socket in &session.context.sockets.descriptors {
        let adopted = socket.try_clone().and_then(Listener::adopt);
        listeners.push(adopted.map_err(|error| {
            CommandError::new("dns.listen", "a socket of the unit is not for questions")
                .because(&error)
                .hint("`ListenDatagram=` and `ListenStream=` take an address and a port")
        })?);
    }
    let mut said = String::new();
    for address in &args.listen {
        let bound = Listener::bind(*address).map_err(|error| {
            CommandError::new("dns.listen", format!("cannot listen at `{address}`")).because(&error)
        })?;
        let at = bound[0].address().context(|| format!("cannot find the port of `{address}`"))?;
        said.push_str(&format!("Listening on {at}\n"));
        listeners.extend(bound);
    }
    if listeners.is_empty() {
        return Err(CommandError::new("dns.no-socket", "there is no socket to listen on")
            .hint("`systemctl enable --now pod-dns.socket` has systemd start it when it is asked")
            .hint("`pod dns --listen 127.0.0.1:5353` listens by itself"));
    }
    let resolvers = match &args.upstream[..] {
        [] => Resolvers::host(),
        upstream => Resolvers::Fixed(upstream.to_vec()),
    };
    let pods = Pods::open(session.context.open_root()?)?;
    let directory = PodDirectory::new(pods);
    let failed = || "cannot serve names".to_owned();
    let server = Server::new(listeners, Box::new(directory), resolvers).context(failed)?;
    ui::out(&said)?;
    let idle = args.listen.is_empty().then_some(args.idle).map(Duration::from_secs);
    server.serve(idle).context(failed)?;
    Ok(0)
}
