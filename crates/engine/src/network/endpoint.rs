//! Which containers are to be on which networks, and how: written down by `create` and `network connect`.

use std::collections::HashMap;
use std::net::IpAddr;

use bollard_stubs::models::{ContainerCreateBody, EndpointSettings, NetworkConnectRequest, NetworkDisconnectRequest};
use errdefs::{Error, Kind, Result, Step};
use network::Subnet;

use super::{BRIDGE, HOST, NONE, Row, predefined};
use crate::Engine;
use crate::container::Record;
use crate::link::Request;
use crate::state::database;

/// A container's place on a network, as it was asked for.
pub struct Endpoint {
    /// The network.
    pub row: Row,
    /// What was asked for.
    pub settings: EndpointSettings,
}

/// Docker's name of a container's network: what stands for the default is spelled out.
pub fn mode(body: &ContainerCreateBody) -> &str {
    let host = body.host_config.as_ref();
    match host.and_then(|h| h.network_mode.as_deref()) {
        _ if body.network_disabled == Some(true) => NONE,
        None | Some("" | "default") => BRIDGE,
        Some(mode) => mode,
    }
}

/// Whether a mode is a network with endpoints.
pub fn networked(mode: &str) -> bool {
    mode != HOST && mode != NONE && !mode.starts_with("container:")
}

impl Engine {
    /// The networks that a container is to be on, checked; nothing is changed.
    pub(crate) fn wanted_endpoints(&self, body: &ContainerCreateBody) -> Result<Vec<Endpoint>> {
        self.check_links(body)?;
        let mode = mode(body);
        let empty = HashMap::new();
        let asked = body
            .networking_config
            .as_ref()
            .and_then(|n| n.endpoints_config.as_ref())
            .unwrap_or(&empty);
        let spelled_out = |name: &String| if name == "default" { BRIDGE.into() } else { name.clone() };
        let mut asked: Vec<_> = asked
            .iter()
            .map(|(name, settings)| (spelled_out(name), settings))
            .collect();
        asked.sort_by(|(one, _), (other, _)| one.cmp(other));
        if !networked(mode) {
            if let Some((name, _)) = asked.iter().find(|(name, _)| name.as_str() != mode) {
                return Err(Error::invalid(format!(
                    "conflicting options: cannot attach both {mode} and the network {name}"
                )));
            }
            super::egress::check(body, &[])?;
            return Ok(Vec::new());
        }
        let mut list: Vec<Endpoint> = Vec::new();
        let primary = self.network(mode)?;
        list.push(Endpoint {
            row: primary,
            settings: EndpointSettings::default(),
        });
        for (name, settings) in asked {
            let row = self.network(&name)?;
            match list.iter_mut().find(|e| e.row.id == row.id) {
                Some(known) => known.settings = settings.clone(),
                None => list.push(Endpoint {
                    row,
                    settings: settings.clone(),
                }),
            }
        }
        for endpoint in &list {
            check(endpoint)?;
        }
        super::egress::check(body, &list)?;
        let inner = |server: &&String| server.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback());
        let mut servers = body.host_config.iter().flat_map(|h| h.dns.iter().flatten());
        if let Some(server) = servers
            .find(inner)
            .filter(|_| list.iter().any(|e| !predefined(&e.row.name)))
        {
            return Err(Error::not_yet(format_args!(
                "--dns {server}, which is the container itself, on a network of one's own"
            )));
        }
        Ok(list)
    }

    /// Writes them down.
    pub(crate) fn add_endpoints(&self, container: &str, endpoints: &[Endpoint]) -> Result<()> {
        for (position, endpoint) in endpoints.iter().enumerate() {
            let settings = serde_json::to_string(&endpoint.settings).step("write down the container's network")?;
            self.state
                .db
                .execute(
                    "INSERT OR REPLACE INTO endpoint (container, network, position, settings) VALUES (?1, ?2, ?3, ?4)",
                    rusqlite::params![container, endpoint.row.id, position as i64, settings],
                )
                .map_err(database)?;
        }
        Ok(())
    }

    /// A container's, in order.
    pub(crate) fn endpoints(&self, container: &str) -> Result<Vec<Endpoint>> {
        let query = "SELECT network.body, endpoint.settings FROM endpoint JOIN network ON network.id = endpoint.network
            WHERE endpoint.container = ?1 ORDER BY endpoint.position";
        let mut statement = self.state.db.prepare_cached(query).map_err(database)?;
        let rows: Vec<(String, String)> = statement
            .query_map([container], |row| Ok((row.get(0)?, row.get(1)?)))
            .and_then(Iterator::collect)
            .map_err(database)?;
        let read = |(row, settings): (String, String)| {
            Ok(Endpoint {
                row: serde_json::from_str(&row).step("read the network")?,
                settings: serde_json::from_str(&settings).step("read the container's network")?,
            })
        };
        rows.into_iter().map(read).collect()
    }

    /// Puts a container on another network: at once if it runs.
    pub fn connect(&self, network: &str, request: &NetworkConnectRequest) -> Result<()> {
        let row = self.network(network)?;
        let record = self.record(&request.container)?;
        let mode = mode(&record.body).to_owned();
        if row.name == HOST && mode != HOST {
            return Err(Error::invalid(
                "cannot connect container to host network - container must be created in host network mode",
            ));
        }
        if mode == HOST || mode.starts_with("container:") {
            let message = "container sharing network namespace with another container or host cannot be connected to any other network";
            return Err(Error::invalid(message));
        }
        if mode == NONE || row.name == NONE {
            return Err(Error::invalid(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode",
            ));
        }
        if mode == super::PASTA || row.name == super::PASTA {
            return Err(super::pasta::needs_root(format_args!(
                "to connect a container to another network"
            )));
        }
        let present = self.endpoints(&record.id)?;
        if present.iter().any(|e| e.row.id == row.id) {
            let message = format!(
                "endpoint with name {} already exists in network {}",
                record.name, row.name
            );
            return Err(Error::new(Kind::Forbidden, message));
        }
        let endpoint = Endpoint {
            row,
            settings: request.endpoint_config.clone().unwrap_or_default(),
        };
        check(&endpoint)?;
        super::egress::check_driver(record.host(), &endpoint.row)?;
        let settings = serde_json::to_string(&endpoint.settings).step("write down the container's network")?;
        self.state
            .db
            .execute(
                "INSERT INTO endpoint (container, network, position, settings) VALUES (?1, ?2,
                    (SELECT COALESCE(MAX(position), -1) + 1 FROM endpoint WHERE container = ?1), ?3)",
                rusqlite::params![record.id, endpoint.row.id, settings],
            )
            .map_err(database)?;
        if self.alive(&record.id)?.is_some() {
            self.connect_live(&record, &endpoint)
                .inspect_err(|_| _ = self.forget_endpoint(&record.id, &endpoint.row.id))?;
        }
        self.tell_event(
            crate::event::Type::NETWORK,
            "connect",
            &endpoint.row.id,
            &[
                ("container", &record.id),
                ("name", &endpoint.row.name),
                ("type", &endpoint.row.driver),
            ],
        );
        Ok(())
    }

    fn connect_live(&self, record: &Record, endpoint: &Endpoint) -> Result<()> {
        let attachment = self.allocate_one(record, endpoint)?;
        let given = attachment.clone();
        let request = Request::Connect {
            attachment: Box::new(attachment),
        };
        self.tell(&record.id, &request)
            .inspect_err(|_| _ = self.release_endpoints(&[given]))?;
        self.rewrite_names(record)
    }

    fn forget_endpoint(&self, container: &str, network: &str) -> Result<()> {
        self.state
            .db
            .execute(
                "DELETE FROM endpoint WHERE container = ?1 AND network = ?2",
                [container, network],
            )
            .map_err(database)
            .map(drop)
    }

    /// Takes a container off a network: at once if it runs.
    pub fn disconnect(&self, network: &str, request: &NetworkDisconnectRequest) -> Result<()> {
        let row = self.network(network)?;
        let record = match self.record(&request.container) {
            // Nothing of it is left.
            Err(e) if e.kind() == Kind::NotFound && request.force == Some(true) => return Ok(()),
            other => other?,
        };
        if row.name == HOST || mode(&record.body) == HOST {
            let message = "container cannot be disconnected from host network or connected to it";
            return Err(Error::new(Kind::Forbidden, message));
        }
        if row.name == super::PASTA {
            return Err(super::pasta::needs_root(format_args!("to disconnect a container")));
        }
        if !self.endpoints(&record.id)?.iter().any(|e| e.row.id == row.id) {
            let message = format!("container {} is not connected to network {}", record.id, row.name);
            return Err(Error::new(Kind::Forbidden, message));
        }
        let live = self.alive(&record.id)?;
        let running = live.is_some();
        if let Some(live) = live {
            let request = Request::Disconnect {
                network: row.id.clone(),
            };
            self.tell(&record.id, &request)?;
            let gone: Vec<_> = live.networks.into_iter().filter(|a| a.network.id == row.id).collect();
            self.release_endpoints(&gone)?;
        }
        self.forget_endpoint(&record.id, &row.id)?;
        if running {
            self.rewrite_names(&record)?;
        }
        self.tell_event(
            crate::event::Type::NETWORK,
            "disconnect",
            &row.id,
            &[("container", &record.id), ("name", &row.name), ("type", &row.driver)],
        );
        Ok(())
    }

    /// The container's file of hosts, after its networks changed while it runs.
    pub(crate) fn rewrite_names(&self, record: &Record) -> Result<()> {
        let live = self.alive(&record.id)?;
        let attachments = live.map(|l| l.networks).unwrap_or_default();
        let lines = self.link_lines(record)?;
        crate::container::files::write_for_networks(&self.roots, record, &attachments, &lines)
    }
}

/// What was asked of one network fits it.
fn check(endpoint: &Endpoint) -> Result<()> {
    let Endpoint { row, settings } = endpoint;
    let user_defined = !predefined(&row.name);
    let some = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    if let Some(ipam) = &settings.ipam_config {
        for address in ipam.link_local_ips.iter().flatten() {
            let parsed = address.parse::<IpAddr>().ok();
            if !parsed.is_some_and(is_link_local) {
                return Err(Error::invalid(format!("invalid link-local IP address: {address}")));
            }
        }
        for (address, ipv6) in [(some(&ipam.ipv4_address), false), (some(&ipam.ipv6_address), true)] {
            let Some(address) = address else { continue };
            if !user_defined {
                return Err(Error::invalid(
                    "invalid config for network bridge: invalid endpoint settings:\nuser specified IP address is supported on user defined networks only",
                ));
            }
            check_static(row, &address, ipv6)?;
        }
    }
    if !user_defined && settings.aliases.as_ref().is_some_and(|a| !a.is_empty()) {
        return Err(Error::invalid(format!(
            "invalid config for network {}: invalid endpoint settings:\nnetwork-scoped aliases are only supported for user-defined networks",
            row.name
        )));
    }
    if let Some(mac) = some(&settings.mac_address) {
        let wrong = |e| Error::invalid(format!("invalid config for network {}: {e}", row.name));
        super::show::parse_mac(&mac).map_err(wrong)?;
    }
    check_options(endpoint)
}

/// Docker's name of an interface inside.
const OPTION_IFNAME: &str = "com.docker.network.endpoint.ifname";
/// Docker's: kernel settings of an interface inside, by commas.
const OPTION_SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

/// Options that mean something are done, or refused by name. Others' are kept like labels, for who wrote them.
fn check_options(endpoint: &Endpoint) -> Result<()> {
    for (option, value) in endpoint.settings.driver_opts.iter().flatten() {
        match option.as_str() {
            OPTION_IFNAME
                if value.is_empty()
                    || value.len() > 15
                    || value.contains(['/', ':'])
                    || value.contains(char::is_whitespace) =>
            {
                return Err(Error::invalid(format!("invalid network interface name: {value:?}")));
            }
            OPTION_IFNAME | OPTION_SYSCTLS => {}
            other if other.starts_with("com.docker.network.") => {
                return Err(Error::not_yet(format_args!(
                    "the option {other} of a container's network"
                )));
            }
            _ => {}
        }
    }
    endpoint.sysctls("IFNAME").map(drop)
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

impl Endpoint {
    fn option(&self, name: &str) -> Option<&str> {
        let options = self.settings.driver_opts.as_ref();
        options.and_then(|o| o.get(name)).map(String::as_str)
    }

    /// The interface's name inside, if the user chose one.
    pub(crate) fn interface(&self) -> Option<String> {
        self.option(OPTION_IFNAME).map(String::from)
    }

    /// The kernel settings that an interface is to have, as paths below `/proc/sys/net`. `IFNAME` stands for its name, so
    /// that no other interface's can be meant.
    pub(crate) fn sysctls(&self, interface: &str) -> Result<Vec<(String, String)>> {
        let one = |text: &str| {
            let bad = || {
                Error::invalid(format!("invalid interface sysctl {text:?}"))
                    .hint("they are net.ipv4.conf.IFNAME.SETTING=VALUE, or of ipv6, mpls, neigh")
            };
            let (name, value) = text.split_once('=').ok_or_else(bad)?;
            match name.split('.').collect::<Vec<_>>()[..] {
                ["net", version, group, "IFNAME", setting]
                    if ["ipv4", "ipv6", "mpls"].contains(&version)
                        && ["conf", "neigh"].contains(&group)
                        && setting.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') =>
                {
                    Ok((format!("{version}/{group}/{interface}/{setting}"), value.to_owned()))
                }
                _ => Err(bad()),
            }
        };
        let text = self.option(OPTION_SYSCTLS).unwrap_or_default();
        text.split(',').filter(|t| !t.is_empty()).map(one).collect()
    }

    /// Addresses that are valid on the link alone, which the user chose. Of Docker's lengths.
    pub(crate) fn link_local(&self) -> Vec<Subnet> {
        let ipam = self.settings.ipam_config.iter();
        let asked = ipam.flat_map(|i| i.link_local_ips.iter().flatten());
        let read = |text: &String| {
            let address: IpAddr = text.parse().ok()?;
            let prefix = if address.is_ipv6() { 64 } else { 16 };
            Some(Subnet { address, prefix })
        };
        asked.filter_map(read).collect()
    }
}

fn check_static(row: &Row, address: &str, ipv6: bool) -> Result<()> {
    let version = if ipv6 { "IPv6" } else { "IPv4" };
    let parsed = address.parse::<IpAddr>().ok().filter(|a| a.is_ipv6() == ipv6);
    let Some(parsed) = parsed else {
        return Err(Error::invalid(format!("invalid {version} address: {address}")));
    };
    if !row.chosen {
        return Err(Error::invalid(format!(
            "invalid config for network {}: invalid endpoint settings:\nuser specified IP address is supported only when connecting to networks with user configured subnets",
            row.name
        )));
    }
    let fits =
        |subnet: Subnet| subnet.contains(parsed) && subnet.offset(parsed).is_some_and(|o| subnet.hosts().contains(&o));
    match row.ipam.iter().any(|p| fits(p.subnet)) {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "invalid config for network {}: invalid endpoint settings:\nno configured subnet contains IP address {address}",
            row.name
        ))),
    }
}

impl Engine {
    /// The names and ids of the networks that a container is to be on.
    pub(crate) fn network_names(&self, record: &Record) -> Result<Vec<String>> {
        let mode = mode(&record.body);
        if !networked(mode) {
            return Ok(vec![mode.to_owned()]);
        }
        Ok(self
            .endpoints(&record.id)?
            .into_iter()
            .flat_map(|e| [e.row.name, e.row.id])
            .collect())
    }
}
