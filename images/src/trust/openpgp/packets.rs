//! OpenPGP messages, packet by packet.
//!
//! The library's own reader of messages is made for all that was ever sent by mail: it reads on
//! behind what it knows and enters what is nested. Of a signed claim there is one shape only, and
//! whatever is another one is refused:
//!
//! ```text
//! [ compressed ( ] one-pass signature · literal data · signature [ ) ]
//! ```

use std::io::Read;

use flate2::bufread::{DeflateDecoder, ZlibDecoder};
use pgp::composed::PacketBodyReader;
use pgp::packet::{DataMode, LiteralDataHeader, OnePassSignature, PacketHeader, Signature};
use pgp::types::Tag;

/// The longest message that is read, in bytes.
const MAX_MESSAGE: usize = 4 << 20;
/// The longest content of a message, in bytes: it is a claim.
pub(super) const MAX_CONTENT: usize = 64 << 10;
/// How much a message may be, decompressed: its content, and the packets about it.
const MAX_INFLATED: usize = MAX_CONTENT + (16 << 10);

const SHAPE: &str = "it is not one signature about one content";

/// A packet, of which nothing but its length has been read.
pub(super) struct Raw {
    pub(super) header: PacketHeader,
    pub(super) body: Vec<u8>,
}

/// A message with one signature.
pub(super) struct SignedMessage {
    pub(super) content: Vec<u8>,
    pub(super) signature: Signature,
}

/// Takes `bytes` apart, all of them.
pub(super) fn packets(mut bytes: &[u8]) -> Result<Vec<Raw>, &'static str> {
    let mut packets = Vec::new();
    while !bytes.is_empty() {
        let header = PacketHeader::try_from_reader(&mut bytes)
            .map_err(|_| "it is not made of OpenPGP packets")?;
        let mut reader = PacketBodyReader::new(header, &mut bytes)
            .map_err(|_| "a packet has no length it may have")?;
        let mut body = Vec::new();
        reader.read_to_end(&mut body).map_err(|_| "a packet is cut off")?;
        packets.push(Raw { header, body });
    }
    Ok(packets)
}

/// The one signature that `bytes` are.
pub(super) fn detached(bytes: &[u8]) -> Result<Signature, &'static str> {
    if bytes.len() > MAX_MESSAGE {
        return Err("it is longer than 4 MiB");
    }
    let packets = packets(bytes)?;
    let [signature] = &packets[..] else { return Err("it is not one signature") };
    read_signature(signature)
}

/// The one signature and the one content of `message`.
pub(super) fn signed_message(message: &[u8]) -> Result<SignedMessage, &'static str> {
    if message.len() > MAX_MESSAGE {
        return Err("it is longer than 4 MiB");
    }
    let mut outer = packets(message)?;
    if let [compressed] = &outer[..]
        && compressed.header.tag() == Tag::CompressedData
    {
        outer = packets(&inflated(&compressed.body)?)?;
    }
    let [one_pass, literal, signature] = &outer[..] else { return Err(SHAPE) };
    let signature = read_signature(signature)?;
    if !read_one_pass(one_pass)?.matches(&signature) {
        return Err("it announces another signature than it has");
    }
    Ok(SignedMessage { content: read_literal(literal)?, signature })
}

fn inflated(body: &[u8]) -> Result<Vec<u8>, &'static str> {
    let (algorithm, compressed) = body.split_first().ok_or("it compresses nothing")?;
    let mut content = Vec::new();
    let limit = MAX_INFLATED as u64 + 1;
    // What is left behind the end of the compression is nothing that was signed.
    let (read, rest) = match algorithm {
        1 => {
            let mut decoder = DeflateDecoder::new(compressed);
            let read = decoder.by_ref().take(limit).read_to_end(&mut content);
            (read, decoder.into_inner())
        }
        2 => {
            let mut decoder = ZlibDecoder::new(compressed);
            let read = decoder.by_ref().take(limit).read_to_end(&mut content);
            (read, decoder.into_inner())
        }
        _ => return Err("it is compressed as we do not decompress"),
    };
    read.map_err(|_| "its compression is broken")?;
    if content.len() > MAX_INFLATED {
        return Err("it is longer than 64 KiB, decompressed");
    }
    if rest.is_empty() { Ok(content) } else { Err("it goes on behind its compression") }
}

fn read_signature(packet: &Raw) -> Result<Signature, &'static str> {
    if packet.header.tag() != Tag::Signature {
        return Err(SHAPE);
    }
    let mut body = &packet.body[..];
    let signature = Signature::try_from_reader(packet.header, &mut body);
    let signature = signature.map_err(|_| "its signature packet is broken")?;
    if body.is_empty() { Ok(signature) } else { Err("its signature packet is too long") }
}

fn read_one_pass(packet: &Raw) -> Result<OnePassSignature, &'static str> {
    if packet.header.tag() != Tag::OnePassSignature {
        return Err(SHAPE);
    }
    let mut body = &packet.body[..];
    let one_pass = OnePassSignature::try_from_reader(packet.header, &mut body);
    let one_pass = one_pass.map_err(|_| "its one-pass signature packet is broken")?;
    // Its last byte says that no other signature is about the same content.
    let only = packet.body.last().is_some_and(|last| *last != 0);
    if body.is_empty() && only { Ok(one_pass) } else { Err(SHAPE) }
}

fn read_literal(packet: &Raw) -> Result<Vec<u8>, &'static str> {
    if packet.header.tag() != Tag::LiteralData {
        return Err(SHAPE);
    }
    let mut body = &packet.body[..];
    let header = LiteralDataHeader::try_from_reader(&mut body);
    let header = header.map_err(|_| "its content packet is broken")?;
    if !matches!(header.mode(), DataMode::Binary | DataMode::Text | DataMode::Utf8) {
        return Err("its content is of an unknown kind");
    }
    if body.len() > MAX_CONTENT {
        return Err("its content is longer than 64 KiB");
    }
    Ok(body.to_vec())
}
