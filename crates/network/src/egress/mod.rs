//! Egress policies: a table of its own that holds containers to what they may reach outside.
//!
//! ```text
//! from a container, to outside or to this host:
//!   of a connection that was let through -> this table has nothing against it
//!   to an address that a name led to     -> the same, as long as the name's answer holds     named, of_names
//!   by a container with a policy         -> its own chain: neighbours, its subnets; else reported and dropped
//! ```
//!
//! It comes with the first container that has a policy. What it lets through still has to pass the networks' own table.

mod connections;
pub mod policy;
pub mod reports;

use std::net::IpAddr;

use errdefs::Result;

pub use connections::forget as forget_connections;
pub use policy::{Policy, Target};

use crate::netlink::Socket;
use crate::nft::{
    self, Action, Branch, Chain, Element, Elements, Field, Hook, Rule, Set, Table, Term, Transaction, Type, Value,
};
use policy::To;

/// The maps from a container's address to its chain.
const GUARDED: [&str; 2] = ["guarded4", "guarded6"];
/// Container, address, protocol, port.
const NAMED: [&str; 2] = ["named4", "named6"];
/// Container, address.
const OF_NAMES: [&str; 2] = ["of_names4", "of_names6"];
/// Names' elements have times of their own; this is for none.
const LONGEST: u32 = 24 * 3600;

/// A container's place on a network, and what it may reach from there.
#[derive(Clone, Debug)]
pub struct Guarded {
    /// Names its chain.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The network's bridge: neighbours are behind it.
    pub bridge: String,
    /// What it may reach.
    pub policy: Policy,
}

/// An address that a name led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// The container's.
    pub from: IpAddr,
    /// The name's.
    pub to: IpAddr,
    /// Protocol and port; `None`: everything.
    pub port: Option<(u8, u16)>,
}

/// The table's name, by that of the networks' table.
pub fn table_name(networks: &str) -> String {
    format!("{networks}-egress")
}

/// The whole table anew. `closed`: addresses of containers that have a policy which is not known yet; they reach nothing.
pub fn guard(table: &str, guarded: &[Guarded], closed: &[IpAddr], grants: &[(Grant, u32)]) -> Result<()> {
    let mut transaction = Transaction::default();
    transaction.replace(&self::table(table, guarded, closed));
    for (grant, seconds) in grants {
        add(&mut transaction, table, grant, *seconds);
    }
    transaction.commit(&Socket::netfilter()?)
}

/// An address may be reached for so many seconds. `known`: it could be reached before, for less.
pub fn grant(table: &str, grants: &[(Grant, u32)], known: &[Grant]) -> Result<()> {
    const ENOENT: i32 = 2;
    let attempt = |with_known: bool| {
        let mut transaction = Transaction::default();
        for grant in known.iter().filter(|_| with_known) {
            let (set, element) = element(grant);
            transaction.remove(
                table,
                &Elements {
                    set,
                    elements: &[element],
                },
            );
        }
        for (grant, seconds) in grants {
            add(&mut transaction, table, grant, *seconds);
        }
        transaction.commit(&Socket::netfilter()?)
    };
    match attempt(true) {
        // One had its time already.
        Err(error) if error.errno() == Some(ENOENT) => attempt(false),
        other => other,
    }
}

fn add(transaction: &mut Transaction, table: &str, grant: &Grant, seconds: u32) {
    let (set, element) = element(grant);
    transaction.add_for(
        table,
        &Elements {
            set,
            elements: &[element],
        },
        seconds.min(LONGEST),
    );
}

fn element(grant: &Grant) -> (&'static str, Element) {
    let version = usize::from(grant.to.is_ipv6());
    let mut key = vec![Value::Address(grant.from), Value::Address(grant.to)];
    let set = match grant.port {
        None => OF_NAMES[version],
        Some((protocol, port)) => {
            key.extend([Value::Protocol(protocol), Value::Port(port)]);
            NAMED[version]
        }
    };
    (set, Element { key, value: Vec::new() })
}

/// Takes the table away; fine if it is not there.
pub fn unguard(table: &str) -> Result<()> {
    crate::bridge::unguard_all(&Socket::netfilter()?, table)
}

/// The addresses of containers with a policy that the kernel's table has, if there is one.
pub fn guarded_addresses(table: &str) -> Result<Vec<IpAddr>> {
    let socket = Socket::netfilter()?;
    if !nft::list_tables(&socket)?.iter().any(|name| name == table) {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for set in GUARDED {
        for key in nft::list_keys(&socket, table, set)? {
            found.extend(<[u8; 4]>::try_from(key.as_slice()).ok().map(IpAddr::from));
            found.extend(<[u8; 16]>::try_from(key.as_slice()).ok().map(IpAddr::from));
        }
    }
    Ok(found)
}

/// The table as it is without names' elements.
fn table(name: &str, guarded: &[Guarded], closed: &[IpAddr]) -> Table {
    let mut sets = sets();
    let mut map = |address: IpAddr, verdict: Value| {
        let version = usize::from(address.is_ipv6());
        if let Some(set) = sets.iter_mut().find(|s| s.name == GUARDED[version]) {
            let key = vec![Value::Address(address)];
            match set.elements.iter_mut().find(|e| e.key == key) {
                // Hardware addresses that users chose may be the same on two networks: nobody knows who sends.
                Some(known) => known.value = vec![Value::Drop],
                None => set.elements.push(Element {
                    key,
                    value: vec![verdict],
                }),
            }
        }
    };
    closed.iter().for_each(|address| map(*address, Value::Drop));
    for one in guarded {
        one.addresses
            .iter()
            .for_each(|address| map(*address, Value::Jump(one.name.clone())));
    }
    let chain = |name, hook, rules| Chain {
        name,
        kind: "filter",
        hook,
        // Before the networks' own chain.
        priority: -10,
        rules,
    };
    let mut to_host = vec![Rule::new(vec![Term::ProtocolIs(NEIGHBOURS)], Action::Accept)];
    to_host.extend(rules());
    Table {
        name: name.into(),
        sets,
        branches: guarded.iter().map(|one| branch(one, reports::group(name))).collect(),
        chains: vec![
            chain("forward", Hook::Forward, rules()),
            chain("input", Hook::Input, to_host),
        ],
    }
}

/// ICMPv6: without it nobody finds the router.
const NEIGHBOURS: u8 = 58;

fn sets() -> Vec<Set> {
    const KEYS: [&[Type]; 2] = [&[Type::V4], &[Type::V6]];
    const PORTS: [&[Type]; 2] = [
        &[Type::V4, Type::V4, Type::Protocol, Type::Port],
        &[Type::V6, Type::V6, Type::Protocol, Type::Port],
    ];
    const PAIRS: [&[Type]; 2] = [&[Type::V4, Type::V4], &[Type::V6, Type::V6]];
    let set = |name, key, value, timeout| Set {
        name,
        key,
        value,
        timeout,
        elements: Vec::new(),
    };
    let of = |v: usize| {
        [
            set(GUARDED[v], KEYS[v], &[Type::Verdict][..], 0),
            set(NAMED[v], PORTS[v], &[], LONGEST),
            set(OF_NAMES[v], PAIRS[v], &[], LONGEST),
        ]
    };
    [0, 1].into_iter().flat_map(of).collect()
}

fn rules() -> Vec<Rule> {
    use Field::{Port, Protocol, Source4, Source6, Target4, Target6};
    const FIELDS: [&[Field]; 2] = [&[Source4, Target4, Protocol, Port], &[Source6, Target6, Protocol, Port]];
    const PAIRS: [&[Field]; 2] = [&[Source4, Target4], &[Source6, Target6]];
    let found = |fields, set| {
        let term = Term::Found {
            fields,
            set,
            not: false,
        };
        Rule::new(vec![term], Action::Accept)
    };
    let mut rules = vec![Rule::new(vec![Term::Established], Action::Accept)];
    for v in [0, 1] {
        rules.push(found(FIELDS[v], NAMED[v]));
        rules.push(found(PAIRS[v], OF_NAMES[v]));
    }
    for (field, map) in [(Source4, GUARDED[0]), (Source6, GUARDED[1])] {
        rules.push(Rule::new(Vec::new(), Action::JumpBy { field, map }));
    }
    rules
}

/// What one container may reach; the rest is reported and dropped.
fn branch(one: &Guarded, group: u16) -> Branch {
    let within = |field| Term::Interface {
        field,
        name: one.bridge.clone(),
        not: false,
    };
    let mut rules = vec![Rule::new(vec![within(Field::In), within(Field::Out)], Action::Accept)];
    for target in &one.policy.targets {
        let To::Subnet(subnet) = &target.to else { continue };
        let field = if subnet.address.is_ipv6() {
            Field::Target6
        } else {
            Field::Target4
        };
        let mut terms = vec![Term::Within(field, *subnet)];
        if let Some(ports) = &target.ports {
            terms.push(Term::ProtocolIs(ports.protocol.number()));
            terms.push(Term::PortWithin(*ports.range.start(), *ports.range.end()));
        }
        rules.push(Rule::new(terms, Action::Accept));
    }
    rules.push(Rule::new(Vec::new(), Action::Report(group)));
    rules.push(Rule::new(Vec::new(), Action::Drop));
    Branch {
        name: one.name.clone(),
        rules,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_a_chain_that_ends_in_drop() {
        let guarded = Guarded {
            name: "c-1".into(),
            addresses: vec!["10.0.0.2".parse().unwrap()],
            bridge: "berth-1".into(),
            policy: "10.0.0.0/8:53-54/udp,fd00::/8,api.example.org:443".parse().unwrap(),
        };
        let text = table("t", &[guarded], &["10.0.0.9".parse().unwrap()]).to_string();
        for words in [
            "elements = { 10.0.0.9 : drop,\n\t\t\t     10.0.0.2 : jump c-1 }",
            "chain c-1 {\n\t\tiifname \"berth-1\" oifname \"berth-1\" accept\n\t\tip daddr 10.0.0.0/8 meta l4proto udp th dport 53-54 accept\n\t\tip6 daddr fd00::/8 accept\n",
            "\t\tlimit rate 10/second log group 52291\n\t\tdrop\n",
            "ip saddr vmap @guarded4",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
}
