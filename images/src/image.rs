//! An image as the rest of `pod` sees it: digests, and settings that are only proposals.
//!
//! Everything under [`ImageSettings`] was written by whoever made the image. It may describe the
//! process that runs inside; it must never steer the host (CVE-2026-53488).

use std::collections::BTreeMap;

use pod_abi::app::Verified;
use pod_abi::{Digest, Timestamp};
use serde::Serialize;

use crate::reference::Reference;

/// An image that is whole in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The canonical reference it was asked for by.
    pub reference: String,
    /// The manifest of its platform.
    pub manifest: Digest,
    /// The index the manifest was chosen from.
    pub index: Option<Digest>,
    /// Its configuration.
    pub config: Digest,
    /// Its uncompressed layers, lowest first.
    pub layers: Vec<Digest>,
    /// What vouched for it.
    pub verified: Verified,
    /// What its maker proposes to run.
    pub settings: ImageSettings,
    /// Bytes of its compressed layers.
    pub size: u64,
}

/// What the maker of an image proposes; nothing here has been checked but its type and size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageSettings {
    /// The program, with first arguments.
    pub entrypoint: Vec<String>,
    /// Arguments, or the program where there is no entry point.
    pub cmd: Vec<String>,
    /// Variables, supposedly `NAME=VALUE`.
    pub env: Vec<String>,
    /// The working directory.
    pub working_dir: Option<String>,
    /// The user, as name or number, with an optional group after a colon.
    pub user: Option<String>,
    /// The signal that asks the program to end.
    pub stop_signal: Option<String>,
    /// Paths where the program writes data, sorted.
    pub volumes: Vec<String>,
    /// Free words.
    pub labels: BTreeMap<String, String>,
    /// Ports such as `80/tcp`, sorted.
    pub exposed_ports: Vec<String>,
}

/// One line of the list of images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageRecord {
    /// The canonical reference.
    pub reference: String,
    /// The platform, such as `linux/amd64`.
    pub platform: String,
    /// The manifest of the platform: the image's id.
    pub manifest: Digest,
    /// Its configuration: what other tools call its id.
    pub config: Digest,
    /// The index the manifest was chosen from.
    pub index: Option<Digest>,
    /// What vouched for it.
    pub verified: Verified,
    /// Bytes of its compressed layers.
    pub size: u64,
    /// When the name last came to mean this.
    pub pulled: Timestamp,
    /// When it was last resolved.
    pub last_used: Timestamp,
}

impl ImageRecord {
    /// Tells whether `reference` is this name, or the beginning of this image's id.
    #[must_use]
    pub fn is_meant_by(&self, reference: &Reference) -> bool {
        reference.to_string() == self.reference
            || reference.id_prefix().is_some_and(|id| {
                [&self.manifest, &self.config].iter().any(|digest| digest.hex().starts_with(id))
            })
    }
}

/// All that is known of an image.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageDetails {
    /// Its line in the list.
    #[serde(flatten)]
    pub record: ImageRecord,
    /// Its uncompressed layers, lowest first.
    pub layers: Vec<Digest>,
    /// What its maker proposes to run.
    pub settings: ImageSettings,
    /// The manifest as it was received.
    pub manifest_document: serde_json::Value,
    /// The configuration as it was received.
    pub config_document: serde_json::Value,
}
