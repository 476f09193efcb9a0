//! A firewall table as data: printed as text that `nft` reads ([`text`]), and sent to the kernel ([`encode`]).
//!
//! Both come from one description, so that the golden text in the tests documents what the kernel has. It knows as much of
//! nf_tables as Berth's rules need.

mod encode;
pub mod foreign;
mod list;
pub mod mirror;
mod text;

pub use encode::{Elements, Transaction};
pub use list::{contains, list_keys, list_tables};

/// A table of the family `inet`.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Sets and maps.
    pub sets: Vec<Set>,
    /// Chains that hang at hooks.
    pub chains: Vec<Chain>,
    /// Chains that maps lead to.
    pub branches: Vec<Branch>,
}

/// A type of a key or of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// An interface's name.
    Interface,
    /// A protocol's number.
    Protocol,
    /// A port.
    Port,
    /// An IPv4 address.
    V4,
    /// An IPv6 address.
    V6,
    /// What is done; of values alone.
    Verdict,
}

/// A set, or a map if it has values.
#[derive(Clone, Debug)]
pub struct Set {
    /// Its name.
    pub name: &'static str,
    /// What is looked up.
    pub key: &'static [Type],
    /// What is found.
    pub value: &'static [Type],
    /// Seconds after which elements go by themselves; 0: never.
    pub timeout: u32,
    /// What it holds from the start.
    pub elements: Vec<Element>,
}

/// An element of a set: a value for each type, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Element {
    /// The key.
    pub key: Vec<Value>,
    /// Of maps.
    pub value: Vec<Value>,
}

/// One part of a key or value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value {
    /// [`Type::Interface`].
    Interface(String),
    /// [`Type::Protocol`].
    Protocol(u8),
    /// [`Type::Port`].
    Port(u16),
    /// [`Type::V4`] or [`Type::V6`].
    Address(std::net::IpAddr),
    /// [`Type::Verdict`]: on with a branch.
    Jump(String),
    /// [`Type::Verdict`]: the end.
    Drop,
}

/// Where a chain hangs.
#[derive(Clone, Copy, Debug)]
pub enum Hook {
    /// Before routing.
    Prerouting,
    /// For this host.
    Input,
    /// Through this host.
    Forward,
    /// From this host.
    Output,
    /// After routing.
    Postrouting,
}

/// A chain, hung at a hook.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// Where.
    pub hook: Hook,
    /// Chains with lower ones are asked first.
    pub priority: i32,
    /// In order.
    pub rules: Vec<Rule>,
}

/// A chain that a map leads to.
#[derive(Clone, Debug)]
pub struct Branch {
    /// Its name.
    pub name: String,
    /// In order; then the chain that it was come from goes on.
    pub rules: Vec<Rule>,
}

/// What must hold, and what is done then.
#[derive(Clone, Debug)]
pub struct Rule {
    /// All of them.
    pub terms: Vec<Term>,
    /// If they do.
    pub action: Action,
}

/// What of a packet is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `iifname`: where it came from.
    In,
    /// `oifname`: where it goes.
    Out,
    /// `meta l4proto`.
    Protocol,
    /// `th dport`.
    Port,
    /// `th sport`.
    SourcePort,
    /// `ip saddr`.
    Source4,
    /// `ip daddr`.
    Target4,
    /// `ip6 saddr`.
    Source6,
    /// `ip6 daddr`.
    Target6,
}

/// One condition.
#[derive(Clone, Debug)]
pub enum Term {
    /// These fields together are in a set, or are not.
    Found {
        /// Which.
        fields: &'static [Field],
        /// In it.
        set: &'static str,
        /// Not in it.
        not: bool,
    },
    /// An interface is that one, or is not.
    Interface {
        /// [`Field::In`] or [`Field::Out`].
        field: Field,
        /// Its name.
        name: String,
        /// Is not.
        not: bool,
    },
    /// The packet is of that version of IP (2: IPv4, 10: IPv6).
    Family(u8),
    /// An address is in 127.0.0.0/8, or ::1.
    Loopback(Field),
    /// A protocol by number.
    ProtocolIs(u8),
    /// [`Field::Port`] or [`Field::SourcePort`] is that one.
    FieldIs(Field, u16),
    /// [`Field::Port`] is between these.
    PortWithin(u16, u16),
    /// An address is of a network.
    Within(Field, crate::Subnet),
    /// An address is that one.
    AddressIs(Field, std::net::IpAddr),
    /// It belongs to a connection that was let through, or to one that such a connection brought.
    Established,
    /// Its connection's target was translated.
    Translated,
    /// Its target is an address of this host.
    ToHost,
}

/// What is done.
#[derive(Clone, Debug)]
pub enum Action {
    /// This table has nothing against it.
    Accept,
    /// It goes no further.
    Drop,
    /// The chain ends here.
    Return,
    /// Another chain is asked.
    Jump(String),
    /// What a map says for an address.
    JumpBy {
        /// Looked up.
        field: Field,
        /// Of verdicts.
        map: &'static str,
    },
    /// Whoever listens to that group is told, not more often than ten times a second; and on with the next rule.
    Report(u16),
    /// Its source becomes this host.
    Masquerade,
    /// Its target becomes what a map says for these fields.
    TranslateBy {
        /// Looked up.
        fields: &'static [Field],
        /// Of address and port.
        map: &'static str,
        /// 2: IPv4, 10: IPv6.
        family: u8,
    },
    /// Its target's port becomes that one of this host.
    Redirect(u16),
    /// A port in it becomes another, and nothing else is done.
    SetPort {
        /// Which.
        port: Field,
        /// Its protocol, which has been looked at.
        protocol: crate::port::Protocol,
        /// The other.
        to: u16,
    },
}

impl Rule {
    /// A rule.
    pub fn new(terms: Vec<Term>, action: Action) -> Self {
        Rule { terms, action }
    }
}

impl Field {
    /// Its type.
    pub fn kind(self) -> Type {
        match self {
            Field::In | Field::Out => Type::Interface,
            Field::Protocol => Type::Protocol,
            Field::Port | Field::SourcePort => Type::Port,
            Field::Source4 | Field::Target4 => Type::V4,
            Field::Source6 | Field::Target6 => Type::V6,
        }
    }

    /// The version of IP that it belongs to, if to one alone.
    fn family(self) -> Option<u8> {
        match self.kind() {
            Type::V4 => Some(2),
            Type::V6 => Some(10),
            _ => None,
        }
    }
}

/// The version of IP that a rule is about, if it is about one: its fields of that version are looked at in no other packet.
fn family_of(rule: &Rule) -> Option<u8> {
    let of_fields = |fields: &[Field]| fields.iter().find_map(|f| f.family());
    let of_term = |term: &Term| match term {
        Term::Found { fields, .. } => of_fields(fields),
        Term::Loopback(field) | Term::AddressIs(field, _) | Term::Within(field, _) => field.family(),
        _ => None,
    };
    let of_action = match &rule.action {
        Action::TranslateBy { family, .. } => Some(*family),
        Action::JumpBy { field, .. } => field.family(),
        _ => None,
    };
    rule.terms.iter().find_map(of_term).or(of_action)
}
