//! The log of one app: lines in CRI format, in files bounded by size and number.
//!
//! ```text
//! 2026-11-22T12:05:06.000000000Z stdout F the text of a line
//! 2026-11-22T12:05:06.000000001Z stderr P the first 16 KiB of a long one
//! ```
//!
//! The supervisor is the only writer. A log that cannot be written, on a full disk say, loses
//! lines; it never stops an app.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{BorrowedFd, OwnedFd};

use pod_abi::app::LogOptions;
use pod_abi::{AppName, Timestamp, layout};
use rustix::fs::{Mode, OFlags, fstat, mkdirat, openat, renameat};
use rustix::io::Errno;

use crate::error::{During, Failure};
use crate::stream::{End, Source};

/// The log files of one app.
#[derive(Debug)]
pub(crate) struct Log {
    directory: OwnedFd,
    file: Option<File>,
    size: u64,
    options: LogOptions,
    batch: Vec<u8>,
}

/// The most of [`Log::batch`] that is kept between two batches, in bytes.
const KEPT: usize = 4 << 10;

impl Log {
    /// Opens the log of app `name` beneath the pod's directory; what is there is kept.
    pub(crate) fn open(
        pod: BorrowedFd<'_>,
        name: &AppName,
        options: LogOptions,
    ) -> Result<Self, Failure> {
        let path = format!("{}/{}", layout::app(name), layout::LOG);
        match mkdirat(pod, &path, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(Failure::of(format!("cannot make `{path}`"), error)),
        }
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let directory =
            openat(pod, &path, flags, Mode::empty()).during(|| format!("cannot open `{path}`"))?;
        let mut log = Self { directory, file: None, size: 0, options, batch: Vec::new() };
        log.reopen().during(|| format!("cannot open `{path}/{}`", layout::LOG_FILE))?;
        Ok(log)
    }

    /// Adds a line, or a piece of one, to the batch.
    pub(crate) fn add(&mut self, time: Timestamp, source: Source, text: &[u8], end: End) {
        let tag = match end {
            End::Line => 'F',
            End::Piece => 'P',
        };
        let mut head = String::with_capacity(48);
        // Writing to a String cannot fail.
        let _ = write!(head, "{time} {} {tag} ", source.as_str());
        self.batch.extend_from_slice(head.as_bytes());
        self.batch.extend_from_slice(text);
        self.batch.push(b'\n');
    }

    /// Writes the batch, into a new file if the current one has no room for it.
    pub(crate) fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let bytes = self.batch.len() as u64;
        if self.size > 0 && self.size + bytes > self.options.max_bytes {
            self.rotate();
        }
        if self.file.is_none() {
            // Tried again with every batch: a full disk may have been emptied.
            let _ = self.reopen();
        }
        if let Some(file) = &mut self.file
            && file.write_all(&self.batch).is_ok()
        {
            self.size += bytes;
        }
        self.batch.clear();
        self.batch.shrink_to(KEPT);
    }

    fn rotate(&mut self) {
        let name = |number: u32| match number {
            0 => layout::LOG_FILE.to_owned(),
            _ => format!("{}.{number}", layout::LOG_FILE),
        };
        for number in (1..self.options.files.max(1)).rev() {
            // The first rounds find no older file.
            let _ = renameat(&self.directory, name(number - 1), &self.directory, name(number));
        }
        if self.options.files <= 1 {
            let _ = rustix::fs::unlinkat(
                &self.directory,
                layout::LOG_FILE,
                rustix::fs::AtFlags::empty(),
            );
        }
        self.file = None;
    }

    fn reopen(&mut self) -> rustix::io::Result<()> {
        let flags =
            OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o600);
        let file = openat(&self.directory, layout::LOG_FILE, flags, mode)?;
        self.size = u64::try_from(fstat(&file)?.st_size).unwrap_or(0);
        self.file = Some(File::from(file));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsFd;

    fn log(files: u32) -> (tempfile::TempDir, Log) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("apps/web")).unwrap();
        let pod = File::open(root.path()).unwrap();
        let options = LogOptions { max_bytes: 100, files };
        let name = AppName::parse("web").unwrap();
        let log = Log::open(pod.as_fd(), &name, options).unwrap();
        (root, log)
    }

    #[test]
    fn lines_are_in_cri_format() {
        let (root, mut log) = log(2);
        log.add(Timestamp(0), Source::Stdout, b"one", End::Line);
        log.add(Timestamp(0), Source::Stderr, b"two", End::Piece);
        log.flush();
        let text = fs::read_to_string(root.path().join("apps/web/log/app.log")).unwrap();
        assert_eq!(
            text,
            "1970-01-01T00:00:00.000000000Z stdout F one\n\
             1970-01-01T00:00:00.000000000Z stderr P two\n"
        );
    }

    #[test]
    fn a_log_never_has_more_files_than_allowed() {
        for files in [1, 2, 3] {
            let (root, mut log) = log(files);
            for number in 0..20 {
                let line = format!("line {number}");
                log.add(Timestamp(0), Source::Stdout, line.as_bytes(), End::Line);
                log.flush();
            }
            let directory = root.path().join("apps/web/log");
            assert_eq!(fs::read_dir(&directory).unwrap().count(), files as usize);
            let newest = fs::read_to_string(directory.join("app.log")).unwrap();
            assert!(newest.ends_with("line 19\n"), "{newest}");
        }
    }
}
