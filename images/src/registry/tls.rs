//! Whom a registry's certificate must be vouched for by.
//!
//! The authorities of the host, and those that `certs.d/HOST[:PORT]/*.crt` *adds* for one registry;
//! `NAME.cert` with `NAME.key` beside them is our own certificate. The host's authorities are read
//! when the first TLS connection is made and not before: most tests and demos never make one.
//!
//! Never: a way to switch verification off.
//!
//! Source: `containers-certs.d(5)`.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use super::error::Error;
use super::host::{KnownAuthority, RegistryHost};

/// No bundle of authorities is near this size; what is larger is no certificate file.
const MAX_PEM: u64 = 4 << 20;

/// What `certs.d` says about one registry.
#[derive(Default)]
pub(super) struct Trust {
    authorities: Vec<Certificate<'static>>,
    ours: Option<ClientCert>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust({} authorities)", self.authorities.len())
    }
}

impl Trust {
    /// Reads the directories `DIR/HOST[:PORT]` of `dirs`; those that do not exist say nothing.
    pub(super) fn load(dirs: &[PathBuf], host: &RegistryHost) -> Result<Self, Error> {
        let mut trust = Self::default();
        for dir in dirs {
            let dir = dir.join(host.to_string());
            for path in files_of(&dir)? {
                match path.extension().and_then(OsStr::to_str) {
                    Some("crt") => trust.authorities.extend(certificates(&path)?),
                    Some("cert") if trust.ours.is_none() => trust.ours = Some(own(&path)?),
                    _ => {}
                }
            }
        }
        Ok(trust)
    }

    /// Returns whether there is an authority for just this registry.
    pub(super) const fn known_authority(&self) -> KnownAuthority {
        if self.authorities.is_empty() { KnownAuthority::Absent } else { KnownAuthority::Present }
    }

    /// Adds the host's authorities.
    ///
    /// # Errors
    ///
    /// [`Error::Settings`] if there is none at all: then no certificate could be verified.
    pub(super) fn config(&self) -> Result<TlsConfig, Error> {
        let of_host = rustls_native_certs::load_native_certs();
        let mut roots = self.authorities.clone();
        roots.extend(of_host.certs.iter().map(|der| Certificate::from_der(der).to_owned()));
        if roots.is_empty() {
            return Err(Error::Settings {
                path: "/etc/ssl/certs".into(),
                why: "this host trusts no certificate authority; Debian's are in the package \
                      `ca-certificates`"
                    .to_owned(),
            });
        }
        Ok(TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&roots))
            .client_cert(self.ours.clone())
            .build())
    }
}

/// Lists the files of `dir` by name, so that what is read first does not depend on the disk.
fn files_of(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unusable(dir, &error)),
    };
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()
        .map_err(|error| unusable(dir, &error))?;
    paths.sort();
    Ok(paths)
}

fn own(path: &Path) -> Result<ClientCert, Error> {
    let chain = certificates(path)?;
    let key_path = path.with_extension("key");
    let pem = read(&key_path)?;
    let key = PrivateKey::from_pem(&pem).map_err(|error| unusable(&key_path, &error))?;
    Ok(ClientCert::new_with_certs(&chain, key))
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Error> {
    let pem = read(path)?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| unusable(path, &error))? {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        return Err(unusable(path, &"it holds no certificate in PEM form"));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_PEM).read_to_end(&mut bytes))
        .map_err(|error| unusable(path, &error))?;
    Ok(bytes)
}

fn unusable(path: &Path, why: &dyn fmt::Display) -> Error {
    Error::Settings { path: path.to_owned(), why: why.to_string() }
}
