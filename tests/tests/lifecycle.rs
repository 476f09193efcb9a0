//! The verbs, in Docker's words.

use berth_tests::{BUSYBOX, Berth, eventually};

#[test]
fn a_container_lives_as_dockers_do() {
    let berth = Berth::new();
    let id = berth
        .run(&["create", "--name", "life", "--network", "none", BUSYBOX, "sleep", "60"])
        .ok();
    let status = |berth: &Berth| berth.run(&["ps", "-a", "--format", "{{.Status}}"]).ok();
    assert_eq!(status(&berth), "Created");
    assert_eq!(berth.run(&["start", "life"]).ok(), "life");
    assert!(status(&berth).starts_with("Up "));
    assert_eq!(berth.run(&["start", "life"]).ok(), "life", "twice is fine");
    berth
        .run(&["rm", "life"])
        .fails(1, "cannot remove container \"life\": container is running");
    assert_eq!(berth.run(&["pause", "life"]).ok(), "life");
    assert!(status(&berth).contains("(Paused)"));
    berth.run(&["exec", "life", "true"]).fails(1, "is paused");
    assert_eq!(berth.run(&["unpause", "life"]).ok(), "life");
    assert_eq!(berth.run(&["restart", "-t", "0", "life"]).ok(), "life");
    assert_eq!(berth.run(&["kill", &id[..12]]).ok(), id[..12]);
    assert_eq!(berth.run(&["wait", "life"]).ok(), "137");
    assert!(status(&berth).starts_with("Exited (137) "));
    berth.run(&["kill", "life"]).fails(1, "is not running");
    assert_eq!(berth.run(&["stop", "life"]).ok(), "life");
    berth.run(&["rename", "life", "after"]).ok();
    assert_eq!(berth.run(&["rm", "after"]).ok(), "after");
    berth.run(&["rm", "after"]).fails(1, "No such container: after");
    berth.run(&["inspect", "after"]).fails(1, "No such object: after");
}

#[test]
fn changes_stay_until_the_container_goes() {
    let berth = Berth::new();
    berth.run(&[
        "run",
        "--name",
        "keep",
        "--network",
        "none",
        BUSYBOX,
        "sh",
        "-c",
        "cat /made; echo once > /made",
    ]);
    assert_eq!(berth.run(&["start", "-a", "keep"]).ok(), "once");
    assert_eq!(berth.run(&["logs", "keep"]).ok(), "once");
}

#[test]
fn names_are_unique_and_made_up_where_not_given() {
    let berth = Berth::new();
    let first = berth.start(&["--name", "same"], &["sleep", "60"]);
    let err = berth
        .run(&["run", "-d", "--name", "same", "--network", "none", BUSYBOX, "true"])
        .fails(125, "Conflict. The container name \"/same\" is already in use");
    assert!(err.contains(&first));
    berth.start(&[], &["true"]);
    let names = berth.run(&["ps", "-a", "--format", "{{.Names}}"]).ok();
    assert!(names.lines().next().unwrap().contains('_'), "{names}");
}

#[test]
fn restart_policies_act_and_stop_ends_them() {
    let berth = Berth::new();
    berth.start(
        &["--name", "fails", "--restart", "on-failure:2"],
        &["sh", "-c", "echo run; exit 3"],
    );
    eventually("it gave up", || berth.inspect("fails", "{{.State.Status}}") == "exited");
    assert_eq!(berth.inspect("fails", "{{.RestartCount}} {{.State.ExitCode}}"), "2 3");
    assert_eq!(berth.run(&["logs", "fails"]).ok(), "run\nrun\nrun");
    berth.start(&["--name", "always", "--restart", "always"], &["sh", "-c", "exit 0"]);
    eventually("it was restarted", || {
        berth.inspect("always", "{{.RestartCount}}") != "0"
    });
    berth.run(&["stop", "-t", "1", "always"]).ok();
    assert_eq!(berth.inspect("always", "{{.State.Status}}"), "exited");
}

#[test]
fn stopping_asks_then_kills() {
    let berth = Berth::new();
    berth.start(
        &["--name", "asks", "--stop-signal", "USR1"],
        &[
            "sh",
            "-c",
            "trap 'exit 11' USR1; echo ready; while :; do sleep 0.05; done",
        ],
    );
    eventually("it is set up", || berth.run(&["logs", "asks"]).out == "ready");
    berth.run(&["stop", "asks"]).ok();
    assert_eq!(berth.inspect("asks", "{{.State.ExitCode}}"), "11");
    berth.start(&["--name", "deaf", "--stop-timeout", "0"], &["sleep", "60"]);
    berth.run(&["stop", "deaf"]).ok();
    assert_eq!(berth.inspect("deaf", "{{.State.ExitCode}}"), "137");
}

#[test]
fn logs_are_dockers() {
    let berth = Berth::new();
    let id = berth.start(
        &["--name", "log"],
        &[
            "sh",
            "-c",
            "for i in 1 2 3 4 5; do echo line $i; done; echo bad >&2; sleep 0.5; echo last",
        ],
    );
    let followed = berth.run(&["logs", "-f", "log"]);
    assert_eq!((followed.out.lines().count(), followed.err.as_str()), (6, "bad"));
    assert_eq!(berth.run(&["logs", "--tail", "1", "log"]).ok(), "last");
    let stamped = berth.run(&["logs", "-t", "--tail", "1", "log"]).ok();
    assert!(
        stamped.split(' ').next().unwrap().ends_with('Z') && stamped.ends_with(" last"),
        "{stamped}"
    );
    assert_eq!(
        berth
            .run(&["logs", "--since", "1h", "--until", "2020-01-01", "log"])
            .ok(),
        ""
    );
    let file = std::fs::read_to_string(berth.path(&format!("data/containers/{id}/{id}-json.log"))).unwrap();
    let line: serde_json::Value = serde_json::from_str(file.lines().next().unwrap()).unwrap();
    assert_eq!(
        (line["log"].as_str(), line["stream"].as_str()),
        (Some("line 1\n"), Some("stdout"))
    );
}

#[test]
fn processes_are_added() {
    let berth = Berth::new();
    berth.start(&["--name", "box", "-e", "A=1"], &["sleep", "60"]);
    let script = "id -u; id -g; pwd; echo $A$B; exit 3";
    let ran = berth.run(&["exec", "-u", "33", "-w", "/tmp", "-e", "B=2", "box", "sh", "-c", script]);
    assert_eq!((ran.code, ran.out.as_str()), (3, "33\n34\n/tmp\n12"));
    assert_eq!(berth.feed(&["exec", "-i", "box", "cat"], b"through").out, "through");
    berth
        .run(&["exec", "box", "nosuch"])
        .fails(127, "executable file not found in $PATH");
    berth
        .run(&["exec", "box", "/etc/passwd"])
        .fails(126, "permission denied");
    berth.run(&["exec", "-d", "box", "touch", "/made"]).ok();
    eventually("it ran", || berth.run(&["exec", "box", "ls", "/made"]).code == 0);
    assert_eq!(
        berth
            .run(&["exec", "box", "awk", "/Seccomp:|CapEff/{print $2}", "/proc/self/status"])
            .ok(),
        "00000000a80425fb\n2"
    );
    berth.run(&["stop", "-t", "0", "box"]).ok();
    berth.run(&["exec", "box", "true"]).fails(1, "is not running");
    berth
        .run(&["exec", "nosuch", "true"])
        .fails(1, "No such container: nosuch");
}

#[test]
fn attaching_joins_what_runs() {
    let berth = Berth::new();
    berth
        .run(&[
            "run",
            "-d",
            "-i",
            "--name",
            "att",
            "--network",
            "none",
            BUSYBOX,
            "sh",
            "-c",
            "read x; echo got $x; exit 6",
        ])
        .ok();
    let ran = berth.feed(&["attach", "att"], b"word\n");
    assert_eq!((ran.code, ran.out.as_str()), (6, "got word"));
    berth
        .run(&["attach", "att"])
        .fails(1, "cannot attach to a stopped container");
}

#[test]
fn lists_are_filtered_and_formatted() {
    let berth = Berth::new();
    let id = berth.start(&["--name", "one", "-l", "k=v"], &["sleep", "60"]);
    berth.run(&["run", "--name", "two", "--network", "none", BUSYBOX, "false"]);
    let names = |arguments: &[&str]| berth.run(&[&["ps", "--format", "{{.Names}}"], arguments].concat()).ok();
    assert_eq!(names(&[]), "one");
    assert_eq!(names(&["-a"]), "two\none");
    for (filter, expected) in [
        ("label=k=v", "one"),
        ("status=exited", "two"),
        ("exited=1", "two"),
        ("name=^tw", "two"),
        ("ancestor=busybox:test", "two\none"),
    ] {
        assert_eq!(names(&["-a", "--filter", filter]), expected, "{filter}");
    }
    berth
        .run(&["ps", "--filter", "nosuch=1"])
        .fails(1, "invalid filter 'nosuch'");
    let table = berth.run(&["ps"]).ok();
    assert!(
        table.starts_with("CONTAINER ID   IMAGE          COMMAND      CREATED"),
        "{table}"
    );
    assert!(
        table.contains(&format!("{}   busybox:test   \"sleep 60\"", &id[..12])),
        "{table}"
    );
    let json: serde_json::Value = serde_json::from_str(&berth.run(&["inspect", "one"]).ok()).unwrap();
    assert_eq!(
        (json[0]["Id"].as_str(), json[0]["State"]["Running"].as_bool()),
        (Some(id.as_str()), Some(true))
    );
}
