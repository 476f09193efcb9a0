//! The container's own `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`.

use std::fmt::Write as _;
use std::net::IpAddr;

use errdefs::{Result, Step};
use network::Attachment;

use super::Record;
use crate::network::endpoint::networked;
use crate::{Roots, names};

/// The first twelve digits of an id, as Docker shows it.
pub fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// Writes the three files.
pub fn write(roots: &Roots, record: &Record) -> Result<()> {
    let dir = roots.container(&record.id);
    let put = |name: &str, text: String| std::fs::write(dir.join(name), text).step_with(|| format!("write {name}"));
    put(
        "hostname",
        format!("{}\n", record.body.hostname.as_deref().unwrap_or_default()),
    )?;
    if networked(record.network()) {
        // Written when its addresses are known.
        put("hosts", String::new())?;
        return put("resolv.conf", String::new());
    }
    put("hosts", hosts(record, &[]))?;
    put("resolv.conf", resolv_conf(record, &[]))
}

/// What depends on the networks that a container is on: written when it starts, and when they change.
/// `links`: the lines about those that it is linked to.
pub fn write_for_networks(roots: &Roots, record: &Record, networks: &[Attachment], links: &str) -> Result<()> {
    let dir = roots.container(&record.id);
    let put = |name: &str, text: String| std::fs::write(dir.join(name), text).step_with(|| format!("write {name}"));
    put("hosts", hosts(record, networks) + links)?;
    put("resolv.conf", resolv_conf(record, networks))
}

/// Before Linux 5.12 no mount is idmapped: the files themselves belong to the container's root.
pub fn settle(roots: &Roots, record: &Record) -> Result<()> {
    let Some(ids) = record.ids.filter(|_| !sys::mount::knows_attributes()) else {
        return Ok(());
    };
    let dir = roots.container(&record.id);
    ["resolv.conf", "hostname", "hosts"].iter().try_for_each(|name| {
        std::os::unix::fs::chown(dir.join(name), Some(ids.first), Some(ids.first))
            .step_with(|| format!("give {name} away"))
    })
}

const LOCAL: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
                     ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

fn hosts(record: &Record, networks: &[Attachment]) -> String {
    let mut text = match record.network() {
        "host" => std::fs::read_to_string("/etc/hosts").unwrap_or_else(|_| LOCAL.into()),
        _ => LOCAL.to_owned(),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    for extra in record.host().extra_hosts.iter().flatten() {
        if let Some((name, address)) = extra.split_once([':', '=']) {
            let gateway = gateway(networks).map(|g| g.to_string());
            let address = match (address, &gateway) {
                ("host-gateway", Some(gateway)) => gateway,
                ("host-gateway", None) => "127.0.0.1",
                (address, _) => address.trim_matches(['[', ']']),
            };
            let _ = writeln!(text, "{address}\t{name}");
        }
    }
    if let Some(gateway) = gateway(networks) {
        let _ = writeln!(text, "{gateway}\thost.docker.internal host.containers.internal");
    }
    let own = record.body.hostname.as_deref().unwrap_or_default();
    let domain = record.body.domainname.as_deref().filter(|d| !d.is_empty());
    let names = domain.map_or(own.to_owned(), |domain| format!("{own}.{domain} {own}"));
    for address in networks.iter().flat_map(|n| &n.addresses) {
        let _ = writeln!(text, "{}\t{names}", address.address);
    }
    if network::pasta::of(networks).is_some() {
        // Its addresses are the host's, whatever those are.
        let _ = writeln!(text, "127.0.1.1\t{names}");
    }
    text
}

/// This host, as the container reaches it.
fn gateway(networks: &[Attachment]) -> Option<IpAddr> {
    let of = |a: &Attachment| a.network.bridge().and(a.network.gateways.first()).map(|g| g.address);
    let first = networks
        .iter()
        .find(|a| a.default_route.0 || a.default_route.1)
        .and_then(of);
    first.or_else(|| networks.iter().find_map(of))
}

/// The host's, unless told otherwise. On the host's network its loopback resolvers work; on others those are left out, and
/// where nobody else is left the name service asks them.
fn resolv_conf(record: &Record, networks: &[Attachment]) -> String {
    let host = record.host();
    let asked = |list: &Option<Vec<String>>| list.clone().filter(|l| !l.is_empty());
    let (dns, search, options) = (asked(&host.dns), asked(&host.dns_search), asked(&host.dns_options));
    let serves = names::serves(record, networks);
    let theirs = names::host_resolv_conf();
    if dns.is_none() && search.is_none() && options.is_none() && networks.is_empty() {
        return theirs;
    }
    let keep = |word: &'static str| {
        theirs
            .lines()
            .map(str::trim)
            .filter(move |l| l.split_whitespace().next() == Some(word))
            .map(String::from)
    };
    let reachable = |line: &String| {
        let address = line.split_whitespace().nth(1).and_then(|a| a.parse::<IpAddr>().ok());
        networks.is_empty() || address.is_none_or(|a| !a.is_loopback())
    };
    let mut lines: Vec<String> = match (serves, dns) {
        (true, _) => vec![format!("nameserver {}", network::resolver::ADDRESS)],
        (false, Some(own)) => own.iter().map(|d| format!("nameserver {d}")).collect(),
        (false, None) => keep("nameserver").filter(reachable).collect(),
    };
    match search {
        Some(own) if own == ["."] => {}
        Some(own) => lines.push(format!("search {}", own.join(" "))),
        None => lines.extend(keep("search").chain(keep("domain"))),
    }
    let mut words: Vec<String> = match options {
        Some(own) => own,
        None => keep("options")
            .flat_map(|l| l.split_whitespace().skip(1).map(String::from).collect::<Vec<_>>())
            .collect(),
    };
    if serves && !words.iter().any(|w| w.starts_with("ndots:")) {
        // Names of containers have no dots.
        words.push("ndots:0".into());
    }
    if !words.is_empty() {
        lines.push(format!("options {}", words.join(" ")));
    }
    lines.join("\n") + "\n"
}
