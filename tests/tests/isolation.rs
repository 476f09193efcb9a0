//! What a container sees, from inside and from outside.

use berth_tests::{BUSYBOX, Berth, eventually};
use std::os::unix::fs::MetadataExt;

#[test]
fn users_inside_are_others_outside() {
    let berth = Berth::new();
    let id = berth.start(&["-u", "1234:1235"], &["sleep", "60"]);
    assert_eq!(
        berth.run(&["exec", &id, "sh", "-c", "id -u; id -g; stat -c %u /"]).ok(),
        "1234\n1235\n0"
    );
    let pid = berth.inspect(&id, "{{.State.Pid}}");
    let outside = std::fs::metadata(format!("/proc/{pid}")).unwrap().uid();
    assert!(outside >= 0x7000_0000 && outside % 65_536 == 1234, "{outside}");
    let other = berth.start(&[], &["sleep", "60"]);
    let other = std::fs::metadata(format!("/proc/{}", berth.inspect(&other, "{{.State.Pid}}")))
        .unwrap()
        .uid();
    assert_ne!(other / 65_536, outside / 65_536, "each container has its own");
    assert_eq!(
        berth.sh(&["--userns", "host"], "awk '{print $1, $2}' /proc/self/uid_map"),
        "0 0"
    );
}

/// Directories of people count from 100,000 on.
#[test]
fn users_with_high_numbers_are_users_too() {
    let berth = Berth::new();
    let dir = berth.path("shared");
    std::fs::create_dir(&dir).unwrap();
    std::os::unix::fs::chown(&dir, Some(123_456), Some(200_000)).unwrap();
    let volume = format!("{dir}:/shared");
    let script = "id -u; id -g; echo mine > /shared/file; stat -c '%u %g' /shared /shared/file";
    assert_eq!(
        berth.sh(&["-u", "123456:200000", "-v", &volume], script),
        "123456\n200000\n123456 200000\n123456 200000"
    );
    let file = std::fs::metadata(format!("{dir}/file")).unwrap();
    assert_eq!((file.uid(), file.gid()), (123_456, 200_000));
    let beyond = berth.run(&["run", "--rm", "--network", "none", "-u", "1000700000", BUSYBOX, "true"]);
    assert_ne!(beyond.code, 0);
    assert!(
        beyond.err.contains("none of the ids of the container's user namespace"),
        "{}",
        beyond.err
    );
}

/// As somebody does who looks into a running container with tools of another image.
#[test]
fn processes_can_be_shared() {
    let berth = Berth::new();
    let id = berth.start(&["--name", "watched"], &["sleep", "4321"]);
    let sees = berth.run(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--pid",
        "container:watched",
        BUSYBOX,
        "ps",
        "-o",
        "pid,args",
    ]);
    let sees = sees.ok();
    assert!(sees.contains("1 sleep 4321"), "{sees}");
    let script = "echo /proc/1/root/bin/busy*; cat /proc/1/comm";
    let killed = berth.run(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--pid",
        &format!("container:{id}"),
        BUSYBOX,
        "sh",
        "-c",
        script,
    ]);
    assert!(
        killed.out.starts_with("/proc/1/root/bin/busybox\nsleep"),
        "{}{}",
        killed.out,
        killed.err
    );
    berth.run(&["stop", "-t", "0", "watched"]).ok();
    let gone = berth.run(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--pid",
        "container:watched",
        BUSYBOX,
        "true",
    ]);
    assert_eq!(gone.code, 125);
    assert!(
        gone.err
            .contains("cannot join PID namespace of a non running container"),
        "{}",
        gone.err
    );
    let unknown = berth.run(&["create", "--network", "none", "--pid", "container:nobody", BUSYBOX]);
    assert!(
        unknown
            .err
            .contains("joining PID namespace of container: No such container: nobody"),
        "{}",
        unknown.err
    );
    // What is left of whoever shared does not outlive it.
    berth.run(&["start", "watched"]).ok();
    berth.start(
        &["--name", "guest", "--pid", "container:watched"],
        &["sh", "-c", "sleep 777 & sleep 777 & exec sleep 778"],
    );
    berth.run(&["stop", "-t", "0", "guest"]).ok();
    let all = berth.run(&["exec", "watched", "ps", "-o", "args"]).ok();
    assert!(all.contains("sleep 4321") && !all.contains("sleep 777"), "{all}");
}

/// Shared memory, message queues and System V objects of another container, which has to allow it.
#[test]
fn memory_can_be_shared() {
    let berth = Berth::new();
    let donor = berth.start(
        &["--name", "donor", "--ipc", "shareable"],
        &["sh", "-c", "echo word > /dev/shm/word; exec sleep 4321"],
    );
    let namespace = || berth.run(&["exec", "donor", "readlink", "/proc/1/ns/ipc"]).ok();
    eventually("it has written", || {
        berth.run(&["exec", "donor", "cat", "/dev/shm/word"]).out == "word"
    });
    let script = "cat /dev/shm/word; stat -c %u /dev/shm/word; readlink /proc/self/ns/ipc; touch /dev/mqueue/queue; \
                  echo answer > /dev/shm/answer; grep -c ' /dev/shm .*nosuid,nodev,noexec' /proc/mounts";
    assert_eq!(
        berth.sh(&["--ipc", "container:donor"], script),
        format!("word\n0\n{}\n1", namespace())
    );
    let seen = berth.run(&["exec", "donor", "sh", "-c", "cat /dev/shm/answer; ls /dev/mqueue"]);
    assert_eq!(seen.ok(), "answer\nqueue");
    // Whoever shares may be shared with, and all of one container's at once.
    let all = ["--network", "--pid", "--ipc"].map(|flag| [flag, "container:donor"]);
    let all = [
        &["run", "-d", "--name", "guest"],
        &all.concat()[..],
        &[BUSYBOX, "sleep", "4322"],
    ]
    .concat();
    berth.run(&all).ok();
    assert_eq!(
        berth.inspect("guest", "{{.HostConfig.IpcMode}}"),
        format!("container:{donor}")
    );
    assert_eq!(berth.sh(&["--ipc", "container:guest"], "cat /dev/shm/answer"), "answer");
    berth.run(&["rm", "-f", "guest"]).ok();

    let private = berth.start(&["--name", "private"], &["sleep", "4321"]);
    berth.start(&["--name", "none", "--ipc", "none"], &["sleep", "4321"]);
    let mounted = berth.run(&["exec", "none", "grep", "-c", " /dev/shm ", "/proc/mounts"]);
    assert_eq!(mounted.out, "0");
    berth.start(
        &["--name", "hosts", "--ipc", "shareable", "--userns", "host"],
        &["sleep", "4321"],
    );
    let refused = |mode: &str, words: &str| berth.busybox(&["--ipc", mode], &["true"]).fails(125, words);
    let join = "failed to join IPC namespace: container";
    let hint = "non-shareable IPC (hint: use IpcMode:shareable for the donor container)";
    refused("container:private", &format!("{join} {private}: {hint}"));
    refused("container:none", hint);
    refused("container:nobody", "No such container: nobody");
    refused("bogus", "invalid IPC mode: bogus");
    refused("container:hosts", "cannot share the IPC namespace");
    let flags = ["--ipc", "container:hosts", "--userns", "host"];
    assert_eq!(berth.sh(&flags, "touch /dev/shm/x && echo may"), "may");
    berth.run(&["stop", "-t", "0", "donor"]).ok();
    refused("container:donor", &format!("{join} {donor} is not running"));
}

#[test]
fn processes_inside_see_only_their_own() {
    let berth = Berth::new();
    assert_eq!(berth.sh(&[], "echo /proc/[0-9]*"), "/proc/1");
    let id = berth.start(&[], &["sleep", "4321"]);
    assert!(berth.run(&["top", &id]).ok().contains("sleep 4321"), "the host sees it");
    let all: usize = berth
        .sh(&["--pid", "host"], "ls /proc | grep -c '^[0-9]'")
        .parse()
        .unwrap();
    assert!(all > 10, "{all}");
}

#[test]
fn all_namespaces_are_its_own_unless_asked() {
    let berth = Berth::new();
    let host = |name: &str| {
        std::fs::read_link(format!("/proc/self/ns/{name}"))
            .unwrap()
            .display()
            .to_string()
    };
    let inside = |flags: &[&str], name: &str| {
        berth
            .run(
                &[
                    &["run", "--rm"],
                    flags,
                    &[BUSYBOX, "readlink", &format!("/proc/self/ns/{name}")],
                ]
                .concat(),
            )
            .ok()
    };
    for name in ["user", "mnt", "pid", "ipc", "uts", "net", "cgroup"] {
        assert_ne!(inside(&["--network", "none"], name), host(name), "{name}");
    }
    for (flag, name) in [
        ("--pid=host", "pid"),
        ("--ipc=host", "ipc"),
        ("--uts=host", "uts"),
        ("--userns=host", "user"),
    ] {
        assert_eq!(inside(&["--network", "none", flag], name), host(name), "{flag}");
    }
    assert_eq!(inside(&["--network", "host"], "net"), host("net"));
    assert_eq!(
        berth.sh(
            &[],
            "ls /sys/class/net; cat /sys/class/net/lo/operstate; cat /proc/self/cgroup | grep '^0:'"
        ),
        "lo\nunknown\n0::/"
    );
}

#[test]
fn capabilities_are_dockers_fourteen() {
    let berth = Berth::new();
    let caps = |flags: &[&str]| berth.sh(flags, "awk '/CapEff|CapBnd/{print $2}' /proc/self/status");
    assert_eq!(caps(&[]), "00000000a80425fb\n00000000a80425fb");
    assert_eq!(
        caps(&["--cap-drop", "ALL", "--cap-add", "net_admin"]),
        "0000000000001000\n0000000000001000"
    );
    assert_eq!(caps(&["-u", "5"]), "0000000000000000\n00000000a80425fb");
    assert_eq!(
        berth.sh(
            &["--security-opt", "no-new-privileges"],
            "awk '/NoNewPrivs/{print $2}' /proc/self/status"
        ),
        "1"
    );
}

#[test]
fn masked_and_read_only_paths_are_so() {
    let berth = Berth::new();
    let script = "cat /proc/keys /proc/timer_list | wc -c; ls -A /sys/firmware | wc -l; echo 1 > /proc/sys/kernel/hostname; echo $?; mount -t tmpfs x /tmp; echo $?; touch /sys/x; echo $?";
    let ran = berth.busybox(&[], &["sh", "-c", script]);
    assert_eq!(ran.out, "0\n0\n1\n1\n1", "{ran:?}");
    let free = berth.sh(
        &["--security-opt", "systempaths=unconfined"],
        "ls /proc/sys/kernel | wc -l; grep -c ' /proc/' /proc/mounts; true",
    );
    assert!(free.ends_with("\n0"), "{free}");
}

#[test]
fn unknown_calls_get_enosys_and_forbidden_ones_eperm() {
    let berth = Berth::new();
    assert_eq!(berth.sh(&[], "awk '/^Seccomp:/{print $2}' /proc/self/status"), "2");
    berth
        .busybox(&[], &["unshare", "-U", "true"])
        .fails(1, "Operation not permitted");
    assert_eq!(
        berth.sh(
            &["--security-opt", "seccomp=unconfined"],
            "awk '/^Seccomp:/{print $2}' /proc/self/status"
        ),
        "0"
    );
    let profile = berth.path("profile.json");
    std::fs::write(&profile, r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}"#).unwrap();
    berth
        .busybox(&["--security-opt", &format!("seccomp={profile}")], &["mkdir", "/x"])
        .fails(1, "No space left");
}

#[test]
fn devices_are_the_harmless_ones() {
    let berth = Berth::new();
    let out = berth.sh(&[], "ls /dev | tr '\\n' ' '; echo; head -c 3 /dev/zero | wc -c; echo x > /dev/null; mknod /tmp/sda b 8 0 && cat /tmp/sda; echo $?");
    assert_eq!(
        out,
        "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero \n3\n1"
    );
}

#[test]
fn a_read_only_root_and_tmpfs() {
    let berth = Berth::new();
    let out = berth.sh(
        &["--read-only", "--tmpfs", "/t:size=1m,exec"],
        "touch /x; echo $?; touch /t/x; echo $?; df -k /t | tail -1 | awk '{print $2}'",
    );
    assert_eq!(out, "1\n0\n1024");
}

#[test]
fn open_files_are_limited_like_dockers() {
    let berth = Berth::new();
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .maximum
        .unwrap_or(u64::MAX);
    assert_eq!(berth.sh(&[], "ulimit -n"), hard.min(1_048_576).to_string());
    assert_eq!(
        berth.sh(
            &["--ulimit", "nofile=100:200", "--ulimit", "core=0"],
            "ulimit -n; ulimit -Hn; ulimit -c"
        ),
        "100\n200\n0"
    );
}

#[test]
fn privileged_is_everything_and_says_so() {
    let berth = Berth::new();
    let ran = berth.busybox(
        &["--privileged"],
        &[
            "sh",
            "-c",
            "mount -t tmpfs x /tmp && echo mounted; awk '{print $2}' /proc/self/uid_map",
        ],
    );
    assert_eq!((ran.code, ran.out.as_str()), (0, "mounted\n0"), "{ran:?}");
    assert!(ran.err.contains("root in the container is root on the host"));
}

#[test]
fn nothing_of_the_engine_is_open_inside() {
    let berth = Berth::new();
    let id = berth.start(&[], &["sleep", "60"]);
    assert_eq!(
        berth
            .run(&[
                "exec",
                &id,
                "sh",
                "-c",
                "ls /proc/self/fd | wc -l; ls /proc/1/fd | wc -l"
            ])
            .ok(),
        "4\n3"
    );
}

#[test]
fn children_inherit_all_of_it() {
    let berth = Berth::new();
    let script = "for f in user mnt pid net; do a=$(readlink /proc/self/ns/$f); b=$(sh -c \"sh -c 'readlink /proc/self/ns/$f'\"); [ $a = $b ] || echo differ; done; echo same";
    assert_eq!(berth.sh(&[], script), "same");
}

#[test]
fn limits_act() {
    let berth = Berth::new();
    let ran = berth.busybox(
        &["--name", "oom", "--memory", "20m"],
        &["sh", "-c", "x=a; while :; do x=$x$x; done"],
    );
    assert_eq!(ran.code, 137, "{ran:?}");
    assert!(ran.err.contains("killed for lack of memory"), "{ran:?}");
    let ran = berth.busybox(
        &["--pids-limit", "5"],
        &["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 60 & done; wait"],
    );
    assert!(ran.err.contains("can't fork"), "{ran:?}");
    let quota = berth.sh(
        &["--cpus", "0.5"],
        "cat /sys/fs/cgroup/cpu*/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null | head -1",
    );
    assert!(quota.starts_with("50000"), "{quota}");
}

/// `exec 9>lock; flock 9; berth run -d ...`: the lock is free when the script ends, not when the container does.
#[test]
fn what_the_caller_has_open_is_held_by_nobody_else() {
    let berth = Berth::new();
    let lock = berth.path("lock");
    let script = format!("exec 9>{lock}; flock 9; exec \"$@\"");
    let run = berth.command(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "held",
        BUSYBOX,
        "sleep",
        "60",
    ]);
    let mut held = std::process::Command::new("sh");
    held.args(["-c", &script, "sh"])
        .arg(run.get_program())
        .args(run.get_args());
    run.get_envs().for_each(|(name, value)| {
        held.env(name, value.unwrap_or_default());
    });
    berth.ran(held).ok();
    let free = std::process::Command::new("flock").args(["-n", &lock, "true"]).status();
    assert!(free.unwrap().success());
    assert_eq!(berth.inspect("held", "{{.State.Running}}"), "true");
}
