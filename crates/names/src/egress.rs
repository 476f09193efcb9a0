//! Egress policies: which names may be asked for, that their addresses may be reached, and what was kept back.
//!
//! The table in the kernel is made from what members have told. It stays when the service is killed: the next one takes the
//! addresses that are guarded in it for closed until their monitors have told what they may reach.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use engine::container::Record;
use engine::container::record::read_json;
use engine::event;
use engine::names::{Guard, Member};
use errdefs::Result;
use network::egress::reports::Reports;
use network::egress::{self as table, Grant, Guarded};
use network::netlink::Socket;
use network::nft::foreign::concerns;

use crate::poller::Source;
use crate::serve::Service;
use crate::wire::{self, Query};

/// All monitors have come back by then, after a service was killed.
const SETTLE: Duration = Duration::from_secs(5);
/// An address may be reached this long at least: programs keep what they have looked up.
const SHORTEST: u32 = 300;
const LONGEST: u32 = 24 * 3600;
/// What has longer to go than this is not said again. The kernel's clock and ours need not agree to the second.
const SLACK: Duration = Duration::from_secs(60);
/// The same is told once in this time.
const QUIET: Duration = Duration::from_secs(10);
/// So much is remembered of what was told.
const REMEMBERED: usize = 4096;

/// What the service knows of policies.
#[derive(Default)]
pub struct Egress {
    /// The table's name, once somebody has told it.
    table: String,
    /// It is in the kernel.
    there: bool,
    /// Of which container, until when.
    grants: HashMap<(u64, Grant), Instant>,
    closed: Vec<IpAddr>,
    settles_at: Option<Instant>,
    reports: Option<(Reports, u64)>,
    news: Option<(Socket, u64)>,
    told: HashMap<String, Instant>,
}

impl Egress {
    /// When nobody is waited for any more that was there before us.
    pub fn settles_at(&self) -> Option<Instant> {
        self.settles_at
    }
}

fn guards(member: &Member) -> impl Iterator<Item = &Guard> {
    member.places.iter().filter_map(|place| place.guard.as_ref())
}

fn guarded(member: &Member) -> impl Iterator<Item = IpAddr> {
    guards(member).flat_map(|guard| &guard.addresses).copied()
}

/// Of whom it is, if a container with such an address has come: with a policy, or without one by now.
fn owns(member: &Member, address: IpAddr) -> bool {
    let own = member.places.iter().flat_map(|p| &p.addresses);
    own.map(|s| s.address).chain(guarded(member)).any(|a| a == address)
}

impl Service {
    /// Holds a member to what it told last; `before`: to what it was held until now.
    pub fn guard_member(&mut self, key: u64, before: &Member) -> Result<()> {
        let Some(member) = self.members.get(&key).map(|c| c.member.clone()) else {
            return Ok(());
        };
        self.look_for_guarded(&member)?;
        let known = self.egress.closed.len();
        self.egress.closed.retain(|closed| !owns(&member, *closed));
        let came_back = self.egress.closed.len() < known;
        if guards(&member).eq(guards(before)) && !came_back {
            return Ok(());
        }
        self.egress.grants.retain(|(owner, _), _| *owner != key);
        self.guard()?;
        let guarded: Vec<IpAddr> = guarded(&member).collect();
        match came_back || guarded.is_empty() {
            // What was let through before a kill was let through under the same policy.
            true => Ok(()),
            false => table::forget_connections(&guarded),
        }
    }

    /// A member is gone: others may get its addresses.
    pub fn unguard_member(&mut self, key: u64, member: &Member) {
        self.egress.grants.retain(|(owner, _), _| *owner != key);
        if guards(member).next().is_some() {
            let _ = self.guard();
        }
    }

    /// What a service before us left in the kernel, looked at when the first member comes.
    fn look_for_guarded(&mut self, member: &Member) -> Result<()> {
        if !self.egress.table.is_empty() || member.table.is_empty() {
            return Ok(());
        }
        let name = table::table_name(&member.table);
        self.egress.closed = table::guarded_addresses(&name)?;
        self.egress.table = name;
        if !self.egress.closed.is_empty() {
            self.egress.there = true;
            self.egress.settles_at = Some(Instant::now() + SETTLE);
        }
        Ok(())
    }

    /// Who has not come back is gone.
    pub fn settle_guard(&mut self) {
        if self.egress.settles_at.is_some_and(|at| at <= Instant::now()) {
            self.egress.settles_at = None;
            if !self.egress.closed.is_empty() {
                self.egress.closed.clear();
                let _ = self.guard();
            }
        }
    }

    /// The service ends: nobody is there who could be guarded.
    pub fn leave_guard(&mut self) {
        if self.egress.there {
            let _ = table::unguard(&self.egress.table);
        }
    }

    /// The table as it is to be.
    fn guard(&mut self) -> Result<()> {
        let mut guarded = Vec::new();
        for (key, connected) in &self.members {
            for (number, guard) in guards(&connected.member).enumerate() {
                guarded.push(Guarded {
                    name: format!("c{key}-{number}"),
                    addresses: guard.addresses.clone(),
                    bridge: guard.bridge.clone(),
                    policy: guard.policy.clone(),
                });
            }
        }
        if guarded.is_empty() && self.egress.closed.is_empty() {
            return self.take_guard_away();
        }
        let now = Instant::now();
        self.egress.grants.retain(|_, until| *until > now);
        let left = |until: &Instant| until.saturating_duration_since(now).as_secs().max(1) as u32;
        let grants = self.egress.grants.iter();
        let grants: Vec<_> = grants.map(|((_, grant), until)| (*grant, left(until))).collect();
        table::guard(&self.egress.table, &guarded, &self.egress.closed, &grants)?;
        self.egress.there = true;
        self.listen_to_the_kernel();
        Ok(())
    }

    fn take_guard_away(&mut self) -> Result<()> {
        if let Some((reports, token)) = self.egress.reports.take() {
            self.poller.remove(&reports, token);
        }
        if let Some((news, token)) = self.egress.news.take() {
            self.poller.remove(&news, token);
        }
        match std::mem::take(&mut self.egress.there) {
            true => table::unguard(&self.egress.table),
            false => Ok(()),
        }
    }

    /// Policies hold where it tells nothing, too.
    fn listen_to_the_kernel(&mut self) {
        if self.egress.reports.is_none()
            && let Ok(reports) = Reports::open(&self.egress.table)
            && let Ok(token) = self.poller.add(&reports, Source::Reports, false)
        {
            self.egress.reports = Some((reports, token));
        }
        if self.egress.news.is_none()
            && let Ok(news) = Socket::firewall_news()
            && let Ok(token) = self.poller.add(&news, Source::Firewall, false)
        {
            self.egress.news = Some((news, token));
        }
    }

    /// Somebody changed the firewall: what is missing of the table is put back.
    pub fn mend_guard(&mut self) {
        let Some((news, _)) = &self.egress.news else { return };
        let mut changed = false;
        let own = &self.egress.table;
        let heard = news.hear(|kind, body| changed |= concerns(kind, body, own));
        let whole = heard.unwrap_or(false);
        if whole && !changed {
            return;
        }
        let wanted: HashSet<IpAddr> = self
            .members
            .values()
            .flat_map(|c| guarded(&c.member))
            .chain(self.egress.closed.iter().copied())
            .collect();
        let there = table::guarded_addresses(&self.egress.table).unwrap_or_default();
        if !wanted.is_empty() && wanted != there.into_iter().collect() {
            let _ = self.guard();
        }
    }

    /// Whether a member's policy does not let it know a name.
    pub fn denies(&mut self, key: u64, query: &Query) -> bool {
        let Some(member) = self.members.get(&key).map(|c| &c.member) else {
            return true;
        };
        let free = member.places.iter().any(|place| place.guard.is_none());
        if free || guards(member).any(|guard| guard.policy.of_name(&query.name).next().is_some()) {
            return false;
        }
        let id = member.id.clone();
        self.tell_denied(&id, &[("destination", &query.name), ("protocol", "dns")]);
        true
    }

    /// What an answer leads to may be reached, as far as the policy says.
    pub fn grant(&mut self, key: u64, query: &Query, answer: &[u8]) -> Result<()> {
        let Some(member) = self.members.get(&key).map(|c| &c.member) else {
            return Ok(());
        };
        let now = Instant::now();
        let until = |seconds: u32| now + Duration::from_secs(seconds.into());
        let held = &self.egress.grants;
        let mut grants = granted(member, query, answer);
        grants.retain(|(grant, seconds)| held.get(&(key, *grant)).is_none_or(|at| *at + SLACK < until(*seconds)));
        if grants.is_empty() {
            return Ok(());
        }
        let known: Vec<Grant> = grants.iter().map(|(grant, _)| *grant).collect();
        let known: Vec<Grant> = known
            .into_iter()
            .filter(|grant| held.contains_key(&(key, *grant)))
            .collect();
        table::grant(&self.egress.table, &grants, &known)?;
        let grants = grants
            .into_iter()
            .map(|(grant, seconds)| ((key, grant), until(seconds)));
        self.egress.grants.extend(grants);
        Ok(())
    }

    /// The kernel tells of packets that went no further.
    pub fn hear_denied(&mut self) {
        let denied = self.egress.reports.as_ref().map(|(reports, _)| reports.take());
        for packet in denied.unwrap_or_default() {
            let owner = self.members.values().find(|c| owns(&c.member, packet.from));
            let Some(id) = owner.map(|c| c.member.id.clone()) else {
                continue;
            };
            let protocol = match packet.protocol {
                1 | 58 => "icmp".to_owned(),
                6 => "tcp".to_owned(),
                17 => "udp".to_owned(),
                132 => "sctp".to_owned(),
                other => other.to_string(),
            };
            let (to, port) = (packet.to.to_string(), packet.port.map(|p| p.to_string()));
            let mut told = vec![("destination", to.as_str()), ("protocol", protocol.as_str())];
            told.extend(port.as_deref().map(|port| ("port", port)));
            self.tell_denied(&id, &told);
        }
    }

    /// An event of the container's, unless the same was told just now.
    fn tell_denied(&mut self, id: &str, attributes: &[(&str, &str)]) {
        let now = Instant::now();
        let what = format!("{id} {attributes:?}");
        let told = &mut self.egress.told;
        if told.get(&what).is_some_and(|at| now.duration_since(*at) < QUIET) {
            return;
        }
        if told.len() >= REMEMBERED {
            told.clear();
        }
        told.insert(what, now);
        if let Ok(Some(record)) = read_json::<Record>(&self.roots.record(id)) {
            event::tell(
                &self.roots,
                &[event::of_container(&record, "egress_denied", attributes)],
            );
        }
    }
}

/// What an answer leads a member to that its policies let it reach, each once, with the seconds that it holds.
fn granted(member: &Member, query: &Query, answer: &[u8]) -> Vec<(Grant, u32)> {
    let mut grants: Vec<(Grant, u32)> = Vec::new();
    let found = || wire::addresses(answer).unwrap_or_default();
    for guard in guards(member) {
        for target in guard.policy.of_name(&query.name) {
            for (to, ttl) in found() {
                let Some(from) = guard.addresses.iter().find(|a| a.is_ipv6() == to.is_ipv6()) else {
                    continue;
                };
                let grant = |port| (Grant { from: *from, to, port }, ttl.clamp(SHORTEST, LONGEST));
                match &target.ports {
                    None => grants.push(grant(None)),
                    Some(ports) => {
                        let number = ports.protocol.number();
                        grants.extend(ports.range.clone().map(|port| grant(Some((number, port)))));
                    }
                }
            }
        }
    }
    grants.sort_by_key(|(grant, seconds)| (grant.from, grant.to, grant.port, std::cmp::Reverse(*seconds)));
    grants.dedup_by_key(|(grant, _)| *grant);
    grants
}
