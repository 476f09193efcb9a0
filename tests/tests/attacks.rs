//! Attacks that once worked on some engine, and must fail here. Each names the weakness it is known by.

use berth_tests::bundle::Bundle;
use berth_tests::registry::{Answer, Fake};
use berth_tests::{BUSYBOX, Berth, Tar, eventually};
use serde_json::json;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Takes hold of every program that it sees and that is not the container's own, and writes to it once it ends.
const TAKE_PROGRAMS: &str = "printf '#!/proc/self/exe\\n' > /evil; chmod +x /evil; echo ready; while :; do for p in /proc/[0-9]*; do \
    case \"$(readlink $p/exe)\" in /bin/*|'') ;; *) (exec 3<$p/exe || exit; echo held; for i in 1 2 3 4 5 6 7 8 9; do \
    echo pwned >> /proc/self/fd/3 && echo written; sleep 0.1; done) 2>/dev/null;; esac; done; done";

/// CVE-2019-5736: the engine's program, seen as `/proc/PID/exe` from inside, is written to.
#[test]
fn the_engines_program_cannot_be_written_from_inside() {
    let berth = Berth::new();
    // A copy, so that no other test's use of the program keeps the kernel from letting it be written.
    let copy = berth.path("program");
    berth_tests::place_program(std::fs::File::open(berth_tests::program()).unwrap(), &copy);
    let before = std::fs::read(&copy).unwrap();
    for flags in [&[][..], &["--privileged"]] {
        let id = berth.start(flags, &["sh", "-c", TAKE_PROGRAMS]);
        eventually("it watches", || berth.run(&["logs", &id]).out.contains("ready"));
        for round in 0..30 {
            let program = if round % 2 == 0 { "/evil" } else { "/bin/true" };
            let mut command = std::process::Command::new(&copy);
            command
                .args(["exec", &id, program])
                .env("BERTH_DATA", berth.path("data"))
                .env("BERTH_RUN", berth.path("run"));
            command.output().expect("start the copy");
        }
        std::thread::sleep(std::time::Duration::from_millis(1200));
        let log = berth.run(&["logs", &id]).out;
        berth.run(&["rm", "-f", &id]).ok();
        assert!(!log.contains("written"), "{flags:?}: {log}");
        assert!(
            std::fs::read(&copy).unwrap() == before,
            "{flags:?}: the program was changed"
        );
    }
}

/// The same of `berth oci`, whose containers have users of their own only if the document says so; started by `run` and by
/// `exec`.
#[test]
fn the_runtimes_program_cannot_be_written_from_inside() {
    let dir = Berth::empty();
    let copy = dir.path("program");
    berth_tests::place_program(std::fs::File::open(berth_tests::program()).unwrap(), &copy);
    let before = std::fs::read(&copy).unwrap();
    let mut bundle = Bundle::of(&[&copy, "oci"]);
    let log = bundle.path("rootfs/log");
    let id = Bundle::id();
    bundle.script(&format!("exec > /log; {TAKE_PROGRAMS}"));
    bundle.detached(&["run", "-d", &id]).ok();
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    eventually("it watches", || read().contains("ready"));
    let state: serde_json::Value = serde_json::from_str(&bundle.do_(&["state", &id]).ok()).unwrap();
    let held = || read().matches("held").count();
    eventually("a process that joins is seen", || {
        bundle.do_(&["exec", &id, "/evil"]);
        held() > 4
    });
    // A container whose processes the first one sees.
    for namespace in bundle.config["linux"]["namespaces"].as_array_mut().unwrap() {
        if namespace["type"] == "pid" {
            namespace["path"] = json!(format!("/proc/{}/ns/pid", state["pid"]));
        }
    }
    bundle.args(&["/evil"]);
    eventually("a first process is seen", || {
        bundle.run();
        held() > 9
    });
    // Who holds a program writes for so long.
    std::thread::sleep(std::time::Duration::from_millis(1200));
    let said = read();
    bundle.do_(&["delete", "--force", &id]).ok();
    assert!(!said.contains("written"), "{said}");
    assert!(std::fs::read(&copy).unwrap() == before, "the program was changed");
}

/// CVE-2024-21626: a working directory that is one of the engine's own descriptors.
#[test]
fn no_descriptor_of_the_engine_is_a_way_out() {
    let berth = Berth::new();
    let id = berth.start(&[], &["sleep", "60"]);
    for number in 3..24 {
        let dir = format!("/proc/self/fd/{number}");
        for arguments in [
            &[
                "run",
                "--rm",
                "--network",
                "none",
                "-w",
                &dir,
                BUSYBOX,
                "sh",
                "-c",
                "cd ../../../..; ls",
            ][..],
            &["exec", "-w", &dir, &id, "sh", "-c", "cd ../../../..; ls"],
        ] {
            let ran = berth.run(arguments);
            assert_ne!(ran.code, 0, "{arguments:?}: {ran:?}");
            assert_eq!(ran.out, "", "{arguments:?}");
        }
    }
}

/// CVE-2016-9962: what a process that joins has open is there for the container's processes to take.
#[test]
fn a_joining_process_brings_nothing_of_the_hosts() {
    let berth = Berth::new();
    let watch = "while :; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] || { readlink $p/cwd; readlink $p/root; \
        for f in $p/fd/*; do readlink $f; done; }; done >> /seen 2>/dev/null; done";
    let id = berth.start(&["--cap-add", "SYS_PTRACE"], &["sh", "-c", watch]);
    eventually("it watches", || {
        berth.run(&["exec", &id, "test", "-e", "/seen"]).code == 0
    });
    for _ in 0..30 {
        berth.run(&["exec", &id, "true"]).ok();
    }
    let seen = berth.run(&["exec", &id, "sort", "-u", "/seen"]).ok();
    let harmless = |l: &&str| {
        ["pipe:", "socket:", "anon_inode:", "/dev/", "/proc"]
            .iter()
            .any(|h| l.starts_with(h))
            || matches!(*l, "/" | "/seen" | "")
    };
    let strange: Vec<_> = seen.lines().filter(|l| !harmless(l)).collect();
    assert!(strange.is_empty(), "seen from inside: {strange:?}");
}

/// CVE-2022-0492, CVE-2020-14298: the host's cgroups, and the program that the kernel runs when one is empty.
#[test]
fn the_hosts_cgroups_are_out_of_reach() {
    let berth = Berth::new();
    let script = "for t in 'cgroup -o memory' 'cgroup -o rdma' 'cgroup2'; do mkdir -p /tmp/c; mount -t $t x /tmp/c 2>/dev/null && \
        { echo /bin/true > /tmp/c/release_agent && echo agent; mkdir /tmp/c/made && echo made; umount /tmp/c; }; done; \
        for f in $(find / -xdev -name release_agent; find /sys/fs/cgroup -name release_agent); do echo x > $f && echo $f; done; echo end";
    for flags in [
        &[][..],
        &[
            "--cap-add",
            "SYS_ADMIN",
            "--security-opt",
            "seccomp=unconfined",
            "--security-opt",
            "systempaths=unconfined",
        ],
    ] {
        let ran = berth.busybox(flags, &["sh", "-c", script]);
        assert_eq!(ran.out.replace("made\n", ""), "end", "{flags:?}: {ran:?}");
        assert!(flags.len() > 1 || !ran.out.contains("made"), "{ran:?}");
    }
}

/// CVE-2022-24769, CVE-2022-29162: capabilities that a program without any would inherit.
#[test]
fn no_capability_is_inherited() {
    let berth = Berth::new();
    let id = berth.start(&[], &["sleep", "60"]);
    let awk = ["awk", "/CapInh|CapAmb/{print $2}", "/proc/self/status"];
    for user in ["0", "1000"] {
        assert_eq!(
            berth.busybox(&["-u", user], &awk).ok(),
            "0000000000000000\n0000000000000000"
        );
        assert_eq!(
            berth.run(&[&["exec", "-u", user, &id], &awk[..]].concat()).ok(),
            "0000000000000000\n0000000000000000"
        );
    }
}

/// CVE-2014-6407, CVE-2014-9356 and all zip-slips: entries that lead out of the layer.
#[test]
fn layers_stay_where_they_are() {
    let berth = Berth::empty();
    let outside = berth.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(format!("{outside}/keep"), "kept").unwrap();
    type Case = (&'static str, fn(&mut Tar, &str));
    let cases: &[Case] = &[
        ("above", |tar, _| {
            tar.file("../../../../../../../../../../var/tmp/berth-pwned", 0o644, b"x")
        }),
        ("absolute", |tar, outside| {
            tar.file(&format!("{outside}/pwned"), 0o644, b"x")
        }),
        ("through a link", |tar, outside| {
            tar.link("esc", outside);
            tar.file("esc/pwned", 0o644, b"x");
        }),
        ("a directory through a link", |tar, outside| {
            tar.link("esc", outside);
            tar.directory("esc/pwned/deep", 0o777);
        }),
        ("over a file through a link", |tar, outside| {
            tar.link("esc", outside);
            tar.file("esc/keep", 0o644, b"pwned");
        }),
        ("a link to a file, written again", |tar, outside| {
            tar.link("f", &format!("{outside}/keep"));
            tar.file("f", 0o644, b"pwned");
        }),
        ("a hard link to the outside", |tar, outside| {
            tar.hard_link("h", &format!("{outside}/keep"))
        }),
        ("a hard link through a link", |tar, outside| {
            tar.link("esc", outside);
            tar.hard_link("h", "esc/keep");
            tar.file("h", 0o644, b"pwned");
        }),
        ("a whiteout through a link", |tar, outside| {
            tar.link("esc", outside);
            tar.file("esc/.wh.keep", 0o644, b"");
        }),
        ("an opaque mark through a link", |tar, outside| {
            tar.link("esc", outside);
            tar.file("esc/.wh..wh..opq", 0o644, b"");
        }),
        ("a whiteout of the parent", |tar, _| tar.file("a/.wh...", 0o644, b"")),
        ("a whiteout of itself", |tar, _| tar.file(".wh..", 0o644, b"")),
        ("a whiteout of nothing", |tar, _| tar.file(".wh.", 0o644, b"")),
    ];
    for (number, (name, make)) in cases.iter().enumerate() {
        let mut tar = Tar::default();
        make(&mut tar, &outside);
        tar.file("last", 0o644, b"x");
        let file = berth.path("layer.tar");
        std::fs::write(&file, tar.finish()).unwrap();
        let ran = berth.run(&["import", &file, &format!("hostile:{number}")]);
        assert!(ran.code == 0 || ran.code == 1 && !ran.err.is_empty(), "{name}: {ran:?}");
        let names: Vec<_> = std::fs::read_dir(&outside)
            .unwrap()
            .flatten()
            .map(|e| e.file_name())
            .collect();
        assert_eq!(names, ["keep"], "{name}");
        assert_eq!(
            std::fs::read_to_string(format!("{outside}/keep")).unwrap(),
            "kept",
            "{name}"
        );
        assert!(!Path::new("/var/tmp/berth-pwned").exists(), "{name}");
        assert!(
            berth.path("data").starts_with("/var/tmp/") && Path::new(&berth.path("data")).exists(),
            "{name}"
        );
    }
}

/// Device nodes that come with a layer or a bind mount: they are there, and give nothing.
#[test]
fn devices_of_an_image_cannot_be_used() {
    let berth = Berth::new();
    let shell = |line: &str| {
        let status = std::process::Command::new("sh").args(["-ec", line]).status().unwrap();
        assert!(status.success(), "{line}");
    };
    let (fs, tar) = (berth.path("fs"), berth.path("fs.tar"));
    // Major 1 is memory (11: the kernel's log), major 7 loop devices.
    shell(&format!(
        "mkdir {fs}; tar -C {fs} -xf {}; mknod -m 666 {fs}/log c 1 11; mknod -m 666 {fs}/disk b 7 0; tar -C {fs} -cf {tar} .",
        berth.path("busybox.tar")
    ));
    berth.run(&["import", &tar, "devices:1"]).ok();
    let bind = format!("{fs}:/bound");
    for flags in [&[][..], &["--userns", "host"]] {
        for dir in ["", "/bound"] {
            let script = format!("cd {dir}/; stat -c %F:%t:%T log disk; cat log; cat disk; (: > log); true");
            let image = ["-v", &bind, "devices:1", "sh", "-c", &script];
            let ran = berth.run(&[&["run", "--rm", "--network", "none"], flags, &image].concat());
            assert_eq!(ran.out, "character special file:1:b\nblock special file:7:0", "{ran:?}");
            let refused = ["ermission denied", "not permitted"].map(|words| ran.err.matches(words).count());
            assert_eq!(refused.iter().sum::<usize>(), 3, "{dir:?} {flags:?} {ran:?}");
        }
    }
}

/// CVE-2021-41190, CVE-2024-3727: digests and names in archives and manifests that are paths.
#[test]
fn digests_and_names_are_no_paths() {
    let berth = Berth::empty();
    let secret = berth.path("secret");
    std::fs::write(
        &secret,
        r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#,
    )
    .unwrap();
    let file = berth.path("archive.tar");
    for config in [secret.as_str(), "../../../../../../../../etc/passwd", "link.json"] {
        let mut tar = Tar::default();
        tar.link("link.json", &secret);
        tar.file(
            "manifest.json",
            0o644,
            format!(r#"[{{"Config":"{config}","RepoTags":["x:1"],"Layers":[]}}]"#).as_bytes(),
        );
        std::fs::write(&file, tar.finish()).unwrap();
        let ran = berth.run(&["load", "-i", &file]);
        assert_eq!(ran.code, 1, "{config}: {ran:?}");
    }
    let (fake, kind) = (Fake::start(), "application/vnd.oci.image.manifest.v1+json");
    for digest in [
        "sha256:../../../../../../../../etc/passwd",
        "../x",
        "sha256:",
        "sha256:ABC",
        "md5:d41d8cd98f00b204e9800998ecf8427e",
    ] {
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":5}},"layers":[]}}"#
        );
        fake.answer("box/manifests/1", Answer::ok(kind, manifest));
        let ran = berth.run(&["pull", &format!("{}/box:1", fake.address)]);
        assert_eq!(ran.code, 1, "{digest}: {ran:?}");
        assert!(ran.err.contains(&fake.address), "{digest}: {ran:?}");
    }
    assert!(
        !fake
            .requests
            .lock()
            .unwrap()
            .iter()
            .any(|r| r.lines().next().unwrap().contains("..")),
        "it was asked for"
    );
    assert_eq!(berth.run(&["images", "-aq"]).ok(), "");
}

/// Names that users give are no paths either.
#[test]
fn names_are_no_paths() {
    let berth = Berth::new();
    let before: usize = std::fs::read_dir(berth.dir.path()).unwrap().count();
    berth.run(&["volume", "create", "../../escaped"]).fails(1, "escaped");
    berth
        .busybox(&["--name", ".."], &["true"])
        .fails(125, "Invalid container name (..)");
    for words in [
        &["inspect", "../containers"][..],
        &["rm", "../data"],
        &["logs", "."],
        &["volume", "rm", ".."],
        &["rmi", "../x"],
    ] {
        assert_ne!(berth.run(words).code, 0, "{words:?}");
    }
    assert_eq!(std::fs::read_dir(berth.dir.path()).unwrap().count(), before);
    assert_eq!(berth.sh(&[], "echo fine"), "fine");
}

/// Mounts over the kernel's own trees would take the masks off.
#[test]
fn nothing_is_mounted_inside_proc() {
    let berth = Berth::new();
    let dir = berth.path("dir");
    std::fs::create_dir(&dir).unwrap();
    for place in ["/proc/sys", "/proc/self", "/tmp/../proc/kcore"] {
        let ran = berth.busybox(&["-v", &format!("{dir}:{place}")], &["true"]);
        assert!((125..=127).contains(&ran.code), "{place}: {ran:?}");
        assert!(ran.err.contains("/proc"), "{place}: {ran:?}");
    }
}

/// Escape sequences in what a container, or an image, made up do not reach the user's terminal.
#[test]
fn tables_and_errors_carry_no_escape_sequences() {
    let berth = Berth::new();
    let evil = "\u{1b}]0;evil\u{7}\u{1b}[31m";
    let id = berth.start(
        &["-l", &format!("evil={evil}")],
        &["sh", "-c", &format!("sleep 60 # {evil}")],
    );
    for words in [
        &["ps", "--no-trunc"][..],
        &["top", &id],
        &["exec", &id, evil],
        &["inspect", &id],
        &["run", "--rm", "--network", "none", BUSYBOX, evil],
    ] {
        let ran = berth.run(words);
        assert!(
            !ran.out.contains('\u{1b}') && !ran.err.contains('\u{1b}'),
            "{words:?}: {ran:?}"
        );
    }
}

/// CVE-2021-30465: a link takes a mount point's place, and is taken away again, while mounts are made.
#[test]
fn mounts_stay_below_the_root_whatever_becomes_of_their_places() {
    let mut bundle = Bundle::new();
    let (outside, place, link) = (
        bundle.path("outside"),
        bundle.path("rootfs/place"),
        bundle.path("rootfs/link"),
    );
    std::fs::create_dir(&outside).unwrap();
    std::fs::create_dir(&place).unwrap();
    symlink(&outside, &link).unwrap();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    for name in ["one", "two/three"] {
        mounts.push(json!({ "destination": format!("/place/{name}"), "type": "tmpfs", "source": "tmpfs" }));
    }
    bundle.args(&["true"]);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let (at, with) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
                rustix::fs::renameat_with(at, &place, at, &link, with).unwrap();
                std::thread::sleep(std::time::Duration::from_micros(50));
            }
        });
        for _ in 0..40 {
            // It may well fail; what it made is what counts.
            bundle.run();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let made: Vec<_> = std::fs::read_dir(&outside)
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .collect();
    assert!(made.is_empty(), "{made:?}");
}

/// CVE-2019-19921, CVE-2023-27561, CVE-2023-28642: `/proc` and `/sys` are where masks and protections expect them.
#[test]
fn the_kernels_trees_are_mounted_on_no_link() {
    for name in ["proc", "sys"] {
        let mut bundle = Bundle::new();
        let place = bundle.path("rootfs").join(name);
        std::fs::create_dir(bundle.path("rootfs/elsewhere")).unwrap();
        let _ = std::fs::remove_dir(&place);
        symlink("/elsewhere", &place).unwrap();
        let ran = bundle.args(&["true"]).run();
        ran.fails(1, "must be mounted on ordinary directory");
    }
}

/// CVE-2025-52881: what is written to the kernel's settings goes there, or nowhere.
#[test]
fn settings_are_written_to_the_kernel_alone() {
    let mut bundle = Bundle::new();
    let place = bundle.path("rootfs/proc/sys/net/ipv4");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(bundle.path("rootfs/stolen"), "").unwrap();
    symlink("/stolen", place.join("ip_forward")).unwrap();
    std::fs::write(place.join("ip_default_ttl"), "").unwrap();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|m| m["destination"] != "/proc");
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    bundle.args(&["true"]);
    for name in ["net.ipv4.ip_forward", "net.ipv4.ip_default_ttl"] {
        bundle.config["linux"]["sysctl"] = json!({ name: "1" });
        bundle.run().fails(1, "set sysctl");
    }
    assert_eq!(std::fs::read_to_string(bundle.path("rootfs/stolen")).unwrap(), "");
    assert_eq!(std::fs::read_to_string(place.join("ip_default_ttl")).unwrap(), "");
}

/// CVE-2025-52565: a terminal is bound where the image says that `/dev/console` is, and not outside.
/// Twice guarded: the path is resolved below the root, and only once the host's is out of sight.
#[test]
fn the_console_is_inside() {
    let mut bundle = Bundle::new();
    let outside = bundle.path("outside");
    std::fs::write(&outside, "kept").unwrap();
    std::fs::create_dir_all(bundle.path("rootfs/dev/pts")).unwrap();
    let new = bundle.path("new");
    symlink(&new, bundle.path("rootfs/dev/console")).unwrap();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|m| !["/dev", "/dev/shm", "/dev/mqueue"].contains(&m["destination"].as_str().unwrap()));
    bundle.config["process"]["terminal"] = json!(true);
    let ran = bundle.script("tty; ls -l /dev/console | grep -c ^l").run();
    assert!(!new.exists(), "{ran:?}");
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "kept");
    assert_eq!(ran.out, "/dev/pts/0\n1", "{ran:?}");
}

/// CVE-2025-52565: what is bound on `/dev/console` is the terminal itself, not what the image has by its name.
#[test]
fn the_console_is_the_terminal() {
    let mut bundle = Bundle::new();
    std::fs::create_dir_all(bundle.path("rootfs/dev/pts")).unwrap();
    std::fs::write(bundle.path("rootfs/dev/pts/ptmx"), "").unwrap();
    std::fs::write(bundle.path("rootfs/bait"), "bait").unwrap();
    // The terminals are elsewhere (where the kernel looks for them, beside ptmx), and number 0 is the image's.
    symlink("/bait", bundle.path("rootfs/dev/pts/0")).unwrap();
    let own = bundle.path("rootfs/dev/pts/pts/ptmx");
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|m| !["/dev", "/dev/shm", "/dev/mqueue"].contains(&m["destination"].as_str().unwrap()));
    for mount in mounts.iter_mut().filter(|m| m["destination"] == "/dev/pts") {
        mount["destination"] = json!("/dev/pts/pts");
    }
    mounts.push(json!({ "destination": "/dev/pts/ptmx", "type": "bind", "source": own, "options": ["bind"] }));
    bundle.config["process"]["terminal"] = json!(true);
    let ran = bundle.script("stat -c %t:%T /dev/console; stat -c %s /bait").run();
    assert_eq!(ran.out, "88:0\n4", "{ran:?}");
}

/// Characters that a program puts into the input of the terminal that it was started from (TIOCSTI).
#[test]
fn nothing_is_typed_into_the_terminal_it_was_started_from() {
    let mut bundle = Bundle::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/type.c");
    let built = std::process::Command::new("gcc")
        .args(["-static", "-O1", "-o"])
        .arg(bundle.path("rootfs/bin/type"))
        .arg(source)
        .status();
    assert!(built.expect("gcc").success());
    let id = Bundle::id();
    bundle.args(&["sleep", "100"]);
    bundle.detached(&["run", "-d", &id]).ok();
    bundle.args(&["/bin/type"]);
    for arguments in [&["run", &Bundle::id()][..], &["exec", &id, "/bin/type"]] {
        // Of its own session, whose controlling terminal this is.
        let mut words = vec!["-qec".to_owned()];
        let command = bundle.command(arguments);
        let word = |w: &std::ffi::OsStr| format!("'{}'", w.to_str().unwrap());
        let line: Vec<String> = [command.get_program()]
            .into_iter()
            .chain(command.get_args())
            .map(word)
            .collect();
        words.push(format!("cd '{}'; {}", bundle.dir.path().display(), line.join(" ")));
        let ran = std::process::Command::new("script")
            .args(words)
            .arg("/dev/null")
            .stdin(std::process::Stdio::null())
            .output()
            .expect("script");
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(
            said.contains("typed: -1 (Operation not permitted)"),
            "{arguments:?}: {said}"
        );
    }
    bundle.do_(&["delete", "--force", &id]).ok();
}
