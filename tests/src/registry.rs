//! Registries: Debian's own, and one that answers whatever a test wants.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Debian's `docker-registry` on a free port of loopback.
pub struct Registry {
    child: Child,
    pub address: String,
    _dir: tempfile::TempDir,
}

impl Registry {
    /// Starts it, and waits until it answers. A port that is free now may be another's when it listens.
    pub fn start() -> Self {
        loop {
            if let Some(registry) = Self::try_start() {
                return registry;
            }
        }
    }

    fn try_start() -> Option<Self> {
        let dir = tempfile::Builder::new()
            .prefix("berth-registry-")
            .tempdir_in("/var/tmp")
            .unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: {address}\n",
            dir.path().join("data").display()
        );
        std::fs::write(dir.path().join("config.yml"), config).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.path().join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed");
        let mut ended = false;
        crate::eventually("the registry answers", || {
            ended = child.try_wait().expect("wait for the registry").is_some();
            ended || Self::answers(&address)
        });
        (!ended).then_some(Registry {
            child,
            address,
            _dir: dir,
        })
    }

    /// A connection alone means nothing: who connects to a free port of its own machine may meet itself.
    fn answers(address: &str) -> bool {
        let ask = || {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(b"GET /v2/ HTTP/1.0\r\n\r\n")?;
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).map(|_| line)
        };
        ask().is_ok_and(|line| line.starts_with("HTTP/1.0 200"))
    }

    /// A name in it.
    pub fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a made-up registry answers to one path.
#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Break the connection off after so many bytes of the body, the first so many times.
    pub cut: Option<(usize, u32)>,
    /// So many bytes now and then, not all of them at once.
    pub drip: Option<(usize, Duration)>,
    /// Something else the first so many times.
    pub first: Option<(u32, Box<Answer>)>,
}

impl Answer {
    /// 200, with a type.
    pub fn ok(kind: &str, body: impl Into<Vec<u8>>) -> Self {
        Answer {
            status: 200,
            headers: vec![("Content-Type".into(), kind.into())],
            body: body.into(),
            cut: None,
            drip: None,
            first: None,
        }
    }
    /// Another status.
    pub fn status(status: u16) -> Self {
        Answer {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            cut: None,
            drip: None,
            first: None,
        }
    }
    /// With a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
    /// A byte each time.
    pub fn drip(mut self, every: Duration) -> Self {
        self.drip = Some((1, every));
        self
    }
    /// So many bytes each time.
    pub fn pace(mut self, bytes: usize, every: Duration) -> Self {
        self.drip = Some((bytes, every));
        self
    }
    /// After something else.
    pub fn after(mut self, times: u32, other: Answer) -> Self {
        self.first = Some((times, Box::new(other)));
        self
    }
    /// Cut short.
    pub fn cut(mut self, after: usize, times: u32) -> Self {
        self.cut = Some((after, times));
        self
    }
}

/// A registry that answers by a table.
pub struct Fake {
    pub address: String,
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    /// Requests as they came: the line, and the headers.
    pub requests: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// Starts it; it ends with the test's process.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answers: Arc<Mutex<HashMap<String, Answer>>> = Arc::default();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let (table, log) = (answers.clone(), requests.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (table, log) = (table.clone(), log.clone());
                std::thread::spawn(move || serve(stream, &table, &log));
            }
        });
        Fake {
            address,
            answers,
            requests,
        }
    }

    /// What a path below `/v2/` gets.
    pub fn answer(&self, path: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(format!("/v2/{path}"), answer);
    }
}

fn serve(mut stream: TcpStream, table: &Mutex<HashMap<String, Answer>>, log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let (mut request, mut line) = (String::new(), String::new());
        while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
            request.push_str(&line);
            line.clear();
        }
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        if path.is_empty() {
            return;
        }
        let length = request.lines().find_map(|l| {
            l.to_ascii_lowercase()
                .strip_prefix("content-length: ")
                .and_then(|n| n.trim().parse().ok())
        });
        let _ = reader.by_ref().take(length.unwrap_or(0)).read_to_end(&mut Vec::new());
        let range = request.lines().find_map(|l| {
            l.to_ascii_lowercase()
                .strip_prefix("range: bytes=")
                .and_then(|r| r.trim().trim_end_matches('-').parse::<usize>().ok())
        });
        log.lock().unwrap().push(request);
        let mut cut = None;
        let answer = {
            let mut table = table.lock().unwrap();
            match table.get_mut(path.split('?').next().unwrap_or_default()) {
                None => Answer::status(404),
                Some(Answer {
                    first: Some((times, other)),
                    ..
                }) if *times > 0 => {
                    *times -= 1;
                    (**other).clone()
                }
                Some(answer) => {
                    if let Some((after, times)) = &mut answer.cut
                        && *times > 0
                    {
                        *times -= 1;
                        cut = Some(*after);
                    }
                    answer.clone()
                }
            }
        };
        let start = range
            .filter(|_| answer.status == 200)
            .unwrap_or(0)
            .min(answer.body.len());
        let status = if start > 0 { 206 } else { answer.status };
        let mut head = format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n",
            answer.body.len() - start
        );
        for (name, value) in &answer.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let body = &answer.body[start..];
        let body = cut.map_or(body, |n| &body[..n.min(body.len())]);
        if let Some((bytes, every)) = answer.drip {
            let _ = stream.write_all(format!("{head}\r\n").as_bytes());
            for part in body.chunks(bytes) {
                std::thread::sleep(every);
                if stream.write_all(part).is_err() {
                    return;
                }
            }
            // Cut short, or all of it: nothing comes after it.
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return;
        }
        if stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(b"\r\n"))
            .and_then(|()| stream.write_all(body))
            .is_err()
            || cut.is_some()
        {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

/// A proxy (CONNECT alone), which leads everybody to the same place.
pub struct Proxy {
    pub address: String,
    /// Where to.
    pub target: Arc<Mutex<String>>,
    /// Whom it was asked for.
    pub asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    pub fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy {
            address: listener.local_addr().unwrap().to_string(),
            target: Arc::new(Mutex::new(target.into())),
            asked: Arc::default(),
        };
        let (target, asked) = (proxy.target.clone(), proxy.asked.clone());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut request, mut line) = (String::new(), String::new());
                while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
                    request.push_str(&line);
                    line.clear();
                }
                asked
                    .lock()
                    .unwrap()
                    .push(request.lines().next().unwrap_or_default().into());
                let Ok(to) = TcpStream::connect(target.lock().unwrap().as_str()) else {
                    continue;
                };
                let _ = stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n");
                for (mut from, mut to) in [(stream.try_clone().unwrap(), to.try_clone().unwrap()), (to, stream)] {
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = (
                            to.shutdown(std::net::Shutdown::Both),
                            from.shutdown(std::net::Shutdown::Both),
                        );
                    });
                }
            }
        });
        proxy
    }
}

/// A registry with one image of one layer; what it answers can then be spoilt.
pub struct Spoilt {
    pub fake: Fake,
    /// The digest of the layer's blob.
    pub layer: String,
    pub layer_bytes: Vec<u8>,
    /// Of what is in it, uncompressed.
    pub diff_id: String,
    pub config: String,
}

/// OCI's type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// `sha256:...`.
pub fn digest(bytes: &[u8]) -> String {
    let mut child = Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), bytes).unwrap();
    let out = child.wait_with_output().unwrap().stdout;
    format!("sha256:{}", String::from_utf8_lossy(&out).split(' ').next().unwrap())
}

impl Default for Spoilt {
    fn default() -> Self {
        Self::new()
    }
}

impl Spoilt {
    /// busybox, uncompressed.
    pub fn new() -> Self {
        let layer = crate::busybox();
        Self::of(layer.clone(), &layer)
    }

    /// A layer: as it is sent, and what is in it.
    pub fn of(layer_bytes: Vec<u8>, tar: &[u8]) -> Self {
        let fake = Fake::start();
        let (layer, diff_id) = (digest(&layer_bytes), digest(tar));
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
        );
        let spoilt = Spoilt {
            fake,
            layer,
            layer_bytes,
            diff_id,
            config,
        };
        spoilt.good();
        spoilt
    }

    pub fn manifest(&self) -> String {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},
            "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":{}}}]}}"#,
            digest(self.config.as_bytes()),
            self.config.len(),
            self.layer,
            self.layer_bytes.len()
        )
    }

    pub fn blob(&self) -> String {
        format!("box/blobs/{}", self.layer)
    }

    pub fn good(&self) {
        self.fake
            .answer("box/manifests/1", Answer::ok(MANIFEST, self.manifest()));
        self.fake.answer(
            &format!("box/blobs/{}", digest(self.config.as_bytes())),
            Answer::ok("application/json", self.config.clone()),
        );
        self.fake.answer(
            &self.blob(),
            Answer::ok("application/octet-stream", self.layer_bytes.clone()),
        );
    }

    pub fn pull(&self, berth: &crate::Berth) -> crate::Ran {
        berth.run(&["pull", &format!("{}/box:1", self.fake.address)])
    }
}
