//! The container's networks: attached before its command runs, changed while it runs, given back at its end.

use std::os::fd::AsFd;
use std::path::Path;

use engine::Engine;
use engine::container::{LiveStatus, Record};
use engine::network::egress;
use errdefs::{ErrnoStep, Error, Result};
use network::egress::Policy;
use network::pasta::{self, Carrier};
use network::{Attachment, attach as wire};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::event_loop::Monitor;

/// Attaches the namespace of a process that does not execute its command yet.
/// Without root there is somebody who carries the network.
pub fn attach(pid: i32, networks: &[Attachment], live: &Path) -> Result<Option<Carrier>> {
    if let Some(carried) = pasta::of(networks) {
        return pasta::attach(pid, carried, live).map(Some);
    }
    let namespace = wire::namespace_of(pid)?;
    wire::attach(namespace.as_fd(), networks)?;
    Ok(None)
}

/// So many descriptors more than a process usually has. The container's own limit is said in its document.
fn allow_descriptors(more: u64) -> Result<()> {
    const USUAL: u64 = 512;
    let limit = getrlimit(Resource::Nofile);
    let wanted = more + USUAL;
    if limit.current.is_none_or(|now| now >= wanted) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum: limit.maximum.map(|most| most.max(wanted)),
    };
    setrlimit(Resource::Nofile, raised).errno_step("allow a descriptor for every published port")
}

impl Monitor {
    /// Keeps the host's own programs off the published ports, from before the first run until the end.
    pub fn reserve_ports(&mut self) -> Result<()> {
        if self.reserved.is_empty() {
            let refused = |e: Error| {
                let words = "failed to set up container networking: driver failed programming external connectivity on endpoint";
                Error::caused(format!("{words} {} ({})", self.record.name, self.record.id), e)
            };
            let count: u64 = self
                .networks
                .iter()
                .flat_map(|a| &a.published)
                .map(|p| u64::from(p.count))
                .sum();
            allow_descriptors(count)?;
            self.reserved = match pasta::of(&self.networks) {
                None => wire::reserve(&self.networks).map_err(refused)?,
                // pasta is to bind them itself.
                Some(carried) => {
                    let looked = carried.published.iter().try_for_each(|port| port.look());
                    looked.map_err(refused).map(|()| Vec::new())?
                }
            };
        }
        Ok(())
    }

    /// One network more, while the container runs.
    pub fn connect(&mut self, attachment: Attachment) -> Result<()> {
        let Some(run) = &self.run else {
            return Err(Error::conflict("the container does not run"));
        };
        let namespace = wire::namespace_of(run.created.pid)?;
        wire::attach(namespace.as_fd(), std::slice::from_ref(&attachment))
            .inspect_err(|_| _ = wire::detach(namespace.as_fd(), &attachment))?;
        self.networks.push(attachment);
        self.update_names()?;
        self.tell_state(self.status())
    }

    /// A network of its has another egress policy.
    pub fn change_egress(&mut self, network: &str, policy: Option<Policy>) -> Result<()> {
        let of_network = |a: &&mut Attachment| a.network.id == network;
        if let Some(attachment) = self.networks.iter_mut().find(of_network) {
            attachment.network_egress = policy;
        }
        let record = self.record.clone();
        self.apply_egress(&record)
    }

    /// Holds the container to what its record and its networks say. On error it is held to what held before.
    pub fn apply_egress(&mut self, record: &Record) -> Result<()> {
        let own = egress::of_container(record.host())?;
        let before = self.networks.clone();
        for attachment in &mut self.networks {
            attachment.egress = own.clone().or(attachment.network_egress.clone());
        }
        if let Err(error) = self.update_names() {
            self.networks = before;
            return Err(error);
        }
        self.tell_state(self.status())
    }

    /// A network less.
    pub fn disconnect(&mut self, network: &str) -> Result<()> {
        let Some(index) = self.networks.iter().position(|a| a.network.id == network) else {
            return Ok(());
        };
        let attachment = self.networks.remove(index);
        if let Some(run) = &self.run {
            let namespace = wire::namespace_of(run.created.pid)?;
            wire::detach(namespace.as_fd(), &attachment)?;
            self.choose_routes_again(&attachment);
            wire::set_routes(namespace.as_fd(), &self.networks)?;
            self.update_names()?;
        }
        self.tell_state(self.status())
    }

    /// The ways that went by a network that is gone go by another one.
    fn choose_routes_again(&mut self, gone: &Attachment) {
        let fits = |a: &&mut Attachment, ipv6: bool| a.address(ipv6).is_some() && !a.network.internal;
        if gone.default_route.0
            && let Some(next) = self.networks.iter_mut().find(|a| fits(a, false))
        {
            next.default_route.0 = true;
        }
        if gone.default_route.1
            && let Some(next) = self.networks.iter_mut().find(|a| fits(a, true))
        {
            next.default_route.1 = true;
        }
    }

    fn status(&self) -> LiveStatus {
        match (&self.run, self.paused) {
            (None, _) => LiveStatus::Restarting,
            (Some(_), true) => LiveStatus::Paused,
            (Some(_), false) => LiveStatus::Running,
        }
    }

    /// Published ports lead nowhere any more, and others may have them.
    pub fn unpublish(&mut self) -> Result<()> {
        self.reserved.clear();
        if pasta::of(&self.networks).is_some() {
            self.carrier = None;
            return Ok(());
        }
        wire::unpublish(&self.networks)
    }

    /// When nobody waits: addresses and ports are free, which they count for already.
    pub fn release_networks(&mut self) -> Result<()> {
        if self.networks.is_empty() {
            return Ok(());
        }
        Engine::open(self.roots.clone())?.release_endpoints(&self.networks)
    }
}
