//! Docker's API served over a test's engine, and those who speak to it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::{BUSYBOX, Berth, Ran, eventually};

/// `berth api`, and the engine below it.
pub struct Api {
    pub berth: Berth,
    child: Child,
    /// What it has said.
    pub said: Arc<Mutex<String>>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Lower-case names.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map_or("", |(_, value)| value)
    }
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim_end().to_owned()
    }
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
    /// The words of an error.
    #[track_caller]
    pub fn message(&self) -> String {
        self.json()["message"]
            .as_str()
            .unwrap_or_else(|| panic!("no message: {self:?}"))
            .to_owned()
    }
}

impl Default for Api {
    fn default() -> Self {
        Self::new()
    }
}

impl Api {
    /// On a unix socket, with [`BUSYBOX`].
    pub fn new() -> Self {
        Self::with(Berth::new(), &[])
    }

    /// With more flags.
    pub fn with(berth: Berth, flags: &[&str]) -> Self {
        let (child, said) = Self::serve(&berth, flags);
        Api { berth, child, said }
    }

    fn serve(berth: &Berth, flags: &[&str]) -> (Child, Arc<Mutex<String>>) {
        let host = format!("unix://{}", berth.path("api.sock"));
        let mut command = berth.command(&[&["api", "-H", &host], flags].concat());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("start berth api");
        let (said, stderr) = (Arc::new(Mutex::new(String::new())), child.stderr.take().unwrap());
        let heard = said.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut said = heard.lock().unwrap();
                said.push_str(&line);
                said.push('\n');
            }
        });
        eventually("the API listens", || {
            assert!(
                child.try_wait().unwrap().is_none(),
                "it ended: {}",
                said.lock().unwrap()
            );
            said.lock().unwrap().contains("API listen on")
        });
        (child, said)
    }

    /// SIGKILL, and another one in its place.
    pub fn kill_and_serve_again(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        (self.child, self.said) = Self::serve(&self.berth, &[]);
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// For `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.berth.path("api.sock"))
    }

    /// A connection.
    pub fn connect(&self) -> UnixStream {
        connect(&self.socket())
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.berth.dir.path().join("api.sock")
    }

    /// Docker's client, not started.
    pub fn docker_command(&self, arguments: &[&str]) -> Command {
        self.client("docker".as_ref(), arguments)
    }

    /// Docker's client of version 28 (`scripts/clients`).
    pub fn docker_28(&self, arguments: &[&str]) -> Ran {
        let program = crate::fixtures().join("docker-cli/docker");
        let out = self.client(&program, arguments).output();
        Ran::new(&out.unwrap_or_else(|e| panic!("{}: {e}: scripts/clients", program.display())))
    }

    fn client(&self, program: &std::path::Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("DOCKER_HOST", self.host())
            .env("DOCKER_CONFIG", self.berth.path("docker"))
            .env_remove("DOCKER_API_VERSION")
            .stdin(Stdio::null());
        command
    }

    /// Docker's client.
    pub fn docker(&self, arguments: &[&str]) -> Ran {
        self.docker_with(arguments, &[], b"")
    }

    /// With variables, and something to read.
    pub fn docker_with(&self, arguments: &[&str], env: &[(&str, &str)], input: &[u8]) -> Ran {
        let mut command = self.docker_command(arguments);
        command
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if !input.is_empty() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().expect("docker is installed");
        if let Some(mut stdin) = child.stdin.take() {
            let _ = stdin.write_all(input);
        }
        let ran = Ran::new(&child.wait_with_output().unwrap());
        self.berth.remember(&ran.out);
        ran
    }

    /// `docker run --rm` of [`BUSYBOX`] without a network.
    pub fn run(&self, flags: &[&str], command: &[&str]) -> Ran {
        self.docker(&[&["run", "--rm", "--network", "none"], flags, &[BUSYBOX], command].concat())
    }

    /// `docker run -d`; its id.
    #[track_caller]
    pub fn start(&self, flags: &[&str], command: &[&str]) -> String {
        self.docker(&[&["run", "-d", "--network", "none"], flags, &[BUSYBOX], command].concat())
            .ok()
    }

    /// One request, with a JSON body if that is not empty.
    pub fn request(&self, method: &str, path: &str, body: &str) -> Answer {
        ask(&self.socket(), method, path, body)
    }

    /// Bytes to the server, and its answer.
    pub fn raw(&self, request: &[u8]) -> Answer {
        told(&self.socket(), request)
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_raw(self.pid()).unwrap(),
            rustix::process::Signal::TERM,
        );
        let _ = self.child.wait();
    }
}

/// A connection to whoever serves Docker's API at a socket.
pub fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).expect("connect to the API");
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// One request there, with a JSON body if that is not empty.
pub fn ask(socket: &Path, method: &str, path: &str, body: &str) -> Answer {
    let kind = if body.is_empty() {
        ""
    } else {
        "Content-Type: application/json\r\n"
    };
    let length = match (method, body) {
        ("GET" | "HEAD", "") => String::new(),
        _ => format!("Content-Length: {}\r\n", body.len()),
    };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n{kind}{length}\r\n{body}");
    told(socket, head.as_bytes())
}

fn told(socket: &Path, request: &[u8]) -> Answer {
    let mut stream = connect(socket);
    // A server that has heard enough hangs up before the end.
    let _ = stream.write_all(request);
    read_answer(&mut BufReader::new(stream))
}

/// An answer, its body to the end of the stream or as long as its head says.
pub fn read_answer(reader: &mut impl BufRead) -> Answer {
    let (mut lines, mut line) = (Vec::new(), String::new());
    while reader.read_line(&mut line).expect("read the answer's head") > 2 {
        lines.push(line.trim_end().to_owned());
        line.clear();
    }
    let status = lines
        .first()
        .and_then(|l| l.split(' ').nth(1))
        .and_then(|s| s.parse().ok());
    let headers: Vec<(String, String)> = lines
        .iter()
        .skip(1)
        .filter_map(|l| l.split_once(": "))
        .map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()))
        .collect();
    let mut answer = Answer {
        status: status.unwrap_or_else(|| panic!("no status: {lines:?}")),
        headers,
        body: Vec::new(),
    };
    if answer.header("transfer-encoding") == "chunked" {
        loop {
            let mut size = String::new();
            if reader.read_line(&mut size).unwrap_or(0) == 0 {
                break;
            }
            let size = usize::from_str_radix(size.trim(), 16).expect("a chunk's size");
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).expect("a chunk");
            answer.body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
    } else if let Ok(length) = answer.header("content-length").parse::<usize>() {
        answer.body.resize(length, 0);
        // An answer to HEAD has a length and no body.
        let _ = reader.read_exact(&mut answer.body);
    } else if answer.status >= 400 && answer.header("connection") == "close" {
        let _ = reader.read_to_end(&mut answer.body);
    }
    answer
}
