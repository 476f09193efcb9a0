//! `stats`: what a container uses, in Docker's body.

use std::collections::HashMap;

use bollard_stubs::models::{
    ContainerBlkioStatEntry, ContainerBlkioStats, ContainerCpuStats, ContainerCpuUsage, ContainerMemoryStats,
    ContainerNetworkStats, ContainerPidsStats, ContainerStatsResponse, ContainerStorageStats, ContainerThrottlingData,
};
use errdefs::Result;
use runtime::cgroup::{Cgroup, Stats};

use super::record::{Record, now};
use super::status;
use crate::{Engine, Roots, system};

/// How Docker writes the time of what has not been.
const NEVER: &str = "0001-01-01T00:00:00Z";
/// The kernel's clock ticks in a second, as programs see them.
const TICKS: u64 = 100;

/// Looks at one container again and again: each look has the one before it for comparison.
pub struct StatsReader {
    roots: Roots,
    record: Record,
    last: Option<(String, ContainerCpuStats)>,
}

impl Engine {
    /// For looking at a container, whether it runs or not.
    pub fn stats(&self, name: &str) -> Result<StatsReader> {
        Ok(StatsReader {
            record: self.record(name)?,
            roots: self.roots.clone(),
            last: None,
        })
    }
}

impl StatsReader {
    /// What it uses now; `None` if it is gone. Of one that does not run everything is zero.
    pub fn look(&mut self) -> Result<Option<ContainerStatsResponse>> {
        if !self.roots.record(&self.record.id).exists() {
            return Ok(None);
        }
        let status = status::status(&self.roots, &self.record.id)?;
        let Some(pid) = status.running().map(|live| live.pid) else {
            return Ok(Some(self.nothing()));
        };
        let cgroup = Cgroup::at(&self.record.cgroup());
        let (stats, time) = (cgroup.stats(), now());
        let cpu = cpu(&stats);
        let before = self.last.replace((time.clone(), cpu.clone()));
        let (preread, precpu) = before.unwrap_or((NEVER.into(), ContainerCpuStats::default()));
        Ok(Some(ContainerStatsResponse {
            read: Some(time),
            preread: Some(preread),
            pids_stats: Some(ContainerPidsStats {
                current: Some(stats.pids),
                limit: Some(stats.pids_limit),
            }),
            cpu_stats: Some(cpu),
            precpu_stats: Some(precpu),
            memory_stats: Some(memory(&cgroup, &stats)),
            blkio_stats: Some(block_io(&cgroup)),
            networks: networks(&self.record, pid),
            num_procs: Some(0),
            ..self.nothing()
        }))
    }

    fn nothing(&self) -> ContainerStatsResponse {
        ContainerStatsResponse {
            id: Some(self.record.id.clone()),
            name: Some(format!("/{}", self.record.name)),
            os_type: Some("linux".into()),
            read: Some(NEVER.into()),
            preread: Some(NEVER.into()),
            pids_stats: Some(ContainerPidsStats::default()),
            cpu_stats: Some(ContainerCpuStats::default()),
            precpu_stats: Some(ContainerCpuStats::default()),
            memory_stats: Some(ContainerMemoryStats::default()),
            blkio_stats: Some(ContainerBlkioStats::default()),
            storage_stats: Some(ContainerStorageStats::default()),
            num_procs: Some(0),
            networks: None,
        }
    }
}

fn cpu(stats: &Stats) -> ContainerCpuStats {
    let (all, processors) = processors();
    ContainerCpuStats {
        cpu_usage: Some(ContainerCpuUsage {
            total_usage: Some(stats.cpu_total),
            usage_in_kernelmode: Some(stats.cpu_kernel),
            usage_in_usermode: Some(stats.cpu_user),
            percpu_usage: None,
        }),
        system_cpu_usage: Some(all),
        online_cpus: Some(processors),
        throttling_data: Some(ContainerThrottlingData {
            periods: Some(stats.periods),
            throttled_periods: Some(stats.throttled_periods),
            throttled_time: Some(stats.throttled_time),
        }),
    }
}

/// Nanoseconds that all of the host's processors together have passed, and how many they are (proc_stat(5)).
fn processors() -> (u64, u32) {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let (ticks, count) = runtime::kernel_files::processors(&text);
    (ticks.saturating_mul(1_000_000_000 / TICKS), count)
}

fn memory(cgroup: &Cgroup, stats: &Stats) -> ContainerMemoryStats {
    let mut details: HashMap<String, u64> = cgroup.memory_details().into_iter().collect();
    let counted = !details.is_empty();
    let usage = match counted {
        true => stats.memory,
        // Nobody counts it for this container: what its processes have of their own comes nearest.
        false => cgroup.pids().unwrap_or_default().into_iter().map(resident).sum(),
    };
    details.entry("inactive_file".into()).or_insert(stats.inactive_file);
    ContainerMemoryStats {
        usage: Some(usage),
        max_usage: Some(stats.memory_peak).filter(|peak| *peak > 0),
        limit: Some(stats.memory_limit.min(system::memory() as u64)),
        stats: Some(details),
        ..Default::default()
    }
}

/// Bytes of memory that are a process's own (proc_pid_status(5)).
fn resident(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    runtime::kernel_files::resident(&text)
}

fn block_io(cgroup: &Cgroup) -> ContainerBlkioStats {
    let entry = |io: runtime::cgroup::DeviceIo| ContainerBlkioStatEntry {
        major: Some(io.major),
        minor: Some(io.minor),
        op: Some(io.operation.into()),
        value: Some(io.bytes),
    };
    let list: Vec<_> = cgroup.device_io().into_iter().map(entry).collect();
    ContainerBlkioStats {
        io_service_bytes_recursive: Some(list).filter(|l| !l.is_empty()),
        ..Default::default()
    }
}

/// Of its own network's interfaces (proc_pid_net(5)).
fn networks(record: &Record, pid: i32) -> Option<HashMap<String, ContainerNetworkStats>> {
    if ["host", "none"].contains(&record.network()) {
        return None;
    }
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    let line = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let number = |index: usize| numbers.get(index).copied();
        let stats = ContainerNetworkStats {
            rx_bytes: number(0),
            rx_packets: number(1),
            rx_errors: number(2),
            rx_dropped: number(3),
            tx_bytes: number(8),
            tx_packets: number(9),
            tx_errors: number(10),
            tx_dropped: number(11),
            ..Default::default()
        };
        Some((name.trim().to_owned(), stats)).filter(|(name, _)| name != "lo")
    };
    let list: HashMap<_, _> = text.lines().filter_map(line).collect();
    (!list.is_empty()).then_some(list)
}
