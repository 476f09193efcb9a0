//! Links on Docker's default network, where nobody is found by asking: lines in the file of hosts, and variables.
//!
//! On networks of one's own a link is a name and nothing more (see [`crate::names`]).

use std::fmt::Write as _;
use std::net::IpAddr;

use bollard_stubs::models::ContainerCreateBody;
use errdefs::{Error, Kind, Result, Step};

use super::endpoint::mode;
use super::{BRIDGE, HOST, show};
use crate::container::record::{read_json, write_json};
use crate::container::{Record, files};
use crate::state::database;
use crate::{Engine, Roots};

/// Variables that are not passed on.
const OWN: &[&str] = &["PATH", "HOME"];

/// Whom a container is linked to, and how it calls him.
fn links(record: &Record) -> impl Iterator<Item = (&str, &str)> {
    let all = record.host().links.iter().flatten();
    all.filter(|_| mode(&record.body) == BRIDGE)
        .map(|link| link.split_once(':').unwrap_or((link, link)))
        .map(|(name, alias)| (name.trim_start_matches('/'), alias.rsplit('/').next().unwrap_or(alias)))
}

/// The variables of links that were written down at the container's start.
pub fn variables(roots: &Roots, record: &Record) -> Vec<String> {
    match links(record).next() {
        Some(_) => read_json(&roots.link_variables(&record.id))
            .ok()
            .flatten()
            .unwrap_or_default(),
        None => Vec::new(),
    }
}

impl Engine {
    /// Links that can be made, as far as that is known when a container is made.
    pub(crate) fn check_links(&self, body: &ContainerCreateBody) -> Result<()> {
        let mut links = body
            .host_config
            .iter()
            .flat_map(|h| h.links.iter().flatten())
            .peekable();
        if links.peek().is_some() && mode(body) == HOST {
            return Err(Error::invalid(
                "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
            ));
        }
        for link in links {
            let (name, alias) = link.split_once(':').unwrap_or((link, link));
            if alias.contains(':') || alias.is_empty() || name.is_empty() {
                return Err(Error::invalid(format!("bad format for links: {link}")));
            }
            if mode(body) == BRIDGE {
                self.find(name).map_err(|e| {
                    Error::caused(format!("could not get container for {name}"), e).kind_is(Kind::Invalid)
                })?;
            }
        }
        Ok(())
    }

    /// Writes down the variables of a container that is about to run. Fails when somebody that it is linked to does not.
    pub(crate) fn write_link_variables(&self, record: &Record) -> Result<()> {
        let mut list = Vec::new();
        for (name, alias) in links(record) {
            let target = self.record(name)?;
            if self.alive(&target.id)?.is_none() {
                return Err(Error::conflict(format!(
                    "Cannot link to a non running container: /{} AS /{}/{alias}",
                    target.name, record.name
                )));
            }
            let Some(address) = self.addresses_on_bridge(&target.id)?.into_iter().next() else {
                let message = format!("container {} not attached to default bridge network", target.id);
                return Err(Error::invalid(message));
            };
            list.extend(of_link(record, &target, alias, address)?);
            remember(&self.roots.linked_by(&target.id), &record.id)?;
        }
        match list.is_empty() {
            true => Ok(()),
            false => write_json(&self.roots.link_variables(&record.id), &list),
        }
    }

    /// The lines about those that a container is linked to.
    pub(crate) fn link_lines(&self, record: &Record) -> Result<String> {
        let mut text = String::new();
        for (name, alias) in links(record) {
            let Ok(target) = self.find(name) else { continue };
            for address in self.addresses_on_bridge(&target.id)? {
                let _ = writeln!(text, "{address}\t{alias} {} {}", files::short(&target.id), target.name);
            }
        }
        Ok(text)
    }

    /// Those that are linked to a container that has just been started see it where it is now; their variables stay, as Docker's do.
    pub(crate) fn renew_links_to(&self, record: &Record) -> Result<()> {
        let Ok(entries) = std::fs::read_dir(self.roots.linked_by(&record.id)) else {
            return Ok(());
        };
        for entry in entries.flatten() {
            let linked = self.record(&entry.file_name().to_string_lossy());
            match linked {
                Ok(linked) if self.alive(&linked.id)?.is_some() => self.rewrite_names(&linked)?,
                // It does not run, or is gone: when it is started it looks anew.
                _ => _ = std::fs::remove_file(entry.path()),
            }
        }
        Ok(())
    }

    /// A container's addresses on the default network, IPv4 first.
    fn addresses_on_bridge(&self, container: &str) -> Result<Vec<IpAddr>> {
        let row = self.network(BRIDGE)?;
        let query = "SELECT version, offset FROM address WHERE network = ?1 AND container = ?2 ORDER BY version";
        let mut statement = self.state.db.prepare_cached(query).map_err(database)?;
        let found: Vec<(i64, i64)> = statement
            .query_map([row.id.as_str(), container], |r| Ok((r.get(0)?, r.get(1)?)))
            .and_then(Iterator::collect)
            .map_err(database)?;
        let address = |(version, offset): (i64, i64)| {
            let pool = row.ipam.iter().find(|p| p.subnet.address.is_ipv6() == (version == 6))?;
            Some(pool.subnet.host(offset as u64))
        };
        Ok(found.into_iter().filter_map(address).collect())
    }
}

/// A file by the container's id, in the directory of whom it is linked to: gone with that.
fn remember(directory: &std::path::Path, id: &str) -> Result<()> {
    let made = std::fs::create_dir_all(directory).and_then(|()| std::fs::write(directory.join(id), ""));
    made.step_with(|| format!("remember the link in {}", directory.display()))
}

/// Docker's: the first port, each port, the name, the other's own variables.
fn of_link(record: &Record, target: &Record, alias: &str, address: IpAddr) -> Result<Vec<String>> {
    let prefix = alias.to_ascii_uppercase().replace('-', "_");
    let mut ports = Vec::new();
    for exposed in target.body.exposed_ports.iter().flatten() {
        let (range, protocol) = show::parse_port(exposed)?;
        ports.extend(range.map(|port| (port, protocol)));
    }
    ports.sort_unstable();
    let url = |(port, protocol): &(u16, network::port::Protocol)| {
        format!("{}://{}", protocol.name(), std::net::SocketAddr::new(address, *port))
    };
    let mut list: Vec<String> = ports
        .first()
        .map(|first| format!("{prefix}_PORT={}", url(first)))
        .into_iter()
        .collect();
    for pair in &ports {
        let (port, protocol) = pair;
        let name = format!("{prefix}_PORT_{port}_{}", protocol.name().to_ascii_uppercase());
        list.push(format!("{name}={}", url(pair)));
        list.push(format!("{name}_ADDR={address}"));
        list.push(format!("{name}_PORT={port}"));
        list.push(format!("{name}_PROTO={}", protocol.name()));
    }
    list.push(format!("{prefix}_NAME=/{}/{alias}", record.name));
    for entry in target.body.env.iter().flatten() {
        if let Some((name, value)) = entry.split_once('=').filter(|(name, _)| !OWN.contains(name)) {
            list.push(format!("{prefix}_ENV_{name}={value}"));
        }
    }
    Ok(list)
}
