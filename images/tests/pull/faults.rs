//! One bad thing at a time: each gives one clear error and leaves nothing, or is overcome.

use std::fs;

use fault_registry::{Fault, digest};
use images::{ErrorKind, PullOptions, PullPolicy, Reference, Silent};
use serde_json::json;

use crate::Table;
use crate::bench::{Bench, options};
use crate::image::Layers;

const SMALL: Layers = &[1000, 2000, 3000];
const LARGE: Layers = &[10_000, 20_000, 3_000_000];

pub(crate) const TESTS: Table = &[
    ("an_image_is_pulled_whole_and_then_known", an_image_is_pulled_whole_and_then_known),
    (
        "docker_s_words_and_every_compression_are_read",
        docker_s_words_and_every_compression_are_read,
    ),
    ("a_moved_tag_fetches_only_what_is_new", a_moved_tag_fetches_only_what_is_new),
    ("what_breaks_underway_is_resumed", what_breaks_underway_is_resumed),
    ("a_download_given_up_goes_on_where_it_was", a_download_given_up_goes_on_where_it_was),
    ("a_layer_of_another_size_is_refused", a_layer_of_another_size_is_refused),
    ("a_layer_with_another_digest_is_refused", a_layer_with_another_digest_is_refused),
    ("a_layer_that_is_not_its_diff_id_is_refused", a_layer_that_is_not_its_diff_id_is_refused),
    ("a_layer_the_registry_lost_is_named", a_layer_the_registry_lost_is_named),
    ("a_damaged_manifest_is_refused", a_damaged_manifest_is_refused),
    ("a_platform_that_is_missing_is_said", a_platform_that_is_missing_is_said),
    ("an_unknown_image_is_not_found", an_unknown_image_is_not_found),
    ("a_registry_that_denies_is_believed", a_registry_that_denies_is_believed),
    (
        "what_an_older_pull_left_spoilt_is_fetched_anew",
        what_an_older_pull_left_spoilt_is_fetched_anew,
    ),
];

/// Checks that a pull fails so, and that nothing of it is kept.
fn refused(bench: &Bench, kind: ErrorKind) -> String {
    let error = bench.pull().unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    bench.holds_nothing();
    format!("{error:?}")
}

fn an_image_is_pulled_whole_and_then_known() {
    let bench = Bench::new(LARGE);
    let image = bench.pull().unwrap();
    bench.holds(&image);
    let requests = bench.registry.requests().len();
    assert_eq!(bench.pull().unwrap(), image);
    assert_eq!(bench.registry.requests().len(), requests, "what is there is not asked for");
    bench.gc();
    bench.holds(&image);
}

fn docker_s_words_and_every_compression_are_read() {
    let bench = Bench::new(SMALL);
    bench.pushed.publish_for_docker(&bench.registry);
    let image = bench.pull().unwrap();
    bench.holds(&image);
}

fn a_moved_tag_fetches_only_what_is_new() {
    let mut bench = Bench::new(SMALL);
    let old = bench.pull().unwrap();
    let always = PullOptions { policy: PullPolicy::Always, ..options() };
    let before = bench.registry.requests().len();
    assert_eq!(bench.pull_as(&always).unwrap(), old);
    assert_eq!(bench.registry.requests().len(), before + 1, "the registry was asked, once");
    let lease = bench.store.lease().unwrap();
    let by_digest = format!("{}@{}", bench.reference(), old.manifest);
    let by_digest = Reference::parse(&by_digest).unwrap();
    let same = bench.store.pull(&by_digest, &always, &lease, &Silent).unwrap();
    assert_eq!(same.manifest, old.manifest);
    assert_eq!(bench.registry.requests().len(), before + 1, "what a digest means does not move");
    bench.pushed.config["config"] = json!({"Cmd": ["/other"]});
    bench.pushed.publish(&bench.registry);
    let new = bench.pull_as(&always).unwrap();
    assert_eq!(new.settings.cmd, ["/other"]);
    for place in 0..3 {
        assert_eq!(bench.asked(place).0, 1, "layer {place} is the same");
    }
    bench.holds(&new);
}

fn what_breaks_underway_is_resumed() {
    let bench = Bench::new(LARGE);
    bench.registry.script(&bench.blob_path(2), [Fault::CutAfter(700_000), Fault::status(503)]);
    let image = bench.pull().unwrap();
    bench.holds(&image);
    assert_eq!(bench.asked(2), (3, bench.pushed.layers[2].size), "no byte comes twice");
}

fn a_download_given_up_goes_on_where_it_was() {
    let bench = Bench::new(LARGE);
    let cut = [Fault::CutAfter(700_000), Fault::CutAfter(0), Fault::CutAfter(0)];
    bench.registry.script(&bench.blob_path(2), cut);
    let error = bench.pull().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    assert_eq!(bench.store.images().unwrap(), []);
    let image = bench.pull().unwrap();
    bench.holds(&image);
    assert_eq!(bench.asked(2), (4, bench.pushed.layers[2].size), "no byte comes twice");
}

fn a_layer_of_another_size_is_refused() {
    let mut bench = Bench::new(SMALL);
    for size in [0, bench.pushed.layers[2].size - 1, bench.pushed.layers[2].size + 1, u64::MAX] {
        bench.pushed.manifest["layers"][2]["size"] = json!(size);
        bench.pushed.publish(&bench.registry);
        refused(&bench, ErrorKind::Invalid);
    }
}

fn a_layer_with_another_digest_is_refused() {
    let bench = Bench::new(SMALL);
    bench.registry.script(&bench.blob_path(1), [Fault::Corrupt]);
    let said = refused(&bench, ErrorKind::Invalid);
    assert!(said.contains(&bench.pushed.layers[1].digest), "{said}");
    let image = bench.pull().unwrap();
    bench.holds(&image);
}

fn a_layer_that_is_not_its_diff_id_is_refused() {
    let mut bench = Bench::new(SMALL);
    bench.pushed.config["rootfs"]["diff_ids"][0] = json!(digest(b"other"));
    bench.pushed.publish(&bench.registry);
    refused(&bench, ErrorKind::Invalid);
}

fn a_layer_the_registry_lost_is_named() {
    let bench = Bench::new(SMALL);
    bench.registry.script(&bench.blob_path(0), [Fault::status(404)]);
    let said = refused(&bench, ErrorKind::NotFound);
    assert!(said.contains(&bench.pushed.layers[0].digest), "{said}");
}

fn a_damaged_manifest_is_refused() {
    let bench = Bench::new(SMALL);
    bench.registry.script("/manifests/", [Fault::Corrupt]);
    refused(&bench, ErrorKind::Invalid);
    for text in ["", "{}", "[]", "{\"schemaVersion\":1}", "{\"schemaVersion\":2,\"layers\":7}"] {
        bench.registry.add_manifest("team/app", "1", "application/json", text);
        refused(&bench, ErrorKind::Invalid);
    }
}

fn a_platform_that_is_missing_is_said() {
    let bench = Bench::new(SMALL);
    bench.pushed.publish_index(&bench.registry, &["s390x", "riscv64"]);
    let said = refused(&bench, ErrorKind::Platform);
    assert!(said.contains("s390x") && said.contains("amd64"), "{said}");
}

fn an_unknown_image_is_not_found() {
    let bench = Bench::new(SMALL);
    bench.registry.script("/manifests/", [Fault::status(404)]);
    refused(&bench, ErrorKind::NotFound);
}

fn a_registry_that_denies_is_believed() {
    let bench = Bench::new(SMALL);
    bench.registry.script("/manifests/", [Fault::status(403)]);
    refused(&bench, ErrorKind::Denied);
}

fn what_an_older_pull_left_spoilt_is_fetched_anew() {
    let bench = Bench::new(LARGE);
    let wrong = vec![7; 900_000];
    let name = bench.pushed.layers[2].digest.replace(':', "-");
    let residue = bench.root.path().join("images/tmp").join(format!("{name}.part"));
    fs::write(&residue, wrong).unwrap();
    let image = bench.pull().unwrap();
    bench.holds(&image);
    assert!(!residue.exists());
}
