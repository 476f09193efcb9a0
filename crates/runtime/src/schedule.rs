//! The document's words on scheduling and personality, applied to the process that calls.

use errdefs::{ErrnoStep, Error, Result};
use oci_spec::runtime::{
    ExecCPUAffinity, IOPriorityClass, LinuxIOPriority, LinuxPersonality, LinuxPersonalityDomain, LinuxSchedulerFlag,
    LinuxSchedulerPolicy, Process, Scheduler, Spec,
};
use sys::schedule::Policy;

/// Processors that a list may name.
const PROCESSORS: usize = 8192;

/// Everything that a process asks for.
#[derive(Clone, Default)]
pub struct Schedule {
    scheduler: Option<Scheduler>,
    io: Option<LinuxIOPriority>,
    personality: Option<LinuxPersonality>,
}

impl Schedule {
    /// Of a process of this container; what the kernel would not refuse by itself is refused here.
    pub fn of(spec: &Spec, process: &Process) -> Result<Self> {
        let schedule = Schedule {
            scheduler: process.scheduler().clone(),
            io: *process.io_priority(),
            personality: spec.linux().as_ref().and_then(|l| l.personality().clone()),
        };
        let flags = schedule.personality.as_ref().and_then(|p| p.flags().as_ref());
        if flags.is_some_and(|flags| !flags.is_empty()) {
            return Err(Error::invalid("linux.personality.flags: there are none yet"));
        }
        if let Some(io) = &schedule.io
            && !(0..=7).contains(&io.priority())
        {
            return Err(Error::invalid(format!(
                "process.ioPriority.priority: {} is not in 0 to 7",
                io.priority()
            )));
        }
        let cpus = spec
            .linux()
            .iter()
            .find_map(|l| l.resources().as_ref()?.cpu().as_ref()?.cpus().clone());
        let deadline = |s: &Scheduler| *s.policy() == LinuxSchedulerPolicy::SchedDeadline;
        if schedule.scheduler.as_ref().is_some_and(deadline) && cpus.is_some_and(|cpus| !cpus.is_empty()) {
            return Err(Error::invalid(
                "process.scheduler: process scheduler can't be used together with AllowedCPUs (linux.resources.cpu.cpus)",
            ));
        }
        Ok(schedule)
    }

    /// Before privileges are dropped and the filter is there.
    pub fn apply(&self) -> Result<()> {
        if let Some(scheduler) = &self.scheduler {
            sys::schedule::set_policy(&attributes(scheduler)).errno_step("set process.scheduler")?;
        }
        if let Some(io) = &self.io {
            let class = match io.class() {
                IOPriorityClass::IoprioClassRt => 1,
                IOPriorityClass::IoprioClassBe => 2,
                IOPriorityClass::IoprioClassIdle => 3,
            };
            sys::schedule::set_io_priority(class, io.priority() as u32).errno_step("set process.ioPriority")?;
        }
        if let Some(personality) = &self.personality {
            let domain = match personality.domain() {
                LinuxPersonalityDomain::PerLinux => 0,
                LinuxPersonalityDomain::PerLinux32 => 8,
            };
            sys::schedule::set_personality(domain).errno_step("set linux.personality")?;
        }
        Ok(())
    }
}

fn attributes(scheduler: &Scheduler) -> Policy {
    let policy = match scheduler.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    let flag = |flag: &LinuxSchedulerFlag| match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    };
    Policy {
        size: size_of::<Policy>() as u32,
        policy,
        flags: scheduler
            .flags()
            .iter()
            .flatten()
            .map(flag)
            .fold(0, |all, bit| all | bit),
        nice: scheduler.nice().unwrap_or(0),
        priority: scheduler.priority().unwrap_or(0) as u32,
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
    }
}

/// The processors of an added process, before and after it is in the container's cgroup.
pub struct Affinity {
    initial: Option<Vec<usize>>,
    last: Option<Vec<usize>>,
}

impl Affinity {
    /// As `process.execCPUAffinity` says.
    pub fn of(process: &Process) -> Result<Self> {
        let asked: Option<&ExecCPUAffinity> = process.exec_cpu_affinity().as_ref();
        let list = |text: Option<&String>| text.filter(|t| !t.is_empty()).map(|t| processors(t)).transpose();
        Ok(Affinity {
            initial: list(asked.and_then(|a| a.initial().as_ref()))?,
            last: list(asked.and_then(|a| a.cpu_affinity_final().as_ref()))?,
        })
    }

    /// Of the caller, while it is outside.
    pub fn before(&self) -> Result<()> {
        set(self.initial.as_deref(), "initial")
    }

    /// Once it is inside. Our own processors are no business of the container's.
    pub fn after(&self) -> Result<()> {
        match (&self.initial, &self.last) {
            (None, None) => sys::schedule::reset_affinity(0).errno_step("allow all processors"),
            _ => set(self.last.as_deref(), "final"),
        }
    }
}

fn set(processors: Option<&[usize]>, which: &str) -> Result<()> {
    match processors {
        Some(list) => sys::schedule::set_affinity(list)
            .errno_step(format!("set process.execCPUAffinity.{which}"))
            .map_err(|e| e.hint("are these processors there, and allowed for the container?")),
        None => Ok(()),
    }
}

/// "0-3,7".
fn processors(text: &str) -> Result<Vec<usize>> {
    let bad = || Error::invalid(format!("process.execCPUAffinity: {text:?} is no list of processors"));
    let number = |part: &str| part.trim().parse().ok().filter(|n| *n < PROCESSORS).ok_or_else(bad);
    let mut list = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            None => list.push(number(part)?),
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if first > last {
                    return Err(bad());
                }
                list.extend(first..=last);
            }
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors() {
        assert_eq!(processors("0-3,7").unwrap(), [0, 1, 2, 3, 7]);
        for bad in ["", "a", "3-1", "1-", "99999", "-1"] {
            assert!(processors(bad).is_err(), "{bad:?}");
        }
    }
}
