//! Importing an App Container Image, as rkt ran them: an image of OCI is made of it.
//!
//! Its archive becomes a layer without `rootfs/`, its manifest a configuration. What it depends on must
//! have been imported before, and comes to lie below. Headers are looked at here, not by the worker:
//! the layer that is made of them is then read by the worker as anybody's.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write};

use pod_abi::Digest;
use pod_abi::digest::Algorithm;
use pod_abi::text;
use serde_json::{Value, json};

use super::import::Import;
use super::made::{Layer, Made, blob_of};
use super::{Fetch, PullOptions};
use crate::appc::{self, AppcError, Dependency, Manifest, OciConfig};
use crate::document::{CONFIG, LAYER, MANIFEST, MAX_LAYERS};
use crate::error::{Error, ErrorKind};
use crate::hash::Hasher;
use crate::image::Image;
use crate::layer::Limits;
use crate::platform::Platform;
use crate::progress::Event;
use crate::reference::Reference;
use crate::store::Store;

/// What an image's id is kept as: the hash of its archive, by which others depend on it.
const ID: &str = "appc.id";

/// What a file turned out to be.
pub(super) enum Found {
    /// An image of appc, which has come in.
    Image(Box<Image>),
    /// None, and why.
    None(AppcError),
}

/// What lies below an image's own layer.
#[derive(Default)]
struct Below {
    /// As a manifest names them.
    layers: Vec<Value>,
    diff_ids: Vec<Digest>,
}

impl Store {
    /// Takes an image of appc into the store, if `file` is one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] for one that cannot be had; those of a pull.
    pub(super) fn import_aci(&self, file: &mut File, import: &Import<'_>) -> Result<Found, Error> {
        let (layer, manifest, id) = match self.rerooted(file, None)? {
            Ok(found) => found,
            Err(why) => return Ok(Found::None(why)),
        };
        let manifest = match Manifest::parse(&manifest) {
            Ok(manifest) => manifest,
            Err(why) => return Ok(Found::None(why)),
        };
        let refused = |why: AppcError| Error::caused(ErrorKind::Refused, "it cannot be had", why);
        if import.settings.is_some() {
            let sentence = "it is an image of appc, which has settings of its own";
            return Err(Error::new(ErrorKind::Refused, sentence));
        }
        if let Some(asked) = import.asked {
            asked.check(&manifest, &import.options.platform).map_err(|why| {
                Error::new(ErrorKind::Refused, format!("the image that came {why}"))
            })?;
        }
        let said = appc::oci_config(&manifest).map_err(refused)?;
        let whitelist = &manifest.path_whitelist[..];
        let layer = match (whitelist, &manifest.dependencies[..]) {
            ([], _) => layer,
            (_, []) => self.rerooted(file, Some(whitelist))?.map_err(refused)?.0,
            _ => {
                let sentence =
                    "its `pathWhitelist` leaves out what it depends on, which no layer can say";
                return Err(Error::new(ErrorKind::Refused, sentence));
            }
        };
        let own = named(&manifest);
        let reference = import.reference.or(own.as_ref()).ok_or_else(|| {
            let sentence =
                format!("`{}` is no name an image can have here: name it", manifest.name);
            Error::new(ErrorKind::Refused, sentence)
        })?;
        Self::let_in(import, import.reference.is_none().then_some(reference))?;
        import.progress.event(Event::Resolving { reference: reference.to_string() });
        let below = self.below(&manifest, import)?;
        let config = config(&said, &manifest.name, (&id, &below, &layer));
        let documents = document(&config, &said, (&below, &layer));
        let made = Made::new(documents, config, layer, import.verified);
        let platform = Platform::new("linux", &said.architecture, said.variant.as_deref());
        // Nobody asks a policy for what was made here.
        let options = PullOptions { platform, policies: Vec::new(), ..import.options.clone() };
        let (lease, progress) = (import.lease, import.progress);
        let image =
            self.take(reference, &[], &made, &Fetch { options: &options, lease, progress })?;
        Ok(Found::Image(Box::new(image)))
    }

    /// Makes the layer of an image; returns its manifest and its id, too.
    #[expect(clippy::type_complexity, reason = "the outer error stops, the inner tells what it is")]
    fn rerooted(
        &self,
        file: &mut File,
        whitelist: Option<&[String]>,
    ) -> Result<Result<(Layer, Vec<u8>, Digest), AppcError>, Error> {
        let failed = |source| Error::storage("cannot read it", source);
        file.rewind().map_err(failed)?;
        let plain = match appc::decompressed(Box::new(file.try_clone().map_err(failed)?)) {
            Ok(plain) => plain,
            Err(error) => return Ok(Err(AppcError::Read(error))),
        };
        // Whatever is longer, no layer may be.
        let bounded = plain.take(Limits::default().bytes);
        let mut hashed = Hashed { from: bounded, hasher: Hasher::new(Algorithm::Sha512) };
        let mut none = None;
        let packed = Layer::pack(self, |to: &mut dyn Write| {
            match appc::reroot(&mut hashed, to, whitelist) {
                Ok(found) => Ok(found.manifest),
                Err(AppcError::Write(source)) => Err(Error::storage("cannot pack it", source)),
                Err(why) => {
                    none = Some(why);
                    Ok(Vec::new())
                }
            }
        });
        let (layer, manifest) = packed?;
        Ok(match none {
            Some(why) => Err(why),
            None => Ok((layer, manifest, hashed.hasher.finish())),
        })
    }

    /// Finds what an image depends on, in the order it has it: what comes first lies lowest.
    fn below(&self, manifest: &Manifest, import: &Import<'_>) -> Result<Below, Error> {
        let mut below = Below::default();
        for dependency in &manifest.dependencies {
            let name = name_of(&dependency.image_name, dependency.labels.get("version"));
            let missing = || {
                let shown = text::tame(&name, 120);
                let sentence = format!(
                    "it depends on `{shown}`, which is not in the store: import that first, as with `pod \
                     image import --discover {shown}`"
                );
                Error::new(ErrorKind::Refused, sentence)
            };
            let reference = Reference::parse(&name).map_err(|_| missing())?;
            let image = match self.outgoing(&reference, import.lease) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Err(missing()),
                image => image?,
            };
            let details = self.inspect(&reference)?;
            check_id(dependency, details.settings.labels.get(ID))?;
            let document: Value = serde_json::from_slice(&image.bytes).unwrap_or_default();
            below.layers.extend(document["layers"].as_array().into_iter().flatten().cloned());
            below.diff_ids.extend(details.layers);
        }
        if below.diff_ids.len() >= MAX_LAYERS || below.diff_ids.len() != below.layers.len() {
            return Err(Error::new(ErrorKind::Refused, "what it depends on has too many layers"));
        }
        Ok(below)
    }
}

/// Compares the id an image asks for with what another one is.
fn check_id(dependency: &Dependency, found: Option<&String>) -> Result<(), Error> {
    match &dependency.image_id {
        Some(asked) if found != Some(asked) => {
            let name = &dependency.image_name;
            let sentence =
                format!("it depends on another `{name}` than is in the store: `{asked}`");
            Err(Error::new(ErrorKind::Refused, sentence))
        }
        _ => Ok(()),
    }
}

/// Returns what an image calls itself, if that is a name here.
fn named(manifest: &Manifest) -> Option<Reference> {
    let name = name_of(&manifest.name, manifest.labels.get("version"));
    Reference::parse(&name).ok().filter(Reference::is_nameable)
}

fn name_of(name: &str, version: Option<&String>) -> String {
    let version = version.filter(|version| !version.is_empty());
    version.map_or_else(|| name.to_owned(), |version| format!("{name}:{version}"))
}

fn config(said: &OciConfig, name: &str, (id, below, layer): (&Digest, &Below, &Layer)) -> Vec<u8> {
    let mut proposal = said.config.clone();
    proposal["Labels"][ID] = json!(id.to_string().replacen(':', "-", 1));
    let diff_ids: Vec<&Digest> = below.diff_ids.iter().chain([&layer.diff_id]).collect();
    let mut document = json!({
        "architecture": said.architecture,
        "os": "linux",
        "config": proposal,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": [{ "created_by": "pod image import", "comment": format!("appc: {name}") }],
    });
    if let Some(variant) = &said.variant {
        document["variant"] = json!(variant);
    }
    bytes(&document)
}

fn document(config: &[u8], said: &OciConfig, (below, layer): (&Below, &Layer)) -> Vec<u8> {
    let described = |kind: &str, digest: &Digest, size: u64| json!({ "mediaType": kind, "digest": digest, "size": size });
    let own = described(&format!("{LAYER}+gzip"), &layer.blob.digest, layer.blob.size);
    let itself = blob_of(config);
    bytes(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described(CONFIG, &itself.digest, itself.size),
        "layers": below.layers.iter().chain([&own]).collect::<Vec<_>>(),
        "annotations": said.annotations,
    }))
}

fn bytes(document: &Value) -> Vec<u8> {
    serde_json::to_vec(document).expect("a value always becomes JSON")
}

/// Hashes what is read.
struct Hashed<R> {
    from: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        Ok(length)
    }
}
