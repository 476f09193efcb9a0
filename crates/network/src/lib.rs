//! The virtual router: bridges, pairs of interfaces, addresses, the firewall's table, published ports.
//!
//! Knows no container and no Docker word: a [`Network`] says what is to be on this host, an [`Attachment`] what a network
//! namespace gets of it. Everything is said to the kernel from inside the process, over netlink.
#![forbid(unsafe_code)]

pub mod attach;
pub mod bridge;
pub mod egress;
pub mod link;
pub mod neighbour;
pub mod netlink;
pub mod nft;
pub mod pasta;
pub mod pool;
pub mod port;
pub mod resolver;
pub mod ruleset;

use serde::{Deserialize, Serialize};

pub use link::{Mac, Subnet};
pub use port::Published;

/// A network on this host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// 64 hexadecimal digits.
    pub id: String,
    /// What users call it.
    pub name: String,
    /// How containers reach it.
    pub driver: Driver,
    /// The router's addresses, with the networks' lengths: at most one of each version of IP.
    pub gateways: Vec<Subnet>,
    /// No way out of it.
    pub internal: bool,
    /// What leaves it leaves under the host's address.
    pub masquerade: bool,
    /// Containers of it may talk to each other.
    pub open: bool,
    /// The host's own rules for what comes to it do not count for its published ports.
    #[serde(default)]
    pub past_host_rules: bool,
    /// Bytes in a packet.
    pub mtu: Option<u32>,
    /// The firewall's table that it belongs to.
    pub table: String,
}

/// How containers reach a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// A bridge of its own, and this host as its router.
    Bridge {
        /// Its interface.
        interface: String,
    },
    /// An interface of the host's, each container with a hardware address of its own on it.
    Macvlan {
        /// The host's interface; empty: one without a way out.
        parent: String,
        /// `bridge`, `private`, `vepa` or `passthru`.
        mode: String,
    },
    /// An interface of the host's, all containers behind its hardware address.
    Ipvlan {
        /// The host's interface.
        parent: String,
        /// `l2`, `l3` or `l3s`.
        mode: String,
    },
    /// Sockets of a user who is not root (see [`pasta`]).
    Pasta,
}

/// One network namespace on one network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    /// Which.
    pub network: Network,
    /// Names the connection.
    pub endpoint: String,
    /// The interface's name inside.
    pub interface: String,
    /// Of the interface inside.
    pub mac: Mac,
    /// Its addresses, at most one of each version of IP.
    pub addresses: Vec<Subnet>,
    /// Addresses that are valid on the link alone, which the user chose.
    #[serde(default)]
    pub link_local: Vec<Subnet>,
    /// Kernel settings of the interface: paths below `/proc/sys/net`, and values.
    #[serde(default)]
    pub sysctls: Vec<(String, String)>,
    /// Whether the ways to everywhere go by this network: IPv4, IPv6.
    pub default_route: (bool, bool),
    /// Ports of the host that lead here.
    pub published: Vec<Published>,
    /// Names by which others on the network find it.
    #[serde(default)]
    pub names: Vec<String>,
    /// What it may reach outside; `None`: everything that its network lets it.
    #[serde(default)]
    pub egress: Option<egress::Policy>,
    /// What its network says of that.
    #[serde(default)]
    pub network_egress: Option<egress::Policy>,
    /// Names for it alone: `NAME`, or `NAME:ALIAS`.
    #[serde(default)]
    pub links: Vec<String>,
}

impl Network {
    /// Its bridge, if it has one.
    pub fn bridge(&self) -> Option<&str> {
        match &self.driver {
            Driver::Bridge { interface } => Some(interface),
            _ => None,
        }
    }

    /// Whether there is IPv6 in it.
    pub fn has_ipv6(&self) -> bool {
        self.gateways.iter().any(|g| g.address.is_ipv6())
    }
}

impl Attachment {
    /// Its address of a version of IP.
    pub fn address(&self, ipv6: bool) -> Option<Subnet> {
        self.addresses.iter().find(|a| a.address.is_ipv6() == ipv6).copied()
    }
}
