//! Limits on memory, processors and processes: Docker's fields to the document's, and what makes no sense.

use bollard_stubs::models::{HostConfig, ThrottleDevice};
use errdefs::{Error, Result, Step};
use runtime::oci::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxMemory, LinuxPids, LinuxResources, LinuxThrottleDevice,
    LinuxThrottleDeviceBuilder, LinuxWeightDeviceBuilder,
};

use super::privileged;

/// Docker's smallest: less and the C library cannot start.
const LEAST_MEMORY: i64 = 6 << 20;
/// Length of a period of the processor's quota, in microseconds.
const PERIOD: u64 = 100_000;

/// The document's resources.
pub fn resources(host: &HostConfig) -> Result<LinuxResources> {
    let mut resources = LinuxResources::default();
    resources.set_memory(memory(host));
    resources.set_cpu(cpu(host));
    if let Some(limit) = host.pids_limit.filter(|l| *l > 0) {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        resources.set_pids(Some(pids));
    }
    resources.set_block_io(block_io(host)?);
    // Also in a user namespace of its own: nodes may come with an image, a volume, or a bind mount.
    let mut rules = device_rules(privileged(host));
    rules.extend(super::devices::rules(host)?);
    resources.set_devices(Some(rules));
    Ok(resources)
}

fn memory(host: &HostConfig) -> Option<LinuxMemory> {
    let set = |n: Option<i64>| n.filter(|n| *n != 0);
    let (limit, reservation) = (set(host.memory), set(host.memory_reservation));
    let swappiness = host.memory_swappiness.filter(|s| *s >= 0).map(|s| s as u64);
    let no_killer = host.oom_kill_disable.filter(|d| *d);
    let swap = match (set(host.memory_swap), limit) {
        (None, Some(limit)) => Some(limit.saturating_mul(2)),
        (swap, _) => swap,
    };
    if limit.is_none() && reservation.is_none() && swap.is_none() && swappiness.is_none() && no_killer.is_none() {
        return None;
    }
    let mut memory = LinuxMemory::default();
    memory.set_limit(limit);
    memory.set_reservation(reservation);
    memory.set_swap(swap);
    memory.set_swappiness(swappiness);
    memory.set_disable_oom_killer(no_killer);
    Some(memory)
}

fn cpu(host: &HostConfig) -> Option<LinuxCpu> {
    let positive = |n: Option<i64>| n.filter(|n| *n > 0);
    let text = |t: &Option<String>| t.clone().filter(|t| !t.is_empty());
    let (mut quota, mut period) = (
        host.cpu_quota.filter(|n| *n != 0),
        positive(host.cpu_period).map(|p| p as u64),
    );
    if let Some(nanos) = positive(host.nano_cpus) {
        (quota, period) = (Some(nanos / (1_000_000_000 / PERIOD as i64)), Some(PERIOD));
    }
    let shares = positive(host.cpu_shares).map(|s| s as u64);
    let (cpus, mems) = (text(&host.cpuset_cpus), text(&host.cpuset_mems));
    let (runtime, runtime_period) = (positive(host.cpu_realtime_runtime), positive(host.cpu_realtime_period));
    let any = quota.is_some() || period.is_some() || shares.is_some() || cpus.is_some() || mems.is_some();
    if !any && runtime.is_none() && runtime_period.is_none() {
        return None;
    }
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(shares);
    cpu.set_quota(quota);
    cpu.set_period(period);
    cpu.set_cpus(cpus);
    cpu.set_mems(mems);
    cpu.set_realtime_runtime(runtime);
    cpu.set_realtime_period(runtime_period.map(|p| p as u64));
    Some(cpu)
}

/// The weight, and limits for single devices, which are named by their paths.
fn block_io(host: &HostConfig) -> Result<Option<LinuxBlockIo>> {
    let mut block = LinuxBlockIo::default();
    block.set_weight(host.blkio_weight.filter(|w| *w > 0));
    let throttles = |list: &Option<Vec<ThrottleDevice>>| -> Result<Option<Vec<LinuxThrottleDevice>>> {
        let mut found = Vec::new();
        for limit in list.iter().flatten() {
            let (major, minor) = block_device(limit.path.as_deref().unwrap_or_default())?;
            let throttle = LinuxThrottleDeviceBuilder::default().major(major).minor(minor);
            let rate = limit.rate.unwrap_or(0).max(0) as u64;
            found.push(throttle.rate(rate).build().step("describe a limit")?);
        }
        Ok(Some(found).filter(|f| !f.is_empty()))
    };
    block.set_throttle_read_bps_device(throttles(&host.blkio_device_read_bps)?);
    block.set_throttle_write_bps_device(throttles(&host.blkio_device_write_bps)?);
    block.set_throttle_read_iops_device(throttles(&host.blkio_device_read_iops)?);
    block.set_throttle_write_iops_device(throttles(&host.blkio_device_write_iops)?);
    let mut weights = Vec::new();
    for limit in host.blkio_weight_device.iter().flatten() {
        let (major, minor) = block_device(limit.path.as_deref().unwrap_or_default())?;
        let weight = LinuxWeightDeviceBuilder::default().major(major).minor(minor);
        let value = limit.weight.unwrap_or(0) as u16;
        weights.push(weight.weight(value).build().step("describe a limit")?);
    }
    block.set_weight_device(Some(weights).filter(|w| !w.is_empty()));
    Ok(Some(block).filter(|b| *b != LinuxBlockIo::default()))
}

fn block_device(path: &str) -> Result<(i64, i64)> {
    let metadata = std::fs::metadata(path)
        .map_err(|e| Error::caused(format!("look at the device {path}"), e).kind_is(errdefs::Kind::Invalid))?;
    let number = std::os::unix::fs::MetadataExt::rdev(&metadata);
    match std::os::unix::fs::FileTypeExt::is_block_device(&metadata.file_type()) {
        true => Ok((rustix::fs::major(number).into(), rustix::fs::minor(number).into())),
        false => Err(Error::invalid(format!("{path} is no block device"))),
    }
}

/// What this host cannot do and Docker does without, too, telling so: taken out, in Docker's words.
pub fn discard(host: &mut HostConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    // Not looked at without need: that takes a tenth of a millisecond.
    let memory = || runtime::cgroup::has_version_1("memory");
    if host.memory_swappiness.is_some_and(|s| s >= 0) && !memory() {
        host.memory_swappiness = None;
        warnings.push(
            "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness \
             discarded."
                .to_owned(),
        );
    }
    if host.oom_kill_disable == Some(true) && !memory() {
        host.oom_kill_disable = None;
        warnings.push("Your kernel does not support OomKillDisable. OomKillDisable discarded.".to_owned());
    }
    if host.oom_kill_disable == Some(true) && host.memory.unwrap_or(0) == 0 {
        warnings.push(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out \
             of resources."
                .to_owned(),
        );
    }
    warnings
}

/// Everything, or what every container may use and the console.
fn device_rules(all: bool) -> Vec<LinuxDeviceCgroup> {
    use runtime::oci::LinuxDeviceType::{A, C};
    let rule = |allow, typ, major, minor| {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(allow);
        rule.set_typ(Some(typ));
        rule.set_major(major);
        rule.set_minor(minor);
        rule.set_access(Some("rwm".to_owned()));
        rule
    };
    match all {
        true => vec![rule(true, A, None, None)],
        false => vec![rule(false, A, None, None), rule(true, C, Some(5), Some(1))],
    }
}

/// What makes no sense is refused when the container is made, in Docker's words.
pub fn check(host: &HostConfig) -> Result<()> {
    let invalid = |words: &str| Err(Error::invalid(words));
    let (memory, swap) = (host.memory.unwrap_or(0), host.memory_swap.unwrap_or(0));
    if memory < 0 || (memory > 0 && memory < LEAST_MEMORY) {
        return invalid("Minimum memory limit allowed is 6MB");
    }
    if memory > 0 && swap > 0 && swap < memory {
        return invalid("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if memory == 0 && swap > 0 {
        return invalid("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if host
        .memory_reservation
        .is_some_and(|r| r > 0 && (r < LEAST_MEMORY || (memory > 0 && r > memory)))
    {
        return invalid("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    check_cpu(host)
}

fn check_cpu(host: &HostConfig) -> Result<()> {
    let invalid = |words: String| Err(Error::invalid(words));
    let (nanos, period, quota) = (
        host.nano_cpus.unwrap_or(0),
        host.cpu_period.unwrap_or(0),
        host.cpu_quota.unwrap_or(0),
    );
    if nanos > 0 && period > 0 {
        return invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set".into());
    }
    if nanos > 0 && quota > 0 {
        return invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set".into());
    }
    if nanos != 0 {
        // Takes a look at several files.
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get()) as i64;
        if nanos < 0 || nanos > cpus * 1_000_000_000 {
            return invalid(format!(
                "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
            ));
        }
    }
    if period != 0 && !(1000..=1_000_000).contains(&period) {
        return invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)".into());
    }
    if quota > 0 && quota < 1000 {
        return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)".into());
    }
    let realtime = host.cpu_realtime_period.unwrap_or(0) != 0 || host.cpu_realtime_runtime.unwrap_or(0) != 0;
    if realtime && !runtime::cgroup::has_realtime() {
        return invalid("Your kernel does not support CPU real-time scheduler".into());
    }
    if let Some(swappiness) = host.memory_swappiness.filter(|s| !(-1..=100).contains(s)) {
        return invalid(format!(
            "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        ));
    }
    if host.blkio_weight.is_some_and(|w| w != 0 && !(10..=1000).contains(&w)) {
        return invalid("Range of blkio weight is from 10 to 1000".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_processor_is_half_a_period() {
        let cpu = cpu(&HostConfig {
            nano_cpus: Some(500_000_000),
            ..Default::default()
        })
        .unwrap();
        assert_eq!((cpu.quota(), cpu.period()), (Some(50_000), Some(100_000)));
    }

    #[test]
    fn swap_is_twice_the_memory_unless_asked_otherwise() {
        let memory = |memory, swap| {
            super::memory(&HostConfig {
                memory,
                memory_swap: swap,
                ..Default::default()
            })
        };
        assert_eq!(memory(Some(10 << 20), None).unwrap().swap(), Some(20 << 20));
        assert_eq!(memory(Some(10 << 20), Some(-1)).unwrap().swap(), Some(-1));
        assert!(memory(None, Some(0)).is_none());
    }

    #[test]
    fn nonsense_is_refused() {
        let host = HostConfig {
            memory: Some(1 << 20),
            ..Default::default()
        };
        assert_eq!(
            check(&host).unwrap_err().to_string(),
            "Minimum memory limit allowed is 6MB"
        );
        assert!(
            check(&HostConfig {
                nano_cpus: Some(1 << 50),
                ..Default::default()
            })
            .is_err()
        );
        assert!(check(&HostConfig::default()).is_ok());
    }
}
