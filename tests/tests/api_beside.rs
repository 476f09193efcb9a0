//! Docker's API, beside dockerd 28: what clients are told here is what they are told there. See `scripts/clients`.

use std::path::Path;
use std::process::Stdio;

use berth_tests::api::{Answer, Api, ask};
use berth_tests::dockerd::{self, Dockerd};
use berth_tests::network::{World, inside, shell};
use berth_tests::{BUSYBOX, clients};

/// Nobody is asked where Docker Hub is for long.
fn alone() -> World {
    let world = World::new();
    shell(&format!("ip -n {} route replace unreachable default", world.host()));
    world
}

/// The flows of `clients/flows.sh` with Docker's newest client and with compose; what was said, without what differs from run to
/// run.
fn flows(world: &World, host: &str) -> Vec<String> {
    let work = tempfile::Builder::new()
        .prefix("berth-flows-")
        .tempdir_in("/var/tmp")
        .unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/flows.sh");
    let mut command = inside(&world.host(), "bash");
    command
        .arg(script)
        .env("DOCKER", dockerd::client())
        .env("DOCKER_HOST", host)
        .env("DOCKER_CONFIG", work.path().join("config"))
        .env("COMPOSE", clients::dir().join("docker-compose"))
        .env("WORK", work.path())
        .env("HOME", work.path())
        .env_remove("DOCKER_API_VERSION");
    let output = command.stdin(Stdio::null()).output().expect("run the flows");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    // The chain of programs that a message came through; hints are ours.
    let through = [
        "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable \
         to start container process: error during container init: ",
        "OCI runtime exec failed: exec failed: unable to start container process: ",
        ", [::]:8080->80/tcp",
        ",{\"HostIp\":\"::\",\"HostPort\":\"8080\"}",
    ];
    let plain = |line: &str| {
        through
            .iter()
            .fold(without_ids(line), |line, words| line.replace(words, ""))
    };
    let lines = text.lines().map(plain);
    lines
        .filter(|line| !line.starts_with("hint: ") && line != "80/tcp -> [::]:8080")
        .collect()
}

/// Words of 12 or 64 hexadecimal digits are ids.
fn without_ids(line: &str) -> String {
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let (mut out, mut rest) = (String::new(), line);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        out.push_str(match word.chars().all(hex) && [12, 64].contains(&word.len()) {
            true => "ID",
            false => word,
        });
        let next = after.chars().next().map_or(0, char::len_utf8);
        out.push_str(&after[..next]);
        rest = &after[next..];
    }
    out
}

#[test]
fn dockers_client_and_compose_say_the_same_at_both() {
    let ours = std::thread::spawn(|| {
        let world = alone();
        let api = Api::with(world.berth(), &[]);
        flows(&world, &api.host())
    });
    let world = alone();
    let dockerd = Dockerd::start(&world.host());
    let theirs = flows(&world, &dockerd.host());
    let ours = ours.join().expect("Berth's flows");
    let differ: Vec<_> = theirs
        .iter()
        .zip(&ours)
        .filter(|(theirs, ours)| theirs != ours)
        .collect();
    assert!(
        differ.is_empty() && theirs.len() == ours.len(),
        "dockerd, Berth: {differ:#?}\n{}\n{}",
        theirs.join("\n"),
        ours.join("\n")
    );
    assert!(ours.iter().any(|line| line == "in stock"), "{ours:#?}");
}

/// Programs of strangers that a test has for Berth: they go well at dockerd, too, which proves them.
#[test]
fn the_other_clients_go_well_at_dockerd() {
    let world = alone();
    let dockerd = Dockerd::start(&world.host());
    for (program, script) in [
        (clients::dir().join("python/bin/python"), "with_testcontainers.py"),
        ("node".into(), "testcontainers.js"),
        ("node".into(), "dockerode.js"),
    ] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(script);
        let mut command = inside(&world.host(), &program.display().to_string());
        command
            .arg(file)
            .env("DOCKER_HOST", dockerd.host())
            .env("HOME", dockerd.path(""))
            .env("NODE_PATH", clients::dir().join("node/node_modules"))
            .env("TESTCONTAINERS_RYUK_DISABLED", "true")
            .env_remove("DOCKER_CONFIG");
        let output = command.output().expect("run the client");
        let out = String::from_utf8_lossy(&output.stdout);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(out.trim_end().ends_with("well"), "{script}: {out}\n{err}");
    }
}

/// A request of `clients/requests.txt`, and its answer.
struct Case {
    method: &'static str,
    path: &'static str,
    body: &'static str,
    /// Status and words; for a redirection the place.
    dockers: &'static str,
    /// Where ours is another one.
    ours: Option<&'static str>,
}

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let lines = include_str!("../clients/requests.txt").lines();
    for line in lines.filter(|l| !l.is_empty() && !l.starts_with('#')) {
        match line.strip_prefix("    ") {
            None => {
                let mut words = line.splitn(3, ' ');
                let mut next = || words.next().unwrap_or_default();
                let (method, path, body) = (next(), next(), next());
                cases.push(Case {
                    method,
                    path,
                    body,
                    dockers: "",
                    ours: None,
                });
            }
            Some(answer) => {
                let case = cases.last_mut().expect("a request before its answer");
                match answer.strip_prefix("ours: ") {
                    Some(ours) => case.ours = Some(ours),
                    None => case.dockers = answer,
                }
            }
        }
    }
    cases
}

/// Status and words of an answer.
fn answered(answer: &Answer) -> String {
    let words = match answer.status {
        301 => answer.header("location").to_owned(),
        400.. => {
            let json = serde_json::from_slice::<serde_json::Value>(&answer.body);
            let words = json.ok().and_then(|j| j["message"].as_str().map(String::from));
            words.unwrap_or_else(|| answer.text().trim_matches('\0').to_owned())
        }
        _ => String::new(),
    };
    let words = without_ids(words.trim_end()).replace('\n', "\\n");
    format!("{} {words}", answer.status).trim_end().to_owned()
}

/// Sends all of them, with a container `run1` that runs, `made1` that does not, and a network; what was made is taken away.
fn asked(socket: &Path) -> Vec<String> {
    cases()
        .iter()
        .map(|case| {
            let answer = ask(socket, case.method, case.path, case.body);
            if answer.status == 201
                && let Some(id) = serde_json::from_slice::<serde_json::Value>(&answer.body)
                    .ok()
                    .and_then(|j| j["Id"].as_str().map(String::from))
            {
                let of = case.path.split(['/', '?']).nth(1).unwrap_or_default();
                ask(socket, "DELETE", &format!("/{of}/{id}?force=1&v=1"), "");
            }
            answered(&answer)
        })
        .collect()
}

const MADE: &[&[&str]] = &[
    &[
        "run",
        "-d",
        "--name",
        "run1",
        "--network",
        "none",
        BUSYBOX,
        "sleep",
        "10000",
    ],
    &["create", "--name", "made1", "--network", "none", BUSYBOX, "true"],
    &["network", "create", "--subnet", "10.9.0.0/24", "net1"],
];

/// Malformed JSON, wrong types, filters, paths, versions, names, states: some hundred requests, and docker's code and words.
/// Nothing is left of any of them: neither descriptors nor threads nor processes.
#[test]
fn bad_requests_get_dockers_codes_and_words() {
    let world = alone();
    let api = Api::with(world.berth(), &[]);
    MADE.iter().for_each(|made| _ = api.docker(made).ok());
    asked(&api.socket());
    let before = held(&api);
    let answers = asked(&api.socket());
    let cases = cases();
    let wrong = cases.iter().zip(&answers).filter_map(|(case, answer)| {
        let expected = case.ours.unwrap_or(case.dockers);
        let request = format!("{} {} {}", case.method, case.path, case.body);
        (answer != expected).then(|| format!("{request}\n    {expected}\n    ours: {answer}"))
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    berth_tests::eventually("nothing is held any more", || held(&api) <= before);
    api.docker(&["rm", "-f", "run1", "made1"]).ok();
    api.docker(&["network", "rm", "net1"]).ok();
}

/// Descriptors and children of the server. (Its threads for blocking work come and go with the load.)
fn held(api: &Api) -> (usize, usize) {
    let of = |what: &str| std::fs::read_dir(format!("/proc/{}/{what}", api.pid())).map_or(0, Iterator::count);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", api.pid()))
        .unwrap()
        .flatten();
    let children = tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    let children = children.map(|c| c.split_whitespace().count()).sum();
    (of("fd"), children)
}

/// What is written down there of docker is what docker says.
#[test]
fn dockerd_answers_bad_requests_as_it_is_written_down() {
    let world = alone();
    let dockerd = Dockerd::start(&world.host());
    MADE.iter().for_each(|made| _ = dockerd.docker(made).ok());
    let answers = asked(&dockerd.socket());
    let status = |answer: &str| answer.split(' ').next().unwrap_or_default().to_owned();
    // Words change from one release to the next.
    let same_release = dockerd
        .docker(&["version", "-f", "{{.Server.Version}}"])
        .ok()
        .starts_with("28.5");
    let wrong: Vec<String> = cases()
        .iter()
        .zip(&answers)
        .filter(|(case, answer)| match same_release {
            true => case.dockers != answer.as_str(),
            false => status(case.dockers) != status(answer),
        })
        .map(|(case, answer)| format!("{} {} {}\n    {answer}", case.method, case.path, case.body))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
