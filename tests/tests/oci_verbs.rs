//! `berth oci`: what the document's fields do, and what verbs and their flags do. Where Debian's runc knows a field, it is asked, too.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use berth_tests::bundle::Bundle;
use serde_json::{Value, json};

/// Debian's.
const RUNC: &str = "/usr/sbin/runc";

/// A bundle for Berth, and one for runc.
fn both() -> [(&'static str, Bundle); 2] {
    let berth = berth_tests::program().display().to_string();
    [("berth", Bundle::of(&[&berth, "oci"])), ("runc", Bundle::of(&[RUNC]))]
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Each kind of hook says its name and what it was told; those that run inside do so by a program of the container's.
#[test]
fn hooks_of_all_kinds_run_in_order_with_the_state() {
    for (runtime, mut bundle) in both() {
        let log = bundle.path("rootfs/log").display().to_string();
        std::fs::write(&log, "").expect("a log");
        let hook = |kind: &str, log: &str, busybox: &str| {
            let script = format!("echo {kind} $(sed 's/.*\"status\": *\"\\([a-z]*\\)\".*/\\1/') $X >> {log}");
            json!([{ "path": busybox, "args": ["sh", "-c", script], "env": ["X=said", "PATH=/bin"], "timeout": 60 }])
        };
        bundle.config["hooks"] = json!({
            "prestart": hook("prestart", &log, "/bin/busybox"),
            "createRuntime": hook("createRuntime", &log, "/bin/busybox"),
            "createContainer": hook("createContainer", &log, "/bin/busybox"),
            "startContainer": hook("startContainer", "/log", "/bin/busybox"),
            "poststart": hook("poststart", &log, "/bin/busybox"),
            "poststop": hook("poststop", &log, "/bin/busybox"),
        });
        for name in [
            "prestart",
            "createRuntime",
            "createContainer",
            "startContainer",
            "poststart",
            "poststop",
        ] {
            bundle.config["hooks"][name][0]["args"][0] = json!("sh");
        }
        let id = Bundle::id();
        bundle.args(&["sleep", "100"]);
        bundle.detached(&["create", &id]).ok();
        let read = || std::fs::read_to_string(&log).expect("the log");
        let kinds = |text: &str| -> Vec<String> {
            text.lines()
                .map(|l| l.split(' ').next().unwrap_or_default().to_owned())
                .collect()
        };
        // runc of these days has run poststart by now.
        let first = ["prestart", "createRuntime", "createContainer"];
        assert_eq!(kinds(&read())[..3], first, "{runtime}");
        bundle.do_(&["start", &id]).ok();
        bundle.do_(&["delete", "--force", &id]).ok();
        let said = read();
        let last = kinds(&said)[3..].to_vec();
        assert_eq!(last.len(), 3, "{runtime}: {said}");
        if runtime == "berth" {
            assert_eq!(last, ["startContainer", "poststart", "poststop"], "{said}");
        }
        assert!(said.lines().all(|l| l.ends_with(" said")), "{runtime}: {said}");
        if runtime == "berth" {
            let told: Vec<&str> = said.lines().filter_map(|l| l.split(' ').nth(1)).collect();
            assert_eq!(told[..3], ["creating"; 3], "{said}");
            assert_eq!(told[4..], ["running", "stopped"], "{said}");
        }
    }
}

#[test]
fn a_hook_that_fails_or_takes_too_long_ends_the_container() {
    for (runtime, mut bundle) in both() {
        bundle.args(&["touch", "/made"]);
        for (args, timeout, words) in [
            (["sh", "-c", "exit 3"], 60, "exit"),
            (["sh", "-c", "sleep 1000"], 1, ""),
        ] {
            for kind in ["prestart", "createRuntime", "createContainer", "startContainer"] {
                bundle.config["hooks"] =
                    json!({ kind: [{ "path": "/bin/busybox", "args": args, "timeout": timeout }] });
                let ran = bundle.run();
                assert_ne!(ran.code, 0, "{runtime} {kind}: {ran:?}");
                assert!(
                    ran.err.contains(words) && ran.err.contains("hook"),
                    "{runtime} {kind}: {ran:?}"
                );
                assert!(!bundle.path("rootfs/made").exists(), "{runtime} {kind}");
                assert!(bundle.leftovers().is_empty(), "{runtime} {kind}");
            }
        }
    }
}

#[test]
fn a_process_is_scheduled_as_the_document_says() {
    let mut bundle = Bundle::new();
    bundle.config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 0 });
    bundle.config["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 7 });
    bundle.config["process"]["oomScoreAdj"] = json!(321);
    bundle.config["process"]["user"]["umask"] = json!(0o027);
    bundle.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_CORE", "soft": 1024, "hard": 2048 }]);
    bundle.config["linux"]["personality"] = json!({ "domain": "LINUX32" });
    bundle.config["process"]["execCPUAffinity"] = json!({ "initial": "0", "final": "0" });
    let script = "ionice; cut -d' ' -f19,41 /proc/self/stat; cat /proc/self/oom_score_adj; umask; ulimit -Sc; ulimit -Hc; \
        uname -m; sed -n 's/^Cpus_allowed_list:.//p' /proc/self/status";
    let status = std::fs::read_to_string("/proc/self/status").expect("our status");
    let all = status
        .lines()
        .find_map(|l| l.strip_prefix("Cpus_allowed_list:\t"))
        .expect("processors");
    // Batches are 3 (sched(7)); blocks of core files are 512 bytes.
    let expected = |allowed: &str| format!("idle\n7 3\n321\n0027\n2\n4\ni686\n{allowed}");
    let ran = bundle.script(script).run();
    assert_eq!(ran.out, expected(all), "{ran:?}");
    let id = Bundle::id();
    bundle.args(&["sleep", "100"]);
    bundle.detached(&["run", "-d", &id]).ok();
    let added = bundle.do_(&["exec", &id, "sh", "-c", script]);
    bundle.do_(&["delete", "--force", &id]).ok();
    assert_eq!(added.out, expected("0"), "{added:?}");
}

/// Recursive options reach what is mounted below the source, others do not.
#[test]
fn recursive_options_reach_what_is_below() {
    for (runtime, mut bundle) in both() {
        let source = bundle.path("source");
        std::fs::create_dir_all(source.join("below")).expect("a directory");
        let host = |line: String| {
            let status = std::process::Command::new("sh").args(["-ec", &line]).status();
            assert!(status.expect("start sh").success(), "{line}");
        };
        host(format!("mount -t tmpfs x {}", source.join("below").display()));
        let list = bundle.config["mounts"].as_array_mut().expect("a list");
        list.push(json!({ "destination": "/plain", "type": "bind", "source": source, "options": ["rbind", "ro"] }));
        list.push(json!({ "destination": "/deep", "type": "bind", "source": source, "options": ["rbind", "rro"] }));
        let script =
            "for d in plain deep; do touch /$d/x 2> /dev/null; echo $?; touch /$d/below/x 2> /dev/null; echo $?; done";
        let ran = bundle.script(script).run();
        host(format!("umount {}", source.join("below").display()));
        let lines: Vec<&str> = ran.out.lines().collect();
        assert_eq!(lines, ["1", "0", "1", "1"], "{runtime}: {ran:?}");
    }
}

#[test]
fn descriptors_terminals_and_numbers_go_where_the_flags_say() {
    let mut bundle = Bundle::new();
    let id = Bundle::id();
    // A terminal's master, and a pidfd, arrive at sockets.
    let (console, pidfd) = (bundle.path("console"), bundle.path("pidfd"));
    let listening = [&console, &pidfd].map(|path| UnixListener::bind(path).expect("listen"));
    let receivers = listening.map(|socket| {
        std::thread::spawn(move || {
            let (connection, _) = socket.accept().expect("accept");
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
            let mut control = rustix::net::RecvAncillaryBuffer::new(&mut space);
            let mut bytes = [0; 256];
            let mut buffers = [std::io::IoSliceMut::new(&mut bytes)];
            let flags = rustix::net::RecvFlags::empty();
            rustix::net::recvmsg(&connection, &mut buffers, &mut control, flags).expect("receive");
            let mut fds = Vec::new();
            for message in control.drain() {
                if let rustix::net::RecvAncillaryMessage::ScmRights(rights) = message {
                    fds.extend(rights);
                }
            }
            assert_eq!(fds.len(), 1);
            fds.remove(0)
        })
    });
    bundle.config["process"]["terminal"] = json!(true);
    bundle.script("tty; sleep 100");
    let (console, pidfd) = (console.display().to_string(), pidfd.display().to_string());
    let flags = [
        "--console-socket",
        &console,
        "--pidfd-socket",
        &pidfd,
        "--pid-file",
        "pid",
    ];
    let words = [&["run", "-d", "--no-new-keyring"][..], &flags, &[&id]].concat();
    bundle.detached(&words).ok();
    let [master, pidfd] = receivers.map(|thread| thread.join().expect("a descriptor"));
    let mut said = String::new();
    let mut bytes = [0; 64];
    while !said.contains('\n') {
        let read = rustix::io::read(&master, &mut bytes).expect("read the terminal");
        said.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    assert!(said.starts_with("/dev/pts/0"), "{said}");
    let state = parsed(&bundle.do_(&["state", &id]).ok());
    let pid = std::fs::read_to_string(bundle.path("pid")).expect("the pid file");
    assert_eq!(state["pid"].to_string(), pid);
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(&pidfd)));
    assert!(info.expect("the pidfd").contains(&format!("Pid:\t{pid}\n")));
    bundle.do_(&["delete", "--force", &id]).ok();
    bundle.config["process"]["terminal"] = json!(false);
    bundle.args(&["true"]);
    bundle
        .do_(&["run", "-d", "--console-socket", &console, "x"])
        .fails(1, "console socket");
    assert!(bundle.leftovers().is_empty());
    // Three descriptors more: two of them are to be kept.
    for (runtime, mut bundle) in both() {
        bundle.script("ls /proc/self/fd | sort -n | tr '\\n' ' '; cat <&4");
        std::fs::write(bundle.path("kept"), "kept").expect("write");
        let command = bundle.command(&["run", "--preserve-fds", "2", &Bundle::id()]);
        let word = |w: &std::ffi::OsStr| format!("'{}'", w.to_str().expect("text"));
        let line: Vec<String> = [command.get_program()]
            .into_iter()
            .chain(command.get_args())
            .map(word)
            .collect();
        let script = format!("exec 3< kept 4< kept 5< kept; exec {}", line.join(" "));
        let mut shell = std::process::Command::new("bash");
        let ran = shell
            .args(["-c", &script])
            .current_dir(bundle.dir.path())
            .output()
            .expect("bash");
        let said = String::from_utf8_lossy(&ran.stdout);
        // And the directory that ls looks at.
        assert!(
            said == "0 1 2 3 4 5 kept" || said == "0 1 2 3 4 6 kept",
            "{runtime}: {said} {ran:?}"
        );
        assert!(!said.contains("5 6"), "{runtime}: {said}");
    }
}

#[test]
fn containers_are_listed_counted_stopped_and_changed() {
    for (runtime, mut bundle) in both() {
        let id = Bundle::id();
        bundle.script("trap '' TERM; sleep 1000 & sleep 1001 & wait; wait; wait");
        bundle.config["linux"]["resources"]["pids"] = json!({ "limit": 50 });
        bundle.detached(&["run", "-d", &id]).ok();
        let count = || {
            parsed(&bundle.do_(&["ps", "--format", "json", &id]).ok())
                .as_array()
                .map(Vec::len)
        };
        berth_tests::eventually("its children run", || count() == Some(3));
        // As what they were meant to be, beside the shell whose words name them.
        let children = |text: String| {
            text.lines()
                .filter(|l| l.contains("sleep 100") && !l.contains("trap"))
                .count()
        };
        berth_tests::eventually("its children are listed", || {
            children(bundle.do_(&["ps", &id]).ok()) == 2
        });
        assert_eq!(bundle.do_(&["list", "-q"]).ok(), id, "{runtime}");
        let listed = parsed(&bundle.do_(&["list", "--format", "json"]).ok());
        assert_eq!(
            (&listed[0]["id"], &listed[0]["status"]),
            (&json!(id), &json!("running")),
            "{runtime}"
        );
        let stats = parsed(&bundle.do_(&["events", "--stats", &id]).ok());
        assert_eq!(
            (&stats["type"], &stats["data"]["pids"]["current"]),
            (&json!("stats"), &json!(3)),
            "{runtime}: {stats}"
        );
        bundle.do_(&["update", "--pids-limit", "77", &id]).ok();
        let stats = parsed(&bundle.do_(&["events", "--stats", &id]).ok());
        assert_eq!(stats["data"]["pids"]["limit"], json!(77), "{runtime}: {stats}");
        bundle.do_(&["pause", &id]).ok();
        assert_eq!(
            parsed(&bundle.do_(&["state", &id]).ok())["status"],
            "paused",
            "{runtime}"
        );
        assert_ne!(bundle.do_(&["exec", &id, "true"]).code, 0, "{runtime}");
        bundle.do_(&["resume", &id]).ok();
        assert_ne!(bundle.do_(&["kill", &id, "NOSUCH"]).code, 0, "{runtime}");
        bundle.do_(&["kill", "--all", &id, "KILL"]).ok();
        let stopped = || parsed(&bundle.do_(&["state", &id]).ok())["status"] == "stopped";
        berth_tests::eventually("it stops", stopped);
        bundle.do_(&["delete", &id]).ok();
        assert!(bundle.leftovers().is_empty(), "{runtime}");
    }
}

#[test]
fn features_versions_and_errors_are_told_as_engines_want_them() {
    let bundle = Bundle::new();
    let features = parsed(&bundle.do_(&["features"]).ok());
    for (list, word) in [
        ("/hooks", "startContainer"),
        ("/mountOptions", "rro"),
        ("/linux/namespaces", "time"),
        ("/linux/capabilities", "CAP_BPF"),
        ("/linux/seccomp/actions", "SCMP_ACT_NOTIFY"),
    ] {
        let list = features
            .pointer(list)
            .and_then(Value::as_array)
            .unwrap_or_else(|| panic!("{list}"));
        assert!(list.contains(&json!(word)), "{word}");
    }
    assert_eq!(features["linux"]["intelRdt"]["enabled"], json!(false));
    assert!(bundle.do_(&["--version"]).ok().contains("spec: 1."));
    bundle
        .do_(&["--log", "log", "--log-format", "json", "state", "nosuch"])
        .fails(1, "does not exist");
    let log = parsed(std::fs::read_to_string(bundle.path("log")).expect("the log").trim());
    assert_eq!(log["level"], "error");
    assert!(
        log["msg"].as_str().is_some_and(|m| m.contains("does not exist")),
        "{log}"
    );
    bundle.do_(&["--log-format", "xml", "list"]).fails(1, "log-format");
    bundle.do_(&["--rootless", "perhaps", "list"]).fails(1, "--rootless");
    bundle.do_(&["fly"]).fails(1, "fly");
    bundle.do_(&["list", "--fast"]).fails(1, "--fast");
    // A document for a user: with a mapping of its own.
    let place = bundle.path("user");
    std::fs::create_dir(&place).expect("a directory");
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o755)).expect("open it");
    bundle
        .do_(&["spec", "--rootless", "--bundle", &place.display().to_string()])
        .ok();
    let text = std::fs::read_to_string(place.join("config.json")).expect("the document");
    assert_eq!(parsed(&text)["linux"]["uidMappings"][0]["size"], json!(1));
}

#[test]
fn a_root_that_cannot_be_left_is_entered_without_pivot_root() {
    for (runtime, mut bundle) in both() {
        let ran = bundle.script("ls /bin/busybox && cat /proc/1/comm && ls -d /proc/1/root/etc/debian_version");
        let ran = ran.do_(&["run", "--no-pivot", &Bundle::id()]);
        assert!(ran.out.starts_with("/bin/busybox\nsh"), "{runtime}: {ran:?}");
        assert!(!ran.out.contains("debian_version"), "{runtime}: {ran:?}");
    }
}
