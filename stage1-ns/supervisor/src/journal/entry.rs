//! One entry of the journal as journald takes it: fields, each a line, or with its length if it
//! is no plain text ("Native Journal Protocol" of systemd). Pure.

use pod_abi::PodId;
use pod_abi::manifest::PodManifest;

/// Who writes an entry, as fields: what they are for is told in `docs/logs.md`. The names beside
/// `POD_…` are those docker and podman write, so that what looks for them finds pods, too.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    fields: Vec<u8>,
}

/// An entry being written.
#[derive(Debug)]
pub(super) struct Entry {
    bytes: Vec<u8>,
}

impl Writer {
    /// The pod itself.
    pub(super) fn of_pod(pod: &PodManifest) -> Self {
        let mut entry = Entry { bytes: Vec::with_capacity(512) };
        let id: &PodId = &pod.uuid;
        entry.text("POD_NAME", pod.name.as_str());
        entry.text("POD_UUID", id.as_str());
        entry.text("CONTAINER_NAME", pod.name.as_str());
        entry.text("CONTAINER_ID", id.short());
        entry.text("CONTAINER_ID_FULL", id.as_str());
        Self { fields: entry.bytes }
    }

    /// An app of the pod that `self` is.
    pub(super) fn app(&self, app: &str, image: &str) -> Self {
        let mut entry = Entry { bytes: self.fields.clone() };
        entry.text("SYSLOG_IDENTIFIER", app);
        entry.text("POD_APP", app);
        entry.text("CONTAINER_TAG", app);
        entry.text("IMAGE_NAME", image);
        Self { fields: entry.bytes }
    }
}

impl Entry {
    /// Begins an entry.
    pub(super) fn by(writer: &Writer) -> Self {
        Self { bytes: writer.fields.clone() }
    }

    /// Adds a field of text.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.field(name, value.as_bytes());
    }

    /// Adds a field of any bytes.
    pub(super) fn field(&mut self, name: &str, value: &[u8]) {
        self.bytes.extend_from_slice(name.as_bytes());
        if value.iter().any(|byte| *byte < b' ' && *byte != b'\t') {
            self.bytes.push(b'\n');
            self.bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.bytes.push(b'=');
        }
        self.bytes.extend_from_slice(value);
        self.bytes.push(b'\n');
    }

    /// Returns the bytes that are sent.
    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// The highest priority an app can give a line: an alert.
const HIGHEST: u8 = 1;

/// Reads the priority a line begins with (`sd-daemon(3)`: `<3>no more paper`), and what is left.
pub(super) fn split_priority(line: &[u8]) -> (Option<u8>, &[u8]) {
    match line {
        // SECURITY: journald writes emergencies, byte for byte, to the terminals of all who are logged
        // in: an app would speak to them, escape sequences and all.
        [b'<', digit @ b'0'..=b'7', b'>', rest @ ..] => (Some((digit - b'0').max(HIGHEST)), rest),
        _ => (None, line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::requests::tests::order;

    #[test]
    fn what_is_no_plain_text_goes_with_its_length() {
        let mut entry = Entry { bytes: Vec::new() };
        entry.text("A", "plain \té");
        entry.field("MESSAGE", b"two\nlines");
        entry.field("B", b"\0");
        entry.text("C", "");
        let expected = b"A=plain \t\xc3\xa9\nMESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\nB\n\x01\0\0\0\0\0\0\0\0\nC=\n";
        assert_eq!(entry.finish(), expected);
    }

    #[test]
    fn a_writer_is_known_by_pod_app_and_image() {
        let writer = Writer::of_pod(&order().pod).app("web", "example.org/web:1");
        let text = String::from_utf8(Entry::by(&writer).finish()).unwrap();
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                "POD_NAME=shop",
                "POD_UUID=abababab-abab-4bab-abab-abababababab",
                "CONTAINER_NAME=shop",
                "CONTAINER_ID=abababab",
                "CONTAINER_ID_FULL=abababab-abab-4bab-abab-abababababab",
                "SYSLOG_IDENTIFIER=web",
                "POD_APP=web",
                "CONTAINER_TAG=web",
                "IMAGE_NAME=example.org/web:1",
            ]
        );
    }

    #[test]
    fn a_priority_is_one_digit_in_angle_brackets() {
        for (line, priority, rest) in [
            (&b"<3>no paper"[..], Some(3), &b"no paper"[..]),
            (b"<1>", Some(1), b""),
            (b"<0>to all", Some(1), b"to all"),
            (b"<8>x", None, b"<8>x"),
            (b"<30>x", None, b"<30>x"),
            (b"<3x", None, b"<3x"),
            (b" <3>x", None, b" <3>x"),
            (b"", None, b""),
        ] {
            assert_eq!(split_priority(line), (priority, rest), "{line:?}");
        }
    }
}
