//! `--network`, `--publish` and what goes with them, to Docker's body.

use std::collections::HashMap;
use std::net::IpAddr;

use engine::models::{EndpointIpamConfig, EndpointSettings, NetworkingConfig, PortBinding, PortMap};
use engine::network::show::parse_port;
use errdefs::{Error, Result};

use crate::cli::flag::Given;

/// What the flags say of networks.
pub struct Networks {
    /// The first one.
    pub mode: String,
    /// What each is to be like.
    pub config: Option<NetworkingConfig>,
}

/// `NAME`, or `name=NAME,alias=...,ip=...`.
struct Asked {
    name: String,
    settings: EndpointSettings,
}

/// All of `--network`, with `--ip`, `--network-alias` and the like for the first.
pub fn networks(given: &Given) -> Result<Networks> {
    let words = [given.many("network"), given.many("net")].concat();
    let mut asked = words.iter().map(|word| read(word)).collect::<Result<Vec<_>>>()?;
    if asked.is_empty() {
        asked.push(Asked {
            name: "default".into(),
            settings: EndpointSettings::default(),
        });
    }
    for (index, one) in asked.iter().enumerate() {
        if asked[..index].iter().any(|other| other.name == one.name) {
            return Err(Error::invalid(format!(
                "network {:?} is specified multiple times",
                one.name
            )));
        }
        let alone = ["host", "none"].contains(&one.name.as_str()) || one.name.starts_with("container:");
        if alone && asked.len() > 1 {
            return Err(Error::invalid(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
            ));
        }
    }
    apply(given, &mut asked[0])?;
    let mode = asked[0].name.clone();
    let plain = asked.len() == 1 && asked[0].settings == EndpointSettings::default();
    let endpoints: HashMap<_, _> = asked.into_iter().map(|a| (a.name, a.settings)).collect();
    Ok(Networks {
        mode,
        config: (!plain).then_some(NetworkingConfig {
            endpoints_config: Some(endpoints),
        }),
    })
}

fn read(text: &str) -> Result<Asked> {
    let mut asked = Asked {
        name: String::new(),
        settings: EndpointSettings::default(),
    };
    if !text.contains('=') {
        asked.name = text.to_owned();
        return Ok(asked);
    }
    for field in text.split(',') {
        let bad = || {
            Error::flag(format!(
                "invalid argument {text:?} for \"--network\" flag: invalid field {field}"
            ))
        };
        let (key, value) = field.split_once('=').ok_or_else(bad)?;
        let settings = &mut asked.settings;
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => asked.name = value.to_owned(),
            "alias" => settings.aliases.get_or_insert_default().push(value.to_owned()),
            "ip" => ipam(settings).ipv4_address = Some(address(value, Some(false))?),
            "ip6" => ipam(settings).ipv6_address = Some(address(value, Some(true))?),
            "mac-address" => settings.mac_address = Some(value.to_owned()),
            "link-local-ip" => ipam(settings)
                .link_local_ips
                .get_or_insert_default()
                .push(address(value, None)?),
            "driver-opt" => {
                let (name, value) = value.split_once('=').ok_or_else(bad)?;
                settings
                    .driver_opts
                    .get_or_insert_default()
                    .insert(name.to_owned(), value.to_owned());
            }
            "gw-priority" => settings.gw_priority = Some(value.parse().map_err(|_| bad())?),
            other => return Err(Error::invalid(format!("invalid field key {other}"))),
        }
    }
    match asked.name.is_empty() {
        true => Err(Error::invalid("network name/id is not specified")),
        false => Ok(asked),
    }
}

fn ipam(settings: &mut EndpointSettings) -> &mut EndpointIpamConfig {
    settings.ipam_config.get_or_insert_default()
}

/// An address of a version of IP, or of any.
pub fn address(text: &str, ipv6: Option<bool>) -> Result<String> {
    let parsed = text
        .parse::<IpAddr>()
        .ok()
        .filter(|a| ipv6.is_none_or(|v| a.is_ipv6() == v));
    match parsed {
        Some(address) => Ok(address.to_string()),
        None if ipv6 == Some(true) => Err(Error::invalid(format!("invalid IPv6 address: {text}"))),
        None => Err(Error::invalid(format!("invalid IPv4 address: {text}"))),
    }
}

fn apply(given: &Given, first: &mut Asked) -> Result<()> {
    let settings = &mut first.settings;
    let aliases = [given.many("network-alias"), given.many("net-alias")].concat();
    let twice = |flag: &str, own: &str| {
        Err(Error::invalid(format!(
            "conflicting options: cannot specify both {flag} and per-network {own}"
        )))
    };
    if !aliases.is_empty() {
        if settings.aliases.is_some() {
            return twice("--network-alias", "alias");
        }
        settings.aliases = Some(aliases);
    }
    let own = settings.ipam_config.clone().unwrap_or_default();
    if let Some(text) = given.one("ip") {
        if own.ipv4_address.is_some() {
            return twice("--ip", "IPv4 address");
        }
        ipam(settings).ipv4_address = Some(address(text, Some(false))?);
    }
    if let Some(text) = given.one("ip6") {
        if own.ipv6_address.is_some() {
            return twice("--ip6", "IPv6 address");
        }
        ipam(settings).ipv6_address = Some(address(text, Some(true))?);
    }
    if let Some(mac) = given.one("mac-address") {
        if settings.mac_address.is_some() {
            return twice("--mac-address", "MAC address");
        }
        engine::network::show::parse_mac(mac)?;
        settings.mac_address = Some(mac.to_owned());
    }
    let links = given.many("link");
    if !links.is_empty() {
        settings.links = Some(links);
    }
    Ok(())
}

/// `-p`: where the container's ports are to be found on the host, and that they are exposed.
pub fn publish(list: &[String]) -> Result<(PortMap, Vec<String>)> {
    let (mut map, mut exposed) = (PortMap::new(), Vec::new());
    for text in list {
        for (port, binding) in published(text)? {
            let bindings = map.entry(port.clone()).or_insert(None).get_or_insert_default();
            bindings.push(binding);
            exposed.push(port);
        }
    }
    exposed.sort();
    exposed.dedup();
    Ok((map, exposed))
}

/// One: `[[ADDRESS:]HOST_PORT:]PORT[/PROTOCOL]`, each port a range perhaps.
fn published(text: &str) -> Result<Vec<(String, PortBinding)>> {
    if text.contains('=') {
        return long(text);
    }
    let (rest, inner) = match text.rsplit_once(':') {
        Some((rest, inner)) => (Some(rest), inner),
        None => (None, text),
    };
    let (address, host) = match rest {
        None => ("", ""),
        // `[::1]:80:80`, `1.2.3.4:80:80`, `1.2.3.4::80`, `80:80`.
        Some(rest) => match rest.rsplit_once(':') {
            Some((address, host)) if !rest.ends_with(']') => (address, host),
            _ if rest.ends_with(']') => (rest, ""),
            _ => ("", rest),
        },
    };
    let address = address.trim_start_matches('[').trim_end_matches(']');
    if !address.is_empty() && address.parse::<IpAddr>().is_err() {
        return Err(Error::invalid(format!("invalid IP address: {address}")));
    }
    if inner.is_empty() || inner.starts_with('/') {
        return Err(Error::invalid(format!("no port specified: {text}<empty>")));
    }
    expand(address, host, inner)
}

/// `published=8080,target=80,protocol=tcp,mode=host`.
fn long(text: &str) -> Result<Vec<(String, PortBinding)>> {
    let (mut target, mut host, mut protocol) = ("", "", "tcp");
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("target", value)) => target = value,
            Some(("published", value)) => host = value,
            Some(("protocol", value)) => protocol = value,
            Some(("mode", "host" | "ingress")) => {}
            _ => return Err(Error::invalid(format!("invalid field: {field}"))),
        }
    }
    if target.is_empty() {
        return Err(Error::invalid("missing mandatory field \"target\""));
    }
    expand("", host, &format!("{target}/{protocol}"))
}

fn expand(address: &str, host: &str, inner: &str) -> Result<Vec<(String, PortBinding)>> {
    let what = |kind: &str, shown: &str| Error::invalid(format!("invalid {kind}: {shown}"));
    let (inner_range, protocol) = parse_port(inner).map_err(|e| match e.to_string().starts_with("invalid proto") {
        true => e,
        false => what("containerPort", inner.split('/').next().unwrap_or_default()),
    })?;
    let host_range = match host {
        "" => None,
        text => {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let number = |n: &str| n.parse::<u16>().map_err(|_| what("hostPort", text));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(what("hostPort", text));
            }
            Some(first..=last)
        }
    };
    let count = inner_range.len();
    if let Some(range) = &host_range
        && range.len() != count
        && count != 1
    {
        let ports = inner.split('/').next().unwrap_or_default();
        return Err(Error::invalid(format!(
            "invalid ranges specified for container and host Ports: {ports} and {host}"
        )));
    }
    let binding = |position: usize| PortBinding {
        host_ip: Some(address.to_owned()),
        host_port: Some(match &host_range {
            None => String::new(),
            // Any one of them.
            Some(range) if range.len() != count => host.to_owned(),
            Some(range) => (range.start() + position as u16).to_string(),
        }),
    };
    let one = |(position, port): (usize, u16)| (format!("{port}/{}", protocol.name()), binding(position));
    Ok(inner_range.enumerate().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let list = published(text).unwrap();
        let one = |(port, b): &(String, PortBinding)| {
            format!("{}|{}|{port}", b.host_ip.clone().unwrap(), b.host_port.clone().unwrap())
        };
        list.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_form_of_publish_is_read() {
        for (text, expected) in [
            ("80", "||80/tcp"),
            ("8080:80", "|8080|80/tcp"),
            ("8080:80/udp", "|8080|80/udp"),
            ("127.0.0.1:8080:80", "127.0.0.1|8080|80/tcp"),
            ("127.0.0.1::80/sctp", "127.0.0.1||80/sctp"),
            ("[::1]:8080:80", "::1|8080|80/tcp"),
            ("[::1]::80", "::1||80/tcp"),
            ("8000-8001:80-81", "|8000|80/tcp |8001|81/tcp"),
            ("8000-8010:80", "|8000-8010|80/tcp"),
            ("80-81", "||80/tcp ||81/tcp"),
            ("target=80,published=8080,protocol=udp", "|8080|80/udp"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_port_is_refused_in_dockers_words() {
        for (text, words) in [
            (
                "8000-8001:80-82",
                "invalid ranges specified for container and host Ports: 80-82 and 8000-8001",
            ),
            ("x:80", "invalid hostPort: x"),
            ("80:x", "invalid containerPort: x"),
            ("70000:80", "invalid hostPort: 70000"),
            ("80:80/icmp", "invalid proto: icmp"),
            ("300.1.1.1:80:80", "invalid IP address: 300.1.1.1"),
            ("80:", "no port specified"),
        ] {
            let error = published(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
