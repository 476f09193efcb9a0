//! `update`: changes of limits.

use std::io::Read;

use errdefs::{Error, Result, Step};
use runtime::oci;

use super::Host;
use super::state::{Status, wrong_state};
use crate::cli::flag::Given;
use crate::translate::values::bytes;

/// Applies what the flags or a file say, and remembers it.
pub fn update(host: &Host, given: &Given) -> Result<u8> {
    let mut saved = host.load(&given.words[0])?;
    if host.status(&saved)? == Status::Stopped {
        return Err(wrong_state("container not running"));
    }
    let mut resources = match given.one("resources") {
        Some(path) => read_resources(path)?,
        None => oci::LinuxResources::default(),
    };
    memory(given, &mut resources)?;
    cpu(given, &mut resources)?;
    if let Some(limit) = given.number("pids-limit")? {
        let mut pids = oci::LinuxPids::default();
        pids.set_limit(limit);
        resources.set_pids(Some(pids));
    }
    if let Some(weight) = given.number("blkio-weight")? {
        let weight =
            u16::try_from(weight).map_err(|_| Error::invalid(format!("--blkio-weight: {weight} is no weight")))?;
        let mut block = resources.block_io().clone().unwrap_or_default();
        block.set_weight(Some(weight));
        resources.set_block_io(Some(block));
    }
    saved.cgroup.apply(&resources)?;
    let mut linux = saved.spec.linux().clone().unwrap_or_default();
    linux.set_resources(Some(resources));
    saved.spec.set_linux(Some(linux));
    host.save(&saved)?;
    Ok(0)
}

fn memory(given: &Given, resources: &mut oci::LinuxResources) -> Result<()> {
    let size = |name: &str| -> Result<Option<i64>> {
        let flag = format!("--{name}");
        let parse = |text: &str| match text {
            "-1" => Ok(-1),
            text => bytes(&flag, text),
        };
        given.one(name).map(parse).transpose()
    };
    let mut memory = resources.memory().unwrap_or_default();
    if let Some(bytes) = size("memory")? {
        memory.set_limit(Some(bytes));
    }
    if let Some(bytes) = size("memory-reservation")? {
        memory.set_reservation(Some(bytes));
    }
    if let Some(bytes) = size("memory-swap")? {
        memory.set_swap(Some(bytes));
    }
    if memory != oci::LinuxMemory::default() {
        resources.set_memory(Some(memory));
    }
    Ok(())
}

fn cpu(given: &Given, resources: &mut oci::LinuxResources) -> Result<()> {
    let positive = |name: &str| -> Result<Option<u64>> {
        let number = given.number(name)?;
        let bad = || Error::invalid(format!("--{name}: a number that is not negative is needed"));
        number.map(|n| u64::try_from(n).map_err(|_| bad())).transpose()
    };
    let mut cpu = resources.cpu().clone().unwrap_or_default();
    if let Some(period) = positive("cpu-period")? {
        cpu.set_period(Some(period));
    }
    if let Some(quota) = given.number("cpu-quota")? {
        cpu.set_quota(Some(quota));
    }
    if let Some(burst) = positive("cpu-burst")? {
        cpu.set_burst(Some(burst));
    }
    if let Some(shares) = positive("cpu-share")? {
        cpu.set_shares(Some(shares));
    }
    if let Some(idle) = given.number("cpu-idle")? {
        cpu.set_idle(Some(idle));
    }
    if let Some(period) = positive("cpu-rt-period")? {
        cpu.set_realtime_period(Some(period));
    }
    if let Some(runtime) = given.number("cpu-rt-runtime")? {
        cpu.set_realtime_runtime(Some(runtime));
    }
    if let Some(cpus) = given.one("cpuset-cpus") {
        cpu.set_cpus(Some(cpus.into()));
    }
    if let Some(nodes) = given.one("cpuset-mems") {
        cpu.set_mems(Some(nodes.into()));
    }
    if cpu != oci::LinuxCpu::default() {
        resources.set_cpu(Some(cpu));
    }
    Ok(())
}

fn read_resources(path: &str) -> Result<oci::LinuxResources> {
    let mut text = Vec::new();
    match path {
        "-" => std::io::stdin().read_to_end(&mut text).map(drop),
        path => std::fs::read(path).map(|bytes| text = bytes),
    }
    .step_with(|| format!("read the resources from {path}"))?;
    serde_json::from_slice(&text).step_with(|| format!("read the resources from {path}"))
}
