//! Talking to the kernel about links, addresses, routes and filters, over one socket that belongs
//! to one network namespace.
//!
//! What is asked is data: a [`Request`] knows its message, and the sentence that names its object if
//! the kernel refuses. Requests travel in batches, one `send` for many of them, because the kernel
//! performs a batch before the call returns; a pod's start waits for two or three such calls.
//!
//! Nothing here decides anything, and nothing here knows what a pod is: programs of a host use it,
//! and so does the first process of a guest.
#![forbid(unsafe_code)]

mod address;
mod error;
mod link;
pub mod namespace;
mod neighbour;
mod redirect;
mod route;
mod socket;

pub use address::{add as add_address, list as list_addresses};
pub use error::{Error, ErrorKind, Result};
pub use link::{
    Kind, Link, LinkId, Mac, Veth, VethEnd, add_bridge, add_veth, by_name, delete, fix_ipv6,
    list as list_links, move_to, rename, set_alias, set_mac, set_master, set_mtu, set_up,
};
pub use neighbour::add as add_neighbour;
pub use netlink_packet_route::RouteNetlinkMessage;
pub use redirect::{add_ingress, redirect_to};
pub use route::{
    Prefix, Route, add as add_route, delete as delete_route, list as list_routes, receive_at,
};
pub use socket::{Request, Socket, exchange_raw};
