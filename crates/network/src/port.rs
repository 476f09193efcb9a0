//! Published ports: what of the host leads to a container, and sockets that keep the host's own programs off them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use errdefs::{Error, Kind, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use serde::{Deserialize, Serialize};

use crate::nft::{Element, Value};

/// A protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// As Docker writes it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    /// From Docker's word.
    pub fn parse(text: &str) -> Option<Self> {
        [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
            .into_iter()
            .find(|p| p.name().eq_ignore_ascii_case(text))
    }

    /// In packets.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

/// Ports of the host, and the equally many of a container that they lead to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Of both.
    pub protocol: Protocol,
    /// Of the host; unspecified: all of that version of IP.
    pub address: IpAddr,
    /// The first one.
    pub port: u16,
    /// The container's first one.
    pub inner: u16,
    /// How many.
    pub count: u16,
}

impl Published {
    /// The map of the firewall that it belongs to, and its elements there.
    pub fn elements(&self, to: &[IpAddr]) -> Option<(&'static str, Vec<Element>)> {
        let to = *to.iter().find(|t| t.is_ipv6() == self.address.is_ipv6())?;
        let element = |n: u16| {
            let mut key = vec![Value::Protocol(self.protocol.number()), Value::Port(self.port + n)];
            if !self.address.is_unspecified() {
                key.insert(0, Value::Address(self.address));
            }
            Element {
                key,
                value: vec![Value::Address(to), Value::Port(self.inner + n)],
            }
        };
        Some((self.map(), (0..self.count).map(element).collect()))
    }

    fn map(&self) -> &'static str {
        match (self.address.is_ipv6(), self.address.is_unspecified()) {
            (false, true) => "ports4",
            (false, false) => "ports4_at",
            (true, true) => "ports6",
            (true, false) => "ports6_at",
        }
    }

    /// Binds all of its ports, so that nobody else on this host gets them as long as the sockets are there: the packets
    /// themselves never come to them.
    pub fn reserve(&self) -> Result<Vec<OwnedFd>> {
        self.bind_all(false)
    }

    /// Whether somebody else could bind them who takes ports whose last connections are still about to end (`SO_REUSEADDR`).
    pub fn look(&self) -> Result<()> {
        self.bind_all(self.protocol == Protocol::Tcp).map(drop)
    }

    fn bind_all(&self, reuse: bool) -> Result<Vec<OwnedFd>> {
        let ports = self.port..=self.port.saturating_add(self.count - 1);
        let bound = ports.map(|port| bind(self.protocol, self.address, port, reuse));
        // A kernel without SCTP has nobody to take its ports.
        bound.filter_map(Result::transpose).collect()
    }
}

/// One port; `None` for a protocol that this kernel does not know. `reuse`: connections that are about to end do not count.
pub fn bind(protocol: Protocol, address: IpAddr, port: u16, reuse: bool) -> Result<Option<OwnedFd>> {
    use rustix::io::Errno;
    let family = if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, None),
        Protocol::Udp => (SocketType::DGRAM, None),
        Protocol::Sctp => (SocketType::STREAM, Some(rustix::net::ipproto::SCTP)),
    };
    let socket = match rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, number) {
        Ok(socket) => socket,
        Err(Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT) => return Ok(None),
        Err(e) => return Err(refused(protocol, address, port, e)),
    };
    if reuse {
        sockopt::set_socket_reuseaddr(&socket, true).map_err(|e| refused(protocol, address, port, e))?;
    }
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true).map_err(|e| refused(protocol, address, port, e))?;
    }
    match rustix::net::bind(&socket, &SocketAddr::new(address, port)) {
        Ok(()) => Ok(Some(socket)),
        Err(e) => Err(refused(protocol, address, port, e)),
    }
}

fn refused(protocol: Protocol, address: IpAddr, port: u16, errno: rustix::io::Errno) -> Error {
    use rustix::io::Errno;
    let shown = format!(
        "failed to bind host port {}/{}",
        SocketAddr::new(address, port),
        protocol.name()
    );
    let error = Error::caused(shown, std::io::Error::from(errno));
    match errno {
        Errno::ADDRINUSE => {
            let error = error.kind_is(Kind::Conflict);
            match holder(protocol, port) {
                Some(holder) => error.hint(format!("port {port}/{} is used by {holder}", protocol.name())),
                None => error,
            }
        }
        Errno::ADDRNOTAVAIL => error
            .kind_is(Kind::Invalid)
            .hint(format!("{address} is no address of this host")),
        Errno::ACCESS => error.hint("ports below 1024 need root, or see net.ipv4.ip_unprivileged_port_start"),
        _ => error,
    }
}

/// Which process of this host has a port, as far as `/proc` tells.
pub fn holder(protocol: Protocol, port: u16) -> Option<String> {
    let inode = ["", "6"].iter().find_map(|version| {
        let table = std::fs::read_to_string(format!("/proc/net/{}{version}", protocol.name())).ok()?;
        let of_port = |line: &&str| {
            let local = line
                .split_whitespace()
                .nth(1)
                .and_then(|local| local.rsplit(':').next());
            local.is_some_and(|hex| u16::from_str_radix(hex, 16) == Ok(port))
        };
        let line = table.lines().skip(1).find(of_port)?;
        line.split_whitespace().nth(9).map(String::from)
    })?;
    let socket = format!("socket:[{inode}]");
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let has = |process: &std::path::Path| {
        let fds = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        fds.into_iter()
            .any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == socket.as_str()))
    };
    let numbered = processes.filter(|p| p.file_name().to_str().is_some_and(|n| n.parse::<u32>().is_ok()));
    numbered.map(|p| p.path()).find(|path| has(path)).map(|path| {
        let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        let pid = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        format!("{} (process {pid})", name.trim())
    })
}

/// All addresses of a version of IP.
pub fn everywhere(ipv6: bool) -> IpAddr {
    match ipv6 {
        false => Ipv4Addr::UNSPECIFIED.into(),
        true => Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_as_many_elements_of_one_map() {
        let published = Published {
            protocol: Protocol::Tcp,
            address: everywhere(false),
            port: 8000,
            inner: 80,
            count: 3,
        };
        let to: Vec<IpAddr> = vec!["172.17.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let (map, elements) = published.elements(&to).unwrap();
        assert_eq!((map, elements.len()), ("ports4", 3));
        assert_eq!(elements[2].to_string(), "tcp . 8002 : 172.17.0.2 . 82");
        assert!(published.elements(&to[1..]).is_none());
    }

    #[test]
    fn a_taken_port_is_refused_with_who_has_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = bind(Protocol::Tcp, "127.0.0.1".parse().unwrap(), port, false).unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);
        assert!(error.to_string().ends_with("address already in use"), "{error}");
        let own = std::process::id().to_string();
        assert!(error.find_hint().unwrap().contains(&own), "{:?}", error.find_hint());
    }
}
