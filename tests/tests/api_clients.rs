//! Strangers' clients on Docker's API: see `scripts/clients`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use berth_tests::api::Api;
use berth_tests::clients;
use berth_tests::dockerd::Dockerd;
use berth_tests::network::{World, inside, shell};
use berth_tests::{BUSYBOX, eventually, fixtures};

/// docker-py's own integration suite, as far as `others` leaves it: what fails there is written down, and why.
fn docker_py(others: &[&str]) {
    let world = World::new();
    // No registry is anywhere near, and nobody is asked where it is for long.
    shell(&format!("ip -n {} route replace unreachable default", world.host()));
    let api = Api::with(world.berth(), &[]);
    // Its image has more directories than ours.
    let made = "run --name base --network none";
    let made: Vec<&str> = made
        .split(' ')
        .chain([BUSYBOX, "mkdir", "-p", "/var/run", "/var/opt", "/home"])
        .collect();
    api.berth.run(&made).ok();
    api.berth
        .run(&["commit", "-c", "CMD [\"sh\"]", "base", "busybox:latest"])
        .ok();
    api.berth.run(&["rm", "base"]).ok();
    for name in clients::DOCKER_PYS_IMAGES {
        api.berth.run(&["tag", "busybox:latest", name]).ok();
    }
    let (became, text) = clients::docker_py(&api.host(), api.berth.dir.path(), others);
    let known = clients::docker_py_may_fail();
    let failed = became
        .iter()
        .filter(|(_, outcome)| ["FAILED", "ERROR"].contains(&outcome.as_str()));
    let new: Vec<_> = failed.filter(|(name, _)| !known.contains_key(name.as_str())).collect();
    assert!(new.is_empty() && became.len() > 50, "{new:#?}\n{text}");
    let left = api.berth.run(&["ps", "-aq"]).out;
    left.split_whitespace()
        .for_each(|id| _ = api.berth.run(&["rm", "-f", "-v", id]));
}

/// The suite's files but for those of models, and but for the others.
const MODELS: &[&str] = &["models_*"];
const OTHERS: &[&str] = &["api_*", "c*_test.py", "e*_test.py", "regression*", "store_test.py"];

#[test]
fn docker_pys_suite_passes_but_for_what_is_known() {
    docker_py(MODELS);
}

#[test]
fn docker_pys_suite_of_models_passes_but_for_what_is_known() {
    docker_py(OTHERS);
}

/// The same suite at dockerd: of what may fail here, it passes builds and a swarm's networks alone, and it passes fewer.
fn docker_py_at_dockerd(others: &[&str]) {
    let world = World::new();
    shell(&format!("ip -n {} route replace unreachable default", world.host()));
    let dockerd = Dockerd::start(&world.host());
    dockerd
        .docker(&[
            "run",
            "--name",
            "base",
            "--network",
            "none",
            BUSYBOX,
            "mkdir",
            "-p",
            "/var/run",
            "/var/opt",
            "/home",
        ])
        .ok();
    dockerd
        .docker(&["commit", "-c", "CMD [\"sh\"]", "base", "busybox:latest"])
        .ok();
    dockerd.docker(&["rm", "base"]).ok();
    for name in clients::DOCKER_PYS_IMAGES {
        dockerd.docker(&["tag", "busybox:latest", name]).ok();
    }
    let (became, text) = clients::docker_py(&dockerd.host(), std::path::Path::new(&dockerd.path("")), others);
    let known = clients::docker_py_may_fail();
    let apart = ["Networks of a swarm", "Builds.", "Now and then"];
    let not_ours = |name: &str| {
        let under = known.get(name).copied().unwrap_or_default();
        apart.iter().any(|words| under.starts_with(words))
    };
    let passed = |name: &str| became.get(name).is_some_and(|outcome| outcome == "PASSED");
    let missed: Vec<_> = known.keys().filter(|name| passed(name) && !not_ours(name)).collect();
    let theirs = became.keys().filter(|name| passed(name) && !not_ours(name)).count();
    let decided = |outcome: &str| ["PASSED", "FAILED", "ERROR"].contains(&outcome);
    let ours = became
        .iter()
        .filter(|(name, o)| decided(o) && !known.contains_key(name.as_str()))
        .count();
    assert!(
        missed.is_empty() && theirs > 30 && ours >= theirs,
        "{ours} {theirs} {missed:#?}\n{text}"
    );
}

#[test]
fn at_dockerd_docker_pys_suite_passes_no_more() {
    docker_py_at_dockerd(MODELS);
}

#[test]
fn at_dockerd_docker_pys_suite_of_models_passes_no_more() {
    docker_py_at_dockerd(OTHERS);
}

/// compose 2.40: four services, one of which waits for another's health, with volumes, networks, secrets and settings.
#[test]
fn compose_runs_an_application() {
    let world = World::new();
    let api = Api::with(world.berth(), &[]);
    let plugins = api.berth.path("docker/cli-plugins");
    std::fs::create_dir_all(&plugins).unwrap();
    std::os::unix::fs::symlink(
        clients::dir().join("docker-compose"),
        format!("{plugins}/docker-compose"),
    )
    .unwrap();
    let file = api.berth.path("compose.yaml");
    std::fs::write(&file, include_str!("../clients/compose.yaml")).unwrap();
    std::fs::write(api.berth.path("token"), "secret\n").unwrap();
    std::fs::write(api.berth.path("app.conf"), "setting\n").unwrap();
    let redis = fixtures().join("redis.tar").display().to_string();
    api.berth.run(&["import", &redis, "redis:test"]).ok();
    std::fs::create_dir(api.berth.path("site")).unwrap();
    let compose = |arguments: &[&str]| api.docker(&[&["compose", "-f", &file], arguments].concat());
    compose(&["up", "-d"]).ok();
    let services = || compose(&["ps", "--services"]).ok();
    assert_eq!(
        services().lines().collect::<BTreeSet<_>>(),
        BTreeSet::from(["cache", "db", "store", "web"])
    );
    assert!(compose(&["ps"]).ok().contains("(healthy)"));
    let log = || compose(&["logs", "--no-log-prefix", "web"]).ok();
    eventually("it found everything", || {
        ["secret", "setting"].iter().all(|w| log().contains(w))
    });
    let asked = compose(&["exec", "-T", "store", "wget", "-qO-", "http://127.0.0.1/state"]);
    assert_eq!(asked.ok(), "in stock");
    compose(&["exec", "-T", "db", "redis-cli", "set", "answer", "forty-two"]).ok();
    compose(&["restart", "-t", "0", "db"]).ok();
    let ask = "for i in $(seq 100); do printf 'GET answer\\r\\nQUIT\\r\\n' | nc -w 5 db 6379 | grep -o forty-two && exit; sleep 0.1; done";
    assert_eq!(
        compose(&["run", "--rm", "-T", "cache", "sh", "-c", ask]).ok(),
        "forty-two"
    );
    watches(&api, &file);
    compose(&["up", "-d", "--scale", "cache=2"]).ok();
    assert_eq!(compose(&["ps", "-q", "cache"]).ok().lines().count(), 2);
    compose(&["pause", "cache"]).ok();
    compose(&["unpause", "cache"]).ok();
    assert_eq!(compose(&["run", "--rm", "-T", "cache", "echo", "once"]).ok(), "once");
    compose(&["--profile", "debug", "up", "-d", "debug"]).ok();
    assert!(services().contains("debug"));
    compose(&["--profile", "debug", "down", "-v", "-t", "0"]).ok();
    for listed in [
        &["ps", "-aq"][..],
        &["volume", "ls", "-q"],
        &["network", "ls", "-q", "--filter", "type=custom"],
    ] {
        assert_eq!(api.docker(listed).ok(), "", "{listed:?}");
    }
}

/// Files of a directory of the host's come into the container as they change.
fn watches(api: &Api, file: &str) {
    let watch = ["compose", "-f", file, "watch", "--no-up", "cache"];
    let mut command = api.docker_command(&watch);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("start compose");
    let page = api.berth.path("site/page");
    let shown = ["compose", "-f", file, "exec", "-T", "cache", "cat", "/site/page"];
    let mut written = None::<Instant>;
    eventually("the file is in the container", || {
        // It may not watch yet when the first one is written, and waits until nothing has been for a while.
        if written.is_none_or(|at| at.elapsed() > Duration::from_secs(3)) {
            std::fs::write(&page, "version").unwrap();
            written = Some(Instant::now());
        }
        assert!(child.try_wait().unwrap().is_none(), "compose ended");
        api.docker(&shown).out.starts_with("version")
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

/// schemathesis asks what the served description says may be asked, and compares the answers with it.
#[test]
fn answers_are_as_described() {
    let world = World::new();
    shell(&format!("ip -n {} route replace unreachable default", world.host()));
    let api = Api::with(world.berth(), &["-H", "tcp://127.0.0.1:2375"]);
    let busy = ["sh", "-c", "trap exit TERM; while :; do sleep 0.1; done"];
    api.start(&["--name", "busy"], &busy);
    api.docker(&["create", "--name", "idle", "--network", "none", BUSYBOX, "true"])
        .ok();
    api.docker(&["volume", "create", "data"]).ok();
    let mut description = api.request("GET", "/swagger", "").json();
    // Names that are there, where nothing waits for the container's end and nothing takes them away.
    let ends = ["/wait", "/logs", "/stats", "/attach", "/attach/ws", "/start"];
    for (path, methods) in description["paths"].as_object_mut().unwrap() {
        if !path.contains("{name}")
            || (ends.iter().any(|end| path.ends_with(end)) && path != "/containers/{name}/start")
        {
            continue;
        }
        for (method, operation) in methods.as_object_mut().unwrap() {
            let parameters = operation["parameters"].as_array_mut().unwrap();
            let name = parameters.iter_mut().find(|p| p["in"] == "path").unwrap();
            if method != "delete" {
                name["schema"] =
                    serde_json::json!({"type": "string", "enum": ["busy", "idle", "data", "bridge", "no", BUSYBOX]});
            }
        }
    }
    let file = api.berth.path("swagger.json");
    std::fs::write(&file, description.to_string()).unwrap();
    let program = fixtures().join("schemathesis/bin/st");
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                  response_schema_conformance";
    // These wait for what happens, need a registry, or are what only a builder or a swarm answers.
    let others = r"^(events|build|swarm|plugins|containers\.checkpoints|volumes\.update|images\.(create|push|search|distribution)|system\.auth)$";
    let mut command = inside(&world.host(), &program.display().to_string());
    command
        .args(["run", &file, "--base-url", "http://127.0.0.1:2375", "--checks", checks])
        .args(["--exclude-tag-regex", others, "--request-timeout", "20000"])
        .args(["--hypothesis-max-examples", "12", "--hypothesis-seed", "1"])
        .args(["--hypothesis-suppress-health-check", "all", "--no-color"])
        .env("HOME", api.berth.dir.path())
        .current_dir(api.berth.dir.path());
    let output = command.output().expect("run schemathesis");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains(" passed"), "{text}");
    let left = api.berth.run(&["ps", "-aq"]).out;
    left.split_whitespace()
        .for_each(|id| _ = api.berth.run(&["rm", "-f", "-v", id]));
}

/// A script of a stranger's client, in the network namespace of an engine of its own.
fn script(program: PathBuf, name: &str) {
    let world = World::new();
    let api = Api::with(world.berth(), &[]);
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients").join(name);
    let mut command = inside(&world.host(), &program.display().to_string());
    command
        .arg(file)
        .env("DOCKER_HOST", api.host())
        .env("HOME", api.berth.dir.path());
    command.env("NODE_PATH", clients::dir().join("node/node_modules"));
    command
        .env("TESTCONTAINERS_RYUK_DISABLED", "true")
        .env_remove("DOCKER_CONFIG");
    let output = command.output().expect("run the client");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(out.trim_end().ends_with("well"), "{out}\n{err}");
    assert_eq!(api.docker(&["ps", "-aq"]).ok(), "");
}

#[test]
fn testcontainers_for_python_work() {
    script(clients::dir().join("python/bin/python"), "with_testcontainers.py");
}

#[test]
fn testcontainers_for_node_work() {
    script("node".into(), "testcontainers.js");
}

#[test]
fn dockerode_works() {
    script("node".into(), "dockerode.js");
}
