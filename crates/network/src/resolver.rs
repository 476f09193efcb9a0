//! Sockets in a container's network namespace where its programs ask for names: 127.0.0.11, port 53, as in Docker.
//!
//! The sockets themselves have ports that the kernel chose, so that a container may have a name server of its own on port
//! 53. Two rules in its namespace write the one port for the other on the way there and back. They look at nothing but the
//! packet: no connection is tracked for them.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{BorrowedFd, OwnedFd};

use errdefs::{ErrnoStep, Result, Step};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, sockopt};

use crate::attach::within;
use crate::netlink::Socket;
use crate::nft::{Action, Chain, Field, Hook, Rule, Table, Term, Transaction};
use crate::port::Protocol;

/// Where programs look for it.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const PORT: u16 = 53;
const TABLE: &str = "berth-names";
/// Connections that nobody has taken yet.
const BACKLOG: i32 = 64;

/// Makes them: for datagrams, and for connections. They keep the namespace as long as they are open.
pub fn open(namespace: BorrowedFd<'_>) -> Result<[OwnedFd; 2]> {
    within(namespace, || {
        let questions = bound(SocketType::DGRAM)?;
        let door = bound(SocketType::STREAM)?;
        listen(&door, BACKLOG).errno_step("listen for questions")?;
        let (questions, door) = (UdpSocket::from(questions), TcpListener::from(door));
        let step = "look at a socket of the name service's";
        let ports = [
            (Protocol::Udp, questions.local_addr().step(step)?.port()),
            (Protocol::Tcp, door.local_addr().step(step)?.port()),
        ];
        let mut transaction = Transaction::default();
        transaction.make(&table(&ports));
        transaction.commit(&Socket::netfilter()?)?;
        Ok([questions.into(), door.into()])
    })?
}

fn bound(kind: SocketType) -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let step = "make a socket for the name service";
    let socket = rustix::net::socket_with(AddressFamily::INET, kind, flags, None).errno_step(step)?;
    // The namespace's loopback interface may not be up yet.
    sockopt::set_ip_freebind(&socket, true).errno_step(step)?;
    bind(&socket, &SocketAddrV4::new(ADDRESS, 0)).errno_step(step)?;
    Ok(socket)
}

fn table(ports: &[(Protocol, u16)]) -> Table {
    let rule = |address: Field, port: Field, protocol: Protocol, from: u16, to: u16| {
        let terms = vec![
            Term::AddressIs(address, IpAddr::V4(ADDRESS)),
            Term::ProtocolIs(protocol.number()),
            Term::FieldIs(port, from),
        ];
        Rule::new(terms, Action::SetPort { port, protocol, to })
    };
    let there = |(protocol, own): &(Protocol, u16)| rule(Field::Target4, Field::Port, *protocol, PORT, *own);
    let back = |(protocol, own): &(Protocol, u16)| rule(Field::Source4, Field::SourcePort, *protocol, *own, PORT);
    Table {
        name: TABLE.into(),
        sets: Vec::new(),
        chains: vec![Chain {
            name: "ask",
            kind: "filter",
            hook: Hook::Output,
            priority: -300,
            rules: ports.iter().map(there).chain(ports.iter().map(back)).collect(),
        }],
        branches: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_there_and_back() {
        let text = table(&[(Protocol::Udp, 4000), (Protocol::Tcp, 4001)]).to_string();
        for rule in [
            "ip daddr 127.0.0.11 meta l4proto udp th dport 53 udp dport set 4000",
            "ip daddr 127.0.0.11 meta l4proto tcp th dport 53 tcp dport set 4001",
            "ip saddr 127.0.0.11 meta l4proto udp th sport 4000 udp sport set 53",
            "ip saddr 127.0.0.11 meta l4proto tcp th sport 4001 tcp sport set 53",
        ] {
            assert!(text.contains(rule), "{rule}: {text}");
        }
    }
}
