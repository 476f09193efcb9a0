//! Over Docker's API: added processes, events, files, images of containers.

use std::io::{BufRead, BufReader, Read, Write};

use berth_tests::api::{Api, read_answer};
use berth_tests::terminal::Terminal;
use berth_tests::{BUSYBOX, eventually};

#[test]
fn processes_are_added() {
    let api = Api::new();
    let id = api.start(&[], &["sleep", "1000"]);
    let exec = |arguments: &[&str]| api.docker(&[&["exec"], arguments].concat());
    assert_eq!(exec(&[&id, "echo", "hello"]).ok(), "hello");
    let ran = exec(&[&id, "sh", "-c", "echo out; echo err >&2; exit 4"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (4, "out", "err"));
    let ran = exec(&[&id, "no-such-program"]);
    assert!(
        ran.code == 127 && ran.out.contains("executable file not found in $PATH"),
        "{ran:?}"
    );
    let through = api.docker_with(&["exec", "-i", &id, "cat"], &[], b"through");
    assert_eq!(through.ok(), "through");
    exec(&["-d", &id, "touch", "/tmp/made"]).ok();
    eventually("it was made", || exec(&[&id, "ls", "/tmp"]).ok() == "made");
    assert_eq!(
        exec(&["-e", "A=b", "-w", "/tmp", &id, "sh", "-c", "echo $A; pwd"]).ok(),
        "b\n/tmp"
    );
    assert_eq!(
        api.request("GET", "/exec/nothing/json", "").message(),
        "No such exec instance: nothing"
    );
    let mut terminal = Terminal::start(api.docker_command(&["exec", "-it", &id, "sh"]), 33, 101);
    terminal.keys(b"stty size\n");
    terminal.expect("33 101");
    terminal.keys(b"exit 9\n");
    assert_eq!(terminal.code(), 9);
    api.docker(&["rm", "-f", &id]).ok();
}

/// What a process writes at once comes after the head, for those who read the head with a buffer of their own.
#[test]
fn heads_come_alone() {
    let api = Api::new();
    let id = api.start(&[], &["sleep", "1000"]);
    for _ in 0..20 {
        let made = api.request(
            "POST",
            &format!("/containers/{id}/exec"),
            r#"{"AttachStdout":true,"Cmd":["echo","x"]}"#,
        );
        let exec = made.json()["Id"].as_str().unwrap().to_owned();
        let body = "{}";
        let mut stream = api.connect();
        let request = format!(
            "POST /exec/{exec}/start HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(15));
        let mut bytes = [0; 4096];
        let read = stream.read(&mut bytes).unwrap();
        assert!(
            bytes[..read].ends_with(b"\r\n\r\n"),
            "{:?}",
            String::from_utf8_lossy(&bytes[..read])
        );
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"\x01\0\0\0\0\0\0\x02x\n");
    }
    api.docker(&["rm", "-f", &id]).ok();
}

#[test]
fn events_are_told_as_they_happen() {
    let api = Api::new();
    let mut stream = api.connect();
    let filter = "filters=%7B%22type%22%3A%5B%22container%22%5D%7D";
    let request = format!("GET /events?{filter} HTTP/1.1\r\nHost: d\r\nAccept: application/json-seq\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        reader.read_line(&mut head).unwrap();
    }
    assert!(head.contains("Content-Type: application/json-seq"), "{head}");
    assert_eq!(api.run(&[], &["true"]).code, 0);
    let mut told = String::new();
    while !told.contains(r#""Action":"die""#) {
        reader.read_line(&mut told).expect("an event");
    }
    assert!(told.contains("\x1e{") && told.contains(r#""Action":"start""#), "{told}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let until = now.unwrap().as_secs() + 1;
    let past = api.request("GET", &format!("/events?since=0&until={until}"), "").text();
    for action in ["create", "start", "die", "import"] {
        assert!(past.contains(&format!("\"Action\":\"{action}\"")), "{action}: {past}");
    }
}

#[test]
fn files_and_images_of_containers() {
    let api = Api::new();
    let docker = |arguments: &[&str]| api.docker(arguments).ok();
    let id = api.start(&["--name", "made"], &["sleep", "1000"]);
    let file = api.berth.path("file");
    std::fs::write(&file, "carried").unwrap();
    docker(&["cp", &file, "made:/tmp/there"]);
    assert_eq!(docker(&["exec", "made", "cat", "/tmp/there"]), "carried");
    let back = api.berth.path("back");
    docker(&["cp", "made:/tmp/there", &back]);
    assert_eq!(std::fs::read_to_string(&back).unwrap(), "carried");
    assert!(docker(&["diff", "made"]).contains("A /tmp/there"));
    docker(&["commit", "-m", "a word", "made", "committed:1"]);
    assert_eq!(
        docker(&["run", "--rm", "--network", "none", "committed:1", "cat", "/tmp/there"]),
        "carried"
    );
    assert!(docker(&["history", "committed:1"]).contains("a word"));
    let tar = api.berth.path("c.tar");
    docker(&["export", "-o", &tar, "made"]);
    assert!(std::fs::metadata(&tar).unwrap().len() > 1 << 20);
    docker(&["update", "--memory", "64m", "--memory-swap", "-1", "made"]);
    assert_eq!(
        docker(&["inspect", "-f", "{{.HostConfig.Memory}}", "made"]),
        (64 << 20).to_string()
    );
    assert!(docker(&["system", "df"]).contains("Images"));
    docker(&["rm", "-f", "made"]);
    assert!(docker(&["image", "prune", "-af"]).contains("Total reclaimed space"));
    assert_eq!(docker(&["images", "-q"]), "");
    api.docker(&["cp", "nothing:/x", &back])
        .fails(1, "No such container: nothing");
    assert_eq!(id.len(), 64);
}

/// RFC 6455's handshake, and raw output in binary messages.
#[test]
fn web_sockets_attach() {
    let api = Api::new();
    let id = api.docker(&["create", "-i", "--network", "none", BUSYBOX, "cat"]).ok();
    let mut stream = api.connect();
    let request = format!(
        "GET /containers/{id}/attach/ws?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let head = read_answer(&mut reader);
    assert_eq!(
        (head.status, head.header("sec-websocket-accept")),
        (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    api.docker(&["start", &id]).ok();
    // A masked binary message: "hi".
    stream.write_all(&[0x82, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2]).unwrap();
    let mut message = [0; 4];
    reader.read_exact(&mut message).unwrap();
    assert_eq!(message, [0x82, 2, b'h', b'i']);
    drop((stream, reader));
    assert_eq!(
        api.request("GET", &format!("/containers/{id}/attach/ws"), "").status,
        400
    );
    api.docker(&["rm", "-f", &id]).ok();
}
