//! The commands about networks.

use super::LIST;
use crate::cli::flag::{many, on, one};
use crate::cli::{Command, Words};
use crate::commands::network;

/// In the order of help.
pub const COMMANDS: &[Command] = &[
    command!(
        "port",
        &["container port"],
        "CONTAINER [PRIVATE_PORT[/PROTO]]",
        "List port mappings or a specific mapping for the container",
        Words::AtLeast(1),
        &[],
        network::port
    ),
    command!(
        "network create",
        &[],
        "[OPTIONS] NETWORK",
        "Create a network",
        Words::Exactly(1),
        &[&[
            on("attachable", "Enable manual container attachment"),
            many("aux-address", "Auxiliary IPv4 or IPv6 addresses kept from containers"),
            one("config-from", "The network from which to copy the configuration").later(),
            on("config-only", "Create a configuration only network").later(),
            one("driver", "Driver to manage the Network (bridge, macvlan, ipvlan)").short('d'),
            one(
                "egress",
                "What containers may reach outside: none, or names and subnets"
            ),
            many("gateway", "IPv4 or IPv6 Gateway for the master subnet"),
            on("ingress", "Create swarm routing-mesh network").later(),
            on("internal", "Restrict external access to the network"),
            many("ip-range", "Allocate container ip from a sub-range"),
            one("ipam-driver", "IP Address Management Driver (default)"),
            many("ipam-opt", "Set IPAM driver specific options").later(),
            on("ipv4", "Enable or disable IPv4 address assignment"),
            on("ipv6", "Enable or disable IPv6 address assignment"),
            many("label", "Set metadata on a network"),
            many("opt", "Set driver specific options").short('o'),
            one("scope", "Control the network's scope").later(),
            many("subnet", "Subnet in CIDR format that represents a network segment"),
        ]],
        network::create
    ),
    command!(
        "network ls",
        &["network list"],
        "[OPTIONS]",
        "List networks",
        Words::None,
        &[LIST],
        network::ls
    ),
    command!(
        "network inspect",
        &[],
        "[OPTIONS] NETWORK [NETWORK...]",
        "Display detailed information on one or more networks",
        Words::AtLeast(1),
        &[&[
            one("format", "Format output using a custom template, or 'json'").short('f'),
            on("verbose", "Verbose output for diagnostics").short('v'),
        ]],
        network::inspect
    ),
    command!(
        "network rm",
        &["network remove"],
        "NETWORK [NETWORK...]",
        "Remove one or more networks",
        Words::AtLeast(1),
        &[&[on("force", "Do not error if the network does not exist").short('f')]],
        network::rm
    ),
    command!(
        "network update",
        &[],
        "[OPTIONS] NETWORK",
        "Change a network that is in use",
        Words::Exactly(1),
        &[&[one(
            "egress",
            "What containers may reach outside: none, or names and subnets; empty: no policy"
        )]],
        network::update
    ),
    command!(
        "network prune",
        &[],
        "[OPTIONS]",
        "Remove all unused networks",
        Words::None,
        &[&[
            many("filter", "Provide filter values (e.g. \"until=<timestamp>\")"),
            on("force", "Do not prompt for confirmation").short('f'),
        ]],
        network::prune
    ),
    command!(
        "network connect",
        &[],
        "[OPTIONS] NETWORK CONTAINER",
        "Connect a container to a network",
        Words::Exactly(2),
        &[&[
            many("alias", "Add network-scoped alias for the container"),
            many("driver-opt", "driver options for the network"),
            one("gw-priority", "Highest gw-priority provides the default gateway"),
            one("ip", "IPv4 address (e.g., \"172.30.100.104\")"),
            one("ip6", "IPv6 address (e.g., \"2001:db8::33\")"),
            many("link", "Add link to another container"),
            many("link-local-ip", "Add a link-local address for the container"),
        ]],
        network::connect
    ),
    command!(
        "network disconnect",
        &[],
        "[OPTIONS] NETWORK CONTAINER",
        "Disconnect a container from a network",
        Words::Exactly(2),
        &[&[on("force", "Force the container to disconnect from a network").short('f')]],
        network::disconnect
    ),
];
