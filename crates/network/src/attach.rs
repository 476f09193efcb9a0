//! A network namespace on a network: interfaces, addresses, routes in it, and the ports that lead to it.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use errdefs::{ErrnoStep, Error, Result, Step};
use linux::CLONE_NEWNET;

use crate::bridge::{self, Ports};
use crate::netlink::{Batch, Socket};
use crate::{Attachment, Driver, Published, link, neighbour};

#[allow(missing_docs)]
mod linux {
    pub const CLONE_NEWNET: u64 = 0x4000_0000;
}

/// Sockets that keep the host's own programs off the published ports, as long as they are there.
pub fn reserve(attachments: &[Attachment]) -> Result<Vec<OwnedFd>> {
    let mut reserved = Vec::new();
    for port in attachments.iter().flat_map(|a| &a.published) {
        reserved.extend(port.reserve()?);
    }
    Ok(reserved)
}

/// Attaches a namespace to networks. What was done before an error goes with the namespace, but for ports: the caller takes
/// those back with [`unpublish`].
pub fn attach(namespace: BorrowedFd<'_>, attachments: &[Attachment]) -> Result<()> {
    let mut outside = Batch::default();
    for attachment in attachments {
        interface(&mut outside, namespace, attachment)?;
    }
    Socket::route()?.run(outside).map_err(|e| name_module(e, attachments))?;
    within(namespace, || configure(attachments))??;
    publish(attachments)
}

/// Ports of attached networks lead to them.
pub fn publish(attachments: &[Attachment]) -> Result<()> {
    if attachments.iter().all(|a| a.published.is_empty()) {
        return Ok(());
    }
    let socket = Socket::netfilter()?;
    for attachment in attachments {
        let (table, ports) = (&attachment.network.table, ports(attachment));
        if !attachment.network.past_host_rules && !ports.is_empty() {
            neighbour::ask_about_more(&socket, table, &ports)?;
        }
        bridge::publish(&socket, table, &ports)?;
    }
    Ok(())
}

/// They do no more. The interfaces go with the namespace.
pub fn unpublish(attachments: &[Attachment]) -> Result<()> {
    if attachments.iter().all(|a| a.published.is_empty()) {
        return Ok(());
    }
    let socket = Socket::netfilter()?;
    attachments
        .iter()
        .try_for_each(|a| bridge::unpublish(&socket, &a.network.table, &ports(a)))
}

/// What an attachment publishes, and where it leads to.
pub fn ports(attachment: &Attachment) -> Ports {
    let to: Vec<_> = attachment.addresses.iter().map(|a| a.address).collect();
    let pair = |port: &Published| (port.clone(), to.clone());
    attachment.published.iter().map(pair).collect()
}

/// Takes an interface of a running namespace away.
pub fn detach(namespace: BorrowedFd<'_>, attachment: &Attachment) -> Result<()> {
    const ENODEV: i32 = 19;
    unpublish(std::slice::from_ref(attachment))?;
    let mut batch = Batch::default();
    link::delete(&mut batch, &attachment.interface);
    match within(namespace, Socket::route)??.run(batch) {
        Err(error) if error.errno() == Some(ENODEV) => Ok(()),
        other => other,
    }
}

/// Sets the default routes of a running namespace, after another interface came or went.
pub fn set_routes(namespace: BorrowedFd<'_>, attachments: &[Attachment]) -> Result<()> {
    let mut batch = Batch::default();
    let socket = within(namespace, || {
        for attachment in attachments {
            if let Some(index) = link::index(&attachment.interface) {
                routes(&mut batch, attachment, index);
            }
        }
        Socket::route()
    })??;
    socket.run(batch)
}

/// Runs something in another network namespace; sockets that are made there stay there.
pub fn within<T>(namespace: BorrowedFd<'_>, run: impl FnOnce() -> T) -> Result<T> {
    let own = File::open("/proc/thread-self/ns/net").step("open our own network namespace")?;
    sys::process::setns(namespace, CLONE_NEWNET).errno_step("enter the container's network namespace")?;
    let done = run();
    sys::process::setns(own.as_fd(), CLONE_NEWNET).errno_step("go back to our own network namespace")?;
    Ok(done)
}

/// The network namespace of a process.
pub fn namespace_of(pid: i32) -> Result<File> {
    File::open(format!("/proc/{pid}/ns/net")).step("open the container's network namespace")
}

fn interface(batch: &mut Batch, namespace: BorrowedFd<'_>, attachment: &Attachment) -> Result<()> {
    let network = &attachment.network;
    match &network.driver {
        Driver::Bridge { interface } => {
            let bridge =
                link::index(interface).ok_or_else(|| Error::system(format!("the bridge {interface} is not there")))?;
            link::add_veth(
                batch,
                &link::Veth {
                    outer: &outer_name()?,
                    bridge,
                    isolated: !network.open,
                    inner: &attachment.interface,
                    mac: attachment.mac,
                    mtu: network.mtu,
                    namespace,
                },
            );
        }
        Driver::Macvlan { parent, mode } => {
            const MODES: &[(&str, u32)] = &[("private", 1), ("vepa", 2), ("bridge", 4), ("passthru", 8)];
            let mode = MODES.iter().find(|(name, _)| name == mode).map_or(4, |(_, mode)| *mode);
            lower(
                batch,
                namespace,
                attachment,
                ("macvlan", parent),
                (1, mode.to_ne_bytes().into()),
            )?;
        }
        // Its program makes the interface.
        Driver::Pasta => {}
        Driver::Ipvlan { parent, mode } => {
            const MODES: &[(&str, u16)] = &[("l2", 0), ("l3", 1), ("l3s", 2)];
            let mode = MODES.iter().find(|(name, _)| name == mode).map_or(0, |(_, mode)| *mode);
            lower(
                batch,
                namespace,
                attachment,
                ("ipvlan", parent),
                (1, mode.to_ne_bytes().into()),
            )?;
        }
    }
    Ok(())
}

fn lower(
    batch: &mut Batch,
    namespace: BorrowedFd<'_>,
    attachment: &Attachment,
    (kind, parent): (&str, &str),
    mode: (u16, Vec<u8>),
) -> Result<()> {
    let below = link::index(parent).ok_or_else(|| Error::invalid(format!("the host has no interface {parent}")))?;
    link::add_lower(
        batch,
        &link::Lower {
            kind,
            parent: below,
            mode,
            inner: &attachment.interface,
            mac: (kind == "macvlan").then_some(attachment.mac),
            namespace,
        },
    );
    Ok(())
}

/// A kernel without a kind of interface has it in a module, which distributions have in their kernel package.
fn name_module(error: Error, attachments: &[Attachment]) -> Error {
    const EOPNOTSUPP: i32 = 95;
    if error.errno() != Some(EOPNOTSUPP) {
        return error;
    }
    let kind = |a: &Attachment| match a.network.driver {
        Driver::Bridge { .. } => "veth",
        Driver::Macvlan { .. } => "macvlan",
        Driver::Ipvlan { .. } => "ipvlan",
        Driver::Pasta => "tun",
    };
    let said = error.to_string();
    match attachments.iter().map(kind).find(|k| *k == "veth" || said.contains(k)) {
        Some(kind) => error.hint(format!(
            "this kernel has no {kind}: its module is called {kind}, and is part of the distribution's kernel package"
        )),
        None => error,
    }
}

/// Inside. The kernel chose the interfaces' numbers: one that is free in the namespace now may have been another's before,
/// and modules of tunnels put interfaces of their own into new namespaces.
fn configure(attachments: &[Attachment]) -> Result<()> {
    let mut batch = Batch::default();
    for attachment in attachments {
        let gone = || Error::system(format!("the container's interface {} went away", attachment.interface));
        let index = link::index(&attachment.interface).ok_or_else(gone)?;
        for (path, value) in &attachment.sysctls {
            link::set_kernel(path, value)?;
        }
        link::set_up(&mut batch, &attachment.interface, attachment.network.has_ipv6());
        for address in attachment.addresses.iter().chain(&attachment.link_local) {
            link::add_address(&mut batch, index, *address);
        }
        routes(&mut batch, attachment, index);
    }
    Socket::route()?.run(batch)
}

fn routes(batch: &mut Batch, attachment: &Attachment, index: u32) {
    let network = &attachment.network;
    let on_link = matches!(&network.driver, Driver::Ipvlan { mode, .. } if mode != "l2");
    for address in &attachment.addresses {
        let ipv6 = address.address.is_ipv6();
        let wanted = if ipv6 {
            attachment.default_route.1
        } else {
            attachment.default_route.0
        };
        let gateway = network
            .gateways
            .iter()
            .find(|g| g.address.is_ipv6() == ipv6)
            .map(|g| g.address);
        if wanted && !network.internal && (on_link || gateway.is_some()) {
            link::add_default_route(batch, index, address.address, gateway.filter(|_| !on_link));
        }
    }
}

/// For the end that stays with the bridge; another for every run, since that of the last one may still be about to go.
fn outer_name() -> Result<String> {
    let mut random = [0u8; 5];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).errno_step("draw a name")?;
    let digits: String = random.iter().map(|b| format!("{b:02x}")).collect();
    Ok(format!("veth{digits}"))
}
