//! Limits in version 2 (Documentation/admin-guide/cgroup-v2.rst).

use std::path::Path;
use std::time::{Duration, Instant};

use errdefs::{Error, Result, Step};
use oci_spec::runtime::LinuxResources;

use super::host::Host;
use super::write;

/// Writes the limits whose controllers version 2 has here.
pub fn apply(root: &Path, dir: &Path, resources: &LinuxResources, host: &Host) -> Result<()> {
    let settings = settings(resources);
    let ours: Vec<_> = settings.iter().filter(|s| host.in_v2(s.controller)).collect();
    if !ours.is_empty() {
        let mut controllers: Vec<&str> = ours.iter().map(|s| s.controller).collect();
        controllers.dedup();
        enable(root, dir, &controllers)?;
    }
    for setting in ours {
        let file = dir.join(setting.file);
        // Kernels may be built without accounting of swap.
        if setting.optional && !file.exists() {
            continue;
        }
        write(&file, &setting.value)?;
    }
    for (file, value) in resources.unified().iter().flatten() {
        if file.contains('/') {
            return Err(Error::invalid(format!("{file:?} is no name of a cgroup file")));
        }
        write(&dir.join(file), value)?;
    }
    Ok(())
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
    file: &'static str,
    value: String,
    optional: bool,
}

fn settings(resources: &LinuxResources) -> Vec<Setting> {
    let mut list = Vec::new();
    let mut add = |controller, file, value: String, optional| {
        list.push(Setting {
            controller,
            file,
            value,
            optional,
        })
    };
    let limit = |n: i64| if n < 0 { "max".to_owned() } else { n.to_string() };
    if let Some(memory) = resources.memory() {
        memory
            .limit()
            .into_iter()
            .for_each(|n| add("memory", "memory.max", limit(n), false));
        memory
            .reservation()
            .into_iter()
            .for_each(|n| add("memory", "memory.low", limit(n), false));
        if let Some(swap) = memory.swap() {
            // Version 1 counts memory and swap together, version 2 swap alone.
            let own = if swap < 0 {
                swap
            } else {
                swap - memory.limit().unwrap_or(0).max(0)
            };
            add("memory", "memory.swap.max", limit(own), true);
        }
    }
    if let Some(cpu) = resources.cpu() {
        cpu.shares()
            .into_iter()
            .for_each(|s| add("cpu", "cpu.weight", weight(s).to_string(), false));
        if cpu.quota().is_some() || cpu.period().is_some() {
            let quota = limit(cpu.quota().filter(|q| *q > 0).unwrap_or(-1));
            add(
                "cpu",
                "cpu.max",
                format!("{quota} {}", cpu.period().unwrap_or(100_000)),
                false,
            );
        }
        cpu.cpus()
            .iter()
            .for_each(|c| add("cpuset", "cpuset.cpus", c.clone(), false));
        cpu.mems()
            .iter()
            .for_each(|c| add("cpuset", "cpuset.mems", c.clone(), false));
    }
    if let Some(pids) = resources.pids() {
        add(
            "pids",
            "pids.max",
            if pids.limit() <= 0 {
                "max".into()
            } else {
                pids.limit().to_string()
            },
            false,
        );
    }
    for (key, list) in resources.block_io().iter().flat_map(|block| {
        [
            ("rbps", block.throttle_read_bps_device()),
            ("wbps", block.throttle_write_bps_device()),
            ("riops", block.throttle_read_iops_device()),
            ("wiops", block.throttle_write_iops_device()),
        ]
    }) {
        for limit in list.iter().flatten() {
            let value = format!("{}:{} {key}={}", limit.major(), limit.minor(), limit.rate());
            add("io", "io.max", value, false);
        }
    }
    for device in resources
        .block_io()
        .iter()
        .flat_map(|b| b.weight_device().iter().flatten())
    {
        let weight = io_weight(device.weight().unwrap_or(100).into());
        add(
            "io",
            "io.weight",
            format!("{}:{} {weight}", device.major(), device.minor()),
            true,
        );
    }
    if let Some(weight) = resources.block_io().as_ref().and_then(|b| b.weight()) {
        add("io", "io.weight", format!("default {}", io_weight(weight.into())), true);
    }
    list
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
