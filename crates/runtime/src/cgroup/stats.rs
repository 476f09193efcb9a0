//! What a cgroup has used.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::host::Host;
use super::{Cgroup, pids_below};
use crate::kernel_files::{self, DeviceIo, io_of_version_1, io_of_version_2};

/// Times in nanoseconds, memory in bytes. What the kernel does not count here is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Processor time.
    pub cpu_total: u64,
    /// Of that in the kernel.
    pub cpu_kernel: u64,
    /// Of that in programs.
    pub cpu_user: u64,
    /// Periods of a processor limit that have passed.
    pub periods: u64,
    /// Of these, in which the limit was reached.
    pub throttled_periods: u64,
    /// For so long.
    pub throttled_time: u64,
    /// Memory now.
    pub memory: u64,
    /// Most memory ever.
    pub memory_peak: u64,
    /// `u64::MAX` if there is none.
    pub memory_limit: u64,
    /// Of the memory, files' pages that were not used lately.
    pub inactive_file: u64,
    /// Processes and threads now.
    pub pids: u64,
    /// `u64::MAX` if there is none.
    pub pids_limit: u64,
}

/// A file with one number, or "max".
fn number(file: PathBuf) -> Option<u64> {
    kernel_files::number(&std::fs::read_to_string(file).ok()?)
}

/// A file of lines "NAME NUMBER".
fn table(file: PathBuf) -> impl Fn(&str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    move |name| kernel_files::named(&text, name).unwrap_or(0)
}

impl Cgroup {
    /// What it has used so far.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats {
            memory_limit: u64::MAX,
            pids_limit: u64::MAX,
            ..Default::default()
        };
        if self.is_none() {
            return stats;
        }
        let Ok(host) = Host::get() else { return stats };
        if let Some(root) = &host.v2 {
            version_2(&self.below(root), &mut stats);
        }
        for hierarchy in &host.v1 {
            let dir = self.below(&hierarchy.mount);
            if dir.is_dir() {
                let has = |name: &str| hierarchy.controllers.iter().any(|c| c == name);
                version_1(&dir, has, &mut stats);
            }
        }
        stats
    }
}

impl Cgroup {
    /// The kernel's `memory.stat`, by name; empty where memory is not counted.
    pub fn memory_details(&self) -> Vec<(String, u64)> {
        let Ok(host) = Host::get() else { return Vec::new() };
        let v1 = host.find("memory").map(|h| self.below(&h.mount));
        let dirs = [host.v2.as_ref().map(|root| self.below(root)), v1];
        let read = |dir: PathBuf| std::fs::read_to_string(dir.join("memory.stat")).ok();
        let text = dirs.into_iter().flatten().find_map(read).unwrap_or_default();
        kernel_files::numbers(&text)
    }

    /// What it read and wrote, where that is counted.
    pub fn device_io(&self) -> Vec<DeviceIo> {
        let Ok(host) = Host::get() else { return Vec::new() };
        let read = |dir: PathBuf, file: &str| std::fs::read_to_string(dir.join(file)).unwrap_or_default();
        let mut list = Vec::new();
        if let Some(root) = &host.v2 {
            list.extend(io_of_version_2(&read(self.below(root), "io.stat")));
        }
        if let Some(hierarchy) = host.find("blkio") {
            let file = "blkio.throttle.io_service_bytes_recursive";
            list.extend(io_of_version_1(&read(self.below(&hierarchy.mount), file)));
        }
        list
    }
}

fn version_2(dir: &Path, stats: &mut Stats) {
    let cpu = table(dir.join("cpu.stat"));
    // From microseconds.
    let time = |name: &str| cpu(name).saturating_mul(1000);
    stats.cpu_total = time("usage_usec");
    stats.cpu_user = time("user_usec");
    stats.cpu_kernel = time("system_usec");
    stats.periods = cpu("nr_periods");
    stats.throttled_periods = cpu("nr_throttled");
    stats.throttled_time = time("throttled_usec");
    stats.memory = number(dir.join("memory.current")).unwrap_or(0);
    stats.memory_peak = number(dir.join("memory.peak")).unwrap_or(0);
    stats.memory_limit = number(dir.join("memory.max")).unwrap_or(u64::MAX);
    stats.inactive_file = table(dir.join("memory.stat"))("inactive_file");
    let counted = number(dir.join("pids.current"));
    // Without the controller they are counted by hand.
    stats.pids = counted.unwrap_or_else(|| pids_below(dir).map_or(0, |pids| pids.len() as u64));
    stats.pids_limit = number(dir.join("pids.max")).unwrap_or(u64::MAX);
}

fn version_1(dir: &Path, has: impl Fn(&str) -> bool, stats: &mut Stats) {
    if has("cpuacct") {
        let read = |name: &str| number(dir.join(name)).unwrap_or(0);
        (stats.cpu_total, stats.cpu_user) = (read("cpuacct.usage"), read("cpuacct.usage_user"));
        stats.cpu_kernel = read("cpuacct.usage_sys");
    }
    if has("cpu") {
        let cpu = table(dir.join("cpu.stat"));
        (stats.periods, stats.throttled_periods) = (cpu("nr_periods"), cpu("nr_throttled"));
        stats.throttled_time = cpu("throttled_time");
    }
    if has("memory") {
        // What the kernel says when there is no limit: all that fits, in whole pages.
        const NONE: u64 = 0x7fff_ffff_ffff_f000;
        stats.memory = number(dir.join("memory.usage_in_bytes")).unwrap_or(0);
        stats.memory_peak = number(dir.join("memory.max_usage_in_bytes")).unwrap_or(0);
        let limit = number(dir.join("memory.limit_in_bytes"));
        stats.memory_limit = limit.filter(|l| *l < NONE).unwrap_or(u64::MAX);
        stats.inactive_file = table(dir.join("memory.stat"))("total_inactive_file");
    }
    if has("pids") {
        stats.pids = number(dir.join("pids.current")).unwrap_or(0);
        stats.pids_limit = number(dir.join("pids.max")).unwrap_or(u64::MAX);
    }
}
