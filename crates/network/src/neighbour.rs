//! Other firewalls on this host: ways through those that drop what they do not know.
//!
//! What one table of nf_tables accepts another one at the same hook still drops. Docker's, and many a host's own, drop all
//! that they do not know of what passes through the host. So at the end of such chains, behind all rules of theirs, stand
//! rules of ours for our bridges: what others refuse in so many words stays refused, and what is left is judged by our own
//! table. (Tables of the old `iptables-legacy` are no tables of nf_tables: they are not seen.)

use errdefs::Result;

use crate::netlink::Socket;
use crate::nft::foreign::{self, BaseChain};
use crate::nft::{Action, Field, Hook, Rule, Term, Transaction};

/// Chains of others that packets go through which the host passes on.
pub fn forwarding(socket: &Socket, table: &str) -> Result<Vec<BaseChain>> {
    let mut chains = foreign::base_chains(socket)?;
    chains.retain(|c| c.hook == Hook::Forward as u32 && c.table != table);
    // Another engine's, for another place of its state, keeps its own house.
    chains.retain(|c| !(c.family == 1 && (c.table == "berth" || c.table.starts_with("berth-"))));
    Ok(chains)
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
