//! Limits in version 1 (Documentation/admin-guide/cgroup-v1/).

use std::path::Path;
use std::time::{Duration, Instant};

use errdefs::{Error, Result, Step};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};

use super::host::{Hierarchy, Host};
use super::{devices, missing, write};

/// The hierarchies that these limits need and version 2 does not serve. Without version 2 there is always one, so that
/// the container can be frozen and killed as a whole.
pub fn needed<'a>(resources: &LinuxResources, host: &'a Host) -> Result<Vec<&'a Hierarchy>> {
    let cpu = resources.cpu().as_ref();
    let realtime = |c: &oci_spec::runtime::LinuxCpu| c.realtime_runtime().is_some() || c.realtime_period().is_some();
    let wanted = [
        ("memory", resources.memory().is_some()),
        (
            "cpu",
            cpu.is_some_and(|c| c.shares().is_some() || c.quota().is_some() || c.period().is_some() || realtime(c)),
        ),
        ("blkio", throttled(resources) && !host.in_v2("io")),
        ("cpuset", cpu.is_some_and(|c| c.cpus().is_some() || c.mems().is_some())),
        ("pids", resources.pids().is_some()),
        // Version 2 has programs for them: no process needs to be moved.
        (
            "devices",
            host.v2.is_none() && !devices::complete(resources.devices().as_deref()).is_empty(),
        ),
        ("freezer", host.v2.is_none()),
    ];
    let mut list: Vec<&Hierarchy> = Vec::new();
    for (controller, _) in wanted.into_iter().filter(|(name, wanted)| *wanted && !host.in_v2(name)) {
        let hierarchy = host.find(controller);
        missing(controller, hierarchy)?;
        list.extend(hierarchy.filter(|h| !list.contains(h)));
    }
    Ok(list)
}

/// Writes the limits of one hierarchy.
pub fn apply(hierarchy: &Hierarchy, dir: &Path, resources: &LinuxResources) -> Result<()> {
    for controller in &hierarchy.controllers {
        match controller.as_str() {
            "memory" => memory(dir, resources)?,
            "cpu" => cpu(dir, resources)?,
            "cpuset" => cpuset(&hierarchy.mount, dir, resources)?,
            "pids" => {
                if let Some(pids) = resources.pids() {
                    let limit = if pids.limit() <= 0 {
                        "max".into()
                    } else {
                        pids.limit().to_string()
                    };
                    write(&dir.join("pids.max"), &limit)?;
                }
            }
            "blkio" => block_io(dir, resources)?,
            "devices" => restrict_devices(dir, &devices::complete(resources.devices().as_deref()))?,
            _ => {}
        }
    }
    Ok(())
}

fn memory(dir: &Path, resources: &LinuxResources) -> Result<()> {
    let Some(memory) = resources.memory() else {
        return Ok(());
    };
    let (limit_file, swap_file) = (
        dir.join("memory.limit_in_bytes"),
        dir.join("memory.memsw.limit_in_bytes"),
    );
    let limit = memory.limit().map(|n| n.to_string());
    // Kernels may be built, or booted, without accounting of swap.
    let swap = memory.swap().filter(|_| swap_file.exists()).map(|n| n.to_string());
    // The second limit may never be below the first: which one goes first depends on what is there.
    let raised = swap.as_ref().is_some_and(|swap| write(&swap_file, swap).is_ok());
    if let Some(limit) = &limit {
        write(&limit_file, limit)?;
    }
    if let Some(swap) = swap.filter(|_| !raised) {
        write(&swap_file, &swap)?;
    }
    if let Some(swappiness) = memory.swappiness() {
        write(&dir.join("memory.swappiness"), &swappiness.to_string())?;
    }
    if memory.disable_oom_killer() == Some(true) {
        write(&dir.join("memory.oom_control"), "1")?;
    }
    match memory.reservation() {
        Some(reservation) => write(&dir.join("memory.soft_limit_in_bytes"), &reservation.to_string()),
        None => Ok(()),
    }
}

fn cpu(dir: &Path, resources: &LinuxResources) -> Result<()> {
    let Some(cpu) = resources.cpu() else { return Ok(()) };
    if let Some(shares) = cpu.shares() {
        write(&dir.join("cpu.shares"), &shares.to_string())?;
    }
    if let Some(period) = cpu.period() {
        write(&dir.join("cpu.cfs_period_us"), &period.to_string())?;
    }
    if let Some(period) = cpu.realtime_period() {
        write(&dir.join("cpu.rt_period_us"), &period.to_string())?;
    }
    if let Some(runtime) = cpu.realtime_runtime() {
        write(&dir.join("cpu.rt_runtime_us"), &runtime.to_string())?;
    }
    match cpu.quota() {
        Some(quota) => write(&dir.join("cpu.cfs_quota_us"), &quota.to_string()),
        None => Ok(()),
    }
}

/// Whether single devices are limited. A weight alone is worth no move into another hierarchy.
fn throttled(resources: &LinuxResources) -> bool {
    resources.block_io().as_ref().is_some_and(|block| {
        [
            block.throttle_read_bps_device(),
            block.throttle_write_bps_device(),
            block.throttle_read_iops_device(),
            block.throttle_write_iops_device(),
        ]
        .iter()
        .any(|list| list.as_ref().is_some_and(|l| !l.is_empty()))
            || block.weight_device().as_ref().is_some_and(|l| !l.is_empty())
    })
}

fn block_io(dir: &Path, resources: &LinuxResources) -> Result<()> {
    let Some(block) = resources.block_io() else {
        return Ok(());
    };
    for (file, list) in [
        ("blkio.throttle.read_bps_device", block.throttle_read_bps_device()),
        ("blkio.throttle.write_bps_device", block.throttle_write_bps_device()),
        ("blkio.throttle.read_iops_device", block.throttle_read_iops_device()),
        ("blkio.throttle.write_iops_device", block.throttle_write_iops_device()),
    ] {
        for limit in list.iter().flatten() {
            write(
                &dir.join(file),
                &format!("{}:{} {}", limit.major(), limit.minor(), limit.rate()),
            )?;
        }
    }
    // Weights belong to schedulers, which a kernel may have or not.
    let weights = ["blkio.weight_device", "blkio.bfq.weight_device"].map(|name| dir.join(name));
    let Some(file) = weights.iter().find(|file| file.exists()) else {
        return Ok(());
    };
    for weight in block.weight_device().iter().flatten() {
        let value = weight.weight().unwrap_or(0);
        write(file, &format!("{}:{} {value}", weight.major(), weight.minor()))?;
    }
    Ok(())
}

/// A new cpuset is empty, and no process may enter it: it starts as a copy of its parent.
fn cpuset(mount: &Path, dir: &Path, resources: &LinuxResources) -> Result<()> {
    let mut parents: Vec<&Path> = dir
        .ancestors()
        .take_while(|p| p.starts_with(mount) && *p != mount)
        .collect();
    parents.reverse();
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let mut inherited = std::fs::read_to_string(mount.join(file)).step("read the host's cpuset")?;
        for dir in &parents {
            let own = std::fs::read_to_string(dir.join(file)).step("read a cpuset")?;
            match own.trim().is_empty() {
                true => write(&dir.join(file), inherited.trim())?,
                false => inherited = own,
            }
        }
    }
    let Some(cpu) = resources.cpu() else { return Ok(()) };
    if let Some(cpus) = cpu.cpus() {
        write(&dir.join("cpuset.cpus"), cpus)?;
    }
    match cpu.mems() {
        Some(mems) => write(&dir.join("cpuset.mems"), mems),
        None => Ok(()),
    }
}

fn restrict_devices(dir: &Path, rules: &[LinuxDeviceCgroup]) -> Result<()> {
    for rule in rules {
        let number = |n: Option<i64>| n.filter(|n| *n >= 0).map_or("*".to_owned(), |n| n.to_string());
        let kind = match rule.typ() {
            Some(LinuxDeviceType::B) => "b",
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => "c",
            _ => "a",
        };
        let access = rule.access().as_deref().unwrap_or("rwm");
        let line = format!("{kind} {}:{} {access}", number(rule.major()), number(rule.minor()));
        write(
            &dir.join(if rule.allow() { "devices.allow" } else { "devices.deny" }),
            &line,
        )?;
    }
    Ok(())
}

/// Freezes or thaws, and waits until it is so.
pub fn freeze(dir: &Path, frozen: bool) -> Result<()> {
    let wanted = if frozen { "FROZEN" } else { "THAWED" };
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        write(&dir.join("freezer.state"), wanted)?;
        if std::fs::read_to_string(dir.join("freezer.state"))
            .step("read the state of the freezer")?
            .trim()
            == wanted
        {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(Error::system("the container does not freeze"))
}
