//! Images as bytes, made here and by nobody's code that is tested.

use std::io::Write;

use fault_registry::{Registry, digest};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tar::{Builder, Header};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Lengths of the one file of each layer, lowest first; no two layers have the same bytes.
pub(crate) type Layers = &'static [usize];

/// A blob of an image.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) digest: String,
    pub(crate) size: u64,
}

impl Blob {
    fn add(registry: &Registry, bytes: Vec<u8>) -> Self {
        Self { size: length(&bytes), digest: registry.add_blob(bytes) }
    }
}

/// What was put into a registry.
#[derive(Clone, Debug)]
pub(crate) struct Pushed {
    pub(crate) layers: Vec<Blob>,
    pub(crate) manifest: Value,
    pub(crate) config: Value,
    /// What the file `file` of each layer holds.
    pub(crate) files: Vec<Vec<u8>>,
}

/// Puts an image into `registry` as `team/app:1`.
pub(crate) fn push(registry: &Registry, layers: Layers) -> Pushed {
    let files: Vec<Vec<u8>> =
        layers.iter().enumerate().map(|(seed, length)| noise(seed, *length)).collect();
    let tars: Vec<Vec<u8>> = files.iter().map(|content| tar(content)).collect();
    let blobs: Vec<Vec<u8>> = tars.iter().map(|tar| gzip(tar)).collect();
    let diff_ids: Vec<String> = tars.iter().map(|tar| digest(tar)).collect();
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/file"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let layers: Vec<Blob> = blobs.into_iter().map(|bytes| Blob::add(registry, bytes)).collect();
    let descriptors: Vec<Value> = layers
        .iter()
        .map(|blob| json!({"mediaType": LAYER, "digest": blob.digest, "size": blob.size}))
        .collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": descriptors});
    let pushed = Pushed { layers, manifest, config, files };
    pushed.publish(registry);
    pushed
}

impl Pushed {
    /// Puts manifest and configuration into `registry` as they stand now; returns the digest.
    pub(crate) fn publish(&self, registry: &Registry) -> String {
        registry.add_manifest("team/app", "1", MANIFEST, self.whole(registry))
    }

    /// Puts an image of these layers only into `registry` as `team/app:TAG`.
    pub(crate) fn publish_part(&self, registry: &Registry, tag: &str, layers: &[usize]) {
        let mut part = self.clone();
        let of = |all: &Value| layers.iter().map(|&place| all[place].clone()).collect();
        part.manifest["layers"] = of(&self.manifest["layers"]);
        part.config["rootfs"]["diff_ids"] = of(&self.config["rootfs"]["diff_ids"]);
        registry.add_manifest("team/app", tag, MANIFEST, part.whole(registry));
    }

    /// How many bytes the manifest has.
    pub(crate) fn length(&self, registry: &Registry) -> usize {
        self.whole(registry).len()
    }

    fn whole(&self, registry: &Registry) -> String {
        let config = self.config.to_string().into_bytes();
        let mut manifest = self.manifest.clone();
        manifest["config"] = json!({
            "mediaType": CONFIG,
            "size": config.len(),
            "digest": registry.add_blob(config),
        });
        manifest.to_string()
    }

    /// Publishes the image as Docker's tools do, its layers plain, gzipped and zstd in turn.
    pub(crate) fn publish_for_docker(&self, registry: &Registry) {
        const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
        let plain = |content: &Vec<u8>| tar(content);
        let encoded = self.files.iter().enumerate().map(|(place, content)| match place % 3 {
            0 => ("", plain(content)),
            1 => (".gzip", gzip(&plain(content))),
            _ => (".zstd", zstd::encode_all(plain(content).as_slice(), 3).unwrap()),
        });
        let descriptor = |media_type: &str, bytes: Vec<u8>| {
            let Blob { digest, size } = Blob::add(registry, bytes);
            json!({"mediaType": media_type, "digest": digest, "size": size})
        };
        let layers: Vec<Value> = encoded
            .map(|(suffix, bytes)| {
                let name = format!("application/vnd.docker.image.rootfs.diff.tar{suffix}");
                descriptor(&name, bytes)
            })
            .collect();
        let config = self.config.to_string().into_bytes();
        let config = descriptor("application/vnd.docker.container.image.v1+json", config);
        let manifest =
            json!({"schemaVersion": 2, "mediaType": DOCKER, "config": config, "layers": layers});
        registry.add_manifest("team/app", "1", DOCKER, manifest.to_string());
    }

    /// Replaces the manifest by an index that offers these platforms only.
    pub(crate) fn publish_index(&self, registry: &Registry, architectures: &[&str]) {
        let bytes = self.manifest.to_string();
        let digest = registry.add_manifest("team/app", "1", MANIFEST, bytes.clone());
        let manifests: Vec<Value> = architectures
            .iter()
            .map(|architecture| {
                json!({
                    "mediaType": MANIFEST, "digest": digest, "size": bytes.len(),
                    "platform": {"os": "linux", "architecture": architecture},
                })
            })
            .collect();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        registry.add_manifest("team/app", "1", INDEX, index.to_string());
    }
}

fn tar(content: &[u8]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_ustar();
    header.set_size(length(content));
    header.set_mode(0o644);
    header.set_cksum();
    builder.append_data(&mut header, "file", content).unwrap();
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap()
}

/// Bytes that no compressor makes smaller (xorshift64).
fn noise(seed: usize, length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::try_from(seed + 1).unwrap();
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
