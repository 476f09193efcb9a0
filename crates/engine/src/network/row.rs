//! A network as it is written down.

use std::collections::HashMap;

use bollard_stubs::models::{Ipam, IpamConfig, NetworkInspect};
use errdefs::{Result, Step};
use network::{Driver, Network, Subnet};
use serde::{Deserialize, Serialize};

use crate::state::database;
use crate::{Engine, Roots};

/// Docker's names of options of the driver `bridge`.
pub const OPTION_NAME: &str = "com.docker.network.bridge.name";
/// Containers may talk to each other.
pub const OPTION_ICC: &str = "com.docker.network.bridge.enable_icc";
/// What leaves leaves under the host's address.
pub const OPTION_MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
/// Where ports are published that name no address.
pub const OPTION_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
/// Ours: `honour`, or `bypass`, which is Docker's way: what the host's own rules refuse is published all the same.
pub const OPTION_HOST_RULES: &str = "berth.network.host_firewall";
/// Bytes in a packet.
pub const OPTION_MTU: &str = "com.docker.network.driver.mtu";

/// One network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Unique.
    pub name: String,
    /// RFC 3339.
    pub created: String,
    /// `bridge`, `macvlan`, `ipvlan`, `host`, `null`, `pasta`.
    pub driver: String,
    /// IPv6, too.
    pub ipv6: bool,
    /// IPv4.
    pub ipv4: bool,
    /// No way out.
    pub internal: bool,
    /// Kept for who asks: every network can be attached to.
    pub attachable: bool,
    /// The subnets, their gateways and reserved addresses.
    pub ipam: Vec<Pool>,
    /// The user chose the subnet, and may choose addresses in it.
    pub chosen: bool,
    /// The driver's.
    pub options: HashMap<String, String>,
    /// The user's.
    pub labels: HashMap<String, String>,
}

/// A subnet of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// All of it.
    pub subnet: Subnet,
    /// Where addresses are taken from that nobody asked for by number.
    pub range: Option<Subnet>,
    /// The router's.
    pub gateway: Option<std::net::IpAddr>,
    /// Never given to containers.
    pub reserved: HashMap<String, std::net::IpAddr>,
}

impl Row {
    /// In Docker's form.
    pub fn body(&self) -> NetworkInspect {
        let pool = |pool: &Pool| IpamConfig {
            subnet: Some(pool.subnet.to_string()),
            ip_range: pool.range.map(|r| r.to_string()),
            gateway: pool.gateway.map(|g| g.to_string()),
            auxiliary_addresses: (!pool.reserved.is_empty())
                .then(|| pool.reserved.iter().map(|(k, v)| (k.clone(), v.to_string())).collect()),
        };
        NetworkInspect {
            name: Some(self.name.clone()),
            id: Some(self.id.clone()),
            created: Some(self.created.clone()),
            scope: Some("local".into()),
            driver: Some(self.driver.clone()),
            enable_ipv4: Some(self.ipv4),
            enable_ipv6: Some(self.ipv6),
            ipam: Some(Ipam {
                driver: Some("default".into()),
                config: Some(self.ipam.iter().map(pool).collect()),
                options: None,
            }),
            internal: Some(self.internal),
            attachable: Some(self.attachable),
            ingress: Some(false),
            config_from: Some(Default::default()),
            config_only: Some(false),
            options: Some(self.options.clone()),
            labels: Some(self.labels.clone()),
            containers: Some(HashMap::new()),
            ..Default::default()
        }
    }

    fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    /// What is to be on the host.
    pub fn plan(&self, roots: &Roots, table: &str) -> Network {
        let no = |name: &str| self.option(name) == Some("false");
        let gateway = |pool: &Pool| {
            pool.gateway.map(|address| Subnet {
                address,
                prefix: pool.subnet.prefix,
            })
        };
        Network {
            id: self.id.clone(),
            name: self.name.clone(),
            driver: self.plan_driver(roots),
            gateways: self.ipam.iter().filter_map(gateway).collect(),
            internal: self.internal,
            masquerade: !no(OPTION_MASQUERADE),
            open: !no(OPTION_ICC),
            past_host_rules: self.option(OPTION_HOST_RULES) == Some("bypass"),
            mtu: self.option(OPTION_MTU).and_then(|m| m.parse().ok()),
            table: table.into(),
        }
    }

    fn plan_driver(&self, roots: &Roots) -> Driver {
        let parent = || self.option("parent").unwrap_or_default().to_owned();
        match self.driver.as_str() {
            "macvlan" => Driver::Macvlan {
                parent: parent(),
                mode: self.option("macvlan_mode").unwrap_or("bridge").into(),
            },
            "ipvlan" => Driver::Ipvlan {
                parent: parent(),
                mode: self.option("ipvlan_mode").unwrap_or("l2").into(),
            },
            super::PASTA => Driver::Pasta,
            _ => Driver::Bridge {
                interface: match self.option(OPTION_NAME) {
                    Some(name) => name.to_owned(),
                    None if self.name == super::BRIDGE && roots.is_system() => "berth0".into(),
                    None => format!("berth-{}", &self.id[..9]),
                },
            },
        }
    }
}

impl Engine {
    /// Rows that fit a clause with one parameter.
    pub(crate) fn network_rows(&self, clause: &str, parameter: &str) -> Result<Vec<Row>> {
        let query = format!("SELECT body FROM network {clause}");
        let mut statement = self.state.db.prepare_cached(&query).map_err(database)?;
        let bodies: Vec<String> = statement
            .query_map([parameter], |row| row.get(0))
            .and_then(Iterator::collect)
            .map_err(database)?;
        let mut rows: Vec<Row> = Vec::with_capacity(bodies.len() + 3);
        for body in bodies {
            rows.push(serde_json::from_str(&body).step("read the network")?);
        }
        Ok(rows)
    }

    /// The firewall's table of this engine: another one for every place where state is kept, so that several engines on one
    /// host do not take each other's rules away.
    pub(crate) fn firewall_table(&self) -> Result<String> {
        if self.roots.is_system() {
            return Ok("berth".into());
        }
        let id = self
            .state
            .db
            .query_row("SELECT id FROM network WHERE name = 'bridge'", [], |row| {
                row.get::<_, String>(0)
            })
            .map_err(database)?;
        Ok(format!("berth-{}", &id[..9]))
    }

    /// Writes a row down that is there already.
    pub(crate) fn update_network(&self, row: &Row) -> Result<()> {
        let body = serde_json::to_string(row).step("write down the network")?;
        self.state
            .db
            .execute("UPDATE network SET body = ?2 WHERE id = ?1", [&row.id, &body])
            .map_err(database)
            .map(drop)
    }
}

/// The networks that are there from the start.
pub(crate) fn add_predefined(db: &rusqlite::Connection) -> Result<()> {
    [(super::BRIDGE, "bridge"), (super::HOST, "host"), (super::NONE, "null")]
        .into_iter()
        .try_for_each(|(name, driver)| add_one(db, name, driver))
}

/// A network without subnets.
pub(crate) fn add_one(db: &rusqlite::Connection, name: &str, driver: &str) -> Result<()> {
    let row = Row {
        id: crate::container::names::new_id()?,
        name: name.into(),
        created: crate::container::record::now(),
        driver: driver.into(),
        ipv6: false,
        ipv4: true,
        internal: false,
        attachable: false,
        ipam: Vec::new(),
        chosen: false,
        options: HashMap::new(),
        labels: HashMap::new(),
    };
    let body = serde_json::to_string(&row).step("write down the network")?;
    db.execute(
        "INSERT INTO network (id, name, body) VALUES (?1, ?2, ?3)",
        [&row.id, &row.name, &body],
    )
    .map_err(database)
    .map(drop)
}
