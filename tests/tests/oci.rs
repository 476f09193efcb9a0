//! `berth oci` as a runtime of its own: documents that are wrong, and what other runtimes' suites do not ask.

use berth_tests::bundle::Bundle;
use serde_json::{Value, json};

/// A change of the document, by its place.
fn set(config: &mut Value, place: &str, value: Value) {
    let pointer = format!("/{}", place.replace('.', "/"));
    let (parent, last) = pointer.rsplit_once('/').expect("a place");
    let parent = config.pointer_mut(parent).expect(place);
    match parent {
        Value::Array(list) if last == "-" => list.push(value),
        Value::Array(list) => list[last.parse::<usize>().expect("a number")] = value,
        parent => parent[last] = value,
    }
}

/// What is refused by its place in the document: (change, its value, place, words).
fn wrong_documents() -> Vec<(&'static str, Value, &'static str, &'static str)> {
    let user = json!({ "type": "user" });
    vec![
        ("ociVersion", json!("2.0.0"), "ociVersion", "not supported"),
        ("ociVersion", json!("1"), "ociVersion", "not supported"),
        ("ociVersion", json!(""), "ociVersion", "not supported"),
        ("root.path", json!("nosuch"), "root.path", "no such directory"),
        ("root.path", json!("link"), "root.path", "symbolic link"),
        ("root", Value::Null, "root", "needs a root"),
        ("root", json!(3), "root", "invalid"),
        ("process", Value::Null, "process", "needs one"),
        ("process.args", json!([]), "process.args", "no command"),
        ("process.args", json!(["a", 1]), "process.args[1]", "string"),
        ("process.cwd", json!("tmp"), "process.cwd", "absolute"),
        ("process.env", json!(["A"]), "process.env[0]", "NAME=VALUE"),
        (
            "process.user",
            json!({ "uid": -1, "gid": 0 }),
            "process.user.uid",
            "u32",
        ),
        (
            "process.user",
            json!({ "uid": 4294967296_u64, "gid": 0 }),
            "process.user.uid",
            "u32",
        ),
        ("process.oomScoreAdj", json!(2000), "process.oomScoreAdj", "1000"),
        (
            "process.rlimits",
            json!([{ "type": "RLIMIT_NOFILE", "soft": 10, "hard": 5 }]),
            "process.rlimits[0]",
            "above the hard",
        ),
        (
            "process.rlimits",
            json!([{ "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }, { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }]),
            "process.rlimits[1]",
            "twice",
        ),
        (
            "process.rlimits",
            json!([{ "type": "RLIMIT_SLEEP", "soft": 0, "hard": 0 }]),
            "process.rlimits[0].type",
            "RLIMIT_SLEEP",
        ),
        (
            "linux.namespaces.-",
            json!({ "type": "moon" }),
            "linux.namespaces[",
            "moon",
        ),
        (
            "linux.namespaces.-",
            json!({ "type": "pid" }),
            "linux.namespaces[",
            "twice",
        ),
        (
            "linux.namespaces.0",
            json!({ "type": "pid", "path": "/no/such" }),
            "linux.namespaces[0].path",
            "does not exist",
        ),
        ("linux.namespaces.-", user.clone(), "linux.uidMappings", "needs them"),
        (
            "linux.uidMappings",
            json!([{ "containerID": 0, "hostID": 0, "size": 1 }]),
            "linux.uidMappings",
            "no user namespace",
        ),
        (
            "linux.timeOffsets",
            json!({ "monotonic": { "secs": 1 } }),
            "linux.timeOffsets",
            "time namespace",
        ),
        (
            "linux.cgroupsPath",
            json!("/../../etc"),
            "linux.cgroupsPath",
            "leads up",
        ),
        (
            "linux.rootfsPropagation",
            json!("sideways"),
            "linux.rootfsPropagation",
            "propagation",
        ),
        ("linux.maskedPaths", json!(["proc"]), "linux.maskedPaths[0]", "absolute"),
        (
            "linux.sysctl",
            json!({ "kernel.core_pattern": "|/x" }),
            "linux.sysctl.kernel.core_pattern",
            "namespace",
        ),
        (
            "linux.devices",
            json!([{ "path": "dev/x", "type": "c", "major": 1, "minor": 3 }]),
            "linux.devices[0].path",
            "absolute",
        ),
        (
            "linux.devices",
            json!([{ "path": "/dev/x", "type": "c", "major": -1, "minor": 3 }]),
            "linux.devices[0].major",
            "range",
        ),
        (
            "linux.intelRdt",
            json!({ "closID": "x" }),
            "linux.intelRdt",
            "not supported yet",
        ),
        (
            "linux.netDevices",
            json!({ "eth0": {} }),
            "linux.netDevices",
            "not supported yet",
        ),
        (
            "process.selinuxLabel",
            json!("a:b:c:s0"),
            "process.selinuxLabel",
            "not enabled",
        ),
        (
            "linux.seccomp",
            json!({ "defaultAction": "SCMP_ACT_PRAY" }),
            "linux.seccomp.defaultAction",
            "PRAY",
        ),
        (
            "mounts.-",
            json!({ "destination": "/proc/", "type": "tmpfs" }),
            "mounts[",
            "mounts[0], too",
        ),
        ("mounts.-", json!({ "destination": "/x" }), "mounts[", "type"),
        (
            "mounts.-",
            json!({ "destination": "/x", "type": "bind" }),
            "mounts[",
            "source",
        ),
        (
            "mounts.-",
            json!({ "destination": "/x", "type": "bind", "source": "/etc",
                    "uidMappings": [{ "containerID": 4294967295_u32, "hostID": 0, "size": 2 }] }),
            "uidMappings[0]",
            "out of range",
        ),
        (
            "hooks",
            json!({ "prestart": [{ "path": "sh" }] }),
            "hooks.prestart[0].path",
            "absolute",
        ),
        (
            "hooks",
            json!({ "poststop": [{ "path": "/bin/sh", "timeout": 0 }] }),
            "hooks.poststop[0].timeout",
            "zero",
        ),
    ]
}

#[test]
fn a_wrong_document_is_refused_by_the_place_of_what_is_wrong_and_nothing_is_made() {
    let mut bundle = Bundle::new();
    bundle.args(&["touch", "/made"]);
    std::os::unix::fs::symlink("rootfs", bundle.path("link")).expect("a link");
    let right = bundle.config.clone();
    for (place, value, expected, words) in wrong_documents() {
        bundle.config = right.clone();
        set(&mut bundle.config, place, value);
        let id = Bundle::id();
        for verb in ["run", "create"] {
            let ran = bundle.do_(&[verb, &id]);
            assert_ne!(ran.code, 0, "{place}: {ran:?}");
            assert!(
                ran.err.contains(expected) && ran.err.contains(words),
                "{place}: {expected} {words}: {ran:?}"
            );
        }
        assert!(bundle.leftovers().is_empty(), "{place}");
        assert!(!bundle.path("rootfs/made").exists(), "{place}");
        assert!(
            !std::path::Path::new("/sys/fs/cgroup/unified").join(&id).exists(),
            "{place}"
        );
    }
    bundle.config = right;
    bundle.run().ok();
    assert!(bundle.path("rootfs/made").exists());
}

#[test]
fn text_that_is_no_document_is_refused() {
    let bundle = Bundle::new();
    for (text, words) in [
        (&b""[..], "EOF"),
        (b"{", "EOF"),
        (b"[]", "ociVersion"),
        (b"\xff\xfe", "config.json"),
        (b"{\"ociVersion\": \"1.2.0\"", "EOF"),
        (&b"[".repeat(1 << 20), "recursion"),
    ] {
        let mut command = bundle.command(&["run", "x"]);
        std::fs::write(bundle.path("config.json"), text).expect("write");
        let output = command.output().expect("start berth");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(words), "{words}: {said}");
    }
    std::fs::remove_file(bundle.path("config.json")).expect("remove");
    let large = std::fs::File::create(bundle.path("config.json")).expect("a file");
    large.set_len(17 << 20).expect("grow");
    let output = {
        let mut command = std::process::Command::new(berth_tests::program());
        command
            .args(["oci", "--root"])
            .arg(bundle.path("state"))
            .args(["run", "--bundle"]);
        command.arg(bundle.dir.path()).arg("x").output().expect("start berth")
    };
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("larger than"),
        "{output:?}"
    );
    assert!(bundle.leftovers().is_empty());
}

#[test]
fn names_are_no_paths_and_belong_to_one() {
    let mut bundle = Bundle::new();
    for name in ["", ".", "..", "a/b", "../x", "a b", "\u{fc}"] {
        for verb in ["run", "create", "state", "delete", "kill", "start"] {
            let ran = bundle.do_(&[verb, name]);
            assert_ne!(ran.code, 0, "{verb} {name:?}: {ran:?}");
            assert!(
                ran.err.contains("invalid container ID format"),
                "{verb} {name:?}: {ran:?}"
            );
        }
    }
    bundle.args(&["sleep", "100"]);
    let id = Bundle::id();
    bundle.detached(&["run", "-d", &id]).ok();
    bundle.do_(&["run", &id]).fails(1, "already exists");
    assert!(bundle.do_(&["state", &id]).ok().contains("running"));
    bundle.do_(&["delete", &id]).fails(1, "not stopped");
    bundle.do_(&["delete", "--force", &id]).ok();
    bundle.do_(&["state", &id]).fails(1, "does not exist");
}

/// What a container is in, by kind: as `readlink /proc/self/ns/KIND` has it.
const KINDS: &[&str] = &["net", "ipc", "uts", "pid", "cgroup", "user", "time"];

#[test]
fn joined_namespaces_are_those_of_the_other_container_and_clocks_are_set() {
    let read = "for kind in net ipc uts pid cgroup user time; do readlink /proc/self/ns/$kind; done";
    let user = json!([{ "containerID": 0, "hostID": 800_000, "size": 1000 }]);
    for with_users in [false, true] {
        let mut bundle = Bundle::new();
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().expect("a list");
        namespaces.push(json!({ "type": "time" }));
        namespaces.push(json!({ "type": "cgroup" }));
        if with_users {
            let owned = std::process::Command::new("chown")
                .args(["-R", "800000:800000"])
                .arg(bundle.dir.path())
                .status();
            assert!(owned.expect("start chown").success());
            namespaces.push(json!({ "type": "user" }));
            bundle.config["linux"]["uidMappings"] = user.clone();
            bundle.config["linux"]["gidMappings"] = user.clone();
            let mounts = bundle.config["mounts"].as_array_mut().expect("a list");
            mounts.retain(|m| m["destination"] != "/sys" && m["destination"] != "/sys/fs/cgroup");
        }
        bundle.config["linux"]["namespaces"]
            .as_array_mut()
            .expect("a list")
            .dedup();
        let own: Vec<Value> = bundle.config["linux"]["namespaces"]
            .as_array()
            .cloned()
            .expect("a list");
        let mut seen = std::collections::BTreeSet::new();
        let once: Vec<Value> = own.into_iter().filter(|n| seen.insert(n["type"].to_string())).collect();
        bundle.config["linux"]["namespaces"] = json!(once);
        bundle.config["linux"]["timeOffsets"] = json!({ "monotonic": { "secs": 7881, "nanosecs": 2718281 } });
        let first = Bundle::id();
        bundle.args(&["sleep", "100"]);
        bundle.detached(&["run", "-d", &first]).ok();
        let theirs = bundle.do_(&["exec", &first, "sh", "-c", read]).ok();
        let clocks = bundle.do_(&["exec", &first, "cat", "/proc/self/timens_offsets"]).ok();
        assert!(clocks.contains("7881   2718281"), "{clocks}");
        let state: Value = serde_json::from_str(&bundle.do_(&["state", &first]).ok()).expect("a state");
        let pid = state["pid"].as_i64().expect("a pid");
        let host = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("our own");
        for (kind, theirs) in KINDS.iter().zip(theirs.lines()) {
            let same = host(kind).display().to_string() == theirs;
            assert_eq!(same, *kind == "user" && !with_users, "{kind}: {theirs}");
        }

        for namespace in bundle.config["linux"]["namespaces"].as_array_mut().expect("a list") {
            let kind = namespace["type"].as_str().expect("a type").replace("network", "net");
            if kind != "mount" {
                namespace["path"] = json!(format!("/proc/{pid}/ns/{kind}"));
            }
        }
        let linux = bundle.config["linux"].as_object_mut().expect("an object");
        for field in ["timeOffsets", "uidMappings", "gidMappings"] {
            linux.remove(field);
        }
        bundle.config.as_object_mut().expect("an object").remove("hostname");
        let ours = bundle.script(read).run();
        assert_eq!(ours.out, theirs, "{with_users}: {ours:?}");
        bundle.do_(&["delete", "--force", &first]).ok();
    }
}

/// What a bind mount has of its source's options is what is said of it; what the host protects stays so for who has users of
/// its own.
#[test]
fn bind_mounts_have_the_options_that_are_said() {
    let mut bundle = Bundle::new();
    for name in ["source", "rootfs/mnt", "rootfs/b"] {
        std::fs::create_dir(bundle.path(name)).expect("a directory");
    }
    let source = bundle.path("source").display().to_string();
    let root = bundle.path("rootfs").display().to_string();
    bundle.config["mounts"].as_array_mut().expect("a list").extend([
        json!({ "destination": "/a", "type": "tmpfs", "source": "tmpfs", "options": ["noexec", "nosuid"] }),
        json!({ "destination": format!("{root}/b"), "type": "bind", "source": format!("{root}/a"), "options": ["bind"] }),
        json!({ "destination": "/c", "type": "bind", "source": format!("{root}/a"), "options": ["bind", "nodev"] }),
        json!({ "destination": "/d", "type": "bind", "source": source, "options": ["bind", "noatime"] }),
    ]);
    let read = "for d in a b c d; do grep \" /$d \" /proc/mounts | cut -d' ' -f4 | cut -d, -f1-3; done";
    let said = bundle.script(read).run().ok();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "rw,nosuid,noexec");
    // Nothing was said: it is its source's, which an earlier mount of the document made.
    assert_eq!(lines[1], "rw,nosuid,noexec");
    assert!(lines[2].starts_with("rw,nodev,relatime"), "{said}");
    assert!(lines[3].starts_with("rw,noatime"), "{said}");
}

#[test]
fn without_a_mount_namespace_the_root_is_a_directory_of_the_hosts() {
    let mut bundle = Bundle::new();
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().expect("a list");
    namespaces.retain(|n| n["type"] != "mount");
    bundle.args(&["sleep", "100"]);
    let refused = bundle.run();
    refused.fails(1, "linux.maskedPaths");
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    bundle.config["mounts"] = json!([]);
    let id = Bundle::id();
    bundle.detached(&["run", "-d", &id]).ok();
    let unmount = || {
        std::process::Command::new("umount")
            .args(["-R", "--lazy"])
            .arg(bundle.path("rootfs"))
            .status()
    };
    let inside = bundle.do_(&["exec", &id, "sh", "-c", "ls -d /bin/busybox /proc/1 2>&1; cd ..; pwd"]);
    bundle.do_(&["delete", "--force", &id]).ok();
    assert!(unmount().expect("start umount").success());
    let said = inside.ok();
    assert!(said.contains("/bin/busybox\n") && said.ends_with("\n/"), "{said}");
    assert!(said.contains("No such file"), "{said}");
}

/// Where processes are those of others, too, nobody dies with the first one.
#[test]
fn all_processes_of_a_container_without_their_own_namespace_are_killed() {
    let mut bundle = Bundle::new();
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().expect("a list");
    namespaces.retain(|n| n["type"] != "pid");
    let id = Bundle::id();
    bundle.script("sleep 1000 & sleep 1000 & echo $! > /pid; exec sleep 1000");
    bundle.detached(&["run", "-d", &id]).ok();
    berth_tests::eventually("it runs", || bundle.path("rootfs/pid").exists());
    let read = || std::fs::read_to_string(bundle.path("rootfs/pid")).unwrap_or_default();
    berth_tests::eventually("it runs", || !read().trim().is_empty());
    let child = format!("/proc/{}", read().trim());
    assert!(std::path::Path::new(&child).exists());
    bundle.do_(&["kill", &id, "KILL"]).ok();
    let gone = || {
        std::fs::read_to_string(format!("{child}/cmdline"))
            .unwrap_or_default()
            .is_empty()
    };
    berth_tests::eventually("its child is gone", gone);
    bundle.do_(&["delete", &id]).ok();
}

/// As with runc.
#[test]
fn what_another_mount_made_can_be_idmapped() {
    let berth = berth_tests::program().display().to_string();
    let mapped = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    for with_users in [false, true] {
        let mut bundle = Bundle::of(&[&berth, "oci"]);
        for name in ["source", "rootfs/a", "rootfs/b"] {
            std::fs::create_dir(bundle.path(name)).expect("a directory");
        }
        std::fs::write(bundle.path("source/file"), "").expect("a file");
        if with_users {
            let owned = std::process::Command::new("chown")
                .args(["-R", "100000:100000"])
                .arg(bundle.path("rootfs"))
                .status();
            assert!(owned.expect("start chown").success());
            let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().expect("a list");
            namespaces.push(json!({ "type": "user" }));
            bundle.config["linux"]["uidMappings"] = mapped.clone();
            bundle.config["linux"]["gidMappings"] = mapped.clone();
        }
        let (source, inner) = (bundle.path("source"), bundle.path("rootfs/a"));
        bundle.config["mounts"].as_array_mut().expect("a list").extend([
            json!({ "destination": "/a", "type": "bind", "source": source, "options": ["bind"] }),
            json!({ "destination": "/b", "type": "bind", "source": inner, "options": ["rbind", "rprivate"],
                    "uidMappings": mapped, "gidMappings": mapped }),
        ]);
        let ran = bundle.script("stat -c %u /a/file /b/file").run();
        let expected = if with_users { "65534\n0" } else { "0\n100000" };
        assert_eq!(ran.out, expected, "{with_users}: {ran:?}");
    }
}

/// What the kernel locks for user namespaces is not taken away by who makes the mount for one.
#[test]
fn what_the_host_protects_is_not_taken_away_for_users_of_its_own() {
    let mut bundle = Bundle::new();
    let source = bundle.path("source");
    std::fs::create_dir(&source).expect("a directory");
    let host = |line: String| {
        let status = std::process::Command::new("sh").args(["-ec", &line]).status();
        assert!(status.expect("start sh").success(), "{line}");
    };
    let place = source.display().to_string();
    host(format!(
        "mount -t tmpfs x {place}; mount -o bind,remount,ro,nosuid,noatime {place}"
    ));
    let list = bundle.config["mounts"].as_array_mut().expect("a list");
    list.push(json!({ "destination": "/mnt", "type": "bind", "source": source, "options": ["bind"] }));
    let last = list.len() - 1;
    bundle.script("grep ' /mnt ' /proc/mounts | cut -d' ' -f4");
    let mut run = |words: &[&str]| {
        bundle.config["mounts"][last]["options"] = json!(words);
        bundle.run()
    };
    let without = run(&["bind", "rw", "suid"]);
    let mut refused = Vec::new();
    bundle.config["linux"]["namespaces"]
        .as_array_mut()
        .expect("a list")
        .push(json!({ "type": "user" }));
    for kind in ["uidMappings", "gidMappings"] {
        bundle.config["linux"][kind] = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    }
    let mut run = |words: &[&str]| {
        bundle.config["mounts"][last]["options"] = json!(words);
        bundle.run()
    };
    for words in [&["bind", "rw"][..], &["bind", "suid"], &["bind", "strictatime"]] {
        refused.push(run(words));
    }
    let kept = run(&["bind", "nodev"]);
    host(format!("umount {place}"));
    assert!(without.out.starts_with("rw,noatime"), "{without:?}");
    assert!(kept.out.starts_with("ro,nosuid,nodev,noatime"), "{kept:?}");
    for ran in refused {
        ran.fails(1, "operation not permitted");
    }
}

/// As shells pass it: `--process <(...)`.
#[test]
fn a_process_is_read_from_a_descriptor_too() {
    let mut bundle = Bundle::new();
    let id = Bundle::id();
    bundle.args(&["sleep", "100"]);
    bundle.detached(&["run", "-d", &id]).ok();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["echo", "from a descriptor"]);
    std::fs::write(bundle.path("process.json"), process.to_string()).expect("write");
    let command = bundle.command(&["exec", "--process", "/dev/fd/7", &id]);
    let word = |w: &std::ffi::OsStr| format!("'{}'", w.to_str().expect("text"));
    let line: Vec<String> = [command.get_program()]
        .into_iter()
        .chain(command.get_args())
        .map(word)
        .collect();
    let script = format!(
        "cat process.json | {{ exec 7<&0 < /dev/null; exec {}; }}",
        line.join(" ")
    );
    let mut shell = std::process::Command::new("bash");
    let ran = shell
        .args(["-c", &script])
        .current_dir(bundle.dir.path())
        .output()
        .expect("bash");
    bundle.do_(&["delete", "--force", &id]).ok();
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "from a descriptor\n", "{ran:?}");
}
