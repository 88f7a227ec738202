//! The server as a program: takes what it was given, gives up all else, serves until the monitor
//! closes the stream.

use std::env;
use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;

use confine::OnViolation;
use pod_abi::exit;
use pod_abi::share::{FILE, READ_ONLY, fd};
use pod_sys::inherited;

use crate::sandbox::{self, Shared};
use crate::server::serve;
use crate::share::{Access, Share};

/// Is the program.
#[must_use]
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = format!("fsd: {error}");
            let mut source = error.source();
            while let Some(error) = source {
                text = format!("{text}: {error}");
                source = error.source();
            }
            let _ = writeln!(io::stderr(), "{text}"); // there is nobody else to tell
            ExitCode::from(exit::OURS)
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let (mut access, mut shared) = (Access::ReadWrite, Shared::Directory);
    for argument in env::args().skip(1) {
        match argument.as_str() {
            READ_ONLY => access = Access::ReadOnly,
            FILE => shared = Shared::File,
            _ => return Err(format!("usage: fsd [{READ_ONLY}] [{FILE}]").into()),
        }
    }
    sandbox::forget_others()?;
    let (share, own) = (inherited(fd::SHARE)?, inherited(fd::OWN)?);
    let stream = File::from(inherited(fd::STREAM)?);
    let confined = sandbox::enter(share, shared, OnViolation::Kill)?;
    let mut share = Share::new(confined.root, own, access, confined.limit)?;
    Ok(serve(&mut share, stream)?)
}
