//! Hosts made of network namespaces: nothing here touches the machine's own interfaces and rules.
//!
//! ```text
//! client 10.77.0.2 ---- router 10.77.0.1 | 10.77.1.1 ---- host 10.77.1.2 (Berth runs here)
//!        fd77:0::2             fd77:0::1 | fd77:1::1           fd77:1::2
//! ```

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Berth, Ran};

/// A command in a network namespace. (`ip netns exec` would mount a `/sys` without control groups.)
pub fn inside(namespace: &str, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}")).arg(program);
    command
}

/// Runs a shell script, which must go well.
#[track_caller]
pub fn shell(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().expect("run sh");
    Ran::new(&output).ok()
}

/// Three namespaces: see the module.
pub struct World {
    name: String,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// Makes them.
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("bt{}n{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let world = World { name };
        let (client, router, host) = (world.client(), world.router(), world.host());
        shell(&format!(
            "for n in {client} {router} {host}; do ip netns add $n; ip -n $n link set lo up; done
            ip -n {router} link add left type veth peer name eth0 netns {client}
            ip -n {router} link add right type veth peer name eth0 netns {host}
            ip -n {router} address add 10.77.0.1/24 dev left; ip -n {router} address add 10.77.1.1/24 dev right
            ip -n {router} address add fd77:0::1/64 dev left nodad; ip -n {router} address add fd77:1::1/64 dev right nodad
            ip -n {client} address add 10.77.0.2/24 dev eth0; ip -n {host} address add 10.77.1.2/24 dev eth0
            ip -n {client} address add fd77:0::2/64 dev eth0 nodad; ip -n {host} address add fd77:1::2/64 dev eth0 nodad
            for n in {client} {host}; do ip -n $n link set eth0 up; done
            ip -n {router} link set left up; ip -n {router} link set right up
            nsenter --net=/run/netns/{router} sh -c \
                'echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding'
            ip -n {client} route add default via 10.77.0.1; ip -n {host} route add default via 10.77.1.1
            ip -n {client} -6 route add default via fd77:0::1; ip -n {host} -6 route add default via fd77:1::1"
        ));
        world
    }

    /// Another host, behind a router.
    pub fn client(&self) -> String {
        format!("{}c", self.name)
    }
    /// Between them.
    pub fn router(&self) -> String {
        format!("{}r", self.name)
    }
    /// Where Berth runs.
    pub fn host(&self) -> String {
        format!("{}h", self.name)
    }

    /// An engine on the host.
    pub fn berth(&self) -> Berth {
        let mut berth = Berth::new();
        berth.namespace = Some(self.host());
        berth
    }

    /// Runs a shell script on one of them.
    pub fn on(&self, namespace: &str, script: &str) -> Ran {
        let mut command = inside(namespace, "sh");
        command.args(["-c", script]).stdin(Stdio::null());
        Ran::new(&command.output().expect("run nsenter"))
    }

    /// What a TCP server says to somebody in a namespace; empty if nobody answers.
    pub fn ask(&self, namespace: &str, address: &str, port: u16) -> String {
        self.on(namespace, &format!("nc -w 2 {address} {port} < /dev/null")).out
    }

    /// Interfaces and firewall tables of the host that were not there before Berth.
    pub fn left(&self) -> Vec<String> {
        let links = self.on(&self.host(), "ip -o link | cut -d: -f2 | cut -d@ -f1").ok();
        let links = links
            .lines()
            .map(str::trim)
            .filter(|l| !["lo", "eth0"].contains(l))
            .map(String::from);
        let tables = self.on(&self.host(), "nft list tables").ok();
        links.chain(tables.lines().map(String::from)).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for namespace in [self.client(), self.router(), self.host()] {
            let _ = Command::new("ip").args(["netns", "del", &namespace]).status();
        }
    }
}
