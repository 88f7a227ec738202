//! A real registry on loopback: Debian's `docker-registry` as a child of ours.
//!
//! Its port is chosen by binding one and letting it go again, so another program can take it in
//! between; then the next try picks another. It is ended by its process id, and everything it
//! stores lies in a directory that goes with it.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A registry that runs until it is dropped.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    address: SocketAddr,
    /// Holds its configuration and what it stores.
    _directory: TempDir,
}

/// How long a registry may take to answer; Debian's takes a third of a second.
const STARTING: Duration = Duration::from_secs(20);

impl Registry {
    /// Starts a registry that stores beneath `parent`.
    ///
    /// # Errors
    ///
    /// When it cannot be started or does not answer in time.
    pub fn start(parent: &Path) -> io::Result<Self> {
        let directory = TempDir::new_in(parent)?;
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let config = directory.path().join("config.yml");
        let storage = directory.path().join("storage");
        fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: \
                 {}}}\n  delete: {{enabled: true}}\nhttp: {{addr: {address}}}\n",
                storage.display()
            ),
        )?;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut registry = Self { child, address, _directory: directory };
        registry.wait()?;
        Ok(registry)
    }

    fn wait(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + STARTING;
        loop {
            if TcpStream::connect_timeout(&self.address, Duration::from_millis(200)).is_ok() {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("docker-registry ended with {status}")));
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("docker-registry does not answer"));
            }
            // Nothing tells when a foreign program has begun to listen.
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns `HOST:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Returns its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Copies `tag` of the layout in `directory` into the registry as `name` and returns the
    /// reference to fetch it by.
    ///
    /// # Errors
    ///
    /// When `skopeo` is missing or fails.
    pub fn push(&self, directory: &Path, tag: &str, name: &str) -> io::Result<String> {
        let reference = format!("{}/{name}", self.address);
        let status = Command::new("skopeo")
            .args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"])
            .arg(format!("oci:{}:{tag}", directory.display()))
            .arg(format!("docker://{reference}"))
            .stdin(Stdio::null())
            .status()?;
        if status.success() {
            Ok(reference)
        } else {
            Err(io::Error::other(format!("skopeo ended with {status}")))
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
