//! Where the API listens, and for whom.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use berth_tests::api::{Api, ask};
use berth_tests::network::{World, inside, shell};
use berth_tests::{BUSYBOX, Berth, eventually};

/// A server that is not on the usual socket.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn openssl(dir: &str, script: &str) {
    let ran = Command::new("sh")
        .args(["-ec", script])
        .current_dir(dir)
        .output()
        .expect("openssl is installed");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

/// An authority, a server of it, a client of it, and a client of somebody else.
const CERTIFICATES: &str = r#"
authority() { openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$1" -keyout $1-key.pem -out $1.pem \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign; }
signed() { openssl req -newkey rsa:2048 -nodes -subj "/CN=$2" -keyout $2-key.pem -out $2.csr
    printf "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=$3\n" > $2.ext
    openssl x509 -req -in $2.csr -CA $1.pem -CAkey $1-key.pem -CAcreateserial -days 2 -extfile $2.ext -out $2.pem; }
authority ca; authority other
signed ca server serverAuth; signed ca client clientAuth; signed other stranger clientAuth
"#;

#[test]
fn tcp_needs_certificates_off_loopback_and_verifies_them() {
    let berth = Berth::empty();
    let dir = berth.dir.path().display().to_string();
    berth
        .run(&["api", "-H", "tcp://0.0.0.0:1"])
        .fails(1, "refusing to listen at 0.0.0.0:1 without TLS");
    openssl(&dir, CERTIFICATES);
    let file = |name: &str| format!("{dir}/{name}.pem");
    let (certificate, key, ca) = (file("server"), file("server-key"), file("ca"));
    let halfway = [
        "api",
        "-H",
        "tcp://0.0.0.0:1",
        "--tls",
        "--tlscert",
        &certificate,
        "--tlskey",
        &key,
    ];
    berth.run(&halfway).fails(1, "that verifies clients");
    let port = free_port();
    let host = format!("tcp://127.0.0.1:{port}");
    let flags = [
        "--tlsverify",
        "--tlscacert",
        &ca,
        "--tlscert",
        &certificate,
        "--tlskey",
        &key,
    ];
    let server = berth
        .command(&[&["api", "-H", &host], &flags[..]].concat())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _server = Server(server);
    let ask = |who: &str| {
        let mut command = Command::new("docker");
        command.args(["-H", &host, "--tlsverify", "--tlscacert", &ca]);
        command.args([
            "--tlscert",
            &file(who),
            "--tlskey",
            &file(&format!("{who}-key")),
            "ps",
            "-q",
        ]);
        command
            .env("DOCKER_CONFIG", &dir)
            .env_remove("DOCKER_HOST")
            .output()
            .expect("docker is installed")
    };
    eventually("the server answers its client", || ask("client").status.success());
    assert!(!ask("stranger").status.success());
    let plain = Command::new("docker")
        .args(["-H", &host, "ps"])
        .env("DOCKER_CONFIG", &dir)
        .output()
        .unwrap();
    assert!(!plain.status.success());
}

/// As systemd does it: the socket is there before the server, which ends when nobody comes.
#[test]
fn sockets_are_passed_and_idle_servers_end() {
    let berth = Berth::empty();
    let (socket, notify) = (berth.path("passed.sock"), berth.path("notify.sock"));
    let listener = std::os::unix::net::UnixDatagram::bind(&notify).unwrap();
    let script = "import os,socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen()\n\
        os.dup2(s.fileno(),3)\nos.set_inheritable(3,True)\nos.environ.update(LISTEN_PID=str(os.getpid()),LISTEN_FDS='1')\n\
        os.execv(sys.argv[2],sys.argv[2:])";
    let program = berth_tests::program().display().to_string();
    let own = berth.command(&[]);
    let mut command = Command::new("python3");
    command.args([
        "-c",
        script,
        &socket,
        &program,
        "api",
        "-H",
        "fd://",
        "--idle-exit",
        "1",
    ]);
    command
        .envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env("NOTIFY_SOCKET", &notify);
    let mut server = command.stderr(Stdio::null()).spawn().expect("python3 is installed");
    let mut word = [0; 64];
    let read = listener.recv(&mut word).unwrap();
    assert_eq!(&word[..read], b"READY=1");
    let asked = Command::new("docker")
        .args(["-H", &format!("unix://{socket}"), "ps", "-q"])
        .output()
        .unwrap();
    assert!(asked.status.success(), "{asked:?}");
    assert!(server.wait().unwrap().success());
    assert!(std::path::Path::new(&socket).exists());
    berth.run(&["api", "-H", "fd://"]).fails(1, "no sockets were passed");
}

#[test]
fn ssh_contexts_have_their_proxy() {
    let api = Api::new();
    let mut command = api.berth.command(&["system", "dial-stdio"]);
    command
        .env("DOCKER_HOST", api.host())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let request = b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n";
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), request).unwrap();
    let out = child.wait_with_output().unwrap().stdout;
    assert!(String::from_utf8_lossy(&out).ends_with("OK"));
}

/// Docker's client over Debian's ssh, to a host on which `docker` is Berth: nothing but the context is set.
#[test]
fn ssh_contexts_work() {
    let world = World::new();
    let api = Api::with(world.berth(), &[]);
    let dir = api.berth.path("ssh");
    let program = berth_tests::program().display().to_string();
    std::fs::create_dir_all("/run/sshd").unwrap();
    shell(&format!(
        "mkdir -p {dir}/there {dir}/here; ln -s {program} {dir}/there/docker
        ssh-keygen -q -t ed25519 -N '' -f {dir}/host; ssh-keygen -q -t ed25519 -N '' -f {dir}/user
        printf 'Port 2222\\nListenAddress 127.0.0.1\\nHostKey {dir}/host\\nAuthorizedKeysFile {dir}/user.pub\\n' > {dir}/server
        printf 'PermitRootLogin yes\\nStrictModes no\\nUsePAM yes\\nPidFile none\\n' >> {dir}/server
        printf 'SetEnv PATH={dir}/there:/usr/bin:/bin DOCKER_HOST={host}\\n' >> {dir}/server
        printf 'IdentityFile {dir}/user\\nStrictHostKeyChecking no\\nUserKnownHostsFile {dir}/known\\n' > {dir}/client
        printf '#!/bin/sh\\nexec /usr/bin/ssh -F {dir}/client \"$@\"\\n' > {dir}/ssh",
        host = api.host()
    ));
    let script = std::fs::File::open(format!("{dir}/ssh")).unwrap();
    berth_tests::place_program(script, format!("{dir}/here/ssh"));
    let mut sshd = inside(&world.host(), "/usr/sbin/sshd");
    sshd.args(["-D", "-e", "-f", &format!("{dir}/server")]);
    let log = std::fs::File::create(format!("{dir}/log")).unwrap();
    let _sshd = Server(
        sshd.stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("sshd is installed"),
    );
    let docker = |arguments: &[&str]| {
        let mut command = inside(&world.host(), "docker");
        command.args(["-H", "ssh://root@127.0.0.1:2222"]).args(arguments);
        command.env("PATH", format!("{dir}/here:{}", std::env::var("PATH").unwrap()));
        command
            .env_remove("DOCKER_HOST")
            .env("DOCKER_CONFIG", &dir)
            .stdin(Stdio::null());
        command.output().expect("docker is installed")
    };
    eventually("the server lets its user in", || docker(&["version"]).status.success());
    let ran = docker(&[
        "run",
        "--rm",
        "--network",
        "none",
        BUSYBOX,
        "sh",
        "-c",
        "echo far; exit 3",
    ]);
    let log = std::fs::read_to_string(format!("{dir}/log")).unwrap();
    assert_eq!(
        (ran.status.code(), &ran.stdout[..]),
        (Some(3), &b"far\n"[..]),
        "{ran:?} {log}"
    );
}

/// Through a socket that allows everything: containers that somebody else made with more rights stay closed, volumes are no
/// directories of the host, and processes get no privileges.
fn nobody_reaches_into_roots(api: &Api, socket: &str) {
    let path = std::path::Path::new(socket);
    let ask = |method: &str, path_and_query: &str, body: &str| ask(path, method, path_and_query, body);
    let volume = ask(
        "POST",
        "/volumes/create",
        r#"{"Name":"v","DriverOpts":{"type":"none","o":"bind","device":"/"}}"#,
    );
    assert_eq!(
        volume.message(),
        "through a scoped socket there are no options of volumes"
    );
    let more: &[(&str, &[&str])] = &[
        ("privileged", &["--privileged"]),
        ("bound", &["-v", "/:/host:ro"]),
        ("pids", &["--pid", "host"]),
        ("caps", &["--cap-add", "SYS_ADMIN"]),
        ("loose", &["--security-opt", "seccomp=unconfined"]),
        ("device", &["--device", "/dev/null:/dev/other"]),
    ];
    for (name, flags) in more {
        api.start(&[&["--name", name][..], flags].concat(), &["sleep", "1000"]);
        for (method, operation, body) in [
            ("POST", "exec", r#"{"Cmd":["id"]}"#),
            ("POST", "attach?stream=1&stdin=1", ""),
            ("GET", "archive?path=/", ""),
            ("PUT", "archive?path=/", ""),
            ("GET", "export", ""),
            ("GET", "changes", ""),
        ] {
            let answer = ask(method, &format!("/containers/{name}/{operation}"), body);
            assert_eq!(answer.status, 403, "{name} {operation}: {answer:?}");
            let words = format!("through a scoped socket nobody reaches into {name}");
            assert!(answer.message().starts_with(&words), "{answer:?}");
        }
        let shell = ask("GET", &format!("/berth/terminal/{name}"), "");
        let copied = ask("POST", &format!("/commit?container={name}&repo=copied"), "");
        assert_eq!((shell.status, copied.status), (403, 403), "{name}");
        // A process that root made is not started by others.
        let made = api
            .request("POST", &format!("/containers/{name}/exec"), r#"{"Cmd":["id"]}"#)
            .json();
        let process = made["Id"].as_str().unwrap().to_owned();
        assert_eq!(
            ask("POST", &format!("/exec/{process}/start"), "{}").status,
            403,
            "{name}"
        );
        api.docker(&["rm", "-f", name]).ok();
    }
    let privileged = ask("POST", "/containers/ours/exec", r#"{"Cmd":["id"],"privileged":true}"#);
    assert_eq!(
        privileged.message(),
        "through a scoped socket there are no privileged processes"
    );
    let devices = ask(
        "POST",
        "/containers/ours/update",
        r#"{"DeviceCgroupRules":["a *:* rwm"]}"#,
    );
    assert_eq!(devices.status, 403, "{devices:?}");
    assert_eq!(ask("POST", "/containers/ours/exec", r#"{"Cmd":["id"]}"#).status, 201);
}

/// A scoped socket shows what it is for, and lets nobody become root.
#[test]
fn scoped_sockets_allow_what_they_say() {
    let api = Api::new();
    let ours = api.start(&["--name", "ours", "--label", "team=a"], &["sleep", "1000"]);
    api.start(&["--name", "theirs", "--label", "team=b"], &["sleep", "1000"]);
    let socket = |name: &str, flags: &[&str]| {
        let dir = api.berth.run(&[&["socket", "create"], flags, &[name]].concat()).ok();
        let path = format!("{dir}/api.sock");
        eventually("the socket is open", || std::path::Path::new(&path).exists());
        path
    };
    let through = |socket: &str, arguments: &[&str]| {
        let host = format!("unix://{socket}");
        api.docker_with(&[&["-H", &host], arguments].concat(), &[], b"")
    };
    let narrow = socket(
        "narrow",
        &["--read-only", "--label", "team=a", "--allow", "containers.list,events"],
    );
    assert_eq!(through(&narrow, &["ps", "-q", "--no-trunc"]).ok(), ours);
    through(&narrow, &["inspect", "ours"]).fails(1, "does not allow containers.inspect");
    through(&narrow, &["exec", "ours", "id"]).fails(1, "does not allow");
    let reader = socket("reader", &["--read-only"]);
    assert_eq!(through(&reader, &["ps", "-q"]).ok().lines().count(), 2);
    assert_eq!(
        through(&reader, &["inspect", "-f", "{{.Name}}", "theirs"]).ok(),
        "/theirs"
    );
    for changing in [
        &["rm", "-f", "ours"][..],
        &["exec", "ours", "id"],
        &["stop", "ours"],
        &["pull", "x"],
    ] {
        through(&reader, changing).fails(1, "is read-only");
    }
    let team = socket("team", &["--label", "team=a"]);
    through(&team, &["container", "inspect", "theirs"]).fails(1, "No such container");
    assert!(
        through(&team, &["rm", "-f", "theirs"])
            .err
            .contains("No such container: theirs")
    );
    assert_eq!(
        api.docker(&["inspect", "-f", "{{.State.Running}}", "theirs"]).ok(),
        "true"
    );
    assert_eq!(through(&team, &["exec", "ours", "echo", "in"]).ok(), "in");
    let maker = socket("maker", &["--allow", "containers,images,exec"]);
    let make = |flags: &[&str]| {
        through(
            &maker,
            &[&["run", "--rm", "--network", "none"], flags, &[BUSYBOX, "true"]].concat(),
        )
    };
    for root in [
        &["--privileged"][..],
        &["-v", "/:/host"],
        &["--pid", "host"],
        &["--userns", "host"],
        &["--cap-add", "SYS_ADMIN"],
        &["--device", "/dev/null"],
        &["--security-opt", "seccomp=unconfined"],
        &["--mount", "type=bind,src=/,dst=/host"],
    ] {
        make(root).fails(125, "through a scoped socket there are no");
    }
    assert_eq!(make(&[]).code, 0);
    nobody_reaches_into_roots(&api, &socket("open", &[]));
    assert!(api.berth.run(&["socket", "ls"]).ok().contains("narrow"));
    api.berth
        .run(&["socket", "create", "--allow", "contain", "bad"])
        .fails(1, "unknown operation");
    api.berth.run(&["socket", "create", "../bad"]).fails(1, "invalid name");
    api.berth
        .run(&["socket", "rm", "narrow", "reader", "team", "maker", "open"])
        .ok();
    eventually("the sockets are closed", || !std::path::Path::new(&narrow).exists());
}
