//! Docker's client and bare HTTP against `berth api`.

use std::io::{BufReader, Read, Write};

use berth_tests::api::{Api, read_answer};
use berth_tests::terminal::Terminal;
use berth_tests::{BUSYBOX, eventually};

#[test]
fn dockers_client_runs_containers() {
    let api = Api::new();
    assert_eq!(api.run(&[], &["echo", "hello"]).ok(), "hello");
    assert_eq!(api.run(&[], &["sh", "-c", "exit 3"]).code, 3);
    let ran = api.run(&[], &["sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "out", "err"));
    api.run(&[], &["no-such-program"])
        .fails(127, "executable file not found in $PATH");
    api.run(&[], &["/etc/passwd"]).fails(126, "permission denied");
    let flags = ["run", "-i", "--rm", "--network", "none", BUSYBOX, "cat"];
    assert_eq!(
        api.docker_with(&flags, &[], b"through standard input").ok(),
        "through standard input"
    );
    api.docker(&["run", "--rm", "no-such-image:1"]).fails(125, "");
    assert_eq!(api.docker(&["ps", "-aq"]).ok(), "");
}

/// However short the run is, and however it ends: all output, and the code.
#[test]
fn short_runs_lose_nothing() {
    let api = Api::new();
    for round in 0..20 {
        let ran = api.run(&[], &["sh", "-c", &format!("seq 1 500; exit {round}")]);
        assert_eq!((ran.code, ran.out.lines().count()), (round, 500));
    }
}

#[test]
fn containers_live_their_life() {
    let api = Api::new();
    let docker = |arguments: &[&str]| api.docker(arguments).ok();
    let id = api.start(&["--name", "web"], &["sh", "-c", "echo begun; exec sleep 1000"]);
    assert!(docker(&["ps"]).contains("Up "));
    eventually("the log is there", || docker(&["logs", "web"]) == "begun");
    assert!(docker(&["top", "web"]).contains("sleep 1000"));
    docker(&["pause", "web"]);
    assert!(docker(&["ps"]).contains("(Paused)"));
    docker(&["unpause", "web"]);
    docker(&["rename", "web", "web2"]);
    assert_eq!(
        docker(&["inspect", "-f", "{{.Id}} {{.State.Running}}", "web2"]),
        format!("{id} true")
    );
    api.docker(&["rm", "web2"])
        .fails(1, "stop the container before removing or force remove");
    docker(&["restart", "-t", "0", "web2"]);
    docker(&["kill", "web2"]);
    assert_eq!(docker(&["wait", "web2"]), "137");
    api.docker(&["start", "nothing"]).fails(1, "No such container: nothing");
    docker(&["start", "web2"]);
    docker(&["stop", "-t", "0", "web2"]);
    docker(&["rm", "web2"]);
    let said = api.said.lock().unwrap().clone();
    assert_eq!(said.matches("POST /containers/web2/kill: 204").count(), 1, "{said}");
}

#[test]
fn images_and_volumes_come_and_go() {
    let api = Api::new();
    let docker = |arguments: &[&str]| api.docker(arguments).ok();
    docker(&["tag", BUSYBOX, "other:2"]);
    let tar = api.berth.path("saved.tar");
    docker(&["save", "-o", &tar, "other:2"]);
    docker(&["rmi", "other:2"]);
    assert!(docker(&["load", "-i", &tar]).contains("Loaded image: other:2"));
    assert!(docker(&["images"]).contains("other"));
    let registry = berth_tests::registry::Registry::start();
    let name = registry.name("team/app:1");
    docker(&["tag", BUSYBOX, &name]);
    assert!(docker(&["push", &name]).contains("digest: sha256:"));
    docker(&["rmi", &name]);
    assert!(docker(&["pull", &name]).contains("Downloaded newer image for"));
    api.docker(&["pull", &registry.name("nothing:1")]).fails(1, "");
    docker(&["volume", "create", "data"]);
    assert_eq!(docker(&["volume", "ls", "-q"]), "data");
    docker(&["volume", "rm", "data"]);
    api.docker(&["volume", "inspect", "data"])
        .fails(1, "get data: no such volume");
}

#[test]
fn a_terminal_is_one() {
    let api = Api::new();
    let flags = [
        "run",
        "-it",
        "--rm",
        "--name",
        "tty",
        "--network",
        "none",
        BUSYBOX,
        "sh",
    ];
    let mut terminal = Terminal::start(api.docker_command(&flags), 33, 101);
    terminal.keys(b"stty size; tty\n");
    terminal.expect("33 101");
    terminal.resize(20, 90);
    eventually("the new size is there", || {
        terminal.keys(b"stty size\n");
        std::thread::sleep(std::time::Duration::from_millis(50));
        terminal.screen().contains("20 90")
    });
    terminal.keys(b"\x10\x11");
    terminal.child.wait().unwrap();
    assert!(api.docker(&["ps"]).ok().contains("tty"));
    let mut terminal = Terminal::start(api.docker_command(&["attach", "tty"]), 33, 101);
    terminal.keys(b"exit 5\n");
    assert_eq!(terminal.child.wait().unwrap().code(), Some(5));
}

#[test]
fn every_version_is_spoken() {
    let api = Api::new();
    for minor in 24..=51 {
        let version = format!("1.{minor}");
        let answer = api.request("GET", &format!("/v{version}/containers/json?all=1"), "");
        assert_eq!((answer.status, answer.text().as_str()), (200, "[]"), "{version}");
    }
    for version in ["1.30", "1.40", "1.44", "1.51"] {
        let flags = ["run", "--rm", "--network", "none", BUSYBOX, "echo", "spoken"];
        let ran = api.docker_with(&flags, &[("DOCKER_API_VERSION", version)], b"");
        assert_eq!(ran.ok(), "spoken", "{version}");
    }
    let answer = api.request("GET", "/v1.99/info", "");
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.message(),
        "client version 1.99 is too new. Maximum supported API version is 1.51"
    );
    let answer = api.request("GET", "/v1.23/info", "");
    assert!(
        answer
            .text()
            .starts_with("client version 1.23 is too old. Minimum supported API version is 1.24")
    );
}

#[test]
fn the_first_question_is_answered_as_by_dockerd() {
    let api = Api::new();
    for method in ["GET", "HEAD"] {
        let answer = api.request(method, "/_ping", "");
        assert_eq!(answer.status, 200);
        for (name, value) in [
            ("api-version", "1.51"),
            ("ostype", "linux"),
            ("docker-experimental", "false"),
            ("swarm", "inactive"),
            ("cache-control", "no-cache, no-store, must-revalidate"),
            ("pragma", "no-cache"),
            ("content-type", "text/plain; charset=utf-8"),
        ] {
            assert_eq!(answer.header(name), value, "{name}");
        }
        assert!(answer.header("server").starts_with("Berth/"));
    }
}

/// Codes and words are those of dockerd 28.5.
#[test]
fn bad_requests_get_dockers_answers() {
    let api = Api::new();
    for (method, path, body, status, words) in [
        ("GET", "/v1.51/nope", "", 404, "page not found"),
        ("PUT", "/v1.51/_ping", "", 404, "page not found"),
        ("GET", "/v1.51/containers/json?filters=xx", "", 400, "invalid filter"),
        (
            "GET",
            "/containers/json?filters=%7B%22foo%22:%5B%22a%22%5D%7D",
            "",
            400,
            "invalid filter 'foo'",
        ),
        (
            "POST",
            "/containers/create",
            "",
            400,
            "invalid JSON: got EOF while reading request body",
        ),
        ("POST", "/containers/create", "{", 400, "invalid JSON: unexpected EOF"),
        (
            "POST",
            "/containers/create",
            "{} x",
            400,
            "unexpected content after JSON",
        ),
        (
            "POST",
            "/containers/create",
            "{\"Image\":\"nope\"}",
            404,
            "No such image: nope:latest",
        ),
        ("GET", "/containers/nope/json", "", 404, "No such container: nope"),
        (
            "POST",
            "/containers/nope/wait?condition=foo",
            "",
            400,
            "invalid condition: \"foo\"",
        ),
        ("GET", "/images/nope/json", "", 404, "No such image: nope:latest"),
        ("GET", "/volumes/nope", "", 404, "get nope: no such volume"),
        ("DELETE", "/volumes/nope", "", 404, "get nope: no such volume"),
    ] {
        let answer = api.request(method, path, body);
        assert_eq!(
            (answer.status, answer.message().as_str()),
            (status, words),
            "{method} {path} {body}"
        );
    }
    let typed = api.request("POST", "/containers/create", "{\"Image\":5}");
    assert!(typed.status == 400 && typed.message().starts_with("invalid JSON: "));
    let plain = api
        .raw(b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!(
        plain.message(),
        "unsupported Content-Type header (text/plain): must be 'application/json'"
    );
    let moved = api.request("GET", "/v1.51//info", "");
    assert_eq!((moved.status, moved.header("location")), (301, "/v1.51/info"));
    let moved = api.request("GET", "/containers/../../../etc/passwd", "");
    assert_eq!((moved.status, moved.header("location")), (301, "/etc/passwd"));
    let moved = api.request("GET", "/containers/%2e%2e%2f%2e%2e/json", "");
    assert_eq!((moved.status, moved.header("location")), (301, "/json"));
    assert_eq!(api.request("GET", "/containers/%zz/json", "").status, 400);
    assert!(
        api.request("GET", "/swarm", "")
            .message()
            .starts_with("This node is not a swarm manager.")
    );
    assert_eq!(api.request("GET", "/plugins", "").text(), "[]");
}

#[test]
fn gigantic_and_slow_requests_do_no_harm() {
    let api = Api::new();
    let mut head = b"GET /_ping HTTP/1.1\r\nHost: d\r\nX-Big: ".to_vec();
    head.resize(2 << 20, b'a');
    head.extend_from_slice(b"\r\n\r\n");
    assert_eq!(api.raw(&head).status, 431);
    let body = format!("{{\"Image\":\"{}\"}}", "a".repeat(9 << 20));
    assert_eq!(api.request("POST", "/containers/create", &body).status, 400);
    let deep = "[".repeat(1 << 20);
    assert_eq!(api.request("POST", "/containers/create", &deep).status, 400);
    // Many that begin and do not go on; one that is served all the same.
    let slow: Vec<_> = (0..300)
        .map(|_| {
            let mut stream = api.connect();
            stream
                .write_all(b"POST /containers/create HTTP/1.1\r\nContent-Length: 10\r\n")
                .unwrap();
            stream
        })
        .collect();
    assert_eq!(api.request("GET", "/_ping", "").status, 200);
    drop(slow);
}

/// Raw bytes both ways, also for clients that do not ask for an upgrade; the end of input is one.
#[test]
fn connections_are_taken_over_with_and_without_an_upgrade() {
    let api = Api::new();
    for (upgrade, status) in [("Connection: Upgrade\r\nUpgrade: tcp\r\n", 101), ("", 200)] {
        let flags = [
            "create",
            "-i",
            "--network",
            "none",
            BUSYBOX,
            "sh",
            "-c",
            "tr a-z A-Z; echo done >&2",
        ];
        let id = api.docker(&flags).ok();
        let mut stream = api.connect();
        let path = format!("/v1.51/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1");
        let request = format!("POST {path} HTTP/1.1\r\nHost: d\r\n{upgrade}Content-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let head = read_answer(&mut reader);
        assert_eq!(head.status, status);
        assert_eq!(api.request("POST", &format!("/containers/{id}/start"), "").status, 204);
        stream.write_all(b"abc\n").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut output = Vec::new();
        reader.read_to_end(&mut output).unwrap();
        assert_eq!(output, b"\x01\0\0\0\0\0\0\x04ABC\n\x02\0\0\0\0\0\0\x05done\n");
        api.docker(&["rm", &id]).ok();
    }
}

/// Who attached is gone, in the middle of everything: the container goes on, and so does the server.
#[test]
fn abandoned_connections_do_no_harm() {
    let api = Api::new();
    let id = api.start(&[], &["sh", "-c", "while :; do echo line; done"]);
    for _ in 0..30 {
        let mut stream = api.connect();
        let path = format!("/containers/{id}/attach?stream=1&stdout=1");
        let request = format!("POST {path} HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut some = [0; 100];
        stream.read_exact(&mut some).unwrap();
    }
    assert_eq!(api.docker(&["inspect", "-f", "{{.State.Running}}", &id]).ok(), "true");
    api.docker(&["rm", "-f", &id]).ok();
}

/// Who waits for a stream, or is attached, and goes without a word: the connection goes, too, however long the container runs on.
#[test]
fn who_is_gone_is_forgotten() {
    let api = Api::new();
    let sockets = || {
        let entries = std::fs::read_dir(format!("/proc/{}/fd", api.pid())).unwrap();
        let links = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        links
            .filter(|link| link.to_string_lossy().starts_with("socket:"))
            .count()
    };
    let idle = sockets();
    let id = api.start(&[], &["sleep", "1000"]);
    let exec = api.request(
        "POST",
        &format!("/containers/{id}/exec"),
        r#"{"Cmd":["sleep","1000"],"AttachStdout":true}"#,
    );
    let exec = exec.json()["Id"].as_str().unwrap().to_owned();
    let upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
    let ask = |method: &str, path: &str, more: &str| {
        let mut stream = api.connect();
        let request = format!("{method} /v1.51{path} HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n{more}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        stream
    };
    // The client that started it has gone while it waited for the end.
    eventually("nobody is connected", || sockets() <= idle);
    let mut streams = vec![
        ask("POST", &format!("/containers/{id}/wait?condition=next-exit"), ""),
        ask("POST", &format!("/containers/{id}/wait"), ""),
        ask("GET", "/events", ""),
        ask("GET", &format!("/containers/{id}/logs?follow=1&stdout=1"), ""),
        ask("POST", &format!("/containers/{id}/attach?stream=1&stdout=1"), upgrade),
        ask("POST", &format!("/exec/{exec}/start"), upgrade),
    ];
    assert!(sockets() >= idle + streams.len());
    // One that still listens is no one that is gone.
    streams[4].shutdown(std::net::Shutdown::Write).unwrap();
    api.docker(&["ps"]).ok();
    assert!(sockets() >= idle + streams.len());
    streams.clear();
    eventually("they are forgotten", || sockets() <= idle);
    assert_eq!(api.docker(&["inspect", "-f", "{{.State.Running}}", &id]).ok(), "true");
    api.docker(&["rm", "-f", &id]).ok();
}

/// Kill -9 of the API: containers, logs and exit codes never noticed.
#[test]
fn the_api_is_no_daemon() {
    let mut api = Api::new();
    let id = api.start(
        &[],
        &[
            "sh",
            "-c",
            "i=0; while [ ! -e /tmp/end ]; do i=$((i+1)); echo $i; sleep 0.02; done; exit 7",
        ],
    );
    let mut ends = Vec::new();
    for _ in 0..3 {
        let name = format!("c{}", ends.len());
        ends.push(api.start(&["--name", &name], &["sleep", "1000"]));
        api.kill_and_serve_again();
        assert_eq!(api.docker(&["ps", "-q"]).ok().lines().count(), ends.len() + 1);
    }
    let lines = || api.docker(&["logs", &id]).ok().lines().count();
    let before = lines();
    eventually("the log goes on", || lines() > before);
    let log = api.docker(&["logs", &id]).ok();
    assert!(
        log.lines().enumerate().all(|(i, line)| line == (i + 1).to_string()),
        "{log}"
    );
    // It may end before who tells it to does.
    api.berth.run(&["exec", &id, "touch", "/tmp/end"]);
    assert_eq!(api.docker(&["wait", &id]).ok(), "7");
}

#[test]
fn the_socket_is_closed_to_others_and_taken_away() {
    use std::os::unix::fs::PermissionsExt;
    let api = Api::with(berth_tests::Berth::new(), &["-G", "1234"]);
    let path = api.berth.path("api.sock");
    let meta = std::fs::metadata(&path).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o660);
    assert_eq!(std::os::unix::fs::MetadataExt::gid(&meta), 1234);
    let second = api.berth.run(&["api", "-H", &format!("unix://{path}")]);
    second.fails(1, "another server listens at");
    api.berth
        .run(&["api", "-H", "unix://relative"])
        .fails(1, "not absolute");
    assert_eq!(api.request("GET", "/_ping", "").status, 200);
}

/// Clients wait for the end, remove the container, and read only then what they asked for while it ran.
#[test]
fn a_log_that_is_followed_outlives_its_container() {
    let api = Api::new();
    for wait in ["0", "0.1"] {
        let id = api.start(&[], &["sh", "-c", &format!("sleep {wait}; seq 1 5000")]);
        let mut stream = api.connect();
        let request =
            format!("GET /containers/{id}/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut first = [0; 1];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(
            api.request("POST", &format!("/containers/{id}/wait"), "").json()["StatusCode"],
            0
        );
        assert_eq!(api.request("DELETE", &format!("/containers/{id}"), "").status, 204);
        let answer = read_answer(&mut BufReader::new(first.as_slice().chain(stream)));
        assert!(answer.text().ends_with("5000"), "{}", answer.body.len());
    }
}

/// Some only ask, others make, start, wait for and remove containers: nobody gets an error, or another's answer.
#[test]
fn two_hundred_clients_at_once_are_answered() {
    let api = Api::new();
    let api = &api;
    std::thread::scope(|scope| {
        for client in 0..200 {
            scope.spawn(move || {
                let mut stream = api.connect();
                for round in 0..20 {
                    let path = ["/_ping", "/version", "/containers/json?all=1", "/images/json"][round % 4];
                    write!(stream, "GET {path} HTTP/1.1\r\nHost: d\r\n\r\n").unwrap();
                    let answer = read_answer(&mut BufReader::new(&stream));
                    assert_eq!(answer.status, 200, "{path}: {answer:?}");
                }
                if client % 20 != 0 {
                    return;
                }
                let body = format!(
                    r#"{{"Image":"{BUSYBOX}","Cmd":["sh","-c","exit {}"],"HostConfig":{{"NetworkMode":"none"}}}}"#,
                    client / 20
                );
                let made = api.request("POST", "/containers/create", &body);
                assert_eq!(made.status, 201, "{made:?}");
                let id = made.json()["Id"].as_str().unwrap().to_owned();
                assert_eq!(api.request("POST", &format!("/containers/{id}/start"), "").status, 204);
                let waited = api.request("POST", &format!("/containers/{id}/wait"), "").json();
                assert_eq!(waited["StatusCode"], client / 20);
                assert_eq!(api.request("DELETE", &format!("/containers/{id}"), "").status, 204);
            });
        }
    });
}
