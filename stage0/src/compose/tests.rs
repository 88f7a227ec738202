//! The rules of composing, case by case.

use std::path::Path;

use images::ImageSettings;
use pod_abi::app::{EnvVar, ImagePin, MountSource, PidMode, Verified};
use pod_abi::isolators::Capabilities;
use pod_abi::manifest::{PodSpec, Userns};
use pod_abi::volume::VolumeSource;
use pod_abi::{Digest, PodName};

use super::{
    Accounts, AppImage, ComposeError, ExecRequest, compose, compose_exec, resolve_user,
    tell_hostname,
};
use crate::caller::Caller;
use crate::error::Result;
use crate::grammar::{Asked, parse};
use crate::request::{Source, read};

fn digest(digit: char) -> Digest {
    Digest::parse(&format!("sha256:{}", digit.to_string().repeat(64))).unwrap()
}

fn image(settings: ImageSettings) -> AppImage {
    AppImage {
        pin: ImagePin {
            reference: "docker.io/library/alpine:latest".to_owned(),
            manifest: digest('a'),
            config: digest('b'),
            layers: vec![digest('c')],
            verified: Verified::Digest,
        },
        repository: "library/alpine".to_owned(),
        settings,
        accounts: Accounts {
            passwd: "root:x:0:0::/root:\nwww:x:33:33::/var/www:\n".to_owned(),
            group: "www:x:33:\n".to_owned(),
        },
    }
}

fn settings() -> ImageSettings {
    ImageSettings {
        entrypoint: vec!["/entry".to_owned()],
        cmd: vec!["serve".to_owned()],
        ..ImageSettings::default()
    }
}

fn composed(words: &str, image: &AppImage) -> std::result::Result<PodSpec, ComposeError> {
    let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let caller = Caller {
        variable: &|_| None,
        file: &|_| unreachable!("no file is asked for"),
        held: &Capabilities::default_set,
        profile: &|_, _| unreachable!("no profile is asked for"),
        disk: &|_| unreachable!("no disk is named"),
    };
    let read = || -> Result<Source> {
        let Asked::Line(line) = parse("run", &words)? else { panic!("help") };
        Ok(read(*line, &caller)?.source)
    };
    let Source::Line(pod) = read().unwrap() else { panic!("spec") };
    let images = vec![image.clone(); pod.apps.len()];
    compose(None, &pod, &images, Path::new("/var/lib/pod"))
}

fn args(words: &str, settings: ImageSettings) -> Vec<String> {
    composed(words, &image(settings)).unwrap().apps[0].process.args.clone()
}

#[test]
fn entrypoint_and_command_follow_dockers_rule() {
    let table = [
        ("x", "/entry serve"),
        ("x a b", "/entry a b"),
        ("--entrypoint /e x", "/e"),
        ("--entrypoint /e x a", "/e a"),
        ("--entrypoint= x a", "a"),
    ];
    for (words, expected) in table {
        assert_eq!(args(words, settings()).join(" "), expected, "{words}");
    }
    for words in ["x", "--entrypoint= x"] {
        let nothing = composed(words, &image(ImageSettings::default()));
        assert!(matches!(nothing, Err(ComposeError::NoCommand(_))), "{words}");
    }
}

#[test]
fn the_environment_is_ours_then_the_images_then_the_users() {
    let mut from = settings();
    from.env = vec!["PATH=/image".to_owned(), "A=image".to_owned(), "B=image".to_owned()];
    let spec = composed("-e A=user -e C=user x", &image(from)).unwrap();
    let vars: Vec<&str> = spec.apps[0].process.env.iter().map(EnvVar::as_str).collect();
    assert_eq!(vars, ["PATH=/image", "container=pod", "HOME=/root", "A=user", "B=image", "C=user"]);
}

#[test]
fn apps_are_told_the_hostname_their_pod_has() {
    let told = |words: &str| {
        let mut spec = composed(words, &image(settings())).unwrap();
        let name = PodName::parse("made-up").unwrap();
        tell_hostname(&mut spec.apps, &name, &spec.sandbox);
        let vars = &spec.apps[0].process.env;
        let var = vars.iter().find(|var| var.name() == "HOSTNAME");
        var.map(|var| var.value().to_owned()).unwrap_or_default()
    };
    let table = [
        ("x", "made-up"),
        ("--hostname box x", "box"),
        ("-e HOSTNAME=mine x", "mine"),
        ("--stage1 fly x", ""),
    ];
    for (words, expected) in table {
        assert_eq!(told(words), expected, "{words}");
    }
}

#[test]
fn a_malformed_variable_of_an_image_is_refused() {
    let mut from = settings();
    from.env = vec!["PATH*".to_owned()];
    assert!(matches!(composed("x", &image(from)), Err(ComposeError::ImageEnv { .. })));
}

#[test]
fn only_root_can_gain_privileges() {
    let spec = |words| composed(words, &image(settings())).unwrap().apps[0].process.clone();
    assert!(!spec("x").no_new_privileges);
    let process = spec("-u www x");
    assert!(process.no_new_privileges);
    assert_eq!((process.user.uid, process.user.gid), (33, 33));
    assert!(process.env.iter().any(|var| var.as_str() == "HOME=/var/www"));
}

#[test]
fn the_user_of_the_image_counts_unless_another_is_given() {
    let mut from = settings();
    from.user = Some("www".to_owned());
    let uid = |words| composed(words, &image(from.clone())).unwrap().apps[0].process.user.uid;
    assert_eq!((uid("x"), uid("-u 5 x")), (33, 5));
}

#[test]
fn a_relative_working_directory_of_an_image_begins_at_its_root() {
    let mut from = settings();
    from.working_dir = Some("srv/www".to_owned());
    let cwd = |words, from| composed(words, &image(from)).unwrap().apps[0].process.cwd.to_string();
    assert_eq!(cwd("x", from.clone()), "/srv/www");
    assert_eq!(cwd("-w /a x", from), "/a");
    assert_eq!(cwd("x", settings()), "/");
    let mut evil = settings();
    evil.working_dir = Some("../..".to_owned());
    assert!(matches!(composed("x", &image(evil)), Err(ComposeError::ImageWorkdir { .. })));
}

#[test]
fn apps_share_a_volume_of_the_same_source() {
    let words = "x --name a -v /srv:/a -v data:/d --- x --name b -v /srv:/b:ro";
    let spec = composed(words, &image(settings())).unwrap();
    let sources: Vec<&VolumeSource> = spec.sandbox.volumes.iter().map(|v| &v.source).collect();
    let host = |path: &str| VolumeSource::Host { path: path.to_owned(), without_submounts: false };
    assert_eq!(sources, [&host("/srv"), &host("/var/lib/pod/volumes/data")]);
    let (a, b) = (&spec.apps[0].mounts[0], &spec.apps[1].mounts[0]);
    assert_eq!(a.source, b.source);
    assert!(b.read_only && !a.read_only);
}

#[test]
fn a_tmpfs_is_its_apps_alone() {
    let spec = composed("--tmpfs /t:size=1m x", &image(settings())).unwrap();
    let source = &spec.apps[0].mounts[0].source;
    assert_eq!(*source, MountSource::Tmpfs { size: Some(1 << 20), mode: 0o1777 });
    assert!(spec.sandbox.volumes.is_empty());
}

#[test]
fn contradictions_are_refused() {
    for words in ["x --- x", "-v /a:/proc/x x", "-v /a:/b -v /c:/b x", "--exit-policy main=y x"] {
        assert!(
            matches!(composed(words, &image(settings())), Err(ComposeError::Check(_))),
            "{words}"
        );
    }
}

#[test]
fn no_app_with_the_hosts_ids_can_trace_pid_1() {
    let words = "x --pid pod --- x --name y --pid pod --cap-add SYS_PTRACE";
    let mut spec = composed(words, &image(settings())).unwrap();
    spec.sandbox.userns = Userns::Host;
    let error = spec.check().unwrap_err().to_string();
    for word in ["app `y`", "`--pid pod`", "`CAP_SYS_PTRACE`", "`--userns host`"] {
        assert!(error.contains(word), "{error}");
    }
    spec.apps[1].pid = PidMode::App;
    spec.check().unwrap();
}

#[test]
fn what_is_composed_survives_its_text_form() {
    let words = "-e A=b -v /a:/b:ro -u www --restart on-failure:3 --label k=v x a b";
    let spec = composed(words, &image(settings())).unwrap();
    let text = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<PodSpec>(&text).unwrap(), spec);
}

#[test]
fn exec_is_the_apps_own_process_but_for_what_is_asked() {
    let spec = composed("-e A=app x", &image(settings())).unwrap();
    let app = &spec.apps[0];
    let args = vec!["sh".to_owned()];
    let plain = compose_exec(ExecRequest { args: args.clone(), ..ExecRequest::default() }, app);
    assert_eq!((&plain.env, &plain.user), (&app.process.env, &app.process.user));
    assert_eq!(plain.capabilities, app.process.capabilities);
    let who = resolve_user("www", &image(settings()).accounts).unwrap();
    let request = ExecRequest {
        args,
        env: vec![EnvVar::parse("A=exec").unwrap()],
        user: Some((who.user, who.home)),
        ..ExecRequest::default()
    };
    let other = compose_exec(request, app);
    assert!(other.no_new_privileges);
    assert!(other.env.iter().any(|var| var.as_str() == "A=exec"));
    assert!(other.env.iter().any(|var| var.as_str() == "HOME=/var/www"));
}
