//! Asking for names where a container is, and a name server that knows some.

use crate::network::inside;
use crate::{BUSYBOX, Berth, Ran, eventually};

/// Where no name is known, said at once.
pub const NOBODY: &str = "10.77.0.2";

/// Starts a container that stays; the process id of its first process.
pub fn start(berth: &Berth, flags: &[&str]) -> String {
    let id = berth
        .run(&[&["run", "-d", "--dns", NOBODY], flags, &[BUSYBOX, "sleep", "1000"]].concat())
        .ok();
    berth.inspect(&id, "{{.State.Pid}}")
}

/// Runs a script of the host's programs where a container is: in its network, with its file of resolvers.
pub fn within(pid: &str, script: &str) -> Ran {
    let file = format!("cat /proc/{pid}/root/etc/resolv.conf > /mnt/file && mount --bind /mnt/file /etc/resolv.conf");
    let place = format!("set -e; mount -t tmpfs none /mnt; {file}; set +e; {script}");
    let mut command = std::process::Command::new("nsenter");
    command.args(["-t", pid, "-n", "unshare", "-m", "sh", "-c", &place]);
    let output = command.output().expect("run nsenter");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

/// What `dig` says, and nothing but that.
pub fn dig(pid: &str, question: &str) -> String {
    within(pid, &format!("dig +short +tries=1 +time=5 {question}")).out
}

/// How an answer is marked: `NOERROR`, `REFUSED`, ...
pub fn status(pid: &str, question: &str) -> String {
    let out = within(pid, &format!("dig +tries=1 +time=8 {question}")).out;
    let after = out.split("status: ").nth(1).unwrap_or_default();
    after.split(',').next().unwrap_or_default().to_owned()
}

/// A container's on a network.
pub fn address(berth: &Berth, name: &str, network: &str) -> String {
    let path = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
    berth.inspect(name, &path)
}

/// A name server on one of the world's hosts, and where it writes down what it was asked.
pub struct Server {
    process: std::process::Child,
    log: String,
}

impl Server {
    /// At one address of a namespace.
    pub fn start(berth: &Berth, namespace: &str, listen: &str, records: &[&str]) -> Self {
        let own = ["--bind-interfaces", &format!("--listen-address={listen}")];
        Self::begin(berth, inside(namespace, "dnsmasq"), &[&own, records].concat())
    }

    /// As its command says.
    pub fn begin(berth: &Berth, mut command: std::process::Command, arguments: &[&str]) -> Self {
        let log = berth.path("questions");
        command.args(["-k", "-C", "/dev/null", "--no-resolv", "--no-hosts", "-q"]);
        command.args([
            "--user=root",
            "--pid-file",
            "--local=/#/",
            &format!("--log-facility={log}"),
        ]);
        let process = command.args(arguments).spawn().expect("start dnsmasq");
        let server = Server { process, log };
        eventually("the name server begins", || !server.asked().is_empty());
        server
    }

    /// All of it.
    pub fn asked(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
