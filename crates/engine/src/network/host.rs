//! Networks on this host: made when the first container needs one, gone with the last network.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use errdefs::{ErrnoStep, Result, Step};
use network::bridge::{self, All, Closed, Ports};
use network::port::Protocol;
use network::{Network, Published, netlink::Socket};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::row::OPTION_HOST_RULES;
use super::{BRIDGE, Row, predefined};
use crate::Engine;
use crate::state::database;

/// What was switched on, and since which start of the host: kernel settings do not outlive it.
#[derive(Serialize, Deserialize)]
struct Forwarding {
    boot: String,
    closed: Closed,
}

fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

impl Engine {
    /// Makes sure that a network is there, and that the firewall knows it.
    pub(crate) fn take_network_up(&self, plan: &Network) -> Result<()> {
        let mut random = [0u8; 4];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).errno_step("draw an address")?;
        let Some(bridge) = plan.bridge() else {
            return Ok(());
        };
        if network::link::index(bridge).is_none() {
            self.remember_forwarding(plan)?;
            bridge::bring_up(plan, random)?;
        }
        let socket = Socket::netfilter()?;
        if bridge::is_guarded(&socket, plan)? {
            return Ok(());
        }
        let _lock = self.lock_networks()?;
        match bridge::is_guarded(&socket, plan)? {
            true => Ok(()),
            false => self.rebuild_firewall(&socket, &plan.table),
        }
    }

    /// The whole table anew, from what is written down. The caller holds the lock.
    pub(crate) fn rebuild_firewall(&self, socket: &Socket, table: &str) -> Result<()> {
        bridge::guard_all(socket, table, &self.all_of(self.networks_up(table)?)?)
    }

    /// What is to be on the host besides these networks.
    pub(crate) fn all_of(&self, networks: Vec<Network>) -> Result<All> {
        Ok(All {
            networks,
            ports: self.published_ports(None)?,
            asked: self.asked_ports()?,
            closed: self.closed()?,
        })
    }

    /// Networks whose bridges are there.
    pub(crate) fn networks_up(&self, table: &str) -> Result<Vec<Network>> {
        let mut up = Vec::new();
        for row in self.network_rows("WHERE ?1 = ?1 ORDER BY name", "")? {
            let plan = row.plan(&self.roots, table);
            if !row.ipam.is_empty() && plan.bridge().is_some_and(|b| network::link::index(b).is_some()) {
                up.push(plan);
            }
        }
        Ok(up)
    }

    /// A host that is no router becomes one for containers: that is written down before, so that it does not become one
    /// for everybody, and is none any more when the last network goes.
    fn remember_forwarding(&self, plan: &Network) -> Result<()> {
        let more = Closed::before(plan)?;
        if more.is_empty() {
            return Ok(());
        }
        let _lock = self.lock_networks()?;
        let mut all = self.closed()?;
        // What is off now was not switched on by us before, or not since.
        let take = |all: &mut Vec<String>, more: Vec<String>| {
            if !more.is_empty() {
                *all = more;
            }
        };
        take(&mut all.v4, more.v4);
        take(&mut all.v6, more.v6);
        let known = Forwarding {
            boot: boot(),
            closed: all,
        };
        crate::container::record::write_json(&self.roots.forwarding(), &known)
    }

    fn closed(&self) -> Result<Closed> {
        let known: Option<Forwarding> = crate::container::record::read_json(&self.roots.forwarding())?;
        Ok(known.filter(|k| k.boot == boot()).map(|k| k.closed).unwrap_or_default())
    }

    /// Ports that lead to containers: all, or one container's.
    pub(crate) fn published_ports(&self, container: Option<&str>) -> Result<Ports> {
        self.ports("?1 IS NULL OR container = ?1", container)
    }

    /// Ports that the host's own rules count for.
    fn asked_ports(&self) -> Result<Ports> {
        let bypassed = "SELECT address.endpoint FROM address JOIN network ON network.id = address.network
            WHERE json_extract(body, ?1) = 'bypass'";
        let option = format!("$.options.\"{OPTION_HOST_RULES}\"");
        self.ports(&format!("endpoint NOT IN ({bypassed})"), Some(&option))
    }

    /// Those for which a condition with one parameter holds.
    fn ports(&self, condition: &str, parameter: Option<&str>) -> Result<Ports> {
        let query = format!("SELECT protocol, address, first, inner, count, targets FROM port WHERE {condition}");
        let mut statement = self.state.db.prepare_cached(&query).map_err(database)?;
        let rows = statement.query_map([parameter], |row| {
            let text: (String, String, String) = (row.get(0)?, row.get(1)?, row.get(5)?);
            let numbers: (u16, u16, u16) = (row.get(2)?, row.get(3)?, row.get(4)?);
            Ok((text, numbers))
        });
        let rows: Vec<_> = rows.and_then(Iterator::collect).map_err(database)?;
        let read =
            |((protocol, address, targets), (port, inner, count)): ((String, String, String), (u16, u16, u16))| {
                let published = Published {
                    protocol: Protocol::parse(&protocol)?,
                    address: address.parse().ok()?,
                    port,
                    inner,
                    count,
                };
                Some((published, targets.split(' ').filter_map(|t| t.parse().ok()).collect()))
            };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// Held by whoever makes the firewall's table, or takes it away.
    pub(crate) fn lock_networks(&self) -> Result<File> {
        lock_file(&self.roots.networks_lock())
    }

    /// What of a network is on this host goes; with the last network everything goes.
    pub(crate) fn take_network_down(&self, row: &Row) -> Result<()> {
        let table = self.firewall_table()?;
        let lock = self.lock_networks()?;
        bridge::take_down(&row.plan(&self.roots, &table))?;
        let socket = Socket::netfilter()?;
        if network::nft::list_tables(&socket)?.contains(&table) {
            self.rebuild_firewall(&socket, &table)?;
        }
        drop(lock);
        self.leave_host_if_unused()
    }

    /// The default network's bridge and the firewall's table go, unless a network of the user's or a container needs them.
    pub(crate) fn leave_host_if_unused(&self) -> Result<()> {
        if self.roots.is_users() {
            return Ok(());
        }
        let rows = self.network_rows("WHERE ?1 = ?1", "")?;
        let Some(default) = rows.iter().find(|r| r.name == BRIDGE) else {
            return Ok(());
        };
        if rows.iter().any(|r| !predefined(&r.name)) || !self.running_users(default)?.is_empty() {
            return Ok(());
        }
        let table = self.firewall_table()?;
        let _lock = self.lock_networks()?;
        let starting: i64 = self
            .state
            .db
            .query_row("SELECT COUNT(*) FROM address", [], |row| row.get(0))
            .map_err(database)?;
        if starting > 0 {
            return Ok(());
        }
        bridge::take_down(&default.plan(&self.roots, &table))?;
        let socket = Socket::netfilter()?;
        bridge::unguard_all(&socket, &table)?;
        let closed = self.closed()?;
        if closed.is_empty() {
            return Ok(());
        }
        closed.switch_off(&socket, &table)?;
        std::fs::remove_file(self.roots.forwarding()).step("forget what was switched on")
    }
}

/// Holds a file as long as the result lives; waits for others who hold it.
pub(crate) fn lock_file(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path);
    let file = file.step_with(|| format!("open {}", path.display()))?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive).errno_step(format!("lock {}", path.display()))?;
    Ok(file)
}
