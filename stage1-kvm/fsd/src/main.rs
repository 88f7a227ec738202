//! The server as a program: takes what it was given, gives up all else, serves until the monitor
//! closes the stream.

#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;

use fsd::sandbox::{self, OnViolation};
use fsd::server::serve;
use fsd::share::{Access, Share};
use pod_abi::exit;
use pod_abi::share::{READ_ONLY, fd};
use pod_sys::inherited;

fn main() -> ExitCode {
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
    let access = match (env::args().nth(1).as_deref(), env::args().nth(2)) {
        (None, None) => Access::ReadWrite,
        (Some(READ_ONLY), None) => Access::ReadOnly,
        _ => return Err(format!("usage: fsd [{READ_ONLY}]").into()),
    };
    sandbox::forget_others()?;
    let (share, stream) = (inherited(fd::SHARE)?, File::from(inherited(fd::SOCKET)?));
    let confined = sandbox::enter(share, access, OnViolation::Kill)?;
    let mut share = Share::new(confined.root, confined.descriptors, access, confined.limit)?;
    Ok(serve(&mut share, stream)?)
}
