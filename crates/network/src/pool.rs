//! Addresses: subnets that nobody uses yet, and numbers in them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use errdefs::{Error, Kind, Result};

use crate::Subnet;

/// Docker's default pools: where the networks are that nobody asked for by number, and how long each is.
const POOLS: &[(Ipv4Addr, u8, u8)] = &[
    (Ipv4Addr::new(172, 17, 0, 0), 16, 16),
    (Ipv4Addr::new(172, 18, 0, 0), 16, 16),
    (Ipv4Addr::new(172, 19, 0, 0), 16, 16),
    (Ipv4Addr::new(172, 20, 0, 0), 14, 16),
    (Ipv4Addr::new(172, 24, 0, 0), 14, 16),
    (Ipv4Addr::new(172, 28, 0, 0), 14, 16),
    (Ipv4Addr::new(192, 168, 0, 0), 16, 20),
];

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl std::str::FromStr for Subnet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::invalid(format!("invalid CIDR address: {text}"));
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        let subnet = Subnet {
            address: address.parse().map_err(|_| bad())?,
            prefix: prefix.parse().map_err(|_| bad())?,
        };
        match subnet.prefix <= subnet.bits() {
            true => Ok(subnet),
            false => Err(bad()),
        }
    }
}

impl serde::Serialize for Subnet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Subnet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

impl Subnet {
    fn bits(self) -> u8 {
        if self.address.is_ipv6() { 128 } else { 32 }
    }

    /// Bits of the hosts'.
    pub fn host_bits(self) -> u8 {
        self.bits() - self.prefix
    }

    fn mask(self) -> u128 {
        match self.host_bits() {
            128 => 0,
            bits => u128::MAX << bits,
        }
    }

    fn with(self, number: u128) -> IpAddr {
        match self.address {
            IpAddr::V4(_) => Ipv4Addr::from(number as u32).into(),
            IpAddr::V6(_) => Ipv6Addr::from(number).into(),
        }
    }

    /// The same, with the network's own address.
    pub fn network(self) -> Subnet {
        Subnet {
            address: self.with(number(self.address) & self.mask()),
            prefix: self.prefix,
        }
    }

    /// Whether an address is in it.
    pub fn contains(self, address: IpAddr) -> bool {
        address.is_ipv6() == self.address.is_ipv6() && (number(address) ^ number(self.address)) & self.mask() == 0
    }

    /// Whether some address is in both.
    pub fn overlaps(self, other: Subnet) -> bool {
        match self.prefix <= other.prefix {
            true => self.contains(other.address),
            false => other.contains(self.address),
        }
    }

    /// The address with a number in it, as long as numbers of 63 bits go.
    pub fn host(self, offset: u64) -> IpAddr {
        self.with((number(self.address) & self.mask()) | u128::from(offset))
    }

    /// The number of an address in it; `None` beyond 63 bits.
    pub fn offset(self, address: IpAddr) -> Option<u64> {
        let offset = number(address) & !self.mask();
        u64::try_from(offset).ok().filter(|o| *o <= i64::MAX as u64)
    }

    /// The numbers that hosts may have: without the network's own and the last one, which IPv4 broadcasts to.
    pub fn hosts(self) -> std::ops::RangeInclusive<u64> {
        let last = match self.host_bits() {
            0 => 0,
            bits if bits > 62 => i64::MAX as u64,
            bits => (1u64 << bits) - 1,
        };
        match self.address {
            IpAddr::V4(_) if self.host_bits() >= 2 => 1..=last - 1,
            // RFC 3021: two hosts, and nobody else.
            IpAddr::V4(_) => 0..=last,
            IpAddr::V6(_) => last.min(1)..=last,
        }
    }
}

/// The first network of Docker's pools that overlaps with none of these.
pub fn free_v4(used: &[Subnet]) -> Result<Subnet> {
    for (base, pool, prefix) in POOLS {
        for n in 0..1u32 << (prefix - pool) {
            let candidate = Subnet {
                address: Ipv4Addr::from(u32::from(*base) + (n << (32 - prefix))).into(),
                prefix: *prefix,
            };
            if !used.iter().any(|u| u.overlaps(candidate)) {
                return Ok(candidate);
            }
        }
    }
    let message = "all predefined address pools have been fully subnetted";
    Err(Error::new(Kind::Exhausted, message).hint("remove networks that are not needed, or give one with --subnet"))
}

/// A local network of IPv6 (RFC 4193) that nobody else has, drawn by lot.
pub fn free_v6(random: [u8; 7], used: &[Subnet]) -> Subnet {
    let mut octets = [0u8; 16];
    octets[0] = 0xfd;
    octets[1..8].copy_from_slice(&random);
    loop {
        let candidate = Subnet {
            address: Ipv6Addr::from(octets).into(),
            prefix: 64,
        };
        if !used.iter().any(|u| u.overlaps(candidate)) {
            return candidate;
        }
        octets[7] = octets[7].wrapping_add(1);
    }
}

/// The hardware address of an interface with this address: locally administered, and the same again for who gets the
/// address next, so that neighbours need not forget.
pub fn mac_of(address: Option<IpAddr>, random: [u8; 4]) -> crate::Mac {
    let [a, b, c, d] = match address {
        Some(IpAddr::V4(v4)) => v4.octets(),
        _ => random,
    };
    [0x02, 0x42, a, b, c, d]
}

/// The address that the kernel gives to an interface with this hardware address, for its link alone (RFC 4291, appendix A).
pub fn link_local_of(mac: crate::Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        pair(a ^ 2, b),
        pair(c, 0xff),
        pair(0xfe, d),
        pair(e, f),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn pools_are_dockers_and_what_the_host_uses_is_left_alone() {
        assert_eq!(free_v4(&[]).unwrap(), subnet("172.17.0.0/16"));
        assert_eq!(free_v4(&[subnet("172.17.5.0/24")]).unwrap(), subnet("172.18.0.0/16"));
        assert_eq!(free_v4(&[subnet("172.16.0.0/12")]).unwrap(), subnet("192.168.0.0/20"));
        assert_eq!(
            free_v4(&[subnet("172.16.0.0/12"), subnet("192.168.1.7/32")]).unwrap(),
            subnet("192.168.16.0/20")
        );
        let error = free_v4(&[subnet("0.0.0.0/0")]).unwrap_err();
        assert_eq!(error.kind(), Kind::Exhausted);
        let mut used = Vec::new();
        while let Ok(free) = free_v4(&used) {
            used.push(free);
        }
        assert_eq!(used.len(), 15 + 16);
    }

    #[test]
    fn addresses_have_numbers_in_their_network() {
        let net = subnet("10.1.2.0/24");
        assert_eq!(net.hosts(), 1..=254);
        assert_eq!(net.host(7), "10.1.2.7".parse::<IpAddr>().unwrap());
        assert_eq!(net.offset("10.1.2.9".parse().unwrap()), Some(9));
        assert!(net.contains("10.1.2.255".parse().unwrap()) && !net.contains("10.1.3.0".parse().unwrap()));
        assert!(!net.contains("::1".parse().unwrap()));
        assert_eq!(subnet("10.0.0.0/31").hosts(), 0..=1);
        assert_eq!(subnet("10.0.0.0/32").hosts(), 0..=0);
        let six = subnet("fd00:1::/64");
        assert_eq!(six.host(2), "fd00:1::2".parse::<IpAddr>().unwrap());
        assert_eq!(six.hosts().start(), &1);
        assert_eq!(subnet("10.1.2.3/24").network(), net);
        assert_eq!(subnet("::/0").network(), subnet("::/0"));
    }

    #[test]
    fn what_is_no_subnet_is_refused() {
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "x/8", "fd00::/129", "10.0.0.0/-1"] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }
}
