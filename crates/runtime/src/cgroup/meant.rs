//! What a document's limits mean: engines write zeroes and empty lists for what they leave alone.

use oci_spec::runtime::{LinuxBlockIo, LinuxResources};

/// Whether anything but the devices is to be limited: those a user namespace keeps closed by itself.
pub fn limits(resources: Option<&LinuxResources>) -> bool {
    let mut rest = meant(resources.cloned().unwrap_or_default());
    rest.set_devices(None);
    rest.cpu().as_ref().is_some_and(|cpu| *cpu != Default::default())
        || rest.memory().is_some()
        || rest.pids().is_some()
        || rest.block_io().is_some()
        || rest.hugepage_limits().is_some()
        || rest.rdma().is_some()
        || rest.unified().as_ref().is_some_and(|keys| !keys.is_empty())
}

/// Without what is zero or empty: engines write that for what they leave alone.
pub fn meant(mut resources: LinuxResources) -> LinuxResources {
    if let Some(mut memory) = *resources.memory() {
        let not_zero = |n: Option<i64>| n.filter(|n| *n != 0);
        memory.set_limit(not_zero(memory.limit()));
        memory.set_reservation(not_zero(memory.reservation()));
        memory.set_swap(not_zero(memory.swap()));
        let any = memory.limit().or(memory.reservation()).or(memory.swap());
        let more = memory.swappiness().is_some() || memory.disable_oom_killer() == Some(true);
        resources.set_memory((any.is_some() || more).then_some(memory));
    }
    if let Some(mut cpu) = resources.cpu().clone() {
        let not_empty = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        let (cpus, mems) = (not_empty(cpu.cpus()), not_empty(cpu.mems()));
        cpu.set_shares(cpu.shares().filter(|n| *n != 0));
        cpu.set_quota(cpu.quota().filter(|n| *n != 0));
        cpu.set_period(cpu.period().filter(|n| *n != 0));
        cpu.set_realtime_period(cpu.realtime_period().filter(|n| *n != 0));
        cpu.set_realtime_runtime(cpu.realtime_runtime().filter(|n| *n != 0));
        cpu.set_cpus(cpus).set_mems(mems);
        resources.set_cpu(Some(cpu));
    }
    resources.set_pids(resources.pids().filter(|pids| pids.limit() != 0));
    let pages = resources.hugepage_limits().clone().filter(|pages| !pages.is_empty());
    let rdma = resources.rdma().clone().filter(|devices| !devices.is_empty());
    let block = resources.block_io().clone().filter(says_something);
    resources.set_hugepage_limits(pages).set_rdma(rdma).set_block_io(block);
    if let Some(mut network) = resources.network().clone() {
        let priorities = network.priorities().clone().filter(|p| !p.is_empty());
        network.set_class_id(network.class_id().filter(|id| *id != 0));
        network.set_priorities(priorities);
        resources.set_network(Some(network));
    }
    resources
}

fn says_something(block: &LinuxBlockIo) -> bool {
    let weights = [block.weight(), block.leaf_weight()];
    let throttles = [
        block.throttle_read_bps_device(),
        block.throttle_write_bps_device(),
        block.throttle_read_iops_device(),
        block.throttle_write_iops_device(),
    ];
    weights.iter().flatten().any(|weight| *weight != 0)
        || block.weight_device().as_ref().is_some_and(|list| !list.is_empty())
        || throttles
            .iter()
            .any(|list| list.as_ref().is_some_and(|list| !list.is_empty()))
}
