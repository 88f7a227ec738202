//! A real registry on loopback: Debian's `docker-registry` as a child of ours.
//!
//! On the host its port is chosen by binding one and letting it go again; another program could
//! take it in between, and then the start fails. It is ended by its process id, and everything it
//! stores lies in a directory that goes with it.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use tempfile::TempDir;

/// A registry that runs until it is dropped.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    address: SocketAddr,
    /// Holds its configuration and what it stores.
    directory: TempDir,
    /// What a program needs in front of it to reach the registry.
    prefix: Vec<OsString>,
}

/// Where a registry listens that has a network of its own.
const PORT: u16 = 5000;

impl Registry {
    /// Starts a registry of the host that stores beneath `parent`.
    ///
    /// # Errors
    ///
    /// When it cannot be started or does not answer in time.
    pub fn start(parent: &Path) -> io::Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        Self::launch(TempDir::new_in(parent)?, port, Vec::new(), None)
    }

    /// Starts a registry on a fixed port with the words `prefix` before its command line, which
    /// take it to a network where nobody else listens.
    ///
    /// # Errors
    ///
    /// When it cannot be started or does not answer in time.
    pub fn start_behind(prefix: Vec<OsString>, parent: &Path) -> io::Result<Self> {
        Self::launch(TempDir::new_in(parent)?, PORT, prefix, None)
    }

    /// Starts one as [`start_behind`](Self::start_behind) does, which lets in only those whom
    /// `htpasswd` names, in the form of Apache's program with bcrypt.
    ///
    /// # Errors
    ///
    /// When it cannot be started or does not answer in time.
    pub fn start_guarded(prefix: Vec<OsString>, parent: &Path, htpasswd: &str) -> io::Result<Self> {
        Self::launch(TempDir::new_in(parent)?, PORT, prefix, Some(htpasswd))
    }

    fn launch(
        directory: TempDir,
        port: u16,
        prefix: Vec<OsString>,
        htpasswd: Option<&str>,
    ) -> io::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let config = directory.path().join("config.yml");
        let storage = directory.path().join("storage");
        fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{level: info}}\nstorage:\n  filesystem: {{rootdirectory: \
                 {}}}\n  delete: {{enabled: true}}\nhttp: {{addr: {address}}}\n",
                storage.display()
            ),
        )?;
        if let Some(htpasswd) = htpasswd {
            let users = directory.path().join("htpasswd");
            fs::write(&users, htpasswd)?;
            let guard = format!("auth: {{htpasswd: {{realm: r, path: {}}}}}\n", users.display());
            OpenOptions::new().append(true).open(&config)?.write_all(guard.as_bytes())?;
        }
        let mut child = command(&prefix, "docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let log = child.stderr.take();
        let registry = Self { child, address, directory, prefix };
        match log.map(|log| wait(BufReader::new(log))) {
            Some(true) => Ok(registry),
            _ => Err(io::Error::other("docker-registry ended before it listened")),
        }
    }

    /// Returns `HOST:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Returns where it keeps its configuration and what it stores.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
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
        self.push_as(&[], directory, tag, name)
    }

    /// Does the same with further flags of `skopeo copy`, such as `--dest-creds=USER:PASSWORD`.
    ///
    /// # Errors
    ///
    /// When `skopeo` is missing or fails.
    pub fn push_as(
        &self,
        flags: &[&str],
        directory: &Path,
        tag: &str,
        name: &str,
    ) -> io::Result<String> {
        let reference = format!("{}/{name}", self.address);
        let status = command(&self.prefix, "skopeo")
            .args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"])
            .args(flags)
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

fn command(prefix: &[OsString], program: &str) -> Command {
    let Some((first, rest)) = prefix.split_first() else { return Command::new(program) };
    let mut command = Command::new(first);
    command.args(rest).arg(program);
    command
}

/// Reads the log until the registry says that it listens; a thread goes on reading, so that the
/// pipe never fills.
fn wait(log: impl BufRead + Send + 'static) -> bool {
    let mut lines = log.lines().map_while(Result::ok);
    let listens = lines.any(|line| line.contains("listening on"));
    thread::spawn(move || lines.for_each(drop));
    listens
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
