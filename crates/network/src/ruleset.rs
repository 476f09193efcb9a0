//! Berth's table: as many rules with one network and one port as with thousands, which are elements of sets.
//!
//! ```text
//! from outside to a published port:   raw -> nat_in (target translated) -> forward (translated: accept)
//! from the host to a published port:  nat_out (target translated) -> nat_leave (127.0.0.1, ::1: masquerade)
//! from a container to outside:        forward -> nat_leave (masquerade)
//! from a container to its own port:   nat_in -> forward -> nat_leave (masquerade, so that the answer comes back this way)
//! from a network to another:          forward (drop)
//! between interfaces of the host's:   forward (drop, if it passes packets on only for us)
//! ```

use crate::bridge::Closed;
use crate::nft::{Action, Chain, Element, Field, Hook, Rule, Set, Table, Term, Type, Value};
use crate::{Network, Published};

use std::net::IpAddr;

use Field::{In, Out, Port, Protocol, Source4, Source6, Target4, Target6};

/// All bridges of ours: the set that a network is in as long as it is up.
pub const BRIDGES: &str = "bridges";
const MASQUERADED: &str = "masqueraded";
const INTERNAL: &str = "internal";
const WITHIN: &str = "within";
/// Between these of the host's own nothing is passed on: see [`Closed`].
const CLOSED4: &str = "closed4";
const CLOSED6: &str = "closed6";
/// Containers with published ports, each address twice: source and target.
const OWN4: &str = "own4";
const OWN6: &str = "own6";

/// A network's places in the sets: by set, its element.
pub fn elements(network: &Network) -> Vec<(&'static str, Element)> {
    let Some(bridge) = network.bridge() else {
        return Vec::new();
    };
    let name = || Value::Interface(bridge.to_owned());
    let element = |key: Vec<Value>| Element { key, value: Vec::new() };
    let mut list = vec![(BRIDGES, element(vec![name()]))];
    if network.internal {
        list.push((INTERNAL, element(vec![name()])));
    } else if network.masquerade {
        list.push((MASQUERADED, element(vec![name()])));
    }
    if network.open {
        list.push((WITHIN, element(vec![name(), name()])));
    }
    list
}

/// Ports' places in the maps, and that of whom they lead to among those who may come to their own ports.
pub fn port_elements(published: &[(Published, Vec<IpAddr>)]) -> Vec<(&'static str, Vec<Element>)> {
    let mut lists: Vec<_> = published.iter().filter_map(|(port, to)| port.elements(to)).collect();
    let mut targets: Vec<IpAddr> = published.iter().flat_map(|(_, to)| to.clone()).collect();
    targets.sort_unstable();
    targets.dedup();
    for (set, ipv6) in [(OWN4, false), (OWN6, true)] {
        let twice = |to: &IpAddr| Element {
            key: vec![Value::Address(*to), Value::Address(*to)],
            value: Vec::new(),
        };
        let own: Vec<_> = targets.iter().filter(|t| t.is_ipv6() == ipv6).map(twice).collect();
        if !own.is_empty() {
            lists.push((set, own));
        }
    }
    lists
}

/// The table with these networks and ports; each of those with the addresses that it leads to.
pub fn table(name: &str, networks: &[Network], published: &[(Published, Vec<IpAddr>)], closed: &Closed) -> Table {
    let mut sets = sets();
    let mut put = |set: &str, element: Element| {
        if let Some(set) = sets.iter_mut().find(|s| s.name == set) {
            set.elements.push(element);
        }
    };
    for (set, element) in networks.iter().flat_map(elements) {
        put(set, element);
    }
    for (set, list) in port_elements(published) {
        list.into_iter().for_each(|element| put(set, element));
    }
    for (set, names) in [(CLOSED4, &closed.v4), (CLOSED6, &closed.v6)] {
        for name in names {
            let key = vec![Value::Interface(name.clone())];
            put(set, Element { key, value: Vec::new() });
        }
    }
    Table {
        name: name.into(),
        sets,
        chains: chains(),
        branches: Vec::new(),
    }
}

fn sets() -> Vec<Set> {
    const INTERFACE: &[Type] = &[Type::Interface];
    const TO4: &[Type] = &[Type::V4, Type::Port];
    const TO6: &[Type] = &[Type::V6, Type::Port];
    let set = |name, key, value| Set {
        name,
        key,
        value,
        timeout: 0,
        elements: Vec::new(),
    };
    vec![
        set(BRIDGES, INTERFACE, &[]),
        set(MASQUERADED, INTERFACE, &[]),
        set(INTERNAL, INTERFACE, &[]),
        set(WITHIN, &[Type::Interface, Type::Interface], &[]),
        set(CLOSED4, INTERFACE, &[]),
        set(CLOSED6, INTERFACE, &[]),
        set(OWN4, &[Type::V4, Type::V4], &[]),
        set(OWN6, &[Type::V6, Type::V6], &[]),
        set("ports4", &[Type::Protocol, Type::Port], TO4),
        set("ports4_at", &[Type::V4, Type::Protocol, Type::Port], TO4),
        set("ports6", &[Type::Protocol, Type::Port], TO6),
        set("ports6_at", &[Type::V6, Type::Protocol, Type::Port], TO6),
    ]
}

/// How many rules there are, whatever networks and ports.
pub fn rules() -> usize {
    chains().iter().map(|c| c.rules.len()).sum()
}

fn found(fields: &'static [Field], set: &'static str) -> Term {
    Term::Found {
        fields,
        set,
        not: false,
    }
}

fn not_found(fields: &'static [Field], set: &'static str) -> Term {
    Term::Found { fields, set, not: true }
}

fn chains() -> Vec<Chain> {
    let chain = |name, kind, hook, priority, rules| Chain {
        name,
        kind,
        hook,
        priority,
        rules,
    };
    vec![
        chain("raw", "filter", Hook::Prerouting, -300, raw()),
        chain("forward", "filter", Hook::Forward, 0, forward()),
        chain("nat_in", "nat", Hook::Prerouting, -100, nat_in()),
        chain("nat_out", "nat", Hook::Output, -100, translations()),
        chain("nat_leave", "nat", Hook::Postrouting, 100, nat_leave()),
    ]
}

/// Bridges let packets through that come from 127.0.0.1, for ports published there. Nothing may come the other way
/// (CVE-2020-8558).
fn raw() -> Vec<Rule> {
    let from_container = |field| vec![found(&[In], BRIDGES), Term::Loopback(field)];
    vec![
        Rule::new(from_container(Target4), Action::Drop),
        Rule::new(from_container(Target6), Action::Drop),
    ]
}

fn forward() -> Vec<Rule> {
    let neither = vec![not_found(&[In], BRIDGES), not_found(&[Out], BRIDGES)];
    let closed = |family, set| {
        let terms = vec![Term::Family(family), found(&[In], set), found(&[Out], set)];
        Rule::new(terms, Action::Drop)
    };
    vec![
        closed(2, CLOSED4),
        closed(10, CLOSED6),
        Rule::new(neither, Action::Accept),
        Rule::new(vec![Term::Established], Action::Accept),
        Rule::new(vec![found(&[In, Out], WITHIN)], Action::Accept),
        Rule::new(vec![found(&[In], INTERNAL)], Action::Drop),
        Rule::new(vec![found(&[Out], INTERNAL)], Action::Drop),
        Rule::new(vec![found(&[Out], BRIDGES), Term::Translated], Action::Accept),
        Rule::new(vec![found(&[Out], BRIDGES)], Action::Drop),
    ]
}

/// A port published at an address first, then those of all addresses.
fn translations() -> Vec<Rule> {
    let by = |fields, map, family| Action::TranslateBy { fields, map, family };
    vec![
        Rule::new(vec![], by(&[Target4, Protocol, Port], "ports4_at", 2)),
        Rule::new(vec![], by(&[Target6, Protocol, Port], "ports6_at", 10)),
        Rule::new(vec![Term::ToHost], by(&[Protocol, Port], "ports4", 2)),
        Rule::new(vec![Term::ToHost], by(&[Protocol, Port], "ports6", 10)),
    ]
}

/// What comes from outside for 127.0.0.1 is not for a port that is published there: the host's own programs go another way.
fn nat_in() -> Vec<Rule> {
    let mut rules = vec![
        Rule::new(vec![Term::Loopback(Target4)], Action::Return),
        Rule::new(vec![Term::Loopback(Target6)], Action::Return),
    ];
    rules.extend(translations());
    rules
}

fn nat_leave() -> Vec<Rule> {
    let to_container = |field| vec![found(&[Out], BRIDGES), Term::Loopback(field)];
    vec![
        Rule::new(
            vec![found(&[In], MASQUERADED), not_found(&[Out], BRIDGES)],
            Action::Masquerade,
        ),
        Rule::new(vec![found(&[In, Out], WITHIN), Term::Translated], Action::Masquerade),
        // A packet that only a bridge passed on (br_netfilter) does not say where it came from.
        Rule::new(
            vec![found(&[Source4, Target4], OWN4), Term::Translated],
            Action::Masquerade,
        ),
        Rule::new(
            vec![found(&[Source6, Target6], OWN6), Term::Translated],
            Action::Masquerade,
        ),
        Rule::new(to_container(Source4), Action::Masquerade),
        Rule::new(to_container(Source6), Action::Masquerade),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::{Protocol, everywhere};

    /// The documentation of the firewall is what the kernel gets.
    #[test]
    fn the_table_is_as_documented() {
        let network = |name: &str, interface: &str, internal: bool| Network {
            id: name.into(),
            name: name.into(),
            driver: crate::Driver::Bridge {
                interface: interface.into(),
            },
            gateways: Vec::new(),
            internal,
            masquerade: true,
            open: true,
            past_host_rules: false,
            mtu: None,
            table: "berth".into(),
        };
        let networks = [
            network("bridge", "berth0", false),
            network("closed", "berth-0123456", true),
        ];
        let port = |address: IpAddr, port: u16| Published {
            protocol: Protocol::Tcp,
            address,
            port,
            inner: 80,
            count: 1,
        };
        let to: Vec<IpAddr> = vec!["172.17.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let published = [
            (port(everywhere(false), 8080), to.clone()),
            (port(everywhere(true), 8080), to.clone()),
            (port("127.0.0.1".parse().unwrap(), 8081), to),
        ];
        let closed = Closed {
            v4: vec!["eth0".into(), "eth1".into()],
            v6: Vec::new(),
        };
        let text = table("berth", &networks, &published, &closed).to_string();
        assert_eq!(text, include_str!("../../../docs/firewall.nft"), "{text}");
    }
}
