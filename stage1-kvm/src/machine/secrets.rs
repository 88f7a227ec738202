//! Credentials on their way into a guest.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use pod_abi::credential::MAX_CREDENTIAL_BYTES;
use pod_abi::guest::{MAX_SECRET_PART, Secret, ToGuest};
use supervisor::{During, Failure};

use super::Machine;
use crate::token;

impl Machine<'_> {
    /// Tells the guest all credentials, part by part, and lets go of them. One that is empty has a
    /// part, too.
    pub(super) fn tell_secrets(&mut self) -> Result<(), Failure> {
        for (name, secret) in std::mem::take(&mut self.secrets) {
            let bytes = contents(secret).during(|| format!("cannot read credential `{name}`"))?;
            let mut parts: Vec<&[u8]> = bytes.chunks(MAX_SECRET_PART / 2).collect();
            if parts.is_empty() {
                parts.push(&[]);
            }
            for part in parts {
                let secret = Secret { name: name.clone(), part: token::digits(part) };
                self.have_done(&ToGuest::Credential(secret), self.patience.answer)?;
            }
        }
        Ok(())
    }
}

/// Reads a secret from its beginning.
fn contents(secret: OwnedFd) -> std::io::Result<Vec<u8>> {
    let secret = File::from(secret);
    let length = secret.metadata()?.len();
    if length > MAX_CREDENTIAL_BYTES {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(std::io::Error::other)?];
    secret.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
