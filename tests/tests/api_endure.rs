//! What Docker's API stands: many who only listen, one who does not read, a kill in the middle of everything, and secrets.

use std::io::{BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use berth_tests::api::{Api, connect, read_answer};
use berth_tests::network::World;
use berth_tests::{BUSYBOX, eventually};

/// A number of `/proc/PID/status`.
fn status(pid: i32, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the server's status");
    let line = text.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
    let word = line.and_then(|l| l.split_whitespace().next());
    word.and_then(|w| w.parse().ok()).expect("a number")
}

/// Asks for something that goes on; what it was answered at once.
fn begun(api: &Api, method: &str, path: &str) -> UnixStream {
    let mut stream = api.connect();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n"
    )
    .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the answer's head");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    stream
}

/// A connection on which so much has been sent.
fn begin(api: &Api, bytes: &str) -> UnixStream {
    let mut stream = api.connect();
    stream.write_all(bytes.as_bytes()).unwrap();
    stream
}

/// A thousand who wait for events, logs, ends and output cost no thread each, and little memory.
#[test]
fn a_thousand_idle_streams_cost_little() {
    let api = Api::new();
    let id = api.start(&[], &["sleep", "1000"]);
    let ask = |index: usize| match index % 4 {
        0 => begun(&api, "GET", "/events?filters=%7B%22type%22%3A%5B%22volume%22%5D%7D"),
        1 => begun(&api, "GET", &format!("/containers/{id}/logs?stdout=1&follow=1")),
        2 => begun(&api, "POST", &format!("/containers/{id}/wait")),
        _ => begun(&api, "POST", &format!("/containers/{id}/attach?stream=1&stdout=1")),
    };
    let mut streams: Vec<_> = (0..100).map(ask).collect();
    let before = status(api.pid(), "VmRSS");
    streams.extend((100..1000).map(ask));
    let each = status(api.pid(), "VmRSS").saturating_sub(before) as f64 / 900.0;
    assert!(each < 128.0, "{each} KiB a stream");
    // Threads for blocking work come with the load, and go with it; two run all streams.
    eventually("there is no thread for each", || status(api.pid(), "Threads") < 60);
    assert_eq!(api.docker(&["ps", "-q"]).ok().lines().count(), 1);
    // Everybody is told.
    api.docker(&["volume", "create", "told"]).ok();
    let mut byte = [0];
    streams[996].read_exact(&mut byte).expect("an event");
    api.docker(&["kill", &id]).ok();
    streams[998].read_exact(&mut byte).expect("the end");
    drop(streams);
    eventually("nothing is held any more", || {
        std::fs::read_dir(format!("/proc/{}/fd", api.pid())).unwrap().count() < 60
    });
    api.docker(&["rm", "-f", &id]).ok();
    api.docker(&["volume", "rm", "told"]).ok();
}

/// Who attached, follows the log, or downloads, and does not read: the container goes on, and so does everybody else.
#[test]
fn who_does_not_read_blocks_only_themselves() {
    let api = Api::new();
    let script = "i=0; while [ ! -e /tmp/end ]; do i=$((i+1)); echo line $i; done; echo the end";
    let id = api.start(&[], &["sh", "-c", script]);
    let idle = [
        begun(&api, "POST", &format!("/containers/{id}/attach?stream=1&stdout=1")),
        begun(&api, "GET", &format!("/containers/{id}/logs?stdout=1&follow=1")),
        begun(&api, "GET", &format!("/containers/{id}/export")),
        begun(&api, "GET", "/events?since=1"),
    ];
    let mut reads = begun(&api, "POST", &format!("/containers/{id}/attach?stream=1&stdout=1"));
    // More than any buffer on the way holds.
    std::io::copy(&mut (&mut reads).take(8 << 20), &mut std::io::sink()).expect("output");
    assert_eq!(api.docker(&["exec", &id, "echo", "in"]).ok(), "in");
    assert_eq!(api.run(&[], &["echo", "another"]).ok(), "another");
    // It may end before who tells it to does.
    api.docker(&["exec", &id, "touch", "/tmp/end"]);
    let mut rest = Vec::new();
    reads.read_to_end(&mut rest).expect("the rest");
    assert!(rest.ends_with(b"the end\n"));
    assert_eq!(api.docker(&["wait", &id]).ok(), "0");
    drop(idle);
    api.docker(&["rm", "-f", &id]).ok();
}

/// Bodies and heads that come byte by byte, or end too early, hold nobody up, and leave nothing.
#[test]
fn slow_and_broken_requests_leave_nothing() {
    let api = Api::new();
    assert_eq!(api.request("GET", "/_ping", "").status, 200);
    // Databases stay open for others, as many as there were at once at most.
    let held = || {
        let links = std::fs::read_dir(format!("/proc/{}/fd", api.pid())).unwrap().flatten();
        let links = links.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        links
            .filter(|link| !link.to_string_lossy().ends_with("berth.db"))
            .count()
    };
    let before = held() + 16;
    let long = "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"Image\":";
    let mut slow = Vec::new();
    for begin in [
        "POST /containers/create HTTP/1.1\r\nHost: d\r\n".to_owned() + long,
        "POST /images/load HTTP/1.1\r\nHost: d\r\n".to_owned() + long,
        "POST /containers/create HTTP/1.1\r\nHo".to_owned(),
        "PUT /containers/x/archive?path=/ HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab".to_owned(),
    ] {
        slow.extend((0..100).map(|_| self::begin(&api, &begin)));
    }
    eventually("all of them have begun", || held() > before + 300);
    assert_eq!(api.run(&[], &["echo", "served"]).ok(), "served");
    drop(slow);
    eventually("their descriptors are closed", || held() <= before);
    // What is no HTTP is told so, or hung up on.
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\r\n\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /_ping HTTP/9.9\r\n\r\n",
        b"GET /info HTTP/1.1\r\nHost: d\r\nContent-Length: -1\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    ] {
        let mut stream = api.connect();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"),
            "{bytes:?}: {answer:?}"
        );
    }
    assert_eq!(api.request("GET", "/_ping", "").status, 200);
    eventually("nothing is left", || held() <= before);
}

/// A second request hidden in the first one's body is a body, and each of a connection is looked at on its own.
#[test]
fn requests_are_not_smuggled() {
    let api = Api::new();
    let dir = api.berth.run(&["socket", "create", "--read-only", "reader"]).ok();
    let socket = std::path::PathBuf::from(format!("{dir}/api.sock"));
    eventually("the socket is open", || socket.exists());
    let hidden = "POST /volumes/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"Name\":\"v\"}";
    let chunked = format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
    for first in [
        format!(
            "GET /info HTTP/1.1\r\nHost: d\r\nContent-Length: {}\r\n\r\n{hidden}",
            hidden.len()
        ),
        format!("GET /info HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n{hidden}"),
        format!("GET /info HTTP/1.1\r\nHost: d\r\n\r\n{hidden}"),
        format!(
            "GET /info HTTP/1.1\r\nHost: d\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}{hidden}"
        ),
        format!("GET /info HTTP/1.1\r\nHost: d\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n{hidden}"),
        format!("GET /info HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n{hidden}"),
        format!(
            "GET /info HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n{chunked}{hidden}"
        ),
    ] {
        let mut stream = connect(&socket);
        stream.write_all(first.as_bytes()).unwrap();
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
        assert_eq!(api.docker(&["volume", "ls", "-q"]).ok(), "", "{first}");
    }
    for path in [
        "//volumes/create",
        "/v1.51/../volumes/create",
        "/%76olumes/create",
        "/volumes%2fcreate",
        "/v1.51//volumes/create",
        "/info/../volumes/create",
        "/v01.051/volumes/create",
    ] {
        let answer = berth_tests::api::ask(&socket, "POST", path, "{\"Name\":\"v\"}");
        assert!([301, 403, 404].contains(&answer.status), "{path}: {answer:?}");
        assert_eq!(api.docker(&["volume", "ls", "-q"]).ok(), "", "{path}");
    }
    api.berth.run(&["socket", "rm", "reader"]).ok();
}

/// Each request that changes something is a line of the log, and no line says what is secret.
#[test]
fn changes_are_logged_once_and_without_secrets() {
    let api = Api::new();
    let registry = berth_tests::registry::Registry::start();
    let name = registry.name("app:1");
    let secret = "c2VjcmV0LXdvcmQ";
    let said = |words: &str| {
        let all = api.said.lock().unwrap().clone();
        all.lines().filter(|l| l.contains(words)).count()
    };
    let env = format!("PASSWORD={secret}");
    let flags = [
        "create",
        "--name",
        "held",
        "--network",
        "none",
        "-e",
        &env,
        BUSYBOX,
        "sleep",
        "1000",
    ];
    api.docker(&flags).ok();
    api.docker(&["start", "held"]).ok();
    api.docker(&["exec", "-e", &env, "held", "true"]).ok();
    api.docker(&["exec", "held", "sh", "-c", &format!("echo {secret}")])
        .ok();
    api.docker(&["tag", BUSYBOX, &name]).ok();
    let body = format!(
        "{{\"username\":\"me\",\"password\":\"{secret}\",\"serveraddress\":\"{}\"}}",
        registry.address
    );
    api.request("POST", "/auth", &body);
    let push = format!(
        "POST /images/{name}/push?tag=1 HTTP/1.1\r\nHost: d\r\nConnection: close\r\nX-Registry-Auth: {secret}\r\n\
         Content-Length: 0\r\n\r\n"
    );
    api.raw(push.as_bytes());
    api.request(
        "POST",
        "/containers/create",
        &format!("{{\"Image\":5,\"Env\":[\"{env}\"]}}"),
    );
    api.request("GET", &format!("/containers/held/json?token={secret}"), "");
    api.docker(&["ps", "-a"]).ok();
    api.docker(&["rm", "-f", "held"]).ok();
    eventually("the last one is told", || said("DELETE /containers/held: 204") == 1);
    for (words, times) in [
        ("POST /containers/create: 201", 1),
        ("POST /containers/create: 400", 1),
        ("POST /containers/held/start: 204", 1),
        ("POST /containers/held/exec: 201", 2),
        (&format!("POST /images/{BUSYBOX}/tag: 201"), 1),
        ("POST /auth: ", 1),
        ("/push: ", 1),
        ("GET ", 0),
        ("HEAD ", 0),
        (secret, 0),
    ] {
        assert_eq!(said(words), times, "{words}: {}", api.said.lock().unwrap());
    }
}

/// Kill -9 while everybody asks: ports answer, health is looked at, who ends is started again, and nothing is lost.
#[test]
fn containers_do_not_notice_that_the_api_is_killed_under_load() {
    let world = World::new();
    let mut api = Api::with(world.berth(), &[]);
    let web = [
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "8080:80",
        "--health-cmd",
        "echo x >> /tmp/looks",
        "--health-interval",
    ];
    let served = ["1s", BUSYBOX, "httpd", "-f", "-p", "80", "-h", "/etc"];
    api.docker(&[&web[..], &served].concat()).ok();
    let again = "echo begun >> /data/begun; sleep 1; exit 3";
    let flags = [
        "run",
        "-d",
        "--name",
        "again",
        "--network",
        "none",
        "--restart",
        "always",
        "-v",
        "kept:/data",
    ];
    api.docker(&[&flags[..], &[BUSYBOX, "sh", "-c", again]].concat()).ok();
    let socket = api.socket();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let Ok(mut stream) = UnixStream::connect(&socket) else {
                        continue;
                    };
                    let asked = write!(
                        stream,
                        "GET /containers/json HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n"
                    );
                    let _ = asked.and_then(|()| stream.read_to_end(&mut Vec::new()));
                }
            });
        }
        let lines = |api: &Api, name: &str, file: &str| api.berth.run(&["exec", name, "cat", file]).out.lines().count();
        for _ in 0..3 {
            let looks = lines(&api, "web", "/tmp/looks");
            api.kill_and_serve_again();
            let world = &world;
            assert!(
                world
                    .on(&world.host(), "wget -qO- http://127.0.0.1:8080/passwd")
                    .out
                    .contains("root:")
            );
            eventually("its health is looked at", || lines(&api, "web", "/tmp/looks") > looks);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    eventually("it was started again", || {
        let count = api.docker(&["inspect", "-f", "{{.RestartCount}}", "again"]).ok();
        count.parse::<u32>().unwrap() >= 2
    });
    assert_eq!(
        api.docker(&["inspect", "-f", "{{.State.Health.Status}}", "web"]).ok(),
        "healthy"
    );
    let answer = api.request("GET", "/containers/json", "").json();
    assert_eq!(answer.as_array().map(Vec::len), Some(2));
    api.docker(&["rm", "-f", "-v", "web", "again"]).ok();
    api.docker(&["volume", "rm", "kept"]).ok();
}

/// A second start, a second removal, and whatever else comes while a container goes: one does it, all are answered.
#[test]
fn what_is_done_twice_at_once_is_done_once() {
    let api = Api::new();
    for _ in 0..5 {
        let id = api
            .docker(&["create", "--network", "none", BUSYBOX, "sleep", "1000"])
            .ok();
        let at_once = |method: &str, path: String| -> Vec<u16> {
            let mut streams: Vec<_> = (0..8)
                .map(|_| {
                    let mut stream = api.connect();
                    write!(
                        stream,
                        "{method} {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
                    )
                    .unwrap();
                    stream
                })
                .collect();
            streams
                .iter_mut()
                .map(|stream| read_answer(&mut BufReader::new(stream)).status)
                .collect()
        };
        let started = at_once("POST", format!("/containers/{id}/start"));
        assert_eq!(started.iter().filter(|s| **s == 204).count(), 1, "{started:?}");
        assert!(started.iter().all(|s| [204, 304].contains(s)), "{started:?}");
        let removed = at_once("DELETE", format!("/containers/{id}?force=1"));
        assert!(removed.contains(&204), "{removed:?}");
        assert!(removed.iter().all(|s| [204, 404, 409].contains(s)), "{removed:?}");
        eventually("it is gone", || {
            api.request("GET", &format!("/containers/{id}/json"), "").status == 404
        });
    }
}
