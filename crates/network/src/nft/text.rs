//! The table as `nft` prints and reads it.

use std::fmt::{Display, Formatter, Result, Write};

use super::{Action, Chain, Element, Field, Hook, Rule, Set, Table, Term, Type, Value};

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "table inet {} {{", self.name)?;
        self.sets.iter().try_for_each(|set| set.print(f))?;
        for (position, chain) in self.chains.iter().enumerate() {
            if position > 0 {
                writeln!(f)?;
            }
            chain.print(f)?;
        }
        for branch in &self.branches {
            writeln!(f, "\n\tchain {} {{", branch.name)?;
            branch.rules.iter().try_for_each(|rule| writeln!(f, "\t\t{rule}"))?;
            writeln!(f, "\t}}")?;
        }
        writeln!(f, "}}")
    }
}

impl Set {
    fn print(&self, f: &mut Formatter<'_>) -> Result {
        let kind = if self.value.is_empty() { "set" } else { "map" };
        writeln!(f, "\t{kind} {} {{", self.name)?;
        write!(f, "\t\ttype {}", types(self.key))?;
        if !self.value.is_empty() {
            write!(f, " : {}", types(self.value))?;
        }
        writeln!(f)?;
        if self.timeout > 0 {
            writeln!(f, "\t\tflags timeout\n\t\ttimeout {}s", self.timeout)?;
        }
        let elements: Vec<String> = self.elements.iter().map(Element::to_string).collect();
        if !elements.is_empty() {
            writeln!(f, "\t\telements = {{ {} }}", elements.join(",\n\t\t\t     "))?;
        }
        writeln!(f, "\t}}\n")
    }
}

fn types(list: &[Type]) -> String {
    let name = |kind: &Type| match kind {
        Type::Interface => "ifname",
        Type::Protocol => "inet_proto",
        Type::Port => "inet_service",
        Type::V4 => "ipv4_addr",
        Type::V6 => "ipv6_addr",
        Type::Verdict => "verdict",
    };
    list.iter().map(name).collect::<Vec<_>>().join(" . ")
}

impl Display for Element {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let join = |list: &[Value]| list.iter().map(Value::to_string).collect::<Vec<_>>().join(" . ");
        f.write_str(&join(&self.key))?;
        match self.value.is_empty() {
            true => Ok(()),
            false => write!(f, " : {}", join(&self.value)),
        }
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Value::Interface(name) => write!(f, "{name:?}"),
            Value::Protocol(number) => f.write_str(&protocol(*number)),
            Value::Port(port) => write!(f, "{port}"),
            Value::Address(address) => write!(f, "{address}"),
            Value::Jump(branch) => write!(f, "jump {branch}"),
            Value::Drop => f.write_str("drop"),
        }
    }
}

fn protocol(number: u8) -> String {
    match number {
        6 => "tcp".into(),
        17 => "udp".into(),
        132 => "sctp".into(),
        other => other.to_string(),
    }
}

impl Chain {
    fn print(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "\tchain {} {{", self.name)?;
        let hook = match self.hook {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        };
        let priority = match (self.kind, self.priority) {
            ("filter", -300) => "raw".into(),
            ("filter", 0) => "filter".into(),
            ("nat", -100) if !matches!(self.hook, Hook::Output) => "dstnat".into(),
            ("nat", 100) => "srcnat".into(),
            (_, number) => number.to_string(),
        };
        writeln!(
            f,
            "\t\ttype {} hook {hook} priority {priority}; policy accept;",
            self.kind
        )?;
        self.rules.iter().try_for_each(|rule| writeln!(f, "\t\t{rule}"))?;
        writeln!(f, "\t}}")
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        // Said where no field of that version says it.
        if let Action::TranslateBy { fields, family, .. } = &self.action
            && fields.iter().all(|f| f.family().is_none())
        {
            write!(f, "{} ", Term::Family(*family))?;
        }
        for term in &self.terms {
            write!(f, "{term} ")?;
        }
        match &self.action {
            Action::Accept => f.write_str("accept"),
            Action::Drop => f.write_str("drop"),
            Action::Return => f.write_str("return"),
            Action::Jump(chain) => write!(f, "jump {chain:?}"),
            Action::JumpBy { field, map } => write!(f, "{} vmap @{map}", field.name()),
            Action::Report(group) => write!(f, "limit rate 10/second log group {group}"),
            Action::Masquerade => f.write_str("masquerade"),
            Action::TranslateBy { fields, map, family } => {
                let version = if *family == 2 { "ip" } else { "ip6" };
                write!(f, "dnat {version} to {} map @{map}", names(fields))
            }
            Action::Redirect(port) => write!(f, "redirect to :{port}"),
            Action::SetPort { port, protocol, to } => {
                write!(f, "{} set {to}", port.name().replace("th", protocol.name()))
            }
        }
    }
}

impl Display for Term {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let unless = |not: &bool| if *not { "!= " } else { "" };
        match self {
            Term::Found { fields, set, not } => write!(f, "{} {}@{set}", names(fields), unless(not)),
            Term::Interface { field, name, not } => write!(f, "{} {}{name:?}", field.name(), unless(not)),
            Term::Family(2) => f.write_str("meta nfproto ipv4"),
            Term::Family(_) => f.write_str("meta nfproto ipv6"),
            Term::Loopback(field) if field.kind() == Type::V4 => write!(f, "{} 127.0.0.0/8", field.name()),
            Term::Loopback(field) => write!(f, "{} ::1", field.name()),
            Term::ProtocolIs(number) => write!(f, "meta l4proto {}", protocol(*number)),
            Term::FieldIs(field, number) => write!(f, "{} {number}", field.name()),
            Term::PortWithin(first, last) => write!(f, "th dport {first}-{last}"),
            Term::Within(field, subnet) => write!(f, "{} {subnet}", field.name()),
            Term::AddressIs(field, address) => write!(f, "{} {address}", field.name()),
            Term::Established => f.write_str("ct state established,related"),
            Term::Translated => f.write_str("ct status dnat"),
            Term::ToHost => f.write_str("fib daddr type local"),
        }
    }
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Field::In => "iifname",
            Field::Out => "oifname",
            Field::Protocol => "meta l4proto",
            Field::Port => "th dport",
            Field::SourcePort => "th sport",
            Field::Source4 => "ip saddr",
            Field::Target4 => "ip daddr",
            Field::Source6 => "ip6 saddr",
            Field::Target6 => "ip6 daddr",
        }
    }
}

fn names(fields: &[Field]) -> String {
    let mut text = String::new();
    for field in fields {
        let _ = write!(text, "{}{}", if text.is_empty() { "" } else { " . " }, field.name());
    }
    text
}
