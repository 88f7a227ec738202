//! The grammars of mounts, case by case.

use super::*;

fn name(word: &str) -> VolumeName {
    VolumeName::parse(word).unwrap()
}

fn host(path: &str, without_submounts: bool) -> MountFrom {
    MountFrom::Host { path: path.to_owned(), without_submounts }
}

/// Writes the flags of a mount back: `ro`, `noexec`, both or nothing.
fn flags(mount: &MountRequest) -> String {
    let words = [(mount.read_only, "ro"), (mount.no_exec, "noexec")];
    words.iter().filter(|(set, _)| *set).map(|(_, word)| *word).collect::<Vec<_>>().join(",")
}

#[test]
fn volumes_are_paths_names_or_neither() {
    let table = [
        ("/a:/b", host("/a", false), ""),
        ("/a:/b:ro", host("/a", false), "ro"),
        ("/a:/b:rw,noexec", host("/a", false), "noexec"),
        ("/a:/b:norec,ro", host("/a", true), "ro"),
        ("/a:/b:rbind,nosuid", host("/a", false), ""),
        ("data:/b", MountFrom::Named { name: name("data"), fill: true }, ""),
        ("data:/b:nocopy", MountFrom::Named { name: name("data"), fill: false }, ""),
        ("/b", MountFrom::Anonymous { fill: true }, ""),
    ];
    for (word, source, expected) in table {
        let mount = read_volume(word).unwrap();
        assert_eq!((&mount.source, mount.destination.as_str()), (&source, "/b"), "{word}");
        assert_eq!(flags(&mount), expected, "{word}");
    }
}

#[test]
fn what_is_no_volume_is_refused() {
    let form = "is no volume: it takes [SRC:]DST[:OPTIONS]";
    let table = [
        ("./a:/b", format!("`./a:/b` {form}")),
        ("a", format!("`a` {form}")),
        ("/a:b", format!("`/a:b` {form}")),
        ("/a:/b:ro:x", format!("`/a:/b:ro:x` {form}")),
        ("/a:/b:ro,rw", "`rw` contradicts an option before it".to_owned()),
        ("/a:/b:z", "`z` cannot be had: no SELinux label is set on volumes".to_owned()),
        (
            "/a:/b:rshared",
            "`rshared` cannot be had: mounts never spread between a pod and the host".to_owned(),
        ),
        ("/a:/b:fast", "`fast` is no option of a volume".to_owned()),
        (
            "/a:/b:nocopy",
            "`nocopy` is about what a new volume holds, and `/a` is a path of this host".to_owned(),
        ),
        (
            "v:/b:norec",
            "`v:/b:norec` has no mounts beneath it: `rec` and `norec` are for paths of this host"
                .to_owned(),
        ),
    ];
    for (word, expected) in table {
        assert_eq!(read_volume(word).unwrap_err().to_string(), expected, "{word}");
    }
}

#[test]
fn file_systems_in_memory_have_a_size_and_a_mode() {
    let tmpfs = |size, mode| MountFrom::Tmpfs { name: None, size, mode };
    let table = [
        ("/t", tmpfs(None, 0o1777), ""),
        ("/t:size=1m", tmpfs(Some(1 << 20), 0o1777), ""),
        ("/t:mode=700,ro,noexec,nosuid,nodev", tmpfs(None, 0o700), "ro,noexec"),
    ];
    for (word, source, expected) in table {
        let mount = read_tmpfs(word).unwrap();
        assert_eq!((&mount.source, flags(&mount).as_str()), (&source, expected), "{word}");
    }
    for bad in ["t", "/t:size=0", "/t:mode=9", "/t:uid=5", "/t:suid", "/t:size=1,size=2"] {
        assert!(read_tmpfs(bad).is_err(), "{bad}");
    }
}

#[test]
fn mounts_are_made_of_keys() {
    let table = [
        ("type=bind,src=/a,dst=/b", host("/a", false), ""),
        ("type=bind,source=/a,target=/b,readonly,recursive=false", host("/a", true), "ro"),
        (r#"type=bind,"src=/a,c:""d",dst=/b"#, host("/a,c:\"d", false), ""),
        ("src=data,dst=/b", MountFrom::Named { name: name("data"), fill: true }, ""),
        (
            "type=volume,src=data,dst=/b,volume-nocopy,ro=true,noexec",
            MountFrom::Named { name: name("data"), fill: false },
            "ro,noexec",
        ),
        ("type=volume,dst=/b,rw", MountFrom::Anonymous { fill: true }, ""),
        (
            "type=empty,dst=/b,mode=700,uid=5,gid=6",
            MountFrom::Empty { name: None, mode: 0o700, owner: (5, 6) },
            "",
        ),
        (
            "type=empty,src=s,dst=/b",
            MountFrom::Empty { name: Some(name("s")), mode: 0o755, owner: (0, 0) },
            "",
        ),
        (
            "type=tmpfs,dst=/b,tmpfs-size=1k,tmpfs-mode=755",
            MountFrom::Tmpfs { name: None, size: Some(1024), mode: 0o755 },
            "",
        ),
        (
            "type=tmpfs,src=s,dst=/b",
            MountFrom::Tmpfs { name: Some(name("s")), size: None, mode: 0o1777 },
            "",
        ),
    ];
    for (word, source, expected) in table {
        let mount = read_mount(word).unwrap();
        assert_eq!((&mount.source, mount.destination.as_str()), (&source, "/b"), "{word}");
        assert_eq!(flags(&mount), expected, "{word}");
    }
}

#[test]
fn what_is_no_mount_is_refused_with_its_reason() {
    let table = [
        ("type=bind,dst=/b", "`src` is missing"),
        ("type=bind,src=/a", "`dst` is missing"),
        ("type=bind,src=a,dst=/b", "`src` is an absolute path of this host"),
        (
            "type=overlay,dst=/b",
            "`overlay` is no kind: it takes `bind`, `volume`, `empty` or `tmpfs`",
        ),
        ("type=bind,src=/a,dst=/b,size=1m", "`size` is for type `tmpfs`"),
        ("type=volume,dst=/b,mode=700", "`mode` is for type `tmpfs` or `empty`"),
        ("type=tmpfs,dst=/b,size=x", "`x` is no `size`"),
        ("type=empty,dst=/b,uid=-1", "`-1` is no `uid`"),
        ("dst=/a,target=/b", "`target` is given twice"),
        ("dst=/b,ro,rw", "`ro` and `rw` contradict each other"),
        ("dst=/b,ro=maybe", "`ro` is true or false"),
        ("dst", "`dst` takes a value"),
        ("dst=/b,colour=red", "`colour` is no key of it"),
        (
            "type=bind,src=/a,dst=/b,bind-propagation=rshared",
            "`bind-propagation` cannot be had: mounts never spread between a pod and the host",
        ),
    ];
    for (word, why) in table {
        let error = read_mount(word).unwrap_err().to_string();
        assert_eq!(error, format!("`{word}` is no mount: {why}"));
    }
    assert!(read_mount("\"dst=/b").is_err());
}
