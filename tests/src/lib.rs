//! What the end-to-end tests share: an engine of their own, images, a registry, and a look for leftovers.
//!
//! Every test has its own data and run directories, so that all of them run at once. They need root and a real kernel;
//! what they need besides is installed by `scripts/test`, and what is missing fails the test.

pub mod api;
pub mod browser;
pub mod bundle;
pub mod clients;
pub mod dockerd;
pub mod machine;
pub mod names;
pub mod network;
pub mod old;
pub mod registry;
pub mod terminal;
pub mod users;

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The image that most tests use.
pub const BUSYBOX: &str = "busybox:test";

/// Puts what `content` reads at `to`, to be executed. A process of its own writes it: while this one writes a file, the
/// children that other tests start hold it open until their own exec, and it cannot be executed (ETXTBSY).
pub fn place_program(content: impl Into<Stdio>, to: impl AsRef<Path>) {
    let mut install = Command::new("install");
    install
        .args(["-m", "755", "/dev/stdin"])
        .arg(to.as_ref())
        .stdin(content);
    assert!(install.status().expect("install").success());
}

/// The program that is tested, beside the tests themselves.
pub fn program() -> PathBuf {
    let mut dir = std::env::current_exe().expect("the test's own path");
    dir.pop();
    dir.pop();
    let program = dir.join("berth");
    assert!(
        program.is_file(),
        "{} is not built: cargo build -p berth",
        program.display()
    );
    program
}

/// Where images that take long to make are kept between runs.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fixtures")
}

/// Puts a file of the fixtures into a directory, without a copy where that can be.
pub fn place_fixture(name: &str, directory: &Path) {
    let (from, to) = (fixtures().join(name), directory.join(name));
    std::fs::hard_link(&from, &to)
        .or_else(|_| std::fs::copy(&from, &to).map(drop))
        .unwrap_or_else(|e| panic!("{}: {e}: scripts/fixtures", from.display()));
}

/// An engine with state of its own.
pub struct Berth {
    /// Its state; files of the test's own have a place here, too.
    pub dir: tempfile::TempDir,
    /// The network namespace that its commands run in, if not the test's.
    pub namespace: Option<String>,
    ids: Mutex<HashSet<String>>,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub(crate) fn new(output: &Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let code = output
            .status
            .code()
            .or(output.status.signal().map(|s| 128 + s))
            .unwrap_or(-1);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        Ran {
            code,
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// Fails the test unless it went well.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// Fails the test unless it ended with this code and said these words.
    #[track_caller]
    pub fn fails(self, code: i32, words: &str) -> String {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.err.contains(words), "{words:?} is not said: {self:?}");
        self.err
    }
}

impl Default for Berth {
    fn default() -> Self {
        Self::new()
    }
}

impl Berth {
    /// Without any image.
    pub fn empty() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("berth-test-")
            .tempdir_in("/var/tmp")
            .expect("a directory");
        Berth {
            dir,
            namespace: None,
            ids: Mutex::default(),
        }
    }

    /// With [`BUSYBOX`].
    pub fn new() -> Self {
        let berth = Self::empty();
        let tar = berth.path("busybox.tar");
        std::fs::write(&tar, busybox()).expect("write the image");
        berth.run(&["import", "-c", "CMD [\"sh\"]", &tar, BUSYBOX]).ok();
        berth
    }

    /// A path in the test's own directory.
    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// A command, not started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match &self.namespace {
            None => Command::new(program()),
            Some(namespace) => network::inside(namespace, &program().display().to_string()),
        };
        command
            .args(arguments)
            .env("BERTH_DATA", self.dir.path().join("data"))
            .env("BERTH_RUN", self.dir.path().join("run"))
            .env("HOME", self.dir.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.ran(self.command(arguments))
    }

    /// Runs a command, made of [`Berth::command`], to its end.
    pub fn ran(&self, mut command: Command) -> Ran {
        let ran = Ran::new(&command.output().expect("start berth"));
        self.remember(&ran.out);
        ran
    }

    /// Runs a container of [`BUSYBOX`] with flags, and a command.
    pub fn busybox(&self, flags: &[&str], command: &[&str]) -> Ran {
        self.run(&[&["run", "--rm", "--network", "none"], flags, &[BUSYBOX], command].concat())
    }

    /// Starts a container that stays; its id.
    pub fn start(&self, flags: &[&str], command: &[&str]) -> String {
        self.run(&[&["run", "-d", "--network", "none"], flags, &[BUSYBOX], command].concat())
            .ok()
    }

    /// A shell script in [`BUSYBOX`]; what it printed.
    #[track_caller]
    pub fn sh(&self, flags: &[&str], script: &str) -> String {
        self.busybox(flags, &["sh", "-c", script]).ok()
    }

    /// Runs a command with something to read.
    pub fn feed(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut child = self.spawn(arguments);
        child.stdin.take().expect("its input").write_all(input).expect("write");
        Ran::new(&child.wait_with_output().expect("wait"))
    }

    /// Starts a command with pipes.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().expect("start berth")
    }

    /// `inspect --format`.
    #[track_caller]
    pub fn inspect(&self, name: &str, format: &str) -> String {
        self.run(&["inspect", "--format", format, name]).ok()
    }

    /// Fails the test if there is an image, or a layer of one.
    #[track_caller]
    pub fn has_no_image(&self, why: &str) {
        assert_eq!(self.run(&["images", "-aq"]).ok(), "", "{why}");
        let layers = std::fs::read_dir(self.path("data/layers")).unwrap().flatten();
        assert_eq!(layers.filter(|e| e.file_name().len() == 64).count(), 0, "{why}");
    }

    /// The process id of a container's monitor: its first process's parent.
    pub fn monitor(&self, name: &str) -> i32 {
        let pid = self.inspect(name, "{{.State.Pid}}");
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the container's stat");
        stat.rsplit(") ")
            .next()
            .and_then(|r| r.split(' ').nth(1))
            .and_then(|p| p.parse().ok())
            .expect("its parent")
    }

    /// Full ids that were printed: their cgroups must be gone in the end.
    pub fn remember(&self, out: &str) {
        let id = |word: &&str| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
        self.ids
            .lock()
            .unwrap()
            .extend(out.split_whitespace().filter(id).map(String::from));
    }

    /// Everything of this engine that is still on the host.
    pub fn leftovers(&self) -> Vec<String> {
        let dir = self.dir.path().display().to_string();
        let mut found = Vec::new();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        found.extend(
            mounts
                .lines()
                .filter(|l| l.contains(&dir))
                .map(|l| format!("mount {l}")),
        );
        for part in ["run", "data/containers", "data/layers/staging"] {
            let entries = std::fs::read_dir(self.dir.path().join(part))
                .into_iter()
                .flatten()
                .flatten();
            found.extend(entries.map(|e| e.path().display().to_string()));
        }
        let ids = self.ids.lock().unwrap();
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            for parent in [hierarchy.path().join("berth"), "/sys/fs/cgroup/berth".into()] {
                found.extend(
                    ids.iter()
                        .map(|id| parent.join(id))
                        .filter(|p| p.exists())
                        .map(|p| p.display().to_string()),
                );
            }
        }
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(&dir) {
                found.push(format!("process {}: {line}", process.path().display()));
            }
        }
        found
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        let all = self.run(&["ps", "-aq", "--no-trunc"]).out;
        for id in all.split_whitespace() {
            self.run(&["rm", "-f", "-v", id]);
        }
        let mut left = self.leftovers();
        // A monitor tells of the end a moment before its own.
        let deadline = Instant::now() + Duration::from_secs(60);
        while !left.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            left = self.leftovers();
        }
        if !std::thread::panicking() {
            assert!(left.is_empty(), "left behind: {left:#?}");
        }
    }
}

/// Waits until something holds.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "it never came to be: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A root file system with busybox and two users, as a tar.
pub fn busybox() -> Vec<u8> {
    let program = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    let mut tar = Tar::default();
    for dir in ["bin", "etc", "tmp", "root", "data"] {
        tar.directory(dir, if dir == "tmp" { 0o1777 } else { 0o755 });
    }
    tar.file("bin/busybox", 0o755, &program);
    let list = Command::new("/bin/busybox")
        .arg("--list")
        .output()
        .expect("run busybox")
        .stdout;
    for applet in String::from_utf8_lossy(&list).lines().filter(|a| *a != "busybox") {
        tar.link(&format!("bin/{applet}"), "busybox");
    }
    tar.file(
        "etc/passwd",
        0o644,
        b"root:x:0:0::/root:/bin/sh\nwww:x:33:34::/var/www:/bin/sh\n",
    );
    tar.file("etc/group", 0o644, b"root:x:0:\nwww:x:34:\nextra:x:44:www\n");
    tar.file("data/seed", 0o640, b"from the image\n");
    tar.finish()
}

/// A layer of so many bytes that nothing compresses.
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as u8
    })
    .take(bytes)
    .collect();
    let mut tar = Tar::default();
    tar.file("noise", 0o644, &noise);
    tar.finish()
}

/// A tar, written by hand: what is in it is what the test says, also where that is hostile.
#[derive(Default)]
pub struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    pub fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.header(name, "", b'0', mode, content.len());
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }
    pub fn directory(&mut self, name: &str, mode: u32) {
        self.header(name, "", b'5', mode, 0);
    }
    pub fn link(&mut self, name: &str, target: &str) {
        self.header(name, target, b'2', 0o777, 0);
    }
    pub fn hard_link(&mut self, name: &str, target: &str) {
        self.header(name, target, b'1', 0o644, 0);
    }
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }

    fn header(&mut self, name: &str, link: &str, kind: u8, mode: u32, size: usize) {
        let mut block = [0u8; 512];
        let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, &format!("{mode:07o}"));
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{size:011o}"));
        put(136, "14000000000");
        put(148, "        ");
        put(157, link);
        put(257, "ustar");
        block[156] = kind;
        block[263..265].copy_from_slice(b"00");
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend_from_slice(&block);
    }
}
