//! A network on this host: its bridge, its place in the firewall, the kernel's settings it needs.

use std::net::IpAddr;

use errdefs::{Error, Result};

use crate::netlink::{Batch, Socket};
use crate::nft::{Elements, Transaction};
use crate::{Network, Published, link, pool, ruleset};

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

/// This host passes packets on, as a router does.
fn allow_forwarding(network: &Network) -> Result<()> {
    if network.gateways.iter().any(|g| g.address.is_ipv4()) {
        link::set_kernel("ipv4/ip_forward", "1")?;
    }
    if network.has_ipv6() {
        keep_router_advertisements();
        link::set_kernel("ipv6/conf/default/forwarding", "1")?;
        link::set_kernel("ipv6/conf/all/forwarding", "1")?;
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

/// Makes the whole table anew.
pub fn guard_all(socket: &Socket, table: &str, networks: &[Network], ports: &Ports) -> Result<()> {
    let mut transaction = Transaction::default();
    transaction.replace(&ruleset::table(table, networks, ports));
    transaction.commit(socket)
}

/// Takes the whole table away; fine if it is not there.
pub fn unguard_all(socket: &Socket, table: &str) -> Result<()> {
    const ENOENT: i32 = 2;
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
