//! What the kernel's tables hold, asked over nf_tables' netlink.

use errdefs::Result;

use super::Element;
use super::encode::{GET_TABLE, INET, ITEM, SUBSYSTEM, TABLE, bytes};
use crate::netlink::{Batch, Socket, attribute, attributes};

/// Fails with ENOENT unless a set has an element.
pub fn contains(socket: &Socket, table: &str, set: &str, element: &Element) -> Result<()> {
    const GET_ELEMENT: u16 = SUBSYSTEM | 13;
    let mut batch = Batch::default();
    batch.message(GET_ELEMENT, 0, &[INET, 0, 0, 0], || "look into the firewall".into());
    batch.put_text(TABLE, table);
    batch.put_text(2, set);
    batch.nest(3, |b| b.nest(ITEM, |b| b.nest(1, |b| b.put(1, &bytes(&element.key)))));
    socket.run(batch)
}

/// The keys of a set's elements.
pub fn list_keys(socket: &Socket, table: &str, set: &str) -> Result<Vec<Vec<u8>>> {
    const GET_ELEMENTS: u16 = SUBSYSTEM | 13;
    let mut batch = Batch::default();
    batch.message(GET_ELEMENTS, 0, &[INET, 0, 0, 0], || "look into the firewall".into());
    batch.put_text(TABLE, table);
    batch.put_text(2, set);
    let mut keys = Vec::new();
    for body in socket.dump(batch)? {
        let list = body.get(4..).and_then(|b| attribute(b, 3)).unwrap_or_default();
        let key = |element| attribute(attribute(element, 1)?, 1).map(<[u8]>::to_vec);
        keys.extend(attributes(list).filter_map(|(_, element)| key(element)));
    }
    Ok(keys)
}

/// The names of all tables of the family `inet`.
pub fn list_tables(socket: &Socket) -> Result<Vec<String>> {
    let mut batch = Batch::default();
    batch.message(GET_TABLE, 0, &[INET, 0, 0, 0], || "list the firewall's tables".into());
    let name = |body: Vec<u8>| {
        let name = attribute(body.get(4..)?, TABLE)?;
        Some(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned())
    };
    Ok(socket.dump(batch)?.into_iter().filter_map(name).collect())
}
