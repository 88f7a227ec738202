//! Reading the history of a pod: `events.jsonl`, which grows, and outlives its name as long as
//! somebody holds it open.

use std::fs::File;
use std::io::Read;

use pod_abi::layout;
use pod_abi::status::EventRecord;
use rustix::fs::OFlags;

use crate::pods::Pod;

/// The longest record kept together, in bytes; the supervisor's are some hundred long.
const MAX_RECORD: usize = 1 << 16;

/// An open history, read from its beginning on.
#[derive(Debug)]
pub(crate) struct History {
    file: File,
    rest: Vec<u8>,
}

impl History {
    /// Opens the history of a pod; `None` if it has never run.
    pub(crate) fn open(pod: &Pod) -> Option<Self> {
        let file = pod.open(layout::EVENTS, OFlags::RDONLY | OFlags::NOFOLLOW).ok()?;
        Some(Self { file: file.into(), rest: Vec::new() })
    }

    /// Returns what has been added since the last call. What cannot be understood, as from a
    /// newer writer, is passed over.
    pub(crate) fn news(&mut self) -> Vec<EventRecord> {
        let mut records = Vec::new();
        let mut chunk = [0; 16_384];
        loop {
            match self.file.read(&mut chunk) {
                Ok(count) if count > 0 => self.rest.extend_from_slice(&chunk[..count]),
                _ => return records,
            }
            let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let lines = self.rest[..whole].split(|byte| *byte == b'\n');
            records.extend(lines.filter_map(|line| serde_json::from_slice(line).ok()));
            self.rest.drain(..whole);
            if self.rest.len() > MAX_RECORD {
                self.rest.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pod_abi::PodId;
    use pod_abi::phase::Home;
    use pod_abi::status::Event;
    use std::fs;
    use std::io::Write as _;

    #[test]
    fn a_history_is_read_as_it_grows_and_after_it_was_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(layout::EVENTS);
        let mut file = File::create(&path).unwrap();
        let fd = File::open(dir.path()).unwrap().into();
        let pod = Pod::adopt(PodId::from_random([1; 16]), Home::Run, fd);
        let mut history = History::open(&pod).unwrap();
        let record = |event: &str| {
            format!("{{\"time\":\"2026-01-01T00:00:00Z\",\"attempt\":1,\"event\":{event}}}\n")
        };
        let ready = record("\"pod-ready\"");
        write!(file, "{}nonsense\n{}", record("\"pod-started\""), &ready[..20]).unwrap();
        let events = |history: &mut History| -> Vec<Event> {
            history.news().into_iter().map(|record| record.event).collect()
        };
        assert_eq!(events(&mut history), [Event::PodStarted]);
        assert_eq!(events(&mut history), []);
        fs::remove_file(path).unwrap();
        write!(file, "{}{}", &ready[20..], record("{\"pod-ended\":{\"code\":3}}")).unwrap();
        assert_eq!(events(&mut history), [Event::PodReady, Event::PodEnded { code: 3 }]);
    }
}
