//! Health checks, as Docker has them.

use berth_tests::{BUSYBOX, Berth, Tar, eventually};

/// How often programs of the host were started in the meantime is not counted here: `run.rs` counts for `run`.
fn health(berth: &Berth, name: &str) -> String {
    berth.inspect(name, "{{.State.Health.Status}}")
}

#[test]
fn a_container_becomes_healthy_and_unhealthy_and_healthy_again() {
    let berth = Berth::new();
    let flags = [
        "--name",
        "h1",
        "--health-cmd",
        "echo checked; test -e /good",
        "--health-interval",
        "100ms",
        "--health-retries",
        "2",
    ];
    berth.start(&flags, &["sleep", "60"]);
    let status = || berth.run(&["ps", "--format", "{{.Status}}"]).ok();
    let filtered = |value: &str| {
        berth
            .run(&["ps", "-q", "--filter", &format!("health={value}")])
            .ok()
            .lines()
            .count()
    };
    eventually("it fails twice", || health(&berth, "h1") == "unhealthy");
    assert!(status().ends_with(" (unhealthy)"), "{}", status());
    berth.run(&["exec", "h1", "touch", "/good"]).ok();
    eventually("it recovers", || health(&berth, "h1") == "healthy");
    assert!(status().ends_with(" (healthy)"), "{}", status());
    assert_eq!(
        (filtered("healthy"), filtered("unhealthy"), filtered("none")),
        (1, 0, 0)
    );
    eventually("its results are kept", || {
        berth.inspect("h1", "{{len .State.Health.Log}}") == "5"
    });
    let last = berth.inspect("h1", "{{json (index .State.Health.Log 4)}}");
    let last: serde_json::Value = serde_json::from_str(&last).unwrap();
    assert_eq!(
        (last["ExitCode"].as_i64(), last["Output"].as_str()),
        (Some(0), Some("checked\n"))
    );
    // Frozen, nothing is checked, and nothing hangs.
    berth.run(&["pause", "h1"]).ok();
    std::thread::sleep(std::time::Duration::from_millis(300));
    berth.run(&["unpause", "h1"]).ok();
    berth.run(&["stop", "-t", "0", "h1"]).ok();
    assert_eq!(health(&berth, "h1"), "unhealthy", "as Docker leaves it");
    let told = berth
        .run(&[
            "events",
            "--since",
            "1",
            "--until",
            "0s",
            "--filter",
            "event=health_status",
            "--format",
            "{{.Action}}",
        ])
        .ok();
    assert_eq!(told, "health_status: unhealthy\nhealth_status: healthy");
    berth.run(&["start", "h1"]).ok();
    eventually("it is checked again", || health(&berth, "h1") == "healthy");
}

#[test]
fn checks_that_hang_or_cannot_run_are_failures() {
    let berth = Berth::new();
    let flags = |name: &'static str, command: &'static str| {
        [
            "--name",
            name,
            "--health-cmd",
            command,
            "--health-interval",
            "50ms",
            "--health-retries",
            "1",
            "--health-timeout",
            "200ms",
        ]
    };
    berth.start(&flags("hangs", "echo begun; sleep 50"), &["sleep", "60"]);
    eventually("it is too late", || health(&berth, "hangs") == "unhealthy");
    // On a busy machine one or another has not begun by then.
    eventually("what it said is told", || {
        let log = berth.inspect("hangs", "{{range .State.Health.Log}}{{.ExitCode}} {{.Output}}{{end}}");
        log.contains("-1 Health check exceeded timeout (200ms): begun")
    });
    eventually("nothing of it stays", || {
        // The container's own, and at most one check.
        berth.run(&["top", "hangs"]).ok().lines().count() <= 4
    });
    // A start period forgives.
    let mut patient = flags("patient", "exit 1").to_vec();
    patient.extend(["--health-start-period", "1h", "--health-start-interval", "50ms"]);
    berth.start(&patient, &["sleep", "60"]);
    eventually("it was checked often", || {
        berth.inspect("patient", "{{len .State.Health.Log}}") == "5"
    });
    assert_eq!(health(&berth, "patient"), "starting");
    let status = berth
        .run(&["ps", "--filter", "name=patient", "--format", "{{.Status}}"])
        .ok();
    assert!(status.ends_with(" (health: starting)"), "{status}");
    for (flag, value, words) in [
        ("--health-interval", "-1s", "--health-interval cannot be negative"),
        (
            "--health-interval",
            "1us",
            "Interval in Healthcheck cannot be less than 1ms",
        ),
        (
            "--health-timeout",
            "x",
            "invalid argument \"x\" for \"--health-timeout\" flag",
        ),
        ("--health-retries", "-1", "--health-retries cannot be negative"),
        (
            "--no-healthcheck",
            "--health-cmd=x",
            "--no-healthcheck conflicts with --health-* options",
        ),
    ] {
        berth.busybox(&[flag, value], &["true"]).fails(125, words);
    }
}

#[test]
fn an_images_check_is_the_containers_unless_it_says_otherwise() {
    let berth = Berth::new();
    berth.run(&["save", "-o", &berth.path("i.tar"), BUSYBOX]).ok();
    // The image's configuration with a check in it: what a Dockerfile's HEALTHCHECK gives.
    let dir = berth.path("image");
    std::fs::create_dir(&dir).unwrap();
    let unpacked = std::process::Command::new("tar")
        .args(["-C", &dir, "-xf", &berth.path("i.tar")])
        .status()
        .unwrap();
    assert!(unpacked.success());
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(format!("{dir}/manifest.json")).unwrap()).unwrap();
    let config = manifest[0]["Config"].as_str().unwrap();
    let mut document: serde_json::Value =
        serde_json::from_slice(&std::fs::read(format!("{dir}/{config}")).unwrap()).unwrap();
    document["config"]["Healthcheck"] =
        serde_json::json!({"Test": ["CMD", "test", "-e", "/etc/passwd"], "Interval": 50_000_000});
    let layer = manifest[0]["Layers"][0].as_str().unwrap();
    let mut tar = Tar::default();
    tar.file("config.json", 0o644, document.to_string().as_bytes());
    tar.file("layer.tar", 0o644, &std::fs::read(format!("{dir}/{layer}")).unwrap());
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": ["checked:1"], "Layers": ["layer.tar"]}]);
    tar.file("manifest.json", 0o644, manifest.to_string().as_bytes());
    std::fs::write(berth.path("checked.tar"), tar.finish()).unwrap();
    berth.run(&["load", "-i", &berth.path("checked.tar")]).ok();
    let run = |name: &str, flags: &[&str]| {
        let arguments = [
            &["run", "-d", "--name", name, "--network", "none"],
            flags,
            &["checked:1", "sleep", "60"],
        ]
        .concat();
        berth.run(&arguments).ok();
    };
    run("image", &[]);
    eventually("it is checked", || health(&berth, "image") == "healthy");
    run("other", &["--health-cmd", "exit 3", "--health-retries", "1"]);
    eventually("its own check fails", || health(&berth, "other") == "unhealthy");
    run("none", &["--no-healthcheck"]);
    assert_eq!(berth.inspect("none", "{{if .State.Health}}yes{{else}}no{{end}}"), "no");
    assert_eq!(berth.inspect("none", "{{json .Config.Healthcheck.Test}}"), "[\"NONE\"]");
}
