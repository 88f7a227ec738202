//! Lives of pods, on a real file system.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use pod_abi::manifest::{Layers, PodManifest, Sandbox};
use pod_abi::phase::{Home, Phase};
use pod_abi::{AppName, PodName, Timestamp, version};

use super::{Durability, Lock, Note, Pod, Pods, Query, generated_name};
use crate::nearest::nearest;

fn pods(root: &Path) -> Pods {
    let root: OwnedFd = fs::File::open(root).unwrap().into();
    Pods::open(root).unwrap()
}

fn make(pods: &Pods, name: &str, home: Home) -> crate::error::Result<Pod> {
    let draft = pods.draft()?;
    let manifest = PodManifest {
        version: version::MANIFEST,
        uuid: draft.id().clone(),
        name: PodName::parse(name).unwrap(),
        created: Timestamp(0),
        remove: false,
        sandbox: Sandbox {
            hostname: None,
            stage1: "ns".to_owned(),
            userns: Default::default(),
            network: Default::default(),
            volumes: Vec::new(),
            apps: Vec::new(),
            exit_policy: Default::default(),
            labels: [].into(),
            annotations: [].into(),
            ipc: Default::default(),
            sysctls: [].into(),
            dns: None,
            hosts: Vec::new(),
            insecure: [].into(),
            resources: Default::default(),
            oom_policy: Default::default(),
            unit_properties: Vec::new(),
            journal: Default::default(),
            scratch: None,
            layers: Layers::Plain,
            ports: Vec::new(),
        },
    };
    draft.lay_out(&manifest, &[])?;
    draft.into(home, Durability::Volatile)
}

#[test]
fn the_phase_of_a_pod_is_its_home_and_its_lock() {
    let root = tempfile::tempdir().unwrap();
    let pods = pods(root.path());
    let pod = make(&pods, "a", Home::Run).unwrap();
    let seen = || pods.open_id(&pod.id).unwrap().unwrap().phase();
    assert_eq!(seen(), Phase::Running);
    let id = pod.id.clone();
    drop(pod);
    assert_eq!(pods.open_id(&id).unwrap().unwrap().phase(), Phase::Exited);
}

#[test]
fn a_root_whose_maker_died_on_the_way_is_completed() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("names")).unwrap();
    fs::create_dir_all(root.path().join("pods/run")).unwrap();
    make(&pods(root.path()), "a", Home::Prepared).unwrap();
}

#[test]
fn a_name_that_leads_nowhere_is_not_suggested_for_itself() {
    let names = ["web".to_owned(), "db".to_owned()];
    assert_eq!(nearest("web", &names), None);
    assert_eq!(nearest("wbe", &names), Some("web"));
}

#[test]
fn a_draft_that_is_given_up_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let pods = pods(root.path());
    let draft = pods.draft().unwrap();
    let id = draft.id().clone();
    assert_eq!(pods.open_id(&id).unwrap().unwrap().phase(), Phase::Preparing);
    drop(draft);
    assert!(pods.open_id(&id).unwrap().is_none());
}

#[test]
fn a_living_pod_keeps_its_name_and_an_ended_one_is_displaced() {
    let root = tempfile::tempdir().unwrap();
    let pods = pods(root.path());
    let first = make(&pods, "shop", Home::Run).unwrap();
    let error = make(&pods, "shop", Home::Run).unwrap_err();
    assert_eq!(error.code(), "pod.name-taken");
    let first_id = first.id.clone();
    drop(first);
    let second = make(&pods, "shop", Home::Run).unwrap();
    assert_eq!(pods.find(&Query("shop")).unwrap().id, second.id);
    assert_eq!(pods.find(&Query(first_id.as_str())).unwrap().id, first_id);
}

#[test]
fn a_prepared_pod_keeps_its_name_although_nobody_holds_it() {
    let root = tempfile::tempdir().unwrap();
    let pods = pods(root.path());
    drop(make(&pods, "shop", Home::Prepared).unwrap());
    assert_eq!(make(&pods, "shop", Home::Run).unwrap_err().code(), "pod.name-taken");
}

#[test]
fn a_pod_is_found_by_the_start_of_its_id() {
    let root = tempfile::tempdir().unwrap();
    let pods = pods(root.path());
    let pod = make(&pods, "a", Home::Run).unwrap();
    assert_eq!(pods.find(&Query(pod.id.short())).unwrap().id, pod.id);
    assert_eq!(pods.find(&Query("zzz")).unwrap_err().code(), "pod.not-found");
}

#[test]
fn an_unknown_name_gets_the_nearest_one() {
    let root = tempfile::tempdir().unwrap();
    let pods = pods(root.path());
    let _pod = make(&pods, "database", Home::Run).unwrap();
    let error = pods.find(&Query("databse")).unwrap_err();
    assert_eq!(error.report().hints, ["did you mean `database`?"]);
    let names = ["web".to_owned(), "db".to_owned()];
    assert_eq!(nearest("wbe", &names), Some("web"));
    assert_eq!(nearest("something", &names), None);
}

#[test]
fn a_swept_pod_takes_its_own_name_with_it_and_no_other() {
    let root = tempfile::tempdir().unwrap();
    let pods = pods(root.path());
    let mut first = make(&pods, "shop", Home::Run).unwrap();
    let first_reader = pods.open_id(&first.id).unwrap().unwrap();
    pods.rename(&mut first, Home::ExitedGarbage).unwrap();
    drop(first_reader);
    let second = make(&pods, "shop", Home::Run).unwrap();
    pods.sweep(&first).unwrap();
    assert_eq!(pods.find(&Query("shop")).unwrap().id, second.id);
    assert!(pods.open_id(&first.id).unwrap().is_none());
}

#[test]
fn names_of_pods_that_are_gone_are_swept() {
    let root = tempfile::tempdir().unwrap();
    let pods = pods(root.path());
    let pod = make(&pods, "kept", Home::Run).unwrap();
    symlink(pod.id.as_str(), root.path().join("names/.left")).unwrap();
    symlink("nonsense", root.path().join("names/gone")).unwrap();
    assert_eq!(pods.sweep_names().unwrap(), 2);
    assert_eq!(pods.names(), ["kept"]);
}

#[test]
fn a_lock_that_is_held_is_not_taken() {
    let root = tempfile::tempdir().unwrap();
    let pods = pods(root.path());
    let pod = make(&pods, "a", Home::Run).unwrap();
    let other = pods.open_id(&pod.id).unwrap().unwrap();
    assert_eq!(other.try_lock(), Lock::Theirs);
    drop(pod);
    assert_eq!(other.lock(), Lock::Ours);
}

#[test]
fn a_generated_name_is_a_label_however_long_the_app() {
    let root = tempfile::tempdir().unwrap();
    let pods = pods(root.path());
    let id = pods.draft().unwrap().id().clone();
    let long = AppName::parse(&format!("{}-b", "a".repeat(61))).unwrap();
    assert!(generated_name(&long, &id).as_str().len() <= 63);
}

#[test]
fn a_note_counts_as_long_as_its_writer_waits() {
    let root = tempfile::tempdir().unwrap();
    let pods = pods(root.path());
    let pod = make(&pods, "a", Home::Prepared).unwrap();
    let reader = || pods.open_id(&pod.id).unwrap().unwrap();
    assert!(reader().awaited().is_none() && !reader().was_given_up());
    let note = Note { attempt: 1, hold: true, fresh: true };
    let waiting = pod.await_as(note).unwrap();
    assert_eq!(reader().awaited(), Some(note));
    assert_eq!(reader().await_as(note).unwrap_err().code(), "pod.busy");
    assert!(!reader().was_given_up());
    drop(waiting);
    assert!(reader().awaited().is_none() && reader().was_given_up());
    // One that somebody prepared to keep is not given up by who fails to start it.
    drop(pod.await_as(Note { fresh: false, ..note }).unwrap());
    assert!(!reader().was_given_up());
}
