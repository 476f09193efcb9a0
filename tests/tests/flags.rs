//! Flags of `run`: devices, limits of devices, volumes of others, attached streams, log options.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use berth_tests::{BUSYBOX, Berth, eventually};

/// A block device of this host.
fn disk() -> String {
    let list = std::fs::read_dir("/dev").unwrap().flatten();
    let block = |e: &std::fs::DirEntry| e.file_type().is_ok_and(|t| t.is_block_device());
    let found = list.filter(block).map(|e| e.path().display().to_string()).min();
    found.expect("this host has a block device")
}

#[test]
fn devices_are_given_with_the_access_that_was_asked_for() {
    let berth = Berth::new();
    // A terminal's node, which no container may use by itself; on the host it is root's alone.
    let node = berth.path("node");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &node,
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::from_raw_mode(0o600),
        rustix::fs::makedev(1, 11),
    )
    .unwrap();
    let opens = "exec 3</dev/mine && echo read; exec 3>/dev/mine && echo write; stat -c '%t:%T %a %u' /dev/mine";
    let run = |access: &str| {
        let device = format!("{node}:/dev/mine{access}");
        // A shell ends at a failed exec: each in one of its own.
        let script = opens
            .replace("exec 3</dev/mine", "(exec 3</dev/mine)")
            .replace("exec 3>/dev/mine", "(exec 3>/dev/mine)");
        berth.busybox(&["--device", &device], &["sh", "-c", &script]).out
    };
    assert_eq!(run(":w"), "write\n1:b 600 0");
    assert_eq!(run(":rwm").lines().last(), Some("1:b 600 0"));
    let ran = berth.busybox(
        &["--device", &format!("{node}:/dev/mine:w")],
        &["sh", "-c", "echo x > /dev/mine"],
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    let denied = berth.busybox(
        &["-v", &format!("{node}:/dev/mine")],
        &["sh", "-c", "echo x > /dev/mine"],
    );
    assert_ne!(denied.code, 0, "a bind mount gives no device");
    // A directory stands for all nodes below it.
    std::fs::create_dir(berth.path("dir")).unwrap();
    std::fs::rename(&node, berth.path("dir/inner")).unwrap();
    let dir = format!("{}:/dev/dir", berth.path("dir"));
    assert_eq!(berth.busybox(&["--device", &dir], &["ls", "/dev/dir"]).ok(), "inner");
    for (flags, words) in [
        (
            ["--device", "/dev/nosuch"],
            "error gathering device information while adding custom device \"/dev/nosuch\": no such file",
        ),
        (["--device", "/etc/passwd"], "not a device node"),
        (["--device", "x"], "invalid device specification: x"),
        (
            ["--device-cgroup-rule", "c 1 r"],
            "invalid device cgroup rule format: 'c 1 r'",
        ),
        (
            ["--gpus", "all"],
            "could not select device driver \"\" with capabilities: [[gpu]]",
        ),
        (["--runtime", "other"], "unknown or invalid runtime name: other"),
    ] {
        berth.busybox(&flags, &["true"]).fails(125, words);
    }
    // What was given stays given when limits change.
    let device = format!("{}:/dev/mine:w", berth.path("dir/inner"));
    berth.start(&["--name", "up", "--device", &device], &["sleep", "60"]);
    berth.run(&["update", "--pids-limit", "50", "up"]).ok();
    berth.run(&["exec", "up", "sh", "-c", "echo x > /dev/mine"]).ok();
    let meta = std::fs::metadata(berth.path("dir/inner")).unwrap();
    assert_eq!(
        (meta.uid(), meta.permissions().mode() & 0o777),
        (0, 0o600),
        "the host's own node is as it was"
    );
}

#[test]
fn single_devices_are_limited() {
    let berth = Berth::new();
    let disk = disk();
    let id = berth.start(
        &[
            "--name",
            "slow",
            "--device-read-bps",
            &format!("{disk}:1mb"),
            "--device-write-iops",
            &format!("{disk}:100"),
        ],
        &["sleep", "60"],
    );
    let number = std::fs::metadata(&disk).unwrap().rdev();
    let number = format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number));
    let read = |place: &str, file: &str| {
        std::fs::read_to_string(format!("/sys/fs/cgroup/{place}berth/{id}/{file}")).unwrap_or_default()
    };
    let old = read("blkio/", "blkio.throttle.read_bps_device") + &read("blkio/", "blkio.throttle.write_iops_device");
    let new = read("", "io.max") + &read("unified/", "io.max");
    let limited = old == format!("{number} 1048576\n{number} 100\n")
        || (new.contains(&number) && new.contains("rbps=1048576") && new.contains("wiops=100"));
    assert!(limited, "{old:?} {new:?}");
    for (flag, words) in [
        ("x:1mb", "bad format for device path: x:1mb"),
        ("/dev/nosuch:1mb", "look at the device /dev/nosuch"),
    ] {
        berth.busybox(&["--device-read-bps", flag], &["true"]).fails(125, words);
    }
    berth
        .busybox(&["--memory-swappiness", "101"], &["true"])
        .fails(125, "valid memory swappiness range is 0-100");
    let ran = berth.busybox(
        &["-m", "32m", "--memory-swappiness", "0", "--oom-kill-disable"],
        &["true"],
    );
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn volumes_of_others_are_mounted_too() {
    let berth = Berth::new();
    let dir = berth.path("bound");
    std::fs::create_dir(&dir).unwrap();
    let bind = format!("{dir}:/bound:ro");
    berth
        .run(&[
            "create",
            "--name",
            "from",
            "--network",
            "none",
            "-v",
            "shared:/v",
            "-v",
            "/own",
            "-v",
            &bind,
            BUSYBOX,
            "true",
        ])
        .ok();
    let script = "echo x > /v/made && ls -d /own /bound && ! touch /bound/x 2>/dev/null";
    assert_eq!(berth.sh(&["--volumes-from", "from"], script), "/bound\n/own");
    assert_eq!(
        berth.sh(
            &["--volumes-from", "from:ro", "-v", "other:/own"],
            "cat /v/made; ! touch /v/x 2>/dev/null"
        ),
        "x"
    );
    berth
        .busybox(&["--volumes-from", "nosuch"], &["true"])
        .fails(125, "No such container: nosuch");
    berth
        .busybox(&["--volumes-from", "from:rx"], &["true"])
        .fails(125, "invalid mode");
    // A volume that stands for a directory of the host.
    berth
        .run(&[
            "volume",
            "create",
            "--opt",
            "type=none",
            "--opt",
            "o=bind",
            "--opt",
            &format!("device={dir}"),
            "stands",
        ])
        .ok();
    berth.sh(&["-v", "stands:/s"], "echo there > /s/f");
    assert_eq!(std::fs::read_to_string(format!("{dir}/f")).unwrap(), "there\n");
    berth.run(&["volume", "rm", "stands"]).ok();
    assert!(
        std::path::Path::new(&format!("{dir}/f")).exists(),
        "what it stood for is not its own"
    );
    berth
        .run(&["volume", "create", "--opt", "type=nfs", "--opt", "device=:/x"])
        .fails(125, "volumes of type \"nfs\": not supported yet");
    berth
        .run(&["volume", "update", "other"])
        .fails(1, "can only update cluster volumes");
    berth.run(&["rm", "-v", "from"]).ok();
    berth.run(&["volume", "rm", "shared", "other"]).ok();
}

#[test]
fn streams_are_attached_as_asked() {
    let berth = Berth::new();
    let script = "echo out; echo err >&2";
    let run = |flags: &[&str]| {
        let ran = berth.busybox(flags, &["sh", "-c", script]);
        (ran.code, ran.out, ran.err)
    };
    assert_eq!(run(&["-a", "stdout"]), (0, "out".into(), String::new()));
    assert_eq!(run(&["-a", "STDERR"]), (0, String::new(), "err".into()));
    assert_eq!(run(&["-a", "stdout", "-a", "stderr"]), (0, "out".into(), "err".into()));
    assert_eq!(run(&["-a", "nosuch"]).0, 125);
    assert_eq!(run(&["-d", "-a", "stdout"]).0, 125);
}

#[test]
fn lines_carry_what_log_options_ask_for() {
    let berth = Berth::new();
    let flags = [
        "--name",
        "log",
        "-l",
        "team=a",
        "-e",
        "X=1",
        "--log-opt",
        "labels=team,nosuch",
        "--log-opt",
        "env=X",
        "--log-opt",
        "tag={{.Name}}/{{.ImageName}}",
    ];
    berth.start(&flags, &["echo", "line"]);
    eventually("it has ended", || berth.inspect("log", "{{.State.Status}}") == "exited");
    assert_eq!(
        berth.run(&["logs", "--details", "log"]).ok(),
        "X=1,tag=log/busybox:test,team=a line"
    );
    assert_eq!(berth.run(&["logs", "log"]).ok(), "line");
    berth.start(
        &["--name", "local", "--log-driver", "local", "--log-opt", "max-size=1m"],
        &["echo", "kept"],
    );
    eventually("it has ended", || {
        berth.inspect("local", "{{.State.Status}}") == "exited"
    });
    assert_eq!(berth.run(&["logs", "local"]).ok(), "kept");
    berth
        .busybox(&["--log-opt", "nosuch=1"], &["true"])
        .fails(125, "unknown log opt 'nosuch' for json-file log driver");
    berth
        .run(&[
            "run",
            "--rm",
            "--network",
            "none",
            "--annotation",
            "a=b",
            BUSYBOX,
            "true",
        ])
        .ok();
    let cgroup = berth.sh(&["--cgroupns", "host"], "cat /proc/self/cgroup");
    assert!(cgroup.contains("/berth/"), "{cgroup}");
    assert!(!berth.sh(&[], "cat /proc/self/cgroup").contains("/berth/"));
}
