//! Tables of others: what of them is looked at, and rules of ours that are put into their chains.

use errdefs::Result;

use super::Rule;
use super::encode::{Transaction, encode_rule};
use crate::netlink::{Batch, Socket, attribute, flag};

const SUBSYSTEM: u16 = 10 << 8;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const GET_RULE: u16 = SUBSYSTEM | 7;
const DELETE_RULE: u16 = SUBSYSTEM | 8;

/// Families of tables that see packets of IP (`NFPROTO_*`).
const FAMILIES: &[u8] = &[1, 2, 10];

/// `NFTA_RULE_*`, and the first three of `NFTA_CHAIN_*`.
mod rule {
    pub const TABLE: u16 = 1;
    pub const CHAIN: u16 = 2;
    pub const HANDLE: u16 = 3;
    pub const EXPRESSIONS: u16 = 4;
    pub const USERDATA: u16 = 7;
}

/// Whether news concern the owner of a table: others' rules have changed, or something of its own was taken away. What is
/// put into a table of its own comes from itself, and ports come and go all the time.
pub fn concerns(kind: u16, body: &[u8], own: &str) -> bool {
    const TABLES_CHAINS_AND_RULES: std::ops::RangeInclusive<u16> = 0..=8;
    const REMOVALS: &[u16] = &[2, 5, 8];
    const ELEMENTS: &[u16] = &[12, 14];
    if kind >> 8 != SUBSYSTEM >> 8 {
        return false;
    }
    let (what, table) = (kind & 0xff, attribute(body.get(4..).unwrap_or_default(), 1).map(text));
    match table.is_some_and(|t| t.starts_with(own)) {
        true => REMOVALS.contains(&what),
        false => TABLES_CHAINS_AND_RULES.contains(&what) || ELEMENTS.contains(&what),
    }
}

/// A chain that hangs at a hook and filters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseChain {
    /// 1: both versions of IP, 2: IPv4, 10: IPv6.
    pub family: u8,
    /// Of which table.
    pub table: String,
    /// Its name there.
    pub name: String,
    /// Where it hangs ([`super::Hook`]).
    pub hook: u32,
    /// What no rule of it takes is dropped.
    pub drops: bool,
}

/// A rule with a comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commented {
    /// Its number in the table.
    pub handle: [u8; 8],
    /// What it says.
    pub comment: String,
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_be_bytes)
}

/// Those of all tables.
pub fn base_chains(socket: &Socket) -> Result<Vec<BaseChain>> {
    const NAME: u16 = 3;
    const HOOK: u16 = 4;
    const POLICY: u16 = 5;
    const KIND: u16 = 7;
    let mut batch = Batch::default();
    batch.message(GET_CHAIN, 0, &[0; 4], || "list the firewall's chains".into());
    let read = |body: Vec<u8>| {
        let family = *body.first().filter(|f| FAMILIES.contains(f))?;
        let attributes = body.get(4..)?;
        let hook = attribute(attributes, HOOK)
            .and_then(|hook| attribute(hook, 1))
            .and_then(number)?;
        let filters = attribute(attributes, KIND).is_some_and(|k| text(k) == "filter");
        filters.then(|| BaseChain {
            family,
            table: attribute(attributes, rule::TABLE).map(text).unwrap_or_default(),
            name: attribute(attributes, NAME).map(text).unwrap_or_default(),
            hook,
            drops: attribute(attributes, POLICY).and_then(number) == Some(0),
        })
    };
    Ok(socket.dump(batch)?.into_iter().filter_map(read).collect())
}

/// The names of all tables, and of the chains in them, by family.
pub fn chain_names(socket: &Socket) -> Result<Vec<(u8, String, String)>> {
    let mut batch = Batch::default();
    batch.message(GET_CHAIN, 0, &[0; 4], || "list the firewall's chains".into());
    let read = |body: Vec<u8>| {
        let (family, attributes) = (*body.first()?, body.get(4..)?);
        let part = |kind| attribute(attributes, kind).map(text);
        Some((family, part(rule::TABLE)?, part(3)?))
    };
    Ok(socket.dump(batch)?.into_iter().filter_map(read).collect())
}

/// The rules of a chain that have comments.
pub fn commented(socket: &Socket, chain: &BaseChain) -> Result<Vec<Commented>> {
    let mut batch = Batch::default();
    let step = format!("list the firewall's rules in {}", chain.name);
    batch.message(GET_RULE, 0, &[chain.family, 0, 0, 0], move || step.clone());
    batch.put_text(rule::TABLE, &chain.table);
    batch.put_text(rule::CHAIN, &chain.name);
    let read = |body: Vec<u8>| {
        let attributes = body.get(4..)?;
        // Kernels before 4.13 list the rules of all chains.
        let own = attribute(attributes, rule::CHAIN).is_some_and(|c| text(c) == chain.name);
        let comment = comment(attribute(attributes, rule::USERDATA).filter(|_| own)?)?;
        let handle = attribute(attributes, rule::HANDLE)?.try_into().ok()?;
        Some(Commented { handle, comment })
    };
    Ok(socket.dump(batch)?.into_iter().filter_map(read).collect())
}

/// How many rules a table has.
pub fn count_rules(socket: &Socket, table: &str) -> Result<usize> {
    const INET: u8 = 1;
    let mut batch = Batch::default();
    batch.message(GET_RULE, 0, &[INET, 0, 0, 0], || "count the firewall's rules".into());
    batch.put_text(rule::TABLE, table);
    let own = |body: &Vec<u8>| {
        let attributes = body.get(4..).unwrap_or_default();
        attribute(attributes, rule::TABLE).is_some_and(|t| text(t) == table)
    };
    Ok(socket.dump(batch)?.iter().filter(|body| own(body)).count())
}

/// Records of a type, a length of one byte, and so many bytes: that of type 0 is the comment (libnftnl's `udata`).
fn comment(mut data: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = data {
        let value = rest.get(..usize::from(*length))?;
        if *kind == 0 {
            return Some(text(value));
        }
        data = &rest[value.len()..];
    }
    None
}

impl Transaction {
    /// Adds a rule at the end of another's chain. A comment is up to 250 bytes.
    pub fn append_to(&mut self, chain: &BaseChain, rule: &Rule, comment: &str) {
        let step = format!("add the rule {rule} to the firewall's chain {}", chain.name);
        let flags = flag::CREATE | flag::APPEND;
        let header = [chain.family, 0, 0, 0];
        self.batch.message(NEW_RULE, flags, &header, move || step.clone());
        self.batch.put_text(rule::TABLE, &chain.table);
        self.batch.put_text(rule::CHAIN, &chain.name);
        self.batch.nest(rule::EXPRESSIONS, |b| encode_rule(b, rule));
        let mut data = vec![0, comment.len() as u8 + 1];
        data.extend_from_slice(comment.as_bytes());
        data.push(0);
        self.batch.put(rule::USERDATA, &data);
    }

    /// Takes a rule out of another's chain; it must be there.
    pub fn delete_from(&mut self, chain: &BaseChain, rule: &Commented) {
        let step = format!("take a rule out of the firewall's chain {}", chain.name);
        let header = [chain.family, 0, 0, 0];
        self.batch.message(DELETE_RULE, 0, &header, move || step.clone());
        self.batch.put_text(rule::TABLE, &chain.table);
        self.batch.put_text(rule::CHAIN, &chain.name);
        self.batch.put(rule::HANDLE, &rule.handle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_found_among_other_records() {
        assert_eq!(comment(&[1, 2, 9, 9, 0, 3, b'a', b'b', 0]).as_deref(), Some("ab"));
        assert_eq!(comment(&[0, 9, b'a']), None);
        assert_eq!(comment(&[5]), None);
    }
}
