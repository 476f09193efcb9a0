//! What the host's own rules say to a packet before its target is translated.
//!
//! A packet for a published port never comes to the hook `input`, where a host refuses what it does not want: its target is
//! another by then. So the chains that hang there are copied, one table beside each of others', to where the packet is still
//! what the host's rules are about: before the translation. They are asked about new connections to published ports alone.
//! Expressions are copied as the kernel gives them; what only counts, logs or marks is left out, and what refuses with an
//! answer drops. A rule that is not understood is left out as a whole.

use errdefs::Result;

use super::encode::{Transaction, bytes, encode_rule, verdict};
use super::foreign::{BaseChain, text};
use super::{Action, Element, Field, Rule, Term, Value};
use crate::netlink::{Batch, Socket, attribute, attributes, flag, whole_attributes};

const SUBSYSTEM: u16 = 10 << 8;
const NEW_TABLE: u16 = SUBSYSTEM;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const GET_RULE: u16 = SUBSYSTEM | 7;
const NEW_SET: u16 = SUBSYSTEM | 9;
const GET_SET: u16 = SUBSYSTEM | 10;
const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
const GET_ELEMENTS: u16 = SUBSYSTEM | 13;

/// The ports that are asked about, in each mirror.
pub const PUBLISHED: &str = "published";
/// Before `dstnat`, after what others do to packets that come in.
const BEFORE_TRANSLATION: i32 = -101;

const TABLE: u16 = 1;
const ITEM: u16 = 1;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const DROP: u32 = 0;

/// A rule, as the kernel gives it: its chain and its expressions.
struct RawRule {
    number: usize,
    chain: String,
    expressions: Vec<u8>,
}

/// A set, and its elements: attributes as the kernel gives them.
struct RawSet {
    name: String,
    attributes: Vec<u8>,
    elements: Vec<Vec<u8>>,
}

/// Everything of a table that is needed to ask it.
pub struct Original {
    family: u8,
    table: String,
    inputs: Vec<BaseChain>,
    rules: Vec<RawRule>,
    sets: Vec<RawSet>,
}

impl Original {
    /// Reads one, of which these chains hang at `input`.
    pub fn read(socket: &Socket, family: u8, table: &str, inputs: Vec<BaseChain>) -> Result<Self> {
        let list = |kind: u16, more: &dyn Fn(&mut Batch)| {
            let mut batch = Batch::default();
            batch.message(kind, 0, &[family, 0, 0, 0], || "read the host's firewall".into());
            batch.put_text(TABLE, table);
            more(&mut batch);
            socket.dump(batch)
        };
        let mut rules = Vec::new();
        for body in list(GET_RULE, &|_| {})? {
            let found = body.get(4..).unwrap_or_default();
            let own = attribute(found, TABLE).is_some_and(|t| text(t) == table);
            if let (true, Some(chain), Some(expressions)) = (own, attribute(found, 2), attribute(found, 4)) {
                rules.push(RawRule {
                    number: rules.len(),
                    chain: text(chain),
                    expressions: expressions.to_vec(),
                });
            }
        }
        let mut sets = Vec::new();
        for body in list(GET_SET, &|_| {})? {
            let found = body.get(4..).unwrap_or_default();
            let Some(name) = attribute(found, 2).map(text) else {
                continue;
            };
            let elements = list(GET_ELEMENTS, &|b| b.put_text(2, &name))?;
            let items = elements.iter().filter_map(|e| attribute(e.get(4..)?, 3));
            sets.push(RawSet {
                elements: items.flat_map(attributes).map(|(_, item)| item.to_vec()).collect(),
                attributes: found.to_vec(),
                name,
            });
        }
        let mut original = Original {
            family,
            table: table.to_owned(),
            inputs,
            rules,
            sets,
        };
        original.forget_unreachable();
        Ok(original)
    }

    /// What no packet for the host comes to is not copied.
    fn forget_unreachable(&mut self) {
        let mut reached: Vec<String> = self.inputs.iter().map(|c| c.name.clone()).collect();
        let mut done = 0;
        while done < reached.len() {
            let from = reached[done].clone();
            done += 1;
            let mut targets = Vec::new();
            for rule in self.rules.iter().filter(|r| r.chain == from) {
                for (name, data) in expressions(&rule.expressions) {
                    match name.as_str() {
                        "immediate" => targets.extend(attribute(data, 2).and_then(chain_of)),
                        "lookup" => {
                            let set = attribute(data, 1).map(text);
                            let set = self.sets.iter().find(|s| Some(&s.name) == set.as_ref());
                            let elements = set.iter().flat_map(|s| &s.elements);
                            targets.extend(elements.filter_map(|e| chain_of(attribute(e, 2)?)));
                        }
                        _ => {}
                    }
                }
            }
            for target in targets {
                if !reached.contains(&target) {
                    reached.push(target);
                }
            }
        }
        self.rules.retain(|r| reached.contains(&r.chain));
        let used = |set: &RawSet| {
            let mut all = self.rules.iter().flat_map(|r| expressions(&r.expressions));
            all.any(|(name, data)| name == "lookup" && attribute(data, 1).map(text).as_ref() == Some(&set.name))
        };
        let used: Vec<bool> = self.sets.iter().map(used).collect();
        let mut index = 0;
        self.sets.retain(|_| {
            index += 1;
            used[index - 1]
        });
    }

    /// Makes the mirror. A rule that the kernel takes from its owner alone is left out: containers are to start all the same.
    pub fn make(mut self, socket: &Socket, own: &str, ports: &[Element]) -> Result<()> {
        let mark = mark(&self);
        loop {
            let mut transaction = Transaction::default();
            transaction.mirror(&self, own, &mark, ports);
            let Err(error) = transaction.commit(socket) else {
                return Ok(());
            };
            let said = error.to_string();
            match self.rules.iter().position(|r| said.contains(&r.name())) {
                Some(refused) => _ = self.rules.remove(refused),
                None => return Err(error),
            }
        }
    }

    /// Whether it has anything to say.
    pub fn is_silent(&self) -> bool {
        self.rules.is_empty() && !self.inputs.iter().any(|c| c.drops)
    }

    /// Changes with everything that is copied. (FNV-1a: not for secrets.)
    pub fn fingerprint(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        let mut add = |bytes: &[u8]| {
            for byte in bytes.iter().chain(&[0xff]) {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        for rule in &self.rules {
            add(rule.chain.as_bytes());
            // Without the counters, which change with every packet.
            copied(&rule.expressions).iter().for_each(|e| add(e));
        }
        for set in &self.sets {
            add(set.name.as_bytes());
            set.elements
                .iter()
                .for_each(|e| add(attribute(e, 1).unwrap_or_default()));
        }
        self.inputs.iter().for_each(|c| add(&[c.drops.into()]));
        hash
    }

    /// A mirror's name, for the owner of the table of this name.
    pub fn name_for(&self, own: &str) -> String {
        format!("{own}-asks-{}", self.table).chars().take(200).collect()
    }

    /// The family of its table.
    pub fn family(&self) -> u8 {
        self.family
    }
}

impl RawRule {
    /// For errors.
    fn name(&self) -> String {
        let names: Vec<_> = expressions(&self.expressions).map(|(name, _)| name).collect();
        format!("rule {} ({}) in {}", self.number, names.join(" "), self.chain)
    }
}

/// Named expressions, and what they say.
fn expressions(list: &[u8]) -> impl Iterator<Item = (String, &[u8])> {
    attributes(list).map(|(_, item)| {
        let name = attribute(item, EXPR_NAME).map(text).unwrap_or_default();
        (name, attribute(item, EXPR_DATA).unwrap_or_default())
    })
}

/// The protocol that a rule is about: `meta l4proto`, and the comparison behind it.
fn protocol_of(list: &[u8]) -> Option<u8> {
    const L4PROTO: [u8; 4] = 16u32.to_be_bytes();
    let all: Vec<_> = expressions(list).collect();
    let loads = |(name, data): &(String, &[u8])| name == "meta" && attribute(data, 2) == Some(&L4PROTO);
    let (_, compared) = all
        .get(all.iter().position(loads)? + 1)
        .filter(|(name, _)| name == "cmp")?;
    let equal = attribute(compared, 2) == Some(&[0; 4]);
    attribute(attribute(compared, 3).filter(|_| equal)?, 1)?
        .first()
        .copied()
}

/// The chain that a verdict leads to.
fn chain_of(data: &[u8]) -> Option<String> {
    attribute(attribute(data, 2)?, 2).map(text)
}

/// The expressions of a rule that decide something, ready to be sent; none if the rule is not understood.
fn copied(list: &[u8]) -> Vec<Vec<u8>> {
    const DECIDE: &[&str] = &[
        "cmp",
        "bitwise",
        "byteorder",
        "range",
        "lookup",
        "fib",
        "exthdr",
        "immediate",
        "limit",
        "match",
        "rt",
        "socket",
        "meta",
        "ct",
        "payload",
    ];
    const SAY_NOTHING: &[&str] = &["counter", "log", "notrack", "last"];
    let mut kept = Vec::new();
    for (_, item, whole) in whole_attributes(list) {
        let name = attribute(item, EXPR_NAME).map(text).unwrap_or_default();
        let data = attribute(item, EXPR_DATA).unwrap_or_default();
        let target = || attribute(data, 1).map(text).unwrap_or_default();
        // The register that something is written from: a change of the packet, not a look at it.
        let source = match name.as_str() {
            "meta" => 3,
            "ct" => 4,
            "payload" => 5,
            _ => u16::MAX,
        };
        if attribute(data, source).is_some() || SAY_NOTHING.contains(&name.as_str()) {
            continue;
        }
        match name.as_str() {
            "reject" => kept.push(Vec::new()),
            "target" if target() == "REJECT" => kept.push(Vec::new()),
            "target" if ["LOG", "NFLOG", "TRACE"].contains(&target().as_str()) => {}
            known if DECIDE.contains(&known) => kept.push(whole.to_vec()),
            _ => return Vec::new(),
        }
    }
    kept
}

/// Is asked about: what is new, for this host, to a published port.
fn asked(action: Action) -> Rule {
    let published = Term::Found {
        fields: &[Field::Protocol, Field::Port],
        set: PUBLISHED,
        not: false,
    };
    Rule::new(vec![Term::ToHost, published], action)
}

impl Transaction {
    fn of(&mut self, what: &str, kind: u16, flags: u16, family: u8, table: &str) -> &mut Batch {
        let step = format!("copy the host's own firewall: {what} of {table}");
        self.batch
            .message(kind, flags, &[family, 0, 0, 0], move || step.clone());
        self.batch.put_text(TABLE, table);
        &mut self.batch
    }

    /// Takes a mirror away; it must be there.
    pub fn break_mirror(&mut self, family: u8, table: &str) {
        self.of("the table", DELETE_TABLE, 0, family, table);
    }

    /// Makes a mirror, whatever was there of that name.
    fn mirror(&mut self, original: &Original, own: &str, mark: &str, ports: &[Element]) {
        let (family, table) = (original.family, original.name_for(own));
        self.of("the table", NEW_TABLE, flag::CREATE, family, &table);
        self.of("the table", DELETE_TABLE, 0, family, &table);
        self.of("the table", NEW_TABLE, flag::CREATE, family, &table);
        self.add_published(family, &table);
        self.ask_about(family, &table, ports);
        for (number, set) in original.sets.iter().enumerate() {
            self.copy_set(family, &table, set, number as u32 + 2);
        }
        let mut chains: Vec<String> = original.rules.iter().map(|r| r.chain.clone()).collect();
        chains.extend(original.inputs.iter().map(|c| c.name.clone()));
        // Those without rules are jumped to as well.
        for rule in &original.rules {
            chains.extend(expressions(&rule.expressions).filter_map(|(name, data)| {
                (name == "immediate")
                    .then(|| attribute(data, 2).and_then(chain_of))
                    .flatten()
            }));
        }
        for set in &original.sets {
            chains.extend(set.elements.iter().filter_map(|e| chain_of(attribute(e, 2)?)));
        }
        chains.sort_unstable();
        chains.dedup();
        chains.push(mark.to_owned());
        for chain in &chains {
            self.of("a chain", NEW_CHAIN, flag::CREATE, family, &table)
                .put_text(3, chain);
        }
        for set in &original.sets {
            self.copy_elements(family, &table, set);
        }
        for rule in &original.rules {
            self.copy_rule(family, &table, rule);
        }
        for (number, input) in original.inputs.iter().enumerate() {
            self.ask(family, &table, number, input);
        }
    }

    /// More ports are asked about in a mirror.
    pub fn ask_about(&mut self, family: u8, table: &str, ports: &[Element]) {
        for chunk in ports.chunks(400) {
            let batch = self.of("elements", NEW_ELEMENT, flag::CREATE, family, table);
            batch.put_text(2, PUBLISHED);
            batch.nest(3, |b| {
                for port in chunk {
                    b.nest(ITEM, |b| b.nest(1, |b| b.put(1, &bytes(&port.key))));
                }
            });
        }
    }

    fn add_published(&mut self, family: u8, table: &str) {
        // `inet_proto . inet_service`, of two registers.
        const KEY_TYPE: u32 = (12 << 6) | 13;
        let batch = self.of("a set", NEW_SET, flag::CREATE, family, table);
        batch.put_text(2, PUBLISHED);
        batch.put_be32(3, 0);
        batch.put_be32(4, KEY_TYPE);
        batch.put_be32(5, 8);
        batch.put_be32(10, 1);
    }

    fn copy_set(&mut self, family: u8, table: &str, set: &RawSet, id: u32) {
        const FLAGS: u16 = 3;
        /// Anonymous ones belong to the one rule that they were made for.
        const ANONYMOUS: u32 = 1;
        /// Types, lengths, how it is kept, how long elements last, what `nft` notes.
        const COPIED: &[u16] = &[4, 5, 6, 7, 8, 9, 11, 13];
        let batch = self.of("a set", NEW_SET, flag::CREATE, family, table);
        batch.put_text(2, &set.name);
        let flags = attribute(&set.attributes, FLAGS).and_then(|f| f.try_into().ok());
        batch.put_be32(FLAGS, flags.map_or(0, u32::from_be_bytes) & !ANONYMOUS);
        for (kind, _, whole) in whole_attributes(&set.attributes) {
            if COPIED.contains(&kind) {
                batch.put_whole(whole);
            }
        }
        batch.put_be32(10, id);
    }

    fn copy_elements(&mut self, family: u8, table: &str, set: &RawSet) {
        /// Key, data, flags, the key's end.
        const COPIED: &[u16] = &[1, 2, 3, 10];
        for chunk in set.elements.chunks(200) {
            let batch = self.of("elements", NEW_ELEMENT, flag::CREATE, family, table);
            batch.put_text(2, &set.name);
            batch.nest(3, |b| {
                for element in chunk {
                    b.nest(ITEM, |b| {
                        for (kind, _, whole) in whole_attributes(element) {
                            if COPIED.contains(&kind) {
                                b.put_whole(whole);
                            }
                        }
                    });
                }
            });
        }
    }

    fn copy_rule(&mut self, family: u8, table: &str, rule: &RawRule) {
        let kept = copied(&rule.expressions);
        if kept.is_empty() {
            return;
        }
        let batch = self.of(&rule.name(), NEW_RULE, flag::CREATE | flag::APPEND, family, table);
        batch.put_text(2, &rule.chain);
        if let Some(protocol) = protocol_of(&rule.expressions) {
            // Matches of iptables want to know it, and the kernel does not give it back.
            batch.nest(5, |b| {
                b.put_be32(1, protocol.into());
                b.put_be32(2, 0);
            });
        }
        batch.nest(4, |b| {
            for expression in kept {
                match expression.is_empty() {
                    true => verdict(b, DROP),
                    false => b.put_whole(&expression),
                }
            }
        });
    }

    /// A chain of its own for each of the host's, since what one accepts another may refuse.
    fn ask(&mut self, family: u8, table: &str, number: usize, input: &BaseChain) {
        const PREROUTING: u32 = 0;
        let name = format!("ask-{number}");
        let batch = self.of("a chain", NEW_CHAIN, flag::CREATE, family, table);
        batch.put_text(3, &name);
        batch.nest(4, |b| {
            b.put_be32(1, PREROUTING);
            b.put_be32(2, BEFORE_TRANSLATION as u32);
        });
        batch.put_be32(5, 1);
        batch.put_text(7, "filter");
        let mut rules = vec![
            Rule::new(vec![Term::Established], Action::Accept),
            asked(Action::Jump(input.name.clone())),
        ];
        rules.extend(input.drops.then(|| asked(Action::Drop)));
        for rule in rules {
            let batch = self.of("a rule", NEW_RULE, flag::CREATE | flag::APPEND, family, table);
            batch.put_text(2, &name);
            batch.nest(4, |b| encode_rule(b, &rule));
        }
    }
}

/// An empty chain says by its name what a mirror is one of.
pub fn mark(original: &Original) -> String {
    format!("of-{:016x}", original.fingerprint())
}

/// Ports, as mirrors know them.
pub fn elements(ports: &[(crate::Published, Vec<std::net::IpAddr>)]) -> Vec<Element> {
    let one = |port: &crate::Published, n: u16| Element {
        key: vec![Value::Protocol(port.protocol.number()), Value::Port(port.port + n)],
        value: Vec::new(),
    };
    let mut list: Vec<_> = ports
        .iter()
        .flat_map(|(port, _)| (0..port.count).map(move |n| one(port, n)))
        .collect();
    list.sort_unstable();
    list.dedup();
    list
}
