//! `run` does what was asked, with Docker's exit codes.

use berth_tests::{BUSYBOX, Berth, eventually};

#[test]
fn exit_codes_and_streams_are_the_containers() {
    let berth = Berth::new();
    let ran = berth.busybox(&[], &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (7, "out", "err"));
    assert_eq!(berth.busybox(&["--init"], &["sh", "-c", "kill -9 $$"]).code, 137);
    assert_eq!(
        berth.busybox(&[], &["sh", "-c", "kill -TERM $$; true"]).code,
        0,
        "the first process has no default actions"
    );
}

#[test]
fn input_reaches_the_container_and_ends() {
    let berth = Berth::new();
    let ran = berth.feed(
        &["run", "--rm", "-i", "--network", "none", BUSYBOX, "wc", "-c"],
        &vec![b'x'; 1_000_000],
    );
    assert_eq!(ran.ok(), "1000000");
}

#[test]
fn large_output_arrives_whole() {
    let berth = Berth::new();
    let out = berth.sh(
        &[],
        "i=0; while [ $i -lt 20000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done",
    );
    assert_eq!(out.len(), 20_000 * 41 - 1);
}

#[test]
fn settings_are_seen_inside() {
    let berth = Berth::new();
    std::fs::write(berth.path("env"), "# x\nFROM_FILE=1\nA=file\n").unwrap();
    let (env, cid) = (berth.path("env"), berth.path("cid"));
    let flags = [
        "--hostname",
        "hh",
        "--add-host",
        "a:1.2.3.4",
        "-w",
        "/new/dir",
        "--env-file",
        &env,
        "-e",
        "A=2",
        "-l",
        "k=v",
        "--cidfile",
        &cid,
        "--name",
        "named",
        "--entrypoint",
        "sh",
        "--dns",
        "9.9.9.9",
        "--shm-size",
        "1m",
    ];
    let script = "hostname; pwd; echo $A$FROM_FILE $HOSTNAME; grep -c 1.2.3.4 /etc/hosts; cat /etc/resolv.conf; df -k /dev/shm | tail -1 | awk '{print $2}'";
    let out = berth.busybox(&flags, &["-c", script]).ok();
    assert_eq!(out.lines().collect::<Vec<_>>()[..4], ["hh", "/new/dir", "21 hh", "1"]);
    assert!(out.contains("nameserver 9.9.9.9") && out.ends_with("\n1024"), "{out}");
    assert_eq!(std::fs::read_to_string(&cid).unwrap().len(), 64);
    berth
        .busybox(&["--cidfile", &cid], &["true"])
        .fails(125, "container ID file found");
}

#[test]
fn an_init_reaps_and_passes_signals_on() {
    let berth = Berth::new();
    let id = berth.start(
        &["--init"],
        &[
            "sh",
            "-c",
            "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done",
        ],
    );
    eventually("it is set up", || berth.run(&["logs", &id]).out == "ready");
    assert!(
        berth
            .run(&["exec", &id, "sh", "-c", "tr '\\0' ' ' < /proc/2/cmdline"])
            .ok()
            .starts_with("sh -c")
    );
    berth.run(&["exec", "-d", &id, "sh", "-c", "sleep 0.1 & exit 0"]).ok();
    eventually("no zombies", || {
        !berth.run(&["exec", &id, "ps"]).out.contains("[sleep]")
    });
    berth.run(&["stop", &id]).ok();
    assert_eq!(berth.inspect(&id, "{{.State.ExitCode}}"), "5");
    assert_eq!(berth.busybox(&["--init"], &["sh", "-c", "exit 9"]).code, 9);
}

#[test]
fn a_detached_container_goes_on_and_with_rm_it_goes() {
    let berth = Berth::new();
    let id = berth.start(
        &["--rm", "--name", "det"],
        &["sh", "-c", "until [ -e /go ]; do sleep 0.05; done"],
    );
    assert_eq!(id.len(), 64);
    assert!(berth.run(&["ps", "-q", "--no-trunc"]).ok().contains(&id));
    berth.run(&["exec", "det", "touch", "/go"]).ok();
    eventually("it is gone", || berth.run(&["ps", "-aq"]).out.is_empty());
}

#[test]
fn signals_are_passed_on() {
    let berth = Berth::new();
    let script = "trap 'echo got; exit 4' INT; echo ready; while :; do sleep 0.05; done";
    let mut child = berth.spawn(&[
        "run",
        "--rm",
        "--name",
        "sig",
        "--network",
        "none",
        BUSYBOX,
        "sh",
        "-c",
        script,
    ]);
    eventually("it runs", || berth.run(&["logs", "sig"]).out.contains("ready"));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(4));
}

#[test]
fn at_most_three_programs_and_two_new_processes() {
    let berth = Berth::new();
    let trace = berth.path("trace");
    let mut command = std::process::Command::new("strace");
    command
        .args(["-f", "-qq", "-e", "trace=execve,clone,clone3,fork,vfork", "-o", &trace])
        .arg(berth_tests::program());
    command.args(["run", "--rm", "--network", "none", BUSYBOX, "/bin/true"]);
    command
        .env("BERTH_DATA", berth.path("data"))
        .env("BERTH_RUN", berth.path("run"));
    assert!(command.output().expect("strace is installed").status.success());
    let trace = std::fs::read_to_string(trace).unwrap();
    let good = |calls: &[&str]| {
        trace
            .lines()
            .filter(|l| calls.iter().any(|c| l.contains(c)) && !l.contains(" = -1 ") && !l.contains("<unfinished"))
            .count()
    };
    assert!(good(&["execve"]) <= 3, "{trace}");
    assert!(good(&["clone(", "clone3", "fork("]) <= 2, "{trace}");
}
