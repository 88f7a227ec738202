//! Volumes of every kind, seen by two apps and by the host.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde_json::json;

use crate::image::{Image, Layer};
use crate::parity::{Group, Place, World, so};

pub(super) const GROUP: Group = Group {
    name: "volumes",
    place: Place::Anywhere,
    boots: 2,
    promises: &[
        so("volume-empty", "An empty volume is shared by the apps that name it"),
        so("volume-tmpfs", "A file system in memory is shared, with its size and mode"),
        so("volume-own", "A volume without a source, and `--tmpfs`, are an app's own"),
        so("volume-host-read", "A directory of the host is seen as it is"),
        so("volume-host-write", "What an app writes there, the host sees, and other apps"),
        so("volume-host-read-only", "Read-only, it cannot be written"),
        so("volume-host-changes", "Links, renames, modes and owners go both ways; locks are held"),
        so("volume-file", "A single file of the host is a volume"),
        so("volume-named", "A named volume outlives its pods"),
        so("volume-of-image", "A volume of the image begins with what the image has there"),
        so("volume-over-ours", "A volume over one of our files is not written by us"),
    ],
    run: volumes,
};

/// Writes an image of busybox with a volume at `/data` that holds a file.
fn seeded(world: &World<'_>) -> String {
    let busybox = fs::read("/bin/busybox").expect("this machine has busybox");
    let layer = Layer::new()
        .dir("bin/", 0o755)
        .file("bin/busybox", 0o755, &busybox)
        .symlink("bin/sh", "busybox")
        .symlink("bin/cat", "busybox")
        .dir("data/", 0o750)
        .file("data/seed", 0o640, b"of the image\n");
    let image = Image::new().layer(layer).set("Volumes", json!({ "/data": {} }));
    world.sandbox.image("seeded", &image)
}

fn volumes(world: &World<'_>) {
    let sandbox = world.sandbox;
    // What was left by a try that an emulated guest has hung in.
    let _ = sandbox.pod(["volume", "rm", "keep"]);
    let shared = sandbox.path("shared");
    fs::create_dir(&shared).expect("the sandbox can be written");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).expect("it is ours");
    fs::write(shared.join("from-host"), "hello\n").expect("the sandbox can be written");
    let (file, hosts) = (sandbox.path("file"), sandbox.path("hosts"));
    fs::write(&file, "one file\n").expect("the sandbox can be written");
    fs::write(&hosts, "192.0.2.9 mine\n").expect("the sandbox can be written");
    let rw = format!("{}:/host", shared.display());
    let ro = format!("{}:/host-ro:ro", shared.display());
    let file = format!("{}:/etc/file", file.display());
    let hosts_volume = format!("{}:/etc/hosts", hosts.display());
    let image = seeded(world);
    let seed = "cat /data/seed /data/new 2>/dev/null; echo new >/data/new";
    let writes = "echo empty >/e/said; echo memory >/m/said; stat -f -c %b /m >/dev/null; \
        stat -c %a /m; df -k /m | tail -n 1 | tr -s ' ' | cut -d' ' -f2 2>/dev/null; \
        echo own >/own/mine; cat /host/from-host; echo by app >/host/by-app; \
        chmod 640 /host/by-app; mkdir /host/dir; echo x >/host/dir/old; mv /host/dir/old /host/dir/new; \
        ln -s new /host/dir/link; ln /host/dir/new /host/dir/second; rm /host/dir/new; \
        touch /host/as-web; chown 1000:1000 /host/as-web; cat /etc/file";
    let reads = "cat /e/said /m/said; ls /own; cat /host-ro/by-app; touch /host-ro/no 2>&1; \
        cat /host-ro/dir/link 2>&1; cat /host-ro/dir/second; true";
    let common = [
        "--init-app",
        "--mount",
        "type=empty,src=e,dst=/e",
        "--mount",
        "type=tmpfs,src=m,dst=/m,tmpfs-size=1m,tmpfs-mode=750",
        "-v",
        "/own",
    ];
    let apps = [
        world.shell("writes", &[&common[..], &["-v", &rw, "-v", &file]].concat(), writes),
        world.shell("reads", &[&common[..], &["-v", &ro]].concat(), reads),
        world.shell("over", &["--init-app", "-v", &hosts_volume], "cat /etc/hosts"),
        vec![&image, "--name", "seeded", "--init-app", "-v", "keep:/data", "sh", "-c", seed],
        vec![&image, "--name", "own", "sh", "-c", "cat /data/seed"],
    ];
    let said = world.run(&["--name", "first"]).args(apps.join(&"---")).run();
    let log = |app: &str| world.logs("first", app);
    world.holds("volume-empty", || assert!(log("reads").starts_with("empty\n"), "{said}"));
    world.holds("volume-tmpfs", || {
        assert!(log("reads").starts_with("empty\nmemory\n"), "{said}");
        assert!(log("writes").starts_with("750\n"), "{}", log("writes"));
    });
    world.holds("volume-own", || assert!(!log("reads").contains("mine"), "{}", log("reads")));
    world.holds("volume-host-read", || assert!(log("writes").contains("hello\n"), "{said}"));
    world.holds("volume-host-write", || {
        assert_eq!(fs::read_to_string(shared.join("by-app")).ok().as_deref(), Some("by app\n"));
        assert!(log("reads").contains("by app\n"), "{}", log("reads"));
    });
    world.holds("volume-host-read-only", || {
        assert!(log("reads").contains("Read-only file system"), "{}", log("reads"));
        assert!(!shared.join("no").exists());
    });
    world.holds("volume-host-changes", || {
        let look = |name: &str| shared.join(name).symlink_metadata().expect("it was made");
        assert_eq!(look("by-app").mode() & 0o7777, 0o640);
        assert_eq!((look("by-app").uid(), look("as-web").uid()), (0, 1000));
        assert!(!shared.join("dir/new").exists() && look("dir/second").is_file());
        assert_eq!(fs::read_link(shared.join("dir/link")).ok(), Some("new".into()));
    });
    world.holds("volume-file", || {
        assert!(log("writes").ends_with("one file\n"), "{}", log("writes"));
    });
    world.holds("volume-of-image", || {
        assert_eq!((log("seeded"), log("own")), ("of the image\n".into(), "of the image\n".into()));
    });
    world.holds("volume-over-ours", || {
        assert_eq!(log("over"), "192.0.2.9 mine\n");
        assert_eq!(fs::read_to_string(&hosts).ok().as_deref(), Some("192.0.2.9 mine\n"));
    });
    let again = world.run(&["--rm", &image, "-v", "keep:/data", "sh", "-c", "cat /data/new"]).run();
    world.holds("volume-named", || assert_eq!(again.success(), "new\n"));
}
