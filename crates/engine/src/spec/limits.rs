//! Limits on memory, processors and processes: Docker's fields to the document's, and what makes no sense.

use bollard_stubs::models::HostConfig;
use errdefs::{Error, Result};
use runtime::oci::{LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxMemory, LinuxPids, LinuxResources};

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
    if let Some(weight) = host.blkio_weight.filter(|w| *w > 0) {
        let mut block = LinuxBlockIo::default();
        block.set_weight(Some(weight));
        resources.set_block_io(Some(block));
    }
    // Also in a user namespace of its own: nodes may come with an image, a volume, or a bind mount.
    resources.set_devices(Some(device_rules(privileged(host))));
    Ok(resources)
}

fn memory(host: &HostConfig) -> Option<LinuxMemory> {
    let set = |n: Option<i64>| n.filter(|n| *n != 0);
    let (limit, reservation) = (set(host.memory), set(host.memory_reservation));
    let swap = match (set(host.memory_swap), limit) {
        (None, Some(limit)) => Some(limit.saturating_mul(2)),
        (swap, _) => swap,
    };
    if limit.is_none() && reservation.is_none() && swap.is_none() {
        return None;
    }
    let mut memory = LinuxMemory::default();
    memory.set_limit(limit);
    memory.set_reservation(reservation);
    memory.set_swap(swap);
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
    if quota.is_none() && period.is_none() && shares.is_none() && cpus.is_none() && mems.is_none() {
        return None;
    }
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(shares);
    cpu.set_quota(quota);
    cpu.set_period(period);
    cpu.set_cpus(cpus);
    cpu.set_mems(mems);
    Some(cpu)
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
