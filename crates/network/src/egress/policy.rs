//! What a container may reach outside, as users write it: `none`, or `api.example.org:443,*.example.net,10.0.0.0/8:53/udp`.

use std::fmt::{Display, Formatter};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use errdefs::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::Subnet;
use crate::port::Protocol;

/// The longest policy, in bytes.
const LONGEST: usize = 16 * 1024;
/// The most ports of a name: each is an element of a set.
const PORTS_OF_NAME: usize = 64;
const NONE: &str = "none";

/// All that may be reached; nothing, if there is nothing in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Policy {
    /// In the order of the text.
    pub targets: Vec<Target>,
    text: String,
}

/// One thing that may be reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Where.
    pub to: To,
    /// Which ports, of which protocol; `None`: everything.
    pub ports: Option<Ports>,
}

/// A place outside.
#[derive(Clone, Debug, PartialEq)]
pub enum To {
    /// By address.
    Subnet(Subnet),
    /// By name, in lower case.
    Name(String),
    /// All names that end so; with the first dot.
    Below(String),
}

/// Ports of a protocol.
#[derive(Clone, Debug, PartialEq)]
pub struct Ports {
    /// First and last.
    pub range: RangeInclusive<u16>,
    /// TCP, unless told otherwise.
    pub protocol: Protocol,
}

impl Policy {
    /// What may be reached where a name leads; empty if the name is not to be known.
    pub fn of_name<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Target> {
        self.targets.iter().filter(move |target| match &target.to {
            To::Subnet(_) => false,
            To::Name(own) => own == name,
            To::Below(end) => name.len() > end.len() && name.ends_with(end.as_str()),
        })
    }
}

impl FromStr for Policy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.len() > LONGEST {
            return Err(Error::invalid(format!("an egress policy has at most {LONGEST} bytes")));
        }
        let targets = match text {
            NONE => Vec::new(),
            _ => text.split(',').map(target).collect::<Result<_>>()?,
        };
        Ok(Policy {
            targets,
            text: text.into(),
        })
    }
}

impl TryFrom<String> for Policy {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Policy> for String {
    fn from(policy: Policy) -> Self {
        policy.to_string()
    }
}

impl Display for Policy {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.text.is_empty() { NONE } else { &self.text })
    }
}

fn target(text: &str) -> Result<Target> {
    let bad = |why: &str| {
        Error::invalid(format!("invalid egress target {text:?}: {why}"))
            .hint("none, or a list of names, *.names and subnets, each with :PORT[-PORT][/tcp|udp|sctp] perhaps")
    };
    let text = text.trim();
    // An IPv6 address has colons of its own: with a port it stands in brackets.
    let (place, ports) = match text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        Some((place, rest)) => match rest {
            "" => (place, None),
            rest => (
                place,
                Some(
                    rest.strip_prefix(':')
                        .ok_or_else(|| bad("a colon is needed behind the bracket"))?,
                ),
            ),
        },
        None if subnet(text).is_some() => (text, None),
        None => match text.split_once(':') {
            Some((place, ports)) => (place, Some(ports)),
            None => (text, None),
        },
    };
    let ports = ports
        .map(|p| self::ports(p).ok_or_else(|| bad("these are no ports")))
        .transpose()?;
    let to = match subnet(place) {
        Some(subnet) => To::Subnet(subnet),
        None => name(place).ok_or_else(|| bad("it is no name and no subnet"))?,
    };
    if let (To::Name(_) | To::Below(_), Some(ports)) = (&to, &ports)
        && ports.range.len() > PORTS_OF_NAME
    {
        return Err(bad("a name has at most 64 ports, or all of them"));
    }
    Ok(Target { to, ports })
}

fn subnet(text: &str) -> Option<Subnet> {
    if let Ok(address) = text.parse::<IpAddr>() {
        let prefix = if address.is_ipv6() { 128 } else { 32 };
        return Some(Subnet { address, prefix });
    }
    text.parse::<Subnet>().ok().map(|subnet| subnet.network())
}

fn name(text: &str) -> Option<To> {
    let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let (below, plain) = match text.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, text.as_str()),
    };
    let label =
        |l: &str| (1..=63).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    // What looks like an address and is none is not meant as a name.
    let good =
        plain.len() < 254 && plain.split('.').all(label) && !plain.bytes().all(|b| b == b'.' || b.is_ascii_digit());
    good.then(|| match below {
        true => To::Below(format!(".{plain}")),
        false => To::Name(plain.into()),
    })
}

fn ports(text: &str) -> Option<Ports> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let range: RangeInclusive<u16> = first.parse().ok()?..=last.parse().ok()?;
    (*range.start() > 0 && !range.is_empty()).then_some(Ports {
        range,
        protocol: Protocol::parse(protocol)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_they_are_meant() {
        let policy: Policy = "API.example.org:443,*.example.net,10.1.2.3/8:53-54/udp,[fd00::/8]:80,fd00::1,1.2.3.4"
            .parse()
            .unwrap();
        let shown: Vec<String> = policy
            .targets
            .iter()
            .map(|t| format!("{:?} {:?}", t.to, t.ports))
            .collect();
        assert_eq!(policy.targets.len(), 6);
        assert!(
            shown[0].contains("\"api.example.org\"") && shown[0].contains("443..=443"),
            "{shown:?}"
        );
        assert!(
            shown[2].contains("10.0.0.0") && shown[2].contains("53..=54, protocol: Udp"),
            "{shown:?}"
        );
        assert_eq!(policy.of_name("api.example.org").count(), 1);
        assert_eq!(policy.of_name("x.example.net").count(), 1);
        for other in ["example.net", "xexample.net", "example.org", "a.api.example.org"] {
            assert_eq!(policy.of_name(other).count(), 0, "{other}");
        }
        assert_eq!(String::from(policy.clone()).parse::<Policy>().unwrap(), policy);
        assert!("none".parse::<Policy>().unwrap().targets.is_empty());
        assert_eq!("none".parse::<Policy>().unwrap().to_string(), "none");
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        for bad in [
            "",
            ",",
            "a b",
            "x:",
            "x:0",
            "x:70000",
            "x:2-1",
            "x:80/icmp",
            "10.0.0.0/33",
            "10.0.0.256",
            "[fd00::1",
            "[::1]80",
            "*",
            "*.",
            "a..b",
            "none,x:",
            "x:1-100",
            "http://x",
        ] {
            assert!(bad.parse::<Policy>().is_err(), "{bad}");
        }
    }
}
