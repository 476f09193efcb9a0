//! Networks: what is written down about them, and what containers get of them.
//!
//! A network is a row with Docker's body; which containers are to be on it are rows, too ([`endpoint`]). Addresses and ports
//! belong to containers that run: they are taken by whoever starts one ([`allocate`]), handed to its monitor as
//! [`network::Attachment`]s, and given back when it ends. The bridge and the firewall's table are made when the first
//! container needs them, and go with the last network ([`host`]).

pub mod allocate;
pub mod create;
pub mod egress;
pub mod endpoint;
pub mod host;
pub mod keep;
pub mod linked;
pub mod names;
pub mod pasta;
pub mod row;
pub mod shared;
pub mod show;

use std::collections::HashMap;

use bollard_stubs::models::{EndpointResource, NetworkInspect, NetworkPruneResponse};
use errdefs::{Error, Kind, Result};

use crate::state::database;
use crate::{Engine, filters};

pub use ::network::Subnet;
pub use row::Row;

/// What networks are listed by.
const FILTERS: &[(&str, filters::Kind)] = &[
    ("dangling", filters::Kind::Text),
    ("driver", filters::Kind::Text),
    ("id", filters::Kind::Text),
    ("label", filters::Kind::Text),
    ("name", filters::Kind::Text),
    ("scope", filters::Kind::Text),
    ("type", filters::Kind::Text),
];
/// What is said of those that are to go.
const PRUNE_FILTERS: &[(&str, filters::Kind)] = &[
    ("label", filters::Kind::Text),
    ("label!", filters::Kind::Text),
    ("until", filters::Kind::Time),
];

/// Docker's default network.
pub const BRIDGE: &str = "bridge";
/// The host's own.
pub const HOST: &str = "host";
/// Of users who are not root.
pub const PASTA: &str = "pasta";
/// No network at all.
pub const NONE: &str = "none";

/// Whether a network is there from the start, and stays.
pub fn predefined(name: &str) -> bool {
    [BRIDGE, HOST, NONE, PASTA].contains(&name)
}

impl Engine {
    /// By name, id, or unique beginning of an id.
    pub fn network(&self, name: &str) -> Result<Row> {
        let missing = || Error::not_found(format!("network {name} not found"));
        let exact = self.network_rows("WHERE name = ?1 OR id = ?1 ORDER BY name = ?1 DESC", name)?;
        if let Some(row) = exact.into_iter().next() {
            return Ok(row);
        }
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(missing());
        }
        let mut found = self.network_rows("WHERE id GLOB ?1 LIMIT 2", &format!("{name}*"))?;
        match found.len() {
            0 => Err(missing()),
            1 => Ok(found.swap_remove(0)),
            _ => Err(Error::invalid(format!(
                "network {name} is ambiguous (2 matches found on ID prefix)"
            ))),
        }
    }

    /// All that match, by name. Filters: `driver`, `id`, `label`, `name`, `scope`, `type`, `dangling`.
    pub fn networks(&self, filters: &[(String, String)]) -> Result<Vec<NetworkInspect>> {
        filters::check(filters, FILTERS)?;
        let wrong = |(name, value): &&(String, String)| match name.as_str() {
            "type" => !["builtin", "custom"].contains(&value.as_str()),
            "dangling" => filters::flag(value).is_none(),
            _ => false,
        };
        match filters.iter().find(wrong) {
            Some((name, value)) if name == "type" => {
                return Err(Error::invalid(format!("invalid filter: 'type'='{value}'")));
            }
            Some(_) => {
                return Err(Error::invalid(
                    "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")",
                ));
            }
            None => {}
        }
        let mut list = Vec::new();
        for row in self.network_rows("WHERE ?1 = ?1 ORDER BY name", "")? {
            if self.network_matches(&row, filters)? {
                list.push(self.describe_network(&row, false)?);
            }
        }
        Ok(list)
    }

    fn network_matches(&self, row: &Row, filters: &[(String, String)]) -> Result<bool> {
        let labels = &row.labels;
        let one = |name: &str, value: &str| -> Result<bool> {
            Ok(match name {
                "driver" => row.driver == value,
                "id" => row.id.starts_with(value),
                "name" => row.name.contains(value),
                "scope" => value == "local",
                "label" => match value.split_once('=') {
                    Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
                    None => labels.contains_key(value),
                },
                "type" => match value {
                    "builtin" => predefined(&row.name),
                    _ => !predefined(&row.name),
                },
                "dangling" => {
                    let unused = !predefined(&row.name) && self.network_users(&row.id)?.is_empty();
                    unused == matches!(value, "true" | "1")
                }
                _ => true,
            })
        };
        // Several of one name: any of them, but of labels all.
        let mut names: Vec<&str> = filters.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let values = filters.iter().filter(|(n, _)| n == name);
            let matches = values.map(|(n, v)| one(n, v)).collect::<Result<Vec<_>>>()?;
            let good = match name {
                "label" => matches.iter().all(|m| *m),
                _ => matches.iter().any(|m| *m),
            };
            if !good {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Everything about a network, with the containers that run on it.
    pub fn inspect_network(&self, name: &str) -> Result<NetworkInspect> {
        self.describe_network(&self.network(name)?, true)
    }

    fn describe_network(&self, row: &Row, containers: bool) -> Result<NetworkInspect> {
        let mut shown = row.body();
        if containers {
            shown.containers = Some(self.network_containers(row)?);
        }
        Ok(shown)
    }

    fn network_containers(&self, row: &Row) -> Result<HashMap<String, EndpointResource>> {
        let mut found = HashMap::new();
        for id in self.network_users(&row.id)? {
            let Some(live) = self.alive(&id)? else { continue };
            let Ok(container) = self.find(&id) else { continue };
            let Some(attachment) = live.networks.iter().find(|a| a.network.id == row.id) else {
                continue;
            };
            let address = |ipv6| attachment.address(ipv6).map_or(String::new(), |a| a.to_string());
            found.insert(
                id,
                EndpointResource {
                    name: Some(container.name),
                    endpoint_id: Some(attachment.endpoint.clone()),
                    mac_address: Some(show::mac(&attachment.mac)),
                    ipv4_address: Some(address(false)),
                    ipv6_address: Some(address(true)),
                },
            );
        }
        Ok(found)
    }

    /// The ids of the containers that are on it, or will be when they run.
    pub(crate) fn network_users(&self, network: &str) -> Result<Vec<String>> {
        let mut statement = self
            .state
            .db
            .prepare_cached("SELECT container FROM endpoint WHERE network = ?1 ORDER BY container")
            .map_err(database)?;
        let rows = statement.query_map([network], |row| row.get(0));
        let mut users: Vec<String> = rows.and_then(Iterator::collect).map_err(database)?;
        // The row of one that is just about to go counts for nothing.
        users.retain(|id| self.roots.record(id).exists());
        Ok(users)
    }

    /// Takes a network away, and what of it is on this host. Kind `Forbidden` when a container runs on it.
    pub fn remove_network(&self, name: &str) -> Result<()> {
        let row = self.network(name)?;
        if predefined(&row.name) {
            let message = format!("{} is a pre-defined network and cannot be removed", row.name);
            return Err(Error::new(Kind::Forbidden, message));
        }
        let users = self.running_users(&row)?;
        if !users.is_empty() {
            let names: Vec<_> = users
                .iter()
                .map(|(name, id)| format!("name:\"{name}\" id:\"{}\"", &id[..12]))
                .collect();
            let message = format!(
                "error while removing network: network {} has active endpoints ({})",
                row.name,
                names.join(", ")
            );
            return Err(Error::new(Kind::Forbidden, message).hint("stop these containers, or disconnect them"));
        }
        self.state.transact(|db| {
            for table in ["address", "endpoint"] {
                db.execute(&format!("DELETE FROM {table} WHERE network = ?1"), [&row.id])
                    .map_err(database)?;
            }
            db.execute("DELETE FROM network WHERE id = ?1", [&row.id])
                .map_err(database)
        })?;
        self.take_network_down(&row)?;
        let told = [("name", row.name.as_str()), ("type", row.driver.as_str())];
        self.tell_event(crate::event::Type::NETWORK, "destroy", &row.id, &told);
        Ok(())
    }

    /// Name and id of the containers that run on it.
    pub(crate) fn running_users(&self, row: &Row) -> Result<Vec<(String, String)>> {
        let mut running = Vec::new();
        for id in self.network_users(&row.id)? {
            if self
                .alive(&id)?
                .is_some_and(|live| live.networks.iter().any(|a| a.network.id == row.id))
            {
                running.push((self.find(&id)?.name, id));
            }
        }
        Ok(running)
    }

    /// Removes the networks that no container is to be on. Filters: `label`, `until`.
    pub fn prune_networks(&self, filters: &[(String, String)]) -> Result<NetworkPruneResponse> {
        filters::check(filters, PRUNE_FILTERS)?;
        let mut deleted = Vec::new();
        for row in self.network_rows("WHERE ?1 = ?1 ORDER BY name", "")? {
            if predefined(&row.name) || !self.network_users(&row.id)?.is_empty() || !prunable(&row, filters)? {
                continue;
            }
            self.remove_network(&row.id)?;
            deleted.push(row.name);
        }
        self.leave_host_if_unused()?;
        Ok(NetworkPruneResponse {
            networks_deleted: Some(deleted),
        })
    }
}

fn prunable(row: &Row, filters: &[(String, String)]) -> Result<bool> {
    let has = |wanted: &str| match wanted.split_once('=') {
        Some((key, value)) => row.labels.get(key).is_some_and(|v| v == value),
        None => row.labels.contains_key(wanted),
    };
    for (name, value) in filters {
        let fits = match name.as_str() {
            "label" => has(value),
            "label!" => !has(value),
            _ => crate::human::nanoseconds_at(&row.created) < crate::human::parse_time(value)?,
        };
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
}
