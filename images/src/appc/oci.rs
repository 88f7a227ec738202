//! A manifest of appc as the configuration of an OCI image.
//!
//! What OCI has a word for is said in it; the rest is kept as text of JSON under `appc.` and the
//! manifest's own key, in the labels of the configuration as well as in annotations, for whoever
//! makes a pod of it. Pure: nothing is looked up in the image.

use std::collections::BTreeMap;

use pod_abi::text;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::app::App;
use super::error::AppcError;
use super::manifest::Manifest;
use crate::platform::Platform;

/// What appc calls an architecture, what OCI does, and its variant; of several variants the usual one
/// stands first.
const MACHINES: [(&str, &str, Option<&str>); 7] = [
    ("amd64", "amd64", None),
    ("i386", "386", None),
    ("aarch64", "arm64", None),
    ("armv7l", "arm", Some("v7")),
    ("armv6l", "arm", Some("v6")),
    ("ppc64le", "ppc64le", None),
    ("s390x", "s390x", None),
];

/// What an OCI image says of itself, as far as a manifest of appc tells.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OciConfig {
    /// As OCI calls it, which is as Go does.
    pub(crate) architecture: String,
    /// Of the architecture.
    pub(crate) variant: Option<String>,
    /// The object `config` of an image configuration.
    pub(crate) config: Value,
    /// `appc.*` and what has a name of its own in OCI.
    pub(crate) annotations: BTreeMap<String, String>,
}

/// Translates a manifest.
///
/// An image that names no architecture runs on any, and is said to be for this machine.
///
/// # Errors
///
/// [`AppcError::Unsupported`] for what has no counterpart: other systems and architectures, and
/// identities that depend on the image's files.
pub(crate) fn oci_config(manifest: &Manifest) -> Result<OciConfig, AppcError> {
    let (architecture, variant) = architecture(manifest)?;
    let mut annotations = BTreeMap::new();
    let mut config = Map::new();
    annotations.insert("appc.name".to_owned(), manifest.name.clone());
    keep(&mut annotations, "labels", &manifest.labels, manifest.labels.is_empty())?;
    keep(&mut annotations, "annotations", &manifest.annotations, manifest.annotations.is_empty())?;
    if let Some(app) = &manifest.app {
        keep_of_app(&mut annotations, app)?;
        config = proposal(app)?;
    }
    config.insert("Labels".to_owned(), json!(annotations));
    annotations.extend(named(manifest));
    Ok(OciConfig { architecture, variant, config: Value::Object(config), annotations })
}

fn architecture(manifest: &Manifest) -> Result<(String, Option<String>), AppcError> {
    let unsupported = |what: &str, word: &str| {
        let word = text::tame(word, 80);
        Err(AppcError::Unsupported(format!("{what} `{word}` is not supported")))
    };
    if let Some(os) = manifest.labels.get("os").filter(|os| *os != "linux") {
        return unsupported("operating system", os);
    }
    let Some(architecture) = manifest.labels.get("arch") else {
        return Ok((Platform::host().architecture().to_owned(), None));
    };
    match MACHINES.iter().find(|(arch, ..)| arch == architecture) {
        Some((_, architecture, variant)) => {
            Ok(((*architecture).to_owned(), variant.map(str::to_owned)))
        }
        None => unsupported("architecture", architecture),
    }
}

/// Returns what appc calls a platform's architecture, if it has a word.
pub(super) fn arch_of(platform: &Platform) -> Option<&'static str> {
    let fits = |variant: &Option<&str>| {
        variant.is_none() || platform.variant().is_none() || *variant == platform.variant()
    };
    MACHINES
        .iter()
        .find(|(_, name, variant)| *name == platform.architecture() && fits(variant))
        .map(|(arch, ..)| *arch)
}

/// Makes the part of the configuration that says what to run.
fn proposal(app: &App) -> Result<Map<String, Value>, AppcError> {
    if [&app.user, &app.group].into_iter().any(|who| who.starts_with('/')) {
        let why = "user taken from a file's owner is not supported";
        return Err(AppcError::Unsupported(why.to_owned()));
    }
    let directory = if app.working_directory.is_empty() { "/" } else { &app.working_directory };
    let environment = app.environment().map(|(name, value)| format!("{name}={value}"));
    let volumes = app.mount_points.iter().map(|point| (point.path.clone(), json!({})));
    let ports = app.ports.iter().flat_map(|port| {
        let last = port.last().unwrap_or(port.port);
        (port.port..=last).map(|number| (format!("{number}/{}", port.protocol), json!({})))
    });
    let entries = [
        ("Entrypoint", json!(app.exec)),
        ("Cmd", json!([])),
        ("User", json!(format!("{}:{}", app.user, app.group))),
        ("WorkingDir", json!(directory)),
        ("Env", json!(environment.collect::<Vec<_>>())),
        ("Volumes", Value::Object(volumes.collect())),
        ("ExposedPorts", Value::Object(ports.collect())),
    ];
    Ok(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// Keeps what OCI has no word for.
fn keep_of_app(kept: &mut BTreeMap<String, String>, app: &App) -> Result<(), AppcError> {
    keep(kept, "mountPoints", &app.mount_points, app.mount_points.is_empty())?;
    keep(kept, "ports", &app.ports, app.ports.is_empty())?;
    keep(kept, "isolators", &app.isolators, app.isolators.is_empty())?;
    keep(kept, "eventHandlers", &app.event_handlers, app.event_handlers.is_empty())?;
    let groups = &app.supplementary_gids;
    keep(kept, "supplementaryGIDs", groups, groups.is_empty())?;
    keep(kept, "userAnnotations", &app.user_annotations, app.user_annotations.is_empty())?;
    keep(kept, "userLabels", &app.user_labels, app.user_labels.is_empty())
}

fn keep<T: Serialize>(
    kept: &mut BTreeMap<String, String>,
    key: &str,
    value: &T,
    empty: bool,
) -> Result<(), AppcError> {
    if !empty {
        let text = serde_json::to_string(value)
            .map_err(|error| AppcError::Manifest(format!("{key}: {error}")))?;
        kept.insert(format!("appc.{key}"), text);
    }
    Ok(())
}

/// Finds what has a name of its own among the annotations of OCI images.
fn named(manifest: &Manifest) -> impl Iterator<Item = (String, String)> {
    let Manifest { labels, annotations, .. } = manifest;
    [
        ("version", labels.get("version")),
        ("created", annotations.get("created")),
        ("authors", annotations.get("authors")),
        ("url", annotations.get("homepage")),
        ("documentation", annotations.get("documentation")),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((format!("org.opencontainers.image.{key}"), value?.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(labels: &Value, app: &Value) -> Result<OciConfig, AppcError> {
        let manifest = json!({
            "acKind": "ImageManifest", "acVersion": "0.8.11", "name": "example.com/a",
            "labels": labels, "app": app,
            "annotations": [{"name": "homepage", "value": "https://example.com"}],
        });
        oci_config(&Manifest::parse(manifest.to_string().as_bytes())?)
    }

    #[test]
    fn what_oci_has_a_word_for_is_said_in_it() {
        let memory = json!([{"name": "resource/memory", "value": {"limit": "1G"}}]);
        let oci = config(
            &json!([{"name": "arch", "value": "armv7l"}, {"name": "os", "value": "linux"}]),
            &json!({
                "exec": ["/bin/a", "b"], "user": "1", "group": "staff",
                "environment": [{"name": "B", "value": "1"}, {"name": "A", "value": "x=y"}],
                "mountPoints": [{"name": "data", "path": "/data", "readOnly": true}],
                "ports": [{"name": "web", "protocol": "tcp", "port": 80},
                    {"name": "rtp", "protocol": "udp", "port": 65534, "count": 2}],
                "isolators": memory, "supplementaryGIDs": [4, 5],
            }),
        );
        let OciConfig { architecture, variant, config, annotations } = oci.unwrap();
        assert_eq!((architecture.as_str(), variant.as_deref()), ("arm", Some("v7")));
        for (key, value) in [
            ("Entrypoint", json!(["/bin/a", "b"])),
            ("Cmd", json!([])),
            ("User", json!("1:staff")),
            ("WorkingDir", json!("/")),
            ("Env", json!(["B=1", "A=x=y"])),
            ("Volumes", json!({"/data": {}})),
            ("ExposedPorts", json!({"80/tcp": {}, "65534/udp": {}, "65535/udp": {}})),
        ] {
            assert_eq!(config[key], value, "{key}");
        }
        assert_eq!(annotations["appc.isolators"], memory.to_string());
        assert_eq!(annotations["appc.supplementaryGIDs"], "[4,5]");
        let point = r#"[{"name":"data","path":"/data","readOnly":true}]"#;
        assert_eq!(annotations["appc.mountPoints"], point);
        assert_eq!(config["Labels"]["appc.mountPoints"], point);
        assert_eq!(annotations["org.opencontainers.image.url"], "https://example.com");
        assert!(!annotations.contains_key("appc.userLabels"));
    }

    #[test]
    fn machines_have_their_names_in_oci() {
        for (os, arch, expected) in [
            ("linux", "amd64", Some("amd64")),
            ("linux", "aarch64", Some("arm64")),
            ("linux", "i386", Some("386")),
            ("linux", "aarch64_be", None),
            ("linux", "armv7b", None),
            ("freebsd", "amd64", None),
        ] {
            let labels = json!([{"name": "os", "value": os}, {"name": "arch", "value": arch}]);
            let config = config(&labels, &Value::Null);
            assert_eq!(config.ok().map(|oci| oci.architecture).as_deref(), expected, "{os} {arch}");
        }
        let any = config(&json!([]), &Value::Null).unwrap();
        assert_eq!(any.architecture, Platform::host().architecture());
        assert_eq!(any.config.get("Entrypoint"), None);
    }

    #[test]
    fn an_identity_out_of_a_file_is_refused() {
        for (user, group) in [("/bin/ping", "0"), ("0", "/bin/ping")] {
            let app = json!({"exec": ["/bin/a"], "user": user, "group": group});
            let error = config(&json!([]), &app).unwrap_err().to_string();
            assert!(error.ends_with("user taken from a file's owner is not supported"), "{error}");
        }
    }
}
