//! The guest's work, tried on a host: the library in fresh namespaces, sockets of a directory in
//! place of vsock, files in place of disks. What only a virtual machine has (boot, vsock itself,
//! partitions, the clock) is tried there.
//!
//! This program is three things: the trials; with `GUEST` in its environment the guest; and with
//! an argument `app` the program of an app. Each guest must have one thread, so there is no
//! harness.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::explicit_write,
    clippy::needless_pass_by_value,
    reason = "all of it is tests, without the harness by which they are known as such"
)]

#[path = "trial/app.rs"]
mod app;
#[path = "trial/host.rs"]
mod host;
#[path = "trial/order.rs"]
mod order;
#[path = "trial/place.rs"]
mod place;
#[path = "trial/trials.rs"]
mod trials;

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    if arguments.get(1).map(String::as_str) == Some("app") {
        return app::run(&arguments[2..]);
    }
    match env::var("GUEST").as_deref() {
        Ok("outside") => place::enter(),
        Ok(_) => place::serve_guest(),
        Err(_) => trials::run(&arguments[1..]),
    }
}
