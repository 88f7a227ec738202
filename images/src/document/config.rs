//! An image configuration: which layers, for which platform, and what its maker proposes to run.

use std::collections::BTreeMap;

use oci_spec::image::Config as Proposal;
use pod_abi::Digest;
use serde::Deserialize;

use super::DocumentError;
use super::media::MAX_DOCUMENT;
use crate::image::ImageSettings;
use crate::platform::Platform;

/// What counts of a configuration.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The uncompressed layers, lowest first.
    pub(crate) layers: Vec<Digest>,
    /// For which machine it is, if it says so.
    pub(crate) platform: Option<Platform>,
    pub(crate) settings: ImageSettings,
}

/// oci-spec's own type refuses images without an architecture and of no layers, both of which are
/// met in the field; its type for the proposal is used.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
    config: Option<Proposal>,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Option<Vec<Digest>>,
}

impl Config {
    /// Parses the configuration of an image whose manifest names `expected` layers.
    pub(crate) fn parse(bytes: &[u8], expected: usize) -> Result<Self, DocumentError> {
        if bytes.len() > MAX_DOCUMENT {
            return Err(DocumentError::TooLarge);
        }
        let document: Document = serde_json::from_slice(bytes).map_err(DocumentError::Json)?;
        let layers = document.rootfs.diff_ids.unwrap_or_default();
        if layers.len() != expected {
            return Err(DocumentError::LayerCount { ids: layers.len(), layers: expected });
        }
        let says = !document.os.is_empty() && !document.architecture.is_empty();
        let platform = says.then(|| {
            Platform::new(&document.os, &document.architecture, document.variant.as_deref())
        });
        let settings = document.config.as_ref().map(settings).unwrap_or_default();
        Ok(Self { layers, platform, settings })
    }
}

fn settings(proposal: &Proposal) -> ImageSettings {
    let list = |words: &Option<Vec<String>>| words.clone().unwrap_or_default();
    let sorted = |words: &Option<Vec<String>>| {
        let mut words = list(words);
        words.sort();
        words
    };
    let word = |word: &Option<String>| word.clone().filter(|word| !word.is_empty());
    let labels: BTreeMap<String, String> =
        proposal.labels().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    ImageSettings {
        entrypoint: list(proposal.entrypoint()),
        cmd: list(proposal.cmd()),
        env: list(proposal.env()),
        working_dir: word(proposal.working_dir()),
        user: word(proposal.user()),
        stop_signal: word(proposal.stop_signal()),
        volumes: sorted(proposal.volumes()),
        labels,
        exposed_ports: sorted(proposal.exposed_ports()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_writes_is_understood() {
        let bytes = br#"{"os":"linux","architecture":"arm64","variant":"v8","created":"x",
            "config":{"User":"","Env":["A=b"],"Cmd":["sh"],"Entrypoint":null,"Labels":null,
              "Volumes":{"/b":{},"/a":{}},"ExposedPorts":{"80/tcp":{}},"WorkingDir":"/w",
              "OnBuild":null,"Healthcheck":{"Test":["NONE"]}},
            "history":null,"rootfs":{"type":"layers","diff_ids":[]}}"#;
        let config = Config::parse(bytes, 0).unwrap();
        assert_eq!(config.platform.map(|p| p.to_string()).as_deref(), Some("linux/arm64/v8"));
        assert_eq!(config.settings.volumes, ["/a", "/b"]);
        assert_eq!(config.settings.user, None);
        assert_eq!(config.settings.working_dir.as_deref(), Some("/w"));
    }

    #[test]
    fn layers_must_be_as_many_as_the_manifest_has() {
        let bytes = br#"{"rootfs":{"diff_ids":null}}"#;
        assert!(Config::parse(bytes, 0).is_ok());
        assert!(matches!(
            Config::parse(bytes, 1),
            Err(DocumentError::LayerCount { ids: 0, layers: 1 })
        ));
        assert!(Config::parse(br#"{"rootfs":{"diff_ids":["md5:aa"]}}"#, 1).is_err());
    }
}
