//! Addresses and ports of a container that is about to run: taken in one transaction, given back when it ended.
//!
//! Who was killed gives nothing back: an address or a port whose container is not alive is free for who asks for it.

use std::collections::HashMap;
use std::net::IpAddr;

use errdefs::{ErrnoStep, Error, Kind, Result};
use network::port::{Protocol, Published};
use network::{Attachment, Driver, Network, Subnet, bridge, netlink::Socket, pool};
use rusqlite::{Connection, OptionalExtension, params};

use super::endpoint::{Endpoint, mode, networked};
use super::row::{Pool, Row};
use super::{BRIDGE, egress, show};
use crate::Engine;
use crate::container::names::new_id;
use crate::container::{Record, lock};
use crate::state::database;

impl Engine {
    /// Everything that a container's monitor needs to attach it: its networks are there, its addresses and ports are its
    /// own. Empty for a container without networks of its own.
    pub(crate) fn allocate(&self, record: &Record) -> Result<Vec<Attachment>> {
        if !networked(mode(&record.body)) {
            return Ok(Vec::new());
        }
        self.write_link_variables(record)?;
        let mut endpoints = self.endpoints(&record.id)?;
        let table = self.firewall_table()?;
        let mut plans = Vec::with_capacity(endpoints.len());
        for endpoint in &mut endpoints {
            plans.push(self.settled_plan(&mut endpoint.row, &table)?);
        }
        let wanted = super::show::wanted_ports(record)?;
        let attempt = || {
            self.state.transact(|db| {
                // Of a run before that nobody has tidied up after yet.
                self.release_in(db, &record.id)?;
                let mut attachments = Vec::with_capacity(endpoints.len());
                for (position, (endpoint, plan)) in endpoints.iter().zip(&plans).enumerate() {
                    let interface = endpoint.interface().unwrap_or_else(|| format!("eth{position}"));
                    attachments.push(self.attachment(db, record, endpoint, plan, interface)?);
                }
                choose_default_routes(&mut attachments, &endpoints);
                self.publish_on(db, record, &mut attachments, &wanted, &endpoints)?;
                Ok(attachments)
            })
        };
        let attachments = attempt().inspect_err(|_| _ = self.release_networks(&record.id))?;
        if attachments.iter().any(|a| a.network.bridge().is_some()) {
            self.have_keeper()?;
        }
        crate::container::files::write_for_networks(&self.roots, record, &attachments, &self.link_lines(record)?)?;
        Ok(attachments)
    }

    /// One network more, for a container that runs.
    pub(crate) fn allocate_one(&self, record: &Record, endpoint: &Endpoint) -> Result<Attachment> {
        let table = self.firewall_table()?;
        let mut row = endpoint.row.clone();
        let plan = self.settled_plan(&mut row, &table)?;
        let settled = Endpoint {
            row,
            settings: endpoint.settings.clone(),
        };
        let others = self.alive(&record.id)?.map(|l| l.networks).unwrap_or_default();
        let free = |name: &String| !others.iter().any(|o| o.interface == *name);
        let first_free = || (0..).map(|n| format!("eth{n}")).find(free).unwrap_or_default();
        let interface = settled.interface().unwrap_or_else(first_free);
        let mut attachment = self
            .state
            .transact(|db| self.attachment(db, record, &settled, &plan, interface))?;
        let taken = |ipv6: bool| {
            others
                .iter()
                .any(|o| if ipv6 { o.default_route.1 } else { o.default_route.0 })
        };
        attachment.default_route = (!taken(false), !taken(true));
        Ok(attachment)
    }

    /// The network, there and guarded.
    fn settled_plan(&self, row: &mut Row, table: &str) -> Result<Network> {
        if row.ipam.is_empty() && row.name == BRIDGE {
            self.settle_default(row)?;
        }
        let plan = row.plan(&self.roots, table);
        self.take_network_up(&plan)?;
        Ok(plan)
    }

    fn attachment(
        &self,
        db: &Connection,
        record: &Record,
        endpoint: &Endpoint,
        plan: &Network,
        interface: String,
    ) -> Result<Attachment> {
        let Endpoint { row, settings } = endpoint;
        let ipam = settings.ipam_config.clone().unwrap_or_default();
        let own = new_id()?;
        let mut addresses = Vec::with_capacity(2);
        for pool in &row.ipam {
            let ipv6 = pool.subnet.address.is_ipv6();
            let asked = if ipv6 { &ipam.ipv6_address } else { &ipam.ipv4_address };
            let asked = asked
                .as_deref()
                .filter(|a| !a.is_empty())
                .and_then(|a| a.parse::<IpAddr>().ok());
            let address = self.take_address(db, row, pool, asked, (&record.id, &own))?;
            addresses.push(Subnet {
                address,
                prefix: pool.subnet.prefix,
            });
        }
        let mut random = [0u8; 4];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).errno_step("draw an address")?;
        let v4 = addresses.iter().map(|a| a.address).find(IpAddr::is_ipv4);
        let mac = match settings.mac_address.as_deref().filter(|m| !m.is_empty()) {
            Some(mac) => show::parse_mac(mac)?,
            None => pool::mac_of(v4, random),
        };
        let names = super::names::of(record, settings);
        Ok(Attachment {
            network: plan.clone(),
            endpoint: own,
            sysctls: endpoint.sysctls(&interface)?,
            interface,
            mac,
            addresses,
            link_local: endpoint.link_local(),
            default_route: (false, false),
            published: Vec::new(),
            names,
            egress: egress::of_container(record.host())?.or(egress::of_network(row)?),
            network_egress: egress::of_network(row)?,
            links: settings.links.clone().unwrap_or_default(),
        })
    }

    /// The address that was asked for, or the next one after the last that was given.
    fn take_address(
        &self,
        db: &Connection,
        row: &Row,
        pool: &Pool,
        asked: Option<IpAddr>,
        (container, endpoint): (&str, &str),
    ) -> Result<IpAddr> {
        let subnet = pool.subnet;
        let version = if subnet.address.is_ipv6() { 6 } else { 4 };
        let reserved: Vec<u64> = pool
            .reserved
            .values()
            .chain(&pool.gateway)
            .filter_map(|a| subnet.offset(*a))
            .collect();
        let insert = |offset: u64| {
            db.execute(
                "INSERT INTO address (network, version, offset, container, endpoint) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![row.id, version, offset as i64, container, endpoint],
            )
            .map_err(database)
            .map(|_| subnet.host(offset))
        };
        if let Some(asked) = asked {
            let offset = subnet.offset(asked).unwrap_or(0);
            if reserved.contains(&offset) {
                return Err(taken(asked, "the network itself"));
            }
            let owner: Option<String> = db
                .query_row(
                    "SELECT container FROM address WHERE network = ?1 AND version = ?2 AND offset = ?3",
                    params![row.id, version, offset as i64],
                    |r| r.get(0),
                )
                .optional()
                .map_err(database)?;
            if let Some(owner) = owner {
                if owner != container && lock::held(&self.roots, &owner)? {
                    let name = self.find(&owner).map_or(owner, |row| row.name);
                    return Err(taken(asked, &format!("container {name}")));
                }
                self.release_in(db, &owner)?;
            }
            return insert(offset);
        }
        let range = pool.range.unwrap_or(subnet);
        let base = subnet.offset(range.network().address).unwrap_or(0);
        let (first, last) = (base + range.hosts().start(), base + range.hosts().end());
        let free = match self.free_offset(db, row, version, first..=last, &reserved)? {
            Some(free) => free,
            None => {
                // Perhaps some are those of containers that were killed.
                self.release_dead(db, &row.id)?;
                self.free_offset(db, row, version, first..=last, &reserved)?
                    .ok_or_else(|| {
                        let message = format!(
                            "no available {} addresses on this network's address pools: {} ({})",
                            if version == 4 { "IPv4" } else { "IPv6" },
                            row.name,
                            row.id
                        );
                        Error::new(Kind::Exhausted, message)
                            .hint("stop containers of this network, or make one with a larger subnet")
                    })?
            }
        };
        db.execute(
            &format!("UPDATE network SET next{version} = ?2 WHERE id = ?1"),
            params![row.id, free as i64 + 1],
        )
        .map_err(database)?;
        insert(free)
    }

    /// The next free number in a range, after the one that was given last: what was given back just now is not given away
    /// at once, while others still have it in mind.
    fn free_offset(
        &self,
        db: &Connection,
        row: &Row,
        version: i64,
        range: std::ops::RangeInclusive<u64>,
        reserved: &[u64],
    ) -> Result<Option<u64>> {
        let next: i64 = db
            .query_row(
                &format!("SELECT next{version} FROM network WHERE id = ?1"),
                [&row.id],
                |r| r.get(0),
            )
            .map_err(database)?;
        let from = (next as u64).clamp(*range.start(), *range.end());
        for (first, last) in [(from, *range.end()), (*range.start(), from)] {
            let mut statement = db
                .prepare_cached(
                    "SELECT offset FROM address WHERE network = ?1 AND version = ?2 AND offset >= ?3 ORDER BY offset",
                )
                .map_err(database)?;
            let mut rows = statement
                .query(params![row.id, version, first as i64])
                .map_err(database)?;
            let mut used = || -> Result<Option<u64>> {
                let row = rows.next().map_err(database)?;
                row.map(|r| r.get::<_, i64>(0).map(|o| o as u64))
                    .transpose()
                    .map_err(database)
            };
            let (mut candidate, mut occupied) = (first, used()?);
            while candidate <= last {
                if occupied == Some(candidate) {
                    occupied = used()?;
                } else if !reserved.contains(&candidate) {
                    return Ok(Some(candidate));
                }
                candidate += 1;
            }
        }
        Ok(None)
    }

    /// Publishes a container's ports on the network that its ways go by.
    fn publish_on(
        &self,
        db: &Connection,
        record: &Record,
        attachments: &mut [Attachment],
        wanted: &[show::WantedPort],
        endpoints: &[Endpoint],
    ) -> Result<()> {
        let carried = |a: &Attachment| a.network.driver == Driver::Pasta;
        let leads = |a: &Attachment| a.default_route.0 || a.default_route.1 || carried(a);
        let Some(index) = attachments.iter().position(leads) else {
            return Ok(());
        };
        let carried = carried(&attachments[index]);
        if !carried && (attachments[index].network.bridge().is_none() || attachments[index].network.internal) {
            return Ok(());
        }
        let binding = endpoints[index]
            .row
            .options
            .get(super::row::OPTION_BINDING)
            .and_then(|b| b.parse().ok());
        let targets: Vec<IpAddr> = match carried {
            true => [false, super::pasta::host_has_ipv6()]
                .map(network::port::everywhere)
                .into(),
            false => attachments[index].addresses.iter().map(|a| a.address).collect(),
        };
        let text = targets.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ");
        for port in wanted {
            for published in self.choose_port(db, record, port, &targets, binding)? {
                db.execute(
                    "INSERT INTO port (protocol, address, first, inner, count, targets, container, endpoint)
                        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                    params![
                        published.protocol.name(),
                        published.address.to_string(),
                        published.port,
                        published.inner,
                        published.count,
                        text,
                        record.id,
                        attachments[index].endpoint
                    ],
                )
                .map_err(database)?;
                attachments[index].published.push(published);
            }
        }
        Ok(())
    }

    /// The ports of the host that a container gets: those asked for, or free ones.
    fn choose_port(
        &self,
        db: &Connection,
        record: &Record,
        port: &show::WantedPort,
        targets: &[IpAddr],
        binding: Option<IpAddr>,
    ) -> Result<Vec<Published>> {
        let reachable = |ipv6: bool| targets.iter().any(|t| t.is_ipv6() == ipv6);
        let addresses: Vec<IpAddr> = match port.address.or(binding) {
            Some(address) => vec![address],
            None => [false, true]
                .into_iter()
                .filter(|v| reachable(*v))
                .map(network::port::everywhere)
                .collect(),
        };
        if targets.iter().any(IpAddr::is_unspecified) {
            check_carried(port)?;
        } else {
            addresses.iter().try_for_each(check_loopback)?;
        }
        let at = |first: u16| {
            let one = |address: &IpAddr| Published {
                protocol: port.protocol,
                address: *address,
                port: first,
                inner: port.inner,
                count: port.count,
            };
            addresses.iter().map(one).collect::<Vec<_>>()
        };
        if port.hosts.start() == port.hosts.end() {
            let chosen = at(*port.hosts.start());
            for published in &chosen {
                self.check_port(db, record, published)?;
            }
            return Ok(chosen);
        }
        let mut refused = None;
        for first in one_after_another(&port.hosts)? {
            let candidates = at(first);
            let free = candidates.iter().try_for_each(|p| {
                self.check_port(db, record, p)?;
                p.reserve().map(drop)
            });
            match free {
                Ok(()) => return Ok(candidates),
                Err(e) if e.kind() == Kind::Conflict => refused = Some(e),
                Err(e) => return Err(e),
            }
        }
        Err(refused.unwrap_or_else(|| Error::new(Kind::Exhausted, "all ports are allocated")))
    }

    /// Kind `Conflict`, and whose it is, when a container has it.
    fn check_port(&self, db: &Connection, record: &Record, port: &Published) -> Result<()> {
        let query = "SELECT container, address FROM port
            WHERE protocol = ?1 AND first < ?2 + ?3 AND ?2 < first + count";
        let mut statement = db.prepare_cached(query).map_err(database)?;
        let rows: Vec<(String, String)> = statement
            .query_map(params![port.protocol.name(), port.port, port.count], |r| {
                Ok((r.get(0)?, r.get(1)?))
            })
            .and_then(Iterator::collect)
            .map_err(database)?;
        for (owner, address) in rows {
            let same = address.parse::<IpAddr>().is_ok_and(|a| {
                a.is_ipv6() == port.address.is_ipv6()
                    && (a == port.address || a.is_unspecified() || port.address.is_unspecified())
            });
            if !same {
                continue;
            }
            if !lock::held(&self.roots, &owner)? {
                self.release_in(db, &owner)?;
                continue;
            }
            let name = self.find(&owner).map_or(owner, |row| row.name);
            let message = format!(
                "failed to set up container networking: driver failed programming external connectivity on endpoint {} ({}): Bind for {} failed: port is already allocated",
                record.name,
                record.id,
                std::net::SocketAddr::new(port.address, port.port)
            );
            let hint = format!(
                "port {}/{} is published by container {name}",
                port.port,
                port.protocol.name()
            );
            return Err(Error::conflict(message).hint(hint));
        }
        Ok(())
    }

    /// Gives back what a container has; fine if it has nothing. Ports lead to it no more.
    pub fn release_networks(&self, container: &str) -> Result<()> {
        self.state.transact(|db| self.release_in(db, container))
    }

    fn release_in(&self, db: &Connection, container: &str) -> Result<()> {
        let ports = self.published_ports(Some(container))?;
        if !ports.is_empty() && !self.roots.is_users() {
            bridge::unpublish(&Socket::netfilter()?, &self.firewall_table()?, &ports)?;
        }
        for table in ["port", "address"] {
            db.execute(&format!("DELETE FROM {table} WHERE container = ?1"), [container])
                .map_err(database)?;
        }
        Ok(())
    }

    /// Gives back what belongs to endpoints of a run that is over: the container may be running again by now, with others.
    /// Their ports lead nowhere any more.
    pub fn release_endpoints(&self, attachments: &[Attachment]) -> Result<()> {
        self.state.transact(|db| {
            for attachment in attachments {
                for table in ["port", "address"] {
                    db.execute(
                        &format!("DELETE FROM {table} WHERE endpoint = ?1"),
                        [&attachment.endpoint],
                    )
                    .map_err(database)?;
                }
            }
            Ok(())
        })
    }

    /// What containers of a network have that are not alive.
    fn release_dead(&self, db: &Connection, network: &str) -> Result<()> {
        let mut statement = db
            .prepare_cached("SELECT DISTINCT container FROM address WHERE network = ?1")
            .map_err(database)?;
        let owners: Vec<String> = statement
            .query_map([network], |r| r.get(0))
            .and_then(Iterator::collect)
            .map_err(database)?;
        for owner in owners {
            if !lock::held(&self.roots, &owner)? {
                self.release_in(db, &owner)?;
            }
        }
        Ok(())
    }
}

/// What a program of a user's can carry.
fn check_carried(port: &show::WantedPort) -> Result<()> {
    match port.protocol {
        Protocol::Sctp => Err(super::pasta::needs_root(format_args!("to publish a port of sctp"))),
        _ => Ok(()),
    }
}

/// Answers for ::1 that come from outside are dropped by the kernel before or after they are translated; for 127.0.0.0/8 a
/// bridge can be told to take them.
fn check_loopback(address: &IpAddr) -> Result<()> {
    match address.is_ipv6() && address.is_loopback() {
        true => Err(Error::not_yet("to publish a port at ::1").hint("publish it at 127.0.0.1")),
        false => Ok(()),
    }
}

/// All of a range, the first ones first; of one as long as that of all free ports, from anywhere in it.
fn one_after_another(range: &std::ops::RangeInclusive<u16>) -> Result<impl Iterator<Item = u16>> {
    const MANY: usize = 1000;
    let (first, count) = (*range.start(), range.len());
    let mut random = [0u8; 4];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).errno_step("draw a port")?;
    let start = if count > MANY {
        u32::from_ne_bytes(random) as usize % count
    } else {
        0
    };
    Ok((0..count).map(move |n| first + ((start + n) % count) as u16))
}

fn taken(address: IpAddr, by: &str) -> Error {
    Error::new(Kind::Forbidden, "Address already in use").hint(format!("{address} is that of {by}"))
}

/// By which network the ways to everywhere go: the highest priority, then one with a way out, then the first.
fn choose_default_routes(attachments: &mut [Attachment], endpoints: &[Endpoint]) {
    let priorities: HashMap<usize, i64> = endpoints
        .iter()
        .enumerate()
        .map(|(i, e)| (i, e.settings.gw_priority.unwrap_or(0)))
        .collect();
    for ipv6 in [false, true] {
        let fits = |a: &Attachment| a.address(ipv6).is_some() && !a.network.internal;
        let best = (0..attachments.len())
            .filter(|i| fits(&attachments[*i]))
            .max_by_key(|i| (priorities.get(i).copied().unwrap_or(0), std::cmp::Reverse(*i)));
        if let Some(best) = best {
            match ipv6 {
                false => attachments[best].default_route.0 = true,
                true => attachments[best].default_route.1 = true,
            }
        }
    }
}
