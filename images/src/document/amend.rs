//! The documents of an image that has one layer more than another.
//!
//! All that is not said anew stays as the other image's maker wrote it, known here or not: its
//! history, its author, its annotations in the configuration. Layers keep their order and their
//! bytes; words of Docker for what they are become those of OCI, as one manifest speaks one of both.
//!
//! The same image with the same layer, change and time gives the same bytes.

use pod_abi::Digest;
use serde_json::{Map, Value, json};

use super::write::{CONFIG, LAYER, MANIFEST};
use super::{Blob, DocumentError, MAX_LAYERS};
use crate::image::ImageSettings;

/// What an image has more than the one it was made from.
#[derive(Debug)]
pub(crate) struct Amendment<'a> {
    /// The digest of the layer as an archive.
    pub(crate) diff_id: &'a Digest,
    /// What of its settings is said anew; what is empty stays.
    pub(crate) settings: &'a ImageSettings,
    /// When it was made, `YYYY-MM-DDTHH:MM:SSZ`.
    pub(crate) created: &'a str,
    /// By what, and what its maker says of it.
    pub(crate) created_by: &'a str,
    pub(crate) comment: Option<&'a str>,
    pub(crate) author: Option<&'a str>,
}

/// Writes the configuration of `base` with one layer more.
///
/// # Errors
///
/// [`DocumentError`] if `base` is no configuration, or has no room for a further layer.
pub(crate) fn config(base: &[u8], amendment: &Amendment<'_>) -> Result<Vec<u8>, DocumentError> {
    let mut document: Map<String, Value> =
        serde_json::from_slice(base).map_err(DocumentError::Json)?;
    let rootfs = object(&mut document, "rootfs");
    let layers = array(rootfs, "diff_ids");
    if layers.len() >= MAX_LAYERS {
        return Err(DocumentError::TooManyLayers(layers.len() + 1));
    }
    layers.push(json!(amendment.diff_id));
    let mut event = json!({ "created": amendment.created, "created_by": amendment.created_by });
    let said = [("comment", amendment.comment), ("author", amendment.author)];
    for (key, word) in said.into_iter().filter_map(|(key, word)| Some((key, word?))) {
        event[key] = json!(word);
    }
    array(&mut document, "history").push(event);
    document.insert("created".into(), json!(amendment.created));
    if let Some(author) = amendment.author {
        document.insert("author".into(), json!(author));
    }
    change(object(&mut document, "config"), amendment.settings);
    // What the first builders noted of a container; it was another.
    for key in ["container", "container_config", "id", "parent"] {
        document.remove(key);
    }
    Ok(json(&Value::Object(document)))
}

/// Says anew what `settings` has.
fn change(config: &mut Map<String, Value>, settings: &ImageSettings) {
    let mut set = |key: &str, value: Value, there: bool| {
        if there {
            config.insert(key.to_owned(), value);
        }
    };
    set("Entrypoint", json!(settings.entrypoint), !settings.entrypoint.is_empty());
    // Arguments that were meant for another program are none for this one.
    let program = !settings.entrypoint.is_empty() && settings.cmd.is_empty();
    set("Cmd", json!(settings.cmd), !settings.cmd.is_empty());
    set("Cmd", Value::Null, program);
    set("WorkingDir", json!(settings.working_dir), settings.working_dir.is_some());
    set("User", json!(settings.user), settings.user.is_some());
    set("StopSignal", json!(settings.stop_signal), settings.stop_signal.is_some());
    let variables = array(config, "Env");
    for variable in &settings.env {
        let name = |word: &str| word.split('=').next().unwrap_or(word).to_owned();
        variables.retain(|there| there.as_str().is_none_or(|there| name(there) != name(variable)));
        variables.push(json!(variable));
    }
    let sets = [("Volumes", &settings.volumes), ("ExposedPorts", &settings.exposed_ports)];
    for (key, words) in sets.into_iter().filter(|(_, words)| !words.is_empty()) {
        let set = object(config, key);
        set.extend(words.iter().map(|word| (word.clone(), json!({}))));
    }
    if !settings.labels.is_empty() {
        let labels = object(config, "Labels");
        labels.extend(settings.labels.iter().map(|(key, value)| (key.clone(), json!(value))));
    }
}

/// Writes the manifest of `base` with one layer more and another configuration.
///
/// # Errors
///
/// [`DocumentError`] if `base` is no manifest.
pub(crate) fn manifest(base: &[u8], config: &Blob, layer: &Blob) -> Result<Vec<u8>, DocumentError> {
    let mut base: Map<String, Value> = serde_json::from_slice(base).map_err(DocumentError::Json)?;
    let mut layers = std::mem::take(array(&mut base, "layers"));
    for layer in &mut layers {
        let kind = layer.get("mediaType").and_then(Value::as_str).unwrap_or_default();
        let kind = of_oci(kind);
        layer["mediaType"] = json!(kind);
    }
    layers.push(descriptor(&format!("{LAYER}+gzip"), layer));
    Ok(json(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, config),
        "layers": layers,
    })))
}

/// Returns OCI's word for what Docker calls a layer.
fn of_oci(kind: &str) -> String {
    match kind {
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => format!("{LAYER}+gzip"),
        "application/vnd.docker.image.rootfs.diff.tar.zstd" => format!("{LAYER}+zstd"),
        "application/vnd.docker.image.rootfs.diff.tar" => LAYER.to_owned(),
        other => other.to_owned(),
    }
}

fn descriptor(media_type: &str, blob: &Blob) -> Value {
    json!({ "mediaType": media_type, "digest": blob.digest, "size": blob.size })
}

/// Returns the object at `key`, which is put there if there is none.
fn object<'m>(map: &'m mut Map<String, Value>, key: &str) -> &'m mut Map<String, Value> {
    let place = map.entry(key).or_insert_with(|| json!({}));
    if !place.is_object() {
        *place = json!({});
    }
    place.as_object_mut().expect("it has just been made one")
}

/// Returns the list at `key`, which is put there if there is none.
fn array<'m>(map: &'m mut Map<String, Value>, key: &str) -> &'m mut Vec<Value> {
    let place = map.entry(key).or_insert_with(|| json!([]));
    if !place.is_array() {
        *place = json!([]);
    }
    place.as_array_mut().expect("it has just been made one")
}

fn json(document: &Value) -> Vec<u8> {
    serde_json::to_vec(document).expect("a value always becomes JSON")
}

#[cfg(test)]
mod tests {
    use pod_abi::digest::Algorithm;

    use super::super::{Config, Top};
    use super::*;
    use crate::hash;

    fn amended(base: &Value, settings: &ImageSettings) -> Value {
        let amendment = Amendment {
            diff_id: &hash::of(Algorithm::Sha256, b"layer"),
            settings,
            created: "2026-01-02T03:04:05Z",
            created_by: "pod commit",
            comment: Some("why"),
            author: None,
        };
        serde_json::from_slice(&config(base.to_string().as_bytes(), &amendment).unwrap()).unwrap()
    }

    #[test]
    fn what_is_not_said_anew_stays() {
        let below = hash::of(Algorithm::Sha256, b"below");
        let base = json!({
            "architecture": "amd64", "os": "linux", "author": "somebody", "x-own": 1,
            "container": "abc", "history": [{"created_by": "first"}],
            "config": {"Env": ["A=1", "B=2"], "Cmd": ["/old"], "Labels": {"k": "v"}, "X": 2},
            "rootfs": {"type": "layers", "diff_ids": [below]},
        });
        let same = amended(&base, &ImageSettings::default());
        assert_eq!(same["config"], base["config"]);
        assert_eq!((&same["author"], &same["x-own"]), (&json!("somebody"), &json!(1)));
        assert_eq!(same["container"], Value::Null);
        assert_eq!(same["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
        assert_eq!(same["history"][1]["comment"], "why");
        let settings = ImageSettings {
            entrypoint: vec!["/new".into()],
            env: vec!["B=3".into()],
            exposed_ports: vec!["80/tcp".into()],
            ..ImageSettings::default()
        };
        let other = amended(&base, &settings);
        assert_eq!(other["config"]["Cmd"], Value::Null, "those were the old program's");
        assert_eq!(other["config"]["Env"], json!(["A=1", "B=3"]));
        assert_eq!(other["config"]["ExposedPorts"], json!({"80/tcp": {}}));
        let read = Config::parse(other.to_string().as_bytes(), 2).unwrap();
        assert_eq!(read.settings.entrypoint, ["/new"]);
    }

    #[test]
    fn a_manifest_of_docker_becomes_one_of_oci() {
        let blob = |word: &[u8]| Blob { digest: hash::of(Algorithm::Sha256, word), size: 5 };
        let base = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json",
                       "digest": blob(b"config").digest, "size": 5},
            "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                        "digest": blob(b"one").digest, "size": 5}],
        });
        let (config, layer) = (blob(b"other"), blob(b"two"));
        let bytes = manifest(base.to_string().as_bytes(), &config, &layer).unwrap();
        let Top::Manifest(read) = Top::parse(&bytes, MANIFEST).unwrap() else { panic!("manifest") };
        assert_eq!(read.layers, [blob(b"one"), layer]);
        assert_eq!(read.config, config);
    }

    #[test]
    fn an_image_with_as_many_layers_as_can_be_takes_no_more() {
        let layers: Vec<_> = (0..MAX_LAYERS).map(|_| "sha256:x").collect();
        let base = json!({ "rootfs": { "diff_ids": layers } }).to_string();
        let amendment = Amendment {
            diff_id: &hash::of(Algorithm::Sha256, b"layer"),
            settings: &ImageSettings::default(),
            created: "",
            created_by: "",
            comment: None,
            author: None,
        };
        let refused = config(base.as_bytes(), &amendment);
        assert!(matches!(refused, Err(DocumentError::TooManyLayers(count)) if count > MAX_LAYERS));
    }
}
