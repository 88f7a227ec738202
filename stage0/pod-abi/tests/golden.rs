//! Golden bytes: every version of every document of ours that was ever written must still read,
//! and must be written again byte for byte.
//!
//! Files in `golden/` are never edited, only added; a file that stops passing is a broken contract
//! with pods that already lie on somebody's disk.

use std::fmt::Debug;
use std::fs;
use std::path::Path;

use pod_abi::app::AppSpec;
use pod_abi::control::{Reply, Request};
use pod_abi::finding::Finding;
use pod_abi::guest::{Carried, FromGuest, TerminalWord, ToGuest};
use pod_abi::inner::{FromInit, ToInit};
use pod_abi::manifest::{AppList, PodLimits, PodManifest, PodSpec};
use pod_abi::stage::{Order, Stage1Manifest};
use pod_abi::status::{EventRecord, PodStatus};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn golden(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Reads `file` as a `Document` and writes it again; both must succeed and agree.
fn holds<Document: Serialize + DeserializeOwned + Debug>(file: &str) -> Document {
    let bytes = golden(file);
    let document: Document =
        serde_json::from_str(&bytes).unwrap_or_else(|error| panic!("{file}: {error}"));
    let again = serde_json::to_string_pretty(&document).expect("documents of ours are JSON") + "\n";
    assert_eq!(again, bytes, "{file} is written differently now");
    document
}

#[test]
fn manifests_of_version_1_are_read_and_written_alike() {
    holds::<PodManifest>("pod.1.json");
    holds::<AppSpec>("app.1.json");
    let spec = holds::<PodSpec>("spec.1.json");
    assert_eq!(spec.check(), Ok(()));
}

#[test]
fn orders_of_abi_1_are_read_and_written_alike() {
    holds::<Order>("order.1.json");
    holds::<Stage1Manifest>("stage1.1.json");
}

#[test]
fn records_of_version_1_are_read_and_written_alike() {
    holds::<PodStatus>("status.1.json");
    holds::<Vec<EventRecord>>("events.1.json");
}

#[test]
fn frames_of_version_1_are_read_and_written_alike() {
    holds::<Vec<Request>>("requests.1.json");
    holds::<Vec<Reply>>("replies.1.json");
    holds::<Vec<ToInit>>("to-init.1.json");
    holds::<Vec<FromInit>>("from-init.1.json");
}

#[test]
fn everything_of_version_2_is_read_and_written_alike() {
    holds::<PodManifest>("pod.2.json");
    holds::<AppSpec>("app.2.json");
    holds::<AppList>("apps.2.json");
    holds::<Order>("order.2.json");
    holds::<Stage1Manifest>("stage1.2.json");
    holds::<PodStatus>("status.2.json");
    holds::<Vec<EventRecord>>("events.2.json");
    holds::<Vec<Request>>("requests.2.json");
    holds::<Vec<Reply>>("replies.2.json");
    holds::<Vec<ToInit>>("to-init.2.json");
    holds::<Vec<FromInit>>("from-init.2.json");
    let spec = holds::<PodSpec>("spec.2.json");
    assert_eq!(spec.check(), Ok(()));
}

#[test]
fn everything_of_version_3_is_read_and_written_alike() {
    holds::<PodManifest>("pod.3.json");
    holds::<AppSpec>("app.3.json");
    holds::<AppList>("apps.3.json");
    holds::<PodLimits>("limits.3.json");
    holds::<Order>("order.3.json");
    holds::<Stage1Manifest>("stage1.3.json");
    holds::<PodStatus>("status.3.json");
    holds::<Vec<EventRecord>>("events.3.json");
    holds::<Vec<Request>>("requests.3.json");
    holds::<Vec<Reply>>("replies.3.json");
    holds::<Vec<ToInit>>("to-init.3.json");
    holds::<Vec<FromInit>>("from-init.3.json");
    let spec = holds::<PodSpec>("spec.3.json");
    assert_eq!(spec.check(), Ok(()));
}

#[test]
fn everything_new_in_version_4_is_read_and_written_alike() {
    holds::<PodManifest>("pod.4.json");
    holds::<AppSpec>("app.4.json");
    holds::<AppList>("apps.4.json");
    holds::<PodLimits>("limits.4.json");
    holds::<Order>("order.4.json");
    holds::<Stage1Manifest>("stage1.4.json");
    holds::<Vec<Finding>>("findings.4.json");
    holds::<Vec<Request>>("requests.4.json");
    holds::<Vec<Reply>>("replies.4.json");
    let spec = holds::<PodSpec>("spec.4.json");
    assert_eq!(spec.check(), Ok(()));
}

#[test]
fn layers_that_are_sealed_are_read_and_written_alike() {
    holds::<PodManifest>("pod.6.json");
    holds::<Order>("order.5.json");
    holds::<Stage1Manifest>("stage1.5.json");
}

#[test]
fn guest_frames_of_version_1_are_read_and_written_alike() {
    holds::<Vec<ToGuest>>("to-guest.1.json");
    holds::<Vec<FromGuest>>("from-guest.1.json");
    holds::<Vec<Carried>>("carried.1.json");
    holds::<Vec<TerminalWord>>("terminal-words.1.json");
}

#[test]
fn an_unknown_field_is_an_error_in_every_document() {
    for file in [
        "pod.1.json",
        "app.1.json",
        "spec.1.json",
        "order.1.json",
        "stage1.1.json",
        "status.1.json",
    ] {
        let with_more = golden(file).replacen('{', "{\"surprise\": 1,", 1);
        let read = match file {
            "pod.1.json" => serde_json::from_str::<PodManifest>(&with_more).err(),
            "app.1.json" => serde_json::from_str::<AppSpec>(&with_more).err(),
            "spec.1.json" => serde_json::from_str::<PodSpec>(&with_more).err(),
            "order.1.json" => serde_json::from_str::<Order>(&with_more).err(),
            "stage1.1.json" => serde_json::from_str::<Stage1Manifest>(&with_more).err(),
            _ => serde_json::from_str::<PodStatus>(&with_more).err(),
        };
        let error = read.unwrap_or_else(|| panic!("{file} takes unknown fields"));
        assert!(error.to_string().contains("unknown field `surprise`"), "{file}: {error}");
    }
}
