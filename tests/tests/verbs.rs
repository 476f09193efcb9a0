//! Verbs that tell what containers use, and that clear up.

use berth_tests::{BUSYBOX, Berth, eventually};

#[test]
fn stats_tell_what_containers_use() {
    let berth = Berth::new();
    let script = "head -c 20000000 /dev/zero > /dev/shm/x; echo ok > /ready; while :; do :; done";
    let id = berth.start(
        &["--name", "busy", "-m", "64m", "--pids-limit", "50", "--cpus", "0.5"],
        &["sh", "-c", script],
    );
    berth.start(&["--name", "idle"], &["sleep", "60"]);
    berth
        .run(&["create", "--name", "rest", "--network", "none", BUSYBOX, "true"])
        .ok();
    eventually("it has filled its memory", || {
        berth.run(&["exec", "busy", "ls", "/ready"]).code == 0
    });
    let json = berth.run(&["stats", "--no-stream", "--format", "json", "busy"]).ok();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (json["Name"].as_str(), json["ID"].as_str()),
        (Some("busy"), Some(&id[..12]))
    );
    assert_eq!(json["PIDs"], "1");
    let number = |key: &str| {
        json[key]
            .as_str()
            .unwrap()
            .trim_end_matches('%')
            .parse::<f64>()
            .unwrap()
    };
    assert!(number("CPUPerc") > 1.0 && number("CPUPerc") < 90.0, "{json}");
    assert!(number("MemPerc") > 25.0 && number("MemPerc") < 50.0, "{json}");
    assert!(json["MemUsage"].as_str().unwrap().ends_with(" / 64MiB"), "{json}");
    let names = |arguments: &[&str]| {
        let format = ["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}"];
        let mut lines: Vec<String> = berth
            .run(&[&format, arguments].concat())
            .ok()
            .lines()
            .map(String::from)
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(names(&[]), ["busy 1", "idle 1"]);
    assert_eq!(names(&["-a"]), ["busy 1", "idle 1", "rest 0"]);
    assert_eq!(names(&["rest"]), ["rest 0"]);
    let table = berth.run(&["stats", "--no-stream"]).ok();
    assert!(
        table.starts_with("CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT"),
        "{table}"
    );
    berth
        .run(&["stats", "--no-stream", "nosuch"])
        .fails(1, "No such container: nosuch");
}

#[test]
fn what_nobody_uses_is_pruned() {
    let berth = Berth::new();
    berth.start(&["--name", "runs", "-v", "used:/v"], &["sleep", "60"]);
    let old = berth
        .run(&[
            "create",
            "--network",
            "none",
            "-v",
            "/anonymous",
            "-l",
            "keep=no",
            BUSYBOX,
            "true",
        ])
        .ok();
    let kept = berth
        .run(&["create", "--network", "none", "-l", "keep=yes", BUSYBOX, "true"])
        .ok();
    berth.run(&["volume", "create", "named"]).ok();
    berth.feed(&["container", "prune"], b"n\n").ok();
    assert_eq!(berth.run(&["ps", "-aq"]).ok().lines().count(), 3);
    berth.run(&["container", "prune", "-f", "--filter", "until=1h"]).ok();
    let pruned = berth
        .run(&["container", "prune", "-f", "--filter", "label!=keep=yes"])
        .ok();
    assert!(
        pruned.starts_with("Deleted Containers:") && pruned.contains(&old),
        "{pruned}"
    );
    assert!(
        !pruned.contains(&kept) && pruned.contains("Total reclaimed space: "),
        "{pruned}"
    );
    let volumes = || berth.run(&["volume", "ls", "-q"]).ok();
    assert_eq!(
        volumes().lines().count(),
        3,
        "an anonymous volume stays until volumes are pruned"
    );
    berth.run(&["volume", "prune", "-f"]).ok();
    assert_eq!(volumes(), "named\nused");
    berth.run(&["volume", "prune", "-f", "-a"]).ok();
    assert_eq!(volumes(), "used");
    let pruned = berth.feed(&["system", "prune"], b"y\n").ok();
    assert!(pruned.starts_with("WARNING! This will remove:\n  - all stopped containers") && pruned.contains(&kept));
    berth
        .run(&["container", "prune", "-f", "--filter", "nosuch=1"])
        .fails(1, "invalid filter 'nosuch'");
    berth.run(&["rm", "-f", "runs"]).ok();
    berth.run(&["volume", "rm", "used"]).ok();
}
