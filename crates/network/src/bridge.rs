//! A network on this host: its bridge, its place in the firewall, the kernel's settings it needs.

use std::net::IpAddr;

use errdefs::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::netlink::{Batch, Socket};
use crate::nft::{Elements, Transaction, foreign};
use crate::{Network, Published, link, neighbour, pool, ruleset};

/// Published ports with the addresses that they lead to.
pub type Ports = Vec<(Published, Vec<IpAddr>)>;

/// Makes a network's bridge, unless it is there. `true` if it was made.
pub fn bring_up(network: &Network, random: [u8; 4]) -> Result<bool> {
    const EEXIST: i32 = 17;
    let Some(bridge) = network.bridge() else {
        return Ok(false);
    };
    if link::index(bridge).is_some() {
        return Ok(false);
    }
    allow_forwarding(network)?;
    let socket = Socket::route()?;
    let v4 = network.gateways.iter().map(|g| g.address).find(IpAddr::is_ipv4);
    let mut batch = Batch::default();
    link::add_bridge(&mut batch, bridge, pool::mac_of(v4, random), network.mtu);
    match socket.run(batch) {
        // Somebody else was faster; it goes on with what we go on with.
        Err(error) if error.errno() == Some(EEXIST) => {}
        Err(error) if error.errno() == Some(95) => {
            return Err(error.hint("this kernel has no bridges: its module is called bridge"));
        }
        other => other?,
    }
    let index = link::index(bridge).ok_or_else(|| Error::system(format!("the bridge {bridge} went away")))?;
    if network.has_ipv6() {
        // Nobody else is on it: a router that looks for duplicates of its address asks no neighbours meanwhile.
        link::set_kernel(&format!("ipv6/conf/{bridge}/accept_dad"), "0").inspect_err(|_| _ = take_down(network))?;
    }
    let mut batch = Batch::default();
    link::set_up(&mut batch, bridge, network.has_ipv6());
    for gateway in &network.gateways {
        link::add_address(&mut batch, index, *gateway);
    }
    socket.run(batch).inspect_err(|_| _ = take_down(network))?;
    // Ports published at 127.0.0.1: answers come back through here. The table's chain `raw` keeps everything else out.
    link::set_kernel(&format!("ipv4/conf/{bridge}/route_localnet"), "1").inspect_err(|_| _ = take_down(network))?;
    Ok(true)
}

/// Removes a network's bridge; fine if it is not there.
pub fn take_down(network: &Network) -> Result<()> {
    const ENODEV: i32 = 19;
    let Some(bridge) = network.bridge() else {
        return Ok(());
    };
    let mut batch = Batch::default();
    link::delete(&mut batch, bridge);
    match Socket::route()?.run(batch) {
        Err(error) if error.errno() == Some(ENODEV) => Ok(()),
        other => other,
    }
}

/// Interfaces that were there when the host was made to pass packets on, for us: between them it goes on passing nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// Of IPv4.
    pub v4: Vec<String>,
    /// Of IPv6.
    pub v6: Vec<String>,
}

impl Closed {
    /// Whether nothing was switched on.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// What [`bring_up`] is about to switch on for a network: to be written down before.
    pub fn before(network: &Network) -> Result<Self> {
        let v4 = network.gateways.iter().any(|g| g.address.is_ipv4()) && link::is_off(FORWARD4);
        let v6 = network.has_ipv6() && link::is_off(FORWARD6);
        if !v4 && !v6 {
            return Ok(Self::default());
        }
        let mut names = link::names(&Socket::route()?)?;
        names.retain(|n| n != "lo");
        Ok(Closed {
            v4: if v4 { names.clone() } else { Vec::new() },
            v6: if v6 { names } else { Vec::new() },
        })
    }

    /// The host is no router any more, unless somebody else's firewall has rules for one by now.
    pub fn switch_off(&self, socket: &Socket, table: &str) -> Result<()> {
        let others = neighbour::forwarding(socket, table)?;
        let used = |family: u8| others.iter().any(|c| c.family == family || c.family == 1);
        if !self.v4.is_empty() && !used(2) {
            link::set_kernel(FORWARD4, "0")?;
        }
        if !self.v6.is_empty() && !used(10) {
            link::set_kernel(FORWARD6, "0")?;
            link::set_kernel("ipv6/conf/default/forwarding", "0")?;
        }
        Ok(())
    }
}

const FORWARD4: &str = "ipv4/ip_forward";
const FORWARD6: &str = "ipv6/conf/all/forwarding";

/// This host passes packets on, as a router does.
fn allow_forwarding(network: &Network) -> Result<()> {
    if network.gateways.iter().any(|g| g.address.is_ipv4()) {
        link::set_kernel(FORWARD4, "1")?;
    }
    if network.has_ipv6() {
        keep_router_advertisements();
        link::set_kernel("ipv6/conf/default/forwarding", "1")?;
        link::set_kernel(FORWARD6, "1")?;
    }
    Ok(())
}

/// A host that forwards takes no advertisements any more, and would lose its own way out: 2 says that it is to take them
/// all the same. Where that cannot be set nothing is lost that was there.
fn keep_router_advertisements() {
    for entry in std::fs::read_dir("/proc/sys/net/ipv6/conf")
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let accepts = std::fs::read_to_string(entry.path().join("accept_ra")).unwrap_or_default();
        if accepts.trim() == "1" && !["all", "default", "lo"].contains(&name.as_str()) {
            let _ = link::set_kernel(&format!("ipv6/conf/{name}/accept_ra"), "2");
        }
    }
}

/// Whether the firewall knows the network.
pub fn is_guarded(socket: &Socket, network: &Network) -> Result<bool> {
    const ENOENT: i32 = 2;
    let Some((set, element)) = ruleset::elements(network).into_iter().next() else {
        return Ok(true);
    };
    match crate::nft::contains(socket, &network.table, set, &element) {
        Err(error) if error.errno() == Some(ENOENT) => Ok(false),
        other => other.map(|()| true),
    }
}

/// What is to be on this host of all networks.
pub struct All {
    /// Those whose bridges are there.
    pub networks: Vec<Network>,
    /// Published ports.
    pub ports: Ports,
    /// Those of them that the host's own rules count for.
    pub asked: Ports,
    /// See there.
    pub closed: Closed,
}

/// Makes the whole table anew, and gets along with other firewalls.
pub fn guard_all(socket: &Socket, table: &str, all: &All) -> Result<()> {
    neighbour::ask_about(socket, table, &all.asked)?;
    let mut transaction = Transaction::default();
    transaction.replace(&ruleset::table(table, &all.networks, &all.ports, &all.closed));
    transaction.commit(socket)?;
    open_ways(socket, table, &all.networks)
}

/// What other firewalls have to do with ours is put right.
pub fn heed_others(socket: &Socket, table: &str, all: &All) -> Result<()> {
    neighbour::ask_about(socket, table, &all.asked)?;
    open_ways(socket, table, &all.networks)
}

fn open_ways(socket: &Socket, table: &str, networks: &[Network]) -> Result<()> {
    let bridges: Vec<&str> = networks.iter().filter_map(Network::bridge).collect();
    neighbour::open_ways(socket, table, &bridges)
}

/// Whether the table has all of its rules.
pub fn is_intact(socket: &Socket, table: &str) -> Result<bool> {
    Ok(foreign::count_rules(socket, table)? >= ruleset::rules())
}

/// Takes the whole table away; fine if it is not there.
pub fn unguard_all(socket: &Socket, table: &str) -> Result<()> {
    const ENOENT: i32 = 2;
    neighbour::open_ways(socket, table, &[])?;
    neighbour::ask_nobody(socket, table)?;
    let mut transaction = Transaction::default();
    transaction.delete(table);
    match transaction.commit(socket) {
        Err(error) if error.errno() == Some(ENOENT) => Ok(()),
        other => other,
    }
}

/// Ports lead to these addresses from now on. What a dead container left in their place goes.
pub fn publish(socket: &Socket, table: &str, ports: &Ports) -> Result<()> {
    const EEXIST: i32 = 17;
    let lists = ruleset::port_elements(ports);
    if lists.is_empty() {
        return Ok(());
    }
    let add = || {
        let mut transaction = Transaction::default();
        for (set, elements) in &lists {
            transaction.add(table, &Elements { set, elements });
        }
        transaction.commit(socket)
    };
    match add() {
        Err(error) if error.errno() == Some(EEXIST) => {
            unpublish(socket, table, ports)?;
            add()
        }
        other => other,
    }
}

/// They lead nowhere any more; fine if they did not.
pub fn unpublish(socket: &Socket, table: &str, ports: &Ports) -> Result<()> {
    const ENOENT: i32 = 2;
    let lists = ruleset::port_elements(ports);
    if lists.is_empty() {
        return Ok(());
    }
    let remove = |chunks: &[(&str, &[crate::nft::Element])]| {
        let mut transaction = Transaction::default();
        for (set, elements) in chunks {
            transaction.remove(table, &Elements { set, elements });
        }
        match transaction.commit(socket) {
            Err(error) if error.errno() == Some(ENOENT) => Ok(false),
            other => other.map(|()| true),
        }
    };
    let whole: Vec<_> = lists.iter().map(|(set, list)| (*set, list.as_slice())).collect();
    if remove(&whole)? {
        return Ok(());
    }
    // One is not there, so that none was removed: each by itself.
    for (set, list) in &lists {
        for element in list {
            remove(&[(*set, std::slice::from_ref(element))])?;
        }
    }
    Ok(())
}
