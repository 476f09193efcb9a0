//! Egress policies: where they are written down, and how they change while containers run.
//!
//! A container's is an annotation, a network's an option, both under one name: Docker's body has no field for it, and its
//! clients can give both. A container's own takes the place of its networks'. It is no label: those come with images, too.

use std::collections::HashMap;

use bollard_stubs::models::{ContainerCreateBody, HostConfig};
use errdefs::{Error, Kind, Result};
use network::egress::Policy;

use super::endpoint::{Endpoint, mode, networked};
use super::{HOST, Row};
use crate::container::Record;
use crate::link::{Amendment, Request};
use crate::{Engine, event, names};

/// Of a container's annotations, and of a network's options.
pub const EGRESS: &str = "berth.egress";

/// What a container may reach outside, if it has a policy of its own.
pub fn of_container(host: &HostConfig) -> Result<Option<Policy>> {
    read(host.annotations.as_ref())
}

/// What containers of a network may reach that have none.
pub fn of_network(row: &Row) -> Result<Option<Policy>> {
    read(Some(&row.options))
}

fn read(from: Option<&HashMap<String, String>>) -> Result<Option<Policy>> {
    let text = from.and_then(|map| map.get(EGRESS)).filter(|text| !text.is_empty());
    text.map(|text| text.parse()).transpose()
}

/// A policy that nobody could hold a container to is refused.
pub(crate) fn check(body: &ContainerCreateBody, endpoints: &[Endpoint]) -> Result<()> {
    let Some(host) = &body.host_config else {
        return Ok(());
    };
    let mode = mode(body);
    if of_container(host)?.is_some() && !networked(mode) && mode != super::NONE {
        return Err(Error::invalid(format!(
            "conflicting options: an egress policy and the network mode {mode}"
        )));
    }
    endpoints.iter().try_for_each(|e| check_driver(host, &e.row))
}

/// Only what this host routes can be held back here.
pub(crate) fn check_driver(host: &HostConfig, row: &Row) -> Result<()> {
    match of_container(host)?.is_some() && row.driver != "bridge" {
        true => Err(Error::not_yet(format_args!(
            "an egress policy on the network {} of the driver {}",
            row.name, row.driver
        ))),
        false => Ok(()),
    }
}

impl Engine {
    /// Gives a container another policy, at once if it runs. Empty: none of its own.
    pub fn set_container_egress(&self, name: &str, text: &str) -> Result<()> {
        let record = self.record(name)?;
        let mut changed = record.clone();
        let amendment = Amendment::Egress(text.into());
        amendment.apply(&mut changed);
        check(&changed.body, &self.endpoints(&record.id)?)?;
        self.amend(&record.id, amendment)?;
        self.point_to_names(&record, &changed)?;
        self.tell_of(&changed, "update", &[]);
        Ok(())
    }

    /// Gives a network another policy, and at once all containers on it that have none of their own. Empty: none.
    pub fn set_network_egress(&self, name: &str, text: &str) -> Result<()> {
        let mut row = self.network(name)?;
        match text {
            "" => _ = row.options.remove(EGRESS),
            text => _ = row.options.insert(EGRESS.into(), text.into()),
        }
        let policy = of_network(&row)?;
        if row.driver != "bridge" {
            let what = if row.name == HOST { HOST } else { &row.driver };
            let message = format!("an egress policy on a network of the driver {what} is not supported");
            return Err(Error::new(Kind::Forbidden, message));
        }
        self.update_network(&row)?;
        for (_, id) in self.running_users(&row)? {
            let record = self.read_record(&id)?;
            let request = Request::Egress {
                network: row.id.clone(),
                policy: policy.clone(),
            };
            self.tell(&id, &request)?;
            self.point_to_names(&record, &record)?;
        }
        let told = [("name", row.name.as_str()), ("type", row.driver.as_str())];
        self.tell_event(event::Type::NETWORK, "update", &row.id, &told);
        Ok(())
    }

    /// A container that is told of names by the host's resolvers has to ask the name service once it has a policy.
    fn point_to_names(&self, before: &Record, after: &Record) -> Result<()> {
        let Some(live) = self.alive(&after.id)? else {
            return Ok(());
        };
        let file = self.roots.container(&after.id).join("resolv.conf");
        let points = std::fs::read_to_string(file).is_ok_and(|t| t.contains(&network::resolver::ADDRESS.to_string()));
        match names::serves(after, &live.networks) && !points {
            true => self.rewrite_names(before),
            false => Ok(()),
        }
    }
}
