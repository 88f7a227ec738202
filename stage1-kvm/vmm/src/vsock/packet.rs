//! The header of a packet (virtio 1.2 §5.10.6, `struct virtio_vsock_hdr`): forty-four bytes,
//! little-endian, copied out of guest memory once and believed in nothing.

/// Bytes of a header.
pub const HEADER: usize = 44;

/// `type` of a stream.
pub const STREAM: u16 = 1;

/// Flags of [`Op::Shutdown`].
pub mod shutdown {
    /// The sender of the packet receives nothing more.
    pub const RECEIVE: u32 = 1;
    /// The sender of the packet sends nothing more.
    pub const SEND: u32 = 2;
    /// Both.
    pub const BOTH: u32 = RECEIVE | SEND;
}

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Asks for a connection.
    Request,
    /// Grants one.
    Response,
    /// Ends one at once, or refuses one.
    Reset,
    /// Ends one or both directions.
    Shutdown,
    /// Brings bytes.
    Data,
    /// Tells of room for bytes, as every packet does.
    CreditUpdate,
    /// Asks for [`Op::CreditUpdate`].
    CreditRequest,
}

/// The header of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The context id of the sender.
    pub source_cid: u64,
    /// The context id of the receiver.
    pub destination_cid: u64,
    /// The port of the sender.
    pub source_port: u32,
    /// The port of the receiver.
    pub destination_port: u32,
    /// Bytes behind the header.
    pub length: u32,
    /// The type of socket.
    pub kind: u16,
    /// What it is for, if it is an [`Op`].
    pub op: u16,
    /// What [`Op::Shutdown`] ends.
    pub flags: u32,
    /// Bytes of buffer the sender has.
    pub allocated: u32,
    /// Bytes the sender has taken out of its buffer so far, modulo 2³².
    pub forwarded: u32,
}

impl Op {
    /// Returns what a number stands for.
    #[must_use]
    pub const fn of(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::Data,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            _ => return None,
        })
    }

    /// Returns its number.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Request => 1,
            Self::Response => 2,
            Self::Reset => 3,
            Self::Shutdown => 4,
            Self::Data => 5,
            Self::CreditUpdate => 6,
            Self::CreditRequest => 7,
        }
    }
}

impl Header {
    /// Reads a header.
    #[must_use]
    pub fn decode(bytes: &[u8; HEADER]) -> Self {
        fn part<const N: usize>(bytes: &[u8; HEADER], at: usize) -> [u8; N] {
            let mut part = [0; N];
            part.copy_from_slice(&bytes[at..at + N]);
            part
        }
        Self {
            source_cid: u64::from_le_bytes(part(bytes, 0)),
            destination_cid: u64::from_le_bytes(part(bytes, 8)),
            source_port: u32::from_le_bytes(part(bytes, 16)),
            destination_port: u32::from_le_bytes(part(bytes, 20)),
            length: u32::from_le_bytes(part(bytes, 24)),
            kind: u16::from_le_bytes(part(bytes, 28)),
            op: u16::from_le_bytes(part(bytes, 30)),
            flags: u32::from_le_bytes(part(bytes, 32)),
            allocated: u32::from_le_bytes(part(bytes, 36)),
            forwarded: u32::from_le_bytes(part(bytes, 40)),
        }
    }

    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..8].copy_from_slice(&self.source_cid.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.destination_cid.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.source_port.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.destination_port.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.length.to_le_bytes());
        bytes[28..30].copy_from_slice(&self.kind.to_le_bytes());
        bytes[30..32].copy_from_slice(&self.op.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.flags.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.allocated.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.forwarded.to_le_bytes());
        bytes
    }

    /// Returns the RST that answers this packet: of its own type, for whoever sent it.
    #[must_use]
    pub const fn reset(&self) -> Self {
        Self {
            source_cid: self.destination_cid,
            destination_cid: self.source_cid,
            source_port: self.destination_port,
            destination_port: self.source_port,
            length: 0,
            kind: self.kind,
            op: Op::Reset.number(),
            flags: 0,
            allocated: 0,
            forwarded: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_its_bytes() {
        let mut bytes = [0; HEADER];
        for (byte, value) in bytes.iter_mut().zip(1..) {
            *byte = value;
        }
        let header = Header::decode(&bytes);
        assert_eq!(header.source_port, 0x1413_1211);
        assert_eq!((header.kind, header.op), (0x1e1d, 0x201f));
        assert_eq!(header.encode(), bytes);
    }

    #[test]
    fn every_operation_is_its_number() {
        let known: Vec<u16> =
            (0..=u16::MAX).filter(|&n| Op::of(n).is_some_and(|op| op.number() == n)).collect();
        assert_eq!(known, (1..=7).collect::<Vec<_>>());
    }
}
