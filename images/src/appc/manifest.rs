//! The image manifest of appc, read strictly.
//!
//! Keys that we do not know are passed over, as the spec asks; a known key with a value of another
//! type, or said twice, is refused. Source: appc spec 0.8.11, `spec/aci.md`, "Image Manifest
//! Schema".

use std::collections::BTreeMap;

use pod_abi::text;
use serde::Deserialize;

use super::app::App;
use super::error::AppcError;
use super::word::{self, Pair, or_default, refuse};

/// The longest manifest that is read, in bytes: what other documents of images may have, too.
pub(super) const MAX_MANIFEST: usize = 4 << 20;

/// What an image says of itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Manifest {
    /// Its name, an AC Identifier.
    pub(crate) name: String,
    /// What distinguishes it from others of that name: `version`, `os`, `arch`, …
    pub(crate) labels: BTreeMap<String, String>,
    /// What to run; images that only others depend on have none.
    pub(crate) app: Option<App>,
    /// The images beneath it, lowest first.
    pub(crate) dependencies: Vec<Dependency>,
    /// The only paths there are in the end; empty for all.
    pub(crate) path_whitelist: Vec<String>,
    /// What else there is to know.
    pub(crate) annotations: BTreeMap<String, String>,
}

/// An image beneath another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dependency {
    /// Its name.
    pub(crate) image_name: String,
    /// `sha512-` and 128 digits, if just one image will do.
    pub(crate) image_id: Option<String>,
    /// What its labels must be, at least.
    pub(crate) labels: BTreeMap<String, String>,
    /// The bytes of its archive.
    pub(crate) size: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    ac_kind: String,
    ac_version: String,
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    labels: Vec<Pair>,
    app: Option<App>,
    #[serde(default, deserialize_with = "or_default")]
    dependencies: Vec<DependencyDocument>,
    #[serde(default, deserialize_with = "or_default")]
    path_whitelist: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    annotations: Vec<Pair>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DependencyDocument {
    image_name: String,
    #[serde(rename = "imageID")]
    image_id: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    labels: Vec<Pair>,
    size: Option<u64>,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    ///
    /// [`AppcError::Manifest`].
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, AppcError> {
        if bytes.len() > MAX_MANIFEST {
            return Err(AppcError::Manifest(format!("it is longer than {MAX_MANIFEST} bytes")));
        }
        let document: Document = serde_json::from_slice(bytes)
            .map_err(|error| AppcError::Manifest(text::tame(&error.to_string(), 200)))?;
        if document.ac_kind != "ImageManifest" {
            return Err(refuse("acKind", &document.ac_kind, "is not `ImageManifest`"));
        }
        word::version("acVersion", &document.ac_version)?;
        word::identifier("name", &document.name)?;
        if let Some(app) = &document.app {
            app.check()?;
        }
        for path in &document.path_whitelist {
            word::absolute("path of pathWhitelist", path)?;
        }
        let dependencies = document.dependencies.into_iter().map(Dependency::checked);
        Ok(Self {
            name: document.name,
            labels: labels(document.labels)?,
            app: document.app,
            dependencies: dependencies.collect::<Result<_, _>>()?,
            path_whitelist: document.path_whitelist,
            annotations: word::map("annotation", document.annotations)?,
        })
    }
}

impl Dependency {
    fn checked(document: DependencyDocument) -> Result<Self, AppcError> {
        let DependencyDocument { image_name, image_id, labels: pairs, size } = document;
        word::identifier("imageName of a dependency", &image_name)?;
        // Go writes nothing as empty text.
        let image_id = image_id.filter(|id| !id.is_empty());
        if let Some(id) = &image_id {
            word::image_id("imageID of a dependency", id)?;
        }
        Ok(Self { image_name, image_id, labels: labels(pairs)?, size })
    }
}

fn labels(pairs: Vec<Pair>) -> Result<BTreeMap<String, String>, AppcError> {
    let labels = word::map("label", pairs)?;
    if labels.contains_key("name") {
        return Err(refuse("label", "name", "is what the image's name is for"));
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn manifest() -> Value {
        json!({
            "acKind": "ImageManifest", "acVersion": "0.8.11", "name": "example.com/worker",
            "labels": [{"name": "os", "value": "linux"}, {"name": "version", "value": "1"}],
            "app": {
                "exec": ["/bin/worker", "--quiet"], "user": "100", "group": "staff",
                "supplementaryGIDs": [4], "workingDirectory": "/work",
                "environment": [{"name": "A", "value": "b=c"}],
                "eventHandlers": [{"name": "pre-start", "exec": ["/bin/load"]}],
                "isolators": [{"name": "os/linux/no-new-privileges", "value": true}],
                "mountPoints": [{"name": "data", "path": "/data"}],
                "ports": [{"name": "web", "protocol": "tcp", "port": 80, "count": 2}],
            },
            "dependencies": [{"imageName": "example.com/base", "size": 7,
                "imageID": format!("sha512-{}", "a".repeat(128)), "labels": null}],
            "pathWhitelist": ["/bin/worker", "/etc/"],
            "annotations": [{"name": "created", "value": "2016-01-01T00:00:00Z"}],
            "unknown": {"to": "us"},
        })
    }

    fn parsed(document: &Value) -> Result<Manifest, AppcError> {
        Manifest::parse(document.to_string().as_bytes())
    }

    #[test]
    fn a_manifest_is_read_in_full() {
        let manifest = parsed(&manifest()).unwrap();
        assert_eq!(manifest.name, "example.com/worker");
        assert_eq!(manifest.labels["version"], "1");
        assert_eq!(manifest.path_whitelist, ["/bin/worker", "/etc/"]);
        assert_eq!(manifest.dependencies[0].size, Some(7));
        let app = manifest.app.unwrap();
        assert_eq!(app.environment().collect::<Vec<_>>(), [("A", "b=c")]);
        assert!(!app.mount_points[0].read_only);
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        let twice =
            |name: &str| json!([{"name": name, "value": "1"}, {"name": name, "value": "2"}]);
        let port = |protocol: &str, port: u32, count: u32| json!([{"name": "a", "protocol": protocol, "port": port, "count": count}]);
        for (place, value) in [
            ("/acKind", json!("PodManifest")),
            ("/acVersion", json!("one")),
            ("/name", json!("Example.com")),
            ("/labels", twice("os")),
            ("/labels", json!({"os": "linux"})),
            ("/labels/0/name", json!("name")),
            ("/annotations", twice("created")),
            ("/pathWhitelist/0", json!("bin")),
            ("/dependencies/0/imageID", json!("sha512-abc")),
            ("/dependencies/0/size", json!(-1)),
            ("/app/exec", json!([])),
            ("/app/exec/0", json!("worker")),
            ("/app/exec/1", json!("\0")),
            ("/app/user", json!("")),
            ("/app/user", json!(0)),
            ("/app/user", json!("a:b")),
            ("/app/group", json!("4294967295")),
            ("/app/supplementaryGIDs/0", json!(-1)),
            ("/app/workingDirectory", json!("work")),
            ("/app/environment", twice("A")),
            ("/app/environment/0/name", json!("A=B")),
            ("/app/eventHandlers/0/name", json!("never")),
            ("/app/eventHandlers/0/exec", json!([])),
            ("/app/isolators/0/name", json!("A")),
            ("/app/mountPoints/0/path", json!("data")),
            ("/app/mountPoints/0/name", json!("a.b")),
            ("/app/ports", port("sctp", 1, 1)),
            ("/app/ports", port("tcp", 0, 1)),
            ("/app/ports", port("tcp", 65535, 2)),
            ("/app/ports", port("tcp", 65536, 1)),
        ] {
            let mut document = manifest();
            *document.pointer_mut(place).unwrap() = value.clone();
            let error = parsed(&document).expect_err(place);
            assert!(matches!(error, AppcError::Manifest(_)), "{place}: {value}");
        }
        for key in ["acKind", "acVersion", "name"] {
            let mut document = manifest();
            document.as_object_mut().unwrap().remove(key);
            assert!(parsed(&document).is_err(), "{key}");
        }
        assert!(Manifest::parse(&vec![b' '; MAX_MANIFEST + 1]).is_err());
    }

    proptest! {
        #[test]
        fn spoilt_bytes_are_an_error_at_worst(
            at in any::<prop::sample::Index>(), with in proptest::collection::vec(any::<u8>(), 0..4),
        ) {
            let mut bytes = manifest().to_string().into_bytes();
            let at = at.index(bytes.len());
            let end = bytes.len().min(at + with.len());
            bytes.splice(at..end, with);
            if let Ok(manifest) = Manifest::parse(&bytes) {
                let _ = crate::appc::oci_config(&manifest);
            }
        }
    }
}
