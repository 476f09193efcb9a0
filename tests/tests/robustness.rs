//! Kills at any moment, many at once: the next command tells the truth and cleans up.

use berth_tests::{BUSYBOX, Berth, eventually};

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    // The kernel takes a moment; until then it is alive.
    eventually("it is dead", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
        stat.rsplit(") ")
            .next()
            .is_none_or(|rest| rest.is_empty() || rest.starts_with('Z'))
    });
}

#[test]
fn a_killed_monitor_takes_its_container_along() {
    let berth = Berth::new();
    berth.start(&["--name", "orphan"], &["sleep", "60"]);
    let pid: i32 = berth.inspect("orphan", "{{.State.Pid}}").parse().unwrap();
    kill(berth.monitor("orphan"));
    assert!(
        berth
            .run(&["ps", "-a", "--format", "{{.Status}}"])
            .ok()
            .starts_with("Exited (137)")
    );
    eventually("its process is gone", || {
        !std::path::Path::new(&format!("/proc/{pid}")).exists()
    });
    berth.run(&["start", "orphan"]).ok();
    assert_eq!(berth.inspect("orphan", "{{.State.Status}}"), "running");
    kill(berth.monitor("orphan"));
    assert_eq!(berth.run(&["rm", "orphan"]).ok(), "orphan");
}

#[test]
fn a_killed_monitor_of_a_container_with_rm_leaves_nothing() {
    let berth = Berth::new();
    berth.start(&["--rm", "--name", "brief"], &["sleep", "60"]);
    kill(berth.monitor("brief"));
    eventually("it is gone", || berth.run(&["ps", "-aq"]).ok().is_empty());
}

#[test]
fn a_killed_init_is_an_end_like_others() {
    let berth = Berth::new();
    berth.start(&["--name", "victim"], &["sleep", "60"]);
    kill(berth.inspect("victim", "{{.State.Pid}}").parse().unwrap());
    assert_eq!(berth.run(&["wait", "victim"]).ok(), "137");
    assert!(
        berth
            .run(&["ps", "-a", "--format", "{{.Status}}"])
            .ok()
            .starts_with("Exited (137)")
    );
}

#[test]
fn a_killed_command_line_leaves_the_container_to_its_monitor() {
    let berth = Berth::new();
    let mut child = berth.spawn(&[
        "run",
        "--name",
        "left",
        "--network",
        "none",
        BUSYBOX,
        "sh",
        "-c",
        "echo up; sleep 60",
    ]);
    eventually("it runs", || berth.run(&["logs", "left"]).out == "up");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(berth.inspect("left", "{{.State.Status}}"), "running");
    berth.run(&["stop", "-t", "0", "left"]).ok();
}

/// Neither its monitor nor the first process that waited there for what it was to be.
#[test]
fn a_run_that_fails_leaves_no_process() {
    let berth = Berth::new();
    for _ in 0..10 {
        let failed = berth.run(&["run", "--pull", "never", "--network", "none", "absent:1", "true"]);
        assert_eq!(failed.code, 125);
        eventually("all are gone", || berth.leftovers().is_empty());
    }
}

#[test]
fn kills_at_random_moments_leave_nothing() {
    let berth = Berth::new();
    let mut seed = 12345u64;
    for round in 0..40 {
        let mut child = berth.spawn(&["run", "--rm", "--network", "none", BUSYBOX, "sh", "-c", "sleep 0.02"]);
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        std::thread::sleep(std::time::Duration::from_micros((seed >> 40) % 60_000));
        if round % 2 == 0 {
            // The monitor, if there is one yet.
            let children =
                std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap_or_default();
            children
                .split_whitespace()
                .filter_map(|p| p.parse().ok())
                .for_each(kill);
        } else {
            let _ = child.kill();
        }
        let _ = child.wait();
    }
    eventually("all are gone", || {
        let left = berth.run(&["ps", "-a", "--format", "{{.ID}} {{.Status}}"]).ok();
        left.lines().for_each(|l| {
            // Made, and never started: nobody is left to start it.
            if l.ends_with(" Created") {
                berth.run(&["rm", l.split(' ').next().unwrap()]);
            }
        });
        left.is_empty()
    });
    assert_eq!(berth.sh(&[], "echo fine"), "fine");
}

#[test]
fn fifty_at_once() {
    let berth = Berth::new();
    let children: Vec<_> = (0..50)
        .map(|n| berth.spawn(&["run", "--rm", "--network", "none", BUSYBOX, "echo", &n.to_string()]))
        .collect();
    let mut seen: Vec<i32> = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
        })
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..50).collect::<Vec<_>>());
}

#[test]
fn one_name_has_one_winner() {
    let berth = Berth::new();
    let children: Vec<_> = (0..8)
        .map(|_| {
            berth.spawn(&[
                "run",
                "-d",
                "--name",
                "one",
                "--network",
                "none",
                BUSYBOX,
                "sleep",
                "60",
            ])
        })
        .collect();
    let outputs: Vec<_> = children.into_iter().map(|c| c.wait_with_output().unwrap()).collect();
    assert_eq!(outputs.iter().filter(|o| o.status.success()).count(), 1);
    for lost in outputs.iter().filter(|o| !o.status.success()) {
        assert!(String::from_utf8_lossy(&lost.stderr).contains("is already in use by container"));
    }
    assert_eq!(berth.run(&["ps", "-aq"]).ok().lines().count(), 1);
}

#[test]
fn one_container_is_started_once() {
    let berth = Berth::new();
    berth
        .run(&[
            "create",
            "--name",
            "once",
            "--network",
            "none",
            BUSYBOX,
            "sh",
            "-c",
            "echo run; sleep 60",
        ])
        .ok();
    let children: Vec<_> = (0..8).map(|_| berth.spawn(&["start", "once"])).collect();
    children
        .into_iter()
        .for_each(|c| assert!(c.wait_with_output().unwrap().status.success()));
    eventually("it has said so", || !berth.run(&["logs", "once"]).out.is_empty());
    assert_eq!(berth.run(&["logs", "once"]).ok(), "run");
}
