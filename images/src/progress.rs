//! What a pull tells while it works, a push, and the making of disk images; showing it is the
//! caller's business.

use pod_abi::Digest;

/// Something that happened. Layers are called by the digest of their blob.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The source is asked what a name means.
    Resolving {
        /// The canonical reference.
        reference: String,
    },
    /// The manifest of the platform is known.
    Manifest {
        /// Its digest.
        digest: Digest,
        /// How many layers the image has.
        layers: usize,
    },
    /// A layer is in the store already.
    LayerExists {
        /// The layer's blob.
        digest: Digest,
    },
    /// A layer is being fetched and unpacked.
    LayerStarted {
        /// The layer's blob.
        digest: Digest,
        /// Its size in bytes, compressed.
        size: u64,
    },
    /// What an earlier attempt has left of a layer is used; the rest is being fetched.
    LayerResumed {
        /// The layer's blob.
        digest: Digest,
        /// How many bytes were there.
        at: u64,
    },
    /// More of a layer has arrived.
    LayerBytes {
        /// The layer's blob.
        digest: Digest,
        /// How many bytes are there by now; it may fall back when a download starts anew.
        done: u64,
    },
    /// A layer is complete, its digests are right, and it is unpacked.
    LayerDone {
        /// The layer's blob.
        digest: Digest,
    },
    /// Finished layers are being made durable.
    Committing {
        /// How many.
        layers: usize,
    },
    /// A layer is being written as a disk image.
    ImageStarted {
        /// The layer's content, uncompressed.
        layer: Digest,
        /// How long the image will be, in bytes.
        size: u64,
    },
    /// More of a disk image has been dealt with.
    ImageBytes {
        /// The layer's content, uncompressed.
        layer: Digest,
        /// How many bytes.
        done: u64,
    },
    /// A disk image is complete and durable.
    ImageDone {
        /// The layer's content, uncompressed.
        layer: Digest,
    },
    /// A layer is being compared with what it came as.
    CheckStarted {
        /// What it came as.
        layer: Digest,
        /// The size of that in bytes.
        size: u64,
    },
    /// A layer has been compared.
    CheckDone {
        /// What it came as.
        layer: Digest,
    },
    /// An image is being given to a registry.
    Sending {
        /// What it is to be there.
        reference: String,
    },
    /// A blob is being sent, or sent anew.
    SendStarted {
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// More of a blob has gone out.
    SendBytes {
        /// The blob.
        digest: Digest,
        /// How many bytes have by now.
        done: u64,
    },
    /// The registry has taken a blob.
    SendDone {
        /// The blob.
        digest: Digest,
    },
    /// The registry had a blob already.
    SendSpared {
        /// The blob.
        digest: Digest,
    },
    /// The image is in the store, or at the registry it was given to.
    Done {
        /// The digest of its manifest.
        digest: Digest,
    },
}

/// Who is told. Called from several threads at once; it must not block for long.
pub trait Progress: Sync {
    /// Takes note of `event`.
    fn event(&self, event: Event);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event) {}
}
