//! Connections of a container that the kernel has let through, forgotten: each has to pass again.

use std::net::IpAddr;

use errdefs::Result;

use crate::netlink::{Batch, Socket, attribute};

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
/// `CTA_TUPLE_ORIG`, and in it `CTA_TUPLE_IP`, and in it the source.
const ORIGINAL: u16 = 1;
const ADDRESSES: u16 = 1;
const SOURCES: [u16; 2] = [1, 3];
const FAMILIES: [u8; 2] = [2, 10];
/// Of `struct nfgenmsg`, before the attributes.
const HEADER: usize = 4;

/// Forgets all connections that these addresses began.
pub fn forget(addresses: &[IpAddr]) -> Result<()> {
    const ENOENT: i32 = 2;
    let socket = Socket::netfilter()?;
    for version in [false, true] {
        if !addresses.iter().any(|a| a.is_ipv6() == version) {
            continue;
        }
        let family = FAMILIES[usize::from(version)];
        let mut list = Batch::default();
        list.message(GET, 0, &[family, 0, 0, 0], || "list the connections".into());
        for body in socket.dump(list)? {
            let Some(tuple) = body.get(HEADER..).and_then(|b| attribute(b, ORIGINAL)) else {
                continue;
            };
            if !source(tuple, version).is_some_and(|a| addresses.contains(&a)) {
                continue;
            }
            let mut batch = Batch::default();
            batch.message(DELETE, 0, &[family, 0, 0, 0], || "forget a connection".into());
            batch.nest_after(ORIGINAL, tuple, |_| {});
            match socket.run(batch) {
                // It has ended meanwhile.
                Err(error) if error.errno() == Some(ENOENT) => {}
                other => other?,
            }
        }
    }
    Ok(())
}

fn source(tuple: &[u8], version: bool) -> Option<IpAddr> {
    let bytes = attribute(attribute(tuple, ADDRESSES)?, SOURCES[usize::from(version)])?;
    match version {
        false => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        true => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}
