//! The container's own `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use errdefs::{Result, Step};
use network::Attachment;

use super::Record;
use crate::Roots;
use crate::network::endpoint::networked;

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
    put("resolv.conf", resolv_conf(record))
}

/// What depends on the networks that a container is on: written when it starts, and when they change.
/// `others`: the lines about the containers beside it.
pub fn write_for_networks(roots: &Roots, record: &Record, networks: &[Attachment], others: &str) -> Result<()> {
    let dir = roots.container(&record.id);
    let put = |name: &str, text: String| std::fs::write(dir.join(name), text).step_with(|| format!("write {name}"));
    put("hosts", format!("{}{BESIDE}\n{others}", hosts(record, networks)))?;
    put("resolv.conf", resolv_conf(record))
}

/// What follows in a file of hosts is about other containers, and changes when they come and go.
const BESIDE: &str = "# containers of the same networks";

/// A longer file of hosts is left alone.
const HOSTS_LIMIT: u64 = 4 << 20;

/// Writes the lines about other containers anew; what the container's own programs wrote above stays.
pub fn rewrite_neighbours(roots: &Roots, id: &str, others: &str) -> Result<()> {
    let path = roots.container(id).join("hosts");
    let step = || format!("write {}", path.display());
    // The container's own programs may write to it, too.
    if std::fs::metadata(&path).is_ok_and(|m| m.len() > HOSTS_LIMIT) {
        return Ok(());
    }
    let old = match std::fs::read_to_string(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.step_with(step)?,
    };
    // Without the mark it is not written yet: its own start does that.
    let Some((own, _)) = old.split_once(BESIDE) else {
        return Ok(());
    };
    let new = format!("{own}{BESIDE}\n{others}");
    if new == old {
        return Ok(());
    }
    // The file is mounted in the container: it stays the same one, and is never seen empty.
    let file = std::fs::OpenOptions::new().write(true).open(&path).step_with(step)?;
    std::os::unix::fs::FileExt::write_all_at(&file, new.as_bytes(), 0).step_with(step)?;
    file.set_len(new.len() as u64).step_with(step)
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

/// The host's, unless told otherwise; on the host's network its loopback resolvers work, too.
fn resolv_conf(record: &Record) -> String {
    let host = record.host();
    let asked = |list: &Option<Vec<String>>| list.clone().filter(|l| !l.is_empty());
    let (dns, search, options) = (asked(&host.dns), asked(&host.dns_search), asked(&host.dns_options));
    let theirs = std::fs::read_to_string(Path::new("/etc/resolv.conf")).unwrap_or_default();
    if dns.is_none() && search.is_none() && options.is_none() {
        return theirs;
    }
    let keep = |word: &'static str, replaced: bool| {
        theirs
            .lines()
            .filter(move |l| !replaced && l.split_whitespace().next() == Some(word))
            .map(String::from)
    };
    let mut lines: Vec<String> = keep("nameserver", dns.is_some()).collect();
    lines.extend(dns.into_iter().flatten().map(|d| format!("nameserver {d}")));
    lines.extend(keep("search", search.is_some()));
    lines.extend(
        search
            .map(|s| format!("search {}", s.join(" ")))
            .filter(|s| s != "search ."),
    );
    lines.extend(keep("options", options.is_some()));
    lines.extend(options.map(|o| format!("options {}", o.join(" "))));
    lines.join("\n") + "\n"
}
