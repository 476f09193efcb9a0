//! What is promised in numbers and words besides: memory, progress, the tour, what the engine says of itself.

use berth_tests::registry::{Answer, Fake, Registry};
use berth_tests::terminal::Terminal;
use berth_tests::{BUSYBOX, Berth, eventually};
use std::time::Duration;

/// KiB of a process's memory that is nobody else's, and in no file.
fn private(pid: i32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the monitor's memory");
    let lines = rollup.lines().filter(|l| l.starts_with("Private_Dirty"));
    lines
        .map(|l| {
            l.split_whitespace()
                .nth(1)
                .and_then(|n| n.parse::<u64>().ok())
                .expect("a number")
        })
        .sum()
}

#[test]
fn an_idle_containers_monitor_costs_at_most_a_mebibyte_and_does_not_grow() {
    let berth = Berth::new();
    berth.start(&["--name", "idle"], &["sleep", "60"]);
    // A second one shares the program's pages with the first, as is usual on a host.
    berth.start(&[], &["sleep", "60"]);
    let monitor = berth.monitor("idle");
    let idle = private(monitor);
    assert!(idle <= 1024, "{idle} KiB");
    let use_it = |times| {
        for _ in 0..times {
            berth.run(&["exec", "idle", "true"]).ok();
        }
        private(monitor)
    };
    // The first ones may touch pages that later ones use again.
    let (used, used_more) = (use_it(100), use_it(100));
    assert!(
        used_more <= 1024 && used_more <= used + 64,
        "idle {idle} KiB, used {used} KiB, used more {used_more} KiB"
    );
    assert_eq!(
        std::fs::read_dir(format!("/proc/{monitor}/task")).unwrap().count(),
        1,
        "it has one thread"
    );
}

#[test]
fn the_tour_needs_nothing_and_shows_what_a_container_is() {
    let berth = Berth::empty();
    let out = berth.run(&["tour"]).ok();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(out.matches(kernel.trim()).count(), 2, "one kernel: {out}");
    for words in ["processes   1: 1", "is 1879048192 on the host", "network     lo"] {
        assert!(out.contains(words), "{words}: {out}");
    }
    assert_eq!(berth.run(&["ps", "-aq"]).ok(), "");
}

#[test]
fn a_pull_shows_bars_on_a_terminal_and_plain_lines_in_a_pipe() {
    let (berth, registry) = (Berth::new(), Registry::start());
    let name = registry.name("box:1");
    berth.run(&["tag", BUSYBOX, &name]).ok();
    berth.run(&["push", "-q", &name]).ok();
    let piped = Berth::empty().run(&["pull", &name]).ok();
    assert!(!piped.contains('\u{1b}') && !piped.contains('\r'), "{piped:?}");
    assert!(
        piped.contains(": Pull complete") && piped.contains("Digest: sha256:") && piped.ends_with(&name),
        "{piped}"
    );
    let seeing = Berth::empty();
    let terminal = Terminal::start(seeing.command(&["pull", &name]), 24, 100);
    terminal.expect("Status: Downloaded newer image");
    terminal.expect("\u{1b}[");
    assert_eq!(terminal.code(), 0);
    let quiet = Berth::empty();
    assert_eq!(quiet.run(&["pull", "-q", &name]).ok(), name);
}

#[test]
fn pulling_follows_the_policy() {
    let (berth, registry) = (Berth::new(), Registry::start());
    let name = registry.name("box:1");
    berth.run(&["tag", BUSYBOX, &name]).ok();
    berth.run(&["push", "-q", &name]).ok();
    let other = Berth::empty();
    let run = |policy: &str| {
        other.run(&[
            "run",
            "--rm",
            "--network",
            "none",
            "--pull",
            policy,
            &name,
            "echo",
            "ran",
        ])
    };
    run("never").fails(125, "No such image");
    assert!(run("missing").err.contains("Unable to find image"));
    assert_eq!(run("missing").err, "");
    assert!(run("always").err.contains("Image is up to date"));
    run("sometimes").fails(125, "sometimes");
    drop(registry);
    assert_eq!(run("missing").ok(), "ran", "what is here needs no registry");
    run("always").fails(125, name.split('/').next().unwrap());
}

#[test]
fn refused_credentials_are_said() {
    let (berth, fake) = (Berth::empty(), Fake::start());
    fake.answer(
        "box/manifests/1",
        Answer::status(401).header("WWW-Authenticate", "Basic realm=\"here\""),
    );
    std::fs::create_dir(berth.path(".docker")).unwrap();
    // "me:wrong" in base 64
    let config = format!(r#"{{"auths":{{"{}":{{"auth":"bWU6d3Jvbmc="}}}}}}"#, fake.address);
    std::fs::write(berth.path(".docker/config.json"), config).unwrap();
    let err = berth
        .run(&["pull", &format!("{}/box:1", fake.address)])
        .fails(1, "unauthorized");
    assert!(
        err.contains(&fake.address) && !err.contains("wrong") && !err.contains("bWU6"),
        "{err}"
    );
}

#[test]
fn logs_are_followed_while_they_come() {
    let berth = Berth::new();
    berth.start(
        &["--name", "slow"],
        &["sh", "-c", "echo one; sleep 1; echo two; sleep 600"],
    );
    let mut follower = berth.spawn(&["logs", "-f", "slow"]);
    let mut reader = std::io::BufReader::new(follower.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
    std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
    assert_eq!(line, "one\ntwo\n");
    assert_eq!(berth.inspect("slow", "{{.State.Running}}"), "true");
    berth.run(&["kill", "slow"]).ok();
    assert!(follower.wait().unwrap().success(), "it ends with the container");
}

#[test]
fn stopped_stays_stopped_and_what_was_stopped_starts_again() {
    let berth = Berth::new();
    berth.start(
        &["--name", "unless", "--restart", "unless-stopped"],
        &["sh", "-c", "echo up; sleep 60"],
    );
    let pid: i32 = berth.inspect("unless", "{{.State.Pid}}").parse().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    eventually("it was restarted", || {
        let now = berth.inspect("unless", "{{.State.Running}} {{.State.Pid}}");
        now.starts_with("true ") && !now.ends_with(&format!(" {pid}")) && !now.ends_with(" 0")
    });
    berth.run(&["stop", "-t", "0", "unless"]).ok();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(berth.inspect("unless", "{{.State.Status}}"), "exited");
    berth.run(&["start", "unless"]).ok();
    assert_eq!(berth.inspect("unless", "{{.State.Status}}"), "running");
}

#[test]
fn a_kill_for_lack_of_memory_is_kept_in_the_state() {
    let berth = Berth::new();
    berth.run(&[
        "run",
        "--name",
        "oom",
        "--network",
        "none",
        "--memory",
        "20m",
        BUSYBOX,
        "sh",
        "-c",
        "x=a; while :; do x=$x$x; done",
    ]);
    assert_eq!(
        berth.inspect("oom", "{{.State.OOMKilled}} {{.State.ExitCode}}"),
        "true 137"
    );
    berth.run(&[
        "run",
        "--name",
        "killed",
        "--network",
        "none",
        "--init",
        BUSYBOX,
        "sh",
        "-c",
        "kill -9 $$",
    ]);
    assert_eq!(
        berth.inspect("killed", "{{.State.OOMKilled}} {{.State.ExitCode}}"),
        "false 137"
    );
}

#[test]
fn added_processes_are_limited_and_counted_with_the_container() {
    let berth = Berth::new();
    berth.start(&["--name", "box", "--memory", "20m"], &["sleep", "60"]);
    let ran = berth.run(&["exec", "box", "sh", "-c", "x=a; while :; do x=$x$x; done"]);
    assert_eq!(ran.code, 137, "{ran:?}");
    let line = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let container = line(&berth.inspect("box", "{{.State.Pid}}"));
    assert!(container.contains("berth"), "{container}");
    assert_ne!(container, line("self"));
}

#[test]
fn it_says_what_it_is_and_where() {
    let berth = Berth::new();
    let info = berth.run(&["info"]).ok();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    for words in [kernel.trim(), "Images: 1", "Containers: 0", &berth.path("data")] {
        assert!(info.contains(words), "{words}: {info}");
    }
    let version = berth.run(&["version"]).ok();
    assert!(
        version.contains("API version") && version.contains(kernel.trim()),
        "{version}"
    );
    assert!(berth.run(&["--version"]).ok().to_lowercase().contains("version"));
}
