//! Names of containers: what each is called on its networks, and what links say in files of hosts.
//!
//! On networks of one's own names are found by asking (see [`crate::names`]). On Docker's default network nobody is found
//! by name, but those that a container is linked to: they stand in its file of hosts.

use std::fmt::Write as _;
use std::net::IpAddr;

use bollard_stubs::models::EndpointSettings;
use errdefs::Result;

use super::{BRIDGE, Row};
use crate::Engine;
use crate::container::Record;
use crate::state::database;

/// What a container is called on a network: its name, its aliases there, the beginning of its id, its host name.
pub(crate) fn of(record: &Record, settings: &EndpointSettings) -> Vec<String> {
    let mut names = vec![record.name.clone()];
    let hostname = record.body.hostname.clone().filter(|h| !h.is_empty());
    let aliases = settings.aliases.iter().flatten().cloned();
    for name in aliases.chain([record.id[..12].to_owned()]).chain(hostname) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

impl Engine {
    /// The lines about those that a container on the default network is linked to.
    pub(crate) fn link_lines(&self, record: &Record) -> Result<String> {
        let mut text = String::new();
        for link in record.host().links.iter().flatten() {
            let (name, alias) = link.split_once(':').unwrap_or((link, link));
            let Ok(target) = self.find(name) else { continue };
            for address in self.addresses_on(&self.network(BRIDGE)?, &target.id)? {
                let _ = writeln!(text, "{address}\t{alias} {} {}", &target.id[..12], target.name);
            }
        }
        Ok(text)
    }

    /// A container's addresses on a network.
    fn addresses_on(&self, row: &Row, container: &str) -> Result<Vec<IpAddr>> {
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
