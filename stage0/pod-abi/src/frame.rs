//! Frames: how messages travel over a stream, on the control socket and on the inner channel.
//!
//! ```text
//! ┌───────────────┬──────────────────────────┐
//! │ length: u32 LE│ JSON of exactly length B │
//! └───────────────┴──────────────────────────┘
//! ```
//!
//! Encoding and decoding are pure: bytes in, messages out. Whoever owns the stream reads, writes,
//! keeps deadlines, and hands received bytes to [`Decoder`]. Descriptors that belong to a frame
//! travel beside its first byte (`SCM_RIGHTS`); the message says how many it expects.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest message, in bytes. An app's specification with every list full fits many times.
pub const MAX_FRAME: usize = 1 << 20;

/// How much room an empty decoder keeps, in bytes: for what is read at once.
const KEPT: usize = 4096;

/// Why bytes are no frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The length says more than [`MAX_FRAME`].
    #[error("a frame of {0} bytes is longer than the {MAX_FRAME} allowed")]
    TooLong(usize),
    /// The JSON is not the message expected here.
    #[error("a frame does not hold the message expected")]
    Message(#[source] serde_json::Error),
}

/// Encodes one message as a frame.
///
/// # Errors
///
/// [`FrameError`] if the message cannot be JSON or is longer than [`MAX_FRAME`].
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message).map_err(FrameError::Message)?;
    let length = frame.len() - 4;
    match u32::try_from(length) {
        Ok(prefix) if length <= MAX_FRAME => frame[..4].copy_from_slice(&prefix.to_le_bytes()),
        _ => return Err(FrameError::TooLong(length)),
    }
    Ok(frame)
}

/// Collects received bytes and gives out whole messages.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Makes an empty decoder.
    #[must_use]
    pub const fn new() -> Self {
        Self { buffer: Vec::new() }
    }

    /// Takes in bytes as they came.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Gives out the next whole message, or `None` until more bytes have come.
    ///
    /// # Errors
    ///
    /// [`FrameError`]; the stream is of no use afterwards and should be closed.
    pub fn take<M: DeserializeOwned>(&mut self) -> Result<Option<M>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*prefix) as usize;
        if length > MAX_FRAME {
            return Err(FrameError::TooLong(length));
        }
        let Some(body) = self.buffer.get(4..4 + length) else { return Ok(None) };
        let message = serde_json::from_slice(body).map_err(FrameError::Message)?;
        self.buffer.drain(..4 + length);
        if self.buffer.is_empty() {
            // One long message must not cost its length for as long as the stream lives.
            self.buffer.shrink_to(KEPT);
        }
        Ok(Some(message))
    }

    /// Tells whether bytes of an unfinished frame are held.
    #[must_use]
    pub fn is_mid_frame(&self) -> bool {
        !self.buffer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_any_cut_of_the_stream() {
        let stream = [encode(&"one").unwrap(), encode(&"two").unwrap()].concat();
        for cut in 0..stream.len() {
            let mut decoder = Decoder::new();
            let mut got: Vec<String> = Vec::new();
            for piece in [&stream[..cut], &stream[cut..]] {
                decoder.feed(piece);
                while let Some(message) = decoder.take().unwrap() {
                    got.push(message);
                }
            }
            assert_eq!(got, ["one", "two"], "cut at {cut}");
            assert!(!decoder.is_mid_frame());
        }
    }

    #[test]
    fn a_frame_that_claims_too_much_is_refused_before_it_has_come() {
        let mut decoder = Decoder::new();
        decoder.feed(&u32::MAX.to_le_bytes());
        assert!(matches!(decoder.take::<String>(), Err(FrameError::TooLong(_))));
    }
}
