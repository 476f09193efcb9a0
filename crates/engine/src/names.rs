//! The name service of this host, as monitors see it: what they tell it, and how it is started.
//!
//! ```text
//! monitor                                          name service (`berth names host`, one per host)
//!    | makes two sockets in the container's network namespace: 127.0.0.11, port 53 to programs inside
//!    | Member (+ those sockets) --------------------->| answers what comes out of them
//!    |<--------------------------------- Answer::Done |
//!    | the end of the connection: it is gone -------->|
//! ```
//!
//! What the service knows is what monitors have told it over connections that are open: nothing of it is written down.
//! Monitors keep the sockets, too. When the service is killed each of them notices, the first one starts it again, and
//! questions that came meanwhile are still in the sockets. It ends when nobody is connected.

use std::collections::HashSet;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use errdefs::{Error, Kind, Result, Step};
use network::egress::Policy;
use network::{Attachment, Subnet, pool};
use serde::{Deserialize, Serialize};

use crate::Roots;
use crate::container::record::read_json;
use crate::container::{Live, Record, lock, spawn};
use crate::link::{self, Answer};
use crate::network::predefined;

/// What it is called among our processes (see [`spawn::arguments`]).
pub const PROCESS: &str = "names";
/// There is one.
pub const ONE: &str = "host";
/// So often it is tried to reach it, and after such a pause.
const ATTEMPTS: u32 = 50;
const SOON: Duration = Duration::from_millis(2);
/// It answers within a moment; this is for one that never does.
const PATIENCE: Duration = Duration::from_secs(10);
/// The host's resolvers (resolv.conf(5)).
pub const HOST_RESOLVERS: &str = "/etc/resolv.conf";

/// A container that asks for names, and is found by its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// 64 hexadecimal digits; empty: it does not run any more.
    pub id: String,
    /// The networks that it is on: the first ones are asked first.
    pub places: Vec<Place>,
    /// Names that lead to another name on the same networks, for it alone.
    pub links: Vec<(String, String)>,
    /// Who is asked for names outside (`--dns`); empty: whom the host asks.
    pub servers: Vec<IpAddr>,
    /// The firewall's table of its networks.
    pub table: String,
}

/// A container's place on a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// The network's id.
    pub network: String,
    /// Its name.
    pub called: String,
    /// Nothing leaves it.
    pub internal: bool,
    /// How others find the container there; on Docker's default network nobody does.
    pub names: Vec<String>,
    /// Its addresses, with the subnets that they are of.
    pub addresses: Vec<Subnet>,
    /// What it may reach from there outside; `None`: everything.
    pub guard: Option<Guard>,
}

/// What a container may reach from a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    /// Outside.
    pub policy: Policy,
    /// The network's: neighbours are behind it.
    pub bridge: String,
    /// All that it may send under, addresses of the link among them.
    pub addresses: Vec<IpAddr>,
}

impl Member {
    /// Of a container on its networks.
    pub fn new(record: &Record, networks: &[Attachment]) -> Self {
        let place = |a: &Attachment| Place {
            network: a.network.id.clone(),
            called: a.network.name.clone(),
            internal: a.network.internal,
            names: if predefined(&a.network.name) {
                Vec::new()
            } else {
                a.names.clone()
            },
            addresses: a.addresses.clone(),
            guard: guard(a),
        };
        let link = |link: &String| {
            let (target, alias) = link.split_once(':').unwrap_or((link, link));
            (alias.to_owned(), target.trim_start_matches('/').to_owned())
        };
        let links = networks.iter().flat_map(|a| &a.links).map(link).collect();
        let servers = record.host().dns.iter().flatten().filter_map(|s| s.parse().ok());
        Member {
            id: record.id.clone(),
            places: networks.iter().map(place).collect(),
            links,
            servers: servers.collect(),
            table: networks.first().map_or(String::new(), |a| a.network.table.clone()),
        }
    }

    /// It can reach nothing outside: neither do its questions.
    pub fn is_isolated(&self) -> bool {
        self.places.iter().all(|p| p.internal)
    }
}

fn guard(attachment: &Attachment) -> Option<Guard> {
    let subnets = attachment.addresses.iter().chain(&attachment.link_local);
    // The one that the kernel makes (RFC 4291, appendix A): this host hears it, too.
    let made = pool::link_local_of(attachment.mac);
    Some(Guard {
        policy: attachment.egress.clone()?,
        bridge: attachment.network.bridge()?.to_owned(),
        addresses: subnets.map(|s| s.address).chain([made.into()]).collect(),
    })
}

/// Whether a container on these networks asks the service: on networks of one's own always, on the default one where it has
/// an egress policy, or where the host's resolvers can only be reached from the host itself.
pub fn serves(record: &Record, networks: &[Attachment]) -> bool {
    let own = networks.iter().any(|a| !predefined(&a.network.name));
    let told = record.host().dns.iter().flatten().next().is_some();
    let guarded = networks.iter().any(|a| a.egress.is_some());
    own || guarded || (!networks.is_empty() && !told && host_resolvers().iter().all(IpAddr::is_loopback))
}

/// The addresses of the host's resolvers.
pub fn host_resolvers() -> Vec<IpAddr> {
    resolvers(&host_resolv_conf())
}

/// The host's file.
pub fn host_resolv_conf() -> String {
    std::fs::read_to_string(HOST_RESOLVERS).unwrap_or_default()
}

/// The resolvers in such a file.
fn resolvers(text: &str) -> Vec<IpAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let word = words.next().filter(|w| *w == "nameserver").and(words.next())?;
        // Behind a percent sign stands the interface of an address that holds on one alone.
        word.split('%').next()?.parse().ok()
    };
    text.lines().filter_map(address).collect()
}

/// The containers that run and are called something: their monitors come to a service that begins, if one before it was
/// killed.
pub fn expected(roots: &Roots) -> HashSet<String> {
    let named = |id: &String| {
        let live = read_json::<Live>(&roots.live_state(id)).ok().flatten();
        live.is_some_and(|l| l.pid != 0 && l.networks.iter().any(|a| !predefined(&a.network.name)))
            && lock::held(roots, id).unwrap_or(false)
    };
    let entries = std::fs::read_dir(&roots.run).into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    ids.filter(|name| name.len() == 64).filter(named).collect()
}

/// Tells the service of a container, over a new connection; starts it if it is not there.
pub fn join(roots: &Roots, member: &Member, sockets: &[BorrowedFd<'_>]) -> Result<UnixStream> {
    let mut attempts = 1;
    loop {
        let service = connect(roots)?;
        match tell(&service, member, sockets) {
            Ok(()) => return Ok(service),
            // One that ends or was killed just now still took the connection.
            Err(error) if error.kind() == Kind::Unavailable && attempts < ATTEMPTS => {
                attempts += 1;
                std::thread::sleep(SOON);
            }
            Err(error) => return Err(error),
        }
    }
}

/// A connection to the service, which is started if it is not there.
fn connect(roots: &Roots) -> Result<UnixStream> {
    let path = roots.names_socket();
    let made = link::connect(&path).or_else(|_| {
        let _lock = hold(roots)?;
        // Somebody else may have been faster.
        link::connect(&path).or_else(|_| {
            start(roots)?;
            link::connect(&path)
        })
    });
    let socket = made.map_err(|e| Error::caused("start the name service", e))?;
    socket
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| socket.set_write_timeout(Some(PATIENCE)))
        .step("talk to the name service")?;
    Ok(socket)
}

/// Tells it of a container; returns when it knows. Kind `Unavailable` when it went away.
pub fn tell(service: &UnixStream, member: &Member, sockets: &[BorrowedFd<'_>]) -> Result<()> {
    link::send(service.as_fd(), member, sockets).map_err(|e| e.kind_is(Kind::Unavailable))?;
    match link::answer(service)? {
        (Answer::Done, _) => Ok(()),
        _ => Err(Error::new(
            Kind::System,
            "the name service gave an answer that fits no question",
        )),
    }
}

/// Held by whoever starts the service, and by a service that ends.
pub fn hold(roots: &Roots) -> Result<File> {
    crate::network::host::lock_file(&roots.names_lock())
}

/// It is born listening: whoever connects at once waits for it there. The caller holds the lock.
fn start(roots: &Roots) -> Result<()> {
    let path = roots.names_socket();
    // Of one that was killed.
    let _ = std::fs::remove_file(&path);
    let listener = link::listen(&path)?;
    spawn::start(roots, PROCESS, ONE, listener.as_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_read_as_the_c_library_does() {
        let text = "# nameserver 9.9.9.9\nsearch a b\nnameserver 127.0.0.53\n nameserver fe80::1%eth0\nnameserver x\nnameserver";
        let expected: Vec<IpAddr> = ["127.0.0.53", "fe80::1"].iter().map(|a| a.parse().unwrap()).collect();
        assert_eq!(resolvers(text), expected);
    }
}
