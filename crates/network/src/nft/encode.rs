//! The table as nf_tables' netlink messages (`linux/netfilter/nf_tables.h`).

use std::net::IpAddr;

use errdefs::{Error, Result};

use super::{Action, Chain, Element, Field, Rule, Set, Table, Term, Type, Value, family_of};
use crate::netlink::{Batch, Socket, flag};
use crate::port::Protocol;

pub(super) const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
pub(super) const INET: u8 = 1;
const NEW_TABLE: u16 = SUBSYSTEM;
pub(super) const GET_TABLE: u16 = SUBSYSTEM | 1;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const NEW_SET: u16 = SUBSYSTEM | 9;
const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
const DELETE_ELEMENT: u16 = SUBSYSTEM | 14;

/// Of the message's body.
pub(super) const TABLE: u16 = 1;
/// One item of a list.
pub(super) const ITEM: u16 = 1;
/// One message holds no more than 64 KiB of elements.
const ELEMENTS_PER_MESSAGE: usize = 400;
/// A batch longer than this goes in several calls.
const LONGEST_BATCH: usize = 96 * 1024;

/// Data goes through registers of four bytes; the verdict has one of its own.
const VERDICT: u32 = 0;
const FIRST_REGISTER: u32 = 8;

const ACCEPT: u32 = 1;
const DROP: u32 = 0;
const RETURN: u32 = -5i32 as u32;
const JUMP: u32 = -3i32 as u32;
/// The type of a map's values that are verdicts.
const VERDICTS: u32 = 0xffff_ff00;

/// Which elements, of which set.
pub struct Elements<'a> {
    /// Of the table.
    pub set: &'a str,
    /// Those.
    pub elements: &'a [Element],
}

/// Changes that are made at once, or not at all.
pub struct Transaction {
    pub(super) batch: Batch,
}

impl Default for Transaction {
    fn default() -> Self {
        let mut batch = Batch::default();
        let [high, low] = (SUBSYSTEM >> 8).to_be_bytes();
        batch.message(BATCH_BEGIN, 0, &[0, 0, high, low], || "change the firewall".into());
        Transaction { batch }
    }
}

impl Transaction {
    fn message(&mut self, kind: u16, flags: u16, table: &str, step: impl Fn() -> String + 'static) {
        self.batch.message(kind, flags, &[INET, 0, 0, 0], step);
        self.batch.put_text(TABLE, table);
    }

    /// Makes the table, whatever was there of that name before.
    pub fn replace(&mut self, table: &Table) {
        let name = table.name.clone();
        let step = move || format!("make the firewall table {name}");
        // To make it first makes it sure that there is one to remove.
        self.message(NEW_TABLE, flag::CREATE, &table.name, step.clone());
        self.message(DELETE_TABLE, 0, &table.name, step);
        self.make(table);
    }

    /// Makes a table that is not there. Nothing has to go for it: whoever closes a socket through which something went
    /// waits until no processor looks at that any more, which takes milliseconds.
    pub fn make(&mut self, table: &Table) {
        let name = table.name.clone();
        let step = move || format!("make the firewall table {name}");
        self.message(NEW_TABLE, flag::CREATE, &table.name, step);
        for (number, set) in table.sets.iter().enumerate() {
            self.add_set(&table.name, set, number as u32 + 1);
        }
        for chain in &table.chains {
            self.add_chain(&table.name, chain);
        }
        for branch in &table.branches {
            self.add_branch(&table.name, &branch.name);
        }
        for set in &table.sets {
            self.change(&table.name, NEW_ELEMENT, set.name, &set.elements, None);
        }
        let hung = table.chains.iter().map(|chain| (chain.name, &chain.rules));
        let branches = table
            .branches
            .iter()
            .map(|branch| (branch.name.as_str(), &branch.rules));
        for (chain, rules) in hung.chain(branches) {
            for rule in rules {
                self.add_rule(&table.name, chain, rule);
            }
        }
    }

    /// Takes the table away; it must be there.
    pub fn delete(&mut self, table: &str) {
        let name = table.to_owned();
        self.message(DELETE_TABLE, 0, table, move || {
            format!("remove the firewall table {name}")
        });
    }

    /// Adds elements.
    pub fn add(&mut self, table: &str, elements: &Elements<'_>) {
        self.change(table, NEW_ELEMENT, elements.set, elements.elements, None);
    }

    /// Adds elements that go by themselves after so many seconds.
    pub fn add_for(&mut self, table: &str, elements: &Elements<'_>, seconds: u32) {
        self.change(table, NEW_ELEMENT, elements.set, elements.elements, Some(seconds));
    }

    /// Takes elements away; they must be there.
    pub fn remove(&mut self, table: &str, elements: &Elements<'_>) {
        self.change(table, DELETE_ELEMENT, elements.set, elements.elements, None);
    }

    /// As [`Transaction::commit`], unless nothing is to be done.
    pub fn commit_if_any(self, socket: &Socket) -> Result<()> {
        match self.batch.count() {
            1 => Ok(()),
            _ => self.commit(socket),
        }
    }

    /// Has the kernel do it.
    pub fn commit(mut self, socket: &Socket) -> Result<()> {
        let [high, low] = (SUBSYSTEM >> 8).to_be_bytes();
        if self.batch.len() > LONGEST_BATCH {
            rustix::net::sockopt::set_socket_send_buffer_size_force(socket, self.batch.len() * 2 + LONGEST_BATCH)
                .map_err(|e| Error::caused("make room for a long firewall change", std::io::Error::from(e)))?;
        }
        // The last change is acknowledged; the end of the batch is none.
        self.batch.acknowledge_last();
        self.batch
            .message(BATCH_END, 0, &[0, 0, high, low], || "change the firewall".into());
        socket.run_transaction(self.batch).map_err(explain)
    }

    fn add_set(&mut self, table: &str, set: &Set, id: u32) {
        const NAME: u16 = 2;
        const FLAGS: u16 = 3;
        const KEY_TYPE: u16 = 4;
        const KEY_LENGTH: u16 = 5;
        const DATA_TYPE: u16 = 6;
        const DATA_LENGTH: u16 = 7;
        const ID: u16 = 10;
        const TIMEOUT: u16 = 11;
        const USERDATA: u16 = 13;
        const IS_MAP: u32 = 8;
        const HAS_TIMEOUT: u32 = 16;
        let name = set.name;
        let flags = if set.value.is_empty() { 0 } else { IS_MAP } | if set.timeout > 0 { HAS_TIMEOUT } else { 0 };
        self.message(NEW_SET, flag::CREATE, table, move || {
            format!("make the firewall's set {name}")
        });
        self.batch.put_text(NAME, set.name);
        self.batch.put_be32(FLAGS, flags);
        self.batch.put_be32(KEY_TYPE, type_number(set.key));
        self.batch
            .put_be32(KEY_LENGTH, set.key.iter().map(|t| t.length()).sum::<usize>() as u32);
        if !set.value.is_empty() {
            self.batch.put_be32(DATA_TYPE, type_number(set.value));
            if set.value != [Type::Verdict] {
                self.batch
                    .put_be32(DATA_LENGTH, set.value.iter().map(|t| t.length()).sum::<usize>() as u32);
            }
        }
        self.batch.put_be32(ID, id);
        if set.key == [Type::Interface] {
            // For `nft`, which takes the order of bytes from here: a record of type 0, four bytes long, the machine's own.
            let mut order = vec![0, 4];
            order.extend_from_slice(&1u32.to_ne_bytes());
            self.batch.put(USERDATA, &order);
        }
        if set.timeout > 0 {
            self.batch.put(TIMEOUT, &(u64::from(set.timeout) * 1000).to_be_bytes());
        }
    }

    fn add_chain(&mut self, table: &str, chain: &Chain) {
        const NAME: u16 = 3;
        const HOOK: u16 = 4;
        const POLICY: u16 = 5;
        const KIND: u16 = 7;
        let name = chain.name;
        self.message(NEW_CHAIN, flag::CREATE, table, move || {
            format!("make the firewall's chain {name}")
        });
        self.batch.put_text(NAME, chain.name);
        self.batch.nest(HOOK, |b| {
            b.put_be32(1, chain.hook as u32);
            b.put_be32(2, chain.priority as u32);
        });
        self.batch.put_be32(POLICY, ACCEPT);
        self.batch.put_text(KIND, chain.kind);
    }

    fn add_branch(&mut self, table: &str, name: &str) {
        const NAME: u16 = 3;
        let text = name.to_owned();
        self.message(NEW_CHAIN, flag::CREATE, table, move || {
            format!("make the firewall's chain {text}")
        });
        self.batch.put_text(NAME, name);
    }

    fn add_rule(&mut self, table: &str, chain: &str, rule: &Rule) {
        const CHAIN: u16 = 2;
        const EXPRESSIONS: u16 = 4;
        let text = rule.to_string();
        let name = chain.to_owned();
        let step = move || format!("make the firewall's rule {text:?} in {name}");
        self.message(NEW_RULE, flag::CREATE | flag::APPEND, table, step);
        self.batch.put_text(CHAIN, chain);
        self.batch.nest(EXPRESSIONS, |b| encode_rule(b, rule));
    }

    fn change(&mut self, table: &str, kind: u16, set: &str, elements: &[Element], seconds: Option<u32>) {
        const SET: u16 = 2;
        const ELEMENTS: u16 = 3;
        const TIMEOUT: u16 = 4;
        for chunk in elements.chunks(ELEMENTS_PER_MESSAGE) {
            let name = set.to_owned();
            let flags = if kind == NEW_ELEMENT { flag::CREATE } else { 0 };
            self.message(kind, flags, table, move || format!("change the firewall's set {name}"));
            self.batch.put_text(SET, set);
            self.batch.nest(ELEMENTS, |b| {
                for element in chunk {
                    b.nest(ITEM, |b| {
                        b.nest(1, |b| b.put(1, &bytes(&element.key)));
                        if !element.value.is_empty() && kind == NEW_ELEMENT {
                            b.nest(2, |b| value(b, &element.value));
                        }
                        if let Some(seconds) = seconds {
                            b.put(TIMEOUT, &(u64::from(seconds) * 1000).to_be_bytes());
                        }
                    });
                }
            });
        }
    }
}

/// A kernel without a module is named, and so is what helps.
fn explain(error: Error) -> Error {
    const ENOENT: i32 = 2;
    const EOPNOTSUPP: i32 = 95;
    const EPROTONOSUPPORT: i32 = 93;
    match error.errno() {
        Some(EOPNOTSUPP | EPROTONOSUPPORT) => {
            error.hint("this kernel lacks a part of nf_tables: its modules nf_tables, nft_nat, nft_fib_inet, nft_masq come with the distribution's kernel package")
        }
        Some(ENOENT) => error.hint("a kernel module may be missing: nf_tables, nft_chain_nat, nft_fib_inet, nft_masq"),
        _ => error,
    }
}

impl Type {
    /// As a part of a key every one fills whole registers.
    fn length(self) -> usize {
        match self {
            Type::Interface | Type::V6 => 16,
            Type::Protocol | Type::Port | Type::V4 => 4,
            Type::Verdict => 0,
        }
    }

    /// How `nft` knows it: the kernel only keeps it.
    fn number(self) -> u32 {
        match self {
            Type::V4 => 7,
            Type::V6 => 8,
            Type::Protocol => 12,
            Type::Port => 13,
            Type::Interface => 41,
            Type::Verdict => VERDICTS,
        }
    }
}

fn type_number(types: &[Type]) -> u32 {
    types.iter().fold(0, |all, t| (all << 6) | t.number())
}

/// A map's value: data, or a verdict.
fn value(batch: &mut Batch, values: &[Value]) {
    match values {
        [Value::Jump(branch)] => batch.nest(2, |b| {
            b.put_be32(1, JUMP);
            b.put_text(2, branch);
        }),
        [Value::Drop] => batch.nest(2, |b| b.put_be32(1, DROP)),
        data => batch.put(1, &bytes(data)),
    }
}

/// Registers' bytes of a key or value.
pub(super) fn bytes(values: &[Value]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32);
    for value in values {
        match value {
            Value::Interface(name) => bytes.extend_from_slice(&interface(name)),
            Value::Protocol(number) => bytes.extend_from_slice(&[*number, 0, 0, 0]),
            Value::Port(port) => {
                let [a, b] = port.to_be_bytes();
                bytes.extend_from_slice(&[a, b, 0, 0]);
            }
            Value::Address(IpAddr::V4(v4)) => bytes.extend_from_slice(&v4.octets()),
            Value::Address(IpAddr::V6(v6)) => bytes.extend_from_slice(&v6.octets()),
            // These are no data: see `value`.
            Value::Jump(_) | Value::Drop => {}
        }
    }
    bytes
}

/// A name of up to 15 bytes, filled up with zeros.
fn interface(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    let length = name.len().min(15);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes
}

fn expression(batch: &mut Batch, name: &str, fill: impl FnOnce(&mut Batch)) {
    batch.nest(ITEM, |b| {
        b.put_text(1, name);
        b.nest(2, fill);
    });
}

pub(super) fn encode_rule(batch: &mut Batch, rule: &Rule) {
    let stated = rule.terms.iter().any(|t| matches!(t, Term::Family(_)));
    if let Some(family) = family_of(rule).filter(|_| !stated) {
        encode_term(batch, &Term::Family(family));
    }
    rule.terms.iter().for_each(|term| encode_term(batch, term));
    match &rule.action {
        Action::Accept => verdict(batch, ACCEPT),
        Action::Drop => verdict(batch, DROP),
        Action::Return => verdict(batch, RETURN),
        Action::Jump(chain) => jump(batch, chain),
        Action::JumpBy { field, map } => {
            load(batch, *field, FIRST_REGISTER);
            lookup(batch, map, Some(VERDICT), false);
        }
        Action::Report(group) => {
            limit(batch);
            expression(batch, "log", |b| b.put(1, &group.to_be_bytes()));
        }
        Action::Masquerade => expression(batch, "masq", |_| {}),
        Action::TranslateBy { fields, map, family } => {
            load_all(batch, fields);
            lookup(batch, map, Some(FIRST_REGISTER), false);
            let address = if *family == 2 { 1 } else { 4 };
            expression(batch, "nat", |b| {
                const DNAT: u32 = 1;
                b.put_be32(1, DNAT);
                b.put_be32(2, u32::from(*family));
                b.put_be32(3, FIRST_REGISTER);
                b.put_be32(5, FIRST_REGISTER + address);
            });
        }
        Action::Redirect(port) => {
            immediate(batch, &port.to_be_bytes());
            expression(batch, "redir", |b| b.put_be32(1, FIRST_REGISTER));
        }
        Action::SetPort { port, protocol, to } => set_port(batch, *port, *protocol, *to),
    }
}

/// Ten times a second, five of them at once.
fn limit(batch: &mut Batch) {
    expression(batch, "limit", |b| {
        b.put(1, &10u64.to_be_bytes());
        b.put(2, &1u64.to_be_bytes());
        b.put_be32(3, 5);
        b.put_be32(4, 0);
        b.put_be32(5, 0);
    });
}

fn set_port(batch: &mut Batch, port: Field, protocol: Protocol, to: u16) {
    const TRANSPORT: u32 = 2;
    const INTERNET_CHECKSUM: u32 = 1;
    let offset = if port == Field::SourcePort { 0 } else { 2 };
    // Where each protocol has its sum.
    let sum = if protocol == Protocol::Tcp { 16 } else { 6 };
    immediate(batch, &to.to_be_bytes());
    expression(batch, "payload", |b| {
        b.put_be32(5, FIRST_REGISTER);
        b.put_be32(2, TRANSPORT);
        b.put_be32(3, offset);
        b.put_be32(4, 2);
        b.put_be32(6, INTERNET_CHECKSUM);
        b.put_be32(7, sum);
    });
}

fn jump(batch: &mut Batch, chain: &str) {
    const JUMP: u32 = -3i32 as u32;
    expression(batch, "immediate", |b| {
        b.put_be32(1, VERDICT);
        b.nest(2, |b| {
            b.nest(2, |b| {
                b.put_be32(1, JUMP);
                b.put_text(2, chain);
            });
        });
    });
}

pub(super) fn verdict(batch: &mut Batch, code: u32) {
    expression(batch, "immediate", |b| {
        b.put_be32(1, VERDICT);
        b.nest(2, |b| b.nest(2, |b| b.put_be32(1, code)));
    });
}

fn immediate(batch: &mut Batch, value: &[u8]) {
    expression(batch, "immediate", |b| {
        b.put_be32(1, FIRST_REGISTER);
        b.nest(2, |b| b.put(1, value));
    });
}

fn encode_term(batch: &mut Batch, term: &Term) {
    const META_L4PROTO: u32 = 16;
    const META_FAMILY: u32 = 15;
    match term {
        Term::Found { fields, set, not } => {
            load_all(batch, fields);
            lookup(batch, set, None, *not);
        }
        Term::Interface { field, name, not } => {
            load(batch, *field, FIRST_REGISTER);
            compare(batch, *not, &interface(name));
        }
        Term::Family(family) => {
            meta(batch, META_FAMILY, FIRST_REGISTER);
            compare(batch, false, &[*family]);
        }
        Term::Loopback(field) => {
            load(batch, *field, FIRST_REGISTER);
            match field.kind() {
                Type::V4 => {
                    mask(batch, &[255, 0, 0, 0]);
                    compare(batch, false, &[127, 0, 0, 0]);
                }
                _ => compare(batch, false, &std::net::Ipv6Addr::LOCALHOST.octets()),
            }
        }
        Term::ProtocolIs(number) => {
            meta(batch, META_L4PROTO, FIRST_REGISTER);
            compare(batch, false, &[*number]);
        }
        Term::FieldIs(field, number) => {
            load(batch, *field, FIRST_REGISTER);
            compare(batch, false, &number.to_be_bytes());
        }
        Term::PortWithin(first, last) => {
            load(batch, Field::Port, FIRST_REGISTER);
            expression(batch, "range", |b| {
                const WITHIN: u32 = 0;
                b.put_be32(1, FIRST_REGISTER);
                b.put_be32(2, WITHIN);
                b.nest(3, |b| b.put(1, &first.to_be_bytes()));
                b.nest(4, |b| b.put(1, &last.to_be_bytes()));
            });
        }
        Term::Within(field, subnet) => {
            let address = bytes(&[Value::Address(subnet.network().address)]);
            load(batch, *field, FIRST_REGISTER);
            mask(batch, &prefix_mask(subnet.prefix, address.len()));
            compare(batch, false, &address);
        }
        Term::AddressIs(field, address) => {
            load(batch, *field, FIRST_REGISTER);
            compare(batch, false, &bytes(&[Value::Address(*address)]));
        }
        Term::Established => {
            const STATE: u32 = 0;
            const ESTABLISHED_RELATED: u32 = 2 | 4;
            connection(batch, STATE, ESTABLISHED_RELATED);
        }
        Term::Translated => {
            const STATUS: u32 = 2;
            const TARGET: u32 = 0x20;
            connection(batch, STATUS, TARGET);
        }
        Term::ToHost => {
            const RESULT_TYPE: u32 = 3;
            const OF_TARGET: u32 = 2;
            const LOCAL: u32 = 2;
            expression(batch, "fib", |b| {
                b.put_be32(1, FIRST_REGISTER);
                b.put_be32(2, RESULT_TYPE);
                b.put_be32(3, OF_TARGET);
            });
            compare(batch, false, &LOCAL.to_ne_bytes());
        }
    }
}

/// A key of conntrack's has one of these bits.
fn connection(batch: &mut Batch, key: u32, bits: u32) {
    expression(batch, "ct", |b| {
        b.put_be32(1, FIRST_REGISTER);
        b.put_be32(2, key);
    });
    mask(batch, &bits.to_ne_bytes());
    compare(batch, true, &[0; 4]);
}

fn load_all(batch: &mut Batch, fields: &[Field]) {
    let mut register = FIRST_REGISTER;
    for field in fields {
        load(batch, *field, register);
        register += field.kind().length() as u32 / 4;
    }
}

fn load(batch: &mut Batch, field: Field, register: u32) {
    const META_IIFNAME: u32 = 6;
    const META_OIFNAME: u32 = 7;
    const META_L4PROTO: u32 = 16;
    const NETWORK: u32 = 1;
    const TRANSPORT: u32 = 2;
    let mut payload = |base: u32, offset: u32, length: u32| {
        expression(batch, "payload", |b| {
            b.put_be32(1, register);
            b.put_be32(2, base);
            b.put_be32(3, offset);
            b.put_be32(4, length);
        });
    };
    match field {
        Field::In => meta(batch, META_IIFNAME, register),
        Field::Out => meta(batch, META_OIFNAME, register),
        Field::Protocol => meta(batch, META_L4PROTO, register),
        Field::SourcePort => payload(TRANSPORT, 0, 2),
        Field::Port => payload(TRANSPORT, 2, 2),
        Field::Source4 => payload(NETWORK, 12, 4),
        Field::Target4 => payload(NETWORK, 16, 4),
        Field::Source6 => payload(NETWORK, 8, 16),
        Field::Target6 => payload(NETWORK, 24, 16),
    }
}

fn meta(batch: &mut Batch, key: u32, register: u32) {
    expression(batch, "meta", |b| {
        b.put_be32(1, register);
        b.put_be32(2, key);
    });
}

fn compare(batch: &mut Batch, not: bool, value: &[u8]) {
    expression(batch, "cmp", |b| {
        b.put_be32(1, FIRST_REGISTER);
        b.put_be32(2, not.into());
        b.nest(3, |b| b.put(1, value));
    });
}

fn mask(batch: &mut Batch, mask: &[u8]) {
    expression(batch, "bitwise", |b| {
        b.put_be32(1, FIRST_REGISTER);
        b.put_be32(2, FIRST_REGISTER);
        b.put_be32(3, mask.len() as u32);
        b.nest(4, |b| b.put(1, mask));
        b.nest(5, |b| b.put(1, &vec![0; mask.len()]));
    });
}

/// So many ones, then zeros.
fn prefix_mask(prefix: u8, length: usize) -> Vec<u8> {
    let ones = |byte: usize| usize::from(prefix).saturating_sub(byte * 8).min(8);
    (0..length).map(|byte| !(0xffu32 >> ones(byte)) as u8).collect()
}

fn lookup(batch: &mut Batch, set: &str, into: Option<u32>, not: bool) {
    expression(batch, "lookup", |b| {
        b.put_text(1, set);
        b.put_be32(2, FIRST_REGISTER);
        if let Some(register) = into {
            b.put_be32(3, register);
        }
        if not {
            b.put_be32(5, 1);
        }
    });
}
