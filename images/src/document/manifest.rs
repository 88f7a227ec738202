//! An image manifest: one configuration and the layers' blobs, lowest first.

use oci_spec::image::{Descriptor, ImageManifest};
use pod_abi::Digest;

use super::media::{self, LayerType};
use super::{Blob, DocumentError, MAX_LAYERS};

/// The manifest of one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) config: Blob,
    pub(crate) layers: Vec<Blob>,
}

impl Manifest {
    /// Parses a manifest whose kind has been decided.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        let manifest: ImageManifest = serde_json::from_slice(bytes).map_err(DocumentError::Json)?;
        let config_type = manifest.config().media_type().to_string();
        if !media::is_config(&config_type) || manifest.artifact_type().is_some() {
            let what = manifest.artifact_type().as_ref().map_or(config_type, ToString::to_string);
            return Err(DocumentError::NoImage(what.chars().take(200).collect()));
        }
        if manifest.layers().len() > MAX_LAYERS {
            return Err(DocumentError::TooManyLayers(manifest.layers().len()));
        }
        let layers = manifest.layers().iter().enumerate();
        Ok(Self {
            config: blob(manifest.config())?,
            layers: layers
                .map(|(index, layer)| layer_blob(index, layer))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Returns the bytes of all layers, compressed.
    pub(crate) fn size(&self) -> u64 {
        self.layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.size))
    }
}

fn layer_blob(index: usize, layer: &Descriptor) -> Result<Blob, DocumentError> {
    let media_type = layer.media_type().to_string();
    match media::layer(&media_type) {
        LayerType::Archive => blob(layer),
        LayerType::Encrypted => Err(DocumentError::Encrypted { index }),
        LayerType::Unknown => Err(DocumentError::LayerType {
            index,
            media_type: media_type.chars().take(200).collect(),
        }),
    }
}

/// Takes digest and size out of a descriptor; oci-spec lets digests of any algorithm pass.
pub(super) fn blob(descriptor: &Descriptor) -> Result<Blob, DocumentError> {
    let digest = Digest::parse(descriptor.digest().as_ref())?;
    Ok(Blob { digest, size: descriptor.size() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(config: &str, layer: &str, digest: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,
                "config":{{"mediaType":"{config}","digest":"sha256:{hex}","size":7}},
                "layers":[{{"mediaType":"{layer}","digest":"{digest}","size":9}}]}}"#,
            hex = "a".repeat(64)
        )
    }

    #[test]
    fn only_images_of_known_layers_and_digests_pass() {
        let (config, layer) = (
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.oci.image.layer.v1.tar+gzip",
        );
        let digest = format!("sha512:{}", "b".repeat(128));
        let good = Manifest::parse(document(config, layer, &digest).as_bytes()).unwrap();
        assert_eq!((good.config.size, good.size()), (7, 9));
        for bad in [
            document("application/vnd.oci.empty.v1+json", layer, &digest),
            document(config, "application/vnd.in-toto+json", &digest),
            document(config, layer, "md5:aaaa"),
            document(config, layer, "sha256:../../etc"),
            document(config, layer, &digest).replace("\"size\":9", "\"size\":-9"),
        ] {
            assert!(Manifest::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
