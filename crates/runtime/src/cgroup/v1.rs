//! Limits in version 1 (Documentation/admin-guide/cgroup-v1/).

use std::path::Path;
use std::time::{Duration, Instant};

use errdefs::{Error, Result, Step};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};

use super::host::{Hierarchy, Host};
use super::{devices, missing, write};

/// The hierarchies that these limits need and version 2 does not serve. Without version 2 there is always one, so that
/// the container can be frozen and killed as a whole; `everywhere`: all with controllers.
pub fn needed<'a>(resources: &LinuxResources, host: &'a Host, everywhere: bool) -> Result<Vec<&'a Hierarchy>> {
    let cpu = resources.cpu().as_ref();
    let network = resources.network().as_ref();
    let wanted = [
        ("memory", resources.memory().is_some()),
        ("cpu", cpu.is_some_and(wants_cpu)),
        ("cpuset", cpu.is_some_and(|c| c.cpus().is_some() || c.mems().is_some())),
        ("pids", resources.pids().is_some()),
        ("blkio", throttled(resources)),
        ("hugetlb", resources.hugepage_limits().is_some()),
        ("rdma", resources.rdma().is_some()),
        ("net_cls", network.is_some_and(|n| n.class_id().is_some())),
        ("net_prio", network.is_some_and(|n| n.priorities().is_some())),
        // Version 2 has programs for them: no process needs to be moved.
        (
            "devices",
            host.v2.is_none() && !devices::complete(resources.devices().as_deref()).is_empty(),
        ),
        ("freezer", host.v2.is_none()),
    ];
    let served = |name: &str| host.in_v2(name) || (name == "blkio" && host.in_v2("io"));
    // Named ones are other programs' own.
    let limiting = |h: &&Hierarchy| everywhere && !h.controllers.iter().any(|c| c.starts_with("name="));
    let mut list: Vec<&Hierarchy> = host.v1.iter().filter(limiting).collect();
    for (controller, _) in wanted.into_iter().filter(|(name, wanted)| *wanted && !served(name)) {
        let hierarchy = host.find(controller);
        missing(controller, hierarchy)?;
        list.extend(hierarchy.filter(|h| !list.contains(h)));
    }
    Ok(list)
}

/// Whether single devices are limited. A weight alone is worth no move into another hierarchy.
fn throttled(resources: &LinuxResources) -> bool {
    resources.block_io().as_ref().is_some_and(|block| {
        let throttles = [
            block.throttle_read_bps_device(),
            block.throttle_write_bps_device(),
            block.throttle_read_iops_device(),
            block.throttle_write_iops_device(),
        ];
        throttles
            .iter()
            .any(|list| list.as_ref().is_some_and(|l| !l.is_empty()))
            || block.weight_device().as_ref().is_some_and(|l| !l.is_empty())
    })
}

fn wants_cpu(cpu: &LinuxCpu) -> bool {
    let numbers = [cpu.shares(), cpu.period(), cpu.burst(), cpu.realtime_period()];
    let signed = [cpu.quota(), cpu.idle(), cpu.realtime_runtime()];
    numbers.iter().any(Option::is_some) || signed.iter().any(Option::is_some)
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
            "blkio" => resources
                .block_io()
                .as_ref()
                .map_or(Ok(()), |block| block_io(dir, block))?,
            "hugetlb" | "rdma" | "net_cls" | "net_prio" => others(controller, dir, resources)?,
            // Beside version 2 its program decides, also after changes.
            "devices" if Host::get()?.v2.is_none() => {
                restrict_devices(dir, &devices::complete(resources.devices().as_deref()))?
            }
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
    // Without a limit there is none of swap either, unless one is said. Kernels may be built, or booted, without accounting
    // of swap.
    let unlimited = (memory.limit() == Some(-1)).then_some(-1);
    let swap = memory
        .swap()
        .or(unlimited)
        .filter(|_| swap_file.exists())
        .map(|n| n.to_string());
    // The second limit may never be below the first: which one goes first depends on what is there.
    let raised = swap.as_ref().is_some_and(|swap| write(&swap_file, swap).is_ok());
    if let Some(limit) = &limit {
        write(&limit_file, limit)?;
    }
    if let Some(swap) = swap.filter(|_| !raised) {
        write(&swap_file, &swap)?;
    }
    if let Some(reservation) = memory.reservation() {
        write(&dir.join("memory.soft_limit_in_bytes"), &reservation.to_string())?;
    }
    if let Some(swappiness) = memory.swappiness() {
        write(&dir.join("memory.swappiness"), &swappiness.to_string())?;
    }
    match memory.disable_oom_killer() {
        Some(true) => write(&dir.join("memory.oom_control"), "1"),
        _ => Ok(()),
    }
}

fn cpu(dir: &Path, resources: &LinuxResources) -> Result<()> {
    let Some(cpu) = resources.cpu() else { return Ok(()) };
    let file = |name: &str| dir.join(name);
    if let Some(period) = cpu.realtime_period() {
        write(&file("cpu.rt_period_us"), &period.to_string())?;
    }
    if let Some(runtime) = cpu.realtime_runtime() {
        write(&file("cpu.rt_runtime_us"), &runtime.to_string())?;
    }
    if let Some(idle) = cpu.idle() {
        write(&file("cpu.idle"), &idle.to_string())?;
    }
    // An idle group has no weight.
    if let Some(shares) = cpu.shares().filter(|_| cpu.idle() != Some(1)) {
        write(&file("cpu.shares"), &shares.to_string())?;
    }
    // Each of the three must fit the others at every moment: what does not fit yet is tried again at the end.
    let wanted = [
        ("cpu.cfs_period_us", cpu.period().map(|n| n.to_string())),
        ("cpu.cfs_quota_us", cpu.quota().map(|n| n.to_string())),
        ("cpu.cfs_burst_us", cpu.burst().map(|n| n.to_string())),
    ];
    let refused: Vec<_> = wanted
        .into_iter()
        .filter_map(|(name, value)| Some((file(name), value?)))
        .filter(|(file, value)| write(file, value).is_err())
        .collect();
    refused.iter().try_for_each(|(file, value)| write(file, value))
}

fn block_io(dir: &Path, block: &LinuxBlockIo) -> Result<()> {
    // Some kernels have the files of one scheduler alone.
    let known = |names: [&str; 2]| {
        let found = names.iter().map(|name| dir.join(name)).find(|file| file.exists());
        found.unwrap_or_else(|| dir.join(names[0]))
    };
    let weight = known(["blkio.weight", "blkio.bfq.weight"]);
    // Weights belong to schedulers, which a kernel may have or not.
    if let Some(number) = block.weight().filter(|w| *w != 0 && weight.exists()) {
        write(&weight, &number.to_string())?;
    }
    let leaf = dir.join("blkio.leaf_weight");
    if let Some(number) = block.leaf_weight().filter(|w| *w != 0 && leaf.exists()) {
        write(&leaf, &number.to_string())?;
    }
    for device in block.weight_device().iter().flatten() {
        let line = |number: u16| format!("{}:{} {number}", device.major(), device.minor());
        let file = known(["blkio.weight_device", "blkio.bfq.weight_device"]);
        if let Some(number) = device.weight().filter(|_| file.exists()) {
            write(&file, &line(number))?;
        }
        let file = dir.join("blkio.leaf_weight_device");
        if let Some(number) = device.leaf_weight().filter(|_| file.exists()) {
            write(&file, &line(number))?;
        }
    }
    let throttles = [
        ("read_bps", block.throttle_read_bps_device()),
        ("write_bps", block.throttle_write_bps_device()),
        ("read_iops", block.throttle_read_iops_device()),
        ("write_iops", block.throttle_write_iops_device()),
    ];
    for (word, devices) in throttles {
        for device in devices.iter().flatten() {
            let line = format!("{}:{} {}", device.major(), device.minor(), device.rate());
            write(&dir.join(format!("blkio.throttle.{word}_device")), &line)?;
        }
    }
    Ok(())
}

fn others(controller: &str, dir: &Path, resources: &LinuxResources) -> Result<()> {
    let network = resources.network().as_ref();
    match controller {
        "hugetlb" => resources.hugepage_limits().iter().flatten().try_for_each(|page| {
            let file = dir.join(format!("hugetlb.{}.limit_in_bytes", page.page_size()));
            write(&file, &page.limit().to_string())
        }),
        "rdma" => resources
            .rdma()
            .iter()
            .flatten()
            .try_for_each(|(device, rdma)| write(&dir.join("rdma.max"), &super::rdma_line(device, rdma))),
        "net_cls" => match network.and_then(|n| n.class_id()) {
            Some(id) => write(&dir.join("net_cls.classid"), &id.to_string()),
            None => Ok(()),
        },
        _ => network
            .iter()
            .flat_map(|n| n.priorities().iter().flatten())
            .try_for_each(|p| {
                let line = format!("{} {}", p.name(), p.priority());
                write(&dir.join("net_prio.ifpriomap"), &line)
            }),
    }
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
        // Other letters mean nothing; version 1 would refuse them.
        let asked = rule.access().as_deref().unwrap_or("rwm");
        let access: String = asked.chars().filter(|letter| "rwm".contains(*letter)).collect();
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
