//! Reading the logs of apps: CRI lines in files that grow and are rotated meanwhile.
//!
//! `TIME STREAM TAG TEXT`, where TAG is `F` for a whole line and `P` for a part of one. The
//! supervisor is the only writer; a line that is not of this form is passed over.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};

use pod_abi::{AppName, Timestamp, layout};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{OFlags, fstat};

use crate::error::{Context as _, Result};
use crate::pods::{Pod, log_directory};
use crate::span::Span;

/// The most rotated files looked for.
const MAX_FILES: u32 = 100;
/// The longest line kept together, in bytes; the supervisor cuts far earlier.
const MAX_LINE: usize = 1 << 20;

/// Which lines are read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Selection {
    /// When they were written.
    pub(crate) span: Span,
    /// Of those that are there already, only the last so many.
    pub(crate) last: Option<usize>,
}

impl Selection {
    /// Selects the last `count` lines.
    pub(crate) fn last(count: usize) -> Self {
        Self { last: Some(count), ..Self::default() }
    }

    fn holds(&self, line: &Line) -> bool {
        // A line whose time cannot be read is shown rather than hidden.
        Timestamp::parse(&line.time).map_or(true, |time| self.span.holds(time))
    }
}

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// The app's place in the list asked for.
    pub(crate) app: usize,
    /// RFC 3339, which sorts as text.
    pub(crate) time: String,
    /// Where it was written.
    pub(crate) stream: Stream,
    /// Whether the line goes on in the next one.
    pub(crate) part: bool,
    /// What was written.
    pub(crate) text: Vec<u8>,
}

/// Where an app wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Reads what is there, all apps in the order of time.
///
/// # Errors
///
/// `storage`.
pub(crate) fn read(pod: &Pod, apps: &[AppName], selection: Selection) -> Result<Vec<Line>> {
    let mut readers = open(pod, apps);
    let mut lines = Vec::new();
    take(&mut readers, selection, &mut |line| {
        lines.push(line);
        Ok(())
    })?;
    Ok(lines)
}

/// Hands out what is there, then, with `follow`, what comes until `ended` is readable.
///
/// # Errors
///
/// `storage`, and what `sink` fails with.
pub(crate) fn stream(
    pod: &Pod,
    apps: &[AppName],
    selection: Selection,
    ended: Option<&OwnedFd>,
    sink: &mut dyn FnMut(Line) -> Result<()>,
) -> Result<()> {
    let mut readers = open(pod, apps);
    let Some(ended) = ended else { return take(&mut readers, selection, sink) };
    let tell = || format!("cannot watch the logs of pod `{}`", pod.id);
    let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).context(tell)?;
    for app in apps {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        if let Ok(dir) = pod.open(&log_directory(app), flags) {
            let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
            let events = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
            inotify::add_watch(&watch, path, events).context(tell)?;
        }
    }
    take(&mut readers, selection, sink)?;
    loop {
        let mut fds = [PollFd::new(&watch, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context(tell),
        }
        let over = !fds[1].revents().is_empty();
        let mut events = [0; 4096];
        while rustix::io::read(&watch, &mut events[..]).is_ok_and(|count| count > 0) {}
        for reader in &mut readers {
            reader.reopen(pod);
        }
        take(&mut readers, Selection { last: None, ..selection }, sink)?;
        if over {
            return Ok(());
        }
    }
}

fn open(pod: &Pod, apps: &[AppName]) -> Vec<Reader> {
    apps.iter().enumerate().map(|(place, app)| Reader::open(pod, app, place)).collect()
}

/// Merges what all readers have by time.
fn take(
    readers: &mut [Reader],
    selection: Selection,
    sink: &mut dyn FnMut(Line) -> Result<()>,
) -> Result<()> {
    let mut last = VecDeque::new();
    let mut fronts: Vec<Option<Line>> = readers.iter_mut().map(Reader::next).collect();
    loop {
        let times =
            fronts.iter().enumerate().filter_map(|(i, line)| Some((&line.as_ref()?.time, i)));
        let Some((_, first)) = times.min() else { break };
        let next = readers[first].next();
        let Some(line) = std::mem::replace(&mut fronts[first], next) else { break };
        match selection.last {
            _ if !selection.holds(&line) => {}
            None => sink(line)?,
            Some(0) => {}
            Some(most) => {
                if last.len() == most {
                    last.pop_front();
                }
                last.push_back(line);
            }
        }
    }
    last.into_iter().try_for_each(sink)
}

/// Reads the files of one app, oldest first, and goes on when the newest grows.
#[derive(Debug)]
struct Reader {
    app: AppName,
    place: usize,
    /// The newest file and those before it, the next one to read last.
    files: Vec<File>,
    buffer: Vec<u8>,
    start: usize,
}

impl Reader {
    fn open(pod: &Pod, app: &AppName, place: usize) -> Self {
        let newest = format!("{}/{}", log_directory(app), layout::LOG_FILE);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
        let mut files = Vec::new();
        files.extend(pod.open(&newest, flags).map(File::from).ok());
        for age in 1..MAX_FILES {
            match pod.open(&format!("{newest}.{age}"), flags) {
                Ok(file) => files.push(file.into()),
                Err(_) => break,
            }
        }
        Self { app: app.clone(), place, files, buffer: Vec::new(), start: 0 }
    }

    /// Puts a file that has taken the newest one's place in front of those still to be read.
    fn reopen(&mut self, pod: &Pod) {
        let newest = format!("{}/{}", log_directory(&self.app), layout::LOG_FILE);
        let Ok(file) = pod.open(&newest, OFlags::RDONLY | OFlags::NOFOLLOW) else { return };
        let inode = |fd: &File| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).ok();
        let file = File::from(file);
        if self.files.first().is_none_or(|known| inode(known) != inode(&file)) {
            self.files.insert(0, file);
        }
    }

    fn next(&mut self) -> Option<Line> {
        loop {
            while let Some(end) = self.buffer[self.start..].iter().position(|b| *b == b'\n') {
                let line = &self.buffer[self.start..self.start + end];
                let parsed = parse(line, self.place);
                self.start += end + 1;
                if parsed.is_some() {
                    return parsed;
                }
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            if self.buffer.len() > MAX_LINE {
                self.buffer.clear();
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// Reads more; the newest file is kept open at its end, older ones are done with there.
    fn fill(&mut self) -> bool {
        let mut chunk = [0; 16_384];
        while let Some(file) = self.files.last_mut() {
            match file.read(&mut chunk) {
                Ok(count) if count > 0 => {
                    self.buffer.extend_from_slice(&chunk[..count]);
                    return true;
                }
                _ if self.files.len() > 1 => {
                    self.files.pop();
                }
                _ => return false,
            }
        }
        false
    }
}

fn parse(line: &[u8], app: usize) -> Option<Line> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let time = String::from_utf8(fields.next()?.to_vec()).ok()?;
    let stream = match fields.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let part = match fields.next()? {
        b"F" => false,
        b"P" => true,
        _ => return None,
    };
    Some(Line { app, time, stream, part, text: fields.next().unwrap_or_default().to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pod_abi::PodId;
    use pod_abi::phase::Home;
    use std::fs;
    use std::io::Write as _;

    fn pod(dir: &std::path::Path) -> Pod {
        let fd = File::open(dir).unwrap().into();
        Pod::adopt(PodId::from_random([1; 16]), Home::Run, fd)
    }

    fn write(dir: &std::path::Path, app: &str, file: &str, text: &str) {
        let log = dir.join(format!("apps/{app}/log"));
        fs::create_dir_all(&log).unwrap();
        let mut options = fs::OpenOptions::new();
        let mut file = options.append(true).create(true).open(log.join(file)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn texts(lines: &[Line]) -> Vec<String> {
        lines.iter().map(|line| String::from_utf8_lossy(&line.text).into_owned()).collect()
    }

    #[test]
    fn lines_of_all_apps_come_in_the_order_of_time_rotated_files_first() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a", "app.log.1", "2026-01-01T00:00:01Z stdout F one\n");
        write(dir.path(), "a", "app.log", "2026-01-01T00:00:03Z stderr F three\nnonsense\n");
        write(dir.path(), "b", "app.log", "2026-01-01T00:00:02Z stdout F two two\n");
        let apps = ["a", "b"].map(|name| AppName::parse(name).unwrap());
        let lines = read(&pod(dir.path()), &apps, Selection::default()).unwrap();
        assert_eq!(texts(&lines), ["one", "two two", "three"]);
        assert_eq!((lines[1].app, lines[2].stream), (1, Stream::Stderr));
        let lines = read(&pod(dir.path()), &apps, Selection::last(2)).unwrap();
        assert_eq!(texts(&lines), ["two two", "three"]);
    }

    #[test]
    fn a_reader_goes_on_through_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a", "app.log", "2026-01-01T00:00:01Z stdout F one\n2026");
        let pod = pod(dir.path());
        let mut reader = Reader::open(&pod, &AppName::parse("a").unwrap(), 0);
        assert_eq!(reader.next().unwrap().text, b"one");
        assert_eq!(reader.next(), None);
        write(dir.path(), "a", "app.log", "-01-01T00:00:02Z stdout P two\n");
        let log = dir.path().join("apps/a/log");
        fs::rename(log.join("app.log"), log.join("app.log.1")).unwrap();
        write(dir.path(), "a", "app.log", "2026-01-01T00:00:03Z stdout F three\n");
        reader.reopen(&pod);
        let (two, three) = (reader.next().unwrap(), reader.next().unwrap());
        assert!(two.part && two.text == b"two" && three.text == b"three");
    }
}
