//! Compiles the default seccomp profile into a constant.
//!
//! The table is a module of the contract and its compiler one of the program itself, both included
//! here: one policy, one compiler, two moments.

use std::env;
use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::Path;

#[allow(
    dead_code,
    unreachable_pub,
    reason = "the programs use more of these modules than the build does"
)]
#[path = "src/seccomp"]
mod seccomp {
    pub(crate) mod assembly;
    pub(crate) mod compile;
    #[path = "../../../stage0/pod-abi/src/syscalls.rs"]
    pub(crate) mod table;
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/seccomp");
    println!("cargo::rerun-if-changed=../stage0/pod-abi/src/syscalls.rs");
    let program = seccomp::compile::compile(seccomp::table::DEFAULT_CAPABILITIES);
    let mut text = format!(
        "/// The table, compiled for the default set of capabilities.\n\
         static DEFAULT_PROFILE: [SockFilter; {}] = [\n",
        program.len()
    );
    for seccomp::assembly::Instruction { code, jt, jf, k } in program {
        writeln!(text, "    SockFilter {{ code: {code}, jt: {jt}, jf: {jf}, k: {k} }},")?;
    }
    text.push_str("];\n");
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("default_profile.rs"), text)?;
    Ok(())
}
