//! Fetches the layers of an image from a registry and reads them for nothing, one after the other:
//! hashed as they come, inflated, hashed and parsed as a worker does. No faster pull of the same
//! design can be; `cargo xtask bench images` sets the real one beside it.
//!
//! `read-through HOST:PORT REPOSITORY TAG`

use std::error::Error;
use std::io::{self, Read, Write};
use std::thread;

use images::registry::{Client, ClientOptions, RegistryHost, TagOrDigest};
use images::worker::read_through;
use pod_abi::Digest;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [host, repository, tag] = words.as_slice() else {
        return Err("read-through HOST:PORT REPOSITORY TAG".into());
    };
    let client = Client::new(&RegistryHost::parse(host)?, ClientOptions::default())?;
    let manifest = client.manifest(repository, &TagOrDigest::Tag(tag.clone()))?;
    let manifest: Value = serde_json::from_slice(&manifest.bytes)?;
    for layer in manifest["layers"].as_array().ok_or("it has no layers")? {
        let digest = Digest::parse(layer["digest"].as_str().unwrap_or_default())?;
        let size = layer["size"].as_u64().ok_or("a layer has no size")?;
        let (from, to) = io::pipe()?;
        let worker = thread::spawn(move || read_through(from));
        let hash = feed(client.blob(repository, &digest, size, 0)?, to)?;
        if hash != digest {
            return Err(format!("`{digest}` is `{hash}`").into());
        }
        worker.join().map_err(|_| "the reading thread has died")??;
    }
    Ok(())
}

/// Hands everything on and returns its digest.
fn feed(mut from: impl Read, mut to: impl Write) -> Result<Digest, Box<dyn Error>> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(Digest::from_hash(&hash.finalize())?),
            length => {
                hash.update(&buffer[..length]);
                to.write_all(&buffer[..length])?;
            }
        }
    }
}
