//! OCI and Docker documents: from verbatim bytes to what they mean, or a refusal.
//!
//! ```text
//! Top::parse ──▶ Index ──choose(platform)──▶ descriptor ──▶ Manifest ──▶ Config
//! ```
//!
//! oci-spec's types do the reading; what they let pass is refused here: a document that is two
//! kinds at once (CVE-2021-41190), digests other than sha256 and sha512, media types that
//! contradict each other. Nothing here fetches or keeps anything.

mod amend;
mod config;
mod index;
mod manifest;
mod media;
mod write;

pub(crate) use amend::{Amendment, config as amend_config, manifest as amend_manifest};
pub(crate) use config::Config;
pub(crate) use index::{Entry, FULL_NAME, Index, REF_NAME};
pub(crate) use manifest::Manifest;
pub(crate) use media::{Kind, MAX_DOCUMENT};
pub(crate) use write::{
    CONFIG, LAYER, MANIFEST, config as write_config, manifest as write_manifest,
};

use pod_abi::Digest;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The most layers an image may have: overlayfs takes 500 lower directories, some are ours.
pub(crate) const MAX_LAYERS: usize = 400;

/// Why bytes are not the document they should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DocumentError {
    #[error("it is no JSON document of its kind")]
    Json(#[source] serde_json::Error),
    #[error("it is larger than {MAX_DOCUMENT} bytes")]
    TooLarge,
    #[error("it is an image manifest and an index at once")]
    TwoKinds,
    #[error("it is neither an image manifest nor an index")]
    NoKind,
    #[error("Docker's schema 1 is not supported; push the image again with a tool of this decade")]
    SchemaOne,
    #[error("schema version {0} is not known")]
    SchemaVersion(u32),
    #[error("it says that it is `{inner}` but was served as `{outer}`")]
    Contradiction { outer: String, inner: String },
    #[error("its content is `{0}`, which is no image")]
    NoImage(String),
    #[error("layer {index} is encrypted, which is not supported")]
    Encrypted { index: usize },
    #[error("layer {index} is `{media_type}`, which is not supported")]
    LayerType { index: usize, media_type: String },
    #[error("it has {0} layers; at most {MAX_LAYERS} are supported")]
    TooManyLayers(usize),
    #[error("{0}")]
    Digest(#[from] pod_abi::digest::DigestError),
    #[error("its configuration names {ids} layers, its manifest {layers}")]
    LayerCount { ids: usize, layers: usize },
}

/// A blob as a document names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// What a name of an image leads to first.
#[derive(Clone, Debug)]
pub(crate) enum Top {
    Manifest(Manifest),
    Index(Index),
}

/// The parts that tell the kinds apart, whatever a document says of itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<u32>,
    media_type: Option<String>,
    manifests: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
    fs_layers: Option<IgnoredAny>,
}

impl Top {
    /// Parses a manifest or an index that was served as `served_as` (empty: nobody said).
    pub(crate) fn parse(bytes: &[u8], served_as: &str) -> Result<Self, DocumentError> {
        match kind_of(bytes, served_as)? {
            Kind::Manifest => Manifest::parse(bytes).map(Self::Manifest),
            Kind::Index => Index::parse(bytes).map(Self::Index),
        }
    }
}

/// Decides what a document is; everything that could be read two ways is refused.
fn kind_of(bytes: &[u8], served_as: &str) -> Result<Kind, DocumentError> {
    if bytes.len() > MAX_DOCUMENT {
        return Err(DocumentError::TooLarge);
    }
    let shape: Shape = serde_json::from_slice(bytes).map_err(DocumentError::Json)?;
    let is_index = shape.manifests.is_some();
    let is_manifest = shape.layers.is_some() || shape.config.is_some();
    let by_shape = match (is_manifest, is_index) {
        (true, true) => return Err(DocumentError::TwoKinds),
        _ if shape.fs_layers.is_some() => return Err(DocumentError::SchemaOne),
        (false, false) => return Err(DocumentError::NoKind),
        (true, false) => Kind::Manifest,
        (false, true) => Kind::Index,
    };
    match shape.schema_version {
        Some(2) => {}
        Some(1) => return Err(DocumentError::SchemaOne),
        other => return Err(DocumentError::SchemaVersion(other.unwrap_or(0))),
    }
    let served_as = media::essence(served_as);
    if let Some(inner) = &shape.media_type
        && !media::is_vague(served_as)
        && inner != served_as
    {
        let (outer, inner) = (served_as.to_owned(), inner.clone());
        return Err(DocumentError::Contradiction { outer, inner });
    }
    for said in [served_as, shape.media_type.as_deref().unwrap_or("")] {
        match media::kind(said) {
            Some(kind) if kind != by_shape => return Err(DocumentError::TwoKinds),
            None if !media::is_vague(said) => {
                return Err(DocumentError::NoImage(said.chars().take(200).collect()));
            }
            _ => {}
        }
    }
    Ok(by_shape)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::any;

    use super::*;

    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

    #[test]
    fn a_document_has_one_kind_or_is_refused() {
        let kind = |bytes: &str, served_as: &str| kind_of(bytes.as_bytes(), served_as).ok();
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        let manifest = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;
        assert_eq!(kind(index, ""), Some(Kind::Index));
        assert_eq!(kind(index, INDEX), Some(Kind::Index));
        assert_eq!(kind(index, "text/plain; charset=utf-8"), Some(Kind::Index));
        assert_eq!(kind(manifest, MANIFEST), Some(Kind::Manifest));
        for (bytes, served_as) in [
            (index, MANIFEST),
            (manifest, INDEX),
            (index, "text/html"),
            (r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#, ""),
            (r#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#, ""),
            (r#"{"schemaVersion":2}"#, ""),
            (r#"{"schemaVersion":3,"manifests":[]}"#, ""),
            (r#"{"manifests":[]}"#, ""),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, ""),
            ("[]", ""),
            ("", ""),
        ] {
            assert_eq!(kind(bytes, served_as), None, "{bytes} as {served_as}");
        }
    }

    #[test]
    fn what_a_document_says_of_itself_must_agree_with_how_it_was_served() {
        let docker = "application/vnd.docker.distribution.manifest.v2+json";
        let bytes =
            format!(r#"{{"schemaVersion":2,"mediaType":"{docker}","layers":[],"config":{{}}}}"#);
        assert!(kind_of(bytes.as_bytes(), docker).is_ok());
        let error = kind_of(bytes.as_bytes(), MANIFEST).expect_err("contradiction");
        assert!(matches!(error, DocumentError::Contradiction { .. }));
    }

    proptest::proptest! {
        #[test]
        fn bytes_from_anywhere_are_a_document_or_an_error(
            bytes in vec(any::<u8>(), 0..200),
            at in 0_usize..400,
            byte in any::<u8>(),
        ) {
            let _ = Top::parse(&bytes, "");
            let hex = "a".repeat(64);
            let blob = format!(r#"{{"mediaType":"{MANIFEST}","digest":"sha256:{hex}","size":7}}"#);
            for document in [
                format!(r#"{{"schemaVersion":2,"manifests":[{blob}]}}"#),
                format!(r#"{{"schemaVersion":2,"config":{blob},"layers":[{blob}]}}"#),
                r#"{"os":"linux","config":{"Env":["A=b"]},"rootfs":{"diff_ids":[]}}"#.to_owned(),
            ] {
                let mut spoilt = document.into_bytes();
                let at = at % spoilt.len();
                spoilt[at] = byte;
                let _ = Top::parse(&spoilt, "");
                let _ = Config::parse(&spoilt, 0);
            }
        }
    }
}
