//! Images and registries: what their commands print.

use std::fs;

use tests::fixtures::Fixture;
use tests::said::Said;

use crate::{numberless, sandbox};

#[test]
fn an_image_is_fetched_named_written_out_and_forgotten() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let image = image.as_str();
    insta::assert_snapshot!(numberless(sandbox.pod(["fetch", image])), @"
    --- stdout ---
    [DIGEST]
    --- stderr ---
    fetching oci:[FIXTURES]/app:app
    --- exit 0 ---
    ");
    insta::assert_snapshot!(numberless(sandbox.pod(["image", "pull", image])), @"
    --- stdout ---
    [DIGEST]
    --- stderr ---
    fetching oci:[FIXTURES]/app:app
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["image", "pull", "127.0.0.1:9/x"]), @"
    --- stderr ---
    fetching 127.0.0.1:9/x:latest
    error: cannot pull `127.0.0.1:9/x:latest`
    caused by: cannot fetch the manifest
    caused by: manifest `x:latest` of registry `127.0.0.1:9` cannot be reached
    caused by: Connection refused (os error 111)
    hint: is the name right, and the network up? the same command goes on where this one stopped
    --- exit 1 ---
    ");
    insta::assert_snapshot!(numberless(sandbox.pod(["image", "ls"])), @"
    --- stdout ---
    REFERENCE  ID  PLATFORM  SIZE  PULLED
    oci:[FIXTURES]/app:app  [ID]  linux/amdN  N.N MiB  Ns ago
    --- exit 0 ---
    ");
    insta::assert_snapshot!(numberless(sandbox.pod(["image", "inspect", image])), @r#"
    --- stdout ---
    {
      "reference": "oci:[FIXTURES]/app:app",
      "platform": "linux/amdN",
      "manifest": "[DIGEST]",
      "config": "[DIGEST]",
      "index": null,
      "verified": "local-file",
      "size": N,
      "pulled": "[TIME]",
      "lastUsed": "[TIME]",
      "layers": [
      "[DIGEST]",
      "[DIGEST]"
      ],
      "settings": {
      "entrypoint": [],
      "cmd": [
      "sh"
      ],
      "env": [
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
      ],
      "workingDir": null,
      "user": null,
      "stopSignal": null,
      "volumes": [],
      "labels": {},
      "exposedPorts": []
      },
      "manifestDocument": {
      "config": {
      "digest": "[DIGEST]",
      "mediaType": "application/vnd.oci.image.config.vN+json",
      "size": N
      },
      "layers": [
      {
      "digest": "[DIGEST]",
      "mediaType": "application/vnd.oci.image.layer.vN.tar+gzip",
      "size": N
      },
      {
      "digest": "[DIGEST]",
      "mediaType": "application/vnd.oci.image.layer.vN.tar+gzip",
      "size": N
      }
      ],
      "mediaType": "application/vnd.oci.image.manifest.vN+json",
      "schemaVersion": N
      },
      "configDocument": {
      "architecture": "amdN",
      "config": {
      "Cmd": [
      "sh"
      ],
      "Env": [
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
      ]
      },
      "os": "linux",
      "rootfs": {
      "diff_ids": [
      "[DIGEST]",
      "[DIGEST]"
      ],
      "type": "layers"
      }
      }
    }
    --- exit 0 ---
    "#);
    insta::assert_snapshot!(sandbox.pod(["image", "tag", image, "example.org/copy:1"]), @"
    --- stdout ---
    example.org/copy:1
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["image", "tag", "nosuch", "copy"]), @"
    --- stderr ---
    error: image `docker.io/library/nosuch:latest` is not in the store
    hint: `pod image ls` lists what is in the store; `pod fetch docker.io/library/nosuch:latest` fetches it
    --- exit 1 ---
    ");
    let file = sandbox.path("image.tar").display().to_string();
    let file = file.as_str();
    insta::assert_snapshot!(sandbox.pod(["image", "export", image, file]), @"--- exit 0 ---");
    insta::assert_snapshot!(sandbox.pod(["image", "export", image, file]), @"
    --- stderr ---
    error: `[SANDBOX]/image.tar` is there already
    hint: `--force` replaces it
    --- exit 1 ---
    ");
    let registry = sandbox.registry();
    assert_eq!(registry.address(), "127.0.0.1:5000");
    insta::assert_snapshot!(sandbox.pod(["image", "push", "-q", image, "127.0.0.1:5000/box:1"]), @"
    --- stdout ---
    [DIGEST]
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["image", "push", image, "127.0.0.1:1/box:1"]), @"
    --- stderr ---
    sending 127.0.0.1:1/box:1
    error: cannot push `oci:[FIXTURES]/app:app` to `127.0.0.1:1/box:1`
    caused by: the registry did not take blob `[DIGEST]`
    caused by: blob `[DIGEST]` of `box` of registry `127.0.0.1:1` cannot be reached
    caused by: Connection refused (os error 111)
    hint: is the name right, and the network up? the same command goes on where this one stopped
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["image", "push", image]), @"
    --- stderr ---
    error: `oci:[FIXTURES]/app:app` is no tag of a registry
    hint: `pod image push oci:[FIXTURES]/app:app REGISTRY/REPOSITORY:TAG`; files are written by `pod image export`
    --- exit 2 ---
    ");
    let key = sandbox.path("key.pem").display().to_string();
    let (key, curve) = (key.as_str(), "ec_paramgen_curve:P-256");
    let words = ["genpkey", "-algorithm", "EC", "-pkeyopt", curve, "-out", key];
    sandbox.program("openssl").args(words).run().success();
    let pushed = "127.0.0.1:5000/box:1";
    insta::assert_snapshot!(sandbox.pod(["image", "sign", "--key", key, image, pushed]), @"
    --- stdout ---
    [DIGEST]
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["image", "sign", "--key", "/nosuch", image, pushed]), @"
    --- stderr ---
    error: key `/nosuch` cannot be read: No such file or directory (os error 2)
    hint: `pod image sign --help` tells how one is made
    --- exit 1 ---
    ");
    let never = "127.0.0.1:5000/never:1";
    insta::assert_snapshot!(sandbox.pod(["image", "sign", "--key", key, image, never]), @"
    --- stderr ---
    error: cannot sign `127.0.0.1:5000/never:1`
    caused by: the registry does not have image `[DIGEST]` there
    hint: `pod image push oci:[FIXTURES]/app:app 127.0.0.1:5000/never:1` gives it one
    --- exit 1 ---
    ");
    let tree = sandbox.path("tree").display().to_string();
    let tree = tree.as_str();
    insta::assert_snapshot!(sandbox.pod(["image", "extract", image, tree]), @"--- exit 0 ---");
    insta::assert_snapshot!(sandbox.pod(["image", "extract", image, tree]), @"
    --- stderr ---
    error: `[SANDBOX]/tree` is there already
    hint: name a directory that is not there yet
    --- exit 1 ---
    ");
    insta::assert_snapshot!(numberless(sandbox.pod(["image", "import", file])), @"
    --- stdout ---
    [DIGEST] localhost/image:app
    --- stderr ---
    fetching localhost/image:app
    [ID]: in store
    [ID]: in store
    `[SANDBOX]/image.tar` is of the form `oci-archive`
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["image", "import", "/nosuch"]), @"
    --- stderr ---
    error: cannot open `/nosuch`
    caused by: No such file or directory (os error 2)
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["image", "fsck", "-q"]), @"
    --- stdout ---
    checked 3 references, 4 blobs, 2 layers: 0 problems
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["image", "fsck", "--quick"]), @"
    --- stdout ---
    checked 3 references, 4 blobs, 2 layers: 0 problems
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["image", "rm", "example.org/copy:1"]), @"
    --- stdout ---
    example.org/copy:1
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["image", "rm", "example.org/copy:1"]), @"
    --- stderr ---
    error: image `example.org/copy:1` is not in the store
    hint: `pod image ls` lists what is in the store; `pod fetch example.org/copy:1` fetches it
    --- exit 1 ---
    ");
    insta::assert_snapshot!(numberless(sandbox.pod(["image", "gc", "--dry-run"])), @"
    --- stdout ---
    would free N B: N blobs, N layers, N leftovers
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["fetch", "UPPER"]), @"
    --- stderr ---
    error: `UPPER` names no image: a repository is written in lower case
    --- exit 2 ---
    ");
}

#[test]
fn credentials_are_tried_before_they_are_kept() {
    let sandbox = sandbox!();
    let file = sandbox.path("auth.json").display().to_string();
    let call = |args: &[&str]| sandbox.call().env("REGISTRY_AUTH_FILE", &file).args(args).run();
    insta::assert_snapshot!(call(&["login", "-u", "me", "-p", "x", "127.0.0.1:9"]), @"
    --- stderr ---
    error: the API of registry `127.0.0.1:9` cannot be reached
    caused by: Connection refused (os error 111)
    --- exit 1 ---
    ");
    insta::assert_snapshot!(call(&["logout", "127.0.0.1:9"]), @"
    --- stderr ---
    error: `[SANDBOX]/auth.json` has no credentials for `127.0.0.1:9`
    --- exit 1 ---
    ");
    let auths = r#"{"auths":{"127.0.0.1:9":{"auth":"bWU6eA=="}}}"#;
    fs::write(sandbox.path("auth.json"), auths).unwrap();
    insta::assert_snapshot!(call(&["logout", "127.0.0.1:9"]), @"
    --- stdout ---
    logged out of 127.0.0.1:9
    --- exit 0 ---
    ");
}

#[test]
fn what_a_policy_says_of_an_image_is_told() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let image = image.as_str();
    let policy = sandbox.path("policy.json");
    let path = policy.display().to_string();
    let flag = format!("--signature-policy={path}");
    let flag = flag.as_str();
    insta::assert_snapshot!(sandbox.pod(["trust", "test", flag, image]), @"
    --- stderr ---
    error: there is no signature policy `[SANDBOX]/policy.json`
    --- exit 1 ---
    ");
    let accepts = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
    fs::write(&policy, accepts).expect("the sandbox can be written");
    insta::assert_snapshot!(sandbox.pod(["trust", "test", flag, image]), @"
    --- stdout ---
    image:     oci:[FIXTURES]/app:app
    manifest:  [DIGEST]
    policy:    [SANDBOX]/policy.json
    decides:   the policy's default
    asked:     nothing
    allowed:   yes, by its digest, which is in a file of this host
    --- exit 0 ---
    ");
    let rejects = accepts.replace("insecureAcceptAnything", "reject");
    fs::write(&policy, rejects).expect("the sandbox can be written");
    insta::assert_snapshot!(sandbox.pod(["trust", "test", flag, image]), @"
    --- stdout ---
    image:     oci:[FIXTURES]/app:app
    manifest:  [DIGEST]
    policy:    [SANDBOX]/policy.json
    decides:   the policy's default
    asked:     what cannot be: it is rejected
    allowed:   no: policy `[SANDBOX]/policy.json` does not let it run: it is rejected (the policy's default)
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["trust", "test", flag, image, "-o", "json"]), @r#"
    --- stdout ---
    {
      "image": "oci:[FIXTURES]/app:app",
      "manifest": "[DIGEST]",
      "policy": "[SANDBOX]/policy.json",
      "place": "the policy's default",
      "asked": [
        "what cannot be: it is rejected"
      ],
      "allowed": false,
      "verified": null,
      "refusal": "policy `[SANDBOX]/policy.json` does not let it run: it is rejected (the policy's default)"
    }
    --- exit 1 ---
    "#);
}

#[test]
fn what_a_policy_asks_for_is_listed_and_changed() {
    let sandbox = sandbox!();
    let path = sandbox.path("policy.json").display().to_string();
    let flag = format!("--signature-policy={path}");
    let flag = flag.as_str();
    insta::assert_snapshot!(sandbox.pod(["trust", "ls", flag]), @"
    --- stdout ---
    TRANSPORT  SCOPE    ASKED
    -          default  nothing
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["trust", "require", flag, "--default", "--reject"]), @"
    --- stdout ---
    TRANSPORT  SCOPE    ASKED
    -          default  what cannot be: it is rejected
    --- exit 0 ---
    ");
    let key = sandbox.path("team.pub").display().to_string();
    let (key, team) = (key.as_str(), "registry.example.org/team");
    insta::assert_snapshot!(sandbox.pod(["trust", "require", flag, team, "--key", key]), @"
    --- stderr ---
    error: key `[SANDBOX]/team.pub` cannot be read: No such file or directory (os error 2)
    hint: a key of cosign is PEM: `openssl pkey -in KEY -pubout -out KEY.pub`
    hint: keys of OpenPGP are what `gpg --export` writes, armored or not
    --- exit 1 ---
    ");
    let (secret, curve) = (format!("{key}.pem"), "ec_paramgen_curve:P-256");
    let words = ["genpkey", "-algorithm", "EC", "-pkeyopt", curve, "-out", &secret];
    sandbox.program("openssl").args(words).run().success();
    let words = ["pkey", "-in", &secret, "-pubout", "-out", key];
    sandbox.program("openssl").args(words).run().success();
    insta::assert_snapshot!(sandbox.pod(["trust", "require", flag, team, "--key", key, "--any-tag"]), @"
    --- stdout ---
    TRANSPORT  SCOPE                      ASKED
    -          default                    what cannot be: it is rejected
    docker     registry.example.org/team  a signature of cosign by the key in `[SANDBOX]/team.pub`
    --- exit 0 ---
    ");
    let hash = format!("openssl pkey -pubin -in {key} -outform der | sha256sum | cut -c 1-64");
    let hash = sandbox.program("sh").args(["-c", &hash]).run().success();
    let digits =
        |said: Said| Said { stdout: said.stdout.replace(hash.trim(), "[SHA-256]"), ..said };
    insta::assert_snapshot!(digits(sandbox.pod(["trust", "show", flag, team])), @"
    --- stdout ---
    of:        registry.example.org/team
    policy:    [SANDBOX]/policy.json
    decides:   scope `registry.example.org/team` of `docker`
    asked:     a signature of cosign by the key in `[SANDBOX]/team.pub`
    key:       cosign SHA-256 [SHA-256], in `[SANDBOX]/team.pub`
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["trust", "show", flag, "registry.example.org"]), @"
    --- stdout ---
    of:        registry.example.org
    policy:    [SANDBOX]/policy.json
    decides:   the policy's default
    asked:     what cannot be: it is rejected
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["trust", "show", flag, "oci:/srv/x", "--json"]), @r#"
    --- stdout ---
    [
      {
        "subject": "oci:/srv/x",
        "policy": "[SANDBOX]/policy.json",
        "place": "the policy's default",
        "asked": [
          {
            "requirement": "what cannot be: it is rejected",
            "keys": []
          }
        ]
      }
    ]
    --- exit 0 ---
    "#);
    insta::assert_snapshot!(sandbox.pod(["trust", "show", flag, "sha256:beef"]), @"
    --- stderr ---
    error: `sha256:beef` is of the store, and was judged when it came
    hint: `pod image inspect` tells what vouched for it, as `verified`
    --- exit 2 ---
    ");
    let other = format!("{key}.other");
    fs::copy(key, &other).expect("the sandbox can be written");
    let other = other.as_str();
    insta::assert_snapshot!(sandbox.pod(["trust", "add", flag, "--prefix", team, "--key", other]), @"
    --- stdout ---
    TRANSPORT  SCOPE                      ASKED
    -          default                    what cannot be: it is rejected
    docker     registry.example.org/team  a signature of cosign by the key in `[SANDBOX]/team.pub` or in `[SANDBOX]/team.pub.other`
    --- exit 0 ---
    ");
    fs::remove_file(other).expect("it is there");
    insta::assert_snapshot!(digits(sandbox.pod(["trust", "show", flag])), @"
    --- stdout ---
    decides:   the policy's default
    asked:     what cannot be: it is rejected

    decides:   scope `registry.example.org/team` of `docker`
    asked:     a signature of cosign by the key in `[SANDBOX]/team.pub` or in `[SANDBOX]/team.pub.other`
    key:       cosign SHA-256 [SHA-256], in `[SANDBOX]/team.pub`
    key:       none: key `[SANDBOX]/team.pub.other` cannot be read: No such file or directory (os error 2)
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["trust", "add", flag, team, "--key", &secret]), @"
    --- stderr ---
    error: `[SANDBOX]/team.pub.pem` is no public key: it holds a private key, which belongs to whoever signs
    hint: a key of cosign is PEM: `openssl pkey -in KEY -pubout -out KEY.pub`
    hint: keys of OpenPGP are what `gpg --export` writes, armored or not
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["trust", "require", flag, "free.example.org", "--accept"]), @"
    --- stdout ---
    TRANSPORT  SCOPE                      ASKED
    -          default                    what cannot be: it is rejected
    docker     free.example.org           nothing
    docker     registry.example.org/team  a signature of cosign by the key in `[SANDBOX]/team.pub` or in `[SANDBOX]/team.pub.other`
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["trust", "add", flag, "free.example.org", "--key", key]), @"
    --- stderr ---
    error: no key can be added to `free.example.org`: it asks for nothing, so that a key would let in nothing more
    hint: `pod trust require` has a scope ask for something else
    --- exit 1 ---
    ");
    sandbox.pod(["trust", "rm", flag, "free.example.org"]).success();
    insta::assert_snapshot!(sandbox.pod(["trust", "require", flag, "team/app", "--reject"]), @"
    --- stderr ---
    error: `team/app` is no scope of registries
    hint: a scope is written out: `docker.io/library/busybox`, `registry.example.org/team`, `registry.example.org`, `*.example.org`
    --- exit 2 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["trust", "require", flag, team]), @"
    --- stderr ---
    error: the following required arguments were not provided: <--key <FILE>|--accept|--reject>
    hint: `pod trust require --help` tells what it takes
    --- exit 2 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["trust", "rm", flag, team]), @"
    --- stdout ---
    TRANSPORT  SCOPE    ASKED
    -          default  what cannot be: it is rejected
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["trust", "rm", flag, team]), @"
    --- stderr ---
    error: the policy says nothing of `registry.example.org/team`
    hint: `pod trust ls` lists what it does
    --- exit 1 ---
    ");
    insta::assert_snapshot!(fs::read_to_string(&path).expect("it was written"), @r#"
    {
      "default": [
        {
          "type": "reject"
        }
      ],
      "transports": {
        "docker": {}
      }
    }
    "#);
    fs::write(&path, "{}").expect("the sandbox can be written");
    insta::assert_snapshot!(sandbox.pod(["trust", "ls", flag]), @"
    --- stderr ---
    error: policy `[SANDBOX]/policy.json` cannot be used
    caused by: the policy is none: missing field `default` at line 1 column 2
    --- exit 1 ---
    ");
}
