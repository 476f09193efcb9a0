//! `network ...` and `port`.

use std::collections::HashMap;

use engine::models::{
    EndpointIpamConfig, EndpointSettings, Ipam, IpamConfig, NetworkConnectRequest, NetworkCreateRequest,
    NetworkDisconnectRequest, NetworkInspect, PortBinding,
};
use engine::network::egress::EGRESS;
use engine::network::show::parse_port;
use errdefs::{Error, Result, Step};
use serde_json::{Value, json};

use super::listing;
use crate::cli::flag::Given;
use crate::output::{each, say};
use crate::translate::network::address;
use crate::{output, settings};

fn pairs(list: &[String]) -> Option<HashMap<String, String>> {
    let pair = |l: &String| {
        l.split_once('=')
            .map_or((l.clone(), String::new()), |(k, v)| (k.into(), v.into()))
    };
    (!list.is_empty()).then(|| list.iter().map(pair).collect())
}

/// Changes a network that is in use.
pub fn update(given: &Given) -> Result<u8> {
    let Some(egress) = given.one("egress") else {
        return Err(Error::invalid(
            "you must provide one or more flags when using this command",
        ));
    };
    settings::engine()?.set_network_egress(&given.words[0], egress)?;
    say(&format!("{}\n", given.words[0]));
    Ok(0)
}

/// Makes a network; prints its id.
pub fn create(given: &Given) -> Result<u8> {
    let egress = given.one("egress").map(|policy| format!("{EGRESS}={policy}"));
    let request = NetworkCreateRequest {
        name: given.words[0].clone(),
        driver: given.one("driver").map(String::from),
        internal: Some(given.on("internal")),
        attachable: Some(given.on("attachable")),
        enable_ipv4: given.has("ipv4").then(|| given.on("ipv4")),
        enable_ipv6: given.has("ipv6").then(|| given.on("ipv6")),
        ipam: Some(Ipam {
            driver: given.one("ipam-driver").map(String::from),
            config: Some(pools(given)?),
            options: None,
        }),
        options: pairs(&given.many("opt").into_iter().chain(egress).collect::<Vec<_>>()),
        labels: pairs(&given.many("label")),
        ..Default::default()
    };
    let created = settings::engine()?.create_network(&request)?;
    say(&format!("{}\n", created.id));
    Ok(0)
}

/// Each `--subnet` with the `--gateway`, `--ip-range` and `--aux-address` that are in it.
fn pools(given: &Given) -> Result<Vec<IpamConfig>> {
    let mut pools: Vec<IpamConfig> = given
        .many("subnet")
        .into_iter()
        .map(|subnet| IpamConfig {
            subnet: Some(subnet),
            ..Default::default()
        })
        .collect();
    let containing = |pools: &mut [IpamConfig], text: &str| -> Option<usize> {
        let address: std::net::IpAddr = text.split('/').next()?.parse().ok()?;
        pools.iter().position(|p| {
            let subnet = p
                .subnet
                .as_deref()
                .and_then(|s| s.parse::<engine::network::Subnet>().ok());
            subnet.is_some_and(|s| s.contains(address))
        })
    };
    for gateway in given.many("gateway") {
        match containing(&mut pools, &gateway) {
            Some(index) => pools[index].gateway = Some(gateway),
            None => return Err(Error::invalid(format!("no matching subnet for gateway {gateway}"))),
        }
    }
    for range in given.many("ip-range") {
        match containing(&mut pools, &range) {
            Some(index) => pools[index].ip_range = Some(range),
            None => return Err(Error::invalid(format!("no matching subnet for range {range}"))),
        }
    }
    for (name, value) in pairs(&given.many("aux-address")).into_iter().flatten() {
        match containing(&mut pools, &value) {
            Some(index) => {
                _ = pools[index]
                    .auxiliary_addresses
                    .get_or_insert_default()
                    .insert(name, value)
            }
            None => return Err(Error::invalid(format!("no matching subnet for aux-address {value}"))),
        }
    }
    Ok(pools)
}

/// Lists networks.
pub fn ls(given: &Given) -> Result<u8> {
    let list = settings::engine()?.networks(&given.filters()?)?;
    let whole = given.on("no-trunc");
    let id = |n: &NetworkInspect| {
        let id = n.id.clone().unwrap_or_default();
        if whole { id } else { id.chars().take(12).collect() }
    };
    if given.on("quiet") {
        list.iter().for_each(|n| say(&format!("{}\n", id(n))));
        return Ok(0);
    }
    let row = |n: &NetworkInspect| {
        let labels = n
            .labels
            .iter()
            .flatten()
            .map(|(k, v)| format!("{k}={v}"))
            .collect::<Vec<_>>()
            .join(",");
        json!({
            "ID": id(n), "Name": n.name, "Driver": n.driver, "Scope": n.scope, "Labels": labels,
            "IPv4": n.enable_ipv4.unwrap_or(false).to_string(), "IPv6": n.enable_ipv6.unwrap_or(false).to_string(),
            "Internal": n.internal.unwrap_or(false).to_string(), "CreatedAt": n.created,
        })
    };
    let rows: Vec<Value> = list.iter().map(row).collect();
    let columns = [
        ("NETWORK ID", "ID"),
        ("NAME", "Name"),
        ("DRIVER", "Driver"),
        ("SCOPE", "Scope"),
    ];
    listing::print(given.one("format"), &columns, &rows)?;
    Ok(0)
}

/// Prints everything about networks.
pub fn inspect(given: &Given) -> Result<u8> {
    let engine = settings::engine()?;
    let (mut documents, mut code) = (Vec::new(), 0);
    for name in &given.words {
        match engine.inspect_network(name) {
            Ok(network) => documents.push(serde_json::to_value(network).step("write JSON")?),
            Err(error) => {
                output::complain(&error);
                code = 1;
            }
        }
    }
    listing::print_documents(given.one("format"), &documents)?;
    Ok(code)
}

/// Removes networks.
pub fn rm(given: &Given) -> Result<u8> {
    let engine = settings::engine()?;
    Ok(each(&given.words, |name| {
        match engine.remove_network(name) {
            Err(e) if e.kind() == errdefs::Kind::NotFound && given.on("force") => return Ok(()),
            other => other?,
        }
        say(&format!("{name}\n"));
        Ok(())
    }))
}

/// Removes the networks that no container is on.
pub fn prune(given: &Given) -> Result<u8> {
    if !given.on("force") && !super::prune::sure("all custom networks not used by at least one container")? {
        return Ok(1);
    }
    let filters = given.filters()?;
    let pruned = settings::engine()?.prune_networks(&filters)?;
    let names = pruned.networks_deleted.unwrap_or_default();
    if !names.is_empty() {
        say(&format!("Deleted Networks:\n{}\n\n", names.join("\n")));
    }
    Ok(0)
}

/// Puts a container on a network.
pub fn connect(given: &Given) -> Result<u8> {
    let list = |flag: &str| Some(given.many(flag)).filter(|l| !l.is_empty());
    let ipam = EndpointIpamConfig {
        ipv4_address: given.one("ip").map(|a| address(a, Some(false))).transpose()?,
        ipv6_address: given.one("ip6").map(|a| address(a, Some(true))).transpose()?,
        link_local_ips: list("link-local-ip"),
    };
    let request = NetworkConnectRequest {
        container: given.words[1].clone(),
        endpoint_config: Some(EndpointSettings {
            ipam_config: (ipam != EndpointIpamConfig::default()).then_some(ipam),
            links: list("link"),
            aliases: list("alias"),
            driver_opts: pairs(&given.many("driver-opt")),
            gw_priority: given.number("gw-priority")?,
            ..Default::default()
        }),
    };
    settings::engine()?.connect(&given.words[0], &request)?;
    Ok(0)
}

/// Takes a container off a network.
pub fn disconnect(given: &Given) -> Result<u8> {
    let request = NetworkDisconnectRequest {
        container: given.words[1].clone(),
        force: Some(given.on("force")),
    };
    settings::engine()?.disconnect(&given.words[0], &request)?;
    Ok(0)
}

/// Where a container's ports are on the host.
pub fn port(given: &Given) -> Result<u8> {
    let name = &given.words[0];
    let settings = settings::engine()?.inspect(name)?.network_settings.unwrap_or_default();
    let shown = |b: &PortBinding| {
        let (ip, port) = (
            b.host_ip.clone().unwrap_or_default(),
            b.host_port.clone().unwrap_or_default(),
        );
        if ip.contains(':') {
            format!("[{ip}]:{port}")
        } else {
            format!("{ip}:{port}")
        }
    };
    let mut ports: Vec<_> = settings.ports.unwrap_or_default().into_iter().collect();
    ports.sort_by_key(|(port, _)| {
        parse_port(port)
            .map(|(range, protocol)| (*range.start(), protocol))
            .ok()
    });
    let Some(wanted) = given.words.get(1) else {
        for (port, bindings) in &ports {
            bindings
                .iter()
                .flatten()
                .for_each(|b| say(&format!("{port} -> {}\n", shown(b))));
        }
        return Ok(0);
    };
    let (range, protocol) = parse_port(wanted)?;
    let key = format!("{}/{}", range.start(), protocol.name());
    let found = ports
        .into_iter()
        .find(|(port, _)| *port == key)
        .and_then(|(_, bindings)| bindings);
    match found.filter(|b| !b.is_empty()) {
        Some(bindings) => bindings.iter().for_each(|b| say(&format!("{}\n", shown(b)))),
        None => return Err(Error::not_found(format!("no public port '{key}' published for {name}"))),
    }
    Ok(0)
}
