//! An OCI bundle with busybox, for `berth oci` and for the runtimes that it is compared with.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::{Ran, busybox, program};

/// A runtime with states of its own, a bundle, and its document.
pub struct Bundle {
    /// Everything of it.
    pub dir: tempfile::TempDir,
    /// `config.json`, as it is written before each command.
    pub config: Value,
    /// The runtime, and what stands before its verb.
    runtime: Vec<String>,
}

impl Default for Bundle {
    fn default() -> Self {
        Self::new()
    }
}

impl Bundle {
    /// For `berth oci`: busybox, no terminal, a writable root.
    pub fn new() -> Self {
        Self::of(&[&program().display().to_string(), "oci"])
    }

    /// For another runtime.
    pub fn of(runtime: &[&str]) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("berth-bundle-")
            .tempdir_in("/var/tmp")
            .expect("a directory");
        let root = dir.path().join("rootfs");
        std::fs::create_dir(&root).expect("the root file system");
        unpack(&busybox(), &root);
        let spec = Command::new(program())
            .args(["oci", "spec", "--bundle"])
            .arg(dir.path())
            .output()
            .expect("start berth");
        assert!(spec.status.success(), "{spec:?}");
        let text = std::fs::read(dir.path().join("config.json")).expect("the example");
        let mut config: Value = serde_json::from_slice(&text).expect("the example");
        config["process"]["terminal"] = json!(false);
        config["process"]["rlimits"] = json!([]);
        config["root"]["readonly"] = json!(false);
        Bundle {
            dir,
            config,
            runtime: runtime.iter().map(|w| (*w).to_owned()).collect(),
        }
    }

    /// The directory that stands before the program's words, for a runtime that is run as another user.
    pub fn etc(&self) -> PathBuf {
        PathBuf::from(&self.runtime[6])
    }

    /// A name that no other test's container has.
    pub fn id() -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!(
            "berth-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        )
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The command that the container executes.
    pub fn args(&mut self, words: &[&str]) -> &mut Self {
        self.config["process"]["args"] = json!(words);
        self
    }

    /// A shell script that it executes.
    pub fn script(&mut self, script: &str) -> &mut Self {
        self.args(&["sh", "-c", script])
    }

    /// A command of the runtime, not started; its directory is the bundle's.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let text = serde_json::to_vec_pretty(&self.config).expect("the document");
        std::fs::write(self.path("config.json"), text).expect("write the document");
        let mut command = Command::new(&self.runtime[0]);
        command
            .args(&self.runtime[1..])
            .arg("--root")
            .arg(self.path("state"))
            .args(arguments)
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs a command of the runtime to its end.
    pub fn do_(&self, arguments: &[&str]) -> Ran {
        Ran::new(&self.command(arguments).output().expect("start the runtime"))
    }

    /// The same with files for its output: a process that stays keeps pipes open.
    pub fn detached(&self, arguments: &[&str]) -> Ran {
        let file = |name: &str| std::fs::File::create(self.path(name)).expect("a file for output");
        let mut command = self.command(arguments);
        let status = command.stdout(file("out")).stderr(file("err")).status();
        let read = |name: &str| std::fs::read(self.path(name)).unwrap_or_default();
        Ran::new(&Output {
            status: status.expect("start the runtime"),
            stdout: read("out"),
            stderr: read("err"),
        })
    }

    /// Starts one with pipes.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().expect("start the runtime")
    }

    /// `run` of a new container to its end.
    pub fn run(&self) -> Ran {
        self.do_(&["run", &Self::id()])
    }

    /// What is left of containers: states and cgroups.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let states = std::fs::read_dir(self.path("state")).into_iter().flatten().flatten();
        states
            .map(|e| e.path())
            .filter(|path| !path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')))
            .collect()
    }
}

fn unpack(tar: &[u8], directory: &Path) {
    use std::io::Write;
    let mut child = Command::new("tar")
        .args(["-xpf", "-", "-C"])
        .arg(directory)
        .stdin(Stdio::piped())
        .spawn()
        .expect("start tar");
    child.stdin.take().expect("its input").write_all(tar).expect("write");
    assert!(child.wait().expect("wait").success());
}

impl Drop for Bundle {
    fn drop(&mut self) {
        for state in self.leftovers() {
            if let Some(id) = state.file_name().and_then(|n| n.to_str()) {
                self.do_(&["delete", "--force", id]);
            }
        }
        if !std::thread::panicking() {
            let left = self.leftovers();
            assert!(left.is_empty(), "left behind: {left:?}");
        }
    }
}
