//! Other firewalls on this host: ways through those that drop what they do not know.
//!
//! What one table of nf_tables accepts another one at the same hook still drops. Docker's, and many a host's own, drop all
//! that they do not know of what passes through the host. So at the end of such chains, behind all rules of theirs, stand
//! rules of ours for our bridges: what others refuse in so many words stays refused, and what is left is judged by our own
//! table. And what the host refuses to itself it refuses to containers, too: its rules are asked before a target is
//! translated ([`mirror`]). (Tables of the old `iptables-legacy` are no tables of nf_tables: they are not seen.)

use std::collections::BTreeMap;

use errdefs::Result;

use crate::bridge::Ports;
use crate::netlink::Socket;
use crate::nft::foreign::{self, BaseChain};
use crate::nft::mirror::{self, Original};
use crate::nft::{Action, Field, Hook, Rule, Term, Transaction};

/// Chains of others that packets go through which the host passes on.
pub fn forwarding(socket: &Socket, table: &str) -> Result<Vec<BaseChain>> {
    others(socket, table, Hook::Forward)
}

fn others(socket: &Socket, table: &str, hook: Hook) -> Result<Vec<BaseChain>> {
    let mut chains = foreign::base_chains(socket)?;
    // Another engine, for another place of its state, keeps its own house.
    let of_an_engine = |name: &str| name == "berth" || name.starts_with("berth-");
    chains.retain(|c| c.hook == hook as u32 && c.table != table && !of_an_engine(&c.table));
    Ok(chains)
}

/// The host's rules for itself are asked about these ports, and about no others any more. Mirrors that are right stay.
pub fn ask_about(socket: &Socket, table: &str, ports: &Ports) -> Result<()> {
    let mut tables: BTreeMap<(u8, String), Vec<BaseChain>> = BTreeMap::new();
    let inputs = others(socket, table, Hook::Input)?;
    for chain in inputs {
        tables
            .entry((chain.family, chain.table.clone()))
            .or_default()
            .push(chain);
    }
    let mut present = foreign::chain_names(socket)?;
    present.retain(|(_, name, _)| is_mirror(name, table));
    let (elements, mut transaction) = (mirror::elements(ports), Transaction::default());
    let mut kept = Vec::new();
    for ((family, name), inputs) in tables {
        let original = Original::read(socket, family, &name, inputs)?;
        if original.is_silent() {
            continue;
        }
        let (copy, mark) = (original.name_for(table), mirror::mark(&original));
        match present.iter().any(|(f, t, c)| (*f, t, c) == (family, &copy, &mark)) {
            true => transaction.ask_about(family, &copy, &elements),
            false => original.make(socket, table, &elements)?,
        }
        kept.push((family, copy));
    }
    present.retain(|(family, name, chain)| chain.starts_with("of-") && !kept.contains(&(*family, name.clone())));
    for (family, name, _) in present {
        transaction.break_mirror(family, &name);
    }
    transaction.commit_if_any(socket)
}

/// Nobody is asked any more.
pub fn ask_nobody(socket: &Socket, table: &str) -> Result<()> {
    let mut transaction = Transaction::default();
    for (family, name, chain) in foreign::chain_names(socket)? {
        if is_mirror(&name, table) && chain.starts_with("of-") {
            transaction.break_mirror(family, &name);
        }
    }
    transaction.commit_if_any(socket)
}

/// More ports are asked about, where anybody is asked.
pub fn ask_about_more(socket: &Socket, table: &str, ports: &Ports) -> Result<()> {
    let mut transaction = Transaction::default();
    for (family, name, chain) in foreign::chain_names(socket)? {
        if is_mirror(&name, table) && chain.starts_with("of-") {
            transaction.ask_about(family, &name, &mirror::elements(ports));
        }
    }
    transaction.commit_if_any(socket)
}

fn is_mirror(name: &str, table: &str) -> bool {
    name.strip_prefix(table).is_some_and(|rest| rest.starts_with("-asks-"))
}

/// Lets these bridges through; ways of ours for others go. `table` says whose ways they are.
pub fn open_ways(socket: &Socket, table: &str, bridges: &[&str]) -> Result<()> {
    let mut transaction = Transaction::default();
    for chain in forwarding(socket, table)? {
        let mine = |comment: &str| comment.strip_prefix(table)?.strip_prefix(' ').map(String::from);
        let mut wanted: Vec<(String, Rule)> = Vec::new();
        for bridge in bridges.iter().filter(|_| chain.drops) {
            for (field, word) in [(Field::In, "from"), (Field::Out, "to")] {
                let term = Term::Interface {
                    field,
                    name: (*bridge).to_owned(),
                    not: false,
                };
                wanted.push((format!("{word} {bridge}"), Rule::new(vec![term], Action::Accept)));
            }
        }
        for present in foreign::commented(socket, &chain)? {
            let Some(way) = mine(&present.comment) else { continue };
            match wanted.iter().position(|(name, _)| *name == way) {
                Some(index) => _ = wanted.swap_remove(index),
                None => transaction.delete_from(&chain, &present),
            }
        }
        for (way, rule) in wanted {
            transaction.append_to(&chain, &rule, &format!("{table} {way}"));
        }
    }
    transaction.commit_if_any(socket)
}
