//! What happens is told, in Docker's words; processes are added in two steps.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

use berth_tests::{BUSYBOX, Berth, eventually};
use engine::models::ExecConfig;
use engine::{Engine, Kind, Roots};

/// Everything that was told so far, as `TYPE ACTION`.
fn told(berth: &Berth, filters: &[&str]) -> Vec<String> {
    let filters = filters.iter().flat_map(|f| ["--filter", f]);
    let mut arguments = vec![
        "events",
        "--since",
        "1",
        "--until",
        "0s",
        "--format",
        "{{.Type}} {{.Action}}",
    ];
    arguments.extend(filters);
    berth.run(&arguments).ok().lines().map(String::from).collect()
}

fn engine(berth: &Berth) -> Engine {
    let path = |name: &str| PathBuf::from(berth.path(name));
    Engine::open(Roots {
        data: path("data"),
        run: path("run"),
    })
    .unwrap()
}

#[test]
fn a_container_is_told_of_from_its_making_to_its_removal() {
    let berth = Berth::new();
    berth
        .busybox(
            &["--name", "told", "-l", "k=v", "-v", "vol:/v"],
            &["sh", "-c", "exit 3"],
        )
        .fails(3, "");
    let expected = [
        "image import",
        "volume create",
        "container create",
        "container attach",
        "volume mount",
        "container start",
        "container die",
        "volume unmount",
        "container destroy",
    ];
    assert_eq!(told(&berth, &[]), expected);
    assert_eq!(told(&berth, &["type=container", "event=die"]), ["container die"]);
    assert_eq!(told(&berth, &["container=told", "event=start"]), ["container start"]);
    assert_eq!(told(&berth, &["label=k=w"]), [""; 0]);
    let line = berth
        .run(&["events", "--since", "1", "--until", "0s", "--filter", "event=die"])
        .ok();
    assert!(
        line.contains(" container die ") && line.contains("Z container"),
        "{line}"
    );
    for attribute in ["exitCode=3", "image=busybox:test", "name=told", "k=v", "execDuration=0"] {
        assert!(line.contains(attribute), "{line}");
    }
    let json = berth
        .run(&[
            "events",
            "--since",
            "1",
            "--until",
            "0s",
            "--format",
            "json",
            "--filter",
            "event=start",
        ])
        .ok();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (json["status"].as_str(), json["from"].as_str(), json["scope"].as_str()),
        (Some("start"), Some(BUSYBOX), Some("local"))
    );
    assert_eq!(json["id"], json["Actor"]["ID"]);
    berth
        .run(&["events", "--filter", "nosuch=1"])
        .fails(1, "invalid filter 'nosuch'");
    berth.run(&["volume", "rm", "vol"]).ok();
}

#[test]
fn verbs_are_told_as_docker_tells_them() {
    let berth = Berth::new();
    berth.start(
        &["--name", "verbs"],
        &["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"],
    );
    berth.run(&["exec", "verbs", "sh", "-c", "exit 5"]).fails(5, "");
    for arguments in [
        &["pause", "verbs"][..],
        &["unpause", "verbs"],
        &["rename", "verbs", "other"],
        &["update", "--restart", "no", "other"],
        &["top", "other"],
        &["kill", "-s", "USR2", "other"],
        &["restart", "-t", "0", "other"],
        &["rm", "-f", "other"],
    ] {
        berth.run(arguments).ok();
    }
    let told = told(&berth, &["type=container"]);
    let expected = [
        "create",
        "start",
        "exec_create: sh -c exit 5",
        "exec_start: sh -c exit 5",
        "exec_die",
        "pause",
        "unpause",
        "rename",
        "update",
        "top",
        "kill",
    ];
    let expected: Vec<_> = expected.iter().map(|a| format!("container {a}")).collect();
    assert_eq!(told[..expected.len()], expected);
    let end = ["die", "destroy"].map(|a| format!("container {a}"));
    assert!(told.ends_with(&end), "{told:#?}");
    assert!(told.contains(&"container restart".to_owned()));
    let old = berth
        .run(&[
            "events",
            "--since",
            "1",
            "--until",
            "0s",
            "--filter",
            "event=rename",
            "--format",
            "{{json .Actor.Attributes}}",
        ])
        .ok();
    assert!(
        old.contains("\"oldName\":\"/verbs\"") && old.contains("\"name\":\"other\""),
        "{old}"
    );
}

#[test]
fn followers_hear_of_it_at_once_and_a_killed_monitor_is_told_of() {
    let berth = Berth::new();
    followed(&berth, std::process::Command::new(berth_tests::program()));
}

/// Other programs have taken all that a user may have of inotify(7), or there is none.
#[test]
fn followers_hear_of_it_where_the_kernel_tells_nobody() {
    let berth = Berth::new();
    berth_tests::old::with_libc("without", berth.dir.path());
    let mut without = std::process::Command::new(berth.path("without"));
    // inotify_init1
    without.args(["294", "--"]).arg(berth_tests::program());
    followed(&berth, without);
}

fn followed(berth: &Berth, mut program: std::process::Command) {
    let format = "{{.Action}} {{.Actor.Attributes.exitCode}}";
    program
        .args(["events", "--filter", "type=container", "--format", format])
        .env("BERTH_DATA", berth.path("data"))
        .env("BERTH_RUN", berth.path("run"))
        .stdout(std::process::Stdio::piped());
    let mut follower = program.spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    eventually("it is at the end of the log", || {
        let of = |what: &str, fd: &str| PathBuf::from(format!("/proc/{}/{what}/{fd}", follower.id()));
        let list = std::fs::read_dir(of("fd", "")).into_iter().flatten().flatten();
        let names = list.filter_map(|entry| entry.file_name().into_string().ok());
        let at_end = |fd: String| {
            let is_log = std::fs::read_link(of("fd", &fd)).is_ok_and(|link| link.ends_with("events/log"));
            is_log && !std::fs::read_to_string(of("fdinfo", &fd)).is_ok_and(|info| info.starts_with("pos:\t0\n"))
        };
        names.into_iter().any(at_end)
    });
    berth.start(&["--name", "killed"], &["sleep", "60"]);
    let mut next = || lines.next().unwrap().unwrap();
    assert!(next().starts_with("create <no") && next().starts_with("start <no"));
    let monitor = kill_hard(berth.monitor("killed"));
    assert!(monitor);
    eventually("it is dead", || {
        berth.inspect("killed", "{{.State.Status}}") == "exited"
    });
    assert_eq!(next(), "die 137");
    follower.kill().unwrap();
    follower.wait().unwrap();
}

fn kill_hard(pid: i32) -> bool {
    std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()
        .unwrap()
        .success()
}

#[test]
fn processes_are_made_started_and_looked_at() {
    let berth = Berth::new();
    let id = berth.start(&["--name", "two"], &["sleep", "60"]);
    let engine = engine(&berth);
    let config = |command: &[&str], tty| ExecConfig {
        cmd: Some(command.iter().map(|w| (*w).into()).collect()),
        tty: Some(tty),
        attach_stdin: Some(tty),
        attach_stdout: Some(true),
        ..Default::default()
    };
    let exec = engine
        .exec_create("two", &config(&["sh", "-c", "echo out; exit 7"], false))
        .unwrap();
    assert_eq!(engine.exec_inspect(&exec).unwrap().running, Some(false));
    assert_eq!(engine.exec_inspect(&exec).unwrap().exit_code, None);
    assert_eq!(engine.exec_container(&exec).unwrap().id, id);
    assert_eq!(berth.inspect("two", "{{.ExecIDs}}"), format!("[{exec}]"));
    let mut process = engine.exec_start(&exec, false, None).unwrap();
    let mut text = String::new();
    std::fs::File::from(process.stdout.take().unwrap())
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!((text.as_str(), process.wait().unwrap()), ("out\n", 7));
    let seen = engine.exec_inspect(&exec).unwrap();
    assert_eq!(
        (seen.running, seen.exit_code, seen.container_id),
        (Some(false), Some(7), Some(id.clone()))
    );
    let again = engine.exec_start(&exec, false, None).err().unwrap();
    assert_eq!(again.kind(), Kind::Conflict);
    assert!(again.to_string().ends_with("has already run"));
    let missing = engine.exec_create("two", &config(&["nosuch"], false)).unwrap();
    assert_eq!(
        engine.exec_start(&missing, true, None).err().unwrap().kind(),
        Kind::CommandNotFound
    );
    assert_eq!(engine.exec_inspect(&missing).unwrap().exit_code, Some(127));
    // A terminal: resized, and left alone, it goes on.
    let exec = engine
        .exec_create(
            "two",
            &config(
                &[
                    "sh",
                    "-c",
                    "until [ -e /go ]; do sleep 0.05; done; stty size > /size; seq 100000; touch /done",
                ],
                true,
            ),
        )
        .unwrap();
    let process = engine.exec_start(&exec, false, Some((10, 20))).unwrap();
    engine.exec_resize(&exec, 33, 44).unwrap();
    drop(process);
    berth.run(&["exec", "two", "touch", "/go"]).ok();
    eventually("it goes on", || berth.run(&["exec", "two", "ls", "/done"]).code == 0);
    assert_eq!(berth.run(&["exec", "two", "cat", "/size"]).ok(), "33 44");
    assert_eq!(engine.exec_inspect(&exec).unwrap().exit_code, Some(0));
    let error = engine.exec_inspect(&"0".repeat(64)).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (Kind::NotFound, format!("No such exec instance: {}", "0".repeat(64)))
    );
    berth.run(&["rm", "-f", "two"]).ok();
    assert_eq!(engine.exec_inspect(&exec).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn limits_and_policies_of_what_runs_change() {
    let berth = Berth::new();
    let id = berth.start(
        &["--name", "up", "--memory", "64m", "--restart", "always"],
        &["sleep", "60"],
    );
    berth
        .run(&[
            "update",
            "--memory",
            "96m",
            "--memory-swap",
            "-1",
            "--restart",
            "no",
            "--pids-limit",
            "77",
            "up",
        ])
        .ok();
    let format = "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy.Name}}";
    assert_eq!(berth.inspect("up", format), "100663296 77 no");
    let limit = |file: &str| {
        let places = [
            "/sys/fs/cgroup",
            "/sys/fs/cgroup/memory",
            "/sys/fs/cgroup/pids",
            "/sys/fs/cgroup/unified",
        ];
        let read = |p: &&str| std::fs::read_to_string(format!("{p}/berth/{id}/{file}")).ok();
        places.iter().find_map(read).map(|t| t.trim().to_owned())
    };
    let memory = limit("memory.max").or(limit("memory.limit_in_bytes")).unwrap();
    assert_eq!(
        (memory.as_str(), limit("pids.max").as_deref()),
        ("100663296", Some("77"))
    );
    berth
        .run(&["update", "up"])
        .fails(1, "you must provide one or more flags");
    berth
        .run(&["update", "--memory", "1m", "up"])
        .fails(1, "Minimum memory limit allowed is 6MB");
    berth.run(&["kill", "up"]).ok();
    eventually("it stays down", || berth.inspect("up", "{{.State.Status}}") == "exited");
    berth.run(&["update", "--cpus", "0.5", "up"]).ok();
    assert_eq!(berth.inspect("up", "{{.HostConfig.NanoCpus}}"), "500000000");
    berth.run(&["rename", "up", "down"]).ok();
    assert_eq!(berth.inspect("down", "{{.Name}}"), "/down");
}
