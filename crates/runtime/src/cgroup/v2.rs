//! Limits in version 2 (Documentation/admin-guide/cgroup-v2.rst).

use std::path::Path;
use std::time::{Duration, Instant};

use errdefs::{Error, Result, Step};
use oci_spec::runtime::{LinuxBlockIo, LinuxResources};

use super::host::Host;
use super::write;

/// Writes the limits whose controllers version 2 has here.
pub fn apply(root: &Path, dir: &Path, resources: &LinuxResources, host: &Host) -> Result<()> {
    let settings = settings(dir, resources);
    let ours: Vec<_> = settings.iter().filter(|s| host.in_v2(s.controller)).collect();
    let unified = resources.unified().iter().flatten();
    let named = unified.clone().filter_map(|(file, _)| file.split('.').next());
    let mut controllers: Vec<&str> = ours.iter().map(|s| s.controller).collect();
    controllers.extend(named.filter(|name| host.in_v2(name)));
    controllers.sort_unstable();
    controllers.dedup();
    if !controllers.is_empty() {
        refuse_unknown(resources)?;
        enable(root, dir, &controllers)?;
    }
    if ours.iter().any(|s| s.controller == "memory") {
        check_memory(dir, resources)?;
    }
    for setting in ours {
        let file = dir.join(&setting.file);
        // Kernels may be built without accounting of swap.
        if setting.optional && !file.exists() {
            continue;
        }
        write(&file, &setting.value)?;
    }
    for (file, value) in unified {
        write_unified(dir, file, value)?;
    }
    Ok(())
}

/// The same limits in systemd's words, as far as it has any.
pub fn properties(dir: &Path, resources: &LinuxResources) -> Vec<(&'static str, super::dbus::Value)> {
    let own = settings(dir, resources).into_iter().map(|s| (s.file, s.value));
    let named = resources
        .unified()
        .iter()
        .flatten()
        .map(|(f, v)| (f.clone(), v.clone()));
    own.chain(named)
        .flat_map(|(file, value)| super::systemd::property(&file, &value))
        .collect()
}

/// A file by its own name (`linux.resources.unified`); many values may be in it, a line each.
fn write_unified(dir: &Path, file: &str, value: &str) -> Result<()> {
    let bad = |why: &str| {
        Err(Error::invalid(format!(
            "invalid configuration: linux.resources.unified: {file:?} {why}"
        )))
    };
    if file.contains('/') || !file.contains('.') {
        return bad("is no name of a cgroup file");
    }
    let path = dir.join(file);
    if !path.exists() {
        return bad("is not there: this host's cgroup version 2 has no such file or controller");
    }
    value
        .lines()
        .filter(|line| !line.is_empty())
        .try_for_each(|line| write(&path, line))
}

/// What version 1 alone has.
fn refuse_unknown(resources: &LinuxResources) -> Result<()> {
    let memory = resources.memory().unwrap_or_default();
    let cpu = resources.cpu().clone().unwrap_or_default();
    let leaf = |b: &LinuxBlockIo| {
        let devices = b.weight_device().iter().flatten();
        b.leaf_weight().is_some_and(|w| w != 0) || devices.clone().any(|d| d.leaf_weight().is_some_and(|w| w != 0))
    };
    let asked = [
        ("memory.swappiness", memory.swappiness().is_some()),
        ("memory.disableOOMKiller", memory.disable_oom_killer() == Some(true)),
        ("cpu.realtimeRuntime", cpu.realtime_runtime().is_some_and(|n| n != 0)),
        ("cpu.realtimePeriod", cpu.realtime_period().is_some_and(|n| n != 0)),
        ("blockIO.leafWeight", resources.block_io().as_ref().is_some_and(leaf)),
        (
            "network",
            resources.network().as_ref().is_some_and(|n| {
                n.class_id().is_some_and(|id| id != 0) || n.priorities().as_ref().is_some_and(|p| !p.is_empty())
            }),
        ),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        Some((what, _)) => Err(Error::invalid(format!(
            "linux.resources.{what}: cgroup version 2 has no such limit"
        ))),
        None => Ok(()),
    }
}

/// `checkBeforeUpdate`: a limit below what is used would kill.
fn check_memory(dir: &Path, resources: &LinuxResources) -> Result<()> {
    let memory = resources.memory().unwrap_or_default();
    let Some(limit) = memory
        .limit()
        .filter(|n| *n > 0 && memory.check_before_update() == Some(true))
    else {
        return Ok(());
    };
    let used = std::fs::read_to_string(dir.join("memory.current")).unwrap_or_default();
    match used.trim().parse::<i64>() {
        Ok(used) if used > limit => Err(Error::invalid(format!(
            "unable to set memory limit to {limit}: {used} bytes are in use"
        ))),
        _ => Ok(()),
    }
}

/// A controller works in a directory once all its parents hand it down.
fn enable(root: &Path, dir: &Path, controllers: &[&str]) -> Result<()> {
    let words: Vec<String> = controllers.iter().map(|c| format!("+{c}")).collect();
    let mut parents: Vec<&Path> = dir.ancestors().skip(1).take_while(|p| p.starts_with(root)).collect();
    parents.reverse();
    parents
        .into_iter()
        .try_for_each(|parent| write(&parent.join("cgroup.subtree_control"), &words.join(" ")))
}

/// One file and what to write there.
struct Setting {
    controller: &'static str,
    file: String,
    value: String,
    optional: bool,
}

/// In the order in which they are written.
#[derive(Default)]
struct Settings(Vec<Setting>);

impl Settings {
    fn add(&mut self, controller: &'static str, file: impl Into<String>, value: impl Into<String>) {
        self.0.push(Setting {
            controller,
            file: file.into(),
            value: value.into(),
            optional: false,
        });
    }

    fn add_where_known(&mut self, controller: &'static str, file: &str, value: impl Into<String>) {
        self.add(controller, file, value);
        if let Some(last) = self.0.last_mut() {
            last.optional = true;
        }
    }
}

fn limit(number: i64) -> String {
    if number < 0 {
        "max".to_owned()
    } else {
        number.to_string()
    }
}

fn settings(dir: &Path, resources: &LinuxResources) -> Vec<Setting> {
    let mut list = Settings::default();
    memory(&mut list, dir, resources);
    cpu(&mut list, dir, resources);
    if let Some(pids) = resources.pids() {
        list.add(
            "pids",
            "pids.max",
            limit(if pids.limit() <= 0 { -1 } else { pids.limit() }),
        );
    }
    if let Some(block) = resources.block_io() {
        block_io(&mut list, dir, block);
    }
    for page in resources.hugepage_limits().iter().flatten() {
        list.add(
            "hugetlb",
            format!("hugetlb.{}.max", page.page_size()),
            limit(page.limit()),
        );
        list.add_where_known(
            "hugetlb",
            &format!("hugetlb.{}.rsvd.max", page.page_size()),
            limit(page.limit()),
        );
    }
    for (device, rdma) in resources.rdma().iter().flatten() {
        list.add("rdma", "rdma.max", super::rdma_line(device, rdma));
    }
    list.0
}

fn memory(list: &mut Settings, dir: &Path, resources: &LinuxResources) {
    let Some(memory) = resources.memory() else { return };
    // Without a limit there is none of swap either, unless one is said.
    let unlimited = (memory.limit() == Some(-1)).then_some(-1);
    if let Some(swap) = memory.swap().or(unlimited) {
        // Version 1 counts memory and swap together, version 2 swap alone.
        let now = || {
            std::fs::read_to_string(dir.join("memory.max"))
                .ok()?
                .trim()
                .parse()
                .ok()
        };
        let own = match swap {
            ..0 => swap,
            _ => swap - memory.limit().or_else(now).unwrap_or(0).max(0),
        };
        list.add_where_known("memory", "memory.swap.max", limit(own.max(-1)));
    }
    if let Some(n) = memory.limit() {
        list.add("memory", "memory.max", limit(n));
    }
    if let Some(n) = memory.reservation() {
        list.add("memory", "memory.low", limit(n));
    }
}

fn cpu(list: &mut Settings, dir: &Path, resources: &LinuxResources) {
    let Some(cpu) = resources.cpu() else { return };
    if let Some(idle) = cpu.idle() {
        list.add("cpu", "cpu.idle", idle.to_string());
    }
    // An idle group has no weight.
    if let Some(shares) = cpu.shares().filter(|_| cpu.idle() != Some(1)) {
        list.add("cpu", "cpu.weight", weight(shares).to_string());
    }
    if cpu.quota().is_some() || cpu.period().is_some() {
        let now = std::fs::read_to_string(dir.join("cpu.max")).unwrap_or_default();
        let quota = match cpu.quota() {
            Some(quota) if quota > 0 => quota.to_string(),
            Some(_) => "max".to_owned(),
            None => now
                .split(' ')
                .next()
                .filter(|n| !n.is_empty())
                .unwrap_or("max")
                .to_owned(),
        };
        let period = cpu.period().map(|p| p.to_string());
        list.add(
            "cpu",
            "cpu.max",
            format!("{quota} {}", period.unwrap_or_else(|| "100000".into())),
        );
    }
    if let Some(burst) = cpu.burst() {
        list.add("cpu", "cpu.max.burst", burst.to_string());
    }
    if let Some(cpus) = cpu.cpus() {
        list.add("cpuset", "cpuset.cpus", cpus);
    }
    if let Some(mems) = cpu.mems() {
        list.add("cpuset", "cpuset.mems", mems);
    }
}

fn block_io(list: &mut Settings, dir: &Path, block: &LinuxBlockIo) {
    // One scheduler has a file of its own, which takes weights as they are.
    let bfq = dir.join("io.bfq.weight").exists();
    let file = if bfq { "io.bfq.weight" } else { "io.weight" };
    let own = |weight: u16| if bfq { weight.into() } else { io_weight(weight.into()) };
    if let Some(weight) = block.weight().filter(|w| *w != 0) {
        let word = if bfq { "" } else { "default " };
        list.add_where_known("io", file, format!("{word}{}", own(weight)));
    }
    for device in block.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            list.add_where_known(
                "io",
                file,
                format!("{}:{} {}", device.major(), device.minor(), own(weight)),
            );
        }
    }
    let throttles = [
        ("rbps", block.throttle_read_bps_device()),
        ("wbps", block.throttle_write_bps_device()),
        ("riops", block.throttle_read_iops_device()),
        ("wiops", block.throttle_write_iops_device()),
    ];
    for (word, devices) in throttles {
        for device in devices.iter().flatten() {
            let rate = match device.rate() {
                0 => "max".to_owned(),
                rate => rate.to_string(),
            };
            list.add(
                "io",
                "io.max",
                format!("{}:{} {word}={rate}", device.major(), device.minor()),
            );
        }
    }
}

/// Shares (2 to 262144, 1024 by default) to a weight (1 to 10000, 100 by default), as systemd and crun do it.
pub fn weight(shares: u64) -> u64 {
    if shares == 0 {
        return 100;
    }
    let shares = shares.clamp(2, 262_144);
    let l = (shares as f64).log2();
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    (10f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
}

/// 10 to 1000 becomes 1 to 10000.
fn io_weight(weight: u64) -> u64 {
    1 + (weight.max(10) - 10) * 9999 / 990
}

/// Freezes or thaws, and waits until it is so.
pub fn freeze(dir: &Path, frozen: bool) -> Result<()> {
    write(&dir.join("cgroup.freeze"), if frozen { "1" } else { "0" })?;
    let wanted = if frozen { "frozen 1" } else { "frozen 0" };
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let events = std::fs::read_to_string(dir.join("cgroup.events")).step("read the state of the freezer")?;
        if events.lines().any(|l| l == wanted) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(Error::system("the container does not freeze"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights() {
        for (shares, expected) in [(0, 100), (2, 1), (1024, 100), (262_144, 10_000)] {
            assert_eq!(weight(shares), expected, "{shares}");
        }
    }

    #[test]
    fn weights_of_disks_keep_their_ends() {
        assert_eq!((io_weight(10), io_weight(1000)), (1, 10_000));
    }
}
