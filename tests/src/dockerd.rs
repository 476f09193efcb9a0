//! Docker's own engine, of Debian's development suite, with state and a network namespace of its own: what clients are answered
//! there is what they are to be answered here. See `scripts/clients`.

use std::path::PathBuf;
use std::process::{Child, Stdio};

use crate::network::inside;
use crate::{BUSYBOX, Ran, eventually, fixtures};

/// Its root file system.
fn root() -> PathBuf {
    let dir = fixtures().join("docker").canonicalize();
    dir.expect("scripts/clients has been run")
}

/// Docker's newest client, of the same suite.
pub fn client() -> PathBuf {
    root().join("usr/bin/docker")
}

/// It sees that root, and the host's kernel and `/var/tmp`. The root is that of its mount namespace, and not only its own: who
/// joins the namespace from elsewhere, as runc does for an exec, would be in the host's otherwise.
const START: &str = r#"
root=$1 work=$2; shift 2
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"; mount -t sysfs sysfs "$root/sys"; mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount --rbind /dev "$root/dev"; mount --rbind /var/tmp "$root/var/tmp"
mount --bind "$work/run" "$root/run"; mount -t tmpfs tmp "$root/tmp"
mkdir "$root/tmp/old"; cd "$root"; pivot_root . tmp/old
/tmp/old/bin/busybox umount -l /tmp/old
exec /usr/sbin/dockerd "$@"
"#;

/// dockerd, until it is dropped.
pub struct Dockerd {
    child: Child,
    dir: tempfile::TempDir,
}

impl Dockerd {
    /// Starts it in a network namespace, with [`BUSYBOX`].
    pub fn start(namespace: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("berth-dockerd-")
            .tempdir_in("/var/tmp")
            .expect("a directory");
        std::fs::create_dir(dir.path().join("run")).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let mut command = inside(namespace, "unshare");
        command
            .args(["-m", "sh", "-ec", START, "sh"])
            .arg(root())
            .arg(dir.path());
        command.args(["--data-root", &path("data"), "--exec-root", &path("run/docker")]);
        command.args(["-p", &path("run/pid"), "-H", &format!("unix://{}", path("docker.sock"))]);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let child = command.spawn().expect("start dockerd");
        let mut dockerd = Dockerd { child, dir };
        eventually("dockerd answers", || {
            assert!(dockerd.child.try_wait().unwrap().is_none(), "{}", dockerd.log());
            dockerd.docker(&["version"]).code == 0
        });
        let tar = dockerd.path("busybox.tar");
        std::fs::write(&tar, crate::busybox()).unwrap();
        dockerd.docker(&["import", "-c", "CMD [\"sh\"]", &tar, BUSYBOX]).ok();
        dockerd
    }

    /// A place in its directory.
    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    /// For `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Docker's client.
    pub fn docker(&self, arguments: &[&str]) -> Ran {
        let mut command = std::process::Command::new(client());
        command
            .args(arguments)
            .env("DOCKER_HOST", self.host())
            .stdin(Stdio::null());
        command
            .env("DOCKER_CONFIG", self.dir.path())
            .env_remove("DOCKER_API_VERSION");
        Ran::new(&command.output().expect("run docker"))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let all = self.docker(&["ps", "-aq"]).out;
        let all: Vec<&str> = all.split_whitespace().collect();
        if !all.is_empty() {
            self.docker(&[&["rm", "-f", "-v"], &all[..]].concat());
        }
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}
