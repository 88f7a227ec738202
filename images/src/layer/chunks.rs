//! The seam between the thread that inflates and the thread that writes.
//!
//! Whole buffers travel one way full and the other way empty, so memory is bounded and nothing is
//! allocated per buffer. Who inflates also hashes: writing files takes longer than both together.
//! The end of the stream is a message of its own: a thread that died must not look like a short
//! layer.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use pod_abi::digest::{Digest, DigestError};
use sha2::{Digest as _, Sha256};

use super::decompress;
use super::fault::TooLong;
use crate::content::fill;

/// The size of a buffer: large enough that switching threads costs nothing.
const CHUNK: usize = 1 << 20;

/// How many full buffers may wait.
const DEPTH: usize = 6;

enum Message {
    Data(Vec<u8>),
    /// The end, and the hash of all that came.
    End(Sha256),
    Broken(io::Error),
}

/// The uncompressed stream as the writing thread sees it.
#[derive(Debug)]
pub(super) struct Chunks {
    full: Receiver<Message>,
    empty: Sender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    /// The hash of the whole stream, once its end was seen.
    ended: Option<Sha256>,
    total: u64,
    limit: u64,
}

/// Starts a thread that inflates `source`, at most `limit` bytes of it.
///
/// The thread ends with its source, or when the [`Chunks`] are gone and it has read once more.
///
/// # Errors
///
/// Those of starting a thread.
pub(super) fn inflate<R: Read + Send + 'static>(source: R, limit: u64) -> io::Result<Chunks> {
    let (full_sender, full) = sync_channel(DEPTH);
    let (empty, empty_receiver) = channel();
    let thread = std::thread::Builder::new().name("inflate".to_owned());
    thread.spawn(move || {
        let last = match pour(source, &full_sender, &empty_receiver) {
            Ok(hash) => Message::End(hash),
            Err(error) => Message::Broken(error),
        };
        let _ = full_sender.send(last); // nobody listens after a fault on the other side
    })?;
    Ok(Chunks { full, empty, current: Vec::new(), position: 0, ended: None, total: 0, limit })
}

fn pour<R: Read + Send + 'static>(
    source: R,
    full: &SyncSender<Message>,
    empty: &Receiver<Vec<u8>>,
) -> io::Result<Sha256> {
    let mut plain = decompress::open(source)?;
    let mut hash = Sha256::new();
    loop {
        let mut buffer = empty.try_recv().unwrap_or_default();
        buffer.resize(CHUNK, 0);
        let length = fill(&mut plain, &mut buffer)?;
        buffer.truncate(length);
        hash.update(&buffer);
        if length == 0 || full.send(Message::Data(buffer)).is_err() {
            return Ok(hash);
        }
    }
}

impl Chunks {
    /// Returns how many bytes have come so far.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Reads whatever is left and returns the digest of the whole stream.
    ///
    /// # Errors
    ///
    /// Those of the stream.
    pub(super) fn digest(mut self) -> io::Result<Digest> {
        loop {
            self.position = self.current.len();
            if let Some(hash) = self.ended {
                let digest = Digest::from_hash(&hash.finalize());
                return digest.map_err(|error: DigestError| io::Error::other(error));
            }
            self.receive()?;
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        let message = self
            .full
            .recv()
            .unwrap_or_else(|_| Message::Broken(io::Error::other("the inflating thread has died")));
        match message {
            Message::Data(bytes) => {
                self.total += bytes.len() as u64;
                if self.total > self.limit {
                    return Err(io::Error::other(TooLong(self.limit)));
                }
                let used = std::mem::replace(&mut self.current, bytes);
                let _ = self.empty.send(used); // the other thread is done when nobody takes it
                self.position = 0;
                Ok(())
            }
            Message::End(hash) => {
                self.ended = Some(hash);
                Ok(())
            }
            Message::Broken(error) => Err(error),
        }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let length = bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.position == self.current.len() && self.ended.is_none() {
            self.receive()?;
        }
        Ok(&self.current[self.position..])
    }

    fn consume(&mut self, amount: usize) {
        self.position = self.current.len().min(self.position + amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn chunks(length: usize, limit: u64) -> Chunks {
        inflate(Cursor::new(vec![7; length]), limit).unwrap()
    }

    #[test]
    fn the_digest_covers_every_byte_read_or_not() {
        let expected = Digest::from_hash(&Sha256::digest(vec![7; 3 * CHUNK + 5])).unwrap();
        assert_eq!(chunks(3 * CHUNK + 5, u64::MAX).digest().unwrap(), expected);
        let mut half_read = chunks(3 * CHUNK + 5, u64::MAX);
        half_read.read_exact(&mut [0; 1000]).unwrap();
        assert_eq!(half_read.digest().unwrap(), expected);
    }

    #[test]
    fn a_stream_longer_than_allowed_is_cut_off() {
        assert!(chunks(2 * CHUNK, 2 * CHUNK as u64).digest().is_ok());
        let error = chunks(2 * CHUNK + 1, 2 * CHUNK as u64).digest().unwrap_err();
        assert!(error.get_ref().is_some_and(|inner| inner.is::<TooLong>()));
    }
}
