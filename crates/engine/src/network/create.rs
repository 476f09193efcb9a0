//! `network create`.

use std::collections::HashMap;
use std::net::IpAddr;

use bollard_stubs::models::{IpamConfig, NetworkCreateRequest, NetworkCreateResponse};
use errdefs::{ErrnoStep, Error, Kind, Result, Step};
use network::{Subnet, link, netlink, pool};

use super::row::{self, Pool, Row};
use crate::Engine;
use crate::container::names::new_id;
use crate::container::record::now;
use crate::state::database;

/// Options of drivers, each with what it takes.
const OPTIONS: &[(&str, &str)] = &[
    ("bridge", row::OPTION_NAME),
    ("bridge", row::OPTION_ICC),
    ("bridge", row::OPTION_MASQUERADE),
    ("bridge", row::OPTION_BINDING),
    ("bridge", row::OPTION_MTU),
    ("bridge", row::OPTION_HOST_RULES),
    ("bridge", super::egress::EGRESS),
    ("bridge", "com.docker.network.bridge.default_bridge"),
    ("bridge", "com.docker.network.enable_ipv6"),
    ("bridge", "com.docker.network.enable_ipv4"),
    ("macvlan", "parent"),
    ("macvlan", "macvlan_mode"),
    ("macvlan", row::OPTION_MTU),
    ("ipvlan", "parent"),
    ("ipvlan", "ipvlan_mode"),
    ("ipvlan", row::OPTION_MTU),
];

/// Bytes in a name.
const LONGEST_NAME: usize = 255;

impl Engine {
    /// Makes a network. Its bridge comes with the first container.
    pub fn create_network(&self, request: &NetworkCreateRequest) -> Result<NetworkCreateResponse> {
        check(request)?;
        if self.roots.is_users() {
            return Err(super::pasta::needs_root(format_args!("to make a network")));
        }
        let driver = request.driver.as_deref().filter(|d| !d.is_empty()).unwrap_or("bridge");
        let ipv4 = request.enable_ipv4.unwrap_or(true);
        let ipv6 = self.wants_ipv6(request);
        if !ipv4 && !ipv6 {
            return Err(Error::invalid("IPv4 or IPv6 must be enabled"));
        }
        let mut row = Row {
            id: new_id()?,
            name: request.name.clone(),
            created: now(),
            driver: driver.into(),
            ipv6,
            ipv4,
            internal: request.internal.unwrap_or(false),
            attachable: request.attachable.unwrap_or(false),
            ipam: Vec::new(),
            chosen: false,
            options: request.options.clone().unwrap_or_default(),
            labels: request.labels.clone().unwrap_or_default(),
        };
        let asked = request.ipam.as_ref().and_then(|i| i.config.clone()).unwrap_or_default();
        for config in asked
            .iter()
            .filter(|c| c.subnet.as_deref().is_some_and(|s| !s.is_empty()))
        {
            let pool = asked_pool(config).map_err(|e| Error::invalid(format!("invalid network config:\n{e}")));
            row.ipam.push(pool?);
            row.chosen = true;
        }
        if let Some(config) = asked.iter().find(|c| c.subnet.as_deref().is_none_or(str::is_empty)) {
            let gives = config.gateway.is_some() || config.ip_range.is_some();
            if gives {
                return Err(Error::invalid(
                    "every ip-range or gateway must have a corresponding subnet",
                ));
            }
        }
        check_pools(&row)?;
        check_parent(&row)?;
        self.add_network(&mut row)?;
        let told = [("name", row.name.as_str()), ("type", row.driver.as_str())];
        self.tell_event(crate::event::Type::NETWORK, "create", &row.id, &told);
        Ok(NetworkCreateResponse {
            id: row.id,
            warning: String::new(),
        })
    }

    /// IPv6 comes without being asked for where the host has it: ULA and translation need nothing from anybody. Who chooses
    /// subnets gets those.
    fn wants_ipv6(&self, request: &NetworkCreateRequest) -> bool {
        let bridge = request.driver.as_deref().is_none_or(|d| d.is_empty() || d == "bridge");
        let has = || std::path::Path::new("/proc/sys/net/ipv6").exists();
        let pools = request.ipam.iter().flat_map(|i| i.config.iter().flatten());
        let chosen: Vec<&str> = pools
            .filter_map(|c| c.subnet.as_deref().filter(|s| !s.is_empty()))
            .collect();
        let fits = || chosen.is_empty() || chosen.iter().any(|s| s.contains(':'));
        request.enable_ipv6.unwrap_or_else(|| bridge && fits() && has())
    }

    /// Fills in the subnets that nobody chose, and writes the row down, in one transaction: nobody else chooses meanwhile.
    fn add_network(&self, row: &mut Row) -> Result<()> {
        let used = link::used_subnets(&netlink::Socket::route()?)?;
        self.state.transact(|db| {
            let others = self.network_rows("WHERE ?1 = ?1", "")?;
            if others.iter().any(|o| o.name == row.name) {
                return Err(Error::conflict(format!(
                    "network with name {} already exists",
                    row.name
                )));
            }
            if let Some(name) = row.options.get(row::OPTION_NAME)
                && let Some(other) = others.iter().find(|o| o.options.get(row::OPTION_NAME) == Some(name))
            {
                return Err(Error::new(
                    Kind::Forbidden,
                    format!(
                        "conflicts with network {} ({}): networks have same bridge name",
                        other.id, other.name
                    ),
                ));
            }
            fill(row, &others, &used)?;
            let body = serde_json::to_string(&row).step("write down the network")?;
            db.execute(
                "INSERT INTO network (id, name, body) VALUES (?1, ?2, ?3)",
                [&row.id, &row.name, &body],
            )
            .map_err(database)
            .map(drop)
        })
    }

    /// The default network gets its subnet when somebody first needs it: only then it is known what the host has.
    pub(crate) fn settle_default(&self, row: &mut Row) -> Result<()> {
        let used = link::used_subnets(&netlink::Socket::route()?)?;
        self.state.transact(|_| {
            let others = self.network_rows("WHERE ?1 = ?1", "")?;
            if let Some(settled) = others.iter().find(|o| o.id == row.id && !o.ipam.is_empty()) {
                *row = settled.clone();
                return Ok(());
            }
            fill(row, &others, &used)?;
            self.update_network(row)
        })
    }
}

fn check(request: &NetworkCreateRequest) -> Result<()> {
    let name = request.name.as_str();
    // Docker takes any other: compose and others make names of what they have.
    if name.trim().is_empty() {
        return Err(Error::invalid("invalid name: name is empty"));
    }
    if name.len() > LONGEST_NAME || name.contains(char::is_control) || name.contains('/') {
        return Err(Error::invalid(format!(
            "invalid network name: {name:?}: up to {LONGEST_NAME} bytes, without control characters and '/'"
        )));
    }
    if super::predefined(name) || name == "default" || name == "container" || name.starts_with("container:") {
        return Err(Error::new(
            Kind::Forbidden,
            format!("operation is not permitted on predefined {name} network"),
        ));
    }
    let driver = request.driver.as_deref().filter(|d| !d.is_empty()).unwrap_or("bridge");
    if ["host", "null", "none"].contains(&driver) {
        return Err(Error::new(
            Kind::Forbidden,
            format!("only one instance of \"{driver}\" network is allowed"),
        ));
    }
    if driver == "overlay" {
        return Err(Error::new(
            Kind::NotImplemented,
            "the network driver \"overlay\": not supported yet",
        ));
    }
    if !["bridge", "macvlan", "ipvlan"].contains(&driver) {
        return Err(Error::not_found(format!("plugin {driver:?} not found")));
    }
    for (what, asked) in [
        ("--ingress", request.ingress == Some(true)),
        ("--config-only", request.config_only == Some(true)),
        (
            "--config-from",
            request
                .config_from
                .as_ref()
                .is_some_and(|c| c.network.as_deref().is_some_and(|n| !n.is_empty())),
        ),
        (
            "--scope",
            request.scope.as_deref().is_some_and(|s| !s.is_empty() && s != "local"),
        ),
    ] {
        if asked {
            return Err(Error::not_yet(what));
        }
    }
    if let Some(ipam) = &request.ipam {
        if let Some(driver) = ipam.driver.as_deref().filter(|d| !d.is_empty() && *d != "default") {
            return Err(Error::not_yet(format_args!("the address driver {driver:?}")));
        }
        if ipam.options.as_ref().is_some_and(|o| !o.is_empty()) {
            return Err(Error::not_yet("--ipam-opt"));
        }
    }
    check_options(driver, request.options.as_ref())
}

fn check_options(driver: &str, options: Option<&HashMap<String, String>>) -> Result<()> {
    for (name, value) in options.into_iter().flatten() {
        if !OPTIONS.contains(&(driver, name.as_str())) {
            return Err(Error::not_yet(format_args!(
                "the option {name} of the network driver {driver}"
            )));
        }
        let bad = |why: &str| {
            Err(Error::invalid(format!(
                "invalid value {value:?} of the option {name}: {why}"
            )))
        };
        match name.as_str() {
            row::OPTION_MTU if value.parse::<u32>().is_err() => return bad("it is no number"),
            row::OPTION_ICC | row::OPTION_MASQUERADE if !["true", "false"].contains(&value.as_str()) => {
                return bad("true or false is needed");
            }
            row::OPTION_NAME if value.is_empty() || value.len() > 15 || value.contains(['/', ' ', ':', '"']) => {
                return bad("an interface's name has up to 15 characters");
            }
            row::OPTION_HOST_RULES if !["honour", "bypass"].contains(&value.as_str()) => {
                return bad("honour or bypass is needed");
            }
            super::egress::EGRESS if !value.is_empty() => _ = value.parse::<network::egress::Policy>()?,
            row::OPTION_BINDING if value.parse::<IpAddr>().is_err() => return bad("it is no address"),
            "macvlan_mode" if !["bridge", "private", "vepa", "passthru"].contains(&value.as_str()) => {
                return bad("bridge, private, vepa or passthru is needed");
            }
            "ipvlan_mode" if !["l2", "l3", "l3s"].contains(&value.as_str()) => return bad("l2, l3 or l3s is needed"),
            _ => {}
        }
    }
    Ok(())
}

/// One that the user chose.
fn asked_pool(config: &IpamConfig) -> Result<Pool> {
    let text = config.subnet.as_deref().unwrap_or_default();
    let subnet: Subnet = text
        .parse()
        .map_err(|_| Error::invalid(format!("invalid subnet {text}: invalid CIDR block notation")))?;
    if subnet != subnet.network() {
        return Err(Error::invalid(format!(
            "invalid subnet {subnet}: it should be {}",
            subnet.network()
        )));
    }
    let inside = |what: &str, address: &str| -> Result<IpAddr> {
        let parsed: IpAddr = address
            .parse()
            .map_err(|_| Error::invalid(format!("invalid {what} {address}: invalid address")))?;
        match subnet.contains(parsed) {
            true => Ok(parsed),
            false => Err(Error::invalid(format!(
                "invalid {what} {address}: parent subnet {subnet} doesn't contain this address"
            ))),
        }
    };
    let range = config.ip_range.as_deref().filter(|r| !r.is_empty());
    let range = range.map(|r| r.parse::<Subnet>()).transpose()?;
    if let Some(range) = range
        && (!subnet.contains(range.address) || range.prefix < subnet.prefix)
    {
        return Err(Error::invalid(format!(
            "invalid ip-range {range}: it should be {subnet} or a part of it"
        )));
    }
    let gateway = config.gateway.as_deref().filter(|g| !g.is_empty());
    let gateway = gateway.map(|g| inside("gateway", g)).transpose()?;
    let mut reserved = HashMap::new();
    for (name, address) in config.auxiliary_addresses.iter().flatten() {
        reserved.insert(name.clone(), inside("auxiliary address", address)?);
    }
    Ok(Pool {
        subnet,
        range,
        gateway,
        reserved,
    })
}

fn check_pools(row: &Row) -> Result<()> {
    for (index, one) in row.ipam.iter().enumerate() {
        if let Some(other) = row.ipam[..index].iter().find(|o| o.subnet.overlaps(one.subnet)) {
            return Err(Error::invalid(format!(
                "multiple overlapping subnet configuration is not supported: {} and {}",
                other.subnet, one.subnet
            )));
        }
    }
    for ipv6 in [false, true] {
        let count = row.ipam.iter().filter(|p| p.subnet.address.is_ipv6() == ipv6).count();
        if count > 1 {
            return Err(Error::invalid(format!(
                "{} driver doesn't support multiple subnets",
                row.driver
            )));
        }
        let version = if ipv6 { "IPv6" } else { "IPv4" };
        if count > 0 && !(if ipv6 { row.ipv6 } else { row.ipv4 }) {
            return Err(Error::invalid(format!(
                "a subnet of {version} is given, and {version} is not enabled"
            )));
        }
    }
    Ok(())
}

/// The interface below must be there before containers are.
fn check_parent(row: &Row) -> Result<()> {
    if row.driver == "bridge" {
        return Ok(());
    }
    match row.options.get("parent") {
        None => Err(Error::not_yet(format_args!(
            "a {} network without -o parent=INTERFACE",
            row.driver
        ))),
        Some(parent) if link::index(parent).is_none() => Err(Error::invalid(format!(
            "invalid subinterface: the host has no interface {parent}"
        ))),
        Some(_) => Ok(()),
    }
}

/// Subnets for the versions of IP that have none, gateways for those that have none; what overlaps is refused by name.
fn fill(row: &mut Row, others: &[Row], used: &[Subnet]) -> Result<()> {
    let bridged = row.driver == "bridge";
    for pool in &row.ipam {
        let other = others
            .iter()
            .find(|o| o.id != row.id && o.ipam.iter().any(|p| p.subnet.overlaps(pool.subnet)));
        if let Some(other) = other {
            let message = format!(
                "invalid pool request: Pool overlaps with other one on this address space: {} is used by network {}",
                pool.subnet, other.name
            );
            return Err(Error::new(Kind::Forbidden, message));
        }
        if let Some(clash) = used.iter().find(|u| bridged && u.overlaps(pool.subnet)) {
            let message = format!(
                "invalid pool request: {} overlaps with {clash}, which this host has a route to",
                pool.subnet
            );
            return Err(Error::new(Kind::Forbidden, message).hint("see 'ip route'; choose another --subnet"));
        }
    }
    let mut taken: Vec<Subnet> = used.to_vec();
    taken.extend(others.iter().flat_map(|o| o.ipam.iter().map(|p| p.subnet)));
    let has = |row: &Row, ipv6: bool| row.ipam.iter().any(|p| p.subnet.address.is_ipv6() == ipv6);
    let empty = |subnet| Pool {
        subnet,
        range: None,
        gateway: None,
        reserved: HashMap::new(),
    };
    if row.ipv4 && !has(row, false) {
        row.ipam.insert(0, empty(pool::free_v4(&taken)?));
    }
    if row.ipv6 && !has(row, true) {
        let mut random = [0u8; 7];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).errno_step("draw a network")?;
        row.ipam.push(empty(pool::free_v6(random, &taken)));
    }
    for pool in &mut row.ipam {
        if pool.gateway.is_none() {
            let reserved: Vec<IpAddr> = pool.reserved.values().copied().collect();
            let first = pool.range.unwrap_or(pool.subnet);
            let mut addresses = first.hosts().map(|n| first.host(n));
            pool.gateway = addresses.find(|a| !reserved.contains(a) && *a != pool.subnet.address);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(subnet: &str, gateway: Option<&str>, range: Option<&str>) -> IpamConfig {
        IpamConfig {
            subnet: Some(subnet.into()),
            gateway: gateway.map(Into::into),
            ip_range: range.map(Into::into),
            auxiliary_addresses: None,
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (subnet, gateway, range) in [
            ("10.0.0.0", None, None),
            ("10.0.0.1/24", None, None),
            ("10.0.0.0/24", Some("10.0.1.1"), None),
            ("10.0.0.0/24", Some("x"), None),
            ("10.0.0.0/24", None, Some("10.0.1.0/28")),
            ("10.0.0.0/24", None, Some("10.0.0.0/23")),
        ] {
            assert!(
                asked_pool(&config(subnet, gateway, range)).is_err(),
                "{subnet} {gateway:?} {range:?}"
            );
        }
        let pool = asked_pool(&config("10.0.0.0/24", None, Some("10.0.0.128/25"))).unwrap();
        assert_eq!(pool.range.unwrap().to_string(), "10.0.0.128/25");
    }
}
