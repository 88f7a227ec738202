//! Archives built entry by entry, re-rooted, and read again by the reader of layers.

mod kept;
mod refused;

use std::io::Cursor;

use tar::{Builder, EntryType, Header};

use super::*;
use crate::layer::EntryKind;
use crate::layer::tar::Reader;

const MANIFEST: &[u8] = b"{}";

#[derive(Default)]
struct Image(Vec<u8>);

impl Image {
    /// Appends an entry as it is, with a name that fits its header.
    fn raw(mut self, name: &str, kind: u8, link: &str, content: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::new(kind));
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_mode(0o4750);
        header.set_uid(1000);
        header.set_gid(2000);
        header.set_mtime(1_500_000_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.data(content)
    }

    fn data(mut self, content: &[u8]) -> Self {
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        self
    }

    fn file(self, name: &str, content: &[u8]) -> Self {
        self.raw(name, b'0', "", content)
    }

    fn root(self) -> Self {
        self.raw("rootfs", b'5', "", b"")
    }

    /// An image with all that must be there.
    fn whole() -> Self {
        Self::default().file("manifest", MANIFEST).root()
    }

    fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        let mut builder = Builder::new(Vec::new());
        builder.append_pax_extensions(records.iter().copied()).unwrap();
        self.0.extend_from_slice(builder.get_ref());
        self
    }

    fn reroot(&self, whitelist: Option<&[String]>) -> Result<(Rerooted, Vec<u8>), AppcError> {
        let bytes = [&self.0[..], &[0; 10240]].concat();
        let mut layer = Vec::new();
        let rerooted = reroot(&mut Cursor::new(bytes), &mut layer, whitelist)?;
        Ok((rerooted, layer))
    }

    fn refusal(&self) -> String {
        self.reroot(None).unwrap_err().to_string()
    }
}

/// Reads a layer as it is read when it is unpacked.
fn listed(layer: &[u8]) -> Vec<(String, EntryKind)> {
    let mut reader = Reader::new(Cursor::new(layer));
    let mut entries = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        entries.push((String::from_utf8(entry.path).unwrap(), entry.kind));
    }
    entries
}

fn paths(layer: &[u8]) -> Vec<String> {
    listed(layer).into_iter().map(|(path, _)| path).collect()
}
