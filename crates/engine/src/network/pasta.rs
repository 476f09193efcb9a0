//! Networks of a user who is not root: `pasta` in place of Docker's default, and none that would need a bridge.

use bollard_stubs::models::{ContainerCreateBody, EndpointSettings};
use errdefs::{Error, Result};

use super::endpoint::{mode, networked};
use super::{BRIDGE, PASTA, row};
use crate::Engine;
use crate::state::database;

const HINT: &str = "without root there are the networks pasta (the default), host, none and container:NAME";

/// What only a host's administrator can have made.
pub(crate) fn needs_root(what: std::fmt::Arguments<'_>) -> Error {
    Error::invalid(format!("{what} needs root")).hint(HINT)
}

impl Engine {
    /// Spells the default network out, and refuses what it cannot be.
    pub(crate) fn settle_for_user(&self, body: &mut ContainerCreateBody) -> Result<()> {
        let asked = mode(body).to_owned();
        if !self.roots.is_users() {
            return match asked == PASTA {
                true => {
                    Err(Error::invalid("the network pasta is for users who are not root").hint("leave --network out"))
                }
                false => Ok(()),
            };
        }
        if !networked(&asked) {
            return Ok(());
        }
        let said = body.host_config.as_ref().and_then(|h| h.network_mode.as_deref());
        if asked != PASTA && (asked != BRIDGE || said == Some(BRIDGE)) {
            return Err(needs_root(format_args!("the network {asked}")));
        }
        let endpoints = body
            .networking_config
            .iter()
            .flat_map(|n| n.endpoints_config.iter().flatten());
        for (name, settings) in endpoints {
            if ![PASTA, "default"].contains(&name.as_str()) {
                return Err(needs_root(format_args!("the network {name}")));
            }
            if let Some(what) = setting(settings) {
                return Err(needs_root(format_args!("{what}")));
            }
        }
        let host = body.host_config.get_or_insert_default();
        if host.links.as_ref().is_some_and(|l| !l.is_empty()) {
            return Err(needs_root(format_args!("--link")));
        }
        host.network_mode = Some(PASTA.into());
        body.networking_config = None;
        self.have_pasta()
    }

    fn have_pasta(&self) -> Result<()> {
        if !self.network_rows("WHERE name = ?1", PASTA)?.is_empty() {
            return Ok(());
        }
        self.state.transact(|db| {
            let there = db.query_row("SELECT COUNT(*) FROM network WHERE name = ?1", [PASTA], |r| {
                r.get::<_, i64>(0)
            });
            match there.map_err(database)? {
                0 => row::add_one(db, PASTA, PASTA),
                _ => Ok(()),
            }
        })
    }
}

/// What pasta, whose container has the host's own addresses, cannot give.
fn setting(asked: &EndpointSettings) -> Option<&'static str> {
    let some = |text: &Option<String>| text.as_ref().is_some_and(|t| !t.is_empty());
    let ipam = asked.ipam_config.clone().unwrap_or_default();
    let addresses =
        some(&ipam.ipv4_address) || some(&ipam.ipv6_address) || ipam.link_local_ips.is_some_and(|l| !l.is_empty());
    [
        (addresses, "an address of one's own"),
        (some(&asked.mac_address), "--mac-address"),
        (asked.aliases.as_ref().is_some_and(|a| !a.is_empty()), "--network-alias"),
        (
            asked.driver_opts.as_ref().is_some_and(|o| !o.is_empty()),
            "an option of a container's network",
        ),
    ]
    .into_iter()
    .find_map(|(asked, what)| asked.then_some(what))
}

/// Whether this host has a way to everywhere by IPv6: only then pasta does.
pub(crate) fn host_has_ipv6() -> bool {
    let everywhere = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let zero = |word: Option<&&str>| word.is_some_and(|w| w.bytes().all(|b| b == b'0'));
        zero(words.first()) && zero(words.get(1)) && words.last().is_some_and(|name| *name != "lo")
    };
    let routes = std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    routes.lines().any(everywhere)
}
