//! Credentials, as they come in parts: each a file in memory of its own.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use pod_abi::credential::{CredentialName, MAX_CREDENTIAL_BYTES, MAX_CREDENTIALS};
use pod_abi::guest::Secret;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::pwrite;
use supervisor::{During, Failure};

/// The credentials that have come and are not handed on yet.
#[derive(Debug, Default)]
pub(crate) struct Secrets(BTreeMap<CredentialName, (OwnedFd, u64)>);

impl Secrets {
    /// Returns a descriptor of each of these, made if nothing of it has come yet.
    pub(crate) fn promise(&mut self, names: &[CredentialName]) -> Result<Vec<OwnedFd>, Failure> {
        let copy = |name: &CredentialName| {
            self.open(name)?.0.try_clone().during(|| format!("cannot copy credential `{name}`"))
        };
        names.iter().map(copy).collect()
    }

    /// Puts a part behind those before it.
    pub(crate) fn add(&mut self, secret: &Secret) -> Result<(), Failure> {
        let Secret { name, part } = secret;
        let bytes = bytes_of(part).ok_or_else(|| {
            Failure::new(format!("a part of credential `{name}` is no row of digits"))
        })?;
        let (file, length) = self.open(name)?;
        if *length + bytes.len() as u64 > MAX_CREDENTIAL_BYTES {
            return Err(Failure::new(format!("credential `{name}` is too long")));
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let count = pwrite(&*file, rest, *length)
                .during(|| format!("cannot keep credential `{name}`, pwrite()"))?;
            *length += count as u64;
            rest = rest.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    fn open(&mut self, name: &CredentialName) -> Result<&mut (OwnedFd, u64), Failure> {
        if !self.0.contains_key(name) {
            if self.0.len() >= MAX_CREDENTIALS {
                return Err(Failure::new("too many credentials"));
            }
            let file = memfd_create("credential", MemfdFlags::CLOEXEC)
                .during(|| "cannot make memory for a credential, memfd_create()")?;
            self.0.insert(name.clone(), (file, 0));
        }
        self.0.get_mut(name).ok_or_else(|| Failure::new("a credential is lost"))
    }
}

/// Reads hexadecimal digits, two for each byte.
pub(crate) fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|v| u8::try_from(v).ok());
    let pairs = digits.as_bytes().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| Some(value(pair[0])? << 4 | value(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::pread;

    #[test]
    fn parts_of_a_credential_follow_each_other_also_in_what_was_promised_before() {
        let mut secrets = Secrets::default();
        let name = CredentialName::parse("key").unwrap();
        let promised = secrets.promise(std::slice::from_ref(&name)).unwrap();
        for part in ["6162", "", "63"] {
            secrets.add(&Secret { name: name.clone(), part: part.to_owned() }).unwrap();
        }
        let mut got = [0; 8];
        assert_eq!(pread(&promised[0], &mut got, 0).unwrap(), 3);
        assert_eq!(&got[..3], b"abc");
        for part in ["6", "zz", "+1"] {
            assert!(secrets.add(&Secret { name: name.clone(), part: part.to_owned() }).is_err());
        }
        let long = "00".repeat(usize::try_from(MAX_CREDENTIAL_BYTES).unwrap());
        assert!(secrets.add(&Secret { name, part: long }).is_err(), "longer than any may be");
    }
}
