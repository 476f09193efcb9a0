//! Packets that a policy kept back, as the kernel tells of them (nfnetlink_log).

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use errdefs::Result;
use rustix::net::RecvFlags;

use crate::netlink::{Batch, Received, Socket, attribute, messages};

/// The group that the policies of a table report to: each engine's has its own.
pub fn group(table: &str) -> u16 {
    let hash = table
        .bytes()
        .fold(0x811c_9dc5u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    // Small numbers are others'.
    1024 + (hash % 60_000) as u16
}

const SUBSYSTEM: u16 = 4 << 8;
const PACKET: u16 = SUBSYSTEM;
const CONFIGURE: u16 = SUBSYSTEM | 1;
/// So much of each packet: its headers.
const COPIED: u32 = 96;
const BUFFER: usize = 64 * 1024;
const HEADER: usize = 4;

/// A packet that went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Denied {
    /// The container's address.
    pub from: IpAddr,
    /// Where it was to go.
    pub to: IpAddr,
    /// Its protocol's number.
    pub protocol: u8,
    /// Of TCP, UDP and SCTP.
    pub port: Option<u16>,
}

/// Reports as they come.
pub struct Reports {
    socket: Socket,
}

impl Reports {
    /// Begins to listen. Fails where somebody else does, and on kernels without the module nfnetlink_log.
    pub fn open(table: &str) -> Result<Self> {
        const COMMAND: u16 = 1;
        const MODE: u16 = 2;
        const THRESHOLD: u16 = 5;
        const BIND: u8 = 1;
        const COPY_PACKET: u8 = 2;
        let socket = Socket::netfilter()?;
        let [high, low] = group(table).to_be_bytes();
        let mut batch = Batch::default();
        batch.message(CONFIGURE, 0, &[0, 0, high, low], || "listen for denied packets".into());
        batch.put(COMMAND, &[BIND]);
        socket.run(batch)?;
        let mut mode = COPIED.to_be_bytes().to_vec();
        mode.extend_from_slice(&[COPY_PACKET, 0]);
        let mut batch = Batch::default();
        batch.message(CONFIGURE, 0, &[0, 0, high, low], || "listen for denied packets".into());
        batch.put(MODE, &mode);
        // Each at once.
        batch.put_be32(THRESHOLD, 1);
        socket.run(batch)?;
        Ok(Reports { socket })
    }

    /// Those that are there; without waiting.
    pub fn take(&self) -> Vec<Denied> {
        let mut buffer = vec![0u8; BUFFER];
        let mut found = Vec::new();
        if let Ok((length, _)) = rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            let mut each = |message: Received<'_>| {
                const PAYLOAD: u16 = 9;
                let packet = message.body.get(HEADER..).and_then(|body| attribute(body, PAYLOAD));
                found.extend(packet.filter(|_| message.kind == PACKET).and_then(read));
            };
            messages(&buffer[..length.min(BUFFER)], &mut each);
        }
        found
    }
}

impl AsFd for Reports {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Of a packet's first bytes (RFC 791, RFC 8200; extension headers are not looked into).
pub fn read(packet: &[u8]) -> Option<Denied> {
    let (from, to, protocol, rest): (IpAddr, IpAddr, u8, &[u8]) = match packet.first()? >> 4 {
        4 => {
            let address = |at: usize| <[u8; 4]>::try_from(packet.get(at..at + 4)?).ok().map(IpAddr::from);
            let length = usize::from(packet[0] & 0x0f) * 4;
            (address(12)?, address(16)?, packet[9], packet.get(length..)?)
        }
        6 => {
            let address = |at: usize| <[u8; 16]>::try_from(packet.get(at..at + 16)?).ok().map(IpAddr::from);
            (address(8)?, address(24)?, packet[6], packet.get(40..)?)
        }
        _ => return None,
    };
    let port = rest.get(2..4).filter(|_| [6, 17, 132].contains(&protocol));
    Some(Denied {
        from,
        to,
        protocol,
        port: port.map(|p| u16::from_be_bytes([p[0], p[1]])),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_and_no_further() {
        let mut packet = vec![0u8; 24];
        (packet[0], packet[9]) = (0x45, 6);
        packet[12..16].copy_from_slice(&[10, 0, 0, 2]);
        packet[16..20].copy_from_slice(&[1, 2, 3, 4]);
        packet[22..24].copy_from_slice(&443u16.to_be_bytes());
        let denied = read(&packet).unwrap();
        assert_eq!((denied.to.to_string().as_str(), denied.port), ("1.2.3.4", Some(443)));
        for end in 0..24 {
            assert!(read(&packet[..end]).is_none_or(|d| d.port.is_none()), "{end}");
        }
        packet[0] = 0x4f;
        assert!(read(&packet).is_none(), "longer than it is");
        assert!(read(&[0x60; 39]).is_none());
    }
}
