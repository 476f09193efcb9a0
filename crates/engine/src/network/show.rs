//! Ports and networks as Docker's documents have them, in both directions.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use bollard_stubs::models::{
    EndpointSettings, HostConfig, NetworkSettings, PortBinding, PortMap, PortSummary, PortSummaryTypeEnum,
};
use errdefs::{Error, Result};
use network::port::Protocol;
use network::{Attachment, Mac};

use super::endpoint::{Endpoint, mode, networked};
use crate::container::{Live, Record};
use crate::{Engine, container::status::Status};

/// A port that is to be published.
#[derive(Clone, Debug, PartialEq)]
pub struct WantedPort {
    /// Of both sides.
    pub protocol: Protocol,
    /// Of the host; `None`: all of them.
    pub address: Option<IpAddr>,
    /// Any one of these of the host.
    pub hosts: std::ops::RangeInclusive<u16>,
    /// The container's.
    pub inner: u16,
    /// So many of both, one after the other.
    pub count: u16,
}

/// `80/tcp`, `80`, `90-92/udp`.
pub fn parse_port(text: &str) -> Result<(std::ops::RangeInclusive<u16>, Protocol)> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let bad = || Error::invalid(format!("invalid port specification: {ports:?}"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |n: &str| n.parse::<u16>().map_err(|_| bad());
    let (first, last) = (number(first)?, number(last)?);
    let protocol = Protocol::parse(protocol).ok_or_else(|| Error::invalid(format!("invalid proto: {protocol}")))?;
    match first > 0 && first <= last {
        true => Ok((first..=last, protocol)),
        false => Err(bad()),
    }
}

/// What a container's request says of ports, those that follow each other put together.
pub fn wanted_ports(record: &Record) -> Result<Vec<WantedPort>> {
    let host = record.host();
    let mut wanted = bound_ports(host)?;
    if host.publish_all_ports == Some(true) {
        for exposed in record.body.exposed_ports.iter().flatten() {
            let (inner, protocol) = parse_port(exposed)?;
            for inner in inner {
                if !wanted.iter().any(|w| w.inner == inner && w.protocol == protocol) {
                    wanted.push(wanted_port(protocol, inner, 0, &PortBinding::default())?);
                }
            }
        }
    }
    Ok(put_together(wanted))
}

/// The ports that are named: they can be read without a container.
pub fn bound_ports(host: &HostConfig) -> Result<Vec<WantedPort>> {
    let mut wanted = Vec::new();
    for (inner, bindings) in host.port_bindings.iter().flatten() {
        let (inner, protocol) = parse_port(inner)?;
        for binding in bindings.iter().flatten() {
            for (position, inner) in inner.clone().enumerate() {
                wanted.push(wanted_port(protocol, inner, position as u16, binding)?);
            }
        }
    }
    Ok(wanted)
}

fn wanted_port(protocol: Protocol, inner: u16, position: u16, binding: &PortBinding) -> Result<WantedPort> {
    let address = binding
        .host_ip
        .as_deref()
        .map(|a| a.trim_matches(['[', ']']))
        .filter(|a| !a.is_empty());
    let bad = |what: &str| Error::invalid(format!("invalid port specification: {what:?}"));
    let no_address = |a: &str| Error::invalid(format!("invalid host address: {a}"));
    let parsed = address
        .map(|a| a.parse::<IpAddr>().map_err(|_| no_address(a)))
        .transpose()?;
    let hosts = match binding.host_port.as_deref().unwrap_or_default() {
        "" | "0" => ephemeral(),
        text => match text.split_once('-') {
            Some((first, last)) => {
                let (first, last): (u16, u16) = (
                    first.parse().map_err(|_| bad(text))?,
                    last.parse().map_err(|_| bad(text))?,
                );
                first..=last
            }
            None => {
                let first: u16 = text.parse().map_err(|_| bad(text))?;
                let port = first.checked_add(position).ok_or_else(|| bad(text))?;
                port..=port
            }
        },
    };
    Ok(WantedPort {
        protocol,
        // Docker's clients write 0.0.0.0 only when the user did.
        address: parsed,
        hosts,
        inner,
        count: 1,
    })
}

/// The range that the kernel takes its own from (ip(7)).
fn ephemeral() -> std::ops::RangeInclusive<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|n| n.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(first), Some(last)) if first < last => first..=last,
        _ => 32_768..=60_999,
    }
}

/// Ten thousand ports in a row are one range.
fn put_together(mut list: Vec<WantedPort>) -> Vec<WantedPort> {
    let fixed = |w: &WantedPort| w.hosts.start() == w.hosts.end();
    list.sort_by_key(|w| (w.protocol, w.address, *w.hosts.start(), w.inner));
    list.dedup();
    let mut out: Vec<WantedPort> = Vec::new();
    for wanted in list {
        if let Some(last) = out.last_mut()
            && fixed(last)
            && fixed(&wanted)
            && (last.protocol, last.address) == (wanted.protocol, wanted.address)
            && last.hosts.start().checked_add(last.count) == Some(*wanted.hosts.start())
            && last.inner.checked_add(last.count) == Some(wanted.inner)
        {
            last.count += 1;
            continue;
        }
        out.push(wanted);
    }
    out
}

/// `02:42:ac:11:00:02`.
pub fn mac(mac: &Mac) -> String {
    mac.map(|b| format!("{b:02x}")).join(":")
}

/// From the same; one that several interfaces could have is none.
pub fn parse_mac(text: &str) -> Result<Mac> {
    let bad = || Error::invalid(format!("invalid MAC address {text}"));
    let parts: Vec<u8> = text
        .split([':', '-'])
        .map(|p| u8::from_str_radix(p, 16).map_err(|_| bad()))
        .collect::<Result<_>>()?;
    let mac: Mac = parts.try_into().map_err(|_| bad())?;
    match mac[0] & 1 {
        0 => Ok(mac),
        _ => Err(bad()),
    }
}

/// A container's `NetworkSettings`.
pub(crate) fn settings(engine: &Engine, record: &Record, status: &Status) -> Result<NetworkSettings> {
    let live = match status {
        Status::Alive(live) if live.pid != 0 => Some(live),
        _ => None,
    };
    let name = mode(&record.body);
    let networks = match networked(name) {
        false if name.starts_with("container:") => HashMap::new(),
        false => HashMap::from([(name.to_owned(), plain(engine, name)?)]),
        true => {
            let endpoints = engine.endpoints(&record.id)?;
            endpoints
                .iter()
                .map(|e| (e.row.name.clone(), endpoint(e, record, live)))
                .collect()
        }
    };
    Ok(NetworkSettings {
        sandbox_id: Some(live.map_or(String::new(), |_| record.id.clone())),
        sandbox_key: Some(live.map_or(String::new(), |live| format!("/proc/{}/ns/net", live.pid))),
        ports: Some(port_map(record, live)),
        networks: Some(networks),
    })
}

/// On `host` or `none` there is nothing to tell but that.
fn plain(engine: &Engine, name: &str) -> Result<EndpointSettings> {
    Ok(EndpointSettings {
        network_id: Some(engine.network(name)?.id),
        ..unset()
    })
}

fn unset() -> EndpointSettings {
    let empty = || Some(String::new());
    EndpointSettings {
        mac_address: empty(),
        network_id: empty(),
        endpoint_id: empty(),
        gateway: empty(),
        ip_address: empty(),
        ip_prefix_len: Some(0),
        ipv6_gateway: empty(),
        global_ipv6_address: empty(),
        global_ipv6_prefix_len: Some(0),
        gw_priority: Some(0),
        ..Default::default()
    }
}

fn endpoint(endpoint: &Endpoint, record: &Record, live: Option<&Live>) -> EndpointSettings {
    let asked = &endpoint.settings;
    let user_defined = !super::predefined(&endpoint.row.name);
    let mut shown = EndpointSettings {
        ipam_config: asked.ipam_config.clone(),
        links: asked.links.clone(),
        aliases: asked.aliases.clone(),
        driver_opts: asked.driver_opts.clone(),
        gw_priority: Some(asked.gw_priority.unwrap_or(0)),
        network_id: Some(endpoint.row.id.clone()),
        mac_address: Some(asked.mac_address.clone().unwrap_or_default()),
        ..unset()
    };
    if user_defined {
        shown.dns_names = Some(super::names::of(record, asked));
    }
    if let Some(attachment) = live.and_then(|l| l.networks.iter().find(|a| a.network.id == endpoint.row.id)) {
        fill(&mut shown, attachment);
    }
    shown
}

fn fill(shown: &mut EndpointSettings, attachment: &Attachment) {
    shown.mac_address = Some(mac(&attachment.mac));
    shown.endpoint_id = Some(attachment.endpoint.clone());
    let gateway = |ipv6: bool| {
        let found = attachment.network.gateways.iter().find(|g| g.address.is_ipv6() == ipv6);
        Some(found.map_or(String::new(), |g| g.address.to_string()))
    };
    if let Some(v4) = attachment.address(false) {
        shown.ip_address = Some(v4.address.to_string());
        shown.ip_prefix_len = Some(v4.prefix.into());
        shown.gateway = gateway(false);
    }
    if let Some(v6) = attachment.address(true) {
        shown.global_ipv6_address = Some(v6.address.to_string());
        shown.global_ipv6_prefix_len = Some(v6.prefix.into());
        shown.ipv6_gateway = gateway(true);
    }
}

/// Exposed ports, and where those are published that are.
fn port_map(record: &Record, live: Option<&Live>) -> PortMap {
    let mut map: BTreeMap<(u16, &str), Option<Vec<PortBinding>>> = BTreeMap::new();
    let Some(live) = live else { return PortMap::new() };
    for exposed in record.body.exposed_ports.iter().flatten() {
        for (ports, protocol) in parse_port(exposed).iter() {
            ports
                .clone()
                .for_each(|port| _ = map.entry((port, protocol.name())).or_insert(None));
        }
    }
    for published in live.networks.iter().flat_map(|a| &a.published) {
        for n in 0..published.count {
            let binding = PortBinding {
                host_ip: Some(published.address.to_string()),
                host_port: Some((published.port + n).to_string()),
            };
            let entry = map
                .entry((published.inner + n, published.protocol.name()))
                .or_insert(None);
            entry.get_or_insert_default().push(binding);
        }
    }
    map.into_iter()
        .map(|((port, protocol), bindings)| (format!("{port}/{protocol}"), bindings))
        .collect()
}

/// The same for lists.
pub(crate) fn port_summaries(record: &Record, live: Option<&Live>) -> Vec<PortSummary> {
    let mut list = Vec::new();
    for (port, bindings) in port_map(record, live) {
        let Ok((ports, protocol)) = parse_port(&port) else {
            continue;
        };
        let summary = |binding: Option<&PortBinding>| PortSummary {
            ip: binding.and_then(|b| b.host_ip.clone()),
            private_port: *ports.start(),
            public_port: binding.and_then(|b| b.host_port.as_ref()?.parse().ok()),
            typ: Some(match protocol {
                Protocol::Tcp => PortSummaryTypeEnum::TCP,
                Protocol::Udp => PortSummaryTypeEnum::UDP,
                Protocol::Sctp => PortSummaryTypeEnum::SCTP,
            }),
        };
        match &bindings {
            Some(bindings) if !bindings.is_empty() => list.extend(bindings.iter().map(|b| summary(Some(b)))),
            _ => list.push(summary(None)),
        }
    }
    list.sort_by(|a, b| (a.private_port, &a.ip, a.public_port).cmp(&(b.private_port, &b.ip, b.public_port)));
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_in_a_row_are_one_range() {
        let port = |host: u16, inner: u16| WantedPort {
            protocol: Protocol::Tcp,
            address: None,
            hosts: host..=host,
            inner,
            count: 1,
        };
        let list: Vec<_> = (0..10_000)
            .rev()
            .map(|n| port(20_000 + n, 1000 + n))
            .chain([port(80, 80)])
            .collect();
        let together = put_together(list);
        assert_eq!(together.len(), 2);
        assert_eq!(
            (together[1].count, together[1].inner, *together[1].hosts.start()),
            (10_000, 1000, 20_000)
        );
    }

    #[test]
    fn ports_and_hardware_addresses_are_read_as_docker_writes_them() {
        assert_eq!(parse_port("80").unwrap(), (80..=80, Protocol::Tcp));
        assert_eq!(parse_port("90-92/udp").unwrap(), (90..=92, Protocol::Udp));
        for bad in ["", "0", "x", "80/icmp", "92-90", "70000"] {
            assert!(parse_port(bad).is_err(), "{bad}");
        }
        assert_eq!(mac(&parse_mac("02:42:AC:11:00:02").unwrap()), "02:42:ac:11:00:02");
        for bad in ["", "02:42", "01:00:00:00:00:01", "zz:00:00:00:00:01"] {
            assert!(parse_mac(bad).is_err(), "{bad}");
        }
    }
}
