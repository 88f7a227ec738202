//! An index: manifests of one image for several platforms, and the choice among them.

use oci_spec::image::{Arch, Descriptor, ImageIndex, Os};

use super::manifest::blob;
use super::media::{self, Kind};
use super::{Blob, DocumentError};
use crate::platform::Platform;

/// The annotation by which OCI layouts call their images.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation by which Docker and containerd call the images of an archive in full.
pub(crate) const FULL_NAME: &str = "io.containerd.image.name";

/// An index of manifests, in the order they stand there.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    entries: Vec<Entry>,
}

/// One manifest, or further index, of an index.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) blob: Blob,
    pub(crate) media_type: String,
    pub(crate) kind: Option<Kind>,
    pub(crate) name: Option<String>,
    pub(crate) full_name: Option<String>,
    platform: Option<Platform>,
    artifact: bool,
}

impl Index {
    /// Parses an index whose kind has been decided.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        let index: ImageIndex = serde_json::from_slice(bytes).map_err(DocumentError::Json)?;
        let entries = index.manifests().iter().map(Entry::of).collect::<Result<_, _>>()?;
        Ok(Self { entries })
    }

    /// Returns all entries that could be images.
    pub(crate) fn images(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.is_image())
    }

    /// Returns the entries that may serve `wanted`, the best first: the nearest variant, then the
    /// order of the index. Entries that do not say come last: their configuration will.
    pub(crate) fn candidates(&self, wanted: &Platform) -> Vec<&Entry> {
        let mut ranked: Vec<(usize, &Entry)> = self
            .images()
            .filter_map(|entry| match &entry.platform {
                Some(platform) => wanted.rank(platform).map(|rank| (rank, entry)),
                None => Some((usize::MAX, entry)),
            })
            .collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, entry)| entry).collect()
    }

    /// Lists the platforms there are, for a message.
    pub(crate) fn platforms(&self) -> String {
        let words: Vec<String> = self
            .images()
            .filter_map(|entry| entry.platform.as_ref().map(ToString::to_string))
            .take(16)
            .collect();
        if words.is_empty() { "none".to_owned() } else { words.join(", ") }
    }
}

impl Entry {
    fn of(descriptor: &Descriptor) -> Result<Self, DocumentError> {
        let media_type = descriptor.media_type().to_string();
        let platform = descriptor.platform().as_ref().map(|platform| {
            let (os, architecture) = (os(platform.os()), architecture(platform.architecture()));
            Platform::new(&os, &architecture, platform.variant().as_deref())
        });
        let annotation =
            |name: &str| descriptor.annotations().as_ref().and_then(|all| all.get(name)).cloned();
        Ok(Self {
            blob: blob(descriptor)?,
            kind: media::kind(&media_type),
            media_type,
            name: annotation(REF_NAME),
            full_name: annotation(FULL_NAME),
            platform,
            artifact: descriptor.artifact_type().is_some(),
        })
    }

    /// Attestations bear the platform `unknown/unknown`; artifacts say what they are.
    fn is_image(&self) -> bool {
        let attestation = self
            .platform
            .as_ref()
            .is_some_and(|platform| platform.to_string() == "unknown/unknown");
        self.kind.is_some() && !self.artifact && !attestation
    }
}

fn os(os: &Os) -> String {
    os.to_string().to_ascii_lowercase()
}

fn architecture(architecture: &Arch) -> String {
    architecture.to_string().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(entries: &[(&str, &str, &str)]) -> Index {
        let entries: Vec<String> = entries
            .iter()
            .enumerate()
            .map(|(number, (kind, platform, more))| {
                let parts: Vec<&str> = platform.split('/').collect();
                let platform = match parts[..] {
                    [os, arch] => format!(r#","platform":{{"os":"{os}","architecture":"{arch}"}}"#),
                    [os, arch, v] => format!(
                        r#","platform":{{"os":"{os}","architecture":"{arch}","variant":"{v}"}}"#
                    ),
                    _ => String::new(),
                };
                format!(
                    r#"{{"mediaType":"application/vnd.oci.image.{kind}.v1+json","size":1,
                        "digest":"sha256:{number:064}"{platform}{more}}}"#
                )
            })
            .collect();
        let document = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        Index::parse(document.as_bytes()).unwrap()
    }

    fn chosen(index: &Index, platform: &str) -> Vec<u64> {
        let platform: Platform = platform.parse().unwrap();
        let number = |entry: &&Entry| entry.blob.digest.hex().parse().unwrap();
        index.candidates(&platform).iter().map(number).collect()
    }

    #[test]
    fn the_nearest_variant_wins_then_the_order_of_the_index() {
        let index = index(&[
            ("manifest", "linux/arm/v6", ""),
            ("manifest", "linux/amd64", ""),
            ("manifest", "linux/arm/v7", ""),
            ("manifest", "linux/amd64", ""),
            ("index", "", ""),
        ]);
        assert_eq!(chosen(&index, "linux/amd64"), [1, 3, 4]);
        assert_eq!(chosen(&index, "linux/arm/v7"), [2, 0, 4]);
        assert_eq!(chosen(&index, "linux/s390x"), [4]);
        assert_eq!(index.platforms(), "linux/arm/v6, linux/amd64, linux/arm/v7, linux/amd64");
    }

    #[test]
    fn attestations_and_artifacts_are_never_chosen() {
        let index = index(&[
            ("manifest", "unknown/unknown", ""),
            ("manifest", "linux/amd64", r#","artifactType":"application/x""#),
            ("layer", "linux/amd64", ""),
        ]);
        assert!(chosen(&index, "linux/amd64").is_empty());
    }
}
