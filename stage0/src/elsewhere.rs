//! What leads on from words of docker, podman and rkt that are none here: commands and flags that
//! people type out of habit, with the way to what they want. Only tables; who reads a line asks.

/// Flags: the commands they are typed behind, their names as clap shows them, and the way out.
const FLAGS: &[(&[&str], &[&str], &str)] = &[
    (
        &["run", "prepare", "sandbox"],
        &["-P", "--publish-all", "--expose"],
        "ports are published one by one, or in ranges: `-p HOST:POD`",
    ),
    (
        &["app add"],
        &["-p", "--publish", "-P", "--publish-all", "--expose", "--net", "--ip", "--mac-address"],
        "apps share the network of their pod, which `pod run` has joined with `--net` and `-p`",
    ),
    (&["run", "prepare", "sandbox"], &["--network-alias"], "a pod is known by its `--name`"),
    (
        RUNS,
        &["--shm-size"],
        "`--tmpfs /dev/shm:size=BYTES` behind the image gives an app a /dev/shm of that size",
    ),
    (
        RUNS,
        &["--health-cmd", "--health-interval", "--health-retries", "--health-timeout"],
        "`--readiness exec:COMMAND` behind the image tells when an app is ready",
    ),
    (
        RUNS,
        &["--log-driver", "--log-opt"],
        "`--log-size BYTES[:FILES]` behind the image bounds an app's log; the journal has it, too, \
         unless `--journal off` is given",
    ),
    (
        RUNS,
        &["--volumes-from", "--link"],
        "apps that belong together are one pod: `pod run A --- B`; they share network and volumes",
    ),
    (
        RUNS,
        &["--pod"],
        "apps that belong together are one pod: `pod run A --- B`; `pod app add POD IMAGE` adds one later",
    ),
    (
        RUNS,
        &["--cpu-quota", "--cpu-period"],
        "`--cpus NUMBER` behind the image limits time on processors",
    ),
    (RUNS, &["-c"], "`--cpu-shares` or `--cpu-weight` behind the image give an app its share"),
    (
        RUNS,
        &["--cpu-rt-period", "--cpu-rt-runtime", "--kernel-memory", "--memory-swappiness"],
        "cgroup v2 has no such limit; `docs/limits.md` lists those there are",
    ),
    (
        RUNS,
        &["--oom-kill-disable"],
        "cgroup v2 always kills; `--oom-policy` says what an app's end by it means to its pod",
    ),
    (
        RUNS,
        &["--blkio-weight-device"],
        "`--io-weight` behind the image is its share of all devices",
    ),
    (
        &["sandbox"],
        &["-m", "--memory", "--cpus", "--pids-limit", "--cpu-shares", "--memory-swap"],
        "limits of all apps together begin with `--pod-`, such as `--pod-memory 1g`",
    ),
    (
        RUNS,
        &["-a", "--attach"],
        "output is yours unless `-d` is given; `-i` behind the image passes on your input",
    ),
    (RUNS, &["--uts"], "a pod has a hostname of its own; `--hostname` sets it"),
    (RUNS, &["--cgroup-parent"], "the cgroup of a pod is made where the caller is"),
    (RUNS, &["--cgroupns"], "an app always has a cgroup namespace of its own"),
    (RUNS, &["--replace"], "`pod rm -f NAME` removes the pod that bears the name"),
    (RUNS, &["--runtime"], "`--stage1` says what isolates the pod"),
    (
        RUNS,
        &["--secret"],
        "`--credential NAME=PATH` behind the image gives an app a secret as a file",
    ),
    (RUNS, &["--gpus"], "`--device SRC` behind the image gives an app a device of the host"),
    (
        &["update"],
        &["--pod-memory", "--pod-cpus", "--pod-pids-limit", "--pod-memory-swap"],
        "without `--app` they are the pod's: `pod update POD --memory 1g`",
    ),
    (&["update"], &["--restart"], "an app keeps its policy; `pod run` gives it another"),
    (&["stats"], &["-a", "--all"], "a pod that does not run uses nothing"),
    (&["stats"], &["--no-trunc"], "`-o json` has whole ids"),
    (&["stats"], &["--no-reset"], "`-o json` does not draw over what stands there"),
    (
        FETCHES,
        &["--tls-verify"],
        "`--insecure-http` speaks plain HTTP; certificates are always checked",
    ),
    (FETCHES, &["--creds"], "`pod login REGISTRY` keeps credentials"),
    (FETCHES, &["--arch", "--os", "--variant"], "`--platform OS/ARCH[/VARIANT]` says which"),
    (FETCHES, &["--authfile"], "the variable `REGISTRY_AUTH_FILE` names the file of credentials"),
    (
        &["exec"],
        &["-d", "--detach"],
        "`pod exec` stays as long as its command; a `&` of your shell puts it into the background",
    ),
    (
        &["exec"],
        &["--privileged", "--cap-add"],
        "a command has the privileges of its app: give them to `pod run`",
    ),
    (
        &["inspect", "image inspect", "volume inspect", "info", "version", "status"],
        &["-f", "--format"],
        "`-o json` prints all, of which `jq` picks what is wanted",
    ),
    (&["ps"], &["-s", "--size"], "`pod info` shows how much is stored"),
    (&["images", "image ls"], &["-a", "--all"], "all images are listed anyway"),
    (
        &["rmi", "image rm"],
        &["-f", "--force"],
        "it is not needed: what a pod uses stays until it is gone",
    ),
    (
        &["image export"],
        &["--output <FORM>"],
        "the file stands behind the image: `pod image export IMAGE FILE`",
    ),
    (
        &["image import"],
        &["-i", "--input"],
        "the file is named as it is: `pod image import FILE`; `-` is standard input",
    ),
    (
        &["gc", "image gc"],
        &["-f", "--force", "-a", "--all"],
        "nobody is asked, and all is looked at",
    ),
    (
        &["volume rm"],
        &["-f", "--force"],
        "a volume that a pod mounts stays: `pod rm POD` comes first",
    ),
    (&["volume prune"], &["-f", "--force", "-a", "--all"], "nobody is asked, and all is looked at"),
    (&["logs"], &["-l", "--latest"], "`pod ps -ql` prints the id of the newest pod"),
];

/// The commands that make pods.
const RUNS: &[&str] = &["run", "prepare", "sandbox", "app add"];

/// The commands that fetch images.
const FETCHES: &[&str] = &["run", "prepare", "app add", "fetch", "image pull"];

/// Commands: the noun before them, empty for none, their names, and the way out.
const COMMANDS: &[(&str, &[&str], &str)] = &[
    ("", &["create"], "`pod prepare` lays a pod out, and `pod start` starts it"),
    (
        "",
        &["build", "buildx"],
        "images are built by other tools; `pod image import FILE` takes an archive of them",
    ),
    ("", &["save", "export"], "`pod image export IMAGE FILE` writes an image as a file"),
    ("", &["load", "import"], "`pod image import FILE` takes an archive into the store"),
    ("", &["tag"], "`pod image tag IMAGE NAME` gives an image a further name"),
    ("", &["history"], "`pod image inspect IMAGE` shows all that is known of an image"),
    ("", &["search"], "registries are not searched; `pod fetch IMAGE` fetches what has a name"),
    (
        "",
        &["container", "pod"],
        "commands about pods have no noun before them, such as `pod ps` and `pod rm`",
    ),
    (
        "",
        &["system", "prune"],
        "`pod gc` and `pod image gc` remove what nothing needs; `pod info` shows how much is stored",
    ),
    ("", &["resume"], "`pod unpause POD` lets a paused pod go on"),
    ("", &["rename"], "a pod keeps the name that `--name` has given it"),
    (
        "",
        &["health", "healthcheck"],
        "`--readiness` of `pod run` asks an app, and `pod wait --condition ready POD` waits",
    ),
    ("", &["enter", "shell"], "`pod exec -it POD sh` runs a shell in an app"),
    ("", &["run-prepared"], "`pod start POD` starts a pod that is prepared"),
    ("", &["delete", "remove"], "`pod rm POD` removes a pod"),
    ("", &["compose"], "apps that belong together are one pod: `pod run A --- B`"),
    (
        "",
        &["kube", "play"],
        "`pod run --dry-run` prints what would run, and `pod run --spec FILE` runs it",
    ),
    (
        "network",
        &["create", "rm", "connect", "disconnect", "prune"],
        "networks beside the built-in ones are files of CNI in `/etc/cni/net.d`, and a pod joins \
         them when it starts, with `--net`",
    ),
    ("image", &["prune"], "`pod image gc` removes what no image and no pod needs"),
    ("image", &["history"], "`pod image inspect IMAGE` shows all that is known of an image"),
    ("image", &["remove"], "`pod image rm IMAGE` forgets an image"),
    (
        "image",
        &["build"],
        "images are built by other tools; `pod image import FILE` takes an archive of them",
    ),
    ("app", &["exec"], "`pod exec -c APP POD COMMAND` runs a command in an app"),
    ("app", &["logs"], "`pod logs POD APP` shows what an app has written"),
    ("app", &["run"], "`pod app add --start POD IMAGE` adds an app and starts it"),
];

/// Returns the way out of `flag`, as clap shows it, typed behind `verb`.
pub(crate) fn flag(verb: &str, flag: &str) -> Option<&'static str> {
    let known =
        FLAGS.iter().find(|(verbs, flags, _)| verbs.contains(&verb) && flags.contains(&flag));
    known.map(|(.., hint)| *hint)
}

/// Returns the way out of the command `word`, typed behind `noun`, which may be empty.
pub(crate) fn command(noun: &str, word: &str) -> Option<&'static str> {
    let known = COMMANDS.iter().find(|(behind, words, _)| *behind == noun && words.contains(&word));
    known.map(|(.., hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts a hint at the commands it names: the words behind `` `pod ``.
    fn named(hint: &str) -> impl Iterator<Item = Vec<&str>> {
        hint.split("`pod ")
            .skip(1)
            .map(|rest| rest.split('`').next().unwrap_or_default().split(' ').collect())
    }

    #[test]
    fn hints_name_commands_there_are_and_only_for_words_that_are_none() {
        let grammar = crate::grammar_of_all();
        let hints = FLAGS.iter().map(|(.., hint)| hint);
        for hint in hints.chain(COMMANDS.iter().map(|(.., hint)| hint)) {
            for words in named(hint) {
                let mut command = grammar.find_subcommand(words[0]).expect(hint);
                if command.has_subcommands() {
                    command = command.find_subcommand(words[1]).expect(hint);
                }
                for flag in words.iter().filter_map(|word| word.strip_prefix("--")) {
                    let known = command.get_arguments().any(|arg| arg.get_long() == Some(flag));
                    assert!(known || flag == "-", "{hint}");
                }
            }
        }
        for (noun, words, _) in COMMANDS {
            let place = grammar.find_subcommand(noun).unwrap_or(&grammar);
            for word in *words {
                assert!(place.find_subcommand(word).is_none(), "{noun} {word}");
            }
        }
        let find = |verb: &str| match verb.split_once(' ') {
            Some((noun, verb)) => grammar.find_subcommand(noun).unwrap().find_subcommand(verb),
            None => grammar.find_subcommand(verb),
        };
        for (verbs, flags, _) in FLAGS {
            for (verb, flag) in verbs.iter().flat_map(|verb| flags.iter().map(move |f| (verb, f))) {
                let command = find(verb).expect(verb);
                let long = flag.strip_prefix("--");
                let known = command.get_arguments().any(|arg| match long {
                    Some(long) => {
                        arg.get_long() == Some(long)
                            || arg.get_all_aliases().is_some_and(|names| names.contains(&long))
                    }
                    None => arg.get_short() == flag.chars().nth(1),
                });
                assert!(!known, "{verb} {flag}");
            }
        }
    }
}
