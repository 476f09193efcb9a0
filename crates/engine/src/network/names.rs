//! Names: containers of a network find each other by name, alias and short id, in their files of hosts.
//!
//! The files are written from the rows of who has addresses: whoever takes some or gives some back writes those of all its
//! neighbours, under one lock, so that two who start at once see each other.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use errdefs::{Result, Step};

use super::{Row, predefined};
use crate::Engine;
use crate::container::{Record, files};
use crate::state::database;

/// Who has an address on a network, and what it is called there.
struct Neighbour {
    container: String,
    names: Vec<String>,
    addresses: Vec<IpAddr>,
}

impl Engine {
    /// Writes the files of hosts of everybody on these networks anew.
    pub fn refresh_names(&self, networks: &[String]) -> Result<()> {
        let mut rows = Vec::new();
        for id in networks {
            // One that was removed meanwhile has nobody on it.
            rows.extend(self.network(id).ok().filter(|row| !predefined(&row.name)));
        }
        if rows.is_empty() {
            return Ok(());
        }
        let _lock = self.lock_networks()?;
        let mut containers: Vec<String> = Vec::new();
        for row in &rows {
            containers.extend(self.neighbours(row)?.into_iter().map(|n| n.container));
        }
        containers.sort_unstable();
        containers.dedup();
        for id in containers {
            // A container that is about to go needs no names.
            if let Ok(record) = self.read_record(&id) {
                let lines = self.host_lines(&record)?;
                files::rewrite_neighbours(&self.roots, &id, &lines)?;
            }
        }
        Ok(())
    }

    /// The lines about others in a container's file of hosts.
    pub(crate) fn host_lines(&self, record: &Record) -> Result<String> {
        let mut text = String::new();
        for endpoint in self.endpoints(&record.id)? {
            if predefined(&endpoint.row.name) && record.host().links.iter().flatten().next().is_none() {
                continue;
            }
            let neighbours = self.neighbours(&endpoint.row)?;
            let linked = |text: &mut String, link: &String| {
                let (name, alias) = link.split_once(':').unwrap_or((link, link));
                let found = neighbours.iter().find(|n| n.names.iter().any(|own| own == name));
                for address in found.iter().flat_map(|n| &n.addresses) {
                    let _ = writeln!(text, "{address}\t{alias}");
                }
            };
            let links = endpoint.settings.links.iter().flatten();
            links.for_each(|link| linked(&mut text, link));
            if predefined(&endpoint.row.name) {
                record
                    .host()
                    .links
                    .iter()
                    .flatten()
                    .for_each(|link| linked(&mut text, link));
                continue;
            }
            for neighbour in neighbours.iter().filter(|n| n.container != record.id) {
                for address in &neighbour.addresses {
                    let _ = writeln!(text, "{address}\t{}", neighbour.names.join(" "));
                }
            }
        }
        Ok(text)
    }

    fn neighbours(&self, row: &Row) -> Result<Vec<Neighbour>> {
        let query = "SELECT address.container, container.name, address.version, address.offset, endpoint.settings
            FROM address JOIN container ON container.id = address.container
            LEFT JOIN endpoint ON endpoint.container = address.container AND endpoint.network = address.network
            WHERE address.network = ?1 ORDER BY address.version, address.offset";
        let mut statement = self.state.db.prepare_cached(query).map_err(database)?;
        type Found = (String, String, i64, i64, Option<String>);
        let found: Vec<Found> = statement
            .query_map([&row.id], |r| {
                Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?))
            })
            .and_then(Iterator::collect)
            .map_err(database)?;
        let mut list: BTreeMap<String, Neighbour> = BTreeMap::new();
        for (container, name, version, offset, settings) in found {
            let pool = row.ipam.iter().find(|p| p.subnet.address.is_ipv6() == (version == 6));
            let Some(pool) = pool else { continue };
            if !list.contains_key(&container) {
                let settings: bollard_stubs::models::EndpointSettings = match &settings {
                    Some(text) => serde_json::from_str(text).step("read the container's network")?,
                    None => Default::default(),
                };
                let mut names = vec![name];
                names.extend(settings.aliases.into_iter().flatten());
                names.push(container[..12].to_owned());
                names.dedup();
                let neighbour = Neighbour {
                    container: container.clone(),
                    names,
                    addresses: Vec::new(),
                };
                list.insert(container.clone(), neighbour);
            }
            if let Some(neighbour) = list.get_mut(&container) {
                neighbour.addresses.push(pool.subnet.host(offset as u64));
            }
        }
        Ok(list.into_values().collect())
    }
}
