//! Interfaces, addresses and routes (rtnetlink(7)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use errdefs::{ErrnoStep, Result};

use crate::netlink::{Batch, Socket, attribute, flag};

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;

/// `IFLA_*`.
mod ifla {
    pub const ADDRESS: u16 = 1;
    pub const NAME: u16 = 3;
    pub const MTU: u16 = 4;
    pub const LINK: u16 = 5;
    pub const MASTER: u16 = 10;
    pub const LINKINFO: u16 = 18;
    pub const AF_SPEC: u16 = 26;
    pub const NET_NS_FD: u16 = 28;
    pub const INFO_KIND: u16 = 1;
    pub const INFO_DATA: u16 = 2;
    pub const PEER: u16 = 1;
    pub const INET6_ADDR_GEN_MODE: u16 = 8;
}

const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IFF_UP: u32 = 1;
const ADDR_GEN_MODE_NONE: u8 = 1;
const IFA_F_NODAD: u32 = 2;

/// An address of the hardware.
pub type Mac = [u8; 6];

/// An address and how much of it is the network's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subnet {
    /// The network's, or one in it.
    pub address: IpAddr,
    /// Bits.
    pub prefix: u8,
}

fn link_header(index: u32, up: bool) -> [u8; 16] {
    let mut header = [0; 16];
    header[0] = AF_UNSPEC;
    header[4..8].copy_from_slice(&(index as i32).to_ne_bytes());
    if up {
        header[8..12].copy_from_slice(&IFF_UP.to_ne_bytes());
        header[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
    }
    header
}

/// An interface's number by its name, in our network namespace.
pub fn index(name: &str) -> Option<u32> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    );
    rustix::net::netdevice::name_to_index(socket.ok()?, name).ok()
}

/// An interface by its name.
fn set(batch: &mut Batch, name: &str, up: bool) {
    let text = name.to_owned();
    batch.message(NEW_LINK, 0, &link_header(0, up), move || {
        format!("set up the interface {text}")
    });
    batch.put_text(ifla::NAME, name);
}

/// An interface works. Link-local addresses are for networks that have IPv6: they have to be put off before, and cannot
/// be while the interface is made.
pub fn set_up(batch: &mut Batch, name: &str, link_local: bool) {
    if !link_local {
        set(batch, name, false);
        put_off_link_local(batch);
    }
    set(batch, name, true);
}

fn put_off_link_local(batch: &mut Batch) {
    batch.nest(ifla::AF_SPEC, |b| {
        b.nest(AF_INET6.into(), |b| {
            b.put(ifla::INET6_ADDR_GEN_MODE, &[ADDR_GEN_MODE_NONE])
        });
    });
}

/// A port of a bridge: a packet may leave where it came from, which is the way of a container to its own published port; to
/// other isolated ports nothing goes.
fn set_port(batch: &mut Batch, name: &str, isolated: bool) {
    const SLAVE_KIND: u16 = 4;
    const SLAVE_DATA: u16 = 5;
    const HAIRPIN: u16 = 4;
    const ISOLATED: u16 = 33;
    set(batch, name, false);
    put_off_link_local(batch);
    batch.nest(ifla::LINKINFO, |b| {
        b.put_text(SLAVE_KIND, "bridge");
        b.nest(SLAVE_DATA, |b| {
            b.put(HAIRPIN, &[1]);
            b.put(ISOLATED, &[isolated.into()]);
        });
    });
    set(batch, name, true);
}

/// A bridge, to be set up.
pub fn add_bridge(batch: &mut Batch, name: &str, mac: Mac, mtu: Option<u32>) {
    let text = name.to_owned();
    let flags = flag::CREATE | flag::EXCLUSIVE;
    batch.message(NEW_LINK, flags, &link_header(0, true), move || {
        format!("make the bridge {text}")
    });
    batch.put_text(ifla::NAME, name);
    batch.put(ifla::ADDRESS, &mac);
    if let Some(mtu) = mtu {
        batch.put_u32(ifla::MTU, mtu);
    }
    batch.nest(ifla::LINKINFO, |b| b.put_text(ifla::INFO_KIND, "bridge"));
}

/// What both ends of a pair are.
pub struct Veth<'a> {
    /// Outside.
    pub outer: &'a str,
    /// The bridge's number.
    pub bridge: u32,
    /// From other isolated ones at the bridge.
    pub isolated: bool,
    /// Inside.
    pub inner: &'a str,
    /// Of the inner one.
    pub mac: Mac,
    /// Of both.
    pub mtu: Option<u32>,
    /// Where the inner one is born.
    pub namespace: BorrowedFd<'a>,
}

/// A pair of interfaces, one end at the bridge and up, the other in another network namespace. Moving an interface makes
/// the kernel wait for all processors, so that both are born where they belong.
pub fn add_veth(batch: &mut Batch, veth: &Veth<'_>) {
    let text = format!("make the interface {} of the container", veth.inner);
    let flags = flag::CREATE | flag::EXCLUSIVE;
    batch.message(NEW_LINK, flags, &link_header(0, false), move || text.clone());
    batch.put_text(ifla::NAME, veth.outer);
    batch.put_u32(ifla::MASTER, veth.bridge);
    if let Some(mtu) = veth.mtu {
        batch.put_u32(ifla::MTU, mtu);
    }
    batch.nest(ifla::LINKINFO, |b| {
        b.put_text(ifla::INFO_KIND, "veth");
        b.nest(ifla::INFO_DATA, |b| {
            b.nest_after(ifla::PEER, &link_header(0, false), |b| {
                b.put_text(ifla::NAME, veth.inner);
                b.put(ifla::ADDRESS, &veth.mac);
                b.put_u32(ifla::NET_NS_FD, veth.namespace.as_raw_fd() as u32);
                if let Some(mtu) = veth.mtu {
                    b.put_u32(ifla::MTU, mtu);
                }
            });
        });
    });
    set_port(batch, veth.outer, veth.isolated);
}

/// An interface on another one, without a bridge: `macvlan` or `ipvlan`, born in another network namespace.
pub struct Lower<'a> {
    /// `macvlan` or `ipvlan`.
    pub kind: &'a str,
    /// The one below.
    pub parent: u32,
    /// Attribute and value of its mode.
    pub mode: (u16, Vec<u8>),
    /// Inside.
    pub inner: &'a str,
    /// `ipvlan` has that of the one below.
    pub mac: Option<Mac>,
    /// Where it is born.
    pub namespace: BorrowedFd<'a>,
}

/// See [`Lower`].
pub fn add_lower(batch: &mut Batch, lower: &Lower<'_>) {
    let text = format!("make the {} interface {} of the container", lower.kind, lower.inner);
    let flags = flag::CREATE | flag::EXCLUSIVE;
    batch.message(NEW_LINK, flags, &link_header(0, false), move || text.clone());
    batch.put_text(ifla::NAME, lower.inner);
    batch.put_u32(ifla::LINK, lower.parent);
    batch.put_u32(ifla::NET_NS_FD, lower.namespace.as_raw_fd() as u32);
    if let Some(mac) = lower.mac {
        batch.put(ifla::ADDRESS, &mac);
    }
    batch.nest(ifla::LINKINFO, |b| {
        b.put_text(ifla::INFO_KIND, lower.kind);
        b.nest(ifla::INFO_DATA, |b| b.put(lower.mode.0, &lower.mode.1));
    });
}

/// An interface goes; a pair goes with either end.
pub fn delete(batch: &mut Batch, name: &str) {
    let text = name.to_owned();
    batch.message(DELETE_LINK, 0, &link_header(0, false), move || {
        format!("remove the interface {text}")
    });
    batch.put_text(ifla::NAME, name);
}

fn octets(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(v4) => (AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (AF_INET6, v6.octets().to_vec()),
    }
}

/// Gives an interface an address, without waiting for duplicates of it to be looked for.
pub fn add_address(batch: &mut Batch, index: u32, subnet: Subnet) {
    const LOCAL: u16 = 2;
    const ADDRESS: u16 = 1;
    const FLAGS: u16 = 8;
    let (family, bytes) = octets(subnet.address);
    let mut header = [family, subnet.prefix, 0, 0, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let step = move || format!("give the interface the address {}/{}", subnet.address, subnet.prefix);
    batch.message(NEW_ADDRESS, flag::CREATE | flag::REPLACE, &header, step);
    batch.put(LOCAL, &bytes);
    batch.put(ADDRESS, &bytes);
    if family == AF_INET6 {
        batch.put_u32(FLAGS, IFA_F_NODAD);
    }
}

/// The way to everywhere; without a gateway everything is on the link.
pub fn add_default_route(batch: &mut Batch, index: u32, family: IpAddr, gateway: Option<IpAddr>) {
    const OIF: u16 = 4;
    const GATEWAY: u16 = 5;
    const MAIN: u8 = 254;
    const BOOT: u8 = 3;
    const UNICAST: u8 = 1;
    const SCOPE_LINK: u8 = 253;
    let (family, _) = octets(family);
    let scope = if gateway.is_none() && family == AF_INET {
        SCOPE_LINK
    } else {
        0
    };
    let header = [family, 0, 0, 0, MAIN, BOOT, scope, UNICAST, 0, 0, 0, 0];
    let step = move || {
        format!(
            "set the default route{}",
            gateway.map(|g| format!(" by {g}")).unwrap_or_default()
        )
    };
    batch.message(NEW_ROUTE, flag::CREATE | flag::REPLACE, &header, step);
    if let Some(gateway) = gateway {
        batch.put(GATEWAY, &octets(gateway).1);
    }
    batch.put_u32(OIF, index);
}

/// The networks that this host has addresses or routes in; default routes left out.
pub fn used_subnets(socket: &Socket) -> Result<Vec<Subnet>> {
    const DESTINATION: u16 = 1;
    const ADDRESS: u16 = 1;
    let mut found = Vec::new();
    let mut routes = Batch::default();
    routes.message(GET_ROUTE, 0, &[0; 12], || "list this host's routes".into());
    for body in socket.dump(routes)? {
        // Of `struct rtmsg`: family, bits of the destination, and its type (1: not of the host's own addresses).
        if body.len() >= 12 && body[1] > 0 && body[7] == 1 {
            found.extend(
                attribute(&body[12..], DESTINATION)
                    .and_then(address)
                    .map(|address| Subnet {
                        address,
                        prefix: body[1],
                    }),
            );
        }
    }
    let mut addresses = Batch::default();
    addresses.message(GET_ADDRESS, 0, &[0; 8], || "list this host's addresses".into());
    for body in socket.dump(addresses)? {
        if body.len() >= 8 {
            found.extend(attribute(&body[8..], ADDRESS).and_then(address).map(|address| Subnet {
                address,
                prefix: body[1],
            }));
        }
    }
    found.retain(|s| !matches!(s.address, IpAddr::V6(v6) if v6.is_unicast_link_local() || v6.is_multicast()));
    Ok(found)
}

/// From an attribute.
pub fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| Ipv6Addr::from(v6).into())
}

/// The names of all interfaces here.
pub fn names(socket: &Socket) -> Result<Vec<String>> {
    let mut links = Batch::default();
    links.message(GET_LINK, 0, &link_header(0, false), || {
        "list this host's interfaces".into()
    });
    let name = |body: Vec<u8>| {
        let name = attribute(body.get(16..)?, ifla::NAME)?;
        Some(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned())
    };
    Ok(socket.dump(links)?.into_iter().filter_map(name).collect())
}

/// Whether news of this type are of an interface that went.
pub fn is_removal(kind: u16) -> bool {
    kind == DELETE_LINK
}

/// Whether somebody is connected to a bridge.
pub fn has_ports(socket: &Socket, bridge: u32) -> Result<bool> {
    let mut links = Batch::default();
    let list = || "list the bridge's interfaces".into();
    links.message(GET_LINK, 0, &link_header(0, false), list);
    links.put_u32(ifla::MASTER, bridge);
    // The kernel leaves the others out, or does not know how.
    let at_it =
        |body: &Vec<u8>| attribute(body.get(16..).unwrap_or_default(), ifla::MASTER) == Some(&bridge.to_ne_bytes());
    Ok(socket.dump(links)?.iter().any(at_it))
}

/// Whether a kernel setting of our network namespace is `0`; not so if the kernel does not know it.
pub fn is_off(path: &str) -> bool {
    std::fs::read_to_string(format!("/proc/sys/net/{path}")).is_ok_and(|v| v.trim() == "0")
}

/// A kernel setting of our network namespace.
pub fn set_kernel(path: &str, value: &str) -> Result<()> {
    let file = format!("/proc/sys/net/{path}");
    if std::fs::read_to_string(&file).is_ok_and(|old| old.trim() == value) {
        return Ok(());
    }
    let fd = rustix::fs::open(
        &file,
        rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    );
    let step = || format!("set net.{}={value}", path.replace('/', "."));
    let fd = fd.errno_step(step())?;
    rustix::io::write(&fd, value.as_bytes()).map(drop).errno_step(step())
}
