//! Somebody who is not root: known to a mount namespace of its own, with subordinate ids or without.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::{BUSYBOX, Ran, network};

/// The user's number, and his group's.
pub const USER: u32 = 4711;
/// The first of the user's subordinate ids.
pub const SUBORDINATE: u32 = 700_000;
/// Runs the rest as the user, in a mount namespace whose `/etc` knows it and its subordinate ids.
const AS_USER: &str = "set -e; etc=$1; shift; for file in passwd group subuid subgid; do mount --bind $etc/$file /etc/$file; done; \
    if [ -e $etc/tun ]; then mount --bind $etc/tun /dev/net/tun; fi; \
    if [ -e $etc/no-pasta ]; then mount --bind $etc/no-pasta /usr/bin/pasta; fi; \
    exec setpriv --reuid 4711 --regid 4711 --clear-groups \"$@\"";

/// Fills a directory with what such a user needs of the host: his lines of `/etc`, and the program.
pub fn provide(etc: &Path, with_ids: bool) {
    let write = |name: &str, text: &str| std::fs::write(etc.join(name), text).expect("write");
    write("passwd", "root:x:0:0::/root:/bin/sh\nsomebody:x:4711:4711::/:/bin/sh\n");
    write("group", "root:x:0:\nsomebody:x:4711:\n");
    let ids = format!("somebody:{SUBORDINATE}:65536\n");
    let ids = if with_ids { ids.as_str() } else { "" };
    write("subuid", ids);
    write("subgid", ids);
    for file in ["/etc/subuid", "/etc/subgid"] {
        // Something to mount over.
        let _ = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(file)
            .expect("a file of the host");
    }
    let program = std::fs::File::open(crate::program()).expect("the program");
    crate::place_program(program, etc.join("berth"));
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(etc, open).expect("open the directory");
}

/// The words before a command of the user's.
pub fn words(etc: &Path) -> Vec<String> {
    let etc = etc.display().to_string();
    ["unshare", "-m", "sh", "-c", AS_USER, "sh", &etc]
        .map(String::from)
        .into()
}

/// A user with an engine of his own.
pub struct Somebody {
    dir: tempfile::TempDir,
    namespace: Option<String>,
}

impl Somebody {
    /// With an image, on a host made of a network namespace or on this one.
    pub fn new(with_ids: bool, namespace: Option<String>) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("berth-user-")
            .tempdir_in("/var/tmp")
            .expect("a directory");
        provide(dir.path(), with_ids);
        network::shell(&format!(
            "cd {}; mkdir -p /dev/net; [ -e /dev/net/tun ] || mknod -m 666 /dev/net/tun c 10 200
            mknod tun c 10 200; chmod 666 tun; mkdir -m 700 home run; chown {USER}:{USER} home run",
            dir.path().display()
        ));
        let somebody = Somebody { dir, namespace };
        std::fs::write(somebody.path("busybox.tar"), crate::busybox()).expect("write the image");
        let tar = somebody.path("busybox.tar");
        somebody.run(&["import", "-c", "CMD [\"sh\"]", &tar, BUSYBOX]).ok();
        somebody
    }

    /// In the user's directory.
    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// A command of the user's, not started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let words = [words(self.dir.path()), vec![self.path("berth")]].concat();
        let mut command = match &self.namespace {
            Some(namespace) => network::inside(namespace, &words[0]),
            None => Command::new(&words[0]),
        };
        command
            .args(&words[1..])
            .args(arguments)
            .env("HOME", self.path("home"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .stdin(Stdio::null());
        command
    }

    /// Runs one to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::new(&self.command(arguments).output().expect("start berth"))
    }

    /// Numbers of the processes that were started with words of the user's directory, by the beginning of what they are.
    pub fn processes(&self, beginning: &str) -> Vec<i32> {
        let directory = self.dir.path().display().to_string();
        let numbers = std::fs::read_dir("/proc").expect("/proc").flatten();
        let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let is = |pid: &i32| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).replace('\0', " ");
            words.starts_with(beginning) && words.contains(&directory)
        };
        numbers.filter(is).collect()
    }
}

impl Drop for Somebody {
    /// Of a test that failed, containers may still run.
    fn drop(&mut self) {
        for pid in self.processes("") {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
    }
}
