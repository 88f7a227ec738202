//! Media types: the words by which documents and layers say what they are.
//!
//! Docker's types mean the same as OCI's. A compression in a layer's type is not believed: the
//! unpacker looks at the bytes and the digest of the result decides.

/// The largest manifest, index or configuration that is read (CVE-2020-1702).
pub(crate) const MAX_DOCUMENT: usize = 4 << 20;

/// The kinds of documents a reference can lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Manifest,
    Index,
}

/// Returns the kind a media type stands for.
pub(super) fn kind(media_type: &str) -> Option<Kind> {
    match media_type {
        "application/vnd.oci.image.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v2+json" => Some(Kind::Manifest),
        "application/vnd.oci.image.index.v1+json"
        | "application/vnd.docker.distribution.manifest.list.v2+json" => Some(Kind::Index),
        _ => None,
    }
}

/// Returns a media type without its parameters.
pub(super) fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or("").trim()
}

/// Tells whether a media type says nothing, as servers of plain files have it.
pub(super) fn is_vague(media_type: &str) -> bool {
    matches!(
        media_type,
        "" | "application/json" | "text/plain" | "application/octet-stream" | "binary/octet-stream"
    )
}

/// Tells whether a media type is an image configuration's.
pub(super) fn is_config(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/vnd.oci.image.config.v1+json"
            | "application/vnd.docker.container.image.v1+json"
    )
}

/// What a media type says of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LayerType {
    Archive,
    Encrypted,
    Unknown,
}

/// Returns what a media type says of a layer.
pub(super) fn layer(media_type: &str) -> LayerType {
    let base = ["", "+gzip", "+zstd", ".gzip", ".zstd"];
    if media_type.ends_with("+encrypted") {
        return LayerType::Encrypted;
    }
    let archive = [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    ]
    .iter()
    .filter_map(|known| media_type.strip_prefix(known))
    .any(|rest| base.contains(&rest));
    if archive { LayerType::Archive } else { LayerType::Unknown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_archives_encrypted_or_foreign() {
        for (word, meaning) in [
            ("application/vnd.oci.image.layer.v1.tar+gzip", LayerType::Archive),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", LayerType::Archive),
            ("application/vnd.oci.image.layer.v1.tar", LayerType::Archive),
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", LayerType::Encrypted),
            ("application/vnd.oci.image.layer.v1.tarx", LayerType::Unknown),
            ("application/vnd.in-toto+json", LayerType::Unknown),
        ] {
            assert_eq!(layer(word), meaning, "{word}");
        }
    }
}
