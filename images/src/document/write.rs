//! Documents of our own making, for images that came without them.
//!
//! The same content gives the same bytes, and so the same digest: no time, no order of a map that
//! differs from run to run.

use std::collections::BTreeMap;

use pod_abi::Digest;
use serde::Serialize;

use super::Blob;
use crate::image::ImageSettings;
use crate::platform::Platform;

/// The media type of a manifest.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of a configuration.
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The media type of a layer, without its compression.
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: Descriptor<'a>,
    layers: Vec<Descriptor<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor<'a> {
    media_type: String,
    digest: &'a Digest,
    size: u64,
}

/// Writes the manifest of an image; each layer comes with what its bytes begin with, which tells
/// its compression.
pub(crate) fn manifest(config: &Blob, layers: &[(Blob, Vec<u8>)]) -> Vec<u8> {
    let layers = layers.iter().map(|(blob, head)| {
        let suffix = match head.get(..2) {
            Some([0x1f, 0x8b]) => "+gzip",
            Some([0x28, 0xb5]) => "+zstd",
            _ => "",
        };
        descriptor(format!("{LAYER}{suffix}"), blob)
    });
    json(&Manifest {
        schema_version: 2,
        media_type: MANIFEST,
        config: descriptor(CONFIG.to_owned(), config),
        layers: layers.collect(),
    })
}

fn descriptor(media_type: String, blob: &Blob) -> Descriptor<'_> {
    Descriptor { media_type, digest: &blob.digest, size: blob.size }
}

#[derive(Serialize)]
struct Document<'a> {
    architecture: &'a str,
    os: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'a str>,
    config: Proposal<'a>,
    rootfs: RootFs<'a>,
}

#[derive(Serialize)]
struct RootFs<'a> {
    r#type: &'static str,
    diff_ids: &'a [Digest],
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Proposal<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    exposed_ports: BTreeMap<&'a str, Nothing>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    env: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    entrypoint: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    cmd: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    volumes: BTreeMap<&'a str, Nothing>,
    #[serde(skip_serializing_if = "Option::is_none")]
    working_dir: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_signal: Option<&'a str>,
}

/// Writes the configuration of an image of these uncompressed layers.
pub(crate) fn config(platform: &Platform, settings: &ImageSettings, layers: &[Digest]) -> Vec<u8> {
    json(&Document {
        architecture: platform.architecture(),
        os: platform.os(),
        variant: platform.variant(),
        config: Proposal {
            user: settings.user.as_deref(),
            exposed_ports: set(&settings.exposed_ports),
            env: &settings.env,
            entrypoint: &settings.entrypoint,
            cmd: &settings.cmd,
            volumes: set(&settings.volumes),
            working_dir: settings.working_dir.as_deref(),
            labels: &settings.labels,
            stop_signal: settings.stop_signal.as_deref(),
        },
        rootfs: RootFs { r#type: "layers", diff_ids: layers },
    })
}

/// Go's form of a set.
fn set(words: &[String]) -> BTreeMap<&str, Nothing> {
    words.iter().map(|word| (word.as_str(), Nothing {})).collect()
}

fn json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("strings and numbers in structs always become JSON")
}

#[cfg(test)]
mod tests {
    use pod_abi::digest::Algorithm;

    use super::super::{Config, Top};
    use super::*;
    use crate::hash;

    #[test]
    fn what_is_written_reads_back() {
        let layer = hash::of(Algorithm::Sha256, b"layer");
        let settings = ImageSettings {
            entrypoint: vec!["/a".into()],
            env: vec!["A=b".into()],
            user: Some("1:2".into()),
            volumes: vec!["/v".into()],
            exposed_ports: vec!["80/tcp".into()],
            labels: BTreeMap::from([("k".into(), "v".into())]),
            ..ImageSettings::default()
        };
        let platform: Platform = "linux/arm/v7".parse().unwrap();
        let bytes = config(&platform, &settings, std::slice::from_ref(&layer));
        let read = Config::parse(&bytes, 1).unwrap();
        assert_eq!(read.settings, settings);
        assert_eq!(read.platform, Some(platform));
        assert_eq!(read.layers, std::slice::from_ref(&layer));

        let blob = Blob { digest: layer, size: 5 };
        let layers = [(blob.clone(), vec![0x1f, 0x8b, 8]), (blob.clone(), b"etc/".to_vec())];
        let bytes = manifest(&blob, &layers);
        let Top::Manifest(read) = Top::parse(&bytes, MANIFEST).unwrap() else { panic!("manifest") };
        assert_eq!(read.layers, [blob.clone(), blob]);
        assert!(String::from_utf8(bytes).unwrap().contains("v1.tar+gzip"));
    }
}
